//! What an attempt says about its message and its endpoint.

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptEnd {
    /// The endpoint answered with this status.
    Status(u16),
    /// It did not answer in time.
    TimedOut,
    /// It could not be reached, or its answer was none of HTTP.
    Unreachable,
    /// Its URL leads to where nothing is sent (an address of no public network).
    Refused,
}

/// What follows from an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// The message is delivered.
    Delivered,
    /// It is sent again by the schedule.
    Failed,
    /// The endpoint wants no message any more: it is disabled.
    Gone,
}

impl AttemptEnd {
    /// What follows. Any 2xx is a success (Standard Webhooks, "Responding to messages"); a redirect is not followed, and a
    /// failure.
    #[must_use]
    pub const fn outcome(self) -> AttemptOutcome {
        match self {
            Self::Status(200..=299) => AttemptOutcome::Delivered,
            Self::Status(410) => AttemptOutcome::Gone,
            Self::Status(_) | Self::TimedOut | Self::Unreachable | Self::Refused => AttemptOutcome::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_2xx_takes_a_message() {
        for (status, outcome) in [
            (200, AttemptOutcome::Delivered),
            (204, AttemptOutcome::Delivered),
            (299, AttemptOutcome::Delivered),
            (199, AttemptOutcome::Failed),
            (301, AttemptOutcome::Failed),
            (307, AttemptOutcome::Failed),
            (400, AttemptOutcome::Failed),
            (404, AttemptOutcome::Failed),
            (410, AttemptOutcome::Gone),
            (429, AttemptOutcome::Failed),
            (500, AttemptOutcome::Failed),
        ] {
            assert_eq!(AttemptEnd::Status(status).outcome(), outcome, "{status}");
        }
        for end in [AttemptEnd::TimedOut, AttemptEnd::Unreachable, AttemptEnd::Refused] {
            assert_eq!(end.outcome(), AttemptOutcome::Failed, "{end:?}");
        }
    }
}

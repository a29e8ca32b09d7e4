//! When a mail is tried, and to which addresses none is sent.

use x402_chain::time::UnixMillis;

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;

/// How long a mail is tried. Resend remembers an idempotency key as long: a later try could be a second mail.
const GIVE_UP_MS: u64 = 24 * HOUR;
/// From one try to the next; the last repeats. The first are short, since a link to sign in holds 15 minutes.
const PAUSES_MS: [u64; 7] = [10 * SECOND, MINUTE, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR];

/// Whether a mail is too old to be tried.
#[must_use]
pub const fn is_too_late(created: UnixMillis, now: UnixMillis) -> bool {
    now.0 >= created.0.saturating_add(GIVE_UP_MS)
}

/// When a mail is tried again that could not be sent; `tries` counts those so far. `None`: it is given up.
#[must_use]
pub fn next_try(tries: u64, created: UnixMillis, now: UnixMillis) -> Option<UnixMillis> {
    let at = usize::try_from(tries.saturating_sub(1)).unwrap_or(usize::MAX);
    let [.., last] = PAUSES_MS;
    let next = UnixMillis(now.0.saturating_add(PAUSES_MS.get(at).copied().unwrap_or(last)));
    (!is_too_late(created, next)).then_some(next)
}

/// Why no mail is sent to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailMark {
    /// Its server has refused a mail for good.
    Bounced,
    /// Its reader has reported a mail as spam.
    Complained,
}

impl MailMark {
    /// The name in the directory.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bounced => "bounced",
            Self::Complained => "complained",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mail_is_tried_less_and_less_often_for_a_day() {
        let created = UnixMillis(1_000);
        let (mut now, mut pauses) = (created, Vec::new());
        let mut tries = 1;
        while let Some(next) = next_try(tries, created, now) {
            pauses.push(next.since(now) / SECOND);
            (now, tries) = (next, tries + 1);
        }
        assert_eq!(pauses, [10, 60, 300, 1_800, 7_200, 18_000, 36_000]);
        assert!(is_too_late(created, UnixMillis(created.0 + GIVE_UP_MS)) && !is_too_late(created, now));
        // A clock that went back.
        assert!(!is_too_late(created, UnixMillis(0)));
    }
}

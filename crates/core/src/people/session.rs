//! How long a session holds.

use x402_chain::time::UnixMillis;

/// A session ends 14 days after its sign-in, however it is used.
pub const SESSION_MS: u64 = 14 * 24 * 60 * 60 * 1_000;
/// It ends after 7 days without a request.
pub const IDLE_MS: u64 = 7 * 24 * 60 * 60 * 1_000;
/// A request is noted once an hour: an hour of 7 days does not matter, and a write for each request would.
const NOTED_MS: u64 = 60 * 60 * 1_000;

/// The most sessions of a person in an hour beyond which none is switched to another tenant.
pub const SWITCHES_HOUR_MAX: u64 = 60;

/// The times of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionTimes {
    /// When the person signed in.
    pub created_at: UnixMillis,
    /// When a request was noted last.
    pub seen_at: UnixMillis,
    /// When it ends, however it is used.
    pub expires_at: UnixMillis,
}

impl SessionTimes {
    /// Those of a session that begins.
    #[must_use]
    pub const fn begin(now: UnixMillis) -> Self {
        Self { created_at: now, seen_at: now, expires_at: UnixMillis(now.0.saturating_add(SESSION_MS)) }
    }

    /// When it ends if no further request comes.
    #[must_use]
    pub fn ends_at(&self) -> UnixMillis {
        self.expires_at.min(UnixMillis(self.seen_at.0.saturating_add(IDLE_MS)))
    }

    /// Whether it holds at this time.
    #[must_use]
    pub fn is_open(&self, now: UnixMillis) -> bool {
        now < self.ends_at()
    }

    /// Whether a request at this time is noted.
    #[must_use]
    pub const fn is_to_note(&self, now: UnixMillis) -> bool {
        now.0.saturating_sub(self.seen_at.0) >= NOTED_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_by_its_age_and_by_its_idleness() {
        let times = SessionTimes::begin(UnixMillis(1_000));
        let at = |ms: u64| UnixMillis(1_000 + ms);
        assert!(times.is_open(at(0)) && times.is_open(at(IDLE_MS - 1)) && !times.is_open(at(IDLE_MS)));
        let used = SessionTimes { seen_at: at(SESSION_MS - IDLE_MS + 5), ..times };
        assert!(used.is_open(at(SESSION_MS - 1)) && !used.is_open(at(SESSION_MS)));
        assert_eq!(used.ends_at(), at(SESSION_MS));
        assert!(!times.is_to_note(at(NOTED_MS - 1)) && times.is_to_note(at(NOTED_MS)));
    }
}

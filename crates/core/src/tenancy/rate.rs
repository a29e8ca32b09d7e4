//! Sliding windows of 60 buckets. A partly expired bucket counts whole, so that no boundary lets twice the limit
//! through.

use serde::{Deserialize, Serialize};
use x402_chain::time::UnixMillis;

/// Whole buckets in a window.
const BUCKETS: u64 = 60;
/// A minute is 60 buckets of one second.
pub const MINUTE: RateSpan = RateSpan { bucket_ms: 1_000, name: "minute", seconds: 60 };
/// An hour is 60 buckets of one minute.
pub const HOUR: RateSpan = RateSpan { bucket_ms: 60_000, name: "hour", seconds: 3_600 };

/// The length of a rate window, and its name in the `RateLimit` headers.
#[derive(Clone, Copy, Debug)]
pub struct RateSpan {
    bucket_ms: u64,
    /// Its name in the `RateLimit` headers.
    pub name: &'static str,
    /// The window's length in seconds.
    pub seconds: u64,
}

impl RateSpan {
    fn bucket(self, now: UnixMillis) -> u64 {
        now.0.checked_div(self.bucket_ms).unwrap_or(0)
    }

    /// When a bucket leaves the window: 60 whole buckets after its own.
    const fn leaves(self, bucket: u64) -> UnixMillis {
        UnixMillis(bucket.saturating_add(BUCKETS).saturating_add(1).saturating_mul(self.bucket_ms))
    }
}

/// Requests counted by bucket, the oldest first; empty buckets are not kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RateWindow(Vec<(u64, u32)>);

impl RateWindow {
    /// Whether nothing is counted.
    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn current(&self, span: RateSpan, now: UnixMillis) -> impl Iterator<Item = (u64, u32)> {
        let oldest = span.bucket(now).saturating_sub(BUCKETS);
        self.0.iter().copied().filter(move |(bucket, _)| *bucket >= oldest)
    }

    /// Requests that the window still holds.
    #[must_use]
    pub(crate) fn used(&self, span: RateSpan, now: UnixMillis) -> u64 {
        self.current(span, now).fold(0, |sum, (_, count)| sum.saturating_add(u64::from(count)))
    }

    /// Adds one request to the bucket of `now`.
    pub(crate) fn count(&mut self, span: RateSpan, now: UnixMillis) {
        let bucket = span.bucket(now);
        let oldest = bucket.saturating_sub(BUCKETS);
        self.0.retain(|(each, _)| *each >= oldest);
        match self.0.last_mut() {
            // A clock that went back counts into the newest bucket there is.
            Some((last, count)) if *last >= bucket => *count = count.saturating_add(1),
            Some(_) | None => self.0.push((bucket, 1)),
        }
    }

    /// When the window will hold fewer than `limit`: now, if it does already.
    #[must_use]
    pub(crate) fn frees_at(&self, span: RateSpan, limit: u64, now: UnixMillis) -> UnixMillis {
        let mut used = self.used(span, now);
        if used < limit {
            return now;
        }
        for (bucket, count) in self.current(span, now) {
            used = used.saturating_sub(u64::from(count));
            if used < limit {
                return span.leaves(bucket);
            }
        }
        span.leaves(span.bucket(now))
    }

    /// When the oldest request leaves; a whole window from now where there is none.
    #[must_use]
    pub(crate) fn resets_at(&self, span: RateSpan, now: UnixMillis) -> UnixMillis {
        let oldest = self.current(span, now).next().map_or_else(|| span.bucket(now), |(bucket, _)| bucket);
        span.leaves(oldest)
    }
}

/// One window, as the `RateLimit` headers report it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateState {
    /// Requests allowed in the window.
    pub limit: u64,
    /// Requests counted in the window.
    pub used: u64,
    /// When the oldest of them leaves.
    pub resets_at: UnixMillis,
}

impl RateState {
    /// Requests left in the window, at least zero.
    #[must_use]
    pub const fn remaining(&self) -> u64 {
        self.limit.saturating_sub(self.used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn no_minute_holds_more_than_the_limit() {
        // 10 at the end of one bucket, 10 a minute less a bit later: the first still count.
        let mut window = RateWindow::default();
        for _ in 0..10 {
            window.count(MINUTE, UnixMillis(10_999));
        }
        assert_eq!(window.used(MINUTE, UnixMillis(70_998)), 10);
        assert_eq!(window.used(MINUTE, UnixMillis(71_000)), 0);
        assert_eq!(window.frees_at(MINUTE, 10, UnixMillis(20_000)), UnixMillis(71_000));
        assert_eq!(window.frees_at(MINUTE, 11, UnixMillis(20_000)), UnixMillis(20_000));
    }

    #[test]
    fn a_limit_of_nothing_admits_nothing() {
        let window = RateWindow::default();
        assert!(window.frees_at(HOUR, 0, UnixMillis(5)) > UnixMillis(5));
    }

    proptest! {
        #[test]
        fn any_sixty_seconds_hold_at_most_the_limit(steps in proptest::collection::vec(0_u64..4_000, 1..200), limit in 1_u64..20) {
            let (mut window, mut now, mut admitted) = (RateWindow::default(), UnixMillis(1_000_000), Vec::new());
            for step in steps {
                now = now.plus(step);
                if window.used(MINUTE, now) < limit {
                    window.count(MINUTE, now);
                    admitted.push(now);
                }
            }
            for at in &admitted {
                let inside = admitted.iter().filter(|each| **each >= *at && each.since(*at) < 60_000).count();
                prop_assert!(u64::try_from(inside).is_ok_and(|inside| inside <= limit));
            }
        }

        #[test]
        fn when_it_frees_it_is_free(steps in proptest::collection::vec(0_u64..3_000, 1..100), limit in 1_u64..20) {
            let (mut window, mut now) = (RateWindow::default(), UnixMillis(1_000_000));
            for step in steps {
                now = now.plus(step);
                window.count(MINUTE, now);
            }
            let free = window.frees_at(MINUTE, limit, now);
            prop_assert!(window.used(MINUTE, free) < limit);
            prop_assert!(free == now || window.used(MINUTE, UnixMillis(free.0.saturating_sub(1))) >= limit);
        }
    }
}

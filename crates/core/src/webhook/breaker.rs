//! Keeps an endpoint that is down from being asked for every message. While it is open nothing is sent, and no message
//! loses an attempt; then one message probes.

use serde::{Deserialize, Serialize};
use x402_chain::time::UnixMillis;

/// So many failures one after the other open it.
const FAILURES_MAX: u32 = 5;
/// How long it is open at first.
const OPEN_MS: u64 = 30_000;
/// How long it is open at most: an endpoint that is back gets its messages within this time.
const OPEN_MS_MAX: u64 = 300_000;
/// An endpoint at which nothing but failures happened for so long is disabled.
const FAILING_MS_MAX: u64 = 5 * 24 * 60 * 60 * 1_000;

/// The state of an endpoint, as its attempts have left it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointBreaker {
    /// Failures since the last success, without those of attempts that were in flight when it opened.
    failures: u32,
    /// When the first of them was.
    failing_since: Option<UnixMillis>,
    /// Until when nothing is sent; after that one message at a time.
    open_until: Option<UnixMillis>,
}

/// What may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// Anything.
    Free,
    /// One message, while no other is in flight.
    Probe,
    /// Nothing until then.
    Closed(UnixMillis),
}

impl EndpointBreaker {
    /// What may be sent at a time. A pause that would last for longer than any does was noted by a clock that was ahead: it is
    /// over.
    #[must_use]
    pub fn passage(&self, now: UnixMillis) -> Passage {
        match self.open_until {
            None => Passage::Free,
            Some(until) if now >= until || until > now.plus(OPEN_MS_MAX) => Passage::Probe,
            Some(until) => Passage::Closed(until),
        }
    }

    /// Notes that a message was taken.
    pub fn note_success(&mut self) {
        *self = Self::default();
    }

    /// Notes that an attempt failed. While it is open that was no probe, but one of those that were in flight when it opened:
    /// it says nothing new, and makes no pause longer.
    pub fn note_failure(&mut self, now: UnixMillis) {
        if matches!(self.passage(now), Passage::Closed(_)) {
            return;
        }
        self.failures = self.failures.saturating_add(1);
        self.failing_since.get_or_insert(now);
        if self.failures < FAILURES_MAX {
            return;
        }
        let doublings = self.failures.saturating_sub(FAILURES_MAX).min(16);
        let pause = OPEN_MS.saturating_mul(1_u64 << doublings).min(OPEN_MS_MAX);
        self.open_until = Some(now.plus(pause));
    }

    /// Whether the endpoint has failed for so long that it is disabled.
    #[must_use]
    pub fn is_given_up(&self, now: UnixMillis) -> bool {
        self.failing_since.is_some_and(|since| now.since(since) >= FAILING_MS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: UnixMillis = UnixMillis(1_795_910_400_000);

    #[test]
    fn five_failures_open_it_and_a_success_closes_it() {
        let mut breaker = EndpointBreaker::default();
        for _ in 0..4 {
            breaker.note_failure(NOW);
            assert_eq!(breaker.passage(NOW), Passage::Free);
        }
        breaker.note_failure(NOW);
        assert_eq!(breaker.passage(NOW), Passage::Closed(NOW.plus(30_000)));
        assert_eq!(breaker.passage(NOW.plus(30_000)), Passage::Probe);
        breaker.note_failure(NOW.plus(30_000));
        assert_eq!(breaker.passage(NOW.plus(30_001)), Passage::Closed(NOW.plus(90_000)));
        breaker.note_success();
        assert_eq!((breaker.passage(NOW), breaker.is_given_up(NOW.plus(u64::MAX / 2))), (Passage::Free, false));
    }

    #[test]
    fn what_was_in_flight_when_it_opened_makes_no_pause_longer() {
        let mut breaker = EndpointBreaker::default();
        for after_ms in 0..10 {
            breaker.note_failure(NOW.plus(after_ms));
        }
        assert_eq!(breaker.passage(NOW.plus(10)), Passage::Closed(NOW.plus(30_004)));
        // The probe does, once.
        for after_ms in 30_004..30_010 {
            breaker.note_failure(NOW.plus(after_ms));
        }
        assert_eq!(breaker.passage(NOW.plus(30_010)), Passage::Closed(NOW.plus(90_004)));
    }

    #[test]
    fn a_clock_that_was_ahead_closes_it_for_no_longer_than_any_pause() {
        let (mut breaker, ahead) = (EndpointBreaker::default(), NOW.plus(FAILING_MS_MAX));
        for _ in 0..5 {
            breaker.note_failure(ahead);
        }
        assert_eq!(
            [breaker.passage(ahead), breaker.passage(NOW)],
            [Passage::Closed(ahead.plus(30_000)), Passage::Probe]
        );
        breaker.note_failure(NOW);
        assert_eq!(breaker.passage(NOW), Passage::Closed(NOW.plus(60_000)));
    }

    #[test]
    fn an_endpoint_is_given_up_after_five_days_of_failures_alone() {
        let mut breaker = EndpointBreaker::default();
        breaker.note_failure(NOW);
        assert!(!breaker.is_given_up(NOW.plus(FAILING_MS_MAX - 1)));
        assert!(breaker.is_given_up(NOW.plus(FAILING_MS_MAX)));
        breaker.note_success();
        breaker.note_failure(NOW.plus(FAILING_MS_MAX));
        assert!(!breaker.is_given_up(NOW.plus(FAILING_MS_MAX)));
    }

    proptest! {
        #[test]
        fn it_is_never_open_for_more_than_five_minutes(pauses in prop::collection::vec(0_u64..OPEN_MS_MAX, 0..200)) {
            let (mut breaker, mut now) = (EndpointBreaker::default(), NOW);
            for pause in pauses {
                now = now.plus(pause);
                breaker.note_failure(now);
                prop_assert!(!matches!(breaker.passage(now.plus(OPEN_MS_MAX)), Passage::Closed(_)));
            }
        }

        #[test]
        fn what_is_stored_is_read_back(failures in 0_u32..20) {
            let mut breaker = EndpointBreaker::default();
            for failure in 0..failures {
                breaker.note_failure(NOW.plus(u64::from(failure) * OPEN_MS_MAX));
            }
            let text = serde_json::to_string(&breaker).expect("JSON");
            prop_assert_eq!(serde_json::from_str::<EndpointBreaker>(&text).expect("a breaker"), breaker);
        }
    }
}

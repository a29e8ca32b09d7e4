//! Keeps an endpoint that is down from being asked for every message. While it is open nothing is sent, and no message
//! loses an attempt; then one message probes.

use serde::{Deserialize, Serialize};
use x402_chain::time::{DAY_MS, UnixMillis};

/// So many failures one after the other open it.
const FAILURES_MAX: u32 = 5;
/// How long it is open at first.
const OPEN_MS: u64 = 30_000;
/// How long it is open at most: an endpoint that is back gets its messages within this time.
const OPEN_MS_MAX: u64 = 300_000;
/// An endpoint at which attempts have failed for so long, and nothing else, is disabled.
const FAILING_MS_MAX: u64 = 5 * DAY_MS;
/// Failures that are further apart are not one time of failing: nothing says that what was sent between them would have failed.
/// The schedule's pauses are shorter, so that a message that is tried again and again is one.
const FAILING_GAP_MS: u64 = DAY_MS;

/// The state of an endpoint, as its attempts have left it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointBreaker {
    /// Failures since the last success, without those of attempts that were in flight when it opened.
    failures: u32,
    /// When the first of those was that are less than [`FAILING_GAP_MS`] apart.
    failing_since: Option<UnixMillis>,
    /// When the last of them was. The build before does not note it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failed_at: Option<UnixMillis>,
    /// Until when nothing is sent; after that one message at a time.
    open_until: Option<UnixMillis>,
    /// The URL at which they happened: they say nothing of another one. The build before does not note it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    url: Option<String>,
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
    /// What it says of a URL: what has failed at another one does not count.
    #[must_use]
    pub fn of(self, url: &str) -> Self {
        if self.url.as_deref().is_none_or(|own| own == url) { self } else { Self::default() }
    }

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

    /// Notes that an attempt failed at a URL. While it is open that was no probe, but one of those that were in flight when it opened:
    /// it says nothing new, and makes no pause longer.
    pub fn note_failure(&mut self, url: &str, now: UnixMillis) {
        if matches!(self.passage(now), Passage::Closed(_)) {
            return;
        }
        self.failures = self.failures.saturating_add(1);
        // A first failure of the future was noted by a clock that was ahead.
        let goes_on = self.failed_at.is_some_and(|last| now.since(last) < FAILING_GAP_MS);
        let since = self.failing_since.filter(|_| goes_on).map_or(now, |since| since.min(now));
        (self.failing_since, self.failed_at, self.url) = (Some(since), Some(now), Some(url.to_owned()));
        if self.failures < FAILURES_MAX {
            return;
        }
        let doublings = self.failures.saturating_sub(FAILURES_MAX).min(16);
        let pause = OPEN_MS.saturating_mul(1_u64 << doublings).min(OPEN_MS_MAX);
        self.open_until = Some(now.plus(pause));
    }

    /// Whether the endpoint has failed for so long that it is disabled: from the first of its failures to the last.
    #[must_use]
    pub fn is_given_up(&self) -> bool {
        self.failing_since.zip(self.failed_at).is_some_and(|(since, last)| last.since(since) >= FAILING_MS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: UnixMillis = UnixMillis(1_795_910_400_000);
    const URL: &str = "https://shop.example/";

    #[test]
    fn five_failures_open_it_and_a_success_closes_it() {
        let mut breaker = EndpointBreaker::default();
        for _ in 0..4 {
            breaker.note_failure(URL, NOW);
            assert_eq!(breaker.passage(NOW), Passage::Free);
        }
        breaker.note_failure(URL, NOW);
        assert_eq!(breaker.passage(NOW), Passage::Closed(NOW.plus(30_000)));
        assert_eq!(breaker.passage(NOW.plus(30_000)), Passage::Probe);
        breaker.note_failure(URL, NOW.plus(30_000));
        assert_eq!(breaker.passage(NOW.plus(30_001)), Passage::Closed(NOW.plus(90_000)));
        breaker.note_success();
        assert_eq!((breaker.passage(NOW), breaker.is_given_up()), (Passage::Free, false));
    }

    #[test]
    fn what_was_in_flight_when_it_opened_makes_no_pause_longer() {
        let mut breaker = EndpointBreaker::default();
        for after_ms in 0..10 {
            breaker.note_failure(URL, NOW.plus(after_ms));
        }
        assert_eq!(breaker.passage(NOW.plus(10)), Passage::Closed(NOW.plus(30_004)));
        // The probe does, once.
        for after_ms in 30_004..30_010 {
            breaker.note_failure(URL, NOW.plus(after_ms));
        }
        assert_eq!(breaker.passage(NOW.plus(30_010)), Passage::Closed(NOW.plus(90_004)));
    }

    #[test]
    fn a_clock_that_was_ahead_closes_it_for_no_longer_than_any_pause() {
        let (mut breaker, ahead) = (EndpointBreaker::default(), NOW.plus(FAILING_MS_MAX));
        for _ in 0..5 {
            breaker.note_failure(URL, ahead);
        }
        assert_eq!(
            [breaker.passage(ahead), breaker.passage(NOW)],
            [Passage::Closed(ahead.plus(30_000)), Passage::Probe]
        );
        breaker.note_failure(URL, NOW);
        assert_eq!(breaker.passage(NOW), Passage::Closed(NOW.plus(60_000)));
    }

    /// A breaker after failures at these times, in hours.
    fn failed(hours: &[u64]) -> EndpointBreaker {
        let mut breaker = EndpointBreaker::default();
        for hour in hours {
            breaker.note_failure(URL, NOW.plus(hour.saturating_mul(3_600_000)));
        }
        breaker
    }

    #[test]
    fn an_endpoint_is_given_up_after_five_days_of_failures_alone() {
        let often: Vec<u64> = (0..=12).map(|at| at * 10).collect();
        assert!(!failed(&often[..12]).is_given_up());
        assert!(failed(&often).is_given_up());
        let mut breaker = failed(&often);
        breaker.note_success();
        breaker.note_failure(URL, NOW.plus(FAILING_MS_MAX));
        assert!(!breaker.is_given_up());
    }

    #[test]
    fn days_in_which_nothing_was_tried_are_no_days_of_failures() {
        // A message that was tried for 28 hours, then nothing for four days.
        assert!(!failed(&[0, 8, 18, 28, 130]).is_given_up());
        assert!(!failed(&[0, 120]).is_given_up());
        // It begins anew with the first one after them.
        let again: Vec<u64> = [0, 28].into_iter().chain((0..=12).map(|at| 130 + at * 10)).collect();
        assert!(!failed(&again[..14]).is_given_up());
        assert!(failed(&again).is_given_up());
    }

    #[test]
    fn a_clock_that_was_ahead_makes_no_days_of_failures() {
        assert!(!failed(&[0, 200, 1, 2]).is_given_up());
        assert!(!failed(&[0, 23, 1, 2]).is_given_up());
        // The build before has not noted when it failed last.
        let before = format!(r#"{{"failures":9,"failing_since":{},"open_until":null}}"#, NOW.0);
        let mut breaker: EndpointBreaker = serde_json::from_str(&before).expect("a breaker");
        breaker.note_failure(URL, NOW.plus(FAILING_MS_MAX));
        assert!(!breaker.is_given_up());
    }

    #[test]
    fn what_has_failed_at_one_url_says_nothing_of_another() {
        let breaker = failed(&[0; 5]);
        assert_eq!(breaker.clone().of(URL), breaker);
        assert_eq!(breaker.of("https://other.example/"), EndpointBreaker::default());
    }

    proptest! {
        #[test]
        fn it_is_never_open_for_more_than_five_minutes(pauses in prop::collection::vec(0_u64..OPEN_MS_MAX, 0..200)) {
            let (mut breaker, mut now) = (EndpointBreaker::default(), NOW);
            for pause in pauses {
                now = now.plus(pause);
                breaker.note_failure(URL, now);
                prop_assert!(!matches!(breaker.passage(now.plus(OPEN_MS_MAX)), Passage::Closed(_)));
            }
        }

        #[test]
        fn what_is_stored_is_read_back(failures in 0_u32..20) {
            let mut breaker = EndpointBreaker::default();
            for failure in 0..failures {
                breaker.note_failure(URL, NOW.plus(u64::from(failure) * OPEN_MS_MAX));
            }
            let text = serde_json::to_string(&breaker).expect("JSON");
            prop_assert_eq!(serde_json::from_str::<EndpointBreaker>(&text).expect("a breaker"), breaker);
        }
    }
}

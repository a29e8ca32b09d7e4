//! Flights whose turns fail at present, counted for `/v1/health`.

use std::collections::BTreeMap;
use x402_chain::time::UnixMillis;

/// How long a failure counts: every flight is tried again within a few turns of 5 s.
const COUNTS_MS: u64 = 60_000;
/// The most flights that are remembered; further ones are not counted.
const FLIGHTS_MAX: usize = 1_000;
/// How often a flight is logged, and an unchanged count is reported.
const REPORT_MS: u64 = 60_000;

/// A flight that has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct StuckFlight {
    last: UnixMillis,
    logged: UnixMillis,
}

/// The flights that have failed, and the count that was reported last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StuckFlights {
    failed: BTreeMap<String, StuckFlight>,
    reported: Option<(usize, UnixMillis)>,
}

impl StuckFlights {
    /// Notes that a turn of a flight has failed; returns whether to log it.
    pub fn note_failure(&mut self, key: &str, now: UnixMillis) -> bool {
        match self.failed.get_mut(key) {
            Some(failed) => {
                failed.last = now;
                let is_due = now.since(failed.logged) >= REPORT_MS;
                if is_due {
                    failed.logged = now;
                }
                is_due
            }
            None => {
                if self.failed.len() < FLIGHTS_MAX {
                    self.failed.insert(key.to_owned(), StuckFlight { last: now, logged: now });
                }
                true
            }
        }
    }

    /// The number of failed flights, if it must be reported: it has changed, or was reported a minute ago.
    pub fn due_count(&mut self, now: UnixMillis) -> Option<usize> {
        self.failed.retain(|_, failed| now.since(failed.last) < COUNTS_MS);
        let count = self.failed.len();
        let is_due = match self.reported {
            Some((reported, at)) => reported != count || (count > 0 && now.since(at) >= REPORT_MS),
            None => count > 0,
        };
        is_due.then_some(count)
    }

    /// Notes that a count was reported.
    pub const fn note_reported(&mut self, count: usize, now: UnixMillis) {
        self.reported = Some((count, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_reported_when_it_changes_and_once_a_minute() {
        let mut trouble = StuckFlights::default();
        let at = |seconds: u64| UnixMillis(1_000_000 + seconds * 1_000);
        assert_eq!(trouble.due_count(at(0)), None);
        assert!(trouble.note_failure("a", at(0)));
        assert_eq!(trouble.due_count(at(1)), Some(1));
        // What could not be reported is due again.
        assert_eq!(trouble.due_count(at(2)), Some(1));
        trouble.note_reported(1, at(2));
        assert!(!trouble.note_failure("a", at(50)));
        assert_eq!(trouble.due_count(at(50)), None);
        assert_eq!(trouble.due_count(at(62)), Some(1));
        assert!(trouble.note_failure("b", at(63)));
        assert_eq!(trouble.due_count(at(63)), Some(2));
        trouble.note_reported(2, at(63));
        assert_eq!(trouble.due_count(at(111)), Some(1));
        trouble.note_reported(1, at(111));
        assert_eq!(trouble.due_count(at(123)), Some(0));
        trouble.note_reported(0, at(123));
        assert_eq!(trouble.due_count(at(600)), None);
    }

    #[test]
    fn so_many_are_remembered_and_no_more() {
        let mut trouble = StuckFlights::default();
        for at in 0..1_100 {
            assert!(trouble.note_failure(&format!("{at}"), UnixMillis(5)));
        }
        assert_eq!(trouble.due_count(UnixMillis(6)), Some(FLIGHTS_MAX));
    }
}

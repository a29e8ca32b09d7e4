//! When an object's alarm is set, and how its work makes room for requests.

use x402_chain::time::UnixMillis;

/// An alarm that has not run this long after its time counts as lost, and is set again.
const LOST_AFTER_MS: u64 = 15_000;
/// How long an alarm works without a pause.
const WORK_MS: u64 = 20;
/// The longest pause between two pieces of an alarm's work.
const PAUSE_MS_MAX: u64 = 50;

/// Whether an alarm set for `at` runs in time for `wanted`. An alarm that is due and has not run yet does: to set it
/// again would put it off, and the alarm of an object that is never idle would never run.
#[must_use]
pub fn is_set(at: Option<UnixMillis>, wanted: UnixMillis, now: UnixMillis) -> bool {
    at.is_some_and(|at| at <= wanted && now <= at.plus(LOST_AFTER_MS))
}

/// Milliseconds to pause after an alarm has worked so long without a pause: at most half of the time is the alarm's, the
/// rest is the requests'. `None`: it may go on.
#[must_use]
pub fn pause_ms(worked_ms: u64) -> Option<u64> {
    (worked_ms >= WORK_MS).then(|| worked_ms.min(PAUSE_MS_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_795_910_400_000);

    #[test]
    fn an_alarm_that_is_due_is_not_put_off() {
        let is_set_at = |at: u64| is_set(Some(UnixMillis(at)), NOW.plus(4_000), NOW);
        assert!(!is_set(None, NOW.plus(4_000), NOW));
        // Set, due, and late.
        assert!(is_set_at(NOW.0 + 4_000) && is_set_at(NOW.0) && is_set_at(NOW.0 - 15_000));
        // Too late for what is wanted, and lost.
        assert!(!is_set_at(NOW.0 + 4_001) && !is_set_at(NOW.0 - 15_001));
    }

    #[test]
    fn an_alarm_takes_at_most_half_of_the_time() {
        assert_eq!([0, 19, 20, 50, 900].map(pause_ms), [None, None, Some(20), Some(50), Some(50)]);
    }
}

//! When an object's alarm is set, and how its work makes room for requests.

use x402_chain::time::UnixMillis;

/// An alarm that has not run this long after its time counts as lost, and is set again.
const LOST_AFTER_MS: u64 = 15_000;
/// How long an alarm works without a pause.
const WORK_MS: u64 = 20;
/// The longest pause between two pieces of an alarm's work.
const PAUSE_MS_MAX: u64 = 50;

/// When an alarm is to be set that runs in time for `wanted`; `None` where one is set, for `at`. An alarm that is due and
/// has not run yet stays as it is: to set it again would put it off, and the alarm of an object that is never idle would
/// never run. One that is lost runs at once, for the same reason.
#[must_use]
pub fn alarm_for(wanted: UnixMillis, at: Option<UnixMillis>, now: UnixMillis) -> Option<UnixMillis> {
    match at {
        Some(at) if now > at.plus(LOST_AFTER_MS) => Some(now),
        Some(at) if at <= wanted => None,
        _ => Some(wanted),
    }
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
        let wanted = NOW.plus(4_000);
        let set_at = |at: u64| alarm_for(wanted, Some(UnixMillis(at)), NOW);
        assert_eq!(alarm_for(wanted, None, NOW), Some(wanted));
        // Set, due, and late.
        assert_eq!([NOW.0 + 4_000, NOW.0, NOW.0 - 15_000].map(set_at), [None; 3]);
        // Too late for what is wanted, and lost.
        assert_eq!([NOW.0 + 4_001, NOW.0 - 15_001].map(set_at), [Some(wanted), Some(NOW)]);
    }

    #[test]
    fn an_alarm_takes_at_most_half_of_the_time() {
        assert_eq!([0, 19, 20, 50, 900].map(pause_ms), [None, None, Some(20), Some(50), Some(50)]);
    }
}

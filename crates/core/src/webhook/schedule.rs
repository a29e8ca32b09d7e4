//! When a message is sent again that an endpoint has not taken: over some 28 hours, less and less often.

use x402_chain::id::EventId;
use x402_chain::time::UnixMillis;

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;

/// From one attempt to the next, as Svix does it; the first attempt is made at once.
const PAUSES_MS: [u64; 7] = [5 * SECOND, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 10 * HOUR];
/// The most attempts of a message.
pub const ATTEMPTS_MAX: u64 = 8;
/// The longest `Retry-After` that is heeded.
const RETRY_AFTER_MS_MAX: u64 = 10 * HOUR;
/// A pause is longer by up to a tenth: endpoints that were down are not asked for everything at the same moment.
const JITTER_PER_MILLE: u64 = 100;
/// No message waits for its next attempt as long: what is due later was noted by a clock that was ahead.
pub const PAUSE_MS_MAX: u64 = 12 * HOUR;

/// When a message is sent again; `None`: it is exhausted.
///
/// `attempts` counts those so far, the failed one included. `retry_after_ms` is what the endpoint has asked for.
#[must_use]
pub fn next_attempt(event: EventId, attempts: u64, retry_after_ms: Option<u64>, now: UnixMillis) -> Option<UnixMillis> {
    let at = usize::try_from(attempts.saturating_sub(1)).ok()?;
    let pause = *PAUSES_MS.get(at)?;
    let jitter = pause.saturating_mul(share_of(event, attempts)) / 1_000;
    let asked = retry_after_ms.unwrap_or(0).min(RETRY_AFTER_MS_MAX);
    Some(now.plus(pause.saturating_add(jitter).max(asked)))
}

/// Up to [`JITTER_PER_MILLE`], the same for an event and an attempt in every run.
fn share_of(event: EventId, attempts: u64) -> u64 {
    let hash = event.to_string().bytes().fold(attempts.wrapping_add(0xcbf2_9ce4_8422_2325), |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash.checked_rem(JITTER_PER_MILLE.saturating_add(1)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn event(random: u8) -> EventId {
        EventId::new(UnixMillis(1_795_910_400_000), [random; 10])
    }

    #[test]
    fn a_message_is_sent_eight_times_over_some_28_hours() {
        let (begun, mut attempts) = (UnixMillis(1_795_910_400_000), 1);
        let (mut now, mut pauses) = (begun, Vec::new());
        while let Some(next) = next_attempt(event(7), attempts, None, now) {
            pauses.push(next.since(now));
            (now, attempts) = (next, attempts + 1);
        }
        assert_eq!(attempts, ATTEMPTS_MAX);
        for (pause, least) in pauses.iter().zip(PAUSES_MS) {
            assert!((least..=least + least / 10).contains(pause), "{pause} of {least}");
        }
        assert!((27 * HOUR..31 * HOUR).contains(&now.since(begun)), "{}", now.since(begun));
    }

    #[test]
    fn messages_that_failed_together_are_sent_apart() {
        let now = UnixMillis(1_795_910_400_000);
        let times: std::collections::BTreeSet<_> =
            (0..100).filter_map(|random| next_attempt(event(random), 2, None, now)).collect();
        assert!(times.len() > 40, "{}", times.len());
    }

    #[test]
    fn an_endpoint_may_ask_for_more_time_but_not_for_days() {
        let now = UnixMillis(0);
        let next = |asked| next_attempt(event(1), 1, Some(asked), now).map(|at| at.0);
        assert_eq!(next(60_000), Some(60_000));
        assert_eq!(next(u64::MAX), Some(10 * HOUR));
        assert!(next(1).is_some_and(|at| at >= 5_000), "never earlier than the schedule");
    }

    proptest! {
        #[test]
        fn the_next_attempt_is_later_and_the_same_each_time(random: [u8; 10], attempts in 0_u64..20, asked: Option<u64>) {
            let (event, now) = (EventId::new(UnixMillis(5), random), UnixMillis(1_795_910_400_000));
            let next = next_attempt(event, attempts, asked, now);
            prop_assert_eq!(next, next_attempt(event, attempts, asked, now));
            prop_assert_eq!(next.is_some(), attempts < ATTEMPTS_MAX);
            prop_assert!(next.is_none_or(|next| next > now && next.since(now) < PAUSE_MS_MAX));
        }
    }
}

//! How much an endpoint's object keeps: the platform bounds an object by 10 GB. The size of its storage is known without a
//! scan, so it is bytes that are bounded: those of messages, of attempts and of indexes.

use super::delivery::{DeliveryState, KEPT_MS, WAITING_MAX};
use x402_chain::time::UnixMillis;

/// Above so many bytes deliveries that were taken are forgotten, those first that ended first.
pub const DELIVERED_BYTES_MAX: u64 = 1 << 30;
/// Above so many, exhausted ones too: they can be sent again, and so are kept for longer.
pub const EXHAUSTED_BYTES_MAX: u64 = 3 << 29;
/// From so many on nothing more waits: a new event is exhausted at once.
pub const WAITING_BYTES_MAX: u64 = 2 << 30;

/// Deliveries that ended in this state before this time are forgotten, in an object that stores so many bytes.
#[must_use]
pub const fn forgotten_before(state: DeliveryState, stored: u64, now: UnixMillis) -> UnixMillis {
    let is_full = match state {
        DeliveryState::Delivered => stored > DELIVERED_BYTES_MAX,
        DeliveryState::Exhausted => stored > EXHAUSTED_BYTES_MAX,
        DeliveryState::Waiting => false,
    };
    if is_full { now.plus(1) } else { UnixMillis(now.0.saturating_sub(KEPT_MS)) }
}

/// Whether one more delivery may wait beside so many.
#[must_use]
pub const fn has_room(waiting: u64, stored: u64) -> bool {
    waiting < WAITING_MAX && stored < WAITING_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_795_910_400_000);

    #[test]
    fn of_a_full_object_what_was_taken_goes_first_and_what_waits_never() {
        let month = UnixMillis(NOW.0 - KEPT_MS);
        let of = |stored| DeliveryState::ALL.map(|state| forgotten_before(state, stored, NOW));
        assert_eq!(of(DELIVERED_BYTES_MAX), [month; 3]);
        // The states are in the order waiting, delivered, exhausted.
        assert_eq!(of(DELIVERED_BYTES_MAX + 1), [month, NOW.plus(1), month]);
        assert_eq!(of(EXHAUSTED_BYTES_MAX), [month, NOW.plus(1), month]);
        assert_eq!(of(u64::MAX), [month, NOW.plus(1), NOW.plus(1)]);
    }

    #[test]
    fn what_waits_is_bounded_by_number_and_by_bytes() {
        assert!(has_room(WAITING_MAX - 1, WAITING_BYTES_MAX - 1));
        assert!(!has_room(WAITING_MAX, 0) && !has_room(0, WAITING_BYTES_MAX));
    }
}

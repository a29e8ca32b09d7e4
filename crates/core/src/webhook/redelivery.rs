//! Exhausted events that are sent again on demand, in batches: there may be more than one request has time for.

use serde::{Deserialize, Serialize};
use x402_chain::id::EventId;
use x402_chain::time::UnixMillis;

/// What is left of a demand to send exhausted events again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redelivery {
    /// Events of this id and greater ones, as text.
    pub from: String,
    /// Those that were exhausted until then.
    pub asked_at: UnixMillis,
    /// So many.
    pub left: u64,
}

impl Redelivery {
    /// From where on a demand begins, with what is left of an earlier one.
    #[must_use]
    pub fn first<'a>(earlier: Option<&'a Self>, from: &'a str) -> &'a str {
        earlier.map_or(from, |earlier| from.min(earlier.from.as_str()))
    }

    /// How many of a demand for `wanted` events are sent again, where with those of an earlier demand, which come before them,
    /// there are `all`, and so many fit.
    #[must_use]
    pub fn going(wanted: u64, all: u64, room: u64) -> u64 {
        all.min(room).saturating_sub(all.saturating_sub(wanted))
    }

    /// What is left after a batch of at most `limit` events, of which so many are sent again; `None`: nothing.
    #[must_use]
    pub fn after(&self, batch: &[EventId], limit: usize, opened: u64) -> Option<Self> {
        let left = self.left.saturating_sub(opened);
        let last = batch.last().filter(|_| left > 0 && batch.len() >= limit)?;
        // Greater than the last id, and smaller than every other one that is greater.
        Some(Self { from: format!("{last}~"), asked_at: self.asked_at, left })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(at: u64) -> EventId {
        EventId::new(UnixMillis(at), [7; 10])
    }

    #[test]
    fn a_demand_goes_on_after_its_last_event() {
        let job = Redelivery { from: event(5).to_string(), asked_at: UnixMillis(9), left: 5 };
        let next = job.after(&[event(5), event(6)], 2, 2).expect("more");
        assert_eq!((next.left, next.asked_at), (3, UnixMillis(9)));
        assert!(next.from > event(6).to_string() && next.from < event(7).to_string());
        assert_eq!(job.after(&[event(5)], 2, 1), None, "no others are there");
        assert_eq!(job.after(&[], 2, 0), None);
        assert_eq!(job.after(&[event(5), event(6)], 2, 5), None, "all are on their way");
    }

    #[test]
    fn two_demands_are_one_and_each_is_told_what_goes() {
        let earlier = Redelivery { from: event(5).to_string(), asked_at: UnixMillis(9), left: 5 };
        let (smaller, greater) = (event(4).to_string(), event(6).to_string());
        assert_eq!(Redelivery::first(None, &smaller), smaller);
        assert_eq!(Redelivery::first(Some(&earlier), &smaller), smaller);
        assert_eq!(Redelivery::first(Some(&earlier), &greater), earlier.from);
        assert_eq!(
            [(3, 3, 9), (3, 3, 2), (3, 5, 9), (3, 5, 4), (3, 5, 1)].map(|(w, a, r)| Redelivery::going(w, a, r)),
            [3, 2, 3, 2, 0]
        );
    }

    #[test]
    fn what_is_left_keeps_its_text() {
        let text = r#"{"from":"evt_1","asked_at":9,"left":5}"#;
        let read: Redelivery = serde_json::from_str(text).expect("a demand");
        assert_eq!(serde_json::to_string(&read).expect("JSON"), text);
    }
}

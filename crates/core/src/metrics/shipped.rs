//! What a ledger counts with what it ships. The counts are stored in the transaction that notes the shipment, and sent to a
//! Meter under a number, so that each counts once.

use super::MetricFamily;
use super::series::MetricCounts;
use crate::event::EventKind;
use serde::{Deserialize, Serialize};
use x402_chain::network::find_network;
use x402_chain::time::UnixMillis;

/// Counts that are sent, and those that are to be sent next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShippedCounts {
    /// The number of `sending`, or of the last that was sent.
    sequence: u64,
    /// What is being sent, until it is known that a Meter has it. It does not change meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sending: Option<MetricCounts>,
    /// What is sent next.
    #[serde(default, skip_serializing_if = "MetricCounts::is_empty")]
    next: MetricCounts,
}

impl ShippedCounts {
    /// Counts of a ledger that is rebuilt: a Meter knows the numbers that it has used before, which are less than a time.
    #[must_use]
    pub fn beginning_at(now: UnixMillis) -> Self {
        Self { sequence: now.0, ..Self::default() }
    }

    /// Whether nothing was ever counted.
    #[must_use]
    pub fn is_new(&self) -> bool {
        *self == Self::default()
    }

    /// Adds counts; `taken` is the number of the last counts that a Meter has, as far as is known.
    pub fn add(&mut self, counts: &MetricCounts, taken: u64) {
        if taken >= self.sequence {
            self.sending = None;
        }
        self.next.add(counts);
        if self.sending.is_none() && !self.next.is_empty() {
            self.sending = Some(core::mem::take(&mut self.next));
            self.sequence = self.sequence.saturating_add(1);
        }
    }

    /// What is to be sent, with its number; `None` where a Meter has it.
    #[must_use]
    pub fn to_send(&self, taken: u64) -> Option<(u64, &MetricCounts)> {
        self.sending.as_ref().filter(|_| taken < self.sequence).map(|counts| (self.sequence, counts))
    }

    /// Whether something is to be sent once what is being sent is taken.
    #[must_use]
    pub fn has_more(&self) -> bool {
        !self.next.is_empty()
    }
}

/// The kinds of events that are counted: the family of each, and its outcome where the family has that label.
const COUNTED_EVENTS: &[(EventKind, MetricFamily, Option<&str>)] = &[
    (EventKind::SettlementPending, MetricFamily::Settlements, Some("pending")),
    (EventKind::SettlementSucceeded, MetricFamily::Settlements, Some("succeeded")),
    (EventKind::SettlementFailed, MetricFamily::Settlements, Some("failed")),
    (EventKind::SettlementUndelivered, MetricFamily::Settlements, Some("undelivered")),
    (EventKind::PaymentReorged, MetricFamily::Reorgs, None),
];

/// Counts what a settlement, or a payment's block, has come to; nothing for other events. `data` is the event's body.
pub fn count_event(counts: &mut MetricCounts, kind: EventKind, data: &str) {
    #[derive(Deserialize)]
    struct Place {
        network: Option<String>,
        chain: Option<String>,
    }
    let Some((_, family, outcome)) = COUNTED_EVENTS.iter().find(|(counted, ..)| *counted == kind) else { return };
    let (family, outcome) = (*family, *outcome);
    let place = serde_json::from_str(data).unwrap_or(Place { network: None, chain: None });
    let chain = place.chain.as_deref().or(place.network.as_deref()).and_then(find_network);
    let chain = chain.map_or("unknown", |network| network.key);
    match outcome {
        Some(outcome) => counts.count(family, &[chain, outcome], 1),
        None => counts.count(family, &[chain], 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one() -> MetricCounts {
        let mut counts = MetricCounts::default();
        counts.count(MetricFamily::Verifications, &["base", "confirmed"], 1);
        counts
    }

    fn sum(counts: &MetricCounts) -> u64 {
        counts.counters.values().flat_map(|series| series.values()).sum()
    }

    #[test]
    fn a_rebuilt_ledger_uses_no_number_again() {
        let mut counts = ShippedCounts::beginning_at(UnixMillis(1_795_000_000_000));
        assert!(!counts.is_new() && counts.to_send(0).is_none());
        counts.add(&one(), 0);
        assert_eq!(counts.to_send(0).map(|(number, _)| number), Some(1_795_000_000_001));
    }

    #[test]
    fn an_event_is_counted_by_its_chain() {
        let mut counts = MetricCounts::default();
        count_event(&mut counts, EventKind::SettlementSucceeded, r#"{"network":"eip155:8453","x":1}"#);
        count_event(&mut counts, EventKind::PaymentReorged, r#"{"chain":"base"}"#);
        count_event(&mut counts, EventKind::SettlementFailed, "no JSON");
        count_event(&mut counts, EventKind::PaymentFinalized, r#"{"chain":"base"}"#);
        let mut expected = MetricCounts::default();
        expected.count(MetricFamily::Settlements, &["base", "succeeded"], 1);
        expected.count(MetricFamily::Reorgs, &["base"], 1);
        expected.count(MetricFamily::Settlements, &["unknown", "failed"], 1);
        assert_eq!(counts, expected);
    }

    proptest! {
        /// Whatever is lost on the way, and whenever the ledger forgets what a Meter has, each is counted once.
        #[test]
        fn each_is_counted_once(steps in prop::collection::vec((any::<bool>(), any::<bool>(), any::<bool>()), 0..60)) {
            let (mut kept, mut taken, mut last, mut total, mut added) = (ShippedCounts::default(), 0_u64, 0_u64, 0_u64, 0_u64);
            let mut send = |kept: &ShippedCounts, taken: &mut u64, is_heard: bool, reaches: bool| {
                let Some((sequence, counts)) = kept.to_send(*taken) else { return };
                if reaches && sequence > last {
                    last = sequence;
                    total = total.saturating_add(sum(counts));
                }
                if reaches && is_heard {
                    *taken = sequence;
                }
            };
            for (reaches, is_heard, forgets) in steps {
                kept.add(&one(), taken);
                added = added.saturating_add(1);
                send(&kept, &mut taken, is_heard, reaches);
                if forgets {
                    taken = 0;
                }
            }
            for _ in 0..3 {
                send(&kept, &mut taken, true, true);
                kept.add(&MetricCounts::default(), taken);
            }
            prop_assert_eq!(total, added);
            prop_assert!(kept.to_send(taken).is_none() && !kept.has_more());
        }
    }
}

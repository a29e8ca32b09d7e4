//! Which deliveries of an endpoint are sent next.

use super::breaker::Passage;
use std::collections::BTreeSet;

/// The most messages of an endpoint that are in flight.
pub const IN_FLIGHT_MAX: usize = 6;

/// A delivery that may be sent as far as its schedule says: the first of its subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueDelivery<T> {
    /// What its event is about.
    pub subject: String,
    /// The delivery.
    pub item: T,
}

/// How many more may be sent.
#[must_use]
pub const fn room(passage: Passage, in_flight: usize) -> usize {
    match passage {
        Passage::Free => IN_FLIGHT_MAX.saturating_sub(in_flight),
        Passage::Probe => 1_usize.saturating_sub(in_flight),
        Passage::Closed(_) => 0,
    }
}

/// Selects of the deliveries that are due, the first ones first: at most [`IN_FLIGHT_MAX`] are in flight, one of a subject;
/// of an endpoint that has failed one alone, after its pause. `busy`: the subjects of those in flight, one for each.
#[must_use]
pub fn select<T>(passage: Passage, busy: &[String], due: Vec<DueDelivery<T>>) -> Vec<T> {
    let mut taken: BTreeSet<String> = busy.iter().cloned().collect();
    let free = due.into_iter().filter(|one| taken.insert(one.subject.clone()));
    free.take(room(passage, busy.len())).map(|one| one.item).collect()
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "small numbers of a test")]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, VecDeque};
    use x402_chain::time::UnixMillis;

    fn passage() -> impl Strategy<Value = Passage> {
        prop_oneof![Just(Passage::Free), Just(Passage::Probe), Just(Passage::Closed(UnixMillis(9)))]
    }

    fn due(subjects: &[u8]) -> Vec<DueDelivery<usize>> {
        subjects
            .iter()
            .enumerate()
            .map(|(id, subject)| DueDelivery { subject: subject.to_string(), item: id })
            .collect()
    }

    #[test]
    fn six_are_in_flight_or_one_that_probes() {
        let of = |passage, busy: &[&str]| {
            let busy: Vec<String> = busy.iter().map(|subject| (*subject).to_owned()).collect();
            select(passage, &busy, due(&[0, 1, 2, 3, 4, 5, 6, 7]))
        };
        assert_eq!(of(Passage::Free, &[]), [0, 1, 2, 3, 4, 5]);
        assert_eq!(of(Passage::Free, &["0", "9"]), [1, 2, 3, 4]);
        assert_eq!(of(Passage::Probe, &[]), [0]);
        assert_eq!(of(Passage::Probe, &["9"]), [0_usize; 0]);
        assert_eq!(of(Passage::Closed(UnixMillis(9)), &[]), [0_usize; 0]);
    }

    proptest! {
        #[test]
        fn no_subject_is_in_flight_twice_and_no_bound_is_exceeded(
            passage in passage(), busy in prop::collection::btree_set(0_u8..9, 0..8), subjects: Vec<u8>,
        ) {
            let busy: Vec<String> = busy.iter().map(u8::to_string).collect();
            let all = due(&subjects);
            let selected = select(passage, &busy, all.clone());
            let mut seen: BTreeSet<&str> = busy.iter().map(String::as_str).collect();
            for id in &selected {
                prop_assert!(seen.insert(&all[*id].subject));
            }
            let room = room(passage, busy.len());
            prop_assert!(selected.len() <= room);
            // What fits is sent.
            let free = all.iter().filter(|one| !busy.contains(&one.subject)).map(|one| &one.subject);
            prop_assert_eq!(selected.len(), free.collect::<BTreeSet<_>>().len().min(room));
        }

        /// Each subject's events end in the order of their arrival, whatever succeeds, and all of them end.
        #[test]
        fn events_of_a_subject_end_in_their_order(arrivals in prop::collection::vec(0_u8..4, 1..40), luck: Vec<bool>) {
            let mut queues: BTreeMap<u8, VecDeque<usize>> = BTreeMap::new();
            for (id, subject) in arrivals.iter().enumerate() {
                queues.entry(*subject).or_default().push_back(id);
            }
            let (mut luck, mut ended) = (luck.into_iter().chain(core::iter::repeat(true)), Vec::new());
            while queues.values().any(|queue| !queue.is_empty()) {
                let heads: Vec<DueDelivery<usize>> = queues
                    .iter()
                    .filter_map(|(subject, queue)| Some(DueDelivery { subject: subject.to_string(), item: *queue.front()? }))
                    .collect();
                for id in select(Passage::Free, &[], heads) {
                    if luck.next() == Some(true) {
                        queues.entry(arrivals[id]).or_default().pop_front();
                        ended.push(id);
                    }
                }
            }
            for subject in 0..4 {
                let own: Vec<usize> = ended.iter().copied().filter(|id| arrivals[*id] == subject).collect();
                prop_assert!(own.is_sorted());
            }
            prop_assert_eq!(ended.len(), arrivals.len());
        }
    }
}

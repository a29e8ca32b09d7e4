//! What endpoints have missed of their events, because their ledger did not know of them in time.

use super::subscription::WebhookSubscription;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use x402_chain::id::EndpointId;
use x402_chain::time::UnixMillis;

/// The time from which on, and the one before which, an endpoint has missed events.
pub type Span = (UnixMillis, UnixMillis);

/// What endpoints have missed of the events that the months hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Missed(BTreeMap<EndpointId, Span>);

impl Missed {
    /// What an endpoint has missed.
    #[must_use]
    pub fn get(&self, endpoint: EndpointId) -> Option<Span> {
        self.0.get(&endpoint).copied()
    }

    /// Whether no endpoint has missed anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets endpoints that are gone.
    pub fn keep(&mut self, endpoints: &[WebhookSubscription]) {
        self.0.retain(|id, _| endpoints.iter().any(|one| one.id == *id));
    }

    /// Adds what an endpoint has missed to what it had before.
    pub fn add(&mut self, endpoint: EndpointId, (from, to): Span) {
        if from < to {
            let more = |own: &mut Span| *own = (own.0.min(from), own.1.max(to));
            self.0.entry(endpoint).and_modify(more).or_insert((from, to));
        }
    }

    /// Notes what is left after something was sent. Where the endpoint is gone or has missed more meanwhile, that stands;
    /// `false` then.
    pub fn note(&mut self, endpoint: EndpointId, before: Span, left: Option<Span>) -> bool {
        let is_as_before = self.get(endpoint) == Some(before);
        match left {
            Some(left) if is_as_before => _ = self.0.insert(endpoint, left),
            None if is_as_before => _ = self.0.remove(&endpoint),
            _ => {}
        }
        is_as_before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> EndpointId {
        EndpointId::parse("whe_01KB0000000000000000000000").expect("an id")
    }

    fn span(from: u64, to: u64) -> Span {
        (UnixMillis(from), UnixMillis(to))
    }

    #[test]
    fn what_is_noted_brings_back_no_endpoint_that_is_gone_and_forgets_nothing_that_was_added_meanwhile() {
        let mut missed = Missed::default();
        missed.add(id(), span(10, 40));
        assert!(missed.note(id(), span(10, 40), Some(span(20, 40))));
        missed.add(id(), span(30, 50));
        assert_eq!(missed.get(id()), Some(span(20, 50)));
        for left in [Some(span(30, 40)), None] {
            assert!(!missed.note(id(), span(20, 40), left));
            assert_eq!(missed.get(id()), Some(span(20, 50)));
        }
        missed.keep(&[]);
        assert!(!missed.note(id(), span(20, 50), Some(span(30, 50))) && missed.is_empty());
        missed.add(id(), span(10, 40));
        assert!(missed.note(id(), span(10, 40), None) && missed.is_empty());
    }

    #[test]
    fn nothing_is_missed_of_no_time() {
        let mut missed = Missed::default();
        missed.add(id(), span(40, 40));
        missed.add(id(), span(41, 40));
        assert!(missed.is_empty());
    }

    #[test]
    fn it_keeps_its_text() {
        let mut missed = Missed::default();
        missed.add(id(), span(1, 2));
        let text = r#"{"whe_01KB0000000000000000000000":[1,2]}"#;
        assert_eq!(serde_json::to_string(&missed).expect("JSON"), text);
        assert_eq!(serde_json::from_str::<Missed>(text).expect("what was missed"), missed);
    }
}

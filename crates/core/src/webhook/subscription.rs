//! Which events a webhook endpoint gets.

use crate::event::EventKind;
use serde::{Deserialize, Serialize};
use x402_chain::id::EndpointId;

/// The most endpoints of a tenant in one environment.
pub const ENDPOINTS_MAX: u64 = 10;
/// The most types and families that an endpoint names.
pub const EVENTS_MAX: usize = 50;

/// Whether a text is a type of events, as `payment.finalized`, or a family of them, as `payment.*`.
#[must_use]
pub fn is_wanted(text: &str) -> bool {
    match text.strip_suffix('*') {
        Some(family) => family.ends_with('.') && EventKind::ALL.iter().any(|kind| kind.name().starts_with(family)),
        None => EventKind::parse(text).is_some(),
    }
}

/// An endpoint that gets events, as a ledger holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookSubscription {
    /// The endpoint.
    pub id: EndpointId,
    /// Types of events, such as `payment.finalized`, or families, such as `payment.*`; none: all.
    pub events: Vec<String>,
}

impl WebhookSubscription {
    /// Whether the endpoint gets events of this type.
    #[must_use]
    pub fn wants(&self, kind: &str) -> bool {
        let is_named = |wanted: &String| match wanted.strip_suffix('*') {
            Some(family) => kind.starts_with(family),
            None => kind == wanted,
        };
        self.events.is_empty() || self.events.iter().any(is_named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use x402_chain::time::UnixMillis;

    #[test]
    fn only_known_types_are_wanted() {
        for kind in EventKind::ALL {
            let name = kind.name();
            let (family, _) = name.split_once('.').expect("a family");
            assert!(is_wanted(name) && is_wanted(&format!("{family}.*")), "{name}");
        }
        for wrong in
            ["", "*", ".*", "pay*", "payment", "payment.", "payment.*.*", "Payment.*", "payment.final", "key. "]
        {
            assert!(!is_wanted(wrong), "{wrong}");
        }
    }

    #[test]
    fn an_endpoint_gets_what_it_names() {
        let of = |events: &[&str]| WebhookSubscription {
            id: EndpointId::new(UnixMillis(1), [0; 10]),
            events: events.iter().map(|name| (*name).to_owned()).collect(),
        };
        assert!(of(&[]).wants("payment.finalized"));
        assert!(of(&["payment.*"]).wants("payment.finalized"));
        assert!(of(&["quota.reset", "payment.finalized"]).wants("payment.finalized"));
        assert!(!of(&["payment.*"]).wants("paymentfinalized"));
        assert!(!of(&["payment.final"]).wants("payment.finalized"));
    }
}

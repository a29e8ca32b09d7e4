//! Which events a webhook endpoint gets.

use serde::{Deserialize, Serialize};
use x402_chain::id::EndpointId;

/// The most endpoints of a tenant in one environment.
pub const ENDPOINTS_MAX: u64 = 10;

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

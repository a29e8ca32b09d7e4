//! How much a ledger keeps of what Couriers have not taken.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use x402_chain::id::EndpointId;

/// The most bytes that wait in a ledger for one endpoint: some 30,000 events. Ten endpoints keep 1.25 GiB then, of the
/// 10 GB that an object's SQLite holds (<https://developers.cloudflare.com/durable-objects/platform/limits>).
pub const BACKLOG_BYTES_MAX: u64 = 128 * 1_024 * 1_024;

/// The bytes that wait for each endpoint. An endpoint without an entry has nothing waiting.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Backlog(BTreeMap<EndpointId, u64>);

impl Backlog {
    /// Adds an event of this size where there is room for it; whether there is. What waits for one endpoint takes no room
    /// from another.
    pub fn add(&mut self, endpoint: EndpointId, bytes: usize) -> bool {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let sum = self.0.get(&endpoint).copied().unwrap_or(0).saturating_add(bytes);
        let has_room = sum <= BACKLOG_BYTES_MAX;
        if has_room {
            self.0.insert(endpoint, sum);
        }
        has_room
    }

    /// Notes that nothing waits for an endpoint.
    pub fn clear(&mut self, endpoint: EndpointId) {
        self.0.remove(&endpoint);
    }

    /// Takes out what a Courier has taken; `is_last`: nothing is left.
    pub fn remove(&mut self, endpoint: EndpointId, bytes: usize, is_last: bool) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let left = self.0.get(&endpoint).map_or(0, |sum| sum.saturating_sub(bytes));
        if is_last {
            self.clear(endpoint);
        } else {
            self.0.insert(endpoint, left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use x402_chain::time::UnixMillis;

    #[test]
    fn an_endpoint_that_is_full_takes_no_room_from_another() {
        let [one, other] = [1, 2].map(|at| EndpointId::new(UnixMillis(at), [0; 10]));
        let max = usize::try_from(BACKLOG_BYTES_MAX).expect("a size");
        let mut backlog = Backlog::default();
        assert!(backlog.add(one, max) && !backlog.add(one, 1));
        assert!(backlog.add(other, max));
        backlog.remove(one, 10, false);
        assert!(!backlog.add(one, 11) && backlog.add(one, 10));
        // Whatever was counted, nothing is left then.
        backlog.remove(one, 1, true);
        backlog.clear(other);
        assert_eq!(backlog, Backlog::default());
    }

    #[test]
    fn it_keeps_its_text() {
        let mut backlog = Backlog::default();
        assert!(backlog.add(EndpointId::parse("whe_01KB0000000000000000000000").expect("an id"), 7));
        let text = r#"{"whe_01KB0000000000000000000000":7}"#;
        assert_eq!(serde_json::to_string(&backlog).expect("JSON"), text);
        assert_eq!(serde_json::from_str::<Backlog>(text).expect("a backlog"), backlog);
    }
}

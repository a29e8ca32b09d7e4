//! Which events a webhook endpoint gets.

use crate::event::EventKind;
use serde::{Deserialize, Serialize};
use x402_chain::id::{EndpointId, EventId};
use x402_chain::time::UnixMillis;

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
    /// When the service has disabled it, the last time: it gets nothing of what happens from then on. None: it never has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled_at: Option<UnixMillis>,
    /// When its tenant has made it active again after that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_at: Option<UnixMillis>,
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

    /// Whether the endpoint gets an event: one of a type that it wants, that has happened since it was made, and not while
    /// it was disabled. When that is found out does not matter.
    #[must_use]
    pub fn hears(&self, event: EventId, kind: &str) -> bool {
        let at = event.created_at();
        let is_active = |until: Option<UnixMillis>| until.is_some_and(|until| at >= until);
        let was_on = self.disabled_at.is_none_or(|from| at < from || is_active(self.active_at));
        at >= self.id.created_at() && was_on && self.wants(kind)
    }

    /// Whether the endpoint is disabled.
    #[must_use]
    pub const fn is_disabled(&self) -> bool {
        self.disabled_at.is_some() && self.active_at.is_none()
    }
}

/// Which of the endpoints that were loaded have missed events, after those that were known before, and since when: one that
/// is new since its creation, one that was disabled since it is active again.
#[must_use]
pub fn behind(loaded: &[WebhookSubscription], before: &[WebhookSubscription]) -> Vec<(EndpointId, UnixMillis)> {
    let since = |one: &WebhookSubscription| match before.iter().find(|known| known.id == one.id) {
        None => Some(one.id.created_at()),
        Some(known) if known.is_disabled() => one.active_at,
        Some(_) => None,
    };
    loaded.iter().filter_map(|one| Some((one.id, since(one)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::slice::from_ref;
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
            disabled_at: None,
            active_at: None,
        };
        assert!(of(&[]).wants("payment.finalized"));
        assert!(of(&["payment.*"]).wants("payment.finalized"));
        assert!(of(&["quota.reset", "payment.finalized"]).wants("payment.finalized"));
        assert!(!of(&["payment.*"]).wants("paymentfinalized"));
        assert!(!of(&["payment.final"]).wants("payment.finalized"));
    }

    /// An endpoint of the time 10, as the directory says it is.
    fn loaded(disabled_at: Option<u64>, active_at: Option<u64>) -> WebhookSubscription {
        WebhookSubscription {
            id: EndpointId::new(UnixMillis(10), [0; 10]),
            events: Vec::new(),
            disabled_at: disabled_at.map(UnixMillis),
            active_at: active_at.map(UnixMillis),
        }
    }

    #[track_caller]
    fn check_heard(one: &WebhookSubscription, wanted: [bool; 6]) {
        let hears = |at| one.hears(EventId::new(UnixMillis(at), [0; 10]), "payment.finalized");
        assert_eq!([9, 10, 19, 20, 29, 30].map(hears), wanted);
    }

    #[test]
    fn an_endpoint_hears_what_happens_from_its_creation_on_but_not_while_it_is_disabled() {
        check_heard(&loaded(None, None), [false, true, true, true, true, true]);
        check_heard(&loaded(None, Some(25)), [false, true, true, true, true, true]);
        check_heard(&loaded(Some(20), None), [false, true, true, false, false, false]);
        check_heard(&loaded(Some(20), Some(30)), [false, true, true, false, false, true]);
    }

    #[test]
    fn an_endpoint_has_missed_what_happens_before_its_ledger_knows_it_or_that_it_is_active_again() {
        let [never, disabled, again] = [loaded(None, None), loaded(Some(20), None), loaded(Some(20), Some(30))];
        let since = |one: &WebhookSubscription, before: &[WebhookSubscription]| {
            behind(from_ref(one), before).first().map(|(_, since)| since.0)
        };
        for one in [&never, &disabled, &again] {
            assert_eq!(since(one, &[]), Some(10));
            assert_eq!(since(one, from_ref(one)), None);
        }
        assert_eq!(since(&again, from_ref(&disabled)), Some(30));
        // It was heard while it was disabled; nothing is missed.
        assert_eq!(since(&again, from_ref(&never)), None);
        assert_eq!(since(&disabled, from_ref(&never)), None);
    }

    #[test]
    fn an_endpoint_is_stored_as_before_where_it_was_never_disabled() {
        let one = loaded(None, None);
        let text = format!(r#"{{"id":"{}","events":[]}}"#, one.id);
        assert_eq!(serde_json::to_string(&one).expect("JSON"), text);
        assert_eq!(serde_json::from_str::<WebhookSubscription>(&text).expect("an endpoint"), one);
    }
}

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
    /// When the service has disabled it, the last time: it gets nothing of what happens from then on.
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

    /// The endpoint as it was loaded, with what was known before of when it was disabled: the directory knows when an
    /// endpoint was changed last, so that of one that is active it does not say since when.
    fn following(self, before: &Self) -> Self {
        let is_over = before.active_at.is_some();
        match (self.disabled_at, before.disabled_at) {
            (Some(_), Some(since)) if !is_over => Self { disabled_at: Some(since), ..self },
            (None, Some(since)) => {
                Self { disabled_at: Some(since), active_at: before.active_at.or(self.active_at), ..self }
            }
            (Some(_), _) => self,
            (None, None) => self.never_disabled(),
        }
    }

    /// An endpoint that was not disabled, as far as is known, says nothing of since when it is active.
    fn never_disabled(self) -> Self {
        if self.disabled_at.is_none() { Self { active_at: None, ..self } } else { self }
    }
}

/// The endpoints as they were loaded, after those that were known before, and which of them are new.
#[must_use]
pub fn follow(
    loaded: Vec<WebhookSubscription>,
    before: &[WebhookSubscription],
) -> (Vec<WebhookSubscription>, Vec<EndpointId>) {
    let mut new = Vec::new();
    let mut follow_one = |one: WebhookSubscription| match before.iter().find(|known| known.id == one.id) {
        Some(known) => one.following(known),
        None => {
            new.push(one.id);
            one.never_disabled()
        }
    };
    let endpoints = loaded.into_iter().map(&mut follow_one).collect();
    (endpoints, new)
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
    fn when_an_endpoint_was_disabled_is_kept_from_one_loading_to_the_next() {
        let step = |before: WebhookSubscription, next: WebhookSubscription| {
            let (mut after, new) = follow(vec![next], &[before]);
            assert_eq!(new, []);
            after.pop().expect("one")
        };
        // What is changed of it meanwhile does not say when it was disabled, nor since when it is active.
        let disabled = step(step(loaded(None, Some(12)), loaded(Some(20), None)), loaded(Some(27), None));
        assert_eq!(disabled, loaded(Some(20), None));
        let active = step(step(disabled, loaded(None, Some(30))), loaded(None, Some(40)));
        assert_eq!(active, loaded(Some(20), Some(30)));
        assert_eq!(step(active, loaded(Some(50), None)), loaded(Some(50), None));
        let (after, new) = follow(vec![loaded(None, Some(12))], &[]);
        assert_eq!((&after[..], &new[..]), (&[loaded(None, None)][..], &[after[0].id][..]));
        assert_eq!(step(after[0].clone(), loaded(None, Some(14))), after[0]);
    }

    #[test]
    fn an_endpoint_is_stored_as_before_where_it_was_never_disabled() {
        let one = loaded(None, None);
        let text = format!(r#"{{"id":"{}","events":[]}}"#, one.id);
        assert_eq!(serde_json::to_string(&one).expect("JSON"), text);
        assert_eq!(serde_json::from_str::<WebhookSubscription>(&text).expect("an endpoint"), one);
    }
}

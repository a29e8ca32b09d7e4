//! Which events a webhook endpoint gets.

use crate::event::EventKind;
use serde::{Deserialize, Serialize};
use x402_chain::id::{EndpointId, EventId};
use x402_chain::time::UnixMillis;

/// The most endpoints of a tenant in one environment.
pub const ENDPOINTS_MAX: u64 = 10;
/// The most types and families that an endpoint names.
pub const EVENTS_MAX: usize = 50;
/// How far the clocks of two machines may be apart, as long as none of them is wrong.
const CLOCKS_MS: u64 = 60_000;

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
    /// When it was disabled the time before that, and made active again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earlier: Option<(UnixMillis, UnixMillis)>,
    /// Since when it counts as made. None: since the time in its id, as long as the clock that gave it was not ahead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_at: Option<UnixMillis>,
}

impl WebhookSubscription {
    /// Since when it counts as made.
    fn begins_at(&self) -> UnixMillis {
        self.made_at.unwrap_or_else(|| self.id.created_at())
    }

    /// When it was made active again after it was disabled at a time; `None` where it is not known to be.
    fn end_of(&self, disabled_at: UnixMillis) -> Option<UnixMillis> {
        let last = self.disabled_at.zip(self.active_at);
        [last, self.earlier].into_iter().flatten().find(|(from, _)| *from == disabled_at).map(|(_, until)| until)
    }

    /// Whether it is disabled since that time.
    fn is_disabled_since(&self, disabled_at: UnixMillis) -> bool {
        self.is_disabled() && self.disabled_at == Some(disabled_at)
    }

    /// The same, with beginnings of the future brought back: a clock that was ahead gave them, and what happens is to be heard
    /// now. Where it was ahead by more than clocks ever are, they were at some time of the last minute, since endpoints are loaded
    /// each minute.
    fn heeding(mut self, now: UnixMillis) -> Self {
        let back = |at: UnixMillis| {
            let is_wrong = at > now.plus(CLOCKS_MS);
            if is_wrong { UnixMillis(now.0.saturating_sub(CLOCKS_MS)) } else { at.min(now) }
        };
        if self.begins_at() > now {
            self.made_at = Some(back(self.begins_at()));
        }
        let end = |from: UnixMillis, until: UnixMillis| back(until).max(from).min(until);
        self.active_at = self.active_at.map(|until| end(self.disabled_at.unwrap_or_default(), until));
        self.earlier = self.earlier.map(|(from, until)| (from, end(from, until)));
        self
    }

    /// What is known of it by what was known before: times that were brought back stay so.
    fn known_by(mut self, before: &Self) -> Self {
        let sooner = |from: UnixMillis, until: UnixMillis| before.end_of(from).map_or(until, |known| until.min(known));
        self.made_at = before.made_at;
        self.active_at = self.active_at.map(|until| self.disabled_at.map_or(until, |from| sooner(from, until)));
        self.earlier = self.earlier.map(|(from, until)| (from, sooner(from, until)));
        self
    }
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
        let was_on_before = self.earlier.is_none_or(|(from, until)| at < from || at >= until);
        at >= self.begins_at() && was_on && was_on_before && self.wants(kind)
    }

    /// Whether the endpoint is disabled.
    #[must_use]
    pub const fn is_disabled(&self) -> bool {
        self.disabled_at.is_some() && self.active_at.is_none()
    }
}

/// Endpoints that were loaded, as they are kept after those that were known before. Where the clock that has made one, or made
/// it active, was ahead, it hears what happens from now on, and what has lately.
#[must_use]
pub fn learned(
    loaded: Vec<WebhookSubscription>,
    before: &[WebhookSubscription],
    now: UnixMillis,
) -> Vec<WebhookSubscription> {
    let learn = |one: WebhookSubscription| match before.iter().find(|known| known.id == one.id) {
        Some(known) => one.known_by(known).heeding(now),
        None => one.heeding(now),
    };
    loaded.into_iter().map(learn).collect()
}

/// Which of the endpoints that were loaded have missed events, after those that were known before, and since when: one that
/// is new since its creation, one that was disabled since it was active again, also where it is disabled once more by now.
/// Where that was more than once, all since then is looked through: when it was active is known of the last two times.
#[must_use]
pub fn behind(loaded: &[WebhookSubscription], before: &[WebhookSubscription]) -> Vec<(EndpointId, UnixMillis)> {
    let since = |one: &WebhookSubscription| match before.iter().find(|known| known.id == one.id) {
        None => Some(one.begins_at()),
        Some(known) => {
            let from = known.disabled_at.filter(|from| known.is_disabled() && !one.is_disabled_since(*from))?;
            Some(one.end_of(from).unwrap_or(from))
        }
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
            earlier: None,
            made_at: None,
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
            earlier: None,
            made_at: None,
        }
    }

    /// The same, disabled from one time to another before that.
    fn after(earlier: (u64, u64), one: WebhookSubscription) -> WebhookSubscription {
        WebhookSubscription { earlier: Some((UnixMillis(earlier.0), UnixMillis(earlier.1))), ..one }
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
        check_heard(&after((10, 19), loaded(Some(30), None)), [false, false, true, true, true, false]);
        check_heard(&after((10, 19), loaded(Some(20), Some(29))), [false, false, true, false, true, true]);
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
    fn an_endpoint_that_is_disabled_again_has_missed_what_happened_while_it_was_active() {
        let known = loaded(Some(20), None);
        let since =
            |one: &WebhookSubscription| behind(from_ref(one), from_ref(&known)).first().map(|(_, since)| since.0);
        assert_eq!(since(&after((20, 25), loaded(Some(30), None))), Some(25));
        assert_eq!(since(&after((20, 25), loaded(Some(30), Some(35)))), Some(25));
        // When it was active the first time is not known any more, nor by a directory of the release before.
        assert_eq!(since(&after((30, 35), loaded(Some(40), None))), Some(20));
        assert_eq!(since(&loaded(Some(30), None)), Some(20));
    }

    #[test]
    fn a_clock_that_was_ahead_keeps_no_endpoint_from_what_happens_now() {
        let (hour, now) = (3_600_000, 10_000_000);
        let ahead = now + hour;
        let made = WebhookSubscription { id: EndpointId::new(UnixMillis(ahead), [0; 10]), ..loaded(None, None) };
        let again = loaded(Some(now - 5), Some(ahead));
        let hears =
            |one: &WebhookSubscription, at| one.hears(EventId::new(UnixMillis(at), [0; 10]), "payment.finalized");
        assert!(!hears(&made, now) && !hears(&again, now));
        let known = learned(vec![made.clone(), again.clone()], &[], UnixMillis(now));
        assert!(hears(&known[0], now - CLOCKS_MS) && !hears(&known[0], now - CLOCKS_MS - 1));
        assert!(hears(&known[1], now - 5) && hears(&known[1], now));
        // It stays so when they are loaded once more, and the clocks of the others do as well.
        let later = UnixMillis(ahead + hour);
        assert_eq!(learned(vec![made, again], &known, later), known);
        let right = vec![loaded(None, None), after((20, 25), loaded(Some(30), Some(35)))];
        assert_eq!(learned(right.clone(), &right, UnixMillis(now)), right);
        // Clocks that differ as they always do bring back nothing that was before.
        let lately = WebhookSubscription { id: EndpointId::new(UnixMillis(now + 9), [0; 10]), ..loaded(None, None) };
        let lately = learned(vec![lately], &[], UnixMillis(now));
        assert!(hears(&lately[0], now) && !hears(&lately[0], now - 1));
        // Disabled once more, before that time.
        let once_more = learned(vec![after((now - 5, ahead), loaded(Some(now + 9), None))], &known, later);
        assert!(hears(&once_more[0], now + 8) && !hears(&once_more[0], now + 9));
    }

    #[test]
    fn an_endpoint_is_stored_as_before_where_it_was_never_disabled() {
        let one = loaded(None, None);
        let text = format!(r#"{{"id":"{}","events":[]}}"#, one.id);
        assert_eq!(serde_json::to_string(&one).expect("JSON"), text);
        assert_eq!(serde_json::from_str::<WebhookSubscription>(&text).expect("an endpoint"), one);
    }
}

//! `GET /v1/events`: what has happened to the tenant's payments and to the tenant.

use crate::body::invalid;
use serde::Serialize;
use serde_json::value::RawValue;
use x402_chain::address::{Address, Family, hex_bytes};
use x402_chain::id::{EventId, SettlementId, VerificationId};
use x402_chain::network::Environment;
use x402_chain::time::UnixMillis;
use x402_core::error::Fault;
use x402_core::event::EventKind;
use x402_core::records::events::EventCopy;

/// The longest subject by which events are filtered.
pub const SUBJECT_BYTES_MAX: usize = 100;

/// An event.
#[derive(Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct EventView {
    /// The event's id, `evt_…`.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(with = "String"))]
    pub id: EventId,
    /// What has happened, such as `payment.finalized`.
    #[serde(rename = "type")]
    pub kind: String,
    /// When, RFC 3339.
    pub created_at: String,
    /// Whether it belongs to live or to test payments.
    pub environment: Environment,
    /// What it is about: the verification, the settlement, the month of a quota, or what was changed.
    pub subject: String,
    /// The verification, the settlement, the use of the quota or the change, as it was then. The schema by type is in
    /// `webhooks` of the OpenAPI document.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(with = "serde_json::Map<String, serde_json::Value>"))]
    pub data: Box<RawValue>,
}

impl EventView {
    /// An event as it is answered.
    #[must_use]
    pub fn of(event: EventCopy, environment: Environment) -> Self {
        let EventCopy { id, kind, subject, body, at, derived: _ } = event;
        Self { id, kind, created_at: at.rfc3339(), environment, subject, data: body }
    }
}

/// The data of an event about a change of the tenant, as the directory writes them.
#[cfg(not(target_arch = "wasm32"))]
#[derive(Debug, Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct TenantChange {
    /// What was done, as in the audit log.
    pub action: String,
    /// To whom or to what: an id or a recipient's address. No address of a person stands in an event: in its place is the
    /// id of the audit log's entry.
    pub subject: String,
    /// The new value; `null` where there is none.
    pub detail: Option<String>,
    /// Who made the change.
    pub actor_kind: x402_core::audit::ActorKind,
    /// The person, `per_…`; the key, `key_…`; or `operator` or `system`.
    pub actor: String,
}

/// Which events are listed; an absent member does not filter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Their kinds; none: all kinds.
    pub kinds: Vec<EventKind>,
    /// What they are about.
    pub subject: Option<String>,
    /// Only events then or later.
    pub from: Option<UnixMillis>,
    /// Only events before.
    pub to: Option<UnixMillis>,
}

impl EventFilter {
    /// The least id that is listed; `None`: there is none. Nothing happens to a verification or a settlement before it is
    /// made.
    #[must_use]
    pub fn least_id(&self) -> Option<EventId> {
        let made = |text: &String| {
            let verification = || VerificationId::parse(text).map(VerificationId::created_at);
            SettlementId::parse(text).map(SettlementId::created_at).or_else(verification)
        };
        let since = self.subject.as_ref().and_then(made);
        self.from.max(since).map(|from| EventId::new(from, [0; 10]))
    }
}

/// Reads `type`, `subject`, `from` and `to` of a query string; `environment` and a page's parameters are read apart. Any other is
/// refused: whoever has mistyped a filter is not answered everything.
///
/// # Errors
/// `INVALID_REQUEST`, naming the parameter.
pub fn read_event_filter(query: &str) -> Result<EventFilter, Fault> {
    let mut filter = EventFilter::default();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match name.as_ref() {
            "type" => {
                for text in value.split(',') {
                    filter.kinds.extend(kinds_of(text)?);
                }
            }
            "subject" if (1..=SUBJECT_BYTES_MAX).contains(&value.len()) => filter.subject = Some(read_subject(&value)?),
            "subject" => return Err(invalid("subject", &format!("must have 1 to {SUBJECT_BYTES_MAX} bytes"))),
            "from" => filter.from = Some(read_time("from", &value)?),
            "to" => filter.to = Some(read_time("to", &value)?),
            "environment" | "limit" | "cursor" => {}
            other => return Err(invalid(other, "is no parameter of events")),
        }
    }
    filter.kinds.sort_unstable();
    filter.kinds.dedup();
    check_range(filter.from, filter.to)?;
    Ok(filter)
}

/// A subject as events name it: an EVM address has its checksum, however it is written.
fn read_subject(text: &str) -> Result<String, Fault> {
    if hex_bytes::<20>(text).is_none() {
        return Ok(text.to_owned());
    }
    let address = Address::parse(Family::Evm, text);
    Ok(address.ok_or_else(|| invalid("subject", "is an address whose checksum is wrong"))?.to_string())
}

/// Checks that a range does not end before it begins.
///
/// # Errors
/// `INVALID_REQUEST`, naming `to`.
pub(crate) fn check_range(from: Option<UnixMillis>, to: Option<UnixMillis>) -> Result<(), Fault> {
    match from.zip(to) {
        Some((from, to)) if from > to => Err(invalid("to", "must not be before 'from'")),
        Some(_) | None => Ok(()),
    }
}

/// The kinds that a name stands for: one, or with `.*` at its end all of a family.
fn kinds_of(text: &str) -> Result<Vec<EventKind>, Fault> {
    let is_named = |kind: &&EventKind| match text.strip_suffix('*').filter(|family| family.ends_with('.')) {
        Some(family) => kind.name().starts_with(family),
        None => kind.name() == text,
    };
    let found: Vec<EventKind> = EventKind::ALL.iter().filter(is_named).copied().collect();
    if found.is_empty() {
        return Err(invalid(
            "type",
            "must name types of events, as payment.finalized or payment.*, separated by commas",
        ));
    }
    Ok(found)
}

/// Reads a time of a query string.
///
/// # Errors
/// `INVALID_REQUEST`, naming the parameter.
pub(crate) fn read_time(name: &'static str, text: &str) -> Result<UnixMillis, Fault> {
    UnixMillis::parse(text).ok_or_else(|| invalid(name, "must be a time in RFC 3339, as 2026-11-30T00:00:00Z"))
}

/// Reads `environment` of a query string. `own`: the environment of the request's key, which reads no other.
///
/// # Errors
/// `INVALID_REQUEST`, naming the parameter.
pub fn read_environment(query: &str, own: Option<Environment>) -> Result<Environment, Fault> {
    let named = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "environment");
    let Some((_, text)) = named else { return Ok(own.unwrap_or(Environment::Live)) };
    let wanted = Environment::parse(&text).ok_or_else(|| invalid("environment", "must be 'live' or 'test'"))?;
    match own {
        Some(own) if own != wanted => Err(invalid("environment", "must be that of the key")),
        Some(_) | None => Ok(wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read_or_their_fault_named() {
        let read = |query: &str| read_event_filter(query);
        assert_eq!(read("limit=3&cursor=x&environment=test"), Ok(EventFilter::default()));
        let found =
            read("type=quota.*,payment.finalized&subject=2026-11&from=1970-01-01T00:00:01Z&to=1970-01-01T00:00:02Z");
        let kinds =
            vec![EventKind::PaymentFinalized, EventKind::QuotaWarning, EventKind::QuotaExceeded, EventKind::QuotaReset];
        let (from, to) = (Some(UnixMillis(1_000)), Some(UnixMillis(2_000)));
        assert_eq!(found, Ok(EventFilter { kinds, subject: Some("2026-11".to_owned()), from, to }));
        let twice = read("type=payment.finalized,payment.finalized&type=payment.finalized").expect("reads");
        assert_eq!(twice.kinds, [EventKind::PaymentFinalized]);
        let long = format!("subject={}", "x".repeat(101));
        for (query, param) in [
            ("type=", "type"),
            ("type=payment", "type"),
            ("type=*", "type"),
            ("type=.*", "type"),
            ("type=payment.*,", "type"),
            ("type=payment.final*", "type"),
            ("subject=", "subject"),
            (&long, "subject"),
            ("from=today", "from"),
            ("to=1", "to"),
            ("types=payment.*", "types"),
            ("Type=payment.*", "Type"),
            ("from=1970-01-01T00:00:02Z&to=1970-01-01T00:00:01Z", "to"),
            ("subject=0xF39Fd6e51aad88F6F4ce6aB8827279cffFb92266", "subject"),
        ] {
            assert_eq!(read(query).expect_err(query).param.as_deref(), Some(param), "{query}");
        }
    }

    #[test]
    fn an_address_is_found_in_any_case() {
        let written = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";
        let upper = format!("0X{}", written[2..].to_uppercase());
        for text in [written, &written.to_lowercase(), &upper] {
            let found = read_event_filter(&format!("subject={text}")).expect("reads").subject;
            assert_eq!(found.as_deref(), Some(written));
        }
        let solana = "4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU";
        assert_eq!(read_event_filter(&format!("subject={solana}")).expect("reads").subject.as_deref(), Some(solana));
    }

    #[test]
    fn nothing_happens_before_its_subject() {
        let at = UnixMillis(1_795_910_400_000);
        let least = |subject: String, from: Option<u64>| {
            let filter = EventFilter { subject: Some(subject), from: from.map(UnixMillis), ..EventFilter::default() };
            filter.least_id().map(EventId::created_at)
        };
        assert_eq!(least(VerificationId::new(at, [9; 10]).to_string(), None), Some(at));
        assert_eq!(least(SettlementId::new(at, [9; 10]).to_string(), Some(1)), Some(at));
        assert_eq!(least(SettlementId::new(at, [9; 10]).to_string(), Some(at.0 + 1)), Some(at.plus(1)));
        assert_eq!(least("2026-11".to_owned(), None), None);
    }

    #[test]
    fn a_key_reads_its_own_environment() {
        let read = |query, own| read_environment(query, own).ok();
        assert_eq!(read("", None), Some(Environment::Live));
        assert_eq!(read("environment=test", None), Some(Environment::Test));
        assert_eq!(read("a=b", Some(Environment::Test)), Some(Environment::Test));
        assert_eq!(read("environment=test", Some(Environment::Test)), Some(Environment::Test));
        assert_eq!(read("environment=live", Some(Environment::Test)), None);
        assert_eq!(read("environment=all", None), None);
    }
}

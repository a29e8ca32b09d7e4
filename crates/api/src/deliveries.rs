//! `/v1/webhook-endpoints/{id}/deliveries`: what has become of the events for an endpoint.

use crate::body::{invalid, parse_body, variant};
use serde::{Deserialize, Serialize};
use x402_chain::time::UnixMillis;
use x402_core::error::{ErrorCode, Fault};
use x402_core::event::EventKind;
use x402_core::webhook::delivery::{AttemptRecord, DeliveryRecord, DeliveryState, DeliverySummary};
use x402_core::webhook::trial::TESTS_MAX;

/// A delivery of an event.
#[derive(Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct DeliveryView {
    /// The event's id, `evt_…`, which the message has as `webhook-id`.
    pub event_id: String,
    /// What has happened, such as `payment.finalized`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it is about.
    pub subject: String,
    /// What has become of it.
    pub status: DeliveryState,
    /// How often it was sent.
    pub attempts: u64,
    /// When it is sent next, RFC 3339, if the endpoint is sent anything then; `null` where it has ended, or comes after another
    /// event of its subject.
    pub next_attempt_at: Option<String>,
    /// When it ended, RFC 3339. It is kept for 30 days from then on, or until the endpoint's deliveries are too many.
    pub ended_at: Option<String>,
}

impl From<DeliverySummary> for DeliveryView {
    fn from(summary: DeliverySummary) -> Self {
        let DeliverySummary { event, kind, subject, state: status, attempts, next_at, ended_at } = summary;
        let [next_attempt_at, ended_at] = [next_at, ended_at].map(|at| at.map(UnixMillis::rfc3339));
        Self { event_id: event.to_string(), kind, subject, status, attempts, next_attempt_at, ended_at }
    }
}

/// One attempt of a delivery.
#[derive(Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct AttemptView {
    /// When it began, RFC 3339.
    pub at: String,
    /// How long it took; `null` while it goes on, and where it was cut off.
    pub duration_ms: Option<u64>,
    /// The HTTP status of the answer; `null` where there was none.
    pub http_status: Option<u16>,
    /// Why there was no answer: `timed_out`, `unreachable`, or `refused` where the URL leads to no public address.
    pub failure: Option<String>,
    /// The first bytes of the answer, 512 at most, as text.
    pub answer_head: String,
}

impl From<AttemptRecord> for AttemptView {
    fn from(attempt: AttemptRecord) -> Self {
        let AttemptRecord { at, duration_ms, status: http_status, failure, head: answer_head } = attempt;
        Self { at: at.rfc3339(), duration_ms, http_status, failure, answer_head }
    }
}

/// A delivery with its attempts.
#[derive(Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct DeliveryAlone {
    /// The delivery.
    pub delivery: DeliveryView,
    /// Its attempts, the oldest first; of more than 100 the newest.
    pub attempts: Vec<AttemptView>,
}

impl From<DeliveryRecord> for DeliveryAlone {
    fn from(record: DeliveryRecord) -> Self {
        Self { delivery: record.summary.into(), attempts: record.attempts.into_iter().map(AttemptView::from).collect() }
    }
}

/// How many events are sent again. Of many, some are sent while others wait for their turn.
#[derive(Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Redelivered {
    /// So many.
    pub redelivered: u64,
}

/// The body of `POST /v1/webhook-endpoints/{id}/redeliver`.
#[derive(Debug, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RedeliverBody {
    /// Events of this time and later that are `exhausted` are sent again, RFC 3339.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(extend("format" = "date-time")))]
    pub since: String,
}

/// Reads the body of `POST /v1/webhook-endpoints/{id}/redeliver`.
///
/// # Errors
/// `INVALID_JSON`, `INVALID_REQUEST`.
pub fn redeliver_since(body: &[u8]) -> Result<UnixMillis, Fault> {
    let RedeliverBody { since } = parse_body(body)?;
    UnixMillis::parse(&since).ok_or_else(|| invalid("since", "must be a time in RFC 3339, as 2026-11-30T00:00:00Z"))
}

/// The body of `POST /v1/webhook-endpoints/{id}/test`.
#[derive(Debug, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TestBody {
    /// Which example is sent. The endpoint gets it also where it wants no events of this type.
    #[serde(rename = "type", deserialize_with = "variant")]
    pub kind: EventKind,
}

/// Reads the body of `POST /v1/webhook-endpoints/{id}/test`.
///
/// # Errors
/// `INVALID_JSON`, `INVALID_REQUEST`.
pub fn test_kind(body: &[u8]) -> Result<EventKind, Fault> {
    parse_body(body).map(|TestBody { kind }| kind)
}

/// `RATE_LIMITED`: the endpoint was sent as many test events as it gets in a minute.
#[must_use]
pub fn too_many_tests() -> Fault {
    Fault::new(ErrorCode::RateLimited, format!("an endpoint is sent {TESTS_MAX} test events a minute"))
}

/// A test event that is on its way.
#[derive(Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct TestSent {
    /// The event's id, by which its delivery is read. The test event is in no list of events.
    pub event_id: String,
}

/// Reads `status` of a query string. Other parameters are ignored.
///
/// # Errors
/// `INVALID_REQUEST`, naming the parameter.
pub fn read_state(query: &str) -> Result<Option<DeliveryState>, Fault> {
    let named = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "status");
    let Some((_, text)) = named else { return Ok(None) };
    let wrong = || invalid("status", "must be 'waiting', 'delivered' or 'exhausted'");
    DeliveryState::parse(&text).map(Some).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_and_filters_are_read_or_their_fault_named() {
        assert_eq!(redeliver_since(br#"{"since":"1970-01-01T00:00:01Z"}"#), Ok(UnixMillis(1_000)));
        assert_eq!(redeliver_since(br#"{"since":"today"}"#).expect_err("no time").param.as_deref(), Some("since"));
        assert_eq!(test_kind(br#"{"type":"quota.reset"}"#), Ok(EventKind::QuotaReset));
        assert_eq!(test_kind(br#"{"type":"quota"}"#).expect_err("no type").param.as_deref(), Some("type"));
        assert_eq!(read_state("limit=3"), Ok(None));
        assert_eq!(read_state("status=exhausted"), Ok(Some(DeliveryState::Exhausted)));
        assert_eq!(read_state("status=").expect_err("no status").param.as_deref(), Some("status"));
    }
}

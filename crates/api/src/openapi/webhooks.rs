//! The part `webhooks` of the OpenAPI document: the message of each kind of event, with an example; generated from the table
//! of kinds. The page about events shows the same examples.

use super::of;
use crate::events::TenantChange;
use schemars::SchemaGenerator;
use serde_json::{Map, Value, json};
use x402_core::event::{EventKind, EventSubject};
use x402_core::settlement::status::Settlement;
use x402_core::tenancy::quota::QuotaUse;
use x402_core::verification::answer::VerificationAnswer;

/// When the examples happen.
const AT: &str = "2026-11-30T09:00:00.000Z";
const VERIFICATION: &str = "ver_01M8Q00000QRM9Z0VZ5XA2X6YK";
const SETTLEMENT: &str = "stl_01M8Q00000V2J5W3E9N4T7K8RB";
const REQUEST: &str = "req_01M8Q00000C5P0J4W8Y2T6M3ZD";
const EVENT: &str = "evt_01M8Q00000H4X7D2S9F6B3QK0A";
const HASH: &str = "0x5a1c5ac2a1b7ba20cc3b1ce9fb1fcf5d0f6ba3a1b6f3bfb6cbb05a4ee1b6a6d1";
const BLOCK: &str = "0x8f1e2d3c4b5a69788796a5b4c3d2e1f00112233445566778899aabbccddeeff0";
const SELLER: &str = "0x209693Bc6afc0C5328bA36FaF03C514EF312287C";
const BUYER: &str = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8";
const USDC: &str = "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913";

/// All messages.
pub(super) fn webhooks(make: &mut SchemaGenerator) -> Value {
    let all = EventKind::ALL.iter().map(|kind| (kind.name().to_owned(), json!({"post": message(*kind, make)})));
    Value::Object(all.collect::<Map<String, Value>>())
}

fn message(kind: EventKind, make: &mut SchemaGenerator) -> Value {
    let data = match kind.subject() {
        EventSubject::Verification => of::<VerificationAnswer>(make),
        EventSubject::Settlement => of::<Settlement>(make),
        EventSubject::Quota => of::<QuotaUse>(make),
        EventSubject::Change => of::<TenantChange>(make),
    };
    let schema = json!({
        "type": "object", "required": ["type", "timestamp", "data"],
        "properties": {
            "type": {"const": kind.name()},
            "timestamp": {"type": "string", "format": "date-time", "description": "When it has happened."},
            "data": data,
            "test": {"const": true, "description": "Only in a test event, whose data are an example."}
        }
    });
    let (_, data) = sample(kind);
    let example = json!({"type": kind.name(), "timestamp": AT, "data": data});
    json!({
        "operationId": format!("on{kind:?}"), "summary": kind.doc(), "tags": ["Events"],
        "requestBody": {"required": true, "content": {"application/json": {"schema": schema, "example": example}}},
        "responses": {"2XX": {"description": "Received."}}
    })
}

/// An event of a kind, as `GET /v1/events/{id}` answers it.
#[must_use]
pub fn example(kind: EventKind) -> Value {
    let (subject, data) = sample(kind);
    json!({"id": EVENT, "type": kind.name(), "created_at": AT, "environment": "live", "subject": subject, "data": data})
}

/// A subject of a kind, and data.
fn sample(kind: EventKind) -> (&'static str, Value) {
    match kind {
        EventKind::VerificationSucceeded | EventKind::PaymentRestored => (VERIFICATION, verification("confirmed")),
        EventKind::VerificationFailed => (VERIFICATION, refused()),
        EventKind::PaymentFinalized => (VERIFICATION, verification("finalized")),
        EventKind::PaymentReorged => (VERIFICATION, verification("reorged")),
        EventKind::SettlementPending => (SETTLEMENT, settlement("pending")),
        EventKind::SettlementSucceeded | EventKind::SettlementUndelivered => (SETTLEMENT, settlement("completed")),
        EventKind::SettlementFailed => (SETTLEMENT, settlement("failed")),
        EventKind::QuotaWarning => quota(800),
        EventKind::QuotaExceeded => quota(1_000),
        EventKind::QuotaReset => quota(0),
        EventKind::KeyCreated | EventKind::KeyRevoked => change(kind, "key_01M8Q00000T3R8V5N2W7J4XK9C", Some("live")),
        EventKind::KeyRotated => change(kind, "key_01M8Q00000T3R8V5N2W7J4XK9C", Some("key_01M8Q00000Z6B1M4K8D3S5H2EW")),
        EventKind::KeyExpiring => change_by_service(kind, "key_01M8Q00000T3R8V5N2W7J4XK9C", "2026-12-07T09:00:00.000Z"),
        EventKind::RecipientAdded => change(kind, SELLER, Some("base")),
        EventKind::RecipientRetired => change(kind, SELLER, None),
        EventKind::MemberInvited => change(kind, "aud_01M8Q00000H4X7D2S9F6B3QK0A", Some("viewer")),
        EventKind::MemberJoined => change(kind, "per_01M8Q00000G7Y4C1V6N9P2RB3X", Some("viewer")),
        EventKind::MemberRemoved => change(kind, "per_01M8Q00000G7Y4C1V6N9P2RB3X", None),
        EventKind::EndpointDisabled => change_by_service(kind, "whe_01M8Q00000K9C2W5T8R1J6D3ZB", "failing"),
        EventKind::SubscriptionUpdated => change_by_service(kind, "sub_1SampleSubscription", "active pro"),
        EventKind::TenantUpdated => change(kind, "ten_01a22830e24a3a1f7b1ccee9", Some("company_name")),
    }
}

fn quota(used: u64) -> (&'static str, Value) {
    ("2026-11", json!({"period": "2026-11", "used": used, "limit": 1_000}))
}

fn change(kind: EventKind, subject: &'static str, detail: Option<&str>) -> (&'static str, Value) {
    let actor = "per_01M8Q00000M5E2X8T1D7K4WZ6S";
    let data =
        json!({"action": kind.name(), "subject": subject, "detail": detail, "actor_kind": "person", "actor": actor});
    (subject, data)
}

fn change_by_service(kind: EventKind, subject: &'static str, detail: &str) -> (&'static str, Value) {
    let (action, by) = (kind.name(), "system");
    (subject, json!({"action": action, "subject": subject, "detail": detail, "actor_kind": by, "actor": by}))
}

fn verification(status: &str) -> Value {
    let is_paid = status != "reorged";
    let confirmations = match status {
        "finalized" => 900,
        "reorged" => 0,
        _ => 3,
    };
    json!({
        "id": VERIFICATION, "request_id": REQUEST, "success": is_paid, "status": status, "tx_hash": HASH,
        "chain": "base", "network": "eip155:8453", "amount_usdc": "1.500000", "amount": "1500000", "asset": USDC,
        "from_address": BUYER, "to_address": SELLER,
        "transfers": [{"log_index": 7, "payer": BUYER, "amount": "1500000"}], "payers": [BUYER], "overpaid": "0",
        "confirmations": confirmations, "block_number": 38_400_000, "block_hash": BLOCK,
        "block_time": "2026-11-30T08:59:57.000Z", "finality": is_paid.then_some(status), "binding": "none",
        "claimed": true, "claimed_by": null, "reference": "order 17", "replayed": false, "risk_score": 0.1,
        "risk_level": "low", "risk_factors": [{"code": "new_payer", "weight": 0.1, "detail": "The first payment."}],
        "checks": [{"name": "amount", "passed": true, "detail": "1500000 of 1500000"}],
        "error": null, "error_code": null, "retry": null
    })
}

fn refused() -> Value {
    let (found, wanted) = ("1500000", "2000000");
    let error = format!("{found} of {wanted} atomic units were paid");
    let mut record = verification("rejected");
    let changed = json!({
        "success": false, "finality": "confirmed", "overpaid": null, "claimed": false,
        "checks": [{"name": "amount", "passed": false, "detail": format!("{found} of {wanted}")}],
        "error": error, "error_code": "AMOUNT_TOO_LOW", "retry": "never"
    });
    if let (Some(record), Value::Object(changed)) = (record.as_object_mut(), changed) {
        record.extend(changed);
    }
    record
}

fn settlement(status: &str) -> Value {
    let is_pending = status == "pending";
    let attempts =
        if is_pending { json!([]) } else { json!([{"transaction": HASH, "at": "2026-11-30T08:59:57.000Z"}]) };
    json!({
        "id": SETTLEMENT, "status": status,
        "reason": (status == "failed").then_some("invalid_exact_evm_transaction_failed"),
        "network": "eip155:8453", "transaction": (!is_pending).then_some(HASH), "payer": BUYER, "pay_to": SELLER,
        "amount": "1500000", "asset": USDC, "created_at": "2026-11-30T08:59:55.000Z",
        "completed_at": (!is_pending).then_some(AT), "attempts": attempts, "handed_over": null
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Serialize;
    use serde::de::DeserializeOwned;
    use x402_chain::id::EventId;

    fn same<T: Serialize + DeserializeOwned>(kind: EventKind, data: &Value) {
        let read: T = serde_json::from_value(data.clone()).unwrap_or_else(|error| panic!("{kind:?}: {error}"));
        assert_eq!(serde_json::to_value(read).expect("JSON"), *data, "{kind:?}");
    }

    #[test]
    fn examples_are_of_the_types_that_are_sent() {
        assert!(EventId::parse(EVENT).is_some());
        for kind in EventKind::ALL {
            let (subject, data) = sample(*kind);
            match kind.subject() {
                EventSubject::Verification => {
                    same::<VerificationAnswer>(*kind, &data);
                    let record: VerificationAnswer = serde_json::from_value(data).expect("a record");
                    assert_eq!(subject, record.id.to_string());
                    assert_eq!(record.status.event() == *kind, kind.name().starts_with("verification."), "{kind:?}");
                }
                EventSubject::Settlement => {
                    same::<Settlement>(*kind, &data);
                    let settlement: Settlement = serde_json::from_value(data).expect("a settlement");
                    let own = settlement.status.event() == *kind || *kind == EventKind::SettlementUndelivered;
                    assert!(own && subject == settlement.id.to_string(), "{kind:?}");
                }
                EventSubject::Quota => same::<QuotaUse>(*kind, &data),
                EventSubject::Change => same::<TenantChange>(*kind, &data),
            }
        }
    }
}

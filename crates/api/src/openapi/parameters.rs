//! The parameters of each route.

use crate::endpoint::{Endpoint, RouteRow};
use crate::export::ExportKind;
use crate::{analytics, events, operators, records};
use serde_json::{Value, json};
use x402_core::audit::AuditAction;
use x402_core::webhook::delivery::DeliveryState;

pub(super) fn parameters(row: &RouteRow) -> Vec<Value> {
    let names = row.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let mut all: Vec<Value> = names
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string", "minLength": 1}}))
        .collect();
    if is_paged(row.endpoint) {
        all.push(json!({"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": records::LIMIT_MAX}}));
        all.push(json!({"name": "cursor", "in": "query", "schema": {"type": "string"}}));
    }
    if row.endpoint == Endpoint::AuditLog {
        let names: Vec<&str> = AuditAction::ALL.iter().map(|action| action.name()).collect();
        all.push(json!({"name": "action", "in": "query", "schema": {"enum": names}}));
        let actor = json!({"type": "string", "pattern": "^(per_|key_)[0-9A-HJKMNP-TV-Z]{26}$|^(operator|system)$"});
        let about = "Only changes by this person, key, `operator` or `system`.";
        all.push(json!({"name": "actor", "in": "query", "description": about, "schema": actor}));
        for (name, about) in [("since", "Only changes then or later."), ("until", "Only changes before.")] {
            let time = json!({"type": "string", "format": "date-time"});
            all.push(json!({"name": name, "in": "query", "description": about, "schema": time}));
        }
        let about = "`csv`: a file of up to 5,000 entries, whatever `limit` is; the header `Link` names the next part.";
        all.push(json!({"name": "format", "in": "query", "description": about, "schema": {"enum": ["json", "csv"]}}));
    }
    all.extend(event_parameters(row.endpoint));
    if row.endpoint == Endpoint::DeliveryList {
        let names = DeliveryState::ALL.map(DeliveryState::name);
        let about = "Only deliveries of which this has become.";
        all.push(json!({"name": "status", "in": "query", "description": about, "schema": {"enum": names}}));
    }
    if row.endpoint == Endpoint::Settlements {
        let text = |name: &str, about: &str| json!({"name": name, "in": "query", "description": about, "schema": {"type": "string", "minLength": 1}});
        all.push(text("network", "CAIP-2, our key, or the protocol's name in version 1. Filters narrow each other."));
        all.push(text("payer", "The address whose tokens move."));
        all.push(text("nonce", "The authorization's nonce (EVM); needs `network` and `payer`."));
        all.push(text("transaction", "Its transaction; several settlements may share one."));
        let about =
            "`true`: those whose success was handed over; `false`: pending and completed ones whose success was not.";
        all.push(json!({"name": "handed_over", "in": "query", "description": about, "schema": {"type": "boolean"}}));
    }
    if matches!(row.endpoint, Endpoint::Verify | Endpoint::FacilitatorSettle) {
        let schema = json!({"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"});
        let about = if row.endpoint == Endpoint::Verify {
            "A final answer repeats byte for byte under it, with `Idempotent-Replayed: true`; for the same body only."
        } else {
            "Names your own attempt, never a value that the buyer can repeat. A final answer repeats byte for byte under \
             it, with `Idempotent-Replayed: true`, a success for 10 minutes; for the same body only."
        };
        all.push(json!({"name": "Idempotency-Key", "in": "header", "description": about, "schema": schema}));
    }
    if row.endpoint == Endpoint::OperatorSearch {
        all.extend(search_parameters());
    }
    if let (Endpoint::IdentityEnd, Some(id)) = (row.endpoint, all.first_mut().and_then(Value::as_object_mut)) {
        id.insert("example".to_owned(), json!("github-583231"));
    }
    all.extend(redirect_parameters(row.endpoint));
    if row.endpoint == Endpoint::ResendWebhook {
        for name in ["svix-id", "svix-timestamp", "svix-signature"] {
            all.push(json!({"name": name, "in": "header", "required": true, "schema": {"type": "string"}}));
        }
    }
    all.extend(billing_parameter(row.endpoint));
    if row.endpoint == Endpoint::FacilitatorSettle {
        let found = "`explain`: the body of a success holds `extra` too; `Preference-Applied` confirms it.";
        all.push(json!({"name": "Prefer", "in": "header", "description": found, "schema": {"type": "string"}}));
    }
    all
}

/// The parameter of a route about billing.
fn billing_parameter(endpoint: Endpoint) -> Option<Value> {
    if endpoint == Endpoint::StripeWebhook {
        let about = "`t=` and seconds since 1970, and `v1=` with HMAC-SHA256 in hex.";
        let schema = json!({"type": "string"});
        Some(
            json!({"name": "Stripe-Signature", "in": "header", "required": true, "description": about, "schema": schema}),
        )
    } else if endpoint == Endpoint::BillingRead {
        let names: Vec<&str> = x402_core::billing::paid_plans().map(|plan| plan.name).collect();
        let about = "`next_invoice` is that of a change to this plan: of a larger one at this moment, else the next.";
        Some(json!({"name": "plan", "in": "query", "description": about, "schema": {"enum": names}}))
    } else if endpoint == Endpoint::BillingPage {
        // Any other value shows the page that says neither: who comes back is never refused.
        let about = "Whether the page to pay on was completed (`done`) or left (`left`).";
        Some(json!({"name": "checkout", "in": "query", "description": about, "schema": {}}))
    } else {
        None
    }
}

/// Whether an endpoint answers pages, by `limit` and `cursor`.
const fn is_paged(endpoint: Endpoint) -> bool {
    matches!(
        endpoint,
        Endpoint::Verifications
            | Endpoint::Settlements
            | Endpoint::TenantList
            | Endpoint::AuditLog
            | Endpoint::EventList
            | Endpoint::BillingInvoices
            | Endpoint::DeliveryList
    )
}

/// The parameters of routes that read what has happened.
fn event_parameters(endpoint: Endpoint) -> Vec<Value> {
    let is_listed = matches!(endpoint, Endpoint::EventList | Endpoint::EventStream);
    if !is_listed && !matches!(endpoint, Endpoint::EventRead | Endpoint::Export | Endpoint::Analytics) {
        return Vec::new();
    }
    let one = |name: &str, about: &str, schema: Value| json!({"name": name, "in": "query", "description": about, "schema": schema});
    let about = if endpoint == Endpoint::Export {
        "For a session: `live` where it is absent, and not with `audit`, which holds both. A key exports its own environment."
    } else {
        "For a session: `live` where it is absent. A key reads its own environment."
    };
    let mut all = vec![one("environment", about, json!({"enum": ["live", "test"]}))];
    if endpoint == Endpoint::Analytics {
        let (default, most) = (analytics::DAYS_DEFAULT, analytics::DAYS_MAX);
        let schema = json!({"type": "integer", "minimum": 1, "maximum": most, "default": default});
        all.push(one("days", "So many days (UTC), the last of which is today.", schema));
    }
    if is_listed {
        let about = "Only events of these types, separated by commas; `payment.*` names all that begin so.";
        all.push(one("type", about, json!({"type": "string", "example": "payment.*,quota.exceeded"})));
        let about = "Only events about this: an id, an address (on EVM in any case of its letters), or a month.";
        all.push(one(
            "subject",
            about,
            json!({"type": "string", "minLength": 1, "maxLength": events::SUBJECT_BYTES_MAX}),
        ));
    }
    if endpoint == Endpoint::EventStream {
        let about = "The id of the last event that you have: the stream goes on after it.";
        let schema = json!({"type": "string"});
        all.push(json!({"name": "Last-Event-ID", "in": "header", "description": about, "schema": schema}));
    }
    if endpoint == Endpoint::Export {
        let kinds: Vec<&str> = ExportKind::ALL.iter().map(|kind| kind.name()).collect();
        let about = "What is exported; `verifications` where it is absent. `audit`: to whom the audit log is open.";
        all.push(one("kind", about, json!({"enum": kinds})));
        let about = "`ndjson` where it is absent: a JSON object a line, at the end `{\"complete\":true,…}`.";
        all.push(one("format", about, json!({"enum": ["csv", "ndjson"]})));
        let about = "The id of the last row that you have: only older rows follow.";
        all.push(one("cursor", about, json!({"type": "string"})));
    }
    if matches!(endpoint, Endpoint::EventList | Endpoint::Export) {
        for (name, about) in [("from", "Only what happened then or later."), ("to", "Only what happened before.")] {
            all.push(one(name, about, json!({"type": "string", "format": "date-time"})));
        }
    }
    all
}

/// The parameters of a sign-in by another service: what it says in the query when it sends a browser back.
fn redirect_parameters(endpoint: Endpoint) -> Vec<Value> {
    if endpoint == Endpoint::OidcGo {
        let about = "The person's address; its domain is the company's.";
        let schema = json!({"type": "string", "format": "email", "minLength": 1, "maxLength": 254});
        return vec![json!({"name": "email", "in": "query", "required": true, "description": about, "schema": schema,
            "example": "ann@corp.example"})];
    }
    let of_github: &[(&str, &str)] = &[
        ("code", "GitHub's code, which is traded for a token once."),
        ("state", "The state of `GET /v1/session/github`: it counts once, for 10 minutes, in the same browser."),
        ("error", "GitHub's, where the person refused."),
    ];
    let of_provider: &[(&str, &str)] = &[
        ("code", "The provider's code, which is traded for an ID token once."),
        ("state", "The state of `GET /v1/session/oidc`: it counts once, for 10 minutes, in the same browser."),
        ("iss", "The issuer, where the provider names it (RFC 9207)."),
        ("error", "The provider's, where it or the person refused."),
    ];
    let of_others = [(Endpoint::GithubComeBack, of_github), (Endpoint::OidcComeBack, of_provider)];
    let members = of_others.into_iter().filter(|(of, _)| *of == endpoint).flat_map(|(_, members)| members);
    let text = json!({"type": "string"});
    let parameter =
        |(name, about): &(&str, &str)| json!({"name": name, "in": "query", "description": about, "schema": text});
    members.map(parameter).collect()
}

/// The parameters of an operator's search.
fn search_parameters() -> [Value; 2] {
    let about = "A mail address, a recipient's address, `stl_…`, `ver_…`, or a transaction's hash or signature.";
    let schema = json!({"type": "string", "minLength": 1, "maxLength": operators::QUERY_BYTES_MAX});
    let text = json!({"name": "q", "in": "query", "required": true, "description": about, "schema": schema,
        "example": "ann@example.com"});
    let about = "The tenant whose records are searched, for `ver_…`.";
    [text, json!({"name": "tenant", "in": "query", "description": about, "schema": {"type": "string"}})]
}

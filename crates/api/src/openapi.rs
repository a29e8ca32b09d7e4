//! The OpenAPI 3.1 document, generated from the route table and the types. Native only: `npm run generate` writes it, a
//! test compares it, the Worker serves it.

pub mod webhooks;

use super::cookies::CookieName;
use super::endpoint::{ENDPOINTS, Endpoint, RouteRow};
use super::refusal::ExpectedBody;
use super::{
    accepts, admin, audit, chains, deletion, events, facilitator, health, identities, keys, members, oidc, operators,
    problem, recipients, records, session, tenant, verify, version, whoami,
};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use x402_core::audit::AuditAction;
use x402_core::error::ErrorCode;
use x402_core::tenancy::access::{Access, KeyScope};
use x402_core::tenancy::tenant::Scope;
use x402_core::tenancy::usage;
use x402_core::verification::answer::VerificationAnswer;

/// The schema of the body of `/verify` and `/settle`. Only an object is required: wrong members of a payment are
/// refused with status 200 and the protocol's reason.
fn payment_body() -> Value {
    json!({
        "type": "object",
        "description": "x402Version (1 or 2), paymentPayload, paymentRequirements, as the x402 specification has them."
    })
}

/// The schema of the body of `/accepts` in both forms.
fn accepts_body() -> Value {
    json!({
        "type": "object",
        "description": "A list of partial requirements (Faremeter), or a price (thirdweb).",
        "anyOf": [
            {"required": ["accepts"], "properties": {
                "accepts": {"type": "array", "maxItems": accepts::ENTRIES_MAX},
                "x402Version": {"enum": [1, 2, null]}
            }},
            {"required": ["price"], "properties": {
                "accepts": {"type": "null"}, "price": {"type": ["string", "number", "object"]},
                "network": {"type": "string"}
            }}
        ]
    })
}

/// The schema of the answer of `/accepts`: complete requirements.
fn accepts_answer() -> Value {
    json!({
        "type": "object", "required": ["x402Version", "accepts"],
        "properties": {
            "x402Version": {"enum": [1, 2]},
            "accepts": {"type": "array", "items": {"type": "object"}},
            "error": {"type": "string", "description": "Which entries were left out, and why."}
        }
    })
}

/// The schemas of an endpoint: request, success status, response.
#[allow(clippy::too_many_lines, reason = "one arm an endpoint")]
fn shapes(endpoint: Endpoint, make: &mut SchemaGenerator) -> (Option<Value>, u16, Value) {
    match endpoint {
        Endpoint::Verify => (Some(of::<verify::VerifyRequest>(make)), 200, of::<VerificationAnswer>(make)),
        Endpoint::Verifications => (None, 200, list(of::<VerificationAnswer>(make))),
        Endpoint::Verification => (None, 200, of::<VerificationAnswer>(make)),
        Endpoint::Usage => (None, 200, of::<usage::Usage>(make)),
        Endpoint::SupportedChains => (None, 200, of::<chains::SupportedChains>(make)),
        Endpoint::FacilitatorVerify => (Some(payment_body()), 200, of::<facilitator::VerifyResponse>(make)),
        Endpoint::FacilitatorSettle => (Some(payment_body()), 200, of::<facilitator::SettleResponse>(make)),
        Endpoint::FacilitatorVerifyHint | Endpoint::FacilitatorSettleHint => (None, 200, json!({"type": "object"})),
        Endpoint::FacilitatorSupported => (None, 200, of::<facilitator::Supported>(make)),
        Endpoint::FacilitatorAccepts => (Some(accepts_body()), 200, accepts_answer()),
        Endpoint::FacilitatorHealth => (None, 200, of::<health::ServiceHealth>(make)),
        Endpoint::FacilitatorVersion => (None, 200, of::<version::BuildVersion>(make)),
        Endpoint::Settlements => (None, 200, list(of::<x402_core::settlement::status::Settlement>(make))),
        Endpoint::Settlement | Endpoint::HandOver => (None, 200, of::<x402_core::settlement::status::Settlement>(make)),
        Endpoint::Whoami => (None, 200, of::<whoami::Whoami>(make)),
        Endpoint::Health => (None, 200, of::<health::ServiceHealth>(make)),
        Endpoint::OpenApi => (None, 200, json!({"type": "object"})),
        Endpoint::ErrorDocs | Endpoint::TierDocs => (None, 200, Value::Null),
        Endpoint::TenantCreate => (Some(of::<admin::TenantBody>(make)), 201, of::<admin::TenantCreated>(make)),
        Endpoint::TenantList => (None, 200, of::<records::ListPage<admin::TenantView>>(make)),
        Endpoint::TenantRead => (None, 200, of::<admin::TenantAlone>(make)),
        Endpoint::TenantPatch => (Some(of::<admin::TenantPatchBody>(make)), 200, of::<admin::TenantAlone>(make)),
        Endpoint::KeyList => (None, 200, of::<records::ListPage<admin::KeyView>>(make)),
        Endpoint::KeyCreate => (Some(of::<admin::KeyBody>(make)), 201, of::<admin::KeyCreated>(make)),
        Endpoint::KeyRevoke | Endpoint::OwnKeyRevoke => (None, 200, of::<admin::KeyAlone>(make)),
        Endpoint::OwnKeyList => (None, 200, of::<records::ListPage<admin::KeyView>>(make)),
        Endpoint::OwnKeyCreate => (Some(of::<admin::KeyBody>(make)), 201, of::<admin::KeyCreated>(make)),
        Endpoint::OwnKeyRotate => (Some(of::<keys::RotateBody>(make)), 201, of::<admin::KeyCreated>(make)),
        Endpoint::LeakedKey => (Some(of::<keys::LeakedBody>(make)), 202, of::<keys::LeakReceived>(make)),
        Endpoint::RecipientList => (None, 200, of::<records::ListPage<admin::RecipientView>>(make)),
        Endpoint::RecipientCreate => (Some(of::<admin::RecipientBody>(make)), 201, of::<admin::RecipientAlone>(make)),
        Endpoint::RecipientRemove => (None, 200, of::<admin::RecipientAlone>(make)),
        Endpoint::ChainsCheck => {
            (Some(of::<admin::ChainsCheckBody>(make)), 200, json!({"type": "object", "required": ["chains"]}))
        }
        Endpoint::OwnRecipientList | Endpoint::OwnRecipientRetire => {
            (None, 200, of::<records::ListPage<admin::RecipientView>>(make))
        }
        Endpoint::RecipientChallenge => {
            (Some(of::<recipients::ChallengeBody>(make)), 201, of::<recipients::ChallengeView>(make))
        }
        Endpoint::OwnRecipientAdd => {
            (Some(of::<recipients::ProvenRecipientBody>(make)), 201, of::<recipients::RecipientAdded>(make))
        }
        Endpoint::OwnRecipientPatch => {
            (Some(of::<recipients::RecipientPatchBody>(make)), 200, of::<admin::RecipientAlone>(make))
        }
        Endpoint::OwnTenantRead => (None, 200, of::<tenant::OwnTenantAlone>(make)),
        Endpoint::OwnTenantPatch => {
            (Some(of::<tenant::TenantSettingsBody>(make)), 200, of::<tenant::OwnTenantAlone>(make))
        }
        Endpoint::OwnTenantDelete => {
            (Some(of::<deletion::DeletionBody>(make)), 202, of::<deletion::DeletionAsked>(make))
        }
        Endpoint::DeletionConfirm => {
            (Some(of::<deletion::DeletionTokenBody>(make)), 200, of::<deletion::DeletionConfirmed>(make))
        }
        Endpoint::DeletionUndo => (None, 200, of::<deletion::DeletionUndone>(make)),
        Endpoint::OidcRead | Endpoint::OidcProve => (None, 200, of::<oidc::OidcAlone>(make)),
        Endpoint::OidcPut => (Some(of::<oidc::OidcBody>(make)), 200, of::<oidc::OidcAlone>(make)),
        Endpoint::OidcRemove => (None, 200, of::<oidc::OidcRemoved>(make)),
        Endpoint::GithubGo | Endpoint::GithubComeBack | Endpoint::OidcGo | Endpoint::OidcComeBack => {
            (None, 303, Value::Null)
        }
        // Its members are the provider's: any object is taken.
        Endpoint::ResendWebhook => (Some(json!({"type": "object"})), 204, Value::Null),
        Endpoint::Mailbox => (None, 200, of::<records::ListPage<session::MailView>>(make)),
        Endpoint::OperatorSearch => (None, 200, of::<records::ListPage<operators::FoundView>>(make)),
        Endpoint::MailResend => (None, 202, of::<operators::MailQueued>(make)),
        Endpoint::MarkRemove => (None, 200, of::<operators::MarkRemoved>(make)),
        Endpoint::PersonSessionsEnd => (None, 200, of::<operators::PersonSessionsEnded>(make)),
        Endpoint::SignUp => (Some(of::<session::SignUpBody>(make)), 202, of::<session::MailAsked>(make)),
        Endpoint::LogIn => (Some(of::<session::LogInBody>(make)), 202, of::<session::MailAsked>(make)),
        Endpoint::SessionCreate => (Some(of::<session::SessionBody>(make)), 201, of::<session::SessionCreated>(make)),
        Endpoint::SessionRead => (None, 200, of::<session::SessionAnswer>(make)),
        Endpoint::SessionEnd | Endpoint::SessionEndOne => (None, 200, of::<session::SessionEnded>(make)),
        Endpoint::SessionList => (None, 200, of::<records::ListPage<session::OwnSession>>(make)),
        Endpoint::EventList => (None, 200, of::<records::ListPage<events::EventView>>(make)),
        Endpoint::EventRead => (None, 200, of::<events::EventView>(make)),
        Endpoint::IdentityList => (None, 200, of::<records::ListPage<identities::IdentityView>>(make)),
        Endpoint::IdentityEnd => (None, 200, of::<identities::IdentityAlone>(make)),
        Endpoint::AuditLog => (None, 200, of::<records::ListPage<audit::AuditView>>(make)),
        Endpoint::MemberList => (None, 200, of::<members::Members>(make)),
        Endpoint::InvitationCreate => {
            (Some(of::<members::InvitationBody>(make)), 201, of::<members::InvitationAlone>(make))
        }
        Endpoint::InvitationRevoke | Endpoint::MemberRemove => (None, 200, of::<members::Removed>(make)),
        Endpoint::MemberJoin => (Some(of::<members::JoinBody>(make)), 201, of::<session::SessionCreated>(make)),
        Endpoint::MemberPatch => (Some(of::<members::MemberPatchBody>(make)), 200, of::<members::MemberAlone>(make)),
        Endpoint::SessionEndAll => (None, 200, of::<session::SessionsEnded>(make)),
        Endpoint::SessionSwitch => (Some(of::<session::SwitchBody>(make)), 200, of::<session::SessionAnswer>(make)),
    }
}

fn of<T: JsonSchema>(make: &mut SchemaGenerator) -> Value {
    make.subschema_for::<T>().to_value()
}

fn list(item: Value) -> Value {
    json!({
        "type": "object", "required": ["data", "next_cursor"],
        "properties": {"data": {"type": "array", "items": item}, "next_cursor": {"type": ["string", "null"]}}
    })
}

fn parameters(row: &RouteRow) -> Vec<Value> {
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
    if row.endpoint == Endpoint::FacilitatorSettle {
        let found = "`explain`: the body of a success holds `extra` too; `Preference-Applied` confirms it.";
        all.push(json!({"name": "Prefer", "in": "header", "description": found, "schema": {"type": "string"}}));
    }
    all
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
    )
}

/// The parameters of routes that read events.
fn event_parameters(endpoint: Endpoint) -> Vec<Value> {
    if !matches!(endpoint, Endpoint::EventList | Endpoint::EventRead) {
        return Vec::new();
    }
    let one = |name: &str, about: &str, schema: Value| json!({"name": name, "in": "query", "description": about, "schema": schema});
    let about = "For a session: `live` where it is absent. A key reads its own environment.";
    let mut all = vec![one("environment", about, json!({"enum": ["live", "test"]}))];
    if endpoint == Endpoint::EventList {
        let about = "Only events of these types, separated by commas; `payment.*` names all that begin so.";
        all.push(one("type", about, json!({"type": "string", "example": "payment.*,quota.exceeded"})));
        let about = "Only events about this: an id, an address, or a month.";
        all.push(one(
            "subject",
            about,
            json!({"type": "string", "minLength": 1, "maxLength": events::SUBJECT_BYTES_MAX}),
        ));
        for (name, about) in [("from", "Only events then or later."), ("to", "Only events before.")] {
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

/// Headers of a settle's success.
fn settled_headers() -> Value {
    let text = |about: &str| json!({"description": about, "required": false, "schema": {"type": "string"}});
    json!({
        "X402-Settlement-Id": text("The settlement's id, for `GET /v1/settlements/{id}`; on every success."),
        "X402-Externally-Settled": text("`true` where a third party has sent the transaction."),
        "X402-Checks": text("Each rule with its result: a JSON list in base64; on every success. A list of more \
            than 2,304 characters goes without the details, which `Prefer: explain` gives."),
        "Preference-Applied": text("`explain`, where the request asked for it."),
        "Idempotent-Replayed": text("`true` where the answer was recorded under the same `Idempotency-Key`.")
    })
}

/// The same route with the key in the path: every answer has status 200, and a refusal holds the members that the
/// route's client reads.
fn url_operation(row: &RouteRow) -> Value {
    let (member, kind) = match ExpectedBody::at(row.path) {
        Some(ExpectedBody::Supported) => ("kinds", "array"),
        Some(ExpectedBody::Accepts) => ("accepts", "array"),
        Some(ExpectedBody::Settle) => ("success", "boolean"),
        Some(ExpectedBody::Verify | ExpectedBody::Any) | None => ("isValid", "boolean"),
    };
    let mut parameters = parameters(row);
    let about = "A key of the kind `url`.";
    parameters.push(json!({"name": "key", "in": "path", "required": true, "description": about,
        "schema": {"type": "string", "minLength": 1}}));
    let schema = json!({"type": "object", "required": [member], "properties": {member: {"type": kind}}});
    let mut operation = json!({
        "operationId": format!("{:?}ByUrlKey", row.endpoint), "summary": format!("{}, with the key in the path", row.summary),
        "description": format!("As `{}`. Every answer is 200; one that refuses holds the members of a problem besides.", row.path),
        "tags": [row.tag], "security": [], "parameters": parameters,
        "responses": {"200": {"description": "The answer, or a refusal.", "content": {"application/json": {"schema": schema}}}}
    });
    if let (true, Some(map)) = (row.has_body(), operation.as_object_mut()) {
        let body = json!({"required": true, "content": {"application/json": {"schema": {"type": "object"}}}});
        map.insert("requestBody".to_owned(), body);
    }
    operation
}

/// The credentials that a route takes; for a key the scope that it must have.
fn security(access: Access) -> Value {
    match access {
        Access::Analytics(role) => {
            json!([{"apiKey": [Scope::Analytics]}, {"apiKeyHeader": [Scope::Analytics]}, {"session": [role]}])
        }
        Access::Public | Access::SignIn => json!([]),
        Access::Key(KeyScope::Any) => json!([{"apiKey": []}, {"apiKeyHeader": []}]),
        Access::Key(KeyScope::Only(scope)) => json!([{"apiKey": [scope]}, {"apiKeyHeader": [scope]}]),
        Access::Either => json!([{"apiKey": []}, {"apiKeyHeader": []}, {}]),
        Access::Admin => json!([{"adminKey": []}]),
        Access::Session(role) => json!([{"session": [role]}]),
        Access::Managed(role) => {
            json!([{"apiKey": [Scope::Manage]}, {"apiKeyHeader": [Scope::Manage]}, {"session": [role]}])
        }
    }
}

/// The errors of a route by their statuses: each response names its codes, and what each says.
fn problems(row: &RouteRow, problem: &Value) -> Map<String, Value> {
    let mut codes: BTreeMap<u16, Vec<ErrorCode>> = BTreeMap::new();
    for code in row.errors() {
        codes.entry(code.status()).or_default().push(code);
    }
    let response = |codes: &[ErrorCode]| {
        let names: Vec<&str> = codes.iter().map(|code| code.as_str()).collect();
        let lines: Vec<String> = codes.iter().map(|code| format!("`{}`: {}", code.as_str(), code.doc())).collect();
        let schema = json!({"allOf": [problem, {"properties": {"error_code": {"enum": names}}}]});
        json!({"description": lines.join(" "), "content": {"application/problem+json": {"schema": schema}}})
    };
    codes.iter().map(|(status, codes)| (status.to_string(), response(codes))).collect()
}

const EXAMPLE_ADDRESS: &str = "0x209693Bc6afc0C5328bA36FaF03C514EF312287C";

/// A body that the route takes, for readers; tests send each.
fn example(endpoint: Endpoint) -> Option<Value> {
    let all = [
        (Endpoint::SignUp, json!({"email": "ann@example.com", "company_name": "Example Ltd"})),
        (Endpoint::LogIn, json!({"email": "ann@example.com"})),
        (
            Endpoint::ResendWebhook,
            json!({"type": "email.bounced", "created_at": "2026-11-30T09:00:00.000Z", "data": {
                "email_id": "56761188-7520-42d8-8898-ff6fc54ce618", "to": ["ann@example.com"],
                "bounce": {"type": "Permanent", "subType": "General", "message": "The mailbox does not exist."}}}),
        ),
        (Endpoint::SessionCreate, json!({"code": "012345"})),
        (
            Endpoint::OwnKeyCreate,
            json!({"name": "shop", "environment": "test", "scopes": ["verify", "settle"], "allow_list": ["203.0.113.0/24"]}),
        ),
        (Endpoint::OwnKeyRotate, json!({"grace_seconds": 3600})),
        (Endpoint::LeakedKey, json!({"key": "x402_live_…", "url": "https://example.com/paste/1"})),
        (Endpoint::InvitationCreate, json!({"email": "bob@example.com", "role": "developer"})),
        (Endpoint::MemberPatch, json!({"role": "viewer"})),
        (Endpoint::RecipientChallenge, json!({"chain": "base", "address": EXAMPLE_ADDRESS})),
        (Endpoint::OwnRecipientAdd, json!({"chain": "base", "address": "derive", "default": true})),
        (Endpoint::OwnRecipientPatch, json!({"default_for": "base"})),
        (
            Endpoint::OwnTenantPatch,
            json!({"company_name": "Example Ltd", "support_address": "help@example.com", "sanctions": "refuse"}),
        ),
        (
            Endpoint::OidcPut,
            json!({"domain": "corp.example", "issuer": "https://idp.example", "client_id": "x402-edge",
                "client_secret": "a-secret-of-the-provider", "default_role": "developer"}),
        ),
        (Endpoint::OwnTenantDelete, json!({"confirm": "ten_01a22830e24a3a1f7b1ccee9"})),
        (Endpoint::DeletionConfirm, json!({"token": "00".repeat(32)})),
    ];
    all.into_iter().find(|(of, _)| *of == endpoint).map(|(_, example)| example)
}

fn operation(row: &RouteRow, make: &mut SchemaGenerator) -> Value {
    let (request, success, response) = shapes(row.endpoint, make);
    let problem = of::<problem::Problem<'static>>(make);
    let media = if response.is_null() { "text/html" } else { "application/json" };
    let schema = if response.is_null() { json!({"type": "string"}) } else { response };
    let mut responses = Map::new();
    let headers = if row.endpoint == Endpoint::FacilitatorSettle { settled_headers() } else { json!({}) };
    let mut content = json!({media: {"schema": schema}});
    if let (Endpoint::AuditLog, Some(map)) = (row.endpoint, content.as_object_mut()) {
        map.insert("text/csv".to_owned(), json!({"schema": {"type": "string"}}));
    }
    if row.endpoint == Endpoint::FacilitatorAccepts {
        let found = "The answer to a price: a `PaymentRequired` of version 1.";
        responses.insert("402".to_owned(), json!({"description": found, "content": content.clone()}));
    }
    let answer = match success {
        204 => json!({"description": "Done; no body."}),
        303 => {
            let location =
                json!({"description": "The other service, or our first page.", "schema": {"type": "string"}});
            json!({"description": "Sends the browser on; no body.", "headers": {"Location": location}})
        }
        _ => json!({"description": "The answer.", "headers": headers, "content": content}),
    };
    responses.insert(success.to_string(), answer);
    responses.extend(problems(row, &problem));
    let mut operation = json!({
        "operationId": format!("{:?}", row.endpoint), "summary": row.summary, "tags": [row.tag],
        "security": security(row.access), "parameters": parameters(row), "responses": responses
    });
    if let (Some(schema), Some(map)) = (request, operation.as_object_mut()) {
        let required = row.endpoint != Endpoint::ChainsCheck;
        let mut media = json!({"schema": schema});
        if let (Some(example), Some(media)) = (example(row.endpoint), media.as_object_mut()) {
            media.insert("example".to_owned(), example);
        }
        let body = json!({"required": required, "content": {"application/json": media}});
        map.insert("requestBody".to_owned(), body);
    }
    operation
}

/// The whole OpenAPI document, as `docs/reference/openapi.json` holds it.
#[must_use]
pub fn document() -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.definitions_path = "/components/schemas".into();
    settings.meta_schema = None;
    let mut make = settings.into_generator();
    let mut paths: Map<String, Value> = Map::new();
    for row in ENDPOINTS {
        let operation = operation(row, &mut make);
        let path = paths.entry(row.path).or_insert_with(|| json!({}));
        if let Some(path) = path.as_object_mut() {
            path.insert(row.method.to_string().to_lowercase(), operation);
        }
        if row.url_key && row.access != Access::Public {
            let path = row.path.replacen("/facilitator/", "/facilitator/k/{key}/", 1);
            paths.insert(path, json!({row.method.to_string().to_lowercase(): url_operation(row)}));
        }
    }
    let webhooks = webhooks::webhooks(&mut make);
    let schemas = make.take_definitions(true);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "x402-edge", "version": env!("CARGO_PKG_VERSION"),
            "description": "Payment verification for the HTTP 402 economy, at the edge.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}
        },
        "paths": paths,
        "webhooks": webhooks,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "apiKey": {"type": "http", "scheme": "bearer", "description": "x402_live_… or x402_test_…"},
                "apiKeyHeader": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same key, without `Authorization`; `X-Secret-Key` counts as well."},
                "adminKey": {"type": "apiKey", "in": "header", "name": "X-Admin-Key"},
                "session": {"type": "apiKey", "in": "cookie", "name": CookieName::Session.as_str(),
                    "description": "Counts only without a key, and for changes only from a page of our own origin."}
            }
        }
    })
}

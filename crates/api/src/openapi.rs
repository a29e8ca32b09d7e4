//! The OpenAPI 3.1 document, generated from the route table and the types. Native only: `npm run generate` writes it, a
//! test compares it, the Worker serves it.

mod parameters;
pub mod webhooks;

use super::cookies::CookieName;
use super::endpoint::{ENDPOINTS, Endpoint, RouteRow};
use super::refusal::ExpectedBody;
use super::{
    accepts, admin, analytics, audit, billing, chains, deletion, deliveries, events, facilitator, health, identities,
    keys, members, oidc, operators, pricing, problem, rebuild, recipients, records, session, status, tenant, verify,
    version, webhook_endpoints, whoami,
};
use parameters::parameters;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
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
        Endpoint::Status => (None, 200, of::<status::ServiceStatus>(make)),
        Endpoint::Metrics => (None, 200, json!({"type": "string"})),
        Endpoint::OpenApi => (None, 200, json!({"type": "object"})),
        Endpoint::ErrorDocs | Endpoint::TierDocs | Endpoint::BillingPage => (None, 200, Value::Null),
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
        Endpoint::StripeWebhook => (Some(json!({"type": "object"})), 200, json!({"type": "object"})),
        Endpoint::Pricing => (None, 200, of::<pricing::Pricing>(make)),
        Endpoint::BillingRead | Endpoint::BillingResume => (None, 200, of::<billing::BillingView>(make)),
        Endpoint::BillingCheckout => (Some(of::<billing::PlanBody>(make)), 200, of::<billing::BillingUrl>(make)),
        Endpoint::BillingPortal => (None, 200, of::<billing::BillingUrl>(make)),
        Endpoint::BillingChange => (Some(of::<billing::PlanBody>(make)), 200, of::<billing::BillingView>(make)),
        Endpoint::BillingCancel => (Some(of::<billing::CancelBody>(make)), 200, of::<billing::BillingView>(make)),
        Endpoint::BillingInvoices => (None, 200, of::<records::ListPage<billing::invoice::InvoiceView>>(make)),
        Endpoint::BillingCheck => {
            (Some(of::<billing::BillingCheckBody>(make)), 200, of::<billing::BillingChecked>(make))
        }
        Endpoint::Mailbox => (None, 200, of::<records::ListPage<session::MailView>>(make)),
        Endpoint::OperatorSearch => (None, 200, of::<records::ListPage<operators::FoundView>>(make)),
        Endpoint::OperatorAlerts => (None, 200, of::<records::ListPage<operators::OperatorAlertView>>(make)),
        Endpoint::TenantRebuild => (Some(of::<rebuild::RebuildBody>(make)), 200, of::<rebuild::RebuildView>(make)),
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
        Endpoint::EventStream | Endpoint::Export => (None, 200, json!({})),
        Endpoint::Analytics => (None, 200, of::<analytics::AnalyticsView>(make)),
        Endpoint::WebhookList => (None, 200, of::<records::ListPage<webhook_endpoints::EndpointView>>(make)),
        Endpoint::WebhookCreate => {
            (Some(of::<webhook_endpoints::EndpointBody>(make)), 201, of::<webhook_endpoints::EndpointCreated>(make))
        }
        Endpoint::WebhookRead => (None, 200, of::<webhook_endpoints::EndpointAlone>(make)),
        Endpoint::WebhookPatch => {
            (Some(of::<webhook_endpoints::EndpointPatchBody>(make)), 200, of::<webhook_endpoints::EndpointAlone>(make))
        }
        Endpoint::WebhookRemove => (None, 200, of::<webhook_endpoints::EndpointRemoved>(make)),
        Endpoint::WebhookRotate => (None, 200, of::<webhook_endpoints::EndpointRotated>(make)),
        Endpoint::WebhookTest => (Some(of::<deliveries::TestBody>(make)), 202, of::<deliveries::TestSent>(make)),
        Endpoint::WebhookRedeliver => {
            (Some(of::<deliveries::RedeliverBody>(make)), 202, of::<deliveries::Redelivered>(make))
        }
        Endpoint::DeliveryList => (None, 200, of::<records::ListPage<deliveries::DeliveryView>>(make)),
        Endpoint::DeliveryRead => (None, 200, of::<deliveries::DeliveryAlone>(make)),
        Endpoint::DeliveryRedeliver => (None, 202, of::<deliveries::Redelivered>(make)),
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
        Access::Metrics => json!([{"metricsToken": []}]),
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
        (
            Endpoint::StripeWebhook,
            json!({"id": "evt_1", "object": "event", "type": "invoice.paid", "created": 1_795_910_400,
                "data": {"object": {"id": "in_1", "object": "invoice", "customer": "cus_1"}}}),
        ),
        (Endpoint::BillingCheckout, json!({"plan": "pro"})),
        (Endpoint::BillingChange, json!({"plan": "enterprise"})),
        (Endpoint::BillingCancel, json!({"at": "period_end"})),
        (Endpoint::SessionCreate, json!({"code": "012345"})),
        (
            Endpoint::OwnKeyCreate,
            json!({"name": "shop", "environment": "test", "scopes": ["verify", "settle"], "allow_list": ["203.0.113.0/24"]}),
        ),
        (Endpoint::OwnKeyRotate, json!({"grace_seconds": 3600})),
        (
            Endpoint::WebhookCreate,
            json!({"url": "https://shop.example.com/hooks", "environment": "live", "events": ["payment.*"]}),
        ),
        (Endpoint::WebhookPatch, json!({"status": "paused"})),
        (Endpoint::WebhookTest, json!({"type": "payment.finalized"})),
        (Endpoint::WebhookRedeliver, json!({"since": "2026-11-30T09:00:00Z"})),
        (Endpoint::LeakedKey, json!({"key": "x402_live_…", "url": "https://example.com/paste/1"})),
        (Endpoint::InvitationCreate, json!({"email": "bob@example.com", "role": "developer"})),
        (Endpoint::MemberPatch, json!({"role": "viewer"})),
        (Endpoint::RecipientChallenge, json!({"chain": "base", "address": EXAMPLE_ADDRESS})),
        (Endpoint::OwnRecipientAdd, json!({"chain": "base", "address": "derive", "default": true})),
        (Endpoint::OwnRecipientPatch, json!({"default_for": "base"})),
        (
            Endpoint::OwnTenantPatch,
            json!({"company_name": "Example Ltd", "support_address": "help@example.com", "sanctions": "refuse",
                "alerts": {"slack_url": "https://hooks.slack.com/services/T00/B00/x", "mail": true}}),
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
    let text = json!({"schema": {"type": "string"}});
    if row.endpoint == Endpoint::Export {
        content = json!({"application/x-ndjson": text, "text/csv": text});
    } else if row.endpoint == Endpoint::EventStream {
        content = json!({"text/event-stream": text});
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
                "metricsToken": {"type": "http", "scheme": "bearer", "description": "The setting METRICS_TOKEN."},
                "adminKey": {"type": "apiKey", "in": "header", "name": "X-Admin-Key"},
                "session": {"type": "apiKey", "in": "cookie", "name": CookieName::Session.as_str(),
                    "description": "Counts only without a key, and for changes only from a page of our own origin."}
            }
        }
    })
}

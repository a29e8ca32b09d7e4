//! The rows of the route table.

use super::paths::{
    ACCEPTS_PATHS, DELIVERIES, DELIVERY, HEALTH_PATHS, REDELIVERY, SETTLE_PATHS, SUPPORTED_PATHS, VERIFY_PATHS,
    VERSION_PATHS, WEBHOOK, WEBHOOK_REDELIVER, WEBHOOK_ROTATE, WEBHOOK_TEST, WEBHOOKS,
};
use super::row::{billing, facilitator_route, operators, public_route, route, webhook, with_alias, with_body_max};
use super::{Endpoint, Method, RouteRow};
use crate::github::CALLBACK_PATH;
use crate::oidc;
use x402_core::tenancy::access::{Access, KeyScope};
use x402_core::tenancy::role::Role;
use x402_core::tenancy::tenant::Scope;

/// The most bytes of a request with a signature: a contract's takes 16 KiB as hex.
const SIGNATURE_BODY_MAX: usize = 20 * 1_024;

/// The most bytes of an event of Stripe's: an invoice with all its lines.
const STRIPE_BODY_MAX: usize = 512 * 1_024;

const KEY: Access = Access::Key(KeyScope::Any);
/// Whoever is signed in.
const PERSON: Access = Access::Session(Role::Viewer);
/// Owners of the tenant.
const OWNER: Access = Access::Session(Role::Owner);
/// Whoever is signed in, or a key that manages the tenant.
const READS: Access = Access::Managed(Role::Viewer);
/// Whoever is signed in, or a key that reads what has happened.
const HEARS: Access = Access::Analytics(Role::Viewer);
/// Owners of the tenant, or a key that manages it.
const MANAGES: Access = Access::Managed(Role::Owner);
const VERIFY: Access = Access::Key(KeyScope::Only(Scope::Verify));
const SETTLE: Access = Access::Key(KeyScope::Only(Scope::Settle));

/// The route table, one row an endpoint.
pub(crate) const ENDPOINTS: &[RouteRow] = &[
    with_alias(
        route(Endpoint::Verify, Method::Post, "/v1/verify", VERIFY, ["Verify", "Has this transaction paid me?"]),
        "/api/v1/x402/verify",
    ),
    facilitator_route(Endpoint::FacilitatorVerify, Method::Post, VERIFY, VERIFY_PATHS, "Is this x402 payment good?"),
    facilitator_route(
        Endpoint::FacilitatorVerifyHint,
        Method::Get,
        Access::Public,
        VERIFY_PATHS,
        "What the route takes",
    ),
    facilitator_route(
        Endpoint::FacilitatorSettle,
        Method::Post,
        SETTLE,
        SETTLE_PATHS,
        "Take an x402 payment to the chain",
    ),
    facilitator_route(
        Endpoint::FacilitatorSettleHint,
        Method::Get,
        Access::Public,
        SETTLE_PATHS,
        "What the route takes",
    ),
    facilitator_route(
        Endpoint::FacilitatorSupported,
        Method::Get,
        Access::Either,
        SUPPORTED_PATHS,
        "The kinds of payment that are settled",
    ),
    facilitator_route(
        Endpoint::FacilitatorAccepts,
        Method::Post,
        VERIFY,
        ACCEPTS_PATHS,
        "Complete payment requirements",
    ),
    public_route(Endpoint::FacilitatorHealth, HEALTH_PATHS, "Whether the service is well"),
    public_route(Endpoint::FacilitatorVersion, VERSION_PATHS, "Which build answers"),
    route(
        Endpoint::Settlements,
        Method::Get,
        "/v1/settlements",
        VERIFY,
        ["Facilitator", "List settlements, the newest first"],
    ),
    route(Endpoint::Settlement, Method::Get, "/v1/settlements/{id}", VERIFY, ["Facilitator", "Read one settlement"]),
    route(
        Endpoint::HandOver,
        Method::Post,
        "/v1/settlements/{id}/hand-over",
        SETTLE,
        ["Facilitator", "Take the success of a settlement that nobody was given, once"],
    ),
    route(
        Endpoint::Verifications,
        Method::Get,
        "/v1/verifications",
        VERIFY,
        ["Verify", "List verifications, the newest first"],
    ),
    route(Endpoint::Verification, Method::Get, "/v1/verifications/{id}", VERIFY, ["Verify", "Read one verification"]),
    with_alias(
        route(Endpoint::Usage, Method::Get, "/v1/usage", KEY, ["Account", "What was used in the period"]),
        "/api/v1/x402/usage",
    ),
    with_alias(
        route(
            Endpoint::SupportedChains,
            Method::Get,
            "/v1/supported-chains",
            KEY,
            ["Account", "The chains, and which of them this key may name"],
        ),
        "/api/v1/x402/supported-chains",
    ),
    route(Endpoint::Whoami, Method::Get, "/v1/whoami", KEY, ["Account", "Whom this key names"]),
    with_alias(
        route(Endpoint::Health, Method::Get, "/v1/health", Access::Public, ["Service", "Whether the service is well"]),
        "/api/v1/x402/health",
    ),
    route(Endpoint::Status, Method::Get, "/v1/status", Access::Public, ["Service", "How each chain has fared of late"]),
    route(Endpoint::Metrics, Method::Get, "/metrics", Access::Metrics, ["Operators", "Metrics for Prometheus"]),
    route(Endpoint::OpenApi, Method::Get, "/v1/openapi.json", Access::Public, ["Service", "This document"]),
    route(Endpoint::ErrorDocs, Method::Get, "/docs/errors", Access::Public, ["Service", "What error codes mean"]),
    route(Endpoint::TierDocs, Method::Get, "/docs/tiers", Access::Public, ["Service", "What tiers include"]),
    with_alias(
        operators(Endpoint::TenantCreate, Method::Post, "/v1/admin/tenants", "Make a tenant with its first keys"),
        "/api/v1/x402/admin/create-tenant",
    ),
    operators(Endpoint::TenantList, Method::Get, "/v1/admin/tenants", "List tenants, the newest first"),
    operators(Endpoint::TenantRead, Method::Get, "/v1/admin/tenants/{id}", "Read a tenant"),
    operators(Endpoint::TenantPatch, Method::Patch, "/v1/admin/tenants/{id}", "Change a tenant"),
    operators(Endpoint::KeyList, Method::Get, "/v1/admin/tenants/{id}/api-keys", "List a tenant's keys"),
    operators(Endpoint::KeyCreate, Method::Post, "/v1/admin/tenants/{id}/api-keys", "Make a key; it is shown once"),
    operators(Endpoint::KeyRevoke, Method::Delete, "/v1/admin/tenants/{id}/api-keys/{key_id}", "Revoke a key"),
    operators(Endpoint::RecipientList, Method::Get, "/v1/admin/tenants/{id}/recipients", "List a tenant's recipients"),
    operators(Endpoint::RecipientCreate, Method::Post, "/v1/admin/tenants/{id}/recipients", "Register a recipient"),
    operators(
        Endpoint::RecipientRemove,
        Method::Delete,
        "/v1/admin/tenants/{id}/recipients/{address}",
        "Remove a recipient",
    ),
    operators(Endpoint::ChainsCheck, Method::Post, "/v1/admin/chains/check", "Compare the registry with the chains"),
    operators(Endpoint::Mailbox, Method::Get, "/v1/admin/mailbox", "The newest mails, where none is sent"),
    operators(
        Endpoint::OperatorSearch,
        Method::Get,
        "/v1/admin/search",
        "Find a mail address, a recipient or a payment",
    ),
    operators(Endpoint::MailResend, Method::Post, "/v1/admin/mails/{id}/resend", "Send a mail again"),
    operators(
        Endpoint::MarkRemove,
        Method::Delete,
        "/v1/admin/mail-marks/{address}",
        "Let a marked address get mails again",
    ),
    operators(
        Endpoint::PersonSessionsEnd,
        Method::Delete,
        "/v1/admin/people/{id}/sessions",
        "End all sessions of a person",
    ),
    operators(
        Endpoint::TenantRebuild,
        Method::Post,
        "/v1/admin/tenants/{id}/rebuild",
        "Rebuild what was lost of a tenant",
    ),
    operators(Endpoint::OperatorAlerts, Method::Get, "/v1/admin/alerts", "What is wrong, and since when"),
    route(Endpoint::EventList, Method::Get, "/v1/events", HEARS, ["Events", "List events, the newest first"]),
    route(Endpoint::EventRead, Method::Get, "/v1/events/{id}", HEARS, ["Events", "Read one event"]),
    with_alias(
        route(
            Endpoint::Analytics,
            Method::Get,
            "/v1/analytics",
            HEARS,
            ["Analytics", "What the payments of some days add up to"],
        ),
        "/api/v1/x402/analytics",
    ),
    route(
        Endpoint::EventStream,
        Method::Get,
        "/v1/events/stream",
        HEARS,
        ["Events", "Receive events as they come (server-sent events)"],
    ),
    route(
        Endpoint::Export,
        Method::Get,
        "/v1/export",
        HEARS,
        ["Events", "Export verifications, settlements, events or the audit log as one file"],
    ),
    webhook(Endpoint::WebhookList, Method::Get, WEBHOOKS, READS, "List the endpoints to which events are sent"),
    webhook(Endpoint::WebhookCreate, Method::Post, WEBHOOKS, MANAGES, "Make an endpoint; its secret is shown once"),
    webhook(Endpoint::WebhookRead, Method::Get, WEBHOOK, READS, "Read one endpoint"),
    webhook(Endpoint::WebhookPatch, Method::Patch, WEBHOOK, MANAGES, "Change, pause or resume an endpoint"),
    webhook(Endpoint::WebhookRemove, Method::Delete, WEBHOOK, MANAGES, "Remove an endpoint"),
    webhook(Endpoint::WebhookRotate, Method::Post, WEBHOOK_ROTATE, MANAGES, "Replace a secret; both sign for a day"),
    webhook(Endpoint::WebhookTest, Method::Post, WEBHOOK_TEST, MANAGES, "Send an example of an event"),
    webhook(Endpoint::WebhookRedeliver, Method::Post, WEBHOOK_REDELIVER, MANAGES, "Send all exhausted events again"),
    webhook(Endpoint::DeliveryList, Method::Get, DELIVERIES, READS, "List deliveries, the newest first"),
    webhook(Endpoint::DeliveryRead, Method::Get, DELIVERY, READS, "Read one delivery with its attempts"),
    webhook(Endpoint::DeliveryRedeliver, Method::Post, REDELIVERY, MANAGES, "Send one event again"),
    route(
        Endpoint::OwnKeyList,
        Method::Get,
        "/v1/api-keys",
        Access::Managed(Role::Viewer),
        ["Keys", "List the tenant's keys"],
    ),
    route(
        Endpoint::OwnKeyCreate,
        Method::Post,
        "/v1/api-keys",
        Access::Managed(Role::Developer),
        ["Keys", "Make a key; it is shown once"],
    ),
    route(
        Endpoint::OwnKeyRotate,
        Method::Post,
        "/v1/api-keys/{key_id}/rotate",
        Access::Managed(Role::Developer),
        ["Keys", "Replace a key; both hold for a time"],
    ),
    route(
        Endpoint::OwnKeyRevoke,
        Method::Delete,
        "/v1/api-keys/{key_id}",
        Access::Managed(Role::Developer),
        ["Keys", "Revoke a key at once"],
    ),
    route(
        Endpoint::LeakedKey,
        Method::Post,
        "/v1/api-keys/revoke-leaked",
        Access::Public,
        ["Keys", "Report a key that was found; it is revoked"],
    ),
    route(
        Endpoint::SignUp,
        Method::Post,
        "/v1/signup",
        Access::SignIn,
        ["Sessions", "Ask for a mail that makes a tenant"],
    ),
    route(Endpoint::LogIn, Method::Post, "/v1/login", Access::SignIn, ["Sessions", "Ask for a mail that signs in"]),
    route(
        Endpoint::SessionCreate,
        Method::Post,
        "/v1/session",
        Access::SignIn,
        ["Sessions", "Sign in by a link's token or a code"],
    ),
    route(Endpoint::SessionRead, Method::Get, "/v1/session", PERSON, ["Sessions", "Who is signed in, and where"]),
    route(Endpoint::SessionEnd, Method::Delete, "/v1/session", PERSON, ["Sessions", "Sign out"]),
    route(Endpoint::SessionList, Method::Get, "/v1/sessions", PERSON, ["Sessions", "List one's own sessions"]),
    route(
        Endpoint::SessionEndOne,
        Method::Delete,
        "/v1/sessions/{id}",
        PERSON,
        ["Sessions", "End one of one's sessions"],
    ),
    route(Endpoint::SessionEndAll, Method::Delete, "/v1/sessions", PERSON, ["Sessions", "Sign out everywhere"]),
    route(Endpoint::SessionSwitch, Method::Post, "/v1/session/tenant", PERSON, ["Sessions", "Act for another tenant"]),
    route(
        Endpoint::IdentityList,
        Method::Get,
        "/v1/session/identities",
        PERSON,
        ["Sessions", "List the accounts of other services by which one signs in"],
    ),
    route(
        Endpoint::IdentityEnd,
        Method::Delete,
        "/v1/session/identities/{id}",
        PERSON,
        ["Sessions", "Shut out an account of another service"],
    ),
    route(Endpoint::MemberList, Method::Get, "/v1/members", PERSON, ["Members", "List members and invitations"]),
    route(Endpoint::InvitationCreate, Method::Post, "/v1/members/invitations", OWNER, ["Members", "Invite a person"]),
    route(
        Endpoint::InvitationRevoke,
        Method::Delete,
        "/v1/members/invitations/{id}",
        OWNER,
        ["Members", "Revoke an invitation"],
    ),
    route(Endpoint::MemberJoin, Method::Post, "/v1/members/join", Access::SignIn, ["Members", "Accept an invitation"]),
    route(Endpoint::MemberPatch, Method::Patch, "/v1/members/{person_id}", OWNER, ["Members", "Change a role"]),
    route(Endpoint::MemberRemove, Method::Delete, "/v1/members/{person_id}", PERSON, ["Members", "Remove, or leave"]),
    route(Endpoint::GithubGo, Method::Get, "/v1/session/github", Access::SignIn, ["Sessions", "Sign in by GitHub"]),
    route(Endpoint::GithubComeBack, Method::Get, CALLBACK_PATH, Access::SignIn, ["Sessions", "GitHub's way back"]),
    route(
        Endpoint::OidcGo,
        Method::Get,
        oidc::GO_PATH,
        Access::SignIn,
        ["Sessions", "Sign in by your company's identity provider"],
    ),
    route(
        Endpoint::OidcComeBack,
        Method::Get,
        oidc::CALLBACK_PATH,
        Access::SignIn,
        ["Sessions", "That provider's way back"],
    ),
    route(Endpoint::ResendWebhook, Method::Post, "/v1/webhooks/resend", Access::Public, ["Service", "Events of mails"]),
    with_body_max(
        route(
            Endpoint::StripeWebhook,
            Method::Post,
            "/v1/webhooks/stripe",
            Access::Public,
            ["Service", "Events of Stripe"],
        ),
        STRIPE_BODY_MAX,
    ),
    route(Endpoint::Pricing, Method::Get, "/v1/pricing", Access::Public, ["Billing", "What plans cost and include"]),
    route(Endpoint::BillingPage, Method::Get, "/billing", Access::Public, ["Billing", "Where Stripe leads back to"]),
    billing(Endpoint::BillingRead, Method::Get, "/v1/billing", "The plan, the next invoice and the card"),
    billing(Endpoint::BillingCheckout, Method::Post, "/v1/billing/checkout", "Begin a subscription: a page to pay on"),
    billing(Endpoint::BillingPortal, Method::Post, "/v1/billing/portal", "A page of invoices and cards"),
    billing(Endpoint::BillingChange, Method::Post, "/v1/billing/change", "Change the plan"),
    billing(Endpoint::BillingCancel, Method::Post, "/v1/billing/cancel", "End the subscription"),
    billing(Endpoint::BillingResume, Method::Post, "/v1/billing/resume", "Take an end or a smaller plan back"),
    billing(Endpoint::BillingInvoices, Method::Get, "/v1/billing/invoices", "List invoices, the newest first"),
    operators(Endpoint::BillingCheck, Method::Post, "/v1/admin/billing/check", "Compare tenants with Stripe"),
    route(
        Endpoint::OwnRecipientList,
        Method::Get,
        "/v1/recipients",
        READS,
        ["Recipients", "List the addresses at which you are paid"],
    ),
    route(
        Endpoint::RecipientChallenge,
        Method::Post,
        "/v1/recipients/challenge",
        MANAGES,
        ["Recipients", "Ask for the message that proves an address"],
    ),
    with_body_max(
        route(
            Endpoint::OwnRecipientAdd,
            Method::Post,
            "/v1/recipients",
            MANAGES,
            ["Recipients", "Register an address by its signature, or derive one"],
        ),
        SIGNATURE_BODY_MAX,
    ),
    route(
        Endpoint::OwnRecipientPatch,
        Method::Patch,
        "/v1/recipients/{address}",
        MANAGES,
        ["Recipients", "Make an address the default of a chain"],
    ),
    route(
        Endpoint::OwnRecipientRetire,
        Method::Delete,
        "/v1/recipients/{address}",
        MANAGES,
        ["Recipients", "Retire an address"],
    ),
    route(Endpoint::OwnTenantRead, Method::Get, "/v1/tenant", READS, ["Account", "Read your tenant"]),
    route(Endpoint::OwnTenantPatch, Method::Patch, "/v1/tenant", MANAGES, ["Account", "Change your tenant's settings"]),
    route(
        Endpoint::OidcRead,
        Method::Get,
        "/v1/tenant/oidc",
        READS,
        ["Account", "Read your company's identity provider"],
    ),
    route(
        Endpoint::OidcPut,
        Method::Put,
        "/v1/tenant/oidc",
        OWNER,
        ["Account", "Set your company's identity provider"],
    ),
    route(
        Endpoint::OidcProve,
        Method::Post,
        "/v1/tenant/oidc/prove",
        OWNER,
        ["Account", "Prove your company's mail domain by its DNS record"],
    ),
    route(
        Endpoint::OidcRemove,
        Method::Delete,
        "/v1/tenant/oidc",
        OWNER,
        ["Account", "Remove your company's identity provider"],
    ),
    route(Endpoint::OwnTenantDelete, Method::Delete, "/v1/tenant", OWNER, ["Account", "Ask to delete your tenant"]),
    route(
        Endpoint::DeletionConfirm,
        Method::Post,
        "/v1/tenant/deletion",
        OWNER,
        ["Account", "Delete your tenant, by the mail's token"],
    ),
    route(
        Endpoint::DeletionUndo,
        Method::Delete,
        "/v1/tenant/deletion",
        OWNER,
        ["Account", "Undo the deletion of your tenant"],
    ),
    route(
        Endpoint::AuditLog,
        Method::Get,
        "/v1/audit-log",
        Access::Managed(Role::Owner),
        ["Members", "Who changed what, the newest first"],
    ),
];

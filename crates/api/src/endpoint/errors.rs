//! Which errors each route can answer: what its credential, its body and its own work bring. The OpenAPI document lists
//! them, and every answer in the tests on workerd is compared with it.

use super::{Endpoint, Method, RouteRow};
use std::collections::BTreeSet;
use x402_core::error::ErrorCode;
use x402_core::error::ErrorCode as E;
use x402_core::tenancy::access::{Access, KeyScope};

/// Where a key's holder asks for what the ledger counts.
const COUNTED: &[E] = &[E::RateLimited, E::QuotaExceeded, E::IdempotencyConflict, E::ChainUnavailable];
/// Where a key is shown to the ledger.
const BY_KEY: &[E] = &[E::InvalidApiKey, E::TenantSuspended, E::IpNotAllowed];
const BY_BODY: &[E] = &[E::InvalidJson, E::PayloadTooLarge, E::UnsupportedMediaType, E::InvalidRequest];
/// What a change at Stripe may meet.
const OF_BILLING: &[E] = &[E::EnvironmentMismatch, E::BillingBusy, E::UpstreamUnavailable];
/// What any change by a member of the tenant may meet.
const OF_CHANGES: &[E] = &[E::CrossOrigin, E::TenantSuspended, E::TenantDeleting, E::RateLimited, E::ChangeNotLoaded];

impl RouteRow {
    /// The errors that the route can answer, in the order of the table of codes.
    #[must_use]
    pub(crate) fn errors(&self) -> BTreeSet<ErrorCode> {
        let mut all = BTreeSet::from([E::Internal, E::Misconfigured, E::MethodNotAllowed]);
        all.extend(of_access(self));
        if self.has_body() {
            all.extend(BY_BODY);
        }
        all.extend(own(self.endpoint));
        all
    }
}

fn of_access(row: &RouteRow) -> Vec<E> {
    let is_change = row.method != Method::Get;
    let by_session = || {
        let changes = if is_change { OF_CHANGES } else { &[] };
        [&[E::InvalidSession, E::InsufficientRole, E::LedgerUnavailable][..], changes].concat()
    };
    match row.access {
        Access::Public => Vec::new(),
        Access::Key(KeyScope::Any) | Access::Either => [BY_KEY, &[E::LedgerUnavailable]].concat(),
        Access::Key(KeyScope::Only(_)) => [BY_KEY, &[E::InsufficientScope, E::LedgerUnavailable]].concat(),
        Access::Admin if is_change => {
            vec![E::InvalidAdminKey, E::RateLimited, E::LedgerUnavailable, E::ChangeNotLoaded]
        }
        Access::Admin => vec![E::InvalidAdminKey, E::RateLimited, E::LedgerUnavailable],
        Access::Metrics => vec![E::InvalidMetricsToken, E::RateLimited, E::Misconfigured, E::LedgerUnavailable],
        Access::Session(_) => by_session(),
        Access::Managed(_) | Access::Analytics(_) => {
            [by_session(), [BY_KEY, &[E::InsufficientScope]].concat()].concat()
        }
        Access::SignIn if is_change => vec![E::CrossOrigin, E::RateLimited, E::LedgerUnavailable],
        Access::SignIn => vec![E::RateLimited, E::LedgerUnavailable],
    }
}

/// What the route's own work brings.
#[allow(clippy::too_many_lines, reason = "one arm an endpoint")]
fn own(endpoint: Endpoint) -> Vec<E> {
    let payment = [COUNTED, &[E::ChainNotEnabled, E::EnvironmentMismatch, E::RecipientNotRegistered]].concat();
    match endpoint {
        Endpoint::Verify => [payment, vec![E::InvalidTxHash, E::InvalidAmount, E::InvalidChain]].concat(),
        Endpoint::FacilitatorVerify | Endpoint::FacilitatorSettle => payment,
        Endpoint::FacilitatorSupported | Endpoint::FacilitatorAccepts => vec![E::RateLimited],
        Endpoint::Settlements => vec![E::InvalidRequest, E::InvalidChain],
        Endpoint::EventList | Endpoint::Analytics => vec![E::InvalidRequest],
        Endpoint::EventRead => vec![E::NotFound, E::InvalidRequest],
        Endpoint::EventStream | Endpoint::Export => vec![E::InvalidRequest, E::RateLimited],
        Endpoint::WebhookCreate => vec![E::NotInTier, E::EnvironmentMismatch, E::UpstreamUnavailable],
        Endpoint::WebhookPatch => vec![E::NotFound, E::NotInTier, E::EnvironmentMismatch, E::UpstreamUnavailable],
        Endpoint::WebhookRead
        | Endpoint::WebhookRemove
        | Endpoint::WebhookRotate
        | Endpoint::WebhookRedeliver
        | Endpoint::DeliveryRead
        | Endpoint::DeliveryRedeliver => vec![E::NotFound, E::EnvironmentMismatch],
        Endpoint::WebhookTest => vec![E::NotFound, E::EnvironmentMismatch, E::NotInTier, E::RateLimited],
        Endpoint::DeliveryList => vec![E::NotFound, E::EnvironmentMismatch, E::InvalidRequest],
        Endpoint::Verifications | Endpoint::TenantList | Endpoint::AuditLog => vec![E::InvalidRequest],
        Endpoint::Settlement
        | Endpoint::Verification
        | Endpoint::TenantRead
        | Endpoint::TenantRebuild
        | Endpoint::KeyList
        | Endpoint::KeyRevoke
        | Endpoint::RecipientList
        | Endpoint::RecipientRemove
        | Endpoint::SessionEndOne
        | Endpoint::SessionSwitch
        | Endpoint::InvitationRevoke
        | Endpoint::DeletionUndo
        | Endpoint::MarkRemove
        | Endpoint::PersonSessionsEnd => vec![E::NotFound],
        Endpoint::HandOver => vec![E::NotFound, E::SettlementNotOpen],
        Endpoint::TenantCreate => {
            vec![E::EmailTaken, E::RecipientTaken, E::InvalidChain, E::SanctionedRecipient]
        }
        Endpoint::TenantPatch => {
            vec![
                E::NotFound,
                E::EmailTaken,
                E::RecipientTaken,
                E::InvalidChain,
                E::SanctionedRecipient,
                E::TenantDeleting,
            ]
        }
        Endpoint::KeyCreate => vec![E::NotFound, E::TenantDeleting],
        Endpoint::RecipientCreate => {
            vec![E::NotFound, E::RecipientTaken, E::InvalidChain, E::SanctionedRecipient, E::TenantDeleting]
        }
        Endpoint::ChainsCheck => vec![E::InvalidChain],
        Endpoint::OwnKeyRevoke => vec![E::NotFound, E::EnvironmentMismatch],
        Endpoint::OwnKeyCreate => vec![E::EnvironmentMismatch, E::KeyNotActive],
        Endpoint::OwnKeyRotate => vec![E::NotFound, E::EnvironmentMismatch, E::KeyNotActive],
        Endpoint::LeakedKey => vec![E::RateLimited, E::LedgerUnavailable, E::ChangeNotLoaded],
        Endpoint::SignUp | Endpoint::LogIn => vec![E::NotFound, E::BotRefused, E::UpstreamUnavailable],
        Endpoint::SessionCreate => vec![E::InvalidSignIn, E::EmailTaken],
        Endpoint::InvitationCreate => vec![E::NotFound, E::AlreadyMember, E::RateLimited],
        Endpoint::MemberJoin => vec![E::InvalidSignIn, E::TenantSuspended, E::TenantDeleting],
        Endpoint::MemberPatch | Endpoint::MemberRemove => vec![E::NotFound, E::LastOwner],
        Endpoint::RecipientChallenge => vec![
            E::InvalidChain,
            E::ChainNotEnabled,
            E::EnvironmentMismatch,
            E::SanctionedRecipient,
            E::RecipientTaken,
            E::RateLimited,
        ],
        Endpoint::OwnRecipientAdd => vec![
            E::InvalidChain,
            E::ChainNotEnabled,
            E::NotInTier,
            E::EnvironmentMismatch,
            E::SanctionedRecipient,
            E::RecipientTaken,
            E::InvalidProof,
            E::ChainUnavailable,
        ],
        Endpoint::OwnRecipientPatch => vec![E::NotFound, E::InvalidChain, E::ChainNotEnabled, E::EnvironmentMismatch],
        Endpoint::OwnRecipientRetire => vec![E::NotFound],
        Endpoint::OwnTenantPatch => vec![E::NotInTier, E::EnvironmentMismatch, E::UpstreamUnavailable],
        Endpoint::OwnTenantDelete => vec![E::NotFound, E::RateLimited],
        Endpoint::DeletionConfirm => vec![E::InvalidConfirmation],
        Endpoint::Mailbox => vec![E::NotFound],
        Endpoint::OperatorSearch => vec![E::InvalidRequest],
        Endpoint::MailResend => vec![E::NotFound, E::MailNotOpen],
        Endpoint::GithubGo => vec![E::NotFound, E::CrossOrigin],
        Endpoint::GithubComeBack => vec![E::NotFound, E::InvalidSignIn, E::EmailTaken, E::UpstreamUnavailable],
        Endpoint::OidcGo => {
            vec![E::NotFound, E::CrossOrigin, E::InvalidRequest, E::InvalidSignIn, E::UpstreamUnavailable]
        }
        Endpoint::OidcComeBack => vec![E::NotFound, E::InvalidSignIn, E::EmailTaken, E::UpstreamUnavailable],
        Endpoint::OidcRead | Endpoint::OidcRemove => vec![E::NotFound],
        Endpoint::OidcPut => vec![E::NotFound, E::NotInTier],
        Endpoint::OidcProve => vec![E::NotFound, E::NotInTier, E::InvalidProof, E::DomainTaken, E::UpstreamUnavailable],
        Endpoint::IdentityList | Endpoint::IdentityEnd => vec![E::NotFound],
        Endpoint::ResendWebhook => vec![E::NotFound, E::InvalidSignature, E::LedgerUnavailable],
        Endpoint::StripeWebhook => vec![E::InvalidSignature, E::LedgerUnavailable, E::Misconfigured],
        Endpoint::BillingRead => vec![
            E::InvalidRequest,
            E::NoSubscription,
            E::SubscriptionEnding,
            E::PaymentRequired,
            E::RateLimited,
            E::UpstreamUnavailable,
        ],
        Endpoint::BillingInvoices => vec![E::InvalidRequest, E::RateLimited, E::UpstreamUnavailable],
        Endpoint::BillingPortal => vec![E::EnvironmentMismatch, E::BillingBusy, E::UpstreamUnavailable],
        Endpoint::BillingCheckout => {
            [OF_BILLING, &[E::SubscriptionExists, E::PlanByOperator, E::PaymentRequired]].concat()
        }
        Endpoint::BillingChange => {
            [OF_BILLING, &[E::NoSubscription, E::SubscriptionEnding, E::PlanByOperator, E::PaymentRequired]].concat()
        }
        Endpoint::BillingCancel => [OF_BILLING, &[E::NoSubscription]].concat(),
        Endpoint::BillingResume => [OF_BILLING, &[E::NoSubscription, E::PaymentRequired]].concat(),
        Endpoint::BillingCheck => vec![E::UpstreamUnavailable],
        Endpoint::Status => vec![E::LedgerUnavailable, E::Misconfigured],
        Endpoint::FacilitatorVerifyHint
        | Endpoint::FacilitatorSettleHint
        | Endpoint::Pricing
        | Endpoint::FacilitatorHealth
        | Endpoint::FacilitatorVersion
        | Endpoint::Usage
        | Endpoint::SupportedChains
        | Endpoint::Whoami
        | Endpoint::Health
        | Endpoint::Metrics
        | Endpoint::OpenApi
        | Endpoint::ErrorDocs
        | Endpoint::TierDocs
        | Endpoint::BillingPage
        | Endpoint::OwnKeyList
        | Endpoint::WebhookList
        | Endpoint::SessionRead
        | Endpoint::SessionEnd
        | Endpoint::SessionList
        | Endpoint::SessionEndAll
        | Endpoint::MemberList
        | Endpoint::OwnRecipientList
        | Endpoint::OperatorAlerts
        | Endpoint::OwnTenantRead => Vec::new(),
    }
}

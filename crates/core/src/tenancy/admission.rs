//! The checks before a request is answered, in the order of docs/spec/money.md#m-order: key, tenant, scope, idempotency
//! record, chain, recipient, rates, quota.

use crate::error::{ErrorCode, Fault};
use crate::tenancy::access::KeyScope;
use crate::tenancy::allow_list::is_allowed;
use crate::tenancy::budget::TenantSpending;
use crate::tenancy::key::KeyHash;
use crate::tenancy::quota::{QuotaEvent, QuotaMarks, QuotaStep};
use crate::tenancy::rate::{HOUR, MINUTE, RateState, RateWindow};
use crate::tenancy::tenant::{ApiKey, FIRST_USES_MAX, Tenant, TenantStatus};
use crate::tenancy::tier::Tier;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use x402_chain::address::Address;
use x402_chain::id::{KeyId, VerificationId};
use x402_chain::network::{Environment, Network};
use x402_chain::time::{Period, UnixMillis};

/// How often a key's last use is noted at most.
const LAST_USED_EVERY_MS: u64 = 60_000;
/// Exports of a tenant and environment that begin in a minute. They have a window of their own: an export may not take from
/// what payments have.
const EXPORTS_MAX: u64 = 60;
/// How long an idempotency record holds: 24 hours.
pub const IDEMPOTENCY_MS: u64 = 86_400_000;

/// The admission state of a ledger, stored in one row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admission {
    /// The period that `used` counts.
    pub period: Period,
    /// Final verdicts counted in the period.
    pub used: u64,
    /// Requests admitted in the period.
    pub requests: u64,
    /// Requests of the last minute.
    pub minute: RateWindow,
    /// Requests of the last hour.
    pub hour: RateWindow,
    /// The newest verification's id, so that the next is greater.
    pub last_id: Option<VerificationId>,
    /// When each key was last used, to the minute.
    pub last_used: BTreeMap<KeyId, UnixMillis>,
    /// What settlements cost today.
    #[serde(default)]
    pub spending: TenantSpending,
    /// What sellers heard of the quota this month; `None`: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<QuotaMarks>,
    /// Exports that began in the last minute.
    #[serde(default, skip_serializing_if = "RateWindow::is_empty")]
    pub exports: RateWindow,
}

/// A period that is over, with its totals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosedPeriod {
    /// The month that is over.
    pub period: Period,
    /// Final verdicts counted in the period.
    pub used: u64,
    /// Requests admitted in the period.
    pub requests: u64,
}

impl Admission {
    /// The state of a ledger that has admitted nothing.
    #[must_use]
    pub fn new(now: UnixMillis) -> Self {
        Self {
            period: Period::of(now),
            used: 0,
            requests: 0,
            minute: RateWindow::default(),
            hour: RateWindow::default(),
            last_id: None,
            last_used: BTreeMap::new(),
            spending: TenantSpending::default(),
            quota: None,
            exports: RateWindow::default(),
        }
    }

    /// Enters the period of `now`; returns the one that has ended. A clock that went back changes nothing.
    pub fn enter_period(&mut self, now: UnixMillis) -> Option<ClosedPeriod> {
        let period = Period::of(now);
        if period <= self.period {
            return None;
        }
        let closed = ClosedPeriod { period: self.period, used: self.used, requests: self.requests };
        (self.period, self.used, self.requests) = (period, 0, 0);
        Some(closed)
    }

    /// Notes what has become of the quota in a step, after its counts have changed and before they are stored; returns
    /// the events to store with them. `before` is what the step began with, `refusal` why it was refused.
    pub fn note_quota(&mut self, before: &Self, tenant: &Tenant, refusal: Option<&Fault>) -> Vec<QuotaEvent> {
        let (period, used) = (self.period, self.used);
        let step = QuotaStep {
            period,
            used,
            is_counted: used > if before.period == period { before.used } else { 0 },
            is_refused: refusal.is_some_and(|fault| fault.code == ErrorCode::QuotaExceeded),
            limit: tenant.limits().per_month,
        };
        let (marks, events) = step.raise(self.quota);
        self.quota = marks;
        events
    }

    /// Counts an admitted request.
    pub fn count_request(&mut self, key: KeyId, now: UnixMillis) {
        self.requests = self.requests.saturating_add(1);
        self.minute.count(MINUTE, now);
        self.hour.count(HOUR, now);
        self.note_key_use(key, now);
    }

    /// Counts an export that begins: of a key, or without one of a session.
    ///
    /// # Errors
    /// As [`authorize_key`]; `RATE_LIMITED`.
    pub fn count_export(&mut self, tenant: &Tenant, key: Option<PresentedKey>, now: UnixMillis) -> Result<(), Fault> {
        let key = key.map(|key| authorize_key(tenant, key, now)).transpose()?;
        let free = self.exports.frees_at(MINUTE, EXPORTS_MAX, now);
        if free > now {
            let detail = format!("{EXPORTS_MAX} exports may begin in a minute");
            return Err(Fault::new(ErrorCode::RateLimited, detail).after(free.since(now).div_ceil(1_000)));
        }
        self.exports.count(MINUTE, now);
        if let Some(key) = key {
            self.note_key_use(key.id, now);
        }
        Ok(())
    }

    /// Counts a request again whose record was stored after this was: `used` is what it counts against the quota.
    pub fn count_record(&mut self, id: VerificationId, used: u64) {
        let at = id.created_at();
        self.requests = self.requests.saturating_add(1);
        self.used = self.used.saturating_add(used);
        self.minute.count(MINUTE, at);
        self.hour.count(HOUR, at);
        self.last_id = Some(id);
    }

    /// Notes a key's use, at most once a minute; returns whether it was noted.
    pub fn note_key_use(&mut self, key: KeyId, now: UnixMillis) -> bool {
        let last = self.last_used.get(&key).copied();
        let due = last.is_none_or(|last| now.since(last) >= LAST_USED_EVERY_MS);
        if due {
            self.last_used.insert(key, now);
        }
        due
    }

    /// Both windows, as the `RateLimit` headers report them.
    #[must_use]
    pub fn rates(&self, tenant: &Tenant, now: UnixMillis) -> RateWindows {
        let limits = tenant.limits();
        let minute = RateState {
            limit: limits.per_minute,
            used: self.minute.used(MINUTE, now),
            resets_at: self.minute.resets_at(MINUTE, now),
        };
        let hour = RateState {
            limit: limits.per_hour,
            used: self.hour.used(HOUR, now),
            resets_at: self.hour.resets_at(HOUR, now),
        };
        RateWindows { minute, hour }
    }

    /// The next verification's id: of this time, and greater than any before.
    #[must_use]
    pub(crate) fn next_verification_id(&mut self, now: UnixMillis, random: [u8; 10]) -> VerificationId {
        let fresh = VerificationId::new(now, random);
        let id = match self.last_id {
            Some(last) if fresh <= last => last.next(),
            Some(_) | None => fresh,
        };
        self.last_id = Some(id);
        id
    }
}

/// Both windows, as the `RateLimit` headers report them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateWindows {
    /// The window of 60 seconds.
    pub minute: RateState,
    /// The window of 60 minutes.
    pub hour: RateState,
}

/// What was answered under an `Idempotency-Key`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyRecord {
    /// SHA-256 of the request's body, hex.
    pub body_hash: String,
    /// The answer, if it was final: status and body.
    pub answer: Option<(u16, String)>,
    /// Until when the answer repeats, where that is before the record expires.
    pub answer_until: Option<UnixMillis>,
    /// When it was written; it is valid for [`IDEMPOTENCY_MS`].
    pub at: UnixMillis,
}

/// Why a request is not decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdmissionStop {
    /// The request is refused with this fault.
    Fault(Box<Fault>),
    /// The request was answered before: status and body.
    Repeat(u16, String),
    /// In test: the address is not registered to this tenant. Register it, then run the step again. The rates and the
    /// quota allow the request.
    Register(Address),
}

impl From<Fault> for AdmissionStop {
    fn from(fault: Fault) -> Self {
        Self::Fault(Box::new(fault))
    }
}

/// How a request uses its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyUse {
    /// What the route requires of it.
    pub scope: KeyScope,
    /// The address that the request comes from; `None`: it is not known.
    pub from: Option<IpAddr>,
}

/// A key as a request presents it on a route of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PresentedKey {
    /// The key's hash.
    pub hash: KeyHash,
    /// How the request uses it.
    pub used: KeyUse,
}

/// The key that a request presents, if it may be used on its route.
///
/// # Errors
/// `INVALID_API_KEY` for unknown, revoked and expired keys alike,
/// `IP_NOT_ALLOWED`, `TENANT_SUSPENDED`, `INSUFFICIENT_SCOPE`.
pub fn authorize_key(tenant: &Tenant, presented: PresentedKey, now: UnixMillis) -> Result<&ApiKey, Fault> {
    let key = tenant.key(&presented.hash, now).ok_or_else(invalid_key)?;
    if !is_allowed(&key.allow_list, presented.used.from) {
        let detail = match presented.used.from {
            Some(address) => format!("this key may not be used from {}", address.to_canonical()),
            None => "this key may be used from some networks only, and the request's address is not known".to_owned(),
        };
        return Err(Fault::new(ErrorCode::IpNotAllowed, detail));
    }
    if tenant.status != TenantStatus::Active {
        return Err(Fault::new(ErrorCode::TenantSuspended, "this tenant is suspended or cancelled; ask the operator"));
    }
    match presented.used.scope {
        KeyScope::Only(scope) if !key.scopes.contains(&scope) => {
            let detail = format!("this key lacks the scope '{}'", scope.name());
            Err(Fault::new(ErrorCode::InsufficientScope, detail))
        }
        KeyScope::Any | KeyScope::Only(_) => Ok(key),
    }
}

/// The one fault for every key that is not accepted.
#[must_use]
pub fn invalid_key() -> Fault {
    Fault::new(ErrorCode::InvalidApiKey, "the API key is missing or not valid")
}

/// Checks a request against its idempotency record.
///
/// # Errors
/// [`AdmissionStop::Repeat`] with the recorded answer, or `IDEMPOTENCY_CONFLICT`.
pub(crate) fn check_idempotency(
    stored: Option<&IdempotencyRecord>,
    body_hash: &str,
    now: UnixMillis,
) -> Result<(), AdmissionStop> {
    let Some(stored) = stored.filter(|stored| now.since(stored.at) < IDEMPOTENCY_MS) else { return Ok(()) };
    if stored.body_hash != body_hash {
        let detail = "this Idempotency-Key was used before with another body";
        return Err(Fault::new(ErrorCode::IdempotencyConflict, detail).at("Idempotency-Key").into());
    }
    match &stored.answer {
        Some((status, body)) if stored.answer_until.is_none_or(|until| now < until) => {
            Err(AdmissionStop::Repeat(*status, body.clone()))
        }
        Some(_) | None => Ok(()),
    }
}

/// The recipient that a payment must have reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AdmittedRecipient {
    /// An address that is registered to the tenant.
    Own(Address),
    /// In test: an address that is not registered to the tenant, and that this use may register.
    Unheld(Address),
}

/// The recipient that the request names, or the tenant's default.
///
/// # Errors
/// `CHAIN_NOT_ENABLED`, `RECIPIENT_NOT_REGISTERED`.
pub(crate) fn resolve_recipient(
    network: &Network,
    named: Option<Address>,
    chain_on: bool,
    tenant: &Tenant,
) -> Result<AdmittedRecipient, Fault> {
    if !tenant.tier.includes(network) {
        let fault = Fault::new(ErrorCode::ChainNotEnabled, format!("the tier does not include '{}'", network.key));
        return Err(by_tier(tenant.tier, fault.at("chain")));
    }
    if !chain_on {
        let detail = format!("'{}' is off until the registry check has passed", network.key);
        return Err(Fault::new(ErrorCode::ChainNotEnabled, detail).at("chain"));
    }
    match named {
        Some(named) if tenant.holds(&named, network) => Ok(AdmittedRecipient::Own(named)),
        Some(named) => may_register(&named, tenant).map_err(not_registered).map(|()| AdmittedRecipient::Unheld(named)),
        None => tenant.default_recipient(network).map(AdmittedRecipient::Own).ok_or_else(|| no_default(network)),
    }
}

/// Checks whether an unregistered address may be registered to a tenant by its first use.
///
/// # Errors
/// A sentence: in live nothing is registered so, and in test at most [`FIRST_USES_MAX`] addresses.
pub(crate) fn may_register(address: &Address, tenant: &Tenant) -> Result<(), String> {
    if let Some(chains) = tenant.only_on(address) {
        return Err(format!("{address} is registered to this tenant for {} only", chains.join(", ")));
    }
    match tenant.environment {
        Environment::Live => Err(format!("{address} is not registered to this tenant")),
        Environment::Test if tenant.first_uses() >= FIRST_USES_MAX => Err(format!(
            "{address} is not registered to this tenant, which has the most addresses by first use: {FIRST_USES_MAX}"
        )),
        Environment::Test => Ok(()),
    }
}

fn no_default(network: &Network) -> Fault {
    not_registered(format!("this tenant has no recipient for '{}'; name one", network.key))
}

/// The fault about a recipient that is not registered.
#[must_use]
pub fn not_registered(detail: String) -> Fault {
    Fault::new(ErrorCode::RecipientNotRegistered, detail).at("recipient")
}

/// Checks both rate windows, then the quota.
///
/// # Errors
/// `RATE_LIMITED`, `QUOTA_EXCEEDED`.
pub(crate) fn check_limits(admission: &Admission, tenant: &Tenant, now: UnixMillis) -> Result<(), Fault> {
    let limits = tenant.limits();
    for (window, span, limit) in
        [(&admission.minute, MINUTE, limits.per_minute), (&admission.hour, HOUR, limits.per_hour)]
    {
        let free = window.frees_at(span, limit, now);
        if free > now {
            let wait = free.since(now).div_ceil(1_000);
            let fault =
                Fault::new(ErrorCode::RateLimited, format!("{limit} requests a {} are allowed", span.name)).after(wait);
            return Err(by_tier(tenant.tier, fault));
        }
    }
    match limits.per_month {
        Some(limit) if admission.used >= limit => {
            let wait = admission.period.end().since(now).div_ceil(1_000);
            let detail = format!("{} of {limit} verifications used in {}", admission.used, admission.period);
            let fault = Fault::new(ErrorCode::QuotaExceeded, detail).after(wait);
            Err(by_tier(tenant.tier, fault))
        }
        Some(_) | None => Ok(()),
    }
}

/// A refusal by what the tier includes; it proposes a larger tier where there is one.
pub(crate) fn by_tier(tier: Tier, fault: Fault) -> Fault {
    if tier.plan().upgradable { fault.upgradable() } else { fault }
}

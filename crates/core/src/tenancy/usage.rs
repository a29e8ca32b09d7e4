//! What a tenant has used, as `GET /v1/usage` answers it.

use crate::tenancy::admission::Admission;
use crate::tenancy::tenant::Tenant;
use crate::tenancy::tier::Tier;
use serde::Serialize;
use x402_chain::network::{Environment, NETWORKS, Network};
use x402_chain::time::{Period, UnixMillis};

/// A window's limit and use.
#[derive(Clone, Copy, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct RateUsage {
    /// Requests allowed in the window.
    pub limit: u64,
    /// Requests counted in the window.
    pub used: u64,
}

/// The state of both rate windows.
#[derive(Clone, Copy, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct RateUsages {
    /// The window of the last 60 seconds.
    pub minute: RateUsage,
    /// The window of the last 60 minutes.
    pub hour: RateUsage,
}

/// The answer to `GET /v1/usage`. −1 is unlimited.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Usage {
    /// The tenant's tier.
    pub tier: Tier,
    /// The environment that the key belongs to; live and test count apart.
    pub environment: Environment,
    /// The current month, UTC.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(with = "String"))]
    pub period: Period,
    /// Final verdicts in the period.
    pub verifications_used: u64,
    /// Final verdicts allowed.
    pub verifications_limit: i64,
    /// Final verdicts left in the period; −1: unlimited.
    pub verifications_remaining: i64,
    /// When the quota of the next period begins, RFC 3339.
    pub quota_reset_date: String,
    /// Chains that this key may name.
    pub enabled_chains: Vec<&'static str>,
    /// The rate windows of this environment.
    pub rate: RateUsages,
}

/// Whether a tenant may use a chain in an environment, without the registry check.
#[must_use]
pub fn may_use(tenant: &Tenant, network: &Network) -> bool {
    network.environment == tenant.environment && tenant.tier.includes(network)
}

/// What a tenant has used; `is_on` says whether the registry check allows a chain.
#[must_use]
pub fn usage_of(tenant: &Tenant, admission: &Admission, is_on: impl Fn(&Network) -> bool, now: UnixMillis) -> Usage {
    let mut admission = admission.clone();
    admission.enter_period(now);
    let rates = admission.rates(tenant, now);
    let limit = tenant.limits().per_month;
    let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    Usage {
        tier: tenant.tier,
        environment: tenant.environment,
        period: admission.period,
        verifications_used: admission.used,
        verifications_limit: limit.map_or(-1, signed),
        verifications_remaining: limit.map_or(-1, |limit| signed(limit.saturating_sub(admission.used))),
        quota_reset_date: admission.period.end().rfc3339(),
        enabled_chains: NETWORKS
            .iter()
            .filter(|network| may_use(tenant, network) && is_on(network))
            .map(|network| network.key)
            .collect(),
        rate: RateUsages {
            minute: RateUsage { limit: rates.minute.limit, used: rates.minute.used },
            hour: RateUsage { limit: rates.hour.limit, used: rates.hour.used },
        },
    }
}

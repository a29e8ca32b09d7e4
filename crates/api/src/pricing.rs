//! `GET /v1/pricing`: what plans cost and include, from the table of tiers.

use serde::Serialize;
use x402_chain::network::{Environment, NETWORKS};
use x402_core::billing::TRIAL_DAYS;
use x402_core::tenancy::tier::{PLANS, Tier};

/// What a plan costs and includes.
#[derive(Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct PlanView {
    /// Its tier.
    pub tier: Tier,
    /// US dollars a month, without taxes.
    pub price_usd: u32,
    /// Days of a first subscription that cost nothing.
    pub trial_days: u64,
    /// Verifications and settlements a month; `null` is unlimited.
    pub per_month: Option<u64>,
    /// Requests in any 60 seconds.
    pub per_minute: u64,
    /// Requests in any 60 minutes.
    pub per_hour: u64,
    /// Chains of live, by key. Their test networks and local chains are included too.
    pub chains: Vec<&'static str>,
    /// Whether events are sent to webhook endpoints.
    pub webhooks: bool,
    /// Whether its own name, logo and colours are shown.
    pub branding: bool,
    /// Whether people may sign in by an identity provider of the tenant's own.
    pub oidc: bool,
    /// Whether the operator derives addresses for the tenant, and holds their funds.
    pub derived_addresses: bool,
}

/// All plans, the smallest first.
#[derive(Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Pricing {
    /// The currency of the prices.
    pub currency: &'static str,
    /// The plans.
    pub plans: Vec<PlanView>,
}

/// What plans cost and include.
#[must_use]
pub fn pricing() -> Pricing {
    let plans = PLANS.iter().map(|plan| PlanView {
        tier: plan.tier,
        price_usd: plan.price_usd,
        trial_days: if plan.price_usd > 0 { TRIAL_DAYS } else { 0 },
        per_month: plan.limits.per_month,
        per_minute: plan.limits.per_minute,
        per_hour: plan.limits.per_hour,
        chains: NETWORKS
            .iter()
            .filter(|network| network.environment == Environment::Live && plan.tier.includes_chain(network.key))
            .map(|network| network.key)
            .collect(),
        webhooks: plan.webhooks,
        branding: plan.branding,
        oidc: plan.oidc,
        derived_addresses: plan.derived_addresses,
    });
    Pricing { currency: "usd", plans: plans.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_plan_is_priced() {
        let all = pricing();
        assert_eq!(all.plans.len(), PLANS.len());
        let chains: Vec<_> = all.plans.iter().map(|plan| plan.chains.len()).collect();
        assert!(chains.is_sorted() && chains.first() == Some(&2), "{chains:?}");
    }
}

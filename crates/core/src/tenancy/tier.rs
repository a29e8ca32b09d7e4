//! The table of tiers, one row each. Whatever differs between tiers is a column of [`Plan`]; no other code names a
//! tier.

use crate::error::{ErrorCode, Fault};
use serde::{Deserialize, Serialize};
use x402_chain::network::Network;

/// How many requests and verifications are allowed; `None` is unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Requests in any 60 seconds.
    pub per_minute: u64,
    /// Requests in any 60 minutes.
    pub per_hour: u64,
    /// Final verdicts in a calendar month (UTC).
    pub per_month: Option<u64>,
}

/// Which live chains a tier includes.
#[derive(Clone, Copy, Debug)]
pub enum TierChains {
    /// The chains with these keys.
    Only(&'static [&'static str]),
    /// Every chain of the registry.
    All,
}

/// One row of the table of tiers.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The tier that the row describes.
    pub tier: Tier,
    /// The name in JSON.
    pub name: &'static str,
    /// The price, US dollars a month.
    pub price_usd: u32,
    /// Its limits, unless the tenant has its own.
    pub limits: Limits,
    /// Its live chains; test networks follow their live chain, local chains are for all.
    pub chains: TierChains,
    /// Whether its own name, logo and colours are shown.
    pub branding: bool,
    /// Whether its people may sign in by an identity provider of the tenant's own.
    pub oidc: bool,
    /// Whether its events are delivered to webhook endpoints.
    pub webhooks: bool,
    /// Whether it may have addresses derived from the operator's key: the operator holds their funds.
    pub derived_addresses: bool,
    /// Whether its settlements draw on the signer's budget for tenants who pay nothing (`SignerBudget::free`).
    pub uses_free_budget: bool,
    /// Whether a larger tier exists: a refusal by this tier's limits or chains then proposes it.
    pub upgradable: bool,
}

/// The rows: each makes a variant of [`Tier`] and its [`Plan`].
macro_rules! tiers {
    ($($(#[$attribute:meta])* $tier:ident = $name:literal { $($column:ident: $value:expr,)* })*) => {
        /// A tenant's plan: it sets the limits and the live chains.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
        pub enum Tier {
            $($(#[$attribute])* #[serde(rename = $name)] $tier,)*
        }

        /// All tiers, the smallest first.
        pub const PLANS: &[Plan] = &[$(*Tier::$tier.plan(),)*];

        impl Tier {
            /// The row of this tier.
            #[must_use]
            pub const fn plan(self) -> &'static Plan {
                match self {
                    $(Self::$tier => const { &Plan { tier: Self::$tier, name: $name, $($column: $value,)* } },)*
                }
            }
        }
    };
}

tiers! {
    /// Free: base and solana, 1,000 verifications a month. The tier of a new tenant.
    #[default]
    Free = "free" {
        price_usd: 0,
        limits: Limits { per_minute: 10, per_hour: 100, per_month: Some(1_000) },
        chains: TierChains::Only(&["solana", "base"]),
        branding: false,
        oidc: false,
        webhooks: false,
        derived_addresses: false,
        uses_free_budget: true,
        upgradable: true,
    }
    /// Three chains, 50,000 verifications a month.
    Starter = "starter" {
        price_usd: 99,
        limits: Limits { per_minute: 100, per_hour: 5_000, per_month: Some(50_000) },
        chains: TierChains::Only(&["solana", "base", "ethereum"]),
        branding: false,
        oidc: false,
        webhooks: true,
        derived_addresses: true,
        uses_free_budget: false,
        upgradable: true,
    }
    /// Six chains, 500,000 verifications a month.
    Pro = "pro" {
        price_usd: 299,
        limits: Limits { per_minute: 500, per_hour: 50_000, per_month: Some(500_000) },
        chains: TierChains::Only(&["solana", "base", "ethereum", "polygon", "avalanche", "sei"]),
        branding: true,
        oidc: false,
        webhooks: true,
        derived_addresses: true,
        uses_free_budget: false,
        upgradable: true,
    }
    /// All chains, no monthly quota.
    Enterprise = "enterprise" {
        price_usd: 999,
        limits: Limits { per_minute: 2_000, per_hour: 200_000, per_month: None },
        chains: TierChains::All,
        branding: true,
        oidc: true,
        webhooks: true,
        derived_addresses: true,
        uses_free_budget: false,
        upgradable: false,
    }
}

impl Tier {
    /// The tier with this name; `None` for any other text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        PLANS.iter().find(|plan| plan.name == text).map(|plan| plan.tier)
    }

    /// Checks whether the tier may have addresses derived.
    ///
    /// # Errors
    /// `NOT_IN_TIER`, which another tier would allow.
    pub fn check_derivation(self) -> Result<(), Fault> {
        if self.plan().derived_addresses {
            return Ok(());
        }
        let detail = format!("the tier '{}' does not include derived addresses", self.plan().name);
        Err(Fault::new(ErrorCode::NotInTier, detail).upgradable().at("address"))
    }

    /// Checks whether the tier includes webhook endpoints.
    ///
    /// # Errors
    /// `NOT_IN_TIER`, which another tier would allow.
    pub fn check_webhooks(self) -> Result<(), Fault> {
        if self.plan().webhooks {
            return Ok(());
        }
        let detail = format!("the tier '{}' does not include webhook endpoints", self.plan().name);
        Err(Fault::new(ErrorCode::NotInTier, detail).upgradable())
    }

    /// Whether the tier includes the chain with this key; `false` for a key that the registry does not have.
    #[must_use]
    pub fn includes_chain(self, key: &str) -> bool {
        x402_chain::network::find_network(key).is_some_and(|network| self.includes(network))
    }

    /// Whether the tier includes the chain.
    #[must_use]
    pub(crate) fn includes(self, network: &Network) -> bool {
        let live = network.live_chain.unwrap_or(network.key);
        network.local
            || match self.plan().chains {
                TierChains::All => true,
                TierChains::Only(keys) => keys.contains(&live),
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use x402_chain::network;

    #[test]
    fn each_tier_has_its_own_row() {
        for plan in PLANS {
            assert_eq!(plan.tier.plan().name, plan.name);
            assert_eq!(Tier::parse(plan.name), Some(plan.tier));
            assert_eq!(serde_json::to_value(plan.tier).expect("a text"), plan.name);
        }
        assert_eq!(PLANS.first().map(|plan| plan.tier), Some(Tier::default()));
    }

    #[test]
    fn only_the_largest_tier_has_none_above_it_and_only_tiers_without_a_price_use_the_free_budget() {
        for (at, plan) in PLANS.iter().enumerate() {
            assert_eq!(plan.upgradable, at + 1 < PLANS.len(), "{}", plan.name);
            assert_eq!(plan.uses_free_budget, plan.price_usd == 0, "{}", plan.name);
        }
    }

    #[test]
    fn only_who_pays_has_addresses_derived() {
        for plan in PLANS {
            match plan.tier.check_derivation() {
                Ok(()) => assert!(plan.price_usd > 0, "{}", plan.name),
                Err(fault) => assert!(plan.price_usd == 0 && fault.upgrade && fault.code == ErrorCode::NotInTier),
            }
        }
    }

    #[test]
    fn only_who_pays_has_webhooks() {
        for plan in PLANS {
            match plan.tier.check_webhooks() {
                Ok(()) => assert!(plan.webhooks && plan.price_usd > 0, "{}", plan.name),
                Err(fault) => assert!(!plan.webhooks && fault.upgrade && fault.code == ErrorCode::NotInTier),
            }
        }
    }

    #[test]
    fn a_test_network_goes_with_its_live_chain() {
        let chain = |key| network::find_network(key).expect("a registered chain");
        assert!(Tier::Free.includes(chain("base-sepolia")));
        assert!(Tier::Free.includes(chain("local-evm")));
        assert!(!Tier::Free.includes(chain("ethereum")));
        assert!(!Tier::Free.includes(chain("sepolia")));
        assert!(Tier::Enterprise.includes(chain("hyperevm")));
    }

    #[test]
    fn a_larger_tier_includes_what_a_smaller_one_does() {
        for (smaller, larger) in PLANS.iter().zip(PLANS.iter().skip(1)) {
            for network in network::NETWORKS {
                assert!(!smaller.tier.includes(network) || larger.tier.includes(network), "{}", network.key);
            }
        }
    }
}

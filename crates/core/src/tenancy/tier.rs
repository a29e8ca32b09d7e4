//! The table of tiers, one row each.

use serde::{Deserialize, Serialize};
use x402_chain::network::Network;

/// A tenant's plan: it sets the limits and the live chains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// Free: base and solana, 1,000 verifications a month.
    Free,
    /// Three chains, 50,000 verifications a month.
    Starter,
    /// Six chains, 500,000 verifications a month.
    Pro,
    /// All chains, no monthly quota.
    Enterprise,
}

/// How many requests and verifications are allowed; `None` is unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Requests in any 60 seconds.
    pub per_minute: u64,
    /// Requests in any 60 minutes.
    pub per_hour: u64,
    /// Final verdicts in a period.
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
}

const FREE: Plan = Plan {
    tier: Tier::Free,
    name: "free",
    price_usd: 0,
    limits: Limits { per_minute: 10, per_hour: 100, per_month: Some(1_000) },
    chains: TierChains::Only(&["solana", "base"]),
};

const STARTER: Plan = Plan {
    tier: Tier::Starter,
    name: "starter",
    price_usd: 99,
    limits: Limits { per_minute: 100, per_hour: 5_000, per_month: Some(50_000) },
    chains: TierChains::Only(&["solana", "base", "ethereum"]),
};

const PRO: Plan = Plan {
    tier: Tier::Pro,
    name: "pro",
    price_usd: 299,
    limits: Limits { per_minute: 500, per_hour: 50_000, per_month: Some(500_000) },
    chains: TierChains::Only(&["solana", "base", "ethereum", "polygon", "avalanche", "sei"]),
};

const ENTERPRISE: Plan = Plan {
    tier: Tier::Enterprise,
    name: "enterprise",
    price_usd: 999,
    limits: Limits { per_minute: 2_000, per_hour: 200_000, per_month: None },
    chains: TierChains::All,
};

/// All tiers, the smallest first.
pub const PLANS: &[Plan] = &[FREE, STARTER, PRO, ENTERPRISE];

impl Tier {
    /// The row of this tier.
    #[must_use]
    pub const fn plan(self) -> &'static Plan {
        match self {
            Self::Free => &FREE,
            Self::Starter => &STARTER,
            Self::Pro => &PRO,
            Self::Enterprise => &ENTERPRISE,
        }
    }

    /// The tier with this name; `None` for any other text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        PLANS.iter().find(|plan| plan.name == text).map(|plan| plan.tier)
    }

    /// Whether the tier includes the chain.
    #[must_use]
    pub fn includes(self, network: &Network) -> bool {
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

//! `GET /v1/supported-chains`.

use serde::Serialize;
use x402_chain::network::{Environment, FinalityRule, NETWORKS, Network};
use x402_core::tenancy::tenant::Tenant;
use x402_core::tenancy::tier::Tier;
use x402_core::tenancy::usage::may_use;

/// The registered token of a chain.
#[derive(Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct AssetView {
    /// The token's contract (EVM) or mint (Solana).
    pub address: String,
    /// Always `USDC`.
    pub symbol: &'static str,
    /// Digits after the point.
    pub decimals: u8,
}

/// One chain as a key sees it.
#[derive(Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct ChainView {
    /// The registry's short key, such as `base`.
    pub chain: &'static str,
    /// The CAIP-2 id, such as `eip155:8453`.
    pub network: &'static str,
    /// The chain's display name.
    pub name: &'static str,
    /// `live`, or `test` for test networks.
    pub environment: Environment,
    /// The token that counts as payment on this chain.
    pub asset: AssetView,
    /// Whether this key may name the chain.
    pub enabled: bool,
    /// Why it is not enabled: `environment`, `tier` or `registry_check`; `null` where it is.
    pub reason: Option<&'static str>,
    /// Blocks, the transaction's own included, that make a payment `confirmed`.
    pub confirmations: u64,
    /// What makes it `finalized`: `tag`, the node's `finalized` tag or status; `instant`, each accepted block; `null`:
    /// no payment on this chain is called final.
    pub finality: Option<&'static str>,
}

/// The answer to `GET /v1/supported-chains`.
#[derive(Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct SupportedChains {
    /// The tenant's tier, which decides the enabled chains.
    pub tier: Tier,
    /// Chains that this key may name.
    pub enabled_chains: Vec<&'static str>,
    /// Every chain of the registry, enabled or not.
    pub all_chains: Vec<ChainView>,
}

/// The chains as a tenant's key sees them; `is_on` says whether the registry check allows a chain.
#[must_use]
pub fn supported_chains(tenant: &Tenant, is_on: impl Fn(&Network) -> bool) -> SupportedChains {
    let all_chains: Vec<ChainView> =
        NETWORKS.iter().map(|network| chain_view(tenant, network, is_on(network))).collect();
    SupportedChains {
        tier: tenant.tier,
        enabled_chains: all_chains.iter().filter(|chain| chain.enabled).map(|chain| chain.chain).collect(),
        all_chains,
    }
}

fn chain_view(tenant: &Tenant, network: &'static Network, is_on: bool) -> ChainView {
    let reason = if network.environment != tenant.environment {
        Some("environment")
    } else if !may_use(tenant, network) {
        Some("tier")
    } else if !is_on {
        Some("registry_check")
    } else {
        None
    };
    ChainView {
        chain: network.key,
        network: network.caip2,
        name: network.name,
        environment: network.environment,
        asset: AssetView {
            address: network.asset.text.to_owned(),
            symbol: network.asset.symbol,
            decimals: network.asset.decimals,
        },
        enabled: reason.is_none(),
        reason,
        confirmations: network.confirmations,
        finality: match network.finality {
            FinalityRule::Tag => Some("tag"),
            FinalityRule::Instant => Some("instant"),
            FinalityRule::Unknown => None,
        },
    }
}

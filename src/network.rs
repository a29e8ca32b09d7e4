//! The chain registry: one row a chain, read from `data/chains.json` and
//! checked when built (`build.rs`): unique names, EIP-55 checksums, recomputed
//! EIP-712 separators, decimals, provider addresses.
//!
//! A new chain is a row there, not a branch here.

use crate::address::{Address, Family};
use serde::{Deserialize, Serialize};

include!(concat!(env!("OUT_DIR"), "/networks.rs"));

/// Which money a key, a recipient or a chain deals in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    /// Money.
    Live,
    /// Play money: test networks and local chains.
    Test,
}

impl Environment {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Live, Self::Test];

    /// `live` or `test`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Test => "test",
        }
    }

    /// Reads the name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|environment| environment.name() == text)
    }
}

/// What makes a block of the chain irreversible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinalityRule {
    /// The node's `finalized` tag (EVM), or the status `finalized` (Solana).
    Tag,
    /// An accepted block is final.
    Instant,
    /// No tag and no documented count is established: nothing is called finalized.
    Unknown,
}

/// The token that counts as USDC on a chain.
#[derive(Clone, Copy, Debug)]
pub struct Asset {
    /// The contract or mint.
    pub address: Address,
    /// Always `USDC`.
    pub symbol: &'static str,
    /// Digits after the point; six for every registered asset.
    pub decimals: u8,
    /// The EIP-712 domain's name and version; `None` on Solana.
    pub eip712: Option<(&'static str, &'static str)>,
    /// The EIP-712 domain separator; `None` on Solana.
    pub separator: Option<[u8; 32]>,
}

/// A token that people mistake for the registered one; only to name it in a refusal.
#[derive(Clone, Copy, Debug)]
pub struct Bridged {
    /// The contract.
    pub address: Address,
    /// What it is called.
    pub name: &'static str,
}

/// One chain.
#[derive(Clone, Copy, Debug)]
pub struct Network {
    /// Our short key: `base`.
    pub key: &'static str,
    /// For people: `Base`.
    pub name: &'static str,
    /// The CAIP-2 id: `eip155:8453`.
    pub caip2: &'static str,
    /// Which family's rules it follows.
    pub family: Family,
    /// The EVM chain id.
    pub chain_id: Option<u64>,
    /// The x402 v1 name, where there is one.
    pub v1_name: Option<&'static str>,
    /// Live or test.
    pub environment: Environment,
    /// A development chain on loopback, open to every tier; its traces are never cached.
    pub local: bool,
    /// The live chain whose tier rule a test network follows.
    pub live_chain: Option<&'static str>,
    /// The registered token.
    pub asset: Asset,
    /// Whether the row agrees with a reading of the chain; if not, the chain is
    /// off until the registry check has passed.
    pub proven: bool,
    /// Typical milliseconds between blocks; practice, not a promise.
    pub block_time_ms: u64,
    /// Blocks, the transaction's own included, that make a payment `confirmed`.
    pub confirmations: u64,
    /// What makes it `finalized`.
    pub finality: FinalityRule,
    /// Public providers in order of preference.
    pub rpc: &'static [&'static str],
    /// Tokens to name in a refusal.
    pub bridged: &'static [Bridged],
}

impl PartialEq for Network {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for Network {}

/// A chain by our key.
#[must_use]
pub fn by_key(key: &str) -> Option<&'static Network> {
    NETWORKS.iter().find(|network| network.key == key)
}

/// A chain by its CAIP-2 id.
#[must_use]
pub fn by_caip2(id: &str) -> Option<&'static Network> {
    NETWORKS.iter().find(|network| network.caip2 == id)
}

/// A chain by either name, as `POST /v1/verify` takes it.
#[must_use]
pub fn find(name: &str) -> Option<&'static Network> {
    by_key(name).or_else(|| by_caip2(name))
}

/// The setting that replaces a chain's providers: `RPC_BASE_SEPOLIA`.
#[must_use]
pub fn rpc_setting(network: &Network) -> String {
    format!("RPC_{}", network.key.to_uppercase().replace('-', "_"))
}

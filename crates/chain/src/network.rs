//! The chain registry: one row a chain, read from `data/chains.json` and
//! checked when built (`build.rs`): unique names, EIP-55 checksums, recomputed
//! EIP-712 separators, decimals, provider addresses.
//!
//! A new chain is a row there, not a branch here.

use crate::address::{Address, Family};
use serde::{Deserialize, Serialize};

#[cfg(test)]
mod registry;
mod separator;

pub(crate) use separator::domain_separator;

include!(concat!(env!("OUT_DIR"), "/networks.rs"));

/// Whether a key, a recipient or a chain deals in real money or in worthless test tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    /// Real money: main networks.
    Live,
    /// Worthless tokens: test networks and local chains.
    Test,
}

impl Environment {
    /// Both environments.
    pub const ALL: [Self; 2] = [Self::Live, Self::Test];

    /// The name in JSON: `live` or `test`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Test => "test",
        }
    }

    /// The environment with this name; `None` for any other text.
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
    /// The token's contract (EVM) or mint (Solana).
    pub address: Address,
    /// The same as text, with its checksum.
    pub text: &'static str,
    /// The token's symbol: always `USDC`.
    pub symbol: &'static str,
    /// Digits after the point; six for every registered asset.
    pub decimals: u8,
    /// The EIP-712 domain's name and version; `None` on Solana.
    pub eip712: Option<(&'static str, &'static str)>,
    /// The EIP-712 domain separator; `None` on Solana.
    pub separator: Option<[u8; 32]>,
    /// Whether a transaction may pay its gas in it. The fee then shows as `Transfer` logs of this
    /// contract: a reserve from the sender to the zero address and back, and what is earned of it.
    pub pays_gas: bool,
}

/// What a settlement on a chain may cost.
#[derive(Clone, Copy, Debug)]
pub struct SettlementCosts {
    /// The least that is settled, atomic units.
    pub min_atomic: u64,
    /// The most that one settlement may cost.
    pub cost: CostCap,
    /// The coin in which fees are paid.
    pub coin: NativeCoin,
}

/// A chain's own coin, which pays for settlements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NativeCoin {
    /// The coin's symbol: `ETH`, `SOL`.
    pub symbol: &'static str,
    /// Whole dollars a coin, above zero: an assumption of the registry's, not a quote.
    pub usd: u64,
    /// Digits after the point of its smallest unit (wei, lamport): 18 on EVM, 9 on Solana.
    pub decimals: u8,
}

impl NativeCoin {
    /// What millionths of a dollar buy, smallest units, rounded down.
    #[must_use]
    pub fn units_for(&self, micro_usd: u128) -> u128 {
        let one = 10_u128.saturating_pow(self.decimals.into());
        let price = u128::from(self.usd).saturating_mul(1_000_000);
        micro_usd.saturating_mul(one).checked_div(price).unwrap_or(0)
    }

    /// What `units` of the smallest unit are worth, millionths of a dollar, rounded up.
    #[must_use]
    pub fn micro_usd(&self, units: u128) -> u128 {
        let one = 10_u128.saturating_pow(self.decimals.into());
        units.saturating_mul(u128::from(self.usd)).saturating_mul(1_000_000).div_ceil(one)
    }
}

/// The caps of one tenant's settlements on one network, in the coin's smallest unit a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantBudget {
    /// Of all settlements together.
    pub day: u128,
    /// Of those that failed; once it is used up, only payers who have completed one are launched.
    pub failed: u128,
}

/// The most that one settlement may cost, by family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CostCap {
    /// EVM: a limit of gas, and of its price.
    Evm(GasCap),
    /// Solana: a limit of compute units, and of the priority fee.
    Svm(ComputeCap),
}

/// What a settlement's gas may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GasCap {
    /// The most gas that one settlement may use.
    pub limit: u64,
    /// Which members of a transaction state its fee.
    pub fees: FeeModel,
    /// The most for a unit of gas, wei; our own cap.
    pub max_fee_wei: u128,
}

/// What a payer may make us pay on Solana beside [`LAMPORTS_PER_SIGNATURE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ComputeCap {
    /// The most compute units.
    pub units: u32,
    /// The most priority fee, lamports: the units times their price.
    pub priority_lamports: u64,
}

/// The fee for each signature of a Solana transaction, lamports.
pub const LAMPORTS_PER_SIGNATURE: u64 = 5_000;

impl ComputeCap {
    /// The most lamports that a transaction with so many signatures may cost us.
    #[must_use]
    pub(crate) fn worst_lamports(self, signatures: u8) -> u64 {
        LAMPORTS_PER_SIGNATURE.saturating_mul(signatures.into()).saturating_add(self.priority_lamports)
    }
}

impl SettlementCosts {
    /// The most that one transaction may cost us, in the coin's smallest unit: all its gas at the capped price, or two
    /// signatures and the whole priority fee. The layer 1 fee of OP-stack chains is not included.
    #[must_use]
    pub fn worst_cost(&self) -> u128 {
        match self.cost {
            CostCap::Evm(gas) => gas.max_fee_wei.saturating_mul(gas.limit.into()),
            CostCap::Svm(compute) => compute.worst_lamports(2).into(),
        }
    }

    /// The limits of an EVM chain; `None` on Solana.
    #[must_use]
    pub const fn gas(&self) -> Option<GasCap> {
        match self.cost {
            CostCap::Evm(gas) => Some(gas),
            CostCap::Svm(_) => None,
        }
    }

    /// The limits of Solana; `None` on an EVM chain.
    #[must_use]
    pub const fn compute(&self) -> Option<ComputeCap> {
        match self.cost {
            CostCap::Svm(compute) => Some(compute),
            CostCap::Evm(_) => None,
        }
    }
}

/// How a chain's transactions name their fee.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeeModel {
    /// EIP-1559: a cap and a tip.
    Eip1559,
    /// A single gas price, as before EIP-1559.
    Legacy,
}

/// A token that people mistake for the registered one; only to name it in a refusal.
#[derive(Clone, Copy, Debug)]
pub struct BridgedToken {
    /// The token's contract.
    pub address: Address,
    /// The token's name, as people know it.
    pub name: &'static str,
}

/// One row of the registry.
#[derive(Clone, Copy, Debug)]
pub struct Network {
    /// The short key of the chain: `base`.
    pub key: &'static str,
    /// The display name: `Base`.
    pub name: &'static str,
    /// The CAIP-2 id: `eip155:8453`.
    pub caip2: &'static str,
    /// Which family's rules it follows.
    pub family: Family,
    /// The EIP-155 chain id (EVM).
    pub chain_id: Option<u64>,
    /// The x402 v1 name, where there is one.
    pub v1_name: Option<&'static str>,
    /// `Live`, or `Test` for test networks.
    pub environment: Environment,
    /// A development chain on loopback, open to every tier; its traces are never cached.
    pub local: bool,
    /// The live chain whose tier rule a test network follows.
    pub live_chain: Option<&'static str>,
    /// The token that counts as payment on this chain.
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
    pub bridged: &'static [BridgedToken],
    /// What a settlement on the chain may cost; `None`: payments are only verified there.
    pub settle: Option<SettlementCosts>,
}

impl PartialEq for Network {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for Network {}

/// The network with this short key.
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
pub fn find_network(name: &str) -> Option<&'static Network> {
    by_key(name).or_else(|| by_caip2(name))
}

/// The setting that replaces a chain's providers: `RPC_BASE_SEPOLIA`.
#[must_use]
pub fn rpc_setting(network: &Network) -> String {
    format!("RPC_{}", network.key.to_uppercase().replace('-', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const DATA: &str = include_str!("../data/chains.json");

    /// Read from the chains by independent sources (docs/spec/protocol.md#p-2-3), and the local chain's.
    const SEPARATORS: &[(&str, &str)] = &[
        ("base", "02fa7265e7c5d81118673727957699e4d68f74cd74b7db77da710fe8a2c7834f"),
        ("polygon", "caa2ce1a5703ccbe253a34eb3166df60a705c561b44b192061e28f2a985be2ca"),
        ("arbitrum", "08d11903f8419e68b1b8721bcbe2e9fc68569122a77ef18c216f10b3b5112c78"),
        ("monad", "fe22123edc0dd4aeb912eb7948c5f0e531592c2053b3067612f427db342c93c6"),
        ("celo", "b2ce31d2838445fa765a491f550e7c78ac7280ab0f3bc9d6063a86df9c3fb578"),
        ("avalanche", "bbea200329a938bc3438984a49cb0732e66d66d7bd59c127abacc1710e77f7b3"),
        ("sei", "0a19136106ae98d2c245cbbd451f3cb2bbbb1670e1ee191abacb5a5e255c0255"),
        ("optimism", "26d9c34bb1a1c312f69c53b2d93b8be20faafba63af2438c6811713c9b1f933f"),
        ("ethereum", "06c37168a7db5138defc7866392bb87a741f9b3d104deb5094588ce041cae335"),
        ("world", "936533d5f85622a8261854e20bb87f4e849dde486f429bc1fb66202b7cde09ec"),
        ("hyperevm", "70a72998ad787d1a9152a8f88ccfe0766b1cb293b6b4011b34523035da10b0a3"),
        ("unichain", "565b4c4095d739dada6adeb9a89bc6dc4d102500ebd4a88bef1ec1d0f69d83b8"),
        ("sonic", "47ff53f4cb866f027068ac56dedd98f6818c3ea4f1f60a1850d746944543ac12"),
        ("xlayer", "b1671065a2ea487729c4ff0e2f8beb2105e3ce63315ad07483374a3476b83972"),
        ("base-sepolia", "71f17a3b2ff373b803d70a5a07c046c1a2bc8e89c09ef722fcb047abe94c9818"),
        ("polygon-amoy", "5cddc98319864e897e4469bd1d13c2288c677047b54b8cca12bd342adb6be9eb"),
        ("avalanche-fuji", "fe9fa105a0e9629446730e544caa6b8d05d8d4fc93451750dc50e2ddd6d374b3"),
        ("arbitrum-sepolia", "85944e1292d007732838d6eadfa67589b78ffcededbd4df60488d0af251308bb"),
        ("sepolia", "b90e5057db141a932946e64d09ccb7ffc9b00bd79fec26f698d29af0c83320a6"),
        ("skale-base", "e182bdd83730d37cc41c779b38c22661c4c347f647925627d97926ee54dd4044"),
        ("sei-testnet", "154bb5980ce1d584a1067dc67730720e6046d0364a2ade0b692dd488e71fe653"),
        ("iotex", "1fe7a84df16e817c1ad4382cf5e2ae126022a073a3d547352184405dcb4943bf"),
        ("peaq", "a7d03bc6a028c2db6a63276917c088f148317e450676587d0832046fd959f2ca"),
        ("skale-base-sepolia", "9c66d10c4bfde137b77b28f21e155cb5aa5acec7c1ae89d30a5467e11a74fc86"),
        ("local-evm", "e33727b4ad030c5b0ea9983725a1badb1416464b1995d38a0aba2b2960151573"),
    ];

    #[test]
    fn what_settling_may_cost_is_the_rows() {
        let rows = registry::read(DATA).expect("reads");
        for (row, network) in rows.iter().zip(NETWORKS) {
            let row = row.settle.as_ref().map(|settle| match settle.cost {
                registry::CostRow::Evm { gas_limit, fees, .. } => (gas_limit, fees == registry::FeesRow::Legacy),
                registry::CostRow::Svm { compute_units, .. } => (compute_units.into(), false),
            });
            let table = network.settle.map(|settle| match settle.cost {
                CostCap::Evm(gas) => (gas.limit, gas.fees == FeeModel::Legacy),
                CostCap::Svm(compute) => (compute.units.into(), false),
            });
            assert_eq!(table, row, "{}", network.key);
        }
        let least = by_key("ethereum").and_then(|network| network.settle).map(|settle| settle.min_atomic);
        assert_eq!(least, Some(100_000));
        let settle = |key| by_key(key).and_then(|network| network.settle).unwrap();
        assert_eq!(settle("solana").compute(), Some(ComputeCap { units: 400_000, priority_lamports: 10_000 }));
        assert_eq!(settle("solana").compute().unwrap().worst_lamports(1), 15_000);
        assert_eq!(settle("solana").worst_cost(), 20_000);
        assert_eq!(settle("base").worst_cost(), 1_000_000_000_000_000);
    }

    #[test]
    fn a_coin_belongs_to_its_family_and_has_a_price_in_dollars() {
        for network in NETWORKS {
            let coin = network.settle.map(|settle| settle.coin).unwrap();
            let decimals = if network.family == Family::Evm { 18 } else { 9 };
            assert_eq!(coin.decimals, decimals, "{}", network.key);
            let live = network.live_chain.and_then(by_key).and_then(|live| live.settle);
            assert!(live.is_none_or(|live| live.coin == coin), "{}", network.key);
        }
        let coin = |key| by_key(key).and_then(|network| network.settle).map(|settle| settle.coin).unwrap();
        assert_eq!(coin("base"), NativeCoin { symbol: "ETH", usd: 4_000, decimals: 18 });
        assert_eq!(coin("base").units_for(1_000_000), 250_000_000_000_000);
        assert_eq!(coin("base").micro_usd(250_000_000_000_000), 1_000_000);
        assert_eq!(coin("base").micro_usd(1), 1);
        assert_eq!(coin("base").units_for(u64::MAX.into()), 4_611_686_018_427_387_903_750_000_000);
        assert_eq!(coin("solana-devnet"), NativeCoin { symbol: "SOL", usd: 200, decimals: 9 });
        assert_eq!(coin("solana").units_for(10_000), 50_000);
        assert_eq!(coin("solana").micro_usd(20_000), 4_000);
        assert_eq!(coin("local-evm").units_for(1_000_000), 1_000_000_000_000_000_000);
    }

    #[test]
    fn separators_are_pinned() {
        for network in NETWORKS {
            let found = network.asset.separator.map(hex::encode);
            let want = SEPARATORS.iter().find(|(key, _)| *key == network.key).map(|(_, hex)| *hex);
            assert_eq!(found.as_deref(), want, "{}", network.key);
        }
    }

    #[test]
    fn a_separator_is_that_of_its_row() {
        for network in NETWORKS.iter().filter(|network| network.family == Family::Evm) {
            let ((name, version), id) = (network.asset.eip712.unwrap(), network.chain_id.unwrap());
            let Address::Evm(contract) = network.asset.address else { panic!("{}", network.key) };
            let separator = domain_separator(name, version, id, contract);
            assert_eq!(Some(separator.0), network.asset.separator, "{}", network.key);
        }
    }

    #[test]
    fn every_chain_of_the_product_is_there() {
        let keys: Vec<&str> = NETWORKS.iter().map(|network| network.key).collect();
        for key in [
            "solana",
            "base",
            "ethereum",
            "polygon",
            "avalanche",
            "sei",
            "iotex",
            "peaq",
            "xlayer",
            "skale-base",
            "arbitrum",
            "optimism",
            "monad",
            "celo",
            "world",
            "unichain",
            "sonic",
            "hyperevm",
            "local-evm",
            "local-solana",
        ] {
            assert!(keys.contains(&key), "{key}");
        }
        let off: Vec<&str> = NETWORKS.iter().filter(|network| !network.proven).map(|network| network.key).collect();
        assert_eq!(off, ["sei-testnet", "iotex", "peaq", "skale-base-sepolia"]);
    }

    #[test]
    fn a_chain_is_found_by_either_name_and_by_no_other() {
        for network in NETWORKS {
            assert_eq!(find_network(network.key), Some(network));
            assert_eq!(find_network(network.caip2), Some(network));
        }
        for unknown in ["", "Base", "8453", "eip155:8454", "bsc"] {
            assert_eq!(find_network(unknown), None, "{unknown}");
        }
        assert_eq!(find_network("base-sepolia").map(rpc_setting).as_deref(), Some("RPC_BASE_SEPOLIA"));
    }

    #[test]
    fn gas_is_paid_in_the_token_where_a_row_says_so() {
        let all = NETWORKS.iter().filter(|network| network.asset.pays_gas).map(|network| network.key);
        assert_eq!(all.collect::<Vec<_>>(), ["celo"]);
        let mut root: Value = serde_json::from_str(DATA).unwrap();
        let rows = root["chains"].as_array_mut().unwrap();
        rows.iter_mut().find(|row| row["key"] == "solana").unwrap()["usdc"]["pays_gas"] = json!(true);
        let mistakes = registry::read(&root.to_string()).err().unwrap_or_default();
        assert_eq!(mistakes, ["solana: usdc.pays_gas is for EVM chains"]);
    }

    /// The mistakes of a registry whose row `base` has `member` replaced.
    #[track_caller]
    fn check(pointer: &str, new: Value, rule: &str) {
        let mut root: Value = serde_json::from_str(DATA).unwrap();
        let at = root["chains"].as_array().unwrap().iter().position(|row| row["key"] == "base").unwrap();
        *root.pointer_mut(&format!("/chains/{at}{pointer}")).unwrap() = new;
        let mistakes = registry::read(&root.to_string()).err().unwrap_or_default();
        assert!(mistakes.iter().any(|mistake| mistake.contains(rule)), "{rule}: {mistakes:?}");
    }

    #[test]
    fn a_row_that_breaks_a_rule_is_refused() {
        assert!(registry::read(DATA).is_ok());
        assert!(registry::read("{").is_err());
        let checksum = "base: usdc.address has its EIP-55 checksum";
        check("/usdc/address", json!("0x833589fcd6edb6e08f4c7c32d4f71b54bda02913"), checksum);
        check("/usdc/address", json!("EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v"), checksum);
        let separator = "base: usdc.domain_separator is the recomputed one";
        check("/usdc/eip712_name", json!("USDC"), separator);
        check("/usdc/eip712_version", json!("1"), separator);
        check("/usdc/domain_separator", json!("0x02"), separator);
        check("/usdc/domain_separator", Value::Null, "base: usdc has the EIP-712 members");
        check("/usdc/separator_matches_a_chain_reading", Value::Null, "base: usdc has the EIP-712 members");
        check("/usdc/decimals", json!(18), "base: usdc.decimals is 6");
        check("/key", json!("polygon"), "polygon: key is unique");
        check("/key", json!("Base"), "Base: key is lower-case");
        check("/key", json!("base2"), "base-sepolia: live_chain is the key of a live chain");
        check("/caip2", json!("eip155:1"), "base: caip2 is unique");
        check("/caip2", json!("eip155:08453"), "base: caip2 is eip155:<chain_id>");
        check("/chain_id", json!(1), "base: chain_id is unique");
        check("/v1_name", json!("polygon"), "polygon: v1_name is unique");
        check("/kind", json!("svm"), "base: usdc.address");
        check("/testnet", json!(true), "base: a test network names its live chain");
        check("/confirmations", json!(0), "base: confirmations is above zero");
        check("/confirmations", Value::Null, "base: confirmations is above zero");
        check("/block_time_ms", json!(0), "base: block_time_ms");
        check("/rpc", json!([]), "base: rpc names providers");
        check("/rpc/0", json!("http://127.0.0.1:8545"), "base: rpc names providers");
        check("/bridged/0/address", json!("0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"), "base: a bridged token");
        check("/finality", json!("safe"), "unknown variant");
        check("/settle/gas_limit", json!(20_000), "base: settle has a least amount");
        let coin = json!({"symbol": "SOL", "usd": 1});
        let compute = json!({"min_atomic": "1", "compute_units": 1, "priority_lamports": 1, "coin": coin});
        check("/settle", compute, "base: settle has");
        check("/settle/coin/usd", json!(0), "base: settle.coin has a symbol and a price");
        check("/settle/coin/symbol", json!(""), "base: settle.coin has a symbol and a price");
        check("/settle/coin/usd", json!(0.5), "expected u64");
        check("/name", json!(""), "base: name is not empty");
    }
}

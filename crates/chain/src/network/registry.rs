//! The rows of `data/chains.json` and the rules they must keep. Read by
//! `build.rs`, which refuses to build on a mistake, and by the tests of
//! `src/network.rs`.

use super::separator::domain_separator;
use alloy_primitives::Address;
use serde::Deserialize;
use std::collections::BTreeSet;

/// The whole of `data/chains.json`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RegistryFile {
    /// Where the rows come from.
    pub(crate) source: String,
    /// What the members of a row mean.
    pub(crate) note: String,
    /// The rows, one a chain.
    pub(crate) chains: Vec<ChainRow>,
}

/// One chain, as the file describes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChainRow {
    pub(crate) key: String,
    pub(crate) name: String,
    pub(crate) kind: FamilyRow,
    pub(crate) caip2: String,
    pub(crate) chain_id: Option<u64>,
    pub(crate) v1_name: Option<String>,
    pub(crate) testnet: bool,
    pub(crate) live_chain: Option<String>,
    pub(crate) usdc: UsdcRow,
    pub(crate) block_time_ms: u64,
    pub(crate) confirmations: Option<u64>,
    pub(crate) finality: FinalityRow,
    pub(crate) rpc: Vec<String>,
    #[serde(default)]
    pub(crate) bridged: Vec<BridgedRow>,
    pub(crate) settle: Option<SettleRow>,
}

/// What a settlement on the chain may cost.
#[derive(Deserialize)]
pub(crate) struct SettleRow {
    pub(crate) min_atomic: String,
    #[serde(flatten)]
    pub(crate) cost: CostRow,
    pub(crate) coin: CoinRow,
}

/// The chain's own coin and the whole dollars it is taken to be worth.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CoinRow {
    pub(crate) symbol: String,
    pub(crate) usd: u64,
}

/// The most that one settlement may cost: gas and its price, or compute units and the whole priority fee.
#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(untagged)]
pub(crate) enum CostRow {
    Evm { gas_limit: u64, fees: FeesRow, max_fee_gwei: u64 },
    Svm { compute_units: u32, priority_lamports: u64 },
}

/// How a chain's transactions name their fee.
#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FeesRow {
    Eip1559,
    Legacy,
}

/// Which family's rules a chain follows.
#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FamilyRow {
    Evm,
    Svm,
}

/// What makes a block irreversible.
#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FinalityRow {
    Tag,
    Instant,
    Unknown,
}

/// The registered token, as the file describes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UsdcRow {
    pub(crate) address: String,
    pub(crate) decimals: u8,
    pub(crate) eip712_name: Option<String>,
    pub(crate) eip712_version: Option<String>,
    pub(crate) domain_separator: Option<String>,
    pub(crate) separator_matches_a_chain_reading: Option<bool>,
    #[serde(default)]
    pub(crate) pays_gas: bool,
}

/// A token that is mistaken for it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BridgedRow {
    pub(crate) address: String,
    pub(crate) name: String,
}

impl ChainRow {
    /// Whether it is a development chain on loopback.
    pub(crate) fn is_local(&self) -> bool {
        self.key.starts_with("local-")
    }

    fn is_evm(&self) -> bool {
        self.kind == FamilyRow::Evm
    }
}

/// A rule about one row: its description, and whether a row keeps it.
type RowRule = (&'static str, fn(&ChainRow) -> bool);

const RULES: &[RowRule] = &[
    ("key is lower-case letters, digits and dashes", |row| is_key(&row.key)),
    ("name is not empty", |row| !row.name.is_empty()),
    ("caip2 is eip155:<chain_id>, or solana:<reference> without a chain_id", caip2_fits),
    ("usdc.address has its EIP-55 checksum, or is 32 bytes of base58", |row| is_address(row.kind, &row.usdc.address)),
    ("usdc.decimals is 6", |row| row.usdc.decimals == 6),
    ("usdc has the EIP-712 members on EVM and none on Solana", eip712_fits),
    ("usdc.domain_separator is the recomputed one", separator_fits),
    ("usdc.pays_gas is for EVM chains", |row| row.is_evm() || !row.usdc.pays_gas),
    ("a bridged token has an address of its own", bridged_fits),
    ("block_time_ms is above zero", |row| row.block_time_ms > 0),
    ("confirmations is above zero, and named on EVM", |row| row.confirmations.map_or(!row.is_evm(), |n| n > 0)),
    ("rpc names providers by https, or by loopback for local-*", rpc_fits),
    ("a test network names its live chain, others none", |row| {
        row.live_chain.is_some() == (row.testnet && !row.is_local())
    }),
    ("finality on Solana is the node's status (tag)", |row| row.is_evm() || row.finality == FinalityRow::Tag),
    ("settle has a least amount, and a cost of its family within reason", settle_fits),
    ("settle.coin has a symbol and a price in whole dollars", coin_fits),
    ("local-* is a test network", |row| row.testnet || !row.is_local()),
];

/// Reads the file.
///
/// # Errors
/// Every mistake found, each naming the row and the rule.
pub(crate) fn read(text: &str) -> Result<Vec<ChainRow>, Vec<String>> {
    let registry: RegistryFile = serde_json::from_str(text).map_err(|error| vec![error.to_string()])?;
    let mut mistakes = Vec::new();
    if registry.source.is_empty() || registry.note.is_empty() || registry.chains.is_empty() {
        mistakes.push("source, note and chains are not empty".to_owned());
    }
    for row in &registry.chains {
        let broken = RULES.iter().filter(|(_, keeps)| !keeps(row));
        mistakes.extend(broken.map(|(rule, _)| format!("{}: {rule}", row.key)));
    }
    mistakes.extend(across(&registry.chains));
    if mistakes.is_empty() { Ok(registry.chains) } else { Err(mistakes) }
}

/// The rules about more than one row.
fn across(rows: &[ChainRow]) -> Vec<String> {
    let mut mistakes = Vec::new();
    let mut seen = BTreeSet::new();
    for row in rows {
        let names = [
            ("key", Some(row.key.clone())),
            ("caip2", Some(row.caip2.clone())),
            ("chain_id", row.chain_id.map(|id| id.to_string())),
            ("v1_name", row.v1_name.clone()),
        ];
        for (member, name) in names {
            if name.is_some_and(|name| !seen.insert((member, name))) {
                mistakes.push(format!("{}: {member} is unique", row.key));
            }
        }
        let follows = |live: &String| rows.iter().any(|other| other.key == *live && !other.testnet);
        if !row.live_chain.as_ref().is_none_or(follows) {
            mistakes.push(format!("{}: live_chain is the key of a live chain", row.key));
        }
    }
    mistakes
}

fn is_key(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
}

fn caip2_fits(row: &ChainRow) -> bool {
    match (row.kind, row.chain_id) {
        (FamilyRow::Evm, Some(id)) => row.caip2 == format!("eip155:{id}"),
        (FamilyRow::Svm, None) => row.caip2.strip_prefix("solana:").is_some_and(|reference| !reference.is_empty()),
        (FamilyRow::Evm, None) | (FamilyRow::Svm, Some(_)) => false,
    }
}

/// The 20 bytes of an address that carries its checksum.
pub(crate) fn evm_address(text: &str) -> Option<Address> {
    Address::parse_checksummed(text, None).ok()
}

/// The 32 bytes of a mint.
pub(crate) fn svm_address(text: &str) -> Option<[u8; 32]> {
    bs58::decode(text).into_vec().ok()?.try_into().ok()
}

/// The 32 bytes of a separator: `0x` and 64 lower-case hex digits.
pub(crate) fn separator(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0_u8; 32];
    hex::decode_to_slice(text.strip_prefix("0x")?, &mut bytes).ok()?;
    Some(bytes)
}

fn is_address(kind: FamilyRow, text: &str) -> bool {
    match kind {
        FamilyRow::Evm => evm_address(text).is_some(),
        FamilyRow::Svm => svm_address(text).is_some(),
    }
}

fn eip712_fits(row: &ChainRow) -> bool {
    let usdc = &row.usdc;
    let members = [usdc.eip712_name.is_some(), usdc.eip712_version.is_some(), usdc.domain_separator.is_some()];
    members.iter().all(|has| *has == row.is_evm())
        && usdc.separator_matches_a_chain_reading.is_some() == (row.is_evm() && !row.is_local())
}

fn separator_fits(row: &ChainRow) -> bool {
    let usdc = &row.usdc;
    let (Some(name), Some(version), Some(text)) = (&usdc.eip712_name, &usdc.eip712_version, &usdc.domain_separator)
    else {
        return !row.is_evm();
    };
    let (Some(id), Some(contract)) = (row.chain_id, evm_address(&usdc.address)) else {
        return false;
    };
    separator(text).is_some_and(|found| domain_separator(name, version, id, contract) == found)
}

fn bridged_fits(row: &ChainRow) -> bool {
    row.bridged.iter().all(|token| {
        !token.name.is_empty() && is_address(row.kind, &token.address) && token.address != row.usdc.address
    })
}

fn settle_fits(row: &ChainRow) -> bool {
    row.settle.as_ref().is_none_or(|settle| {
        let cost = match settle.cost {
            // A transfer of the coin alone takes 21,000.
            CostRow::Evm { gas_limit, max_fee_gwei, .. } => {
                row.is_evm() && (21_000..=1_000_000).contains(&gas_limit) && max_fee_gwei > 0
            }
            // A transaction may take 1,400,000; a signature costs 5,000, and a priority fee of more
            // than a hundred signatures is a mistake in the file.
            CostRow::Svm { compute_units, priority_lamports } => {
                !row.is_evm() && (1..=1_400_000).contains(&compute_units) && priority_lamports <= 500_000
            }
        };
        cost && settle.min_atomic.parse::<u64>().is_ok_and(|least| least > 0)
    })
}

fn coin_fits(row: &ChainRow) -> bool {
    row.settle.as_ref().is_none_or(|settle| !settle.coin.symbol.is_empty() && settle.coin.usd > 0)
}

fn rpc_fits(row: &ChainRow) -> bool {
    let host = |url: &str| -> bool {
        if row.is_local() { url.starts_with("http://127.0.0.1:") } else { url.starts_with("https://") }
    };
    !row.rpc.is_empty() && row.rpc.iter().all(|url| host(url))
}

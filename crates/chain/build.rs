//! Turns `data/chains.json` into the table of `src/network.rs`. A row that
//! breaks a rule of `src/network/registry.rs` fails the build by its key and the rule.

#[path = "src/network/registry.rs"]
mod registry;
#[path = "src/network/separator.rs"]
mod separator;

use registry::{ChainRow, CostRow, FamilyRow, FeesRow, FinalityRow};
use std::fmt;
use std::path::Path;

const DATA: &str = "data/chains.json";

/// The reasons why no table can be built, a line each.
struct Mistakes(Vec<String>);

impl fmt::Debug for Mistakes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|mistake| write!(out, "\n  {DATA}: {mistake}"))
    }
}

impl<E: std::error::Error> From<E> for Mistakes {
    fn from(error: E) -> Self {
        Self(vec![error.to_string()])
    }
}

fn main() -> Result<(), Mistakes> {
    println!("cargo::rerun-if-changed={DATA}");
    let rows = registry::read(&std::fs::read_to_string(DATA)?).map_err(Mistakes)?;
    let entries: Vec<String> =
        rows.iter().map(|row| entry(row).ok_or_else(|| unwritable(row))).collect::<Result<_, _>>()?;
    let table = format!("/// All chains.\npub const NETWORKS: &[Network] = &[\n{}];\n", entries.concat());
    std::fs::write(Path::new(&std::env::var("OUT_DIR")?).join("networks.rs"), table)?;
    Ok(())
}

/// The rules exclude this; where it happens, a rule has a defect.
fn unwritable(row: &ChainRow) -> Mistakes {
    Mistakes(vec![format!("{}: the row keeps every rule and cannot be written", row.key)])
}

/// One row of the registry as a Rust expression.
fn entry(row: &ChainRow) -> Option<String> {
    let ChainRow { key, name, caip2, chain_id, v1_name, live_chain, block_time_ms, rpc, .. } = row;
    let family = match row.kind {
        FamilyRow::Evm => "Evm",
        FamilyRow::Svm => "Svm",
    };
    let finality = match row.finality {
        FinalityRow::Tag => "Tag",
        FinalityRow::Instant => "Instant",
        FinalityRow::Unknown => "Unknown",
    };
    let environment = if row.testnet { "Test" } else { "Live" };
    let local = row.is_local();
    // A row without a proven separator counts only after a check on the chain, unless it is a local chain.
    let proven = row.usdc.separator_matches_a_chain_reading.unwrap_or(true);
    // Solana counts by commitment status, not by blocks.
    let confirmations = row.confirmations.unwrap_or(1);
    let asset = asset(row)?;
    let settle = settle(row)?;
    let bridged = row
        .bridged
        .iter()
        .map(|token| {
            Some(format!(
                "BridgedToken {{ address: {}, name: {:?} }}, ",
                address(row.kind, &token.address)?,
                token.name
            ))
        })
        .collect::<Option<String>>()?;
    Some(format!(
        "    Network {{ key: {key:?}, name: {name:?}, caip2: {caip2:?}, family: Family::{family}, \
         chain_id: {chain_id:?}, v1_name: {v1_name:?}, environment: Environment::{environment}, local: {local}, \
         live_chain: {live_chain:?}, asset: {asset}, proven: {proven}, block_time_ms: {block_time_ms}, \
         confirmations: {confirmations}, finality: FinalityRule::{finality}, rpc: &{rpc:?}, bridged: &[{bridged}], \
         settle: {settle} }},\n"
    ))
}

fn settle(row: &ChainRow) -> Option<String> {
    let Some(settle) = &row.settle else { return Some("None".to_owned()) };
    let least: u64 = settle.min_atomic.parse().ok()?;
    let cost = match settle.cost {
        CostRow::Evm { gas_limit, fees, max_fee_gwei } => {
            let fees = match fees {
                FeesRow::Eip1559 => "Eip1559",
                FeesRow::Legacy => "Legacy",
            };
            let max_fee_wei = u128::from(max_fee_gwei).checked_mul(1_000_000_000)?;
            format!("CostCap::Evm(GasCap {{ limit: {gas_limit}, fees: FeeModel::{fees}, max_fee_wei: {max_fee_wei} }})")
        }
        CostRow::Svm { compute_units, priority_lamports } => {
            format!("CostCap::Svm(ComputeCap {{ units: {compute_units}, priority_lamports: {priority_lamports} }})")
        }
    };
    let decimals = match row.kind {
        FamilyRow::Evm => 18,
        FamilyRow::Svm => 9,
    };
    let registry::CoinRow { symbol, usd } = &settle.coin;
    let coin = format!("NativeCoin {{ symbol: {symbol:?}, usd: {usd}, decimals: {decimals} }}");
    Some(format!("Some(SettlementCosts {{ min_atomic: {least}, cost: {cost}, coin: {coin} }})"))
}

fn asset(row: &ChainRow) -> Option<String> {
    let usdc = &row.usdc;
    let eip712 = usdc.eip712_name.as_ref().zip(usdc.eip712_version.as_ref());
    let separator = match &usdc.domain_separator {
        None => None,
        Some(text) => Some(registry::separator(text)?),
    };
    Some(format!(
        "Asset {{ address: {}, text: {:?}, symbol: \"USDC\", decimals: {}, eip712: {eip712:?}, \
         separator: {separator:?}, pays_gas: {} }}",
        address(row.kind, &usdc.address)?,
        usdc.address,
        usdc.decimals,
        usdc.pays_gas
    ))
}

fn address(kind: FamilyRow, text: &str) -> Option<String> {
    Some(match kind {
        FamilyRow::Evm => {
            format!("Address::Evm(alloy_primitives::Address::new({:?}))", registry::evm_address(text)?.0.0)
        }
        FamilyRow::Svm => format!("Address::Svm({:?})", registry::svm_address(text)?),
    })
}

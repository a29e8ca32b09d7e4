//! Who has put an authorization on the chain: its `AuthorizationUsed` event
//! (EIP-3009), looked for in the blocks of the last minutes.

use super::log::AUTHORIZATION_USED;
use super::question::lower;
use crate::address::{Address, TxId};
use crate::chain::facts::{Call, Facts, Reply};
use crate::network::Network;
use alloy_primitives::B256;
use serde::Deserialize;
use serde_json::json;

/// How far back is looked: longer than any server waits for its payment.
const SPAN_MS: u64 = 900_000;
/// Blocks that every public provider lets a search span.
const BLOCKS_MAX: u64 = 1_000;

/// The search, up to a head.
#[must_use]
pub fn call(network: &Network, payer: &Address, nonce: &B256, head: u64) -> Option<Call> {
    let (Address::Evm(asset), Address::Evm(payer)) = (network.asset.address, *payer) else { return None };
    let blocks = SPAN_MS.checked_div(network.block_time_ms)?.min(BLOCKS_MAX);
    let filter = json!({
        "address": lower(asset.as_slice()),
        "fromBlock": format!("{:#x}", head.saturating_sub(blocks)),
        "toBlock": "latest",
        "topics": [
            lower(AUTHORIZATION_USED.as_slice()), lower(payer.into_word().as_slice()), lower(nonce.as_slice())
        ],
    });
    Some(Call::new("eth_getLogs", &json!([filter])))
}

/// The transaction that used it; an authorization is used once.
#[must_use]
pub fn read(facts: &Facts, call: &Call) -> Option<TxId> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Log {
        transaction_hash: B256,
        #[serde(default)]
        removed: bool,
    }
    let Some(Reply::Value(value)) = facts.get(call) else { return None };
    let logs: Vec<Log> = serde_json::from_str(value.get()).ok()?;
    logs.into_iter().find(|log| !log.removed).map(|log| TxId::Evm(log.transaction_hash))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Family;
    use crate::network::by_key;
    use serde_json::value::to_raw_value;

    #[test]
    fn the_event_is_looked_for_and_read() {
        let base = by_key("base").expect("registered");
        let payer = Address::parse(Family::Evm, "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266").expect("an address");
        let call = call(base, &payer, &B256::repeat_byte(7), 10_000).expect("a call");
        // 450 blocks of two seconds.
        assert!(call.params.contains("\"fromBlock\":\"0x254e\"") && call.params.contains(&"07".repeat(32)));
        let told = |value: serde_json::Value| {
            let mut facts = Facts::new();
            facts.learn(call.clone(), Reply::Value(to_raw_value(&value).expect("JSON")));
            read(&facts, &call)
        };
        let log = |removed: bool| json!({"transactionHash": B256::repeat_byte(1).to_string(), "removed": removed});
        assert_eq!(told(json!([log(true), log(false)])), Some(TxId::Evm(B256::repeat_byte(1))));
        for nothing in [json!([]), json!([log(true)]), json!(null), json!([{}])] {
            assert_eq!(told(nothing), None);
        }
    }
}

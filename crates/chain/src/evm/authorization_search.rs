//! Finds the transaction that used an authorization, by its `AuthorizationUsed` event (EIP-3009) in the blocks of the
//! last minutes.

pub use super::calls::newest_block_call;
use super::calls::{prefixed_hex, view_call_at};
use super::log::AUTHORIZATION_USED;
use super::{abi, answered_text, block, eip3009};
use crate::address::{Address, TxId};
use crate::facts::{Call, Facts, RpcReply};
use crate::network::Network;
use crate::time::UnixSeconds;
use alloy_primitives::B256;
use serde::Deserialize;
use serde_json::json;

/// How far back the search goes: longer than any server waits for its payment.
const SEARCHED_MS: u64 = 900_000;
/// A range of blocks that every public provider accepts.
const BLOCKS_PER_SEARCH: u64 = 1_000;
/// The most calls: on a chain with a block every 60 ms they cover the whole time.
const SEARCHES_MAX: u64 = 15;

/// The last block of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SearchEnd {
    /// Up to this block: a later use does not count.
    Block(u64),
    /// Up to the newest block, whatever its number by then; a node reported this number before.
    Newest(u64),
}

/// The `eth_getLogs` calls up to a last block, the newest blocks first; together they cover the last 15 minutes, or as
/// many blocks as the bounds allow. Empty on Solana.
#[must_use]
pub fn search_calls(network: &Network, payer: &Address, nonce: &B256, last: SearchEnd) -> Vec<Call> {
    let (Address::Evm(asset), Address::Evm(payer)) = (network.asset.address, *payer) else { return Vec::new() };
    let blocks = SEARCHED_MS.div_ceil(network.block_time_ms.max(1)).saturating_add(1);
    let pieces = blocks.div_ceil(BLOCKS_PER_SEARCH).min(SEARCHES_MAX);
    let (SearchEnd::Block(head) | SearchEnd::Newest(head)) = last;
    let search = |piece: u64| {
        let to = head.checked_sub(piece.saturating_mul(BLOCKS_PER_SEARCH))?;
        let oldest = head.saturating_sub(blocks.saturating_sub(1));
        let from = to.saturating_sub(BLOCKS_PER_SEARCH.saturating_sub(1)).max(oldest);
        // The chain has grown since its head was read.
        let is_open = piece == 0 && matches!(last, SearchEnd::Newest(_));
        let to = if is_open { "latest".to_owned() } else { format!("{to:#x}") };
        let filter = json!({
            "address": prefixed_hex(asset.as_slice()),
            "fromBlock": format!("{from:#x}"),
            "toBlock": to,
            "topics": [
                prefixed_hex(AUTHORIZATION_USED.as_slice()), prefixed_hex(payer.into_word().as_slice()), prefixed_hex(nonce.as_slice())
            ],
        });
        Some(Call::new("eth_getLogs", &json!([filter])))
    };
    (0..pieces).map_while(search).collect()
}

/// The transaction that used the authorization, by one search; there is at most one. The outer `None`: the node gave no
/// answer.
#[must_use]
pub fn read_search(facts: &Facts, call: &Call) -> Option<Option<TxId>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct UsedLogJson {
        transaction_hash: B256,
        #[serde(default)]
        removed: bool,
    }
    let Some(RpcReply::Value(value)) = facts.get(call) else { return None };
    let logs: Vec<UsedLogJson> = serde_json::from_str(value.get()).ok()?;
    Some(logs.into_iter().find(|log| !log.removed).map(|log| TxId::Evm(log.transaction_hash)))
}

/// The call for whether an authorization was used or cancelled by the end of `block`, or of the newest block. `None` on
/// Solana.
#[must_use]
pub fn authorization_state_call(network: &Network, payer: &Address, nonce: &B256, block: Option<u64>) -> Option<Call> {
    let (Address::Evm(asset), Address::Evm(payer)) = (network.asset.address, *payer) else { return None };
    let at = block.map_or_else(|| "latest".to_owned(), |block| format!("{block:#x}"));
    Some(view_call_at(asset, prefixed_hex(&eip3009::authorization_state_calldata(payer, *nonce)), &at))
}

/// The newest block's number and time; `None` where the node did not answer.
#[must_use]
pub fn read_newest_block(facts: &Facts, call: &Call) -> Option<(u64, UnixSeconds)> {
    let Some(RpcReply::Value(value)) = facts.get(call) else { return None };
    block::read(value).ok().flatten().map(|header| (header.number, header.time))
}

/// The node's answer to [`authorization_state_call`]; `None` where it gave none.
#[must_use]
pub fn read_is_used(facts: &Facts, call: &Call) -> Option<bool> {
    answered_text(facts, call).and_then(|text| abi::boolean(&text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Family;
    use crate::facts::{ErrorClass, RpcError};
    use crate::network::{NETWORKS, by_key};
    use serde_json::Value;
    use serde_json::value::to_raw_value;

    fn payer() -> Address {
        Address::parse(Family::Evm, "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266").expect("an address")
    }

    fn ranges(key: &str, head: u64) -> Vec<(u64, String)> {
        ranges_to(key, SearchEnd::Newest(head))
    }

    fn ranges_to(key: &str, last: SearchEnd) -> Vec<(u64, String)> {
        let calls = search_calls(by_key(key).expect("registered"), &payer(), &B256::repeat_byte(7), last);
        let range = |call: &Call| {
            let params: Value = serde_json::from_str(&call.params).expect("JSON");
            let from =
                params[0]["fromBlock"].as_str().and_then(|text| text.strip_prefix("0x")).expect("hex").to_owned();
            (u64::from_str_radix(&from, 16).expect("hex"), params[0]["toBlock"].as_str().expect("text").to_owned())
        };
        calls.iter().map(range).collect()
    }

    #[test]
    fn a_quarter_of_an_hour_is_searched_in_pieces_newest_first() {
        // Two seconds a block: 450 blocks and the head's own.
        assert_eq!(ranges("base", 10_000), [(9_550, "latest".to_owned())]);
        // A quarter of a second: 3,601 blocks, none left out and none twice.
        let hex = |to: u64| format!("{to:#x}");
        assert_eq!(
            ranges("arbitrum", 100_000),
            [(99_001, "latest".to_owned()), (98_001, hex(99_000)), (97_001, hex(98_000)), (96_400, hex(97_000))]
        );
        assert_eq!(ranges("arbitrum", 500), [(0, "latest".to_owned())]);
        // A search that ends at an old block covers the time before that block, not the newest blocks.
        assert_eq!(ranges_to("base", SearchEnd::Block(10_000)), [(9_550, hex(10_000))]);
        for network in NETWORKS.iter().filter(|network| network.family == Family::Evm) {
            let pieces = ranges(network.key, 10_000_000);
            let spanned = (10_000_000 - pieces.last().expect("a piece").0 + 1) * network.block_time_ms;
            assert!(spanned >= SEARCHED_MS, "{}", network.key);
        }
    }

    #[test]
    fn the_newest_block_has_a_number_and_a_time() {
        let read = |value: Value| {
            let mut facts = Facts::new();
            facts.insert(newest_block_call(), RpcReply::Value(to_raw_value(&value).expect("JSON")));
            read_newest_block(&facts, &newest_block_call())
        };
        let hash = B256::repeat_byte(2).to_string();
        let block = json!({"number": "0x10", "timestamp": "0x6b49d200", "hash": hash, "transactions": []});
        assert_eq!(read(block), Some((16, UnixSeconds(1_800_000_000))));
        assert_eq!(
            (
                read(json!(null)),
                read(json!({"number": "0x10"})),
                read_newest_block(&Facts::new(), &newest_block_call())
            ),
            (None, None, None)
        );
    }

    #[test]
    fn the_event_is_searched_and_read() {
        let base = by_key("base").expect("registered");
        let calls = search_calls(base, &payer(), &B256::repeat_byte(7), SearchEnd::Newest(10_000));
        let call = calls.first().expect("a call");
        assert!(call.params.contains(&"07".repeat(32)));
        let answered = |reply: RpcReply| {
            let mut facts = Facts::new();
            facts.insert(call.clone(), reply);
            read_search(&facts, call)
        };
        let said = |value: Value| answered(RpcReply::Value(to_raw_value(&value).expect("JSON")));
        let log = |removed: bool| json!({"transactionHash": B256::repeat_byte(1).to_string(), "removed": removed});
        assert_eq!(said(json!([log(true), log(false)])), Some(Some(TxId::Evm(B256::repeat_byte(1)))));
        for nothing in [json!([]), json!([log(true)])] {
            assert_eq!(said(nothing), Some(None));
        }
        for nonsense in [json!(null), json!([{}]), json!("x")] {
            assert_eq!(said(nonsense), None);
        }
        let error = RpcError { class: ErrorClass::Other, code: None, message: "query exceeds".to_owned() };
        assert_eq!(answered(RpcReply::Error(error)), None);
        assert_eq!(read_search(&Facts::new(), call), None);
    }

    #[test]
    fn a_state_is_read_at_a_block() {
        let base = by_key("base").expect("registered");
        let call = authorization_state_call(base, &payer(), &B256::repeat_byte(7), Some(255)).expect("a call");
        assert!(call.params.ends_with(r#","0xff"]"#) && call.params.contains("0xe94a0102"));
        let now = authorization_state_call(base, &payer(), &B256::repeat_byte(7), None).expect("a call");
        assert!(now.params.ends_with(r#","latest"]"#));
        let is_used_by = |value: Value| {
            let mut facts = Facts::new();
            facts.insert(call.clone(), RpcReply::Value(to_raw_value(&value).expect("JSON")));
            read_is_used(&facts, &call)
        };
        let word = |last: u8| format!("0x{}{last:02x}", "00".repeat(31));
        assert_eq!((is_used_by(json!(word(1))), is_used_by(json!(word(0)))), (Some(true), Some(false)));
        assert_eq!((is_used_by(json!("0x")), is_used_by(json!(null))), (None, None));
    }
}

//! The calls that the EVM reader makes (docs/spec/chains.md#evm-requests), in lower-case hex.

use crate::evm::sender::Sender;
use crate::facts::Call;
use crate::network::Fees;
use alloy_primitives::{Address, B256};
use serde_json::json;
use std::collections::BTreeMap;

/// `isBlacklisted(address)` of Circle's FiatToken.
const IS_BLACKLISTED: &str = "0xfe575a87";

/// Which chain the node is of.
pub(crate) fn chain_id() -> Call {
    Call::new("eth_chainId", &json!([]))
}

/// The node's head.
pub(super) fn head() -> Call {
    Call::new("eth_blockNumber", &json!([]))
}

/// The newest block that cannot be reversed.
pub(super) fn finalized() -> Call {
    Call::new("eth_getBlockByNumber", &json!(["finalized", false]))
}

/// The canonical block at a height, without its transactions.
pub(super) fn block_at(number: u64) -> Call {
    Call::new("eth_getBlockByNumber", &json!([format!("{number:#x}"), false]))
}

/// A transaction's receipt.
pub(super) fn receipt(hash: B256) -> Call {
    Call::new("eth_getTransactionReceipt", &json!([lower(hash.as_slice())]))
}

/// The transaction itself, which a node knows before its receipt.
pub(super) fn transaction(hash: B256) -> Call {
    Call::new("eth_getTransactionByHash", &json!([lower(hash.as_slice())]))
}

/// All events of a contract in a block.
pub(super) fn events(block: B256, contract: Address) -> Call {
    let filter = json!({ "blockHash": lower(block.as_slice()), "address": lower(contract.as_slice()) });
    Call::new("eth_getLogs", &json!([filter]))
}

/// The code at an address now.
pub(crate) fn code(address: Address) -> Call {
    Call::new("eth_getCode", &json!([lower(address.as_slice()), "latest"]))
}

/// Whether the token's issuer has blocked an address now.
pub(super) fn blacklisted(asset: Address, address: Address) -> Call {
    view(asset, format!("{IS_BLACKLISTED}{}", hex::encode(address.into_word())))
}

/// A call of a contract, made now as the sender's transaction would make it; nothing is sent.
pub(crate) fn simulation(contract: Address, from: Address, sender: &Sender, fees: Fees, data: &[u8]) -> Call {
    let quantity = |wei: u128| format!("{wei:#x}");
    let mut transaction =
        BTreeMap::from([("from", lower(from.as_slice())), ("to", lower(contract.as_slice())), ("data", lower(data))]);
    transaction.extend(sender.gas_limit.map(|limit| ("gas", quantity(limit.into()))));
    match (sender.price, fees) {
        (Some(price), Fees::Eip1559) => transaction.extend([
            ("maxFeePerGas", quantity(price.max_wei)),
            ("maxPriorityFeePerGas", quantity(price.tip_wei.min(price.max_wei))),
        ]),
        (Some(price), Fees::Legacy) => transaction.extend([("gasPrice", quantity(price.max_wei))]),
        (None, _) => {}
    }
    Call::new("eth_call", &json!([transaction, "latest"]))
}

/// A contract's view function, called now with the calldata.
pub(crate) fn view(contract: Address, data: String) -> Call {
    Call::new("eth_call", &json!([{ "to": lower(contract.as_slice()), "data": data }, "latest"]))
}

/// The same as of the end of a block.
pub(super) fn view_at(contract: Address, data: String, block: &str) -> Call {
    Call::new("eth_call", &json!([{ "to": lower(contract.as_slice()), "data": data }, block]))
}

pub(super) fn lower(bytes: &[u8]) -> String {
    alloy_primitives::hex::encode_prefixed(bytes)
}

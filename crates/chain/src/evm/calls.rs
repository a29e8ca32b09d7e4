//! The calls that the EVM reader makes (docs/spec/chains.md#evm-requests), in lower-case hex.

use crate::collect::map_of;
use crate::evm::sender::TransactionSender;
use crate::evm::token::isBlacklistedCall;
use crate::facts::Call;
use crate::network::FeeModel;
use alloy_primitives::{Address, B256};
use alloy_sol_types::SolCall;
use serde_json::json;

/// The call for the node's chain id.
pub(crate) fn chain_id_call() -> Call {
    Call::new("eth_chainId", &json!([]))
}

/// The call for the height of the node's newest block.
pub(crate) fn head_block_call() -> Call {
    Call::new("eth_blockNumber", &json!([]))
}

/// The call for the newest block, without its transactions.
#[must_use]
pub fn newest_block_call() -> Call {
    Call::new("eth_getBlockByNumber", &json!(["latest", false]))
}

/// The call for the newest block that cannot be reversed.
pub(super) fn finalized_block_call() -> Call {
    Call::new("eth_getBlockByNumber", &json!(["finalized", false]))
}

/// The call for the canonical block at a height, without its transactions.
pub(super) fn block_call(number: u64) -> Call {
    Call::new("eth_getBlockByNumber", &json!([format!("{number:#x}"), false]))
}

/// The call for a transaction's receipt.
pub(super) fn receipt_call(hash: B256) -> Call {
    Call::new("eth_getTransactionReceipt", &json!([prefixed_hex(hash.as_slice())]))
}

/// The call for a transaction, which a node knows before its receipt.
pub(super) fn transaction_call(hash: B256) -> Call {
    Call::new("eth_getTransactionByHash", &json!([prefixed_hex(hash.as_slice())]))
}

/// The call for all events of a contract in a block.
pub(super) fn events_call(block: B256, contract: Address) -> Call {
    let filter = json!({ "blockHash": prefixed_hex(block.as_slice()), "address": prefixed_hex(contract.as_slice()) });
    Call::new("eth_getLogs", &json!([filter]))
}

/// The call for the code at an address.
pub(crate) fn code_call(address: Address) -> Call {
    Call::new("eth_getCode", &json!([prefixed_hex(address.as_slice()), "latest"]))
}

/// The call that reads whether the token's issuer has blocked an address.
pub(super) fn blacklisted_call(asset: Address, address: Address) -> Call {
    view_call(asset, prefixed_hex(&isBlacklistedCall { account: address }.abi_encode()))
}

/// Simulates a call of a contract as the sender's transaction would make it; nothing is sent.
pub(crate) fn simulation_call(
    contract: Address,
    from: Address,
    sender: &TransactionSender,
    fees: FeeModel,
    data: &[u8],
) -> Call {
    let quantity = |wei: u128| format!("{wei:#x}");
    let mut transaction = map_of([
        ("from", prefixed_hex(from.as_slice())),
        ("to", prefixed_hex(contract.as_slice())),
        ("data", prefixed_hex(data)),
    ]);
    transaction.extend(sender.gas_limit.map(|limit| ("gas", quantity(limit.into()))));
    match (sender.price, fees) {
        (Some(price), FeeModel::Eip1559) => transaction.extend([
            ("maxFeePerGas", quantity(price.max_wei)),
            ("maxPriorityFeePerGas", quantity(price.tip_wei.min(price.max_wei))),
        ]),
        (Some(price), FeeModel::Legacy) => transaction.extend([("gasPrice", quantity(price.max_wei))]),
        (None, _) => {}
    }
    Call::new("eth_call", &json!([transaction, "latest"]))
}

/// A call of a contract's view function.
pub(crate) fn view_call(contract: Address, data: String) -> Call {
    Call::new("eth_call", &json!([{ "to": prefixed_hex(contract.as_slice()), "data": data }, "latest"]))
}

/// A call of a contract's view function, in the state at the end of a block.
pub(super) fn view_call_at(contract: Address, data: String, block: &str) -> Call {
    Call::new("eth_call", &json!([{ "to": prefixed_hex(contract.as_slice()), "data": data }, block]))
}

/// Bytes as lower-case hex with `0x`.
pub(crate) fn prefixed_hex(bytes: &[u8]) -> String {
    alloy_primitives::hex::encode_prefixed(bytes)
}

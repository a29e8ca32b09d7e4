//! Our own EVM transactions: price, signature and bytes.

use super::calls::newest_block_call;
use super::sender::GasPrice;
use super::{abi, answered_text, calls, eip3009, quantity};
use crate::address::TxId;
use crate::amount::Amount;
use crate::confirm::StateDecision;
use crate::facts::{Call, ErrorClass, Facts, RpcReply, Undecided};
use crate::network::{FeeModel, GasCap, Network};
use crate::signer::EvmSigner;
use alloy_consensus::{SignableTransaction, TxEip1559, TxLegacy};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, B256, Bytes, TxKind, U256, keccak256};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// The least tip, wei: some chains take none, and a node's own minimum is rarely higher.
const TIP_WEI_MIN: u128 = 1_000_000;
/// A transaction may cost this many times its first price while the market rises.
const WORST_FACTOR: u128 = 8;
/// The gas of a transfer of the coin on most chains.
pub const TRANSFER_GAS: u64 = 21_000;

/// The contract call of a transaction of ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContractCall {
    /// The contract that is called.
    pub to: Address,
    /// The calldata of the call.
    pub data: Bytes,
    /// The gas limit.
    pub gas_limit: u64,
}

/// A signed transaction, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedEvmTransaction {
    /// The bytes for `eth_sendRawTransaction`: `0x` and hex.
    pub raw: String,
    /// The transaction's hash, known before it is sent.
    pub hash: B256,
}

/// The lack of a price refuses nothing: the transaction is only not sent at present.
impl StateDecision for Option<GasPrice> {
    type Refusal = ();

    fn refusal(&self) -> Option<()> {
        None
    }
}

/// Signs a transaction; the same arguments give the same bytes. `None` where the chain has no id or nothing is settled
/// on it.
#[must_use]
pub fn sign_transaction(
    network: &Network,
    signer: &EvmSigner,
    nonce: u64,
    call: &ContractCall,
    price: GasPrice,
) -> Option<SignedEvmTransaction> {
    let chain_id = network.chain_id?;
    let (to, input, gas_limit) = (TxKind::Call(call.to), call.data.clone(), call.gas_limit);
    match network.settle?.gas()?.fees {
        FeeModel::Eip1559 => sign_typed(
            TxEip1559 {
                chain_id,
                nonce,
                gas_limit,
                max_fee_per_gas: price.max_wei,
                max_priority_fee_per_gas: price.tip_wei.min(price.max_wei),
                to,
                input,
                ..TxEip1559::default()
            },
            signer,
        ),
        FeeModel::Legacy => sign_typed(
            TxLegacy {
                chain_id: Some(chain_id),
                nonce,
                gas_limit,
                gas_price: price.max_wei,
                to,
                input,
                ..TxLegacy::default()
            },
            signer,
        ),
    }
}

fn sign_typed<T: SignableTransaction<alloy_primitives::Signature>>(
    transaction: T,
    signer: &EvmSigner,
) -> Option<SignedEvmTransaction>
where
    alloy_consensus::Signed<T>: Encodable2718,
{
    let signature = signer.sign(transaction.signature_hash())?;
    let raw = transaction.into_signed(signature).encoded_2718();
    Some(SignedEvmTransaction { raw: format!("0x{}", hex::encode(&raw)), hash: keccak256(raw) })
}

/// The calls that a price needs.
#[must_use]
pub fn price_calls() -> Vec<Call> {
    vec![gas_price_call(), tip_call(), newest_block_call()]
}

fn gas_price_call() -> Call {
    Call::new("eth_gasPrice", &json!([]))
}

fn tip_call() -> Call {
    Call::new("eth_maxPriorityFeePerGas", &json!([]))
}

/// A price as [`capped_price`] names it; `None` where even the base fee is above the chain's cap, or nothing is sent
/// there.
///
/// # Errors
/// [`Undecided::Missing`] with the calls that must be made first; [`Undecided::Malformed`] where the node gave no
/// price: another is to be asked.
pub fn quote_price(network: &Network, facts: &Facts) -> Result<Option<GasPrice>, Undecided> {
    let Some(gas) = network.settle.and_then(|settle| settle.gas()) else { return Ok(None) };
    facts.require(&price_calls())?;
    let market = market_price(gas, facts).ok_or_else(|| Undecided::malformed("no_price"))?;
    Ok(cap_market_price(gas, market, facts))
}

/// The most for a unit of gas, wei, of a transaction whose first price is `price`: eight times as much, within the
/// chain's cap. `None` where nothing is settled.
#[must_use]
pub fn worst_fee_wei(network: &Network, price: GasPrice) -> Option<u128> {
    let gas = network.settle?.gas()?;
    Some(gas.max_fee_wei.min(price.max_wei.saturating_mul(WORST_FACTOR)))
}

/// A price that stays sufficient through several full blocks, within the chain's cap. `None` where the node reported
/// none, or even the base fee is above the cap.
#[must_use]
pub fn capped_price(network: &Network, facts: &Facts) -> Option<GasPrice> {
    let gas = network.settle?.gas()?;
    cap_market_price(gas, market_price(gas, facts)?, facts)
}

/// The market's price, not yet capped. `None` where the node does not answer; an error counts as an answer only for a
/// method that a chain need not have.
fn market_price(gas: GasCap, facts: &Facts) -> Option<GasPrice> {
    let is_known = |call: &Call| match facts.get(call) {
        Some(RpcReply::Error(error)) => error.class == ErrorClass::Unsupported,
        Some(RpcReply::Value(_)) | None => true,
    };
    if gas.fees == FeeModel::Eip1559 && ![newest_block_call(), tip_call()].iter().all(is_known) {
        return None;
    }
    let answered_wei = |call: &Call| match facts.get(call) {
        Some(RpcReply::Value(value)) => quantity::text(value).ok().and_then(|text| hex_wei(&text)),
        Some(RpcReply::Error(_)) | None => None,
    };
    let (gas_price, tip) = (answered_wei(&gas_price_call()), answered_wei(&tip_call()));
    Some(match gas.fees {
        FeeModel::Legacy => GasPrice { max_wei: gas_price?, tip_wei: 0 },
        FeeModel::Eip1559 => {
            let tip_wei = tip.unwrap_or(0).max(TIP_WEI_MIN);
            let base = base_fee(facts).or(gas_price)?;
            GasPrice { max_wei: base.saturating_mul(2).saturating_add(tip_wei), tip_wei }
        }
    })
}

/// The price within the cap; `None` where the cap is below what a block requires at present.
fn cap_market_price(gas: GasCap, price: GasPrice, facts: &Facts) -> Option<GasPrice> {
    let least = match gas.fees {
        FeeModel::Legacy => price.max_wei,
        FeeModel::Eip1559 => base_fee(facts).unwrap_or(0).saturating_add(TIP_WEI_MIN),
    };
    let max_wei = price.max_wei.min(gas.max_fee_wei);
    (least <= gas.max_fee_wei).then_some(GasPrice { max_wei, tip_wei: price.tip_wei.min(max_wei) })
}

fn base_fee(facts: &Facts) -> Option<u128> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct BaseFeeJson {
        base_fee_per_gas: Option<String>,
    }
    let Some(RpcReply::Value(value)) = facts.get(&newest_block_call()) else { return None };
    let head: Option<BaseFeeJson> = serde_json::from_str(value.get()).ok()?;
    hex_wei(&head?.base_fee_per_gas?)
}

fn hex_wei(text: &str) -> Option<u128> {
    u128::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

/// The call for the number of an address's transactions, pending ones included.
#[must_use]
pub fn pending_nonce_call(address: Address) -> Call {
    Call::new("eth_getTransactionCount", &json!([calls::prefixed_hex(address.as_slice()), "pending"]))
}

/// The call for the number of an address's mined transactions.
#[must_use]
pub fn mined_nonce_call(address: Address) -> Call {
    Call::new("eth_getTransactionCount", &json!([calls::prefixed_hex(address.as_slice()), "latest"]))
}

/// The call for an address's balance of the chain's own coin.
#[must_use]
pub(crate) fn native_balance_call(address: &Address) -> Call {
    Call::new("eth_getBalance", &json!([calls::prefixed_hex(address.as_slice()), "latest"]))
}

/// The call for an address's balance of the chain's token.
#[must_use]
pub fn token_balance_call(network: &Network, holder: &crate::address::Address) -> Option<Call> {
    let (crate::address::Address::Evm(asset), crate::address::Address::Evm(holder)) = (network.asset.address, *holder)
    else {
        return None;
    };
    Some(calls::view_call(asset, calls::prefixed_hex(&eip3009::balance_calldata(holder))))
}

/// The node's answer to [`token_balance_call`]; `None` where it gave none.
#[must_use]
pub fn read_token_balance(facts: &Facts, call: &Call) -> Option<Amount> {
    answered_text(facts, call).and_then(|text| abi::word(&text)).map(|word| Amount(U256::from_be_bytes(word)))
}

/// A transfer of zero from the signer to itself, which only takes a nonce.
#[must_use]
pub const fn empty_transfer(signer: Address, gas_limit: u64) -> ContractCall {
    ContractCall { to: signer, data: Bytes::new(), gas_limit }
}

/// The call for the gas of that transfer, on a chain that requires more than [`TRANSFER_GAS`].
#[must_use]
pub fn empty_transfer_gas_call(signer: Address) -> Call {
    let own = calls::prefixed_hex(signer.as_slice());
    Call::new("eth_estimateGas", &json!([{ "from": own, "to": own, "value": "0x0" }]))
}

/// The call for a transaction's receipt.
#[must_use]
pub fn receipt_call(id: &TxId) -> Call {
    Call::new("eth_getTransactionReceipt", &json!([id.to_string()]))
}

/// The cost of a mined transaction, wei: in all (its gas at the price that was paid, and the layer 1 fee), and the
/// layer 1 fee of an OP-stack chain alone. Gas and price that the receipt lacks count as `most`, a missing layer 1 fee
/// as zero. `None` without a receipt.
#[must_use]
pub fn read_cost(facts: &Facts, call: &Call, most: (u64, GasPrice)) -> Option<(u128, u128)> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct ReceiptCostJson {
        gas_used: Option<String>,
        effective_gas_price: Option<String>,
        l1_fee: Option<String>,
    }
    let Some(RpcReply::Value(value)) = facts.get(call) else { return None };
    let wire: ReceiptCostJson = serde_json::from_str::<Option<ReceiptCostJson>>(value.get()).ok()??;
    let number = |text: Option<String>| text.and_then(|text| hex_wei(&text));
    let gas = number(wire.gas_used).unwrap_or_else(|| most.0.into());
    let price = number(wire.effective_gas_price).unwrap_or(most.1.max_wei);
    let l1_fee = number(wire.l1_fee).unwrap_or(0);
    Some((gas.saturating_mul(price).saturating_add(l1_fee), l1_fee))
}

/// The call that sends a transaction.
#[must_use]
pub fn send_call(raw: &str) -> Call {
    Call::new("eth_sendRawTransaction", &json!([raw]))
}

/// The number with which a call was answered.
#[must_use]
pub fn read_number(facts: &Facts, call: &Call) -> Option<u64> {
    match facts.get(call) {
        Some(RpcReply::Value(value)) => quantity::text(value).ok().and_then(|text| quantity::number(&text).ok()),
        Some(RpcReply::Error(_)) | None => None,
    }
}

/// The amount of wei with which a call was answered.
#[must_use]
pub(crate) fn read_wei(facts: &Facts, call: &Call) -> Option<u128> {
    match facts.get(call) {
        Some(RpcReply::Value(value)) => quantity::text(value).ok().and_then(|text| hex_wei(&text)),
        Some(RpcReply::Error(_)) | None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::RpcError;
    use crate::network::by_key;
    use alloy_consensus::TxEnvelope;
    use alloy_eips::eip2718::Decodable2718;
    use serde_json::Value;
    use serde_json::value::to_raw_value;

    fn signer() -> EvmSigner {
        EvmSigner::parse("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80").expect("a key")
    }

    fn message() -> ContractCall {
        ContractCall { to: Address::repeat_byte(2), data: Bytes::from_static(&[1, 2, 3]), gas_limit: 120_000 }
    }

    #[test]
    fn what_is_sent_is_ours_and_names_its_chain() {
        let price = GasPrice { max_wei: 5, tip_wei: 9 };
        for (key, kind) in [("base", 2_u8), ("skale-base", 0)] {
            let network = by_key(key).expect("registered");
            let signed = sign_transaction(network, &signer(), 7, &message(), price).expect("signs");
            let raw = hex::decode(&signed.raw[2..]).expect("hex");
            let envelope = TxEnvelope::decode_2718(&mut raw.as_slice()).expect("a transaction");
            assert_eq!(u8::from(envelope.tx_type()), kind);
            assert_eq!(*envelope.tx_hash(), signed.hash);
            let sender = envelope.signature().recover_address_from_prehash(&envelope.signature_hash());
            assert_eq!(sender.expect("recovers"), signer().address());
            assert_eq!(alloy_consensus::Transaction::chain_id(&envelope), network.chain_id);
            assert_eq!(sign_transaction(network, &signer(), 7, &message(), price).expect("signs"), signed);
        }
    }

    #[test]
    fn a_price_lasts_and_stays_within_the_cap() {
        let priced = |base: &str, tip: Value| {
            let mut facts = Facts::new();
            let mut learn = |call: &Call, value: &Value| {
                facts.insert(call.clone(), RpcReply::Value(to_raw_value(value).expect("JSON")));
            };
            learn(&newest_block_call(), &json!({"baseFeePerGas": base}));
            learn(&Call::new("eth_maxPriorityFeePerGas", &json!([])), &tip);
            capped_price(by_key("base").expect("registered"), &facts)
        };
        assert_eq!(
            priced("0x3b9aca00", json!("0x5f5e100")),
            Some(GasPrice { max_wei: 2_100_000_000, tip_wei: 100_000_000 })
        );
        assert_eq!(priced("0xee6b2800", json!("0x0")), Some(GasPrice { max_wei: 5_000_000_000, tip_wei: 1_000_000 }));
        assert_eq!(priced("0x174876e800", json!("0x0")), None);
        assert_eq!(priced("nonsense", json!(null)), None);
        let bumped = GasPrice { max_wei: 80, tip_wei: 8 }.raised_by_an_eighth(1_000).expect("within the cap");
        assert_eq!(bumped, GasPrice { max_wei: 91, tip_wei: 10 });
        assert_eq!(bumped.raised_by_an_eighth(100), None);
    }

    #[test]
    fn a_quote_names_its_calls_and_reads_them() {
        let base = by_key("base").expect("registered");
        let quoted = |base_fee: Value| {
            let mut facts = Facts::new();
            let Err(Undecided::Missing(calls)) = quote_price(base, &facts) else { panic!("nothing to ask") };
            for call in calls {
                let value = if call == newest_block_call() { json!({"baseFeePerGas": base_fee}) } else { json!(null) };
                facts.insert(call, RpcReply::Value(to_raw_value(&value).expect("JSON")));
            }
            quote_price(base, &facts)
        };
        assert_eq!(quoted(json!("0x3b9aca00")), Ok(Some(GasPrice { max_wei: 2_001_000_000, tip_wei: 1_000_000 })));
        assert_eq!(quoted(json!("0x174876e800")), Ok(None));
        assert_eq!(quoted(json!(null)), Err(Undecided::malformed("no_price")));
        assert_eq!(quote_price(by_key("solana").expect("registered"), &Facts::new()), Ok(None));
    }

    #[test]
    fn an_error_is_no_price_but_of_a_method_that_a_chain_need_not_have() {
        let base = by_key("base").expect("registered");
        let priced = |method: &str, class: ErrorClass| {
            let mut facts = Facts::new();
            for call in price_calls() {
                let value = if call == newest_block_call() {
                    json!({"baseFeePerGas": "0x3b9aca00"})
                } else {
                    json!("0x5f5e100")
                };
                let error = RpcError { class, code: None, message: String::new() };
                let is_error = call.method == method;
                let reply = if is_error {
                    RpcReply::Error(error)
                } else {
                    RpcReply::Value(to_raw_value(&value).expect("JSON"))
                };
                facts.insert(call, reply);
            }
            quote_price(base, &facts)
        };
        let price = |tip_wei| Ok(Some(GasPrice { max_wei: 2_000_000_000 + tip_wei, tip_wei }));
        assert_eq!(priced("eth_maxPriorityFeePerGas", ErrorClass::Unsupported), price(1_000_000));
        // The block says what its gas costs.
        assert_eq!(priced("eth_gasPrice", ErrorClass::Other), price(100_000_000));
        for method in ["eth_maxPriorityFeePerGas", "eth_getBlockByNumber"] {
            assert_eq!(priced(method, ErrorClass::Other), Err(Undecided::malformed("no_price")), "{method}");
        }
    }

    #[test]
    fn the_worst_price_is_eight_times_the_first_within_the_cap() {
        let worst = |key: &str, max_wei: u128| {
            worst_fee_wei(by_key(key).expect("registered"), GasPrice { max_wei, tip_wei: 0 })
        };
        // 5 gwei at most.
        assert_eq!(worst("base", 1_000_000), Some(8_000_000));
        assert_eq!(worst("base", 1_000_000_000), Some(5_000_000_000));
        assert_eq!(worst("base", u128::MAX), Some(5_000_000_000));
        assert_eq!(worst("solana", 1), None);
    }

    #[test]
    fn what_was_taken_is_read_from_the_receipt() {
        let call = receipt_call(&TxId::Evm(B256::repeat_byte(1)));
        let most = (9, GasPrice { max_wei: 100, tip_wei: 1 });
        let taken = |value: Value| {
            let mut facts = Facts::new();
            facts.insert(call.clone(), RpcReply::Value(to_raw_value(&value).expect("JSON")));
            read_cost(&facts, &call, most)
        };
        let receipt = json!({"gasUsed": "0x5", "effectiveGasPrice": "0x7", "status": "0x0", "l1Fee": "0x64"});
        assert_eq!(taken(receipt), Some((135, 100)));
        assert_eq!(taken(json!({"gasUsed": "0x5", "effectiveGasPrice": "0x7", "l1Fee": null})), Some((35, 0)));
        assert_eq!(taken(json!({"gasUsed": "0x5"})), Some((500, 0)));
        assert_eq!(taken(json!({"effectiveGasPrice": "0x7"})), Some((63, 0)));
        assert_eq!((taken(json!(null)), read_cost(&Facts::new(), &call, most)), (None, None));
    }

    #[test]
    fn what_a_payer_holds_is_asked_of_the_token() {
        let base = by_key("base").expect("registered");
        let holder = crate::address::Address::Evm(Address::repeat_byte(7));
        let call = token_balance_call(base, &holder).expect("a call");
        assert!(call.params.contains("0x70a08231") && call.params.contains("833589fcd6edb6e08f4c7c32d4f71b54bda02913"));
        assert!(token_balance_call(base, &crate::address::Address::Svm([1; 32])).is_none());
        let mut facts = Facts::new();
        assert_eq!(read_token_balance(&facts, &call), None);
        let word = json!(format!("0x{}05", "00".repeat(31)));
        facts.insert(call.clone(), RpcReply::Value(to_raw_value(&word).expect("JSON")));
        assert_eq!(read_token_balance(&facts, &call), Some(Amount::atomic(5)));
    }
}

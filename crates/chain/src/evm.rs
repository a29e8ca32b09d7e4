//! EVM: reads a transaction's receipt by the rules of docs/spec/chains.md.
//!
//! Only `Transfer` logs of the registered contract count (#evm-7 to #evm-12, #evm-16 to #evm-19); calldata, `to` and
//! gas are never read (#evm-16, #evm-17, #evm-29). Two rounds of calls: the receipt with the head and the finality tag,
//! then the canonical block at the receipt's height. A receipt that is too large is replaced by the contract's events
//! in its block (#evm-31). Whether a recipient was paid enough is decided elsewhere.

pub mod abi;
pub mod authorization_search;
mod block;
pub mod cache;
pub(super) mod calls;
pub(crate) mod eip3009;
mod log;
mod quantity;
mod receipt;
pub mod sender;
pub mod standing;
pub(crate) mod token;
pub mod tx;

use crate::address::{Address, TxId};
use crate::facts::{Call, ErrorClass, Facts, RpcReply, Undecided};
use crate::network::{FinalityRule, Network};
use crate::time::UnixSeconds;
use crate::trace::{BLOCK_AHEAD_S_MAX, PARTIES_MAX};
use crate::trace::{Block, CodeKind, Depth, MinedTransaction, Party, PartyFacts, Trace, TransactionState, Transfer};
use alloy_primitives::B256;
use log::LogMovements;
use receipt::{EvmReceipt, ExecutionStatus};
use serde_json::value::RawValue;

/// The reason in a failed transaction's trace (#evm-5).
const REVERTED_FAILURE: &str = "reverted";

/// A delegation designator: `0xef0100` and the 20 bytes of the delegate (EIP-7702).
const DELEGATION_PREFIX: &str = "0xef0100";

/// Reads one transaction.
///
/// # Errors
/// [`Undecided::Missing`] with the calls of the next round (two rounds, three
/// where the receipt is too large to be read);
/// [`Undecided::Malformed`] names the hazard where the node's answer is not
/// evidence: `wrong_chain`, `node_error`, `malformed_quantity`,
/// `malformed_receipt`, `malformed_log`, `malformed_block`,
/// `malformed_transaction`, `receipt_of_another_transaction`,
/// `receipt_without_status`, `receipt_without_sender`, `receipt_not_canonical`,
/// `log_of_another_transaction`, `log_of_another_block`, `duplicate_log`,
/// `block_of_another_height`, `block_time_in_the_future`,
/// `transaction_of_another_hash`, `receipt_without_transaction`, `transaction_of_another_family`.
pub(crate) fn trace(network: &Network, tx: &TxId, facts: &Facts, now: UnixSeconds) -> Result<Trace, Undecided> {
    let TxId::Evm(hash) = *tx else {
        return Err(Undecided::malformed("transaction_of_another_family"));
    };
    let found = transaction_state(network, hash, facts, now)?;
    Ok(Trace { tx: *tx, found })
}

fn transaction_state(
    network: &Network,
    hash: B256,
    facts: &Facts,
    now: UnixSeconds,
) -> Result<TransactionState, Undecided> {
    let first = ReceiptRound::of(network, hash, facts)?;
    check_chain(network, first.chain_id)?;
    let receipt = match first.receipt {
        RpcReply::Error(error) if error.class == ErrorClass::TooLarge => {
            match receipt_from_events(network, hash, facts)? {
                Some(receipt) => receipt,
                None => return Ok(TransactionState::Pending),
            }
        }
        reply @ (RpcReply::Value(_) | RpcReply::Error(_)) => {
            match receipt::read(answered_value(reply, "eth_getTransactionReceipt")?)? {
                Some(receipt) => receipt,
                None => return without_receipt(hash, facts),
            }
        }
    };
    // #evm-3: a proxy's cache may answer with another transaction's receipt.
    if receipt.hash != hash {
        return Err(Undecided::malformed_with("receipt_of_another_transaction", receipt.hash));
    }
    let head = quantity::number(&quantity::text(answered_value(first.head, "eth_blockNumber")?)?)?;
    // #evm-4: old nodes return receipts of transactions that are in no block.
    let Some((number, block_hash)) = receipt.block else {
        return Ok(TransactionState::Pending);
    };
    // #evm-26: a preconfirmation, or a backend that is ahead of the others.
    if head < number {
        return Ok(TransactionState::Pending);
    }
    let status = receipt.status()?;
    let finalized = first.finalized()?;
    let block = canonical_block(number, block_hash, facts, now)?;
    let (failure, movements) = match status {
        ExecutionStatus::Executed => (None, log::read_movements(network, &receipt)?),
        // #evm-5: a reverted transaction has no logs; logs that a node lists are not read.
        ExecutionStatus::Reverted => (Some(REVERTED_FAILURE.to_owned()), LogMovements::default()),
    };
    Ok(TransactionState::Mined(Box::new(MinedTransaction {
        failure,
        block,
        head,
        depth: block_depth(network, number, head, finalized),
        finality_unknown: network.finality == FinalityRule::Tag && finalized.is_none(),
        submitter: receipt.from,
        transfers: movements.transfers,
        foreign: movements.foreign,
        zero: movements.zero,
        confidential: Vec::new(),
        memos: Vec::new(),
        authorizations: movements.authorizations,
    })))
}

/// The answers of the first round.
struct ReceiptRound<'a> {
    chain_id: &'a RpcReply,
    receipt: &'a RpcReply,
    head: &'a RpcReply,
    /// `None` where the chain has no `finalized` tag.
    finalized: Option<&'a RpcReply>,
}

impl<'a> ReceiptRound<'a> {
    fn of(network: &Network, hash: B256, facts: &'a Facts) -> Result<Self, Undecided> {
        let (receipt, head, chain_id) = (calls::receipt_call(hash), calls::head_block_call(), calls::chain_id_call());
        match network.finality {
            FinalityRule::Tag => {
                let [receipt, head, chain_id, tag] =
                    facts.require_all(&[receipt, head, chain_id, calls::finalized_block_call()])?;
                Ok(Self { chain_id, receipt, head, finalized: Some(tag) })
            }
            FinalityRule::Instant | FinalityRule::Unknown => {
                let [receipt, head, chain_id] = facts.require_all(&[receipt, head, chain_id])?;
                Ok(Self { chain_id, receipt, head, finalized: None })
            }
        }
    }

    /// The height of the `finalized` tag. A node that does not know the tag answers with an error or `null`
    /// (docs/spec/chains.md#finality): then the number of confirmations decides, unless another node knows the tag.
    fn finalized(&self) -> Result<Option<u64>, Undecided> {
        match self.finalized {
            None | Some(RpcReply::Error(_)) => Ok(None),
            Some(RpcReply::Value(value)) => Ok(block::read(value)?.map(|block| block.number)),
        }
    }
}

/// The block at a height, which must be the receipt's (#evm-25).
fn canonical_block(number: u64, hash: B256, facts: &Facts, now: UnixSeconds) -> Result<Block, Undecided> {
    let [reply] = facts.require_all(&[calls::block_call(number)])?;
    let Some(block) = block::read(answered_value(reply, "eth_getBlockByNumber")?)? else {
        return Err(Undecided::malformed_with("receipt_not_canonical", "no block at its height"));
    };
    if block.number != number {
        return Err(Undecided::malformed_with("block_of_another_height", block.number));
    }
    if block.hash != hash {
        return Err(Undecided::malformed_with("receipt_not_canonical", block.hash));
    }
    if block.time.since(now) > BLOCK_AHEAD_S_MAX {
        return Err(Undecided::malformed_with("block_time_in_the_future", block.time.0));
    }
    Ok(Block { number, hash: Some(format!("0x{}", hex::encode(hash))), time: Some(block.time) })
}

/// #evm-2: without a receipt, whether the node knows the transaction. If it has it in a block but no receipt yet, the
/// transaction counts as pending.
fn without_receipt(hash: B256, facts: &Facts) -> Result<TransactionState, Undecided> {
    let [reply] = facts.require_all(&[calls::transaction_call(hash)])?;
    match receipt::read_transaction(answered_value(reply, "eth_getTransactionByHash")?)? {
        None => Ok(TransactionState::Unknown),
        Some(known) if known.hash == hash => Ok(TransactionState::Pending),
        Some(other) => Err(Undecided::malformed_with("transaction_of_another_hash", other.hash)),
    }
}

/// #evm-31: of a receipt that is too large to be read, the registered contract's
/// events in its block; `None` where the transaction is in no block. Other
/// tokens are not seen then, so a bridged one is not named.
fn receipt_from_events<'a>(
    network: &Network,
    hash: B256,
    facts: &'a Facts,
) -> Result<Option<EvmReceipt<'a>>, Undecided> {
    let Address::Evm(asset) = network.asset.address else {
        return Err(Undecided::malformed("transaction_of_another_family"));
    };
    let [reply] = facts.require_all(&[calls::transaction_call(hash)])?;
    let Some(known) = receipt::read_transaction(answered_value(reply, "eth_getTransactionByHash")?)? else {
        return Err(Undecided::malformed("receipt_without_transaction"));
    };
    if known.hash != hash {
        return Err(Undecided::malformed_with("transaction_of_another_hash", known.hash));
    }
    let Some((number, block)) = known.block else { return Ok(None) };
    let [events, _] = facts.require_all(&[calls::events_call(block, asset), calls::block_call(number)])?;
    Ok(Some(EvmReceipt::from_block_logs(&known, answered_value(events, "eth_getLogs")?)))
}

/// The depth of a canonical block that is not above the head (docs/spec/chains.md#finality).
fn block_depth(network: &Network, number: u64, head: u64, finalized: Option<u64>) -> Depth {
    let confirmations = head.saturating_sub(number).saturating_add(1);
    let by_count = if confirmations >= network.confirmations { Depth::Confirmed } else { Depth::Included };
    match network.finality {
        FinalityRule::Instant => Depth::Finalized,
        FinalityRule::Tag if finalized.is_some_and(|height| number <= height) => Depth::Finalized,
        FinalityRule::Tag | FinalityRule::Unknown => by_count,
    }
}

/// The answer to a required call.
fn answered_value<'a>(reply: &'a RpcReply, method: &'static str) -> Result<&'a RawValue, Undecided> {
    match reply {
        RpcReply::Value(value) => Ok(value),
        RpcReply::Error(error) => {
            Err(Undecided::malformed_with("node_error", format_args!("{method}: {:?}: {}", error.class, error.message)))
        }
    }
}

/// The parties of the registered asset's transfers: `first` first, then those that dealt with it, then the rest in the
/// order of the chain; never the zero address. Empty where no receipt is known.
#[must_use]
pub(crate) fn parties(network: &Network, tx: &TxId, facts: &Facts, first: Option<&Address>) -> Vec<Party> {
    let TxId::Evm(hash) = *tx else {
        return Vec::new();
    };
    let transfers = match facts.get(&calls::receipt_call(hash)) {
        Some(RpcReply::Value(value)) => match receipt::read(value) {
            Ok(Some(receipt)) => transfers(network, hash, &receipt),
            Ok(None) | Err(_) => Vec::new(),
        },
        Some(RpcReply::Error(_)) | None => Vec::new(),
    };
    let deals_with_first =
        |ends: &[Option<Address>; 2]| first.is_some() && ends.iter().any(|end| end.as_ref() == first);
    let ends = transfers.iter().map(|transfer| [transfer.from, transfer.to]);
    let (near, far): (Vec<_>, Vec<_>) = ends.partition(deals_with_first);
    let head = if near.is_empty() { None } else { first.copied() };
    let mut parties: Vec<Party> = Vec::new();
    for address in head.into_iter().chain(near.into_iter().chain(far).flatten().flatten()) {
        if parties.len() == PARTIES_MAX {
            break;
        }
        if !address.is_zero() && !parties.iter().any(|party| party.address == address) {
            parties.push(Party { address, account: None });
        }
    }
    parties
}

fn transfers(network: &Network, hash: B256, receipt: &EvmReceipt<'_>) -> Vec<Transfer> {
    if receipt.hash != hash || receipt.status() != Ok(ExecutionStatus::Executed) {
        return Vec::new();
    }
    log::read_movements(network, receipt).map(|movements| movements.transfers).unwrap_or_default()
}

/// A party's code, and the answer of the token's `isBlacklisted`.
#[must_use]
pub(crate) fn party_calls(network: &Network, party: &Party) -> Vec<Call> {
    match (party.address, network.asset.address) {
        (Address::Evm(party), Address::Evm(asset)) => {
            vec![calls::code_call(party), calls::blacklisted_call(asset, party)]
        }
        (Address::Svm(_), _) | (_, Address::Svm(_)) => Vec::new(),
    }
}

/// The facts in the answers; a revert, an error or a malformed answer leaves one unknown.
#[must_use]
pub(crate) fn read_party(network: &Network, party: &Party, facts: &Facts) -> PartyFacts {
    let (Address::Evm(party), Address::Evm(asset)) = (party.address, network.asset.address) else {
        return PartyFacts::default();
    };
    PartyFacts {
        blocked: answered_text(facts, &calls::blacklisted_call(asset, party)).and_then(|text| abi::boolean(&text)),
        code: answered_text(facts, &calls::code_call(party)).and_then(|text| code_kind(&text)),
    }
}

/// Checks that a node is of the chain that was asked for (#evm-35), by its reply to [`calls::chain_id_call`].
///
/// # Errors
/// [`Undecided::Malformed`]: `wrong_chain`, `node_error`, `malformed_quantity`.
pub(crate) fn check_chain(network: &Network, reply: &RpcReply) -> Result<(), Undecided> {
    let chain_id = quantity::number(&quantity::text(answered_value(reply, "eth_chainId")?)?)?;
    if network.chain_id == Some(chain_id) { Ok(()) } else { Err(Undecided::malformed_with("wrong_chain", chain_id)) }
}

/// The string with which a call was answered; `None` for an error and any other type.
pub(crate) fn answered_text(facts: &Facts, call: &Call) -> Option<String> {
    match facts.get(call)? {
        RpcReply::Value(value) => quantity::text(value).ok().map(Into::into),
        RpcReply::Error(_) => None,
    }
}

/// The kind of account by its code, hex with `0x`; `None` where it is not hex.
pub(crate) fn code_kind(code: &str) -> Option<CodeKind> {
    let bytes = quantity::bytes(code)?;
    Some(match bytes.len() {
        0 => CodeKind::None,
        23 if code.starts_with(DELEGATION_PREFIX) => CodeKind::Delegated,
        _ => CodeKind::Contract,
    })
}

#[cfg(test)]
mod tests;

//! Solana: reads the token balances of a transaction by the rules of docs/spec/chains.md#svm-rule.
//!
//! Only differences of token balances by owner and mint count: never instructions (#svm-4, #svm-5; a `batch` hides
//! several transfers in one) and never logs (the Token program prints none). Instructions are read for memos and to
//! name transfers whose amount is hidden.

mod account;
mod balances;
pub mod fee;
mod instruction;
pub(crate) mod programs;
mod transaction;
pub mod wire;

use crate::address::{Address, TxId};
use crate::amount::Amount;
use crate::facts::{Call, Facts, RpcReply, Undecided};
use crate::network::Network;
use crate::time::UnixSeconds;
use crate::trace::{BLOCK_AHEAD_S_MAX, PARTIES_MAX};
use crate::trace::{
    Block, Depth, MinedTransaction, Party, PartyFacts, Trace, TransactionState, Transfer, TransferLocation,
};
use balances::BalanceMovements;
pub use instruction::MEMO_BYTES_MAX;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use solana_address::Address as Pubkey;
use transaction::TransactionResult;

/// The most characters of a failure that are kept and reported.
const FAILURE_MAX: usize = 120;

/// The runtime's error (`TransactionError`, as JSON), cut to 120 characters.
#[must_use]
pub fn failure_text(error: &serde_json::Value) -> String {
    error.to_string().chars().take(FAILURE_MAX).collect()
}

/// The call for a transaction in a block that is confirmed at least.
fn transaction_call(tx: &TxId) -> Call {
    transaction_call_at(tx, "confirmed")
}

/// The call for a transaction in a block of at least this commitment. Solana has version-1 transactions since
/// 2026-09-15; a node refuses a transaction above the version that is asked for (#svm-1).
fn transaction_call_at(tx: &TxId, commitment: &str) -> Call {
    let options = json!({"encoding": "json", "commitment": commitment, "maxSupportedTransactionVersion": 1});
    Call::new("getTransaction", &json!([tx.to_string(), options]))
}

fn status_call(tx: &TxId) -> Call {
    Call::new("getSignatureStatuses", &json!([[tx.to_string()], {"searchTransactionHistory": true}]))
}

#[derive(Deserialize)]
struct SignatureStatuses {
    context: RpcContext,
    value: Vec<Option<SignatureStatus>>,
}

#[derive(Deserialize)]
struct RpcContext {
    slot: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SignatureStatus {
    slot: u64,
    confirmation_status: Option<String>,
}

/// Reads one transaction.
///
/// # Errors
/// [`Undecided::Missing`] with both calls of the one round, then with one more where the node has the
/// transaction and no status of it; [`Undecided::Malformed`]
/// names the hazard where the node's answer is not evidence:
/// `transaction_of_another_family`, `node_error`,
/// `unsupported_transaction_version`, `malformed_transaction`,
/// `malformed_status`, `transaction_missing_from_history`,
/// `receipt_of_another_transaction`, `status_of_another_slot`,
/// `meta_unavailable`, `balances_unavailable`, `owner_unavailable`,
/// `malformed_balance`, `duplicate_balance`, `account_out_of_range`,
/// `block_time_in_the_future`.
pub(crate) fn trace(network: &Network, tx: &TxId, facts: &Facts, now: UnixSeconds) -> Result<Trace, Undecided> {
    let TxId::Svm(_) = tx else { return Err(Undecided::malformed("transaction_of_another_family")) };
    let [transaction, statuses] = facts.require_all(&[transaction_call(tx), status_call(tx)])?;
    let SignatureStatuses { context, value } = read_answer(statuses, "malformed_status")?;
    // One signature was asked about: an answer without its entry is not "unknown".
    let [status]: [Option<SignatureStatus>; 1] =
        value.try_into().map_err(|_| Undecided::malformed("malformed_status"))?;
    let transaction: Option<TransactionResult> = read_answer(transaction, "malformed_transaction")?;
    let found = match transaction {
        None => state_without_transaction(status.as_ref())?,
        Some(transaction) => {
            let mut mined = read_mined(network, tx, &transaction, now)?;
            mined.head = context.slot.max(mined.block.number);
            set_depth(&mut mined, tx, status.as_ref(), facts)?;
            TransactionState::Mined(Box::new(mined))
        }
    };
    Ok(Trace { tx: *tx, found })
}

/// A node's answer as a type, or the hazard's name.
fn read_answer<T: DeserializeOwned>(reply: &RpcReply, hazard: &'static str) -> Result<T, Undecided> {
    match reply {
        RpcReply::Value(value) => {
            serde_json::from_str(value.get()).map_err(|error| Undecided::malformed_with(hazard, error))
        }
        RpcReply::Error(error) if error.code == Some(-32015) => {
            Err(Undecided::malformed_with("unsupported_transaction_version", &error.message))
        }
        RpcReply::Error(error) => {
            Err(Undecided::malformed_with("node_error", format!("{:?} {}", error.class, error.message)))
        }
    }
}

/// No transaction: unknown, not confirmed yet, or lost by this node (#svm-3, #svm-23, #svm-24).
fn state_without_transaction(status: Option<&SignatureStatus>) -> Result<TransactionState, Undecided> {
    match status.map(|status| status.confirmation_status.as_deref()) {
        None => Ok(TransactionState::Unknown),
        Some(Some("processed")) => Ok(TransactionState::Pending),
        Some(Some(_) | None) => Err(Undecided::malformed("transaction_missing_from_history")),
    }
}

fn read_mined(
    network: &Network,
    tx: &TxId,
    transaction: &TransactionResult,
    now: UnixSeconds,
) -> Result<MinedTransaction, Undecided> {
    // #svm-29: the first signature is the transaction's name.
    if transaction.signature() != Some(tx.to_string().as_str()) {
        return Err(Undecided::malformed("receipt_of_another_transaction"));
    }
    let time = transaction.block_time.and_then(|seconds| u64::try_from(seconds).ok()).map(UnixSeconds);
    if time.is_some_and(|time| time > now.plus(BLOCK_AHEAD_S_MAX)) {
        return Err(Undecided::malformed("block_time_in_the_future"));
    }
    let meta = transaction.meta.as_ref().ok_or_else(|| Undecided::malformed("meta_unavailable"))?;
    let keys = transaction.keys()?;
    let failure = meta.err.as_ref().map(failure_text);
    // #svm-2: of a failed one the balances are listed, and nothing moved.
    let movements = match failure {
        None => BalanceMovements::of(network, meta, &keys)?,
        Some(_) => BalanceMovements::default(),
    };
    let instructions =
        if failure.is_none() { instruction::read_instructions(transaction, meta, &keys) } else { Default::default() };
    Ok(MinedTransaction {
        failure,
        block: Block { number: transaction.slot, hash: None, time },
        head: transaction.slot,
        depth: Depth::Confirmed,
        finality_unknown: false,
        submitter: keys.first().copied(),
        transfers: movements.transfers,
        foreign: movements.foreign,
        zero: Vec::new(),
        confidential: instructions.confidential,
        memos: instructions.memos,
        authorizations: Vec::new(),
    })
}

/// The depth of the transaction (#svm-20 to #svm-22). It was asked for at `confirmed`, so it is at least that. Nodes
/// delete statuses before transactions: without a status, a node that has the transaction at `finalized` shows the
/// same.
fn set_depth(
    mined: &mut MinedTransaction,
    tx: &TxId,
    status: Option<&SignatureStatus>,
    facts: &Facts,
) -> Result<(), Undecided> {
    let slot = mined.block.number;
    let is_final = match status {
        Some(status) if status.slot != slot => return Err(Undecided::malformed("status_of_another_slot")),
        Some(status) => status.confirmation_status.as_deref() == Some("finalized"),
        None => {
            let [reply] = facts.require_all(&[transaction_call_at(tx, "finalized")])?;
            mined.finality_unknown = matches!(reply, RpcReply::Error(_));
            match reply {
                RpcReply::Error(_) => false,
                RpcReply::Value(_) => match read_answer::<Option<TransactionResult>>(reply, "malformed_transaction")? {
                    Some(same) if same.signature() != Some(tx.to_string().as_str()) => {
                        return Err(Undecided::malformed("receipt_of_another_transaction"));
                    }
                    Some(same) if same.slot != slot => return Err(Undecided::malformed("status_of_another_slot")),
                    found => found.is_some(),
                },
            }
        }
    };
    if is_final {
        mined.depth = Depth::Finalized;
    }
    Ok(())
}

/// The owners of the registered asset's movements, as far as the facts name them, at most [`PARTIES_MAX`]: credits of
/// `first`, other receivers, then payers. None of a failed transaction, which moved nothing.
#[must_use]
pub(crate) fn parties(network: &Network, tx: &TxId, facts: &Facts, first: Option<&Address>) -> Vec<Party> {
    let Some(RpcReply::Value(value)) = facts.get(&transaction_call(tx)) else { return Vec::new() };
    let transaction: Option<TransactionResult> = serde_json::from_str(value.get()).ok().flatten();
    let transfers = transaction.and_then(|transaction| {
        let keys = transaction.keys().ok()?;
        let meta = transaction.meta.as_ref().filter(|meta| meta.err.is_none())?;
        Some(BalanceMovements::of(network, meta, &keys).ok()?.transfers)
    });
    let mut transfers = transfers.unwrap_or_default();
    transfers.sort_by_key(|transfer| (transfer.to.is_none(), transfer.to.as_ref() != first));
    let mut parties: Vec<Party> = Vec::new();
    for transfer in &transfers {
        let account = token_account_of(transfer);
        for address in [transfer.to, transfer.from].into_iter().flatten() {
            let known = parties.iter().any(|party| party.address == address);
            if !known && parties.len() < PARTIES_MAX {
                parties.push(Party { address, account });
            }
        }
    }
    parties
}

const fn token_account_of(transfer: &Transfer) -> Option<Address> {
    match &transfer.place {
        TransferLocation::TokenAccount(account) => Some(*account),
        TransferLocation::LogIndex(_) => None,
    }
}

/// The call that reads whether the issuer has frozen a party's token account.
#[must_use]
pub(crate) fn party_calls(_network: &Network, party: &Party) -> Vec<Call> {
    let options = json!({"encoding": "base64", "commitment": "confirmed"});
    let call = |account: &Address| Call::new("getAccountInfo", &json!([account.to_string(), options]));
    party.account.iter().map(call).collect()
}

/// The call for a token account's balance.
#[must_use]
pub fn token_balance_call(account: &Address) -> Call {
    let options = json!({"encoding": "base64", "commitment": "confirmed"});
    Call::new("getAccountInfo", &json!([account.to_string(), options]))
}

/// The node's answer to [`token_balance_call`], zero for an account that does not exist; `None` where it gave none.
#[must_use]
pub fn read_token_balance(facts: &Facts, call: &Call) -> Option<Amount> {
    match facts.get(call) {
        Some(RpcReply::Value(value)) => account::token_balance(value.get()).map(Amount::atomic),
        Some(RpcReply::Error(_)) | None => None,
    }
}

/// Whether a wallet's account for the chain's USDC can receive it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenAccountState {
    /// It exists, and is not frozen.
    Open,
    /// There is none: a transfer that does not create it fails.
    Missing,
    /// The issuer has frozen it: every transfer to it fails.
    Frozen,
}

/// The associated token account: the address that the associated token program derives for an owner and a mint.
pub(crate) fn associated_account(owner: &[u8; 32], program: &[u8; 32], mint: &[u8; 32]) -> [u8; 32] {
    const ASSOCIATED: Pubkey = Pubkey::from_str_const(programs::ASSOCIATED_TOKEN);
    Pubkey::find_program_address(&[owner, program, mint], &ASSOCIATED).0.to_bytes()
}

/// The wallet's associated token account for the chain's USDC, a mint of the SPL Token program; `None` on a chain of
/// another family.
#[must_use]
pub fn token_account(network: &Network, wallet: &Address) -> Option<Address> {
    const TOKEN: Pubkey = Pubkey::from_str_const(programs::TOKEN);
    let (Address::Svm(wallet), Address::Svm(mint)) = (wallet, network.asset.address) else { return None };
    Some(Address::Svm(associated_account(wallet, &TOKEN.to_bytes(), &mint)))
}

/// The node's answer to [`token_balance_call`] about a token account's state; `None` where it gave none that can be read.
#[must_use]
pub fn read_token_account(facts: &Facts, call: &Call) -> Option<TokenAccountState> {
    match facts.get(call) {
        Some(RpcReply::Value(value)) => account::state(value.get()),
        Some(RpcReply::Error(_)) | None => None,
    }
}

/// The facts in a token account's state. Code is not checked on Solana.
#[must_use]
pub(crate) fn read_party(network: &Network, party: &Party, facts: &Facts) -> PartyFacts {
    let call = party_calls(network, party).into_iter().next();
    let blocked = match call.and_then(|call| facts.get(&call)) {
        Some(RpcReply::Value(value)) => account::is_frozen(value.get()),
        Some(RpcReply::Error(_)) | None => None,
    };
    PartyFacts { blocked, code: None }
}

#[cfg(test)]
mod tests;

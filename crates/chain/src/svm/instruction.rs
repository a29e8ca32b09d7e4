//! What is read from instructions: memos (top level only, docs/spec/chains.md#svm-26) and transfers of a
//! hidden amount (#svm-7).

use super::programs::{MEMO, MEMO_V1, TOKEN_2022};
use super::transaction::{InstructionJson, TransactionMeta, TransactionResult};
use crate::address::{Address, Family};
use crate::trace::{ConfidentialTransfer, DETAILS_MAX};
use serde_json::Value;

/// The most bytes of a memo: the size of a whole legacy Solana transaction.
pub const MEMO_BYTES_MAX: usize = 1_232;

const MEMO_PROGRAMS: [&str; 2] = [MEMO, MEMO_V1];
/// `ConfidentialTransferExtension`, then `Transfer` or `TransferWithFee` (SPL Token-2022 instruction.rs).
const CONFIDENTIAL: u8 = 27;
const CONFIDENTIAL_TRANSFERS: [u8; 2] = [7, 13];
/// Accounts of a confidential transfer: source, mint, destination, …
const MINT_AT: usize = 1;
const DESTINATION_AT: usize = 2;
/// The most base58 characters of [`MEMO_BYTES_MAX`] bytes. Decoding costs the square of the length, so the length is
/// checked first.
const MEMO_CHARS_MAX: usize = 1_683;
/// A confidential transfer's data is a few ciphertexts of fixed size and offsets, far below 375 bytes.
const CONFIDENTIAL_CHARS_MAX: usize = 512;
/// The most Token-2022 instructions that are read: a transaction runs 64 at most, a node may list any number.
const READ_MAX: usize = 256;

/// The memos and the transfers of a hidden amount in a transaction.
#[derive(Default)]
pub(super) struct InstructionFindings {
    pub(super) memos: Vec<String>,
    pub(super) confidential: Vec<ConfidentialTransfer>,
}

/// Reads the memos of the top level, and the transfers of a hidden amount of every level; each at most [`DETAILS_MAX`].
pub(super) fn read_instructions(
    transaction: &TransactionResult,
    meta: &TransactionMeta,
    keys: &[Address],
) -> InstructionFindings {
    let top = transaction.instructions();
    let memos = top.iter().filter(|each| is_memo(each, keys)).take(DETAILS_MAX).filter_map(read_memo);
    let memos = memos.filter(|memo| memo.len() <= MEMO_BYTES_MAX).collect();
    let inner = meta.inner_instructions.iter().flatten().flat_map(|inner| &inner.instructions);
    let of_token =
        top.iter().chain(inner).filter(|each| instruction_program(each, keys).as_deref() == Some(TOKEN_2022));
    let confidential = of_token.take(READ_MAX).filter_map(|each| read_confidential_transfer(each, meta, keys));
    InstructionFindings { memos, confidential: confidential.take(DETAILS_MAX).collect() }
}

fn instruction_program(instruction: &InstructionJson, keys: &[Address]) -> Option<String> {
    instruction.program_id.clone().or_else(|| keys.get(instruction.program_id_index?).map(Address::to_string))
}

fn is_memo(instruction: &InstructionJson, keys: &[Address]) -> bool {
    instruction_program(instruction, keys).is_some_and(|program| MEMO_PROGRAMS.contains(&program.as_str()))
}

fn instruction_data(instruction: &InstructionJson, chars_max: usize) -> Option<Vec<u8>> {
    let text = instruction.data.as_deref().filter(|text| text.len() <= chars_max)?;
    bs58::decode(text).into_vec().ok()
}

/// A memo that is UTF-8; plain text where the node has parsed it.
fn read_memo(instruction: &InstructionJson) -> Option<String> {
    match &instruction.parsed {
        Some(Value::String(text)) => Some(text.clone()),
        Some(_) => None,
        None => String::from_utf8(instruction_data(instruction, MEMO_CHARS_MAX)?).ok(),
    }
}

fn read_confidential_transfer(
    instruction: &InstructionJson,
    meta: &TransactionMeta,
    keys: &[Address],
) -> Option<ConfidentialTransfer> {
    let data = instruction_data(instruction, CONFIDENTIAL_CHARS_MAX)?;
    let [extension, kind] = *data.first_chunk::<2>()?;
    if extension != CONFIDENTIAL || !CONFIDENTIAL_TRANSFERS.contains(&kind) {
        return None;
    }
    let destination = instruction_account(instruction, DESTINATION_AT, keys);
    let balances = meta.post_token_balances.iter().flatten().chain(meta.pre_token_balances.iter().flatten());
    let mut of_destination = balances.filter(|balance| keys.get(balance.account_index) == destination.as_ref());
    let to = of_destination.find_map(|balance| Address::parse(Family::Svm, balance.owner.as_deref()?));
    Some(ConfidentialTransfer { mint: instruction_account(instruction, MINT_AT, keys), to })
}

/// An instruction's account, by index or, where the node has parsed it, by name.
fn instruction_account(instruction: &InstructionJson, at: usize, keys: &[Address]) -> Option<Address> {
    match instruction.accounts.get(at)? {
        Value::Number(index) => keys.get(usize::try_from(index.as_u64()?).ok()?).copied(),
        Value::String(text) => Address::parse(Family::Svm, text),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

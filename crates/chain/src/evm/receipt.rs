//! A receipt as nodes answer it, without its logs. Members that no rule uses are ignored: nodes differ in them
//! (docs/spec/chains.md#evm-receipt).

use super::quantity;
use crate::address::Address;
use crate::facts::Undecided;
use alloy_primitives::B256;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Whether a mined transaction was executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExecutionStatus {
    /// Status `0x1`: it took effect.
    Executed,
    /// Status `0x0`: it reverted, and no log counts.
    Reverted,
}

/// The members of a transaction's receipt that the rules read.
pub(super) struct EvmReceipt<'a> {
    /// The hash of the receipt's transaction.
    pub(super) hash: B256,
    /// The block's height and hash; `None` where it is in none.
    pub(super) block: Option<(u64, B256)>,
    /// The sender of the transaction.
    pub(super) from: Option<Address>,
    /// The list of logs, unparsed.
    pub(super) logs: &'a RawValue,
    /// Whether the list is of the whole block, so that logs of other transactions are skipped.
    pub(super) of_block: bool,
    status: Option<&'a str>,
}

impl<'a> EvmReceipt<'a> {
    /// Stands for a receipt that is too large to be read (#evm-31): it has logs, and only an executed transaction has
    /// any.
    pub(super) const fn from_block_logs(transaction: &EvmTransaction, logs: &'a RawValue) -> Self {
        let EvmTransaction { hash, block, from } = *transaction;
        Self { hash, block, from, logs, of_block: true, status: Some("0x1") }
    }

    /// Whether the transaction was executed.
    ///
    /// # Errors
    /// `receipt_without_status` before Byzantium (#evm-6: USDC is younger, so it
    /// is not an answer); `malformed_quantity` for any other number.
    pub(super) fn status(&self) -> Result<ExecutionStatus, Undecided> {
        match self.status {
            None => Err(Undecided::malformed("receipt_without_status")),
            Some("0x1") => Ok(ExecutionStatus::Executed),
            Some("0x0") => Ok(ExecutionStatus::Reverted),
            Some(other) => Err(Undecided::malformed_with("malformed_quantity", quantity::excerpt(other))),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReceiptJson<'a> {
    #[serde(borrow)]
    transaction_hash: &'a str,
    #[serde(borrow)]
    block_hash: Option<&'a str>,
    #[serde(borrow)]
    block_number: Option<&'a str>,
    #[serde(borrow)]
    status: Option<&'a str>,
    #[serde(borrow)]
    from: Option<&'a str>,
    #[serde(borrow)]
    logs: &'a RawValue,
}

/// Reads a receipt; `None` where the node has none.
///
/// # Errors
/// `malformed_receipt`, `malformed_quantity`.
pub(super) fn read(value: &RawValue) -> Result<Option<EvmReceipt<'_>>, Undecided> {
    let wire: Option<ReceiptJson<'_>> =
        serde_json::from_str(value.get()).map_err(|error| malformed(&error.to_string()))?;
    let Some(wire) = wire else {
        return Ok(None);
    };
    let hash = |text: &str| quantity::hash(text).ok_or_else(|| malformed(text));
    let block = read_block_position(wire.block_number, wire.block_hash, malformed)?;
    let from = read_sender(wire.from, malformed)?;
    Ok(Some(EvmReceipt {
        hash: hash(wire.transaction_hash)?,
        block,
        from,
        logs: wire.logs,
        of_block: false,
        status: wire.status,
    }))
}

/// The members of a transaction object that the rules read.
pub(super) struct EvmTransaction {
    /// The transaction's hash.
    pub(super) hash: B256,
    /// The block's height and hash; `None` where it is in none.
    pub(super) block: Option<(u64, B256)>,
    /// The transaction's sender.
    pub(super) from: Option<Address>,
}

/// Reads a transaction object; `None` where the node has none.
///
/// # Errors
/// `malformed_transaction`, `malformed_quantity`.
pub(super) fn read_transaction(value: &RawValue) -> Result<Option<EvmTransaction>, Undecided> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct TransactionJson<'a> {
        #[serde(borrow)]
        hash: &'a str,
        #[serde(borrow)]
        block_hash: Option<&'a str>,
        #[serde(borrow)]
        block_number: Option<&'a str>,
        #[serde(borrow)]
        from: Option<&'a str>,
    }
    let malformed = |what: &str| Undecided::malformed_with("malformed_transaction", quantity::excerpt(what));
    let wire: Option<TransactionJson<'_>> =
        serde_json::from_str(value.get()).map_err(|error| malformed(&error.to_string()))?;
    let Some(wire) = wire else {
        return Ok(None);
    };
    Ok(Some(EvmTransaction {
        hash: quantity::hash(wire.hash).ok_or_else(|| malformed(wire.hash))?,
        block: read_block_position(wire.block_number, wire.block_hash, malformed)?,
        from: read_sender(wire.from, malformed)?,
    }))
}

fn read_block_position(
    number: Option<&str>,
    hash: Option<&str>,
    malformed: impl Fn(&str) -> Undecided,
) -> Result<Option<(u64, B256)>, Undecided> {
    match (number, hash) {
        (Some(number), Some(hash)) => {
            Ok(Some((quantity::number(number)?, quantity::hash(hash).ok_or_else(|| malformed(hash))?)))
        }
        (None, _) | (_, None) => Ok(None),
    }
}

fn read_sender(from: Option<&str>, malformed: impl Fn(&str) -> Undecided) -> Result<Option<Address>, Undecided> {
    match from {
        None => Ok(None),
        Some(text) => Ok(Some(Address::Evm(quantity::address(text).ok_or_else(|| malformed(text))?))),
    }
}

fn malformed(what: &str) -> Undecided {
    Undecided::malformed_with("malformed_receipt", quantity::excerpt(what))
}

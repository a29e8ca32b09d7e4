//! A receipt as nodes tell it, without its logs. Fields that no rule uses are
//! not looked at: nodes differ in them (CHAINS 1.2).

use super::quantity;
use crate::address::Address;
use crate::chain::facts::Unknown;
use alloy_primitives::B256;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Whether a mined transaction was executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// `0x1`.
    Executed,
    /// `0x0`.
    Reverted,
}

/// A receipt.
pub(super) struct Receipt<'a> {
    /// Whose it is.
    pub(super) hash: B256,
    /// The block's height and hash; `None` where it is in none.
    pub(super) block: Option<(u64, B256)>,
    /// Who sent the transaction.
    pub(super) from: Option<Address>,
    /// The list of logs, not looked into yet.
    pub(super) logs: &'a RawValue,
    status: Option<&'a str>,
}

impl Receipt<'_> {
    /// Whether the transaction was executed.
    ///
    /// # Errors
    /// `receipt_without_status` before Byzantium (row 6: USDC is younger, so it
    /// is not an answer); `malformed_quantity` for any other number.
    pub(super) fn status(&self) -> Result<Status, Unknown> {
        match self.status {
            None => Err(Unknown::nonsense("receipt_without_status")),
            Some("0x1") => Ok(Status::Executed),
            Some("0x0") => Ok(Status::Reverted),
            Some(other) => Err(Unknown::nonsense_about("malformed_quantity", quantity::words(other))),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
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
pub(super) fn read(value: &RawValue) -> Result<Option<Receipt<'_>>, Unknown> {
    let wire: Option<Wire<'_>> = serde_json::from_str(value.get()).map_err(|error| malformed(&error.to_string()))?;
    let Some(wire) = wire else {
        return Ok(None);
    };
    let hash = |text: &str| quantity::hash(text).ok_or_else(|| malformed(text));
    let block = match (wire.block_number, wire.block_hash) {
        (Some(number), Some(block)) => Some((quantity::number(number)?, hash(block)?)),
        (None, _) | (_, None) => None,
    };
    let from = match wire.from {
        None => None,
        Some(text) => Some(Address::Evm(quantity::address(text).ok_or_else(|| malformed(text))?)),
    };
    Ok(Some(Receipt { hash: hash(wire.transaction_hash)?, block, from, logs: wire.logs, status: wire.status }))
}

/// The hash that a transaction object names; `None` where the node has none.
///
/// # Errors
/// `malformed_transaction`.
pub(super) fn transaction_hash(value: &RawValue) -> Result<Option<B256>, Unknown> {
    #[derive(Deserialize)]
    struct Wire<'a> {
        #[serde(borrow)]
        hash: &'a str,
    }
    let malformed = |what: &str| Unknown::nonsense_about("malformed_transaction", quantity::words(what));
    let wire: Option<Wire<'_>> = serde_json::from_str(value.get()).map_err(|error| malformed(&error.to_string()))?;
    wire.map(|wire| quantity::hash(wire.hash).ok_or_else(|| malformed(wire.hash))).transpose()
}

fn malformed(what: &str) -> Unknown {
    Unknown::nonsense_about("malformed_receipt", quantity::words(what))
}

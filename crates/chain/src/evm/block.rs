//! A block's header as nodes answer it; only number, hash and time are read.

use super::quantity;
use crate::facts::Undecided;
use crate::time::UnixSeconds;
use alloy_primitives::B256;
use serde::Deserialize;
use serde_json::value::RawValue;

/// The members of a block's header that the rules read.
pub(super) struct BlockHeader {
    /// The block's height.
    pub(super) number: u64,
    /// The block's hash.
    pub(super) hash: B256,
    /// The block's time, as its header states it.
    pub(super) time: UnixSeconds,
}

#[derive(Deserialize)]
struct BlockJson<'a> {
    #[serde(borrow)]
    number: &'a str,
    hash: &'a str,
    timestamp: &'a str,
}

/// Reads a block; `None` where the node has none.
///
/// # Errors
/// `malformed_block`, `malformed_quantity`.
pub(super) fn read(value: &RawValue) -> Result<Option<BlockHeader>, Undecided> {
    let wire: Option<BlockJson<'_>> =
        serde_json::from_str(value.get()).map_err(|error| malformed(&error.to_string()))?;
    let Some(wire) = wire else {
        return Ok(None);
    };
    Ok(Some(BlockHeader {
        number: quantity::number(wire.number)?,
        hash: quantity::hash(wire.hash).ok_or_else(|| malformed(wire.hash))?,
        time: UnixSeconds(quantity::number(wire.timestamp)?),
    }))
}

fn malformed(what: &str) -> Undecided {
    Undecided::malformed_with("malformed_block", quantity::excerpt(what))
}

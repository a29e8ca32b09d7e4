//! Records and events by month: how a row is written, when a month is archived, under which key, and what its totals
//! are.

pub mod archive;
pub mod days;
pub mod detail;
pub mod events;
pub mod gzip;
pub mod latency;
pub mod pack;
pub mod places;
pub mod rollup;
pub mod tail;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use x402_chain::id::VerificationId;
use x402_chain::time::{Period, UnixMillis};

/// Records stay in an object for 90 days at least.
pub const KEPT_MS: u64 = 7_776_000_000;

/// When a month is archived: its newest possible record is [`KEPT_MS`] old.
#[must_use]
pub fn archived_from(month: Period) -> UnixMillis {
    month.end().plus(KEPT_MS)
}

/// A verification's record: a line of the archive, and an item of a message.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RecordCopy {
    /// The verification.
    pub id: VerificationId,
    /// Counts its changes, from 0; a copy is replaced only by a higher one.
    pub revision: i64,
    /// The answer as it was sent, JSON.
    pub record: Box<RawValue>,
    /// The logs that it has claimed ([`crate::verification::claims::units_text`]), for a ledger that is rebuilt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub units: Option<String>,
}

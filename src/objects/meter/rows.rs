//! The rows that a Meter's statements return.

use crate::storage::{FromRow, RowReader};
use x402_core::error::Fault;
use x402_core::messages::meter::{ObjectQueue, QueueDepth};
use x402_core::metrics::series::MetricCounts;

/// The number of a source's last addition.
pub struct SequenceRow {
    /// The number.
    pub sequence: u64,
}

impl FromRow for SequenceRow {
    const COLUMNS: &'static [&'static str] = &["sequence"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { sequence: row.get()? })
    }
}

/// What was counted in a span.
pub struct SpanRow {
    /// The counts.
    pub counts: MetricCounts,
}

impl FromRow for SpanRow {
    const COLUMNS: &'static [&'static str] = &["body"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { counts: row.json()? })
    }
}

/// What waits in an object.
pub struct DepthRow {
    /// The depth.
    pub depth: QueueDepth,
}

impl FromRow for DepthRow {
    const COLUMNS: &'static [&'static str] = &["queue", "object", "entries", "at_ms"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        let depth = QueueDepth {
            queue: row.parse(ObjectQueue::parse)?,
            object: row.get()?,
            entries: row.get()?,
            at: row.get()?,
        };
        Ok(Self { depth })
    }
}

//! The rows that a Courier's statements return.

use crate::storage::{FromRow, RowReader};
use x402_chain::id::EventId;
use x402_core::error::Fault;
use x402_core::webhook::delivery::{AttemptRecord, DeliveryState, DeliverySummary};

/// A delivery that is due.
pub struct DueRow {
    /// The event.
    pub event: EventId,
    /// What it is about.
    pub subject: String,
    /// Its attempts so far.
    pub attempts: u64,
    /// Those of the schedule that goes on, which a redelivery begins anew.
    pub tried: u64,
}

impl FromRow for DueRow {
    const COLUMNS: &'static [&'static str] = &["event_id", "subject", "attempts", "tried"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { event: row.parse(EventId::parse)?, subject: row.get()?, attempts: row.get()?, tried: row.get()? })
    }
}

/// An event's id.
pub struct EventRow {
    /// The event.
    pub event: EventId,
}

impl FromRow for EventRow {
    const COLUMNS: &'static [&'static str] = &["event_id"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { event: row.parse(EventId::parse)? })
    }
}

/// What an event is about.
pub struct SubjectRow {
    /// An id, or what was changed.
    pub subject: String,
}

impl FromRow for SubjectRow {
    const COLUMNS: &'static [&'static str] = &["subject"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { subject: row.get()? })
    }
}

/// A message.
pub struct MessageRow {
    /// Compressed.
    pub body: Vec<u8>,
}

impl FromRow for MessageRow {
    const COLUMNS: &'static [&'static str] = &["body"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { body: row.get()? })
    }
}

/// How many.
pub struct CountRow {
    /// So many.
    pub count: u64,
}

impl FromRow for CountRow {
    const COLUMNS: &'static [&'static str] = &["count"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { count: row.get()? })
    }
}

/// A delivery without its attempts.
pub struct SummaryRow(pub DeliverySummary);

impl FromRow for SummaryRow {
    const COLUMNS: &'static [&'static str] =
        &["event_id", "kind", "subject", "state", "attempts", "due_ms", "ended_ms"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        let (event, kind, subject) = (row.parse(EventId::parse)?, row.get()?, row.get()?);
        let (state, attempts) = (row.parse(DeliveryState::parse)?, row.get()?);
        let (next_at, ended_at) = (row.get()?, row.get()?);
        Ok(Self(DeliverySummary { event, kind, subject, state, attempts, next_at, ended_at }))
    }
}

/// An attempt.
pub struct AttemptRow(pub AttemptRecord);

impl FromRow for AttemptRow {
    const COLUMNS: &'static [&'static str] = &["at_ms", "duration_ms", "status", "failure", "head"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        let (at, duration_ms, status) = (row.get()?, row.get()?, row.get()?);
        Ok(Self(AttemptRecord { at, duration_ms, status, failure: row.get()?, head: row.get()? }))
    }
}

//! The rows that a Records object's statements return.

use crate::storage::{FromRow, RowReader};
use x402_chain::amount::Amount;
use x402_chain::id::{EventId, SettlementId, VerificationId};
use x402_core::error::Fault;
use x402_core::records::detail::{DayDetail, SettlementState};
use x402_core::records::rollup::{RollupKey, Total};

/// A record or an event.
pub struct MemberRow {
    /// `ver_…` or `evt_…`.
    pub id: String,
    /// Its line, compressed.
    pub body: Vec<u8>,
}

impl FromRow for MemberRow {
    const COLUMNS: &'static [&'static str] = &["id", "body"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { id: row.get()?, body: row.get()? })
    }
}

/// How large a record or an event is.
pub struct MemberSize {
    /// `ver_…` or `evt_…`.
    pub id: String,
    /// Bytes of its line, uncompressed.
    pub size: usize,
}

impl FromRow for MemberSize {
    const COLUMNS: &'static [&'static str] = &["id", "size"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { id: row.get()?, size: row.get()? })
    }
}

/// An event, by what it may be filtered by.
pub struct ListedEvent {
    /// The event.
    pub id: EventId,
    /// Bytes of its line, uncompressed.
    pub size: usize,
    /// The name of its kind; `None` in a row of an older build.
    pub kind: Option<String>,
    /// What it is about; `None` in a row of an older build.
    pub subject: Option<String>,
}

impl FromRow for ListedEvent {
    const COLUMNS: &'static [&'static str] = &["id", "size", "kind", "subject"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { id: row.parse(EventId::parse)?, size: row.get()?, kind: row.get()?, subject: row.get()? })
    }
}

/// A record, by what the event that it says may be filtered by.
pub struct ListedOutcome {
    /// The verification.
    pub id: VerificationId,
    /// Bytes of its line, uncompressed.
    pub size: usize,
    /// A refusal's code, or the payment's status.
    pub outcome: String,
}

impl FromRow for ListedOutcome {
    const COLUMNS: &'static [&'static str] = &["id", "size", "outcome"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { id: row.parse(VerificationId::parse)?, size: row.get()?, outcome: row.get()? })
    }
}

/// What a stored record has added to the totals of its hour.
pub struct StoredShare {
    /// The record's id.
    pub id: String,
    /// The record's revision.
    pub revision: i64,
    /// The chain.
    pub chain: String,
    /// The outcome.
    pub outcome: String,
    /// The amount.
    pub amount: Amount,
    /// The record's line, compressed.
    pub body: Vec<u8>,
}

impl FromRow for StoredShare {
    const COLUMNS: &'static [&'static str] = &["id", "revision", "chain", "outcome", "amount", "body"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        let (id, revision, chain, outcome) = (row.get()?, row.get()?, row.get()?, row.get()?);
        let amount = row.parse(Amount::parse_atomic)?;
        Ok(Self { id, revision, chain, outcome, amount, body: row.get()? })
    }
}

/// How many rows there are to archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowCounts {
    /// Records.
    pub records: u64,
    /// Events.
    pub events: u64,
}

impl FromRow for RowCounts {
    const COLUMNS: &'static [&'static str] = &["records", "events"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { records: row.get()?, events: row.get()? })
    }
}

/// A total of an hour.
pub struct HourlyTotal {
    /// Which.
    pub key: RollupKey,
    /// The total.
    pub total: Total,
}

impl FromRow for HourlyTotal {
    const COLUMNS: &'static [&'static str] = &["hour_ms", "chain", "outcome", "count", "amount", "revision"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        let key = RollupKey { start: row.get()?, chain: row.get()?, outcome: row.get()? };
        let count = row.get()?;
        let total = Total { count, amount: row.parse(Amount::parse_atomic)?, revision: row.get()? };
        Ok(Self { key, total })
    }
}

/// What is counted of a day beside the totals.
pub struct DayRow(pub DayDetail);

impl FromRow for DayRow {
    const COLUMNS: &'static [&'static str] = &["body"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        row.json().map(Self)
    }
}

/// A settlement as it is counted.
pub struct StoredSettlement(pub SettlementState);

impl FromRow for StoredSettlement {
    const COLUMNS: &'static [&'static str] = &["id", "revision", "network", "status", "amount"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        let (id, revision) = (row.parse(SettlementId::parse)?, row.get()?);
        let (network, status) = (row.get()?, row.get()?);
        let amount = row.parse(Amount::parse_atomic)?;
        Ok(Self(SettlementState { id, revision, network, status, amount }))
    }
}

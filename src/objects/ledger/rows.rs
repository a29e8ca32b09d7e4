//! The rows that a ledger's statements return.

use crate::storage::{FromRow, RowReader};
use serde::{Deserialize, Serialize};
use x402_chain::id::{ClaimId, SettlementId, VerificationId};
use x402_core::error::Fault;
use x402_core::outbox::{OutboxEntry, StoredRecord};
use x402_core::records::events::EventCopy;
use x402_core::settlement::payment::{PaymentRecord, SettlementRecord};
use x402_core::tenancy::admission::IdempotencyRecord;
use x402_core::verification::claims::{BoundReference, ClaimUnit, HeldClaim, PriorClaim};

impl FromRow for HeldClaim {
    const COLUMNS: &'static [&'static str] = &["ordinal", "id", "reference", "hashed", "claimed_ms"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        let unit = row.get::<Option<u64>>()?.map_or(ClaimUnit::Whole, ClaimUnit::Log);
        let (id, reference) = (row.parse(ClaimId::parse)?, row.get::<Option<String>>()?);
        let is_hashed = row.get::<Option<u64>>()?.is_some();
        let reference = reference.map(if is_hashed { BoundReference::Hash } else { BoundReference::Text });
        let prior = PriorClaim { id, reference, at: row.get()? };
        Ok(Self { unit, prior })
    }
}

/// Where a claim stands in its table. The first place is before every claim.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimPlace {
    /// The network's CAIP-2 id.
    pub network: String,
    /// The transaction.
    pub tx: String,
    /// The recipient's address.
    pub recipient: String,
    /// The log; 0 in the table of whole payments.
    pub ordinal: i64,
}

/// A claim with the text of its reference.
pub struct ClaimText {
    /// Where it stands.
    pub place: ClaimPlace,
    /// The text; `None` where it has none, or only its hash is left.
    pub text: Option<String>,
}

impl FromRow for ClaimText {
    const COLUMNS: &'static [&'static str] = &["network", "tx", "recipient", "ordinal", "text"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        let (network, tx, recipient, ordinal) = (row.get()?, row.get()?, row.get()?, row.get()?);
        Ok(Self { place: ClaimPlace { network, tx, recipient, ordinal }, text: row.get()? })
    }
}

/// A record, by its id.
pub struct RecordRow {
    /// The answer, as JSON.
    pub body: String,
    /// How often it was changed: the directory takes the greater.
    pub revision: i64,
    /// The logs that it has claimed.
    pub units: Option<String>,
}

impl FromRow for RecordRow {
    const COLUMNS: &'static [&'static str] = &["body", "revision", "units"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { body: row.get()?, revision: row.get()?, units: row.get()? })
    }
}

/// How large a record is.
pub struct RecordSize {
    /// `ver_…`.
    pub id: String,
    /// Bytes of its text.
    pub bytes: usize,
}

impl FromRow for RecordSize {
    const COLUMNS: &'static [&'static str] = &["id", "bytes"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { id: row.get()?, bytes: row.get()? })
    }
}

impl FromRow for StoredRecord {
    const COLUMNS: &'static [&'static str] = &["id", "revision", "body", "units"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { id: row.get()?, revision: row.get()?, body: row.get()?, units: row.get()? })
    }
}

/// A record that is polled for finality.
pub struct RecordIdRow {
    /// `ver_…`.
    pub id: String,
}

impl FromRow for RecordIdRow {
    const COLUMNS: &'static [&'static str] = &["id"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { id: row.get()? })
    }
}

/// A record that is polled for finality, with its chain.
pub struct WatchedRow {
    /// `ver_…`.
    pub id: String,
    /// The chain's key.
    pub chain: String,
}

impl FromRow for WatchedRow {
    const COLUMNS: &'static [&'static str] = &["id", "chain"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { id: row.get()?, chain: row.get()? })
    }
}

/// A record that holds what it has counted.
pub struct CountedRow {
    /// `ver_…`.
    pub id: VerificationId,
    /// How much it counts against the quota: 0 or 1.
    pub used: u64,
}

impl FromRow for CountedRow {
    const COLUMNS: &'static [&'static str] = &["id", "counted"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { id: row.parse(VerificationId::parse)?, used: row.get()? })
    }
}

/// A number of entries.
pub struct EntryCount {
    /// How many.
    pub count: u64,
}

impl FromRow for EntryCount {
    const COLUMNS: &'static [&'static str] = &["count"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { count: row.get()? })
    }
}

/// Records that are polled for finality together.
pub struct WatchGroup {
    /// The group's number.
    pub seq: i64,
    /// Their ids, each `ver_…`.
    pub ids: Vec<String>,
}

impl FromRow for WatchGroup {
    const COLUMNS: &'static [&'static str] = &["seq", "ids"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { seq: row.get()?, ids: row.get::<String>()?.split(' ').map(str::to_owned).collect() })
    }
}

impl FromRow for IdempotencyRecord {
    const COLUMNS: &'static [&'static str] = &["body_hash", "status", "body", "created_ms", "answer_until_ms"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        let body_hash = row.get()?;
        let status: Option<u16> = row.get()?;
        let answer = match (status, row.get::<Option<String>>()?) {
            (Some(status), Some(body)) => Some((status, body)),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => {
                return Err(row.unreadable("and column status: one is null, and the other is not"));
            }
        };
        Ok(Self { body_hash, answer, at: row.get()?, answer_until: row.get()? })
    }
}

/// Where an idempotency record stands in its table. The first place is before every record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdempotencyPlace {
    /// The route's name.
    pub route: String,
    /// The `Idempotency-Key`.
    pub key: String,
}

impl FromRow for IdempotencyPlace {
    const COLUMNS: &'static [&'static str] = &["route", "key"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { route: row.get()?, key: row.get()? })
    }
}

/// The text and the progress of a settlement: two columns, the first of which was read.
fn settlement_record(body: &str, row: &mut RowReader) -> Result<SettlementRecord, Fault> {
    let settlement = serde_json::from_str(body);
    let settlement = settlement.map_err(|error| row.not_json(&error))?;
    Ok(SettlementRecord { settlement, progress: row.json()? })
}

impl FromRow for PaymentRecord {
    const COLUMNS: &'static [&'static str] = &["fingerprint", "proof", "expires_ms", "body", "course"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        let (fingerprint, proof, expires_at) = (row.get()?, row.get()?, row.get()?);
        let settlement_record = match row.get::<Option<String>>()? {
            Some(body) => Some(settlement_record(&body, row)?),
            None => match row.get::<Option<String>>()? {
                None => None,
                Some(_) => return Err(row.unreadable("is not null, and column body is null")),
            },
        };
        Ok(Self { fingerprint, proof, expires_at, settlement_record })
    }
}

/// The payment that a payer's identifier names.
pub struct IdentifierRow {
    /// The payment's authorization: network, asset, payer and nonce.
    pub authorization: String,
}

impl FromRow for IdentifierRow {
    const COLUMNS: &'static [&'static str] = &["authorization"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { authorization: row.get()? })
    }
}

/// A settlement, by its id.
pub struct SettlementRow {
    /// The settlement and its progress.
    pub record: SettlementRecord,
    /// Counts its changes; the directory's copy follows it.
    pub revision: i64,
}

impl FromRow for SettlementRow {
    const COLUMNS: &'static [&'static str] = &["body", "course", "revision"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        let body: String = row.get()?;
        Ok(Self { record: settlement_record(&body, row)?, revision: row.get()? })
    }
}

/// A settlement as it is stored.
pub struct StoredSettlement {
    /// `stl_…`.
    pub id: SettlementId,
    /// What its seller reads, as JSON.
    pub body: String,
    /// Its progress, as JSON.
    pub course: String,
    /// Counts its changes.
    pub revision: i64,
}

impl FromRow for StoredSettlement {
    const COLUMNS: &'static [&'static str] = &["id", "body", "course", "revision"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { id: row.parse(SettlementId::parse)?, body: row.get()?, course: row.get()?, revision: row.get()? })
    }
}

/// A settlement that is due.
pub struct SettlementIdRow {
    /// `stl_…`.
    pub id: SettlementId,
}

impl FromRow for SettlementIdRow {
    const COLUMNS: &'static [&'static str] = &["id"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { id: row.parse(SettlementId::parse)? })
    }
}

/// A settlement as it is listed.
pub struct ListedSettlement {
    /// `stl_…`.
    pub id: String,
    /// What its seller reads, as JSON.
    pub body: String,
}

impl FromRow for ListedSettlement {
    const COLUMNS: &'static [&'static str] = &["id", "body"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { id: row.get()?, body: row.get()? })
    }
}

/// How large an entry of the outbox is.
pub struct OutboxSize {
    /// Its number in the outbox: the order in which entries are shipped.
    pub seq: i64,
    /// Bytes of its body.
    pub bytes: usize,
}

impl FromRow for OutboxSize {
    const COLUMNS: &'static [&'static str] = &["seq", "bytes"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { seq: row.get()?, bytes: row.get()? })
    }
}

/// An endpoint for which events wait.
pub struct WaitingEndpoint {
    /// `whe_…`.
    pub endpoint: String,
}

impl FromRow for WaitingEndpoint {
    const COLUMNS: &'static [&'static str] = &["endpoint"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { endpoint: row.get()? })
    }
}

/// An event that waits for a Courier.
pub struct WaitingWebhook {
    /// The event. One that this build cannot read must not keep those after it from being sent.
    pub event: Result<EventCopy, Fault>,
}

impl FromRow for WaitingWebhook {
    const COLUMNS: &'static [&'static str] = &["body"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { event: row.get::<String>().and_then(|body| EventCopy::read(&body)) })
    }
}

/// An entry of the outbox.
pub struct OutboxRow {
    /// Its number in the outbox: the order in which entries are shipped.
    pub seq: i64,
    /// Bytes of its body.
    pub bytes: usize,
    /// The entry. One that this build cannot read must not keep those after it from being read.
    pub entry: Result<OutboxEntry, Fault>,
}

impl FromRow for OutboxRow {
    const COLUMNS: &'static [&'static str] = &["seq", "kind", "body"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        let (seq, kind, body) = (row.get()?, row.get::<String>(), row.get::<String>());
        let bytes = body.as_ref().map_or(0, String::len);
        Ok(Self { seq, bytes, entry: kind.and_then(|kind| OutboxEntry::parse(&kind, &body?)) })
    }
}

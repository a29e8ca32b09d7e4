//! Typed access to a Records object's SQLite.

use super::rows::{
    DayRow, HourlyTotal, ListedEvent, ListedOutcome, MemberRow, MemberSize, RowCounts, StoredSettlement, StoredShare,
};
use super::{migrations, sql};
use crate::objects::sqlite::{Sqlite, millis_value, storage_failed};
use serde::Serialize;
use serde::de::DeserializeOwned;
use worker::{SqlStorageValue as Value, Storage};
use x402_chain::collect::map_of;
use x402_chain::id::{EventId, SettlementId, VerificationId};
use x402_chain::time::UnixMillis;
use x402_core::error::Fault;
use x402_core::records::archive::ArchivedKind;
use x402_core::records::detail::{DayDetail, RecordDetail, SettlementState};
use x402_core::records::rollup::{RecordShare, RollupKey, Total, Totals};

/// A day in milliseconds.
const DAY_MS: u64 = 86_400_000;

/// What is to be stored of a record or an event: its line's size, and the line compressed.
pub(super) type PackedLine = (usize, Vec<u8>);

/// A record that is to be stored.
pub(super) struct NewRecord {
    pub(super) id: VerificationId,
    pub(super) revision: i64,
    pub(super) share: RecordShare,
    pub(super) detail: RecordDetail,
    pub(super) line: PackedLine,
}

/// An event that is to be stored.
pub(super) struct NewEvent {
    pub(super) id: EventId,
    pub(super) kind: String,
    pub(super) subject: String,
    pub(super) line: PackedLine,
}

/// What `RECORD_PUT` binds for a record.
const COLUMNS: usize = 7;

/// Typed reads and writes of a month's tables.
pub(super) struct RecordsStore {
    db: Sqlite,
}

/// A count as a value to bind.
fn number_value(number: impl TryInto<i64>) -> Result<Value, Fault> {
    number.try_into().map(Value::Integer).map_err(|_| storage_failed("a number beyond 63 bits"))
}

fn key_values(key: &RollupKey) -> [Value; 3] {
    [millis_value(key.start), key.chain.as_str().into(), key.outcome.as_str().into()]
}

fn totals_of(rows: Vec<HourlyTotal>) -> Totals {
    map_of(rows.into_iter().map(|row| (row.key, row.total)))
}

impl RecordsStore {
    pub(super) fn new(storage: &Storage) -> Self {
        Self { db: Sqlite::new(storage) }
    }

    /// Runs a step as one transaction: all its writes, or none.
    pub(super) fn atomically<T>(&self, step: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
        self.db.atomically(step)
    }

    /// Whether anything is stored. Reading an object that stores nothing writes nothing.
    pub(super) fn is_made(&self) -> Result<bool, Fault> {
        Ok(self.db.first(sql::TABLES_GET, Vec::new())?.is_some())
    }

    /// Creates the schema, or migrates that of an older build.
    pub(super) fn make_schema(&self) -> Result<(), Fault> {
        self.db.migrate(migrations::MIGRATIONS)
    }

    /// A value of the state table.
    pub(super) fn state<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Fault> {
        self.db.state(name)
    }

    pub(super) fn put_state(&self, name: &str, value: &impl Serialize) -> Result<(), Fault> {
        self.db.put_state(name, value)
    }

    pub(super) fn record(&self, id: &str) -> Result<Option<MemberRow>, Fault> {
        self.db.first(sql::RECORD_GET, vec![id.into()])
    }

    /// What stored records have added to the totals, those of the ids that are stored.
    pub(super) fn shares<'a>(&self, ids: impl Iterator<Item = &'a VerificationId>) -> Result<Vec<StoredShare>, Fault> {
        let ids = serde_json::to_string(&ids.collect::<Vec<_>>()).map_err(storage_failed)?;
        self.db.rows(sql::SHARES_GET, vec![ids.into()])
    }

    /// Stores records, several with a statement: a call of SQLite costs more than what it stores.
    pub(super) fn put_records(&self, records: Vec<NewRecord>) -> Result<(), Fault> {
        let mut left = records.len();
        let mut values = Vec::new();
        for record in records {
            let (size, body) = record.line;
            values.extend([
                record.id.to_string().into(),
                Value::Integer(record.revision),
                record.share.key.chain.into(),
                record.share.key.outcome.into(),
                record.share.amount.to_string().into(),
                number_value(size)?,
                Value::Blob(body),
            ]);
        }
        let mut values = values.into_iter();
        while left > 0 {
            let (rows, statement) = match left {
                14.. => (14, sql::RECORDS_PUT_14),
                4.. => (4, sql::RECORDS_PUT_4),
                _ => (1, sql::RECORD_PUT),
            };
            self.db.run(statement, values.by_ref().take(COLUMNS.saturating_mul(rows)).collect())?;
            left = left.saturating_sub(rows);
        }
        Ok(())
    }

    pub(super) fn put_event(&self, event: NewEvent) -> Result<(), Fault> {
        let (size, body) = event.line;
        let [id, kind, subject] = [event.id.to_string(), event.kind, event.subject].map(Value::from);
        self.db.run(sql::EVENT_PUT, vec![id, kind, subject, number_value(size)?, Value::Blob(body)])
    }

    pub(super) fn event(&self, id: EventId) -> Result<Option<MemberRow>, Fault> {
        self.db.first(sql::EVENT_GET, vec![id.to_string().into()])
    }

    /// Events with ids less than the first, from the second on, the newest first.
    pub(super) fn events_before(&self, (before, from): (&str, &str), limit: usize) -> Result<Vec<ListedEvent>, Fault> {
        self.db.rows(sql::EVENTS_BEFORE, vec![before.into(), from.into(), number_value(limit)?])
    }

    /// Records with ids less than the first, from the second on, the newest first.
    pub(super) fn outcomes_before(
        &self,
        (before, from): (&str, &str),
        limit: usize,
    ) -> Result<Vec<ListedOutcome>, Fault> {
        self.db.rows(sql::OUTCOMES_BEFORE, vec![before.into(), from.into(), number_value(limit)?])
    }

    /// Records with smaller ids, the newest first.
    pub(super) fn sizes_before(&self, id: &str, limit: usize) -> Result<Vec<MemberSize>, Fault> {
        self.db.rows(sql::SIZES_BEFORE, vec![id.into(), number_value(limit)?])
    }

    /// The oldest rows of a kind after an id.
    pub(super) fn sizes_after(&self, kind: ArchivedKind, id: &str, limit: usize) -> Result<Vec<MemberSize>, Fault> {
        let statement = match kind {
            ArchivedKind::Records => sql::RECORD_SIZES,
            ArchivedKind::Events => sql::EVENT_SIZES,
        };
        self.db.rows(statement, vec![id.into(), number_value(limit)?])
    }

    /// The oldest rows of a kind after an id, up to another.
    pub(super) fn members_between(
        &self,
        kind: ArchivedKind,
        (after, upto): (&str, &str),
        limit: usize,
    ) -> Result<Vec<MemberRow>, Fault> {
        let statement = match kind {
            ArchivedKind::Records => sql::RECORDS_BETWEEN,
            ArchivedKind::Events => sql::EVENTS_BETWEEN,
        };
        self.db.rows(statement, vec![after.into(), upto.into(), number_value(limit)?])
    }

    pub(super) fn counts(&self) -> Result<RowCounts, Fault> {
        let counts = self.db.first(sql::COUNTS_GET, Vec::new())?;
        counts.ok_or_else(|| storage_failed("a count returned no row"))
    }

    pub(super) fn total(&self, key: &RollupKey) -> Result<Option<Total>, Fault> {
        Ok(self.db.first(sql::TOTAL_GET, key_values(key).to_vec())?.map(|row| row.total))
    }

    /// All totals of the hours of a day.
    pub(super) fn totals_of_day(&self, day: UnixMillis) -> Result<Totals, Fault> {
        let bind = vec![millis_value(day), millis_value(day.plus(DAY_MS))];
        self.db.rows(sql::TOTALS_BETWEEN, bind).map(totals_of)
    }

    /// Totals that the directory does not hold as they are.
    pub(super) fn changed_totals(&self, limit: usize) -> Result<Totals, Fault> {
        self.db.rows(sql::TOTALS_CHANGED, vec![number_value(limit)?]).map(totals_of)
    }

    /// Stores a total. `copied` counts where the row is new: the revision that the directory holds.
    pub(super) fn put_total(&self, key: &RollupKey, total: &Total, copied: u64) -> Result<(), Fault> {
        let values = [
            number_value(total.count)?,
            total.amount.to_string().into(),
            number_value(total.revision)?,
            number_value(copied)?,
        ];
        self.db.run(sql::TOTAL_PUT, key_values(key).into_iter().chain(values).collect())
    }

    /// Notes that the directory holds a total of a revision.
    pub(super) fn note_copied(&self, key: &RollupKey, revision: u64) -> Result<(), Fault> {
        let revision = [number_value(revision)?];
        self.db.run(sql::TOTAL_COPIED, revision.into_iter().chain(key_values(key)).collect())
    }

    /// What is counted of a day beside the totals.
    pub(super) fn day(&self, day: UnixMillis) -> Result<DayDetail, Fault> {
        let row = self.db.first(sql::DAY_GET, vec![millis_value(day)])?;
        Ok(row.map(|DayRow(detail)| detail).unwrap_or_default())
    }

    pub(super) fn put_day(&self, day: UnixMillis, detail: &DayDetail) -> Result<(), Fault> {
        let body = serde_json::to_string(detail).map_err(storage_failed)?;
        self.db.run(sql::DAY_PUT, vec![millis_value(day), body.into()])
    }

    pub(super) fn settlement(&self, id: SettlementId) -> Result<Option<SettlementState>, Fault> {
        let row = self.db.first(sql::SETTLEMENT_GET, vec![id.to_string().into()])?;
        Ok(row.map(|StoredSettlement(state)| state))
    }

    pub(super) fn put_settlement(&self, state: &SettlementState) -> Result<(), Fault> {
        let bind = vec![
            state.id.to_string().into(),
            Value::Integer(state.revision),
            state.network.as_str().into(),
            state.status.as_str().into(),
            state.amount.to_string().into(),
        ];
        self.db.run(sql::SETTLEMENT_PUT, bind)
    }
}

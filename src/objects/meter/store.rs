//! Typed access to a Meter's SQLite.

use super::{migrations, sql};
use crate::objects::sqlite::{Sqlite, millis_value, storage_failed};
use worker::{SqlStorageValue as Value, Storage};
use x402_chain::time::UnixMillis;
use x402_core::error::Fault;
use x402_core::messages::meter::QueueDepth;
use x402_core::metrics::series::MetricCounts;

/// The name of the stored totals.
const TOTALS: &str = "totals";

/// Typed reads and writes of a Meter's tables.
pub(super) struct MeterStore {
    db: Sqlite,
}

/// A number as a value to bind.
fn number_value(number: u64) -> Result<Value, Fault> {
    i64::try_from(number).map(Value::Integer).map_err(|_| storage_failed("a number beyond 63 bits"))
}

impl MeterStore {
    pub(super) fn new(storage: &Storage) -> Self {
        Self { db: Sqlite::new(storage) }
    }

    /// Creates the schema, or migrates that of an older build.
    pub(super) fn make_schema(&self) -> Result<(), Fault> {
        self.db.migrate(migrations::MIGRATIONS)
    }

    /// Runs a step as one transaction: all its writes, or none.
    pub(super) fn atomically<T>(&self, step: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
        self.db.atomically(step)
    }

    /// All that was counted.
    pub(super) fn totals(&self) -> Result<MetricCounts, Fault> {
        Ok(self.db.state(TOTALS)?.unwrap_or_default())
    }

    pub(super) fn put_totals(&self, totals: &MetricCounts) -> Result<(), Fault> {
        self.db.put_state(TOTALS, totals)
    }

    /// The number of a source's last addition.
    pub(super) fn sequence(&self, source: &str) -> Result<Option<u64>, Fault> {
        Ok(self.db.first(sql::SEQUENCE_GET, vec![source.into()])?.map(|row| row.sequence))
    }

    pub(super) fn put_sequence(&self, source: &str, sequence: u64, now: UnixMillis) -> Result<(), Fault> {
        self.db.run(sql::SEQUENCE_PUT, vec![source.into(), number_value(sequence)?, millis_value(now)])
    }

    /// Forgets isolates that have sent nothing since, and depths that nobody has reported since.
    pub(super) fn purge(&self, before: UnixMillis) -> Result<(), Fault> {
        self.db.run(sql::ISOLATES_PURGE, vec![millis_value(before)])?;
        self.db.run(sql::DEPTHS_PURGE, vec![millis_value(before)])
    }

    /// What was counted in a span; `None` where it has not begun.
    pub(super) fn span(&self, length_ms: u64, start: UnixMillis) -> Result<Option<MetricCounts>, Fault> {
        let bind = vec![number_value(length_ms)?, millis_value(start)];
        Ok(self.db.first(sql::SPAN_GET, bind)?.map(|row| row.counts))
    }

    pub(super) fn put_span(&self, length_ms: u64, start: UnixMillis, counts: &MetricCounts) -> Result<(), Fault> {
        let body = serde_json::to_string(counts).map_err(storage_failed)?;
        self.db.run(sql::SPAN_PUT, vec![number_value(length_ms)?, millis_value(start), body.into()])
    }

    /// The sum of the spans of a length that begin at a time or later.
    pub(super) fn sum_spans(&self, length_ms: u64, from: UnixMillis) -> Result<MetricCounts, Fault> {
        let mut sum = MetricCounts::default();
        for row in self.db.rows(sql::SPANS_FROM, vec![number_value(length_ms)?, millis_value(from)])? {
            sum.add(&row.counts);
        }
        Ok(sum)
    }

    /// Forgets spans of a length that have begun before a time.
    pub(super) fn purge_spans(&self, length_ms: u64, before: UnixMillis) -> Result<(), Fault> {
        self.db.run(sql::SPANS_PURGE, vec![number_value(length_ms)?, millis_value(before)])
    }

    pub(super) fn put_depth(&self, depth: &QueueDepth) -> Result<(), Fault> {
        let bind = vec![
            depth.queue.name().into(),
            depth.object.as_str().into(),
            number_value(depth.entries)?,
            millis_value(depth.at),
        ];
        self.db.run(sql::DEPTH_PUT, bind)
    }

    /// What waits in objects.
    pub(super) fn depths(&self) -> Result<Vec<QueueDepth>, Fault> {
        Ok(self.db.rows(sql::DEPTHS_GET, Vec::new())?.into_iter().map(|row| row.depth).collect())
    }
}

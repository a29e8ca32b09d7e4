//! The outbox: what is to be shipped.

use super::LedgerStore;
use crate::app;
use crate::objects::ledger::rows::{OutboxRow, OutboxSize};
use crate::objects::ledger::sql;
use crate::objects::sqlite::{millis_value, storage_failed};
use x402_chain::time::UnixMillis;
use x402_core::error::Fault;
use x402_core::outbox::{OutboxEntry, OutboxEvent};
use x402_core::tenancy::quota::QuotaEvent;

impl LedgerStore {
    pub(in crate::objects::ledger) fn put_outbox(&self, entry: &OutboxEntry) -> Result<(), Fault> {
        self.run(sql::OUTBOX_PUT, vec![entry.kind().into(), entry.body()?.into()])
    }

    /// Stores events about the quota, for the month's object.
    pub(in crate::objects::ledger) fn put_quota_events(
        &self,
        events: &[QuotaEvent],
        now: UnixMillis,
    ) -> Result<(), Fault> {
        for (kind, quota) in events {
            let body = serde_json::value::to_raw_value(quota).map_err(storage_failed)?;
            let (id, subject) = (app::event_id(now)?, quota.period.to_string());
            self.put_outbox(&OutboxEntry::Event(OutboxEvent { id, kind: (*kind).into(), subject, body, at: now }))?;
        }
        Ok(())
    }

    /// The oldest entries of the outbox after a number, with their sizes in bytes.
    pub(in crate::objects::ledger) fn outbox_sizes(&self, after: i64, limit: i64) -> Result<Vec<OutboxSize>, Fault> {
        self.rows(sql::OUTBOX_SIZES, vec![after.into(), limit.into()])
    }

    /// How many entries wait.
    pub(in crate::objects::ledger) fn outbox_count(&self) -> Result<Option<u64>, Fault> {
        Ok(self.rows(sql::OUTBOX_COUNT, Vec::new())?.into_iter().next().map(|row| row.count))
    }

    /// The entries of the outbox after a number, up to another.
    pub(in crate::objects::ledger) fn outbox(&self, (after, upto): (i64, i64)) -> Result<Vec<OutboxRow>, Fault> {
        self.rows(sql::OUTBOX_GET, vec![after.into(), upto.into()])
    }

    /// Keeps an entry apart that cannot be read, until it is returned.
    pub(in crate::objects::ledger) fn park_outbox(&self, seq: i64, now: UnixMillis) -> Result<(), Fault> {
        self.run(sql::OUTBOX_PARK, vec![millis_value(now), seq.into()])
    }

    /// Returns what was kept apart to the end of the outbox.
    pub(in crate::objects::ledger) fn return_parked(&self) -> Result<(), Fault> {
        if self.first(sql::PARKED_GET, Vec::new())?.is_none() {
            return Ok(());
        }
        self.atomically(|| {
            self.run(sql::PARKED_RETURN, Vec::new())?;
            self.run(sql::PARKED_DELETE, Vec::new())
        })
    }

    /// Deletes the entries after a number, up to another.
    pub(in crate::objects::ledger) fn clear_outbox(&self, (after, upto): (i64, i64)) -> Result<(), Fault> {
        self.run(sql::OUTBOX_DELETE, vec![after.into(), upto.into()])
    }
}

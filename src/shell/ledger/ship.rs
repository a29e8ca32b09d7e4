//! The outbox: what the ledger has recorded goes to the directory, at least
//! once, with ids and revisions that make a repeat harmless.

use super::{TenantLedger, nothing};
use crate::api::Reply;
use crate::error::{Code, Fault};
use crate::id::{EventId, KeyId, SettlementId};
use crate::ledger::admission::Closed;
use crate::ledger::follow::EventKind;
use crate::shell::app::db;
use crate::shell::directory::{self, Shipment};
use crate::time::{Period, UnixMillis};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet};

/// Records of one batch: about 4 KiB each, so 400 KiB of the 2 MB that D1 takes as one value.
const BATCH: i64 = 100;
/// Batches of one waking: 20 × 100 = 2,000 records.
const BATCHES_MAX: usize = 20;
/// Where no record is older.
const NO_RECORD: &str = "";

/// What has reached the directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Shipped {
    /// The newest record.
    pub(super) record: String,
    /// The totals of the current period.
    pub(super) usage: Option<(Period, u64, u64)>,
    /// Keys' last uses.
    pub(super) last_used: BTreeMap<KeyId, UnixMillis>,
}

/// An event on its way.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Event {
    pub(crate) id: EventId,
    pub(crate) kind: EventKind,
    /// The id of what it is about; empty in entries of older builds, whose body has it.
    #[serde(default)]
    pub(crate) subject: String,
    /// What it is about, as it was then.
    #[serde(alias = "record")]
    pub(crate) body: Box<RawValue>,
    pub(crate) at: UnixMillis,
}

fn event(text: &str) -> Result<Event, Fault> {
    #[derive(Deserialize)]
    struct Subject {
        id: String,
    }
    let mut event: Event = serde_json::from_str(text).map_err(Fault::internal)?;
    if event.subject.is_empty() {
        event.subject = serde_json::from_str::<Subject>(event.body.get()).map_err(Fault::internal)?.id;
    }
    Ok(event)
}

impl TenantLedger {
    /// Ships all there is, within bounds. Answers whether something is left.
    pub(super) async fn ship(&self, now: UnixMillis) -> Result<bool, Fault> {
        for _ in 0..BATCHES_MAX {
            if !self.ship_batch(now).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Ships one batch; answers whether there may be more.
    async fn ship_batch(&self, now: UnixMillis) -> Result<bool, Fault> {
        let store = self.store();
        let mut shipped: Shipped = store.state("shipped")?.unwrap_or_default();
        let before = shipped.clone();
        let (tenant, environment, admission) =
            self.with(|memory| Ok((memory.tenant.id, memory.tenant.environment, memory.admission.clone())))?;
        let from = if shipped.record.is_empty() { NO_RECORD } else { &shipped.record };
        let records = store.records_after(from, BATCH)?;
        let outbox = store.outbox(BATCH)?;
        let mut shipment = Shipment::new(tenant, environment, now);
        for row in &records {
            shipment.record(row.clone());
        }
        let mut newest = BTreeSet::new();
        for row in &outbox {
            match row.kind.as_str() {
                "period" => shipment.usage(serde_json::from_str::<Closed>(&row.body).map_err(Fault::internal)?),
                "event" => shipment.event(event(&row.body)?),
                "settlement" => {
                    let id =
                        SettlementId::parse(&row.body).ok_or_else(|| Fault::internal("a settlement without id"))?;
                    // Its newest text, whatever the entry was written for, once a batch.
                    if newest.insert(id)
                        && let Some((kept, revision)) = store.settlement(id)?
                    {
                        shipment.settlement(kept.settlement, revision);
                    }
                }
                // The record's newest text, whatever the entry was written for.
                "record" => {
                    if let Some(record) = store.record(&row.body)? {
                        shipment.record(record);
                    }
                }
                other => return Err(Fault::internal(format!("an outbox entry of kind '{other}'"))),
            }
        }
        let usage = (admission.period, admission.used, admission.requests);
        if shipped.usage != Some(usage) {
            shipment.usage(Closed { period: usage.0, used: usage.1, requests: usage.2 });
            shipped.usage = Some(usage);
        }
        for (key, at) in &admission.last_used {
            if shipped.last_used.get(key) != Some(at) {
                shipment.last_used(*key, *at);
            }
        }
        shipped.last_used.clone_from(&admission.last_used);
        if let Some(last) = records.last() {
            shipped.record.clone_from(&last.id);
        }
        if shipment.is_empty() {
            return Ok(false);
        }
        directory::ship(&db(&self.env)?, shipment).await?;
        let newest = outbox.last().map(|row| row.seq);
        store.atomically(|| {
            if let Some(seq) = newest {
                store.clear_outbox(seq)?;
            }
            if shipped == before { Ok(()) } else { store.put_state("shipped", &shipped) }
        })?;
        let full = |rows: usize| i64::try_from(rows).unwrap_or(i64::MAX) >= BATCH;
        Ok(full(records.len()) || full(outbox.len()))
    }

    /// Ships until nothing is left: what was answered can then be read in the directory.
    pub(super) async fn flush(&self, now: UnixMillis) -> Result<Reply, Fault> {
        let store = self.store();
        self.with(|memory| {
            let mut admission = memory.admission.clone();
            if let Some(closed) = admission.roll(now) {
                let body = serde_json::to_string(&closed).map_err(Fault::internal)?;
                store.atomically(|| {
                    store.put_outbox("period", &body)?;
                    store.put_admission(&admission)
                })?;
                memory.admission = admission;
            }
            Ok(())
        })?;
        let left = self.ship(now).await.map_err(|fault| {
            let detail = "the ledger could not reach the directory";
            Fault::new(Code::LedgerUnavailable, detail).after(1).because(fault.cause().unwrap_or(&fault.detail))
        })?;
        if left {
            return Err(Fault::new(Code::LedgerUnavailable, "the ledger is still shipping its records").after(2));
        }
        Ok(nothing())
    }
}

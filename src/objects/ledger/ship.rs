//! Ships the outbox: what the ledger has recorded goes to the directory at least once, with ids and revisions that make
//! a repeat harmless.

use super::TenantLedger;
use super::reply::LedgerOutput;
use super::store::LedgerStore;
use crate::app::db;
use crate::d1;
use crate::d1::{SettlementCopy, Shipment};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use x402_chain::id::{KeyId, SettlementId};
use x402_chain::time::{Period, UnixMillis};
use x402_core::error::{ErrorCode, Fault};
use x402_core::outbox::OutboxEvent;
use x402_core::outbox::load::ShipmentLoad;
use x402_core::tenancy::admission::ClosedPeriod;

/// The most rows read for one batch, as many as a batch holds.
const ROWS_READ_MAX: i64 = 100;
/// The most batches in one alarm: 20 × 100 = 2,000 records of the usual 4 KiB.
const BATCHES_MAX: usize = 20;
/// The most keys in one batch whose last use is written.
const KEYS_MAX: usize = 50;

/// What the directory holds already.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ShippedState {
    /// The id of the newest record that was shipped.
    pub(super) record: String,
    /// The totals of the current period, as shipped.
    pub(super) usage: Option<(Period, u64, u64)>,
    /// When each key was last used, as shipped.
    pub(super) last_used: BTreeMap<KeyId, UnixMillis>,
}

/// Loads the oldest records after an id; returns the last of them, and whether there may be more. The empty id is less
/// than every id.
fn load_records(store: &LedgerStore, after: &str, shipment: &mut Shipment) -> Result<(Option<String>, bool), Fault> {
    let mut load = ShipmentLoad::default();
    let sizes = store.record_sizes(after, ROWS_READ_MAX)?;
    let last = sizes.into_iter().take_while(|(_, bytes)| load.accept(*bytes)).last().map(|(id, _)| id);
    if let Some(last) = &last {
        for record in store.records_between(after, last)? {
            shipment.add_record(record);
        }
    }
    Ok((last, load.is_full()))
}

/// Loads the oldest entries of the outbox with the rows that they name; returns the last, and whether there may be
/// more.
fn load_outbox(store: &LedgerStore, shipment: &mut Shipment) -> Result<(Option<i64>, bool), Fault> {
    let mut entries = ShipmentLoad::default();
    let sizes = store.outbox_sizes(ROWS_READ_MAX)?;
    let Some((upto, _)) = sizes.into_iter().take_while(|(_, bytes)| entries.accept(*bytes)).last() else {
        return Ok((None, false));
    };
    // The row that an entry names is larger than the entry.
    let (mut load, mut newest, mut done) = (ShipmentLoad::default(), BTreeSet::new(), None);
    for row in store.outbox(upto)? {
        let is_taken = match row.kind.as_str() {
            "period" => {
                let taken = load.accept(row.body.len());
                if taken {
                    shipment.add_usage(serde_json::from_str::<ClosedPeriod>(&row.body).map_err(Fault::internal)?);
                }
                taken
            }
            "event" => {
                let taken = load.accept(row.body.len());
                if taken {
                    shipment.add_event(OutboxEvent::parse(&row.body)?);
                }
                taken
            }
            // The newest body of the row, whatever the entry was written for; once a batch.
            "settlement" if newest.contains(&row.body) => true,
            "settlement" => {
                let id = SettlementId::parse(&row.body).ok_or_else(|| Fault::internal("a settlement has no id"))?;
                match store.settlement(id)? {
                    Some((kept, revision)) => {
                        let body = serde_json::to_string(&kept.settlement).map_err(Fault::internal)?;
                        let taken = load.accept(body.len());
                        if taken {
                            shipment.add_settlement(SettlementCopy { settlement: kept.settlement, body, revision });
                            newest.insert(row.body);
                        }
                        taken
                    }
                    None => true,
                }
            }
            "record" if newest.contains(&row.body) => true,
            "record" => match store.record(&row.body)? {
                Some(record) => {
                    let taken = load.accept(record.body.len());
                    if taken {
                        shipment.add_record(record);
                        newest.insert(row.body);
                    }
                    taken
                }
                None => true,
            },
            other => return Err(Fault::internal(format!("an outbox entry of kind '{other}'"))),
        };
        if !is_taken {
            break;
        }
        done = Some(row.seq);
    }
    Ok((done, entries.is_full() || load.is_full()))
}

impl TenantLedger {
    /// Ships all that is due, within bounds; returns whether something is left.
    pub(super) async fn ship(&self, now: UnixMillis) -> Result<bool, Fault> {
        for _ in 0..BATCHES_MAX {
            if !self.ship_batch(now).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Ships one batch; returns whether there may be more.
    async fn ship_batch(&self, now: UnixMillis) -> Result<bool, Fault> {
        let store = self.store();
        let mut shipped: ShippedState = store.state("shipped")?.unwrap_or_default();
        let before = shipped.clone();
        let (tenant, environment, admission) =
            self.with_state(|memory| Ok((memory.tenant.id, memory.tenant.environment, memory.admission.clone())))?;
        let mut shipment = Shipment::new(tenant, environment, now);
        let (last, more_records) = load_records(&store, &shipped.record, &mut shipment)?;
        let (newest, more_entries) = load_outbox(&store, &mut shipment)?;
        let usage = (admission.period, admission.used, admission.requests);
        if shipped.usage != Some(usage) {
            shipment.add_usage(ClosedPeriod { period: usage.0, used: usage.1, requests: usage.2 });
            shipped.usage = Some(usage);
        }
        let unshipped = |(key, at): &(&KeyId, &UnixMillis)| shipped.last_used.get(*key) != Some(*at);
        let used: Vec<(KeyId, UnixMillis)> =
            admission.last_used.iter().filter(unshipped).take(KEYS_MAX).map(|(key, at)| (*key, *at)).collect();
        for (key, at) in &used {
            shipment.add_last_used(*key, *at);
        }
        let more_keys = used.len() >= KEYS_MAX;
        shipped.last_used.extend(used);
        shipped.record = last.unwrap_or(shipped.record);
        match (shipment.is_empty(), newest) {
            (true, None) => return Ok(false),
            // Entries whose rows do not exist any more.
            (true, Some(_)) => {}
            (false, _) => d1::write_shipment(&db(&self.env)?, shipment).await?,
        }
        store.atomically(|| {
            if let Some(seq) = newest {
                store.clear_outbox(seq)?;
            }
            if shipped == before { Ok(()) } else { store.put_state("shipped", &shipped) }
        })?;
        Ok(more_records || more_entries || more_keys)
    }

    /// Ships until nothing is left, so that the directory holds everything that was answered.
    pub(super) async fn flush(&self, now: UnixMillis) -> Result<LedgerOutput, Fault> {
        let store = self.store();
        self.with_state(|memory| {
            let mut admission = memory.admission.clone();
            if let Some(closed) = admission.enter_period(now) {
                let body = serde_json::to_string(&closed).map_err(Fault::internal)?;
                store.atomically(|| {
                    store.put_outbox("period", &body)?;
                    store.put_admission(&admission)
                })?;
                memory.note_written(admission, now);
            }
            Ok(())
        })?;
        let left = self.ship(now).await.map_err(|fault| {
            let detail = "the ledger could not reach the directory";
            Fault::new(ErrorCode::LedgerUnavailable, detail).after(1).because(fault.cause().unwrap_or(&fault.detail))
        })?;
        if left {
            return Err(Fault::new(ErrorCode::LedgerUnavailable, "the ledger is still shipping its records").after(2));
        }
        Ok(LedgerOutput::done())
    }
}

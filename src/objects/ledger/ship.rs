//! Ships the outbox at least once: records and events go to the objects of their months, the rest to the directory. Ids
//! and revisions make a repeat harmless.

use super::TenantLedger;
use super::reply::LedgerOutput;
use super::store::LedgerStore;
use crate::app::{db, records};
use crate::clients::records::RecordsClient;
use crate::d1;
use crate::d1::{SettlementCopy, Shipment};
use crate::objects::alarm::PacedWork;
use crate::telemetry::{TelemetryField, TelemetryKind, event};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet};
use x402_chain::id::{KeyId, SettlementId, VerificationId};
use x402_chain::time::{Period, UnixMillis};
use x402_core::error::{ErrorCode, Fault};
use x402_core::messages::records::RecordsBatch;
use x402_core::outbox::load::{RECORD_BYTES_MAX, ShipmentLoad};
use x402_core::outbox::{OutboxEntry, OutboxEvent, StoredRecord};
use x402_core::records::RecordCopy;
use x402_core::records::archive::ArchiveOwner;
use x402_core::tenancy::admission::ClosedPeriod;
use x402_core::verification::answer::VerificationAnswer;

/// The most rows read for one batch, as many as a batch holds.
const ROWS_READ_MAX: i64 = 100;
/// The most batches in one alarm: 20 × 100 = 2,000 records of the usual 4 KiB.
const BATCHES_MAX: usize = 20;
/// The most keys in one batch whose last use is written.
const KEYS_MAX: usize = 50;

/// What was shipped already.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ShippedState {
    /// The id of the newest record that was shipped.
    pub(super) record: String,
    /// The totals of the current period, as shipped.
    pub(super) usage: Option<(Period, u64, u64)>,
    /// When each key was last used, as shipped.
    pub(super) last_used: BTreeMap<KeyId, UnixMillis>,
}

/// What is shipped in one batch.
struct Batch {
    directory: Shipment,
    /// Records and events by the month of their ids.
    months: BTreeMap<Period, RecordsBatch>,
}

impl Batch {
    fn add_record(&mut self, record: StoredRecord) -> Result<(), Fault> {
        let id = VerificationId::parse(&record.id).ok_or_else(|| Fault::internal("a record has no id"))?;
        let copy = RecordCopy { id, revision: record.revision, record: fit(record.body)? };
        self.months.entry(Period::of(id.created_at())).or_default().records.push(copy);
        Ok(())
    }

    fn add_event(&mut self, event: OutboxEvent) -> Result<(), Fault> {
        let body =
            if event.body.get().len() > RECORD_BYTES_MAX { fit(event.body.get().to_owned())? } else { event.body };
        let event = OutboxEvent { body, ..event };
        self.months.entry(Period::of(event.id.created_at())).or_default().events.push(event);
        Ok(())
    }
}

/// A record's body. One that is too large for a row, which only an older build could write, is shipped with shorter
/// lists, as it would be answered today.
fn fit(body: String) -> Result<Box<RawValue>, Fault> {
    let body = if body.len() > RECORD_BYTES_MAX {
        let answer: VerificationAnswer = serde_json::from_str(&body).map_err(Fault::internal)?;
        let fields = [TelemetryField::Verification(Some(answer.id)), TelemetryField::Bytes(body.len())];
        event(TelemetryKind::RecordCut, &fields);
        serde_json::to_string(&answer.with_lists_cut()).map_err(Fault::internal)?
    } else {
        body
    };
    RawValue::from_string(body).map_err(Fault::internal)
}

/// Loads the oldest records after an id; returns the last of them, and whether there may be more. The empty id is less
/// than every id.
fn load_records(store: &LedgerStore, after: &str, batch: &mut Batch) -> Result<(Option<String>, bool), Fault> {
    let mut load = ShipmentLoad::default();
    let sizes = store.record_sizes(after, ROWS_READ_MAX)?;
    let last = sizes.into_iter().take_while(|size| load.accept(size.bytes)).last().map(|size| size.id);
    if let Some(last) = &last {
        for record in store.records_between(after, last)? {
            batch.add_record(record)?;
        }
    }
    Ok((last, load.is_full()))
}

/// What was loaded of the outbox.
#[derive(Default)]
struct LoadedEntries {
    /// The last entry that was loaded, or is to be parked.
    last: Option<i64>,
    /// Entries that cannot be read.
    unread: Vec<i64>,
    /// Whether more may be left.
    more: bool,
}

/// What fills up while entries are loaded.
struct EntryLoad<'a> {
    store: &'a LedgerStore,
    load: ShipmentLoad,
    /// What is loaded: its newest text goes once a batch, whatever an entry was written for.
    settlements: BTreeSet<SettlementId>,
    records: BTreeSet<VerificationId>,
}

impl EntryLoad<'_> {
    /// Loads an entry with what it names; whether the load takes it. An entry whose subject is gone is done with.
    fn take(&mut self, entry: OutboxEntry, bytes: usize, batch: &mut Batch) -> Result<bool, Fault> {
        match entry {
            OutboxEntry::Period(closed) => Ok(self.accept(bytes, || batch.directory.add_usage(closed))),
            OutboxEntry::Event(event) => {
                let taken = self.load.accept(bytes);
                if taken {
                    batch.add_event(event)?;
                }
                Ok(taken)
            }
            OutboxEntry::Settlement(id) if self.settlements.contains(&id) => Ok(true),
            OutboxEntry::Settlement(id) => {
                let Some((kept, revision)) = self.store.settlement(id)? else { return Ok(true) };
                let settlement = kept.settlement;
                let body = serde_json::to_string(&settlement).map_err(Fault::internal)?;
                let bytes = body.len();
                let copy = SettlementCopy { settlement, body, revision };
                let taken = self.accept(bytes, || batch.directory.add_settlement(copy));
                if taken {
                    self.settlements.insert(id);
                }
                Ok(taken)
            }
            OutboxEntry::Change(event) => {
                let id = VerificationId::parse(&event.subject);
                let record = match id.filter(|id| !self.records.contains(id)) {
                    Some(id) => self.store.record(&id.to_string())?,
                    None => None,
                };
                let taken =
                    self.load.accept(record.as_ref().map_or(bytes, |record| bytes.saturating_add(record.body.len())));
                if taken {
                    batch.add_event(event)?;
                    if let Some(record) = record {
                        batch.add_record(record)?;
                        self.records.extend(id);
                    }
                }
                Ok(taken)
            }
            OutboxEntry::Record(id) if self.records.contains(&id) => Ok(true),
            OutboxEntry::Record(id) => {
                let Some(record) = self.store.record(&id.to_string())? else { return Ok(true) };
                let bytes = record.body.len();
                let taken = self.load.accept(bytes);
                if taken {
                    batch.add_record(record)?;
                    self.records.insert(id);
                }
                Ok(taken)
            }
        }
    }

    fn accept(&mut self, bytes: usize, add: impl FnOnce()) -> bool {
        let accepted = self.load.accept(bytes);
        if accepted {
            add();
        }
        accepted
    }
}

/// Loads the oldest entries of the outbox with what they name. One that cannot be read holds no other up.
fn load_outbox(store: &LedgerStore, batch: &mut Batch) -> Result<LoadedEntries, Fault> {
    let (mut entries, mut loaded) = (ShipmentLoad::default(), LoadedEntries::default());
    let sizes = store.outbox_sizes(ROWS_READ_MAX)?;
    let Some(upto) = sizes.into_iter().take_while(|size| entries.accept(size.bytes)).last() else {
        return Ok(loaded);
    };
    // The row that an entry names is larger than the entry.
    let (settlements, records) = (BTreeSet::new(), BTreeSet::new());
    let mut load = EntryLoad { store, load: ShipmentLoad::default(), settlements, records };
    for row in store.outbox(upto.seq)? {
        match row.entry.and_then(|entry| load.take(entry, row.bytes, batch)) {
            Ok(true) => {}
            Ok(false) => break,
            Err(fault) => {
                let fields = [TelemetryField::Sequence(row.seq), TelemetryField::Cause(&fault)];
                event(TelemetryKind::OutboxEntryUnread, &fields);
                loaded.unread.push(row.seq);
            }
        }
        loaded.last = Some(row.seq);
    }
    loaded.more = entries.is_full() || load.load.is_full();
    Ok(loaded)
}

impl TenantLedger {
    /// Ships all that is due, within bounds; returns whether something is left.
    pub(super) async fn ship(&self, now: UnixMillis) -> Result<bool, Fault> {
        let mut work = PacedWork::begin();
        for _ in 0..BATCHES_MAX {
            if !self.ship_batch(now).await? {
                return Ok(false);
            }
            work.pause_if_due().await;
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
        let mut batch = Batch { directory: Shipment::new(tenant, environment, now), months: BTreeMap::new() };
        let (last, more_records) = load_records(&store, &shipped.record, &mut batch)?;
        let loaded = load_outbox(&store, &mut batch)?;
        let Batch { directory: mut shipment, months } = batch;
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
        if shipment.is_empty() && months.is_empty() && loaded.last.is_none() {
            return Ok(false);
        }
        let client = RecordsClient { namespace: records(&self.env)?, owner: ArchiveOwner { tenant, environment } };
        for (month, batch) in months {
            client.take(month, batch).await?;
        }
        if !shipment.is_empty() {
            d1::write_shipment(&db(&self.env)?, shipment).await?;
        }
        store.atomically(|| {
            for seq in &loaded.unread {
                store.park_outbox(*seq, now)?;
            }
            if let Some(seq) = loaded.last {
                store.clear_outbox(seq)?;
            }
            // Another call may have shipped the same, and more, meanwhile.
            let stored: ShippedState = store.state("shipped")?.unwrap_or_default();
            shipped.record = shipped.record.clone().max(stored.record);
            if shipped == before { Ok(()) } else { store.put_state("shipped", &shipped) }
        })?;
        Ok(more_records || loaded.more || more_keys)
    }

    /// Ships until nothing is left, so that the months' objects and the directory hold everything that was answered.
    pub(super) async fn flush(&self, now: UnixMillis) -> Result<LedgerOutput, Fault> {
        let store = self.store();
        self.with_state(|memory| {
            let mut admission = memory.admission.clone();
            if let Some(closed) = admission.enter_period(now) {
                store.atomically(|| {
                    store.put_outbox(&OutboxEntry::Period(closed))?;
                    store.put_admission(&admission)
                })?;
                memory.note_written(admission, now);
            }
            Ok(())
        })?;
        let left = self.ship(now).await.map_err(|fault| {
            let detail = "the ledger could not ship its records";
            Fault::new(ErrorCode::LedgerUnavailable, detail).after(1).because(fault.cause().unwrap_or(&fault.detail))
        })?;
        if left {
            return Err(Fault::new(ErrorCode::LedgerUnavailable, "the ledger is still shipping its records").after(2));
        }
        Ok(LedgerOutput::done())
    }
}

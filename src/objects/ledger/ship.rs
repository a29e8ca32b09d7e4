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
    fn add_record(&mut self, record: StoredRecord) -> Result<VerificationId, Fault> {
        let id = VerificationId::parse(&record.id).ok_or_else(|| Fault::internal("a record has no id"))?;
        let copy = RecordCopy { id, revision: record.revision, record: fit(record.body)? };
        self.months.entry(Period::of(id.created_at())).or_default().records.push(copy);
        Ok(id)
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

/// What was loaded of the records that were not shipped yet.
#[derive(Default)]
struct LoadedRecords {
    /// Their ids, in order.
    ids: Vec<VerificationId>,
    /// Whether more may be left.
    more: bool,
}

/// Loads the oldest records after an id. The empty id is less than every id.
fn load_records(store: &LedgerStore, after: &str, batch: &mut Batch) -> Result<LoadedRecords, Fault> {
    let (mut load, mut loaded) = (ShipmentLoad::default(), LoadedRecords::default());
    let sizes = store.record_sizes(after, ROWS_READ_MAX)?;
    let last = sizes.into_iter().take_while(|size| load.accept(size.bytes)).last();
    if let Some(last) = last {
        for record in store.records_between(after, &last.id)? {
            loaded.ids.push(batch.add_record(record)?);
        }
    }
    loaded.more = load.is_full();
    Ok(loaded)
}

/// Where an entry of the outbox goes.
#[derive(Default)]
struct Destinations {
    months: BTreeSet<Period>,
    directory: bool,
}

/// What took nothing while the outbox was being shipped: it is not asked again until the next time, and what it should
/// have taken goes back to the end of the outbox, so that it holds nothing else up.
#[derive(Default)]
struct Refusing {
    at: Destinations,
    first: Option<Fault>,
}

impl Refusing {
    /// Notes a refusal; returns whether it was one.
    fn note(&mut self, taken: Result<(), Fault>, mark: impl FnOnce(&mut Destinations)) -> bool {
        let Err(fault) = taken else { return false };
        mark(&mut self.at);
        self.first.get_or_insert(fault);
        true
    }

    fn holds_up(&self, entry: &Destinations) -> bool {
        (self.at.directory && entry.directory) || !self.at.months.is_disjoint(&entry.months)
    }
}

/// What was loaded of the outbox.
#[derive(Default)]
struct LoadedEntries {
    /// The entries that were loaded, and where each goes.
    entries: Vec<(i64, Destinations)>,
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
    /// Loads an entry with what it names; returns where it goes, or `None` where the load has no room for it. An entry
    /// whose subject is gone goes nowhere, and is done with.
    fn take(&mut self, entry: OutboxEntry, bytes: usize, batch: &mut Batch) -> Result<Option<Destinations>, Fault> {
        let directory = || Destinations { directory: true, ..Destinations::default() };
        let months = |months: &[Period]| Destinations { months: months.iter().copied().collect(), directory: false };
        let month_of = |id: VerificationId| Period::of(id.created_at());
        match entry {
            OutboxEntry::Period(closed) => {
                Ok(self.load.accept(bytes).then(|| batch.directory.add_usage(closed)).map(|()| directory()))
            }
            OutboxEntry::Event(event) => {
                if !self.load.accept(bytes) {
                    return Ok(None);
                }
                let to = months(&[Period::of(event.id.created_at())]);
                batch.add_event(event)?;
                Ok(Some(to))
            }
            OutboxEntry::Settlement(id) if self.settlements.contains(&id) => Ok(Some(directory())),
            OutboxEntry::Settlement(id) => {
                let Some((kept, revision)) = self.store.settlement(id)? else { return Ok(Some(months(&[]))) };
                let settlement = kept.settlement;
                let body = serde_json::to_string(&settlement).map_err(Fault::internal)?;
                if !self.load.accept(body.len()) {
                    return Ok(None);
                }
                batch.directory.add_settlement(SettlementCopy { settlement, body, revision });
                self.settlements.insert(id);
                Ok(Some(directory()))
            }
            OutboxEntry::Change(event) => {
                let id = VerificationId::parse(&event.subject);
                let record = match id.filter(|id| !self.records.contains(id)) {
                    Some(id) => self.store.record(&id.to_string())?,
                    None => None,
                };
                let body = record.as_ref().map_or(0, |record| record.body.len());
                if !self.load.accept(bytes.saturating_add(body)) {
                    return Ok(None);
                }
                let event_month = Period::of(event.id.created_at());
                batch.add_event(event)?;
                if let Some(record) = record {
                    self.records.insert(batch.add_record(record)?);
                }
                Ok(Some(months(&[event_month, id.map_or(event_month, month_of)])))
            }
            OutboxEntry::Record(id) if self.records.contains(&id) => Ok(Some(months(&[month_of(id)]))),
            OutboxEntry::Record(id) => {
                let Some(record) = self.store.record(&id.to_string())? else { return Ok(Some(months(&[]))) };
                if !self.load.accept(record.body.len()) {
                    return Ok(None);
                }
                self.records.insert(batch.add_record(record)?);
                Ok(Some(months(&[month_of(id)])))
            }
        }
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
            Ok(Some(to)) => loaded.entries.push((row.seq, to)),
            Ok(None) => break,
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
    /// Ships all that is due, within bounds; returns whether something is left. What one month, or the directory, does
    /// not take holds up nothing else.
    ///
    /// # Errors
    /// The first refusal, when the rest has been shipped.
    pub(super) async fn ship(&self, now: UnixMillis) -> Result<bool, Fault> {
        let (mut work, mut refusing, mut left) = (PacedWork::begin(), Refusing::default(), true);
        for _ in 0..BATCHES_MAX {
            left = self.ship_batch(now, &mut refusing).await?;
            if !left {
                break;
            }
            work.pause_if_due().await;
        }
        refusing.first.map_or(Ok(left), Err)
    }

    /// Ships one batch; returns whether there may be more that is taken.
    async fn ship_batch(&self, now: UnixMillis, refusing: &mut Refusing) -> Result<bool, Fault> {
        let store = self.store();
        let before: ShippedState = store.state("shipped")?.unwrap_or_default();
        let mut shipped = before.clone();
        let (tenant, environment, admission) =
            self.with_state(|memory| Ok((memory.tenant.id, memory.tenant.environment, memory.admission.clone())))?;
        let mut batch = Batch { directory: Shipment::new(tenant, environment, now), months: BTreeMap::new() };
        let records_loaded = load_records(&store, &before.record, &mut batch)?;
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
        if shipment.is_empty() && months.is_empty() && loaded.last.is_none() {
            return Ok(false);
        }
        let is_taken = self.send(ArchiveOwner { tenant, environment }, months, shipment, refusing).await?;
        if refusing.at.directory {
            shipped = before.clone();
        }
        let current = Period::of(now);
        store.atomically(|| {
            for seq in &loaded.unread {
                store.park_outbox(*seq, now)?;
            }
            for (seq, to) in &loaded.entries {
                if refusing.holds_up(to) {
                    store.put_back_outbox(*seq)?;
                }
            }
            if let Some(seq) = loaded.last {
                store.clear_outbox(seq)?;
            }
            // Another call may have shipped the same, and more, meanwhile.
            let stored: ShippedState = store.state("shipped")?.unwrap_or_default();
            for id in &records_loaded.ids {
                let month = Period::of(id.created_at());
                let is_refused = refusing.at.months.contains(&month);
                // The records of the month that goes on wait in their order, those of an earlier one in the outbox.
                if is_refused && month >= current {
                    break;
                }
                let text = id.to_string();
                if is_refused && text > stored.record {
                    store.put_outbox(&OutboxEntry::Record(*id))?;
                }
                shipped.record = text;
            }
            shipped.record = shipped.record.clone().max(stored.record);
            if shipped == before { Ok(()) } else { store.put_state("shipped", &shipped) }
        })?;
        Ok(is_taken && (records_loaded.more || loaded.more || more_keys))
    }

    /// Sends a batch to where it goes; returns whether anything was taken.
    async fn send(
        &self,
        owner: ArchiveOwner,
        months: BTreeMap<Period, RecordsBatch>,
        shipment: Shipment,
        refusing: &mut Refusing,
    ) -> Result<bool, Fault> {
        let client = RecordsClient { namespace: records(&self.env)?, owner };
        let mut is_taken = false;
        for (month, batch) in months {
            if refusing.at.months.contains(&month) {
                continue;
            }
            let taken = client.take(month, batch).await;
            is_taken |= !refusing.note(taken, |at| _ = at.months.insert(month));
        }
        if !shipment.is_empty() && !refusing.at.directory {
            let taken = d1::write_shipment(&db(&self.env)?, shipment).await;
            is_taken |= !refusing.note(taken, |at| at.directory = true);
        }
        Ok(is_taken)
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

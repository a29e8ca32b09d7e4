//! Loads what a ledger ships: records that are new, and entries of the outbox with what they name.

use super::store::LedgerStore;
use crate::d1::{SettlementCopy, Shipment};
use crate::telemetry::{TelemetryField, TelemetryKind, event};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet};
use x402_chain::amount::Amount;
use x402_chain::id::{EndpointId, SettlementId, VerificationId};
use x402_chain::time::Period;
use x402_core::error::Fault;
use x402_core::messages::records::RecordsBatch;
use x402_core::metrics::MetricFamily;
use x402_core::metrics::series::MetricCounts;
use x402_core::metrics::shipped::count_event;
use x402_core::outbox::load::{RECORD_BYTES_MAX, ShipmentLoad};
use x402_core::outbox::{OutboxEntry, OutboxEvent, OutboxEventKind, RecordChange, StoredRecord};
use x402_core::records::RecordCopy;
use x402_core::records::detail::SettlementState;
use x402_core::records::events::EventCopy;
use x402_core::records::rollup::RecordShare;
use x402_core::settlement::payment::SettlementRecord;
use x402_core::verification::answer::VerificationAnswer;

/// The most rows read for one batch, as many as a batch holds.
pub(super) const ROWS_READ_MAX: i64 = 100;

/// What is shipped in one batch.
pub(super) struct Batch {
    pub(super) directory: Shipment,
    /// Records and events by the month of their ids.
    pub(super) months: BTreeMap<Period, RecordsBatch>,
    /// Whether webhook endpoints may get events.
    pub(super) is_heard: bool,
    /// The events, for Couriers.
    pub(super) heard: Vec<HeardEvent>,
    /// What is counted of each, once it counts as shipped.
    pub(super) counted: Vec<(EventSource, MetricCounts)>,
    /// The entry of the outbox that is being loaded.
    entry: Option<i64>,
}

/// An event that Couriers may get.
pub(super) struct HeardEvent {
    pub(super) source: EventSource,
    pub(super) event: EventCopy,
}

/// Where an event comes from: once that counts as shipped, the event does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum EventSource {
    /// A record that is new.
    Record(VerificationId),
    /// An entry of the outbox.
    Entry(i64),
}

impl Batch {
    pub(super) const fn new(directory: Shipment, is_heard: bool) -> Self {
        Self { directory, months: BTreeMap::new(), is_heard, heard: Vec::new(), counted: Vec::new(), entry: None }
    }

    fn add_record(&mut self, record: StoredRecord) -> Result<VerificationId, Fault> {
        let id = VerificationId::parse(&record.id).ok_or_else(|| Fault::internal("a record has no id"))?;
        let StoredRecord { revision, body, units, .. } = record;
        let copy = RecordCopy { id, revision, record: fit(body)?, units };
        // A record of the outbox was counted when it was new.
        if self.entry.is_none() {
            let share = RecordShare::read(id, copy.record.get())?;
            let mut counts = MetricCounts::default();
            counts.count(MetricFamily::Verifications, &[&share.key.chain, &share.key.outcome], 1);
            self.counted.push((EventSource::Record(id), counts));
        }
        // As it was answered, a record is its event.
        if self.is_heard && copy.revision == 0 {
            let source = self.entry.map_or(EventSource::Record(id), EventSource::Entry);
            self.heard.push(HeardEvent { source, event: EventCopy::of_record(copy.clone())? });
        }
        self.months.entry(Period::of(id.created_at())).or_default().records.push(copy);
        Ok(id)
    }

    /// Adds a settlement: its text goes to the directory, and what is counted of it to the month of its id.
    fn add_settlement(&mut self, copy: SettlementCopy) -> Result<(), Fault> {
        let SettlementCopy { settlement, revision, .. } = &copy;
        let amount = Amount::parse_atomic(&settlement.amount);
        let state = SettlementState {
            id: settlement.id,
            revision: *revision,
            network: settlement.network.clone(),
            status: settlement.status.name().to_owned(),
            amount: amount.ok_or_else(|| Fault::internal("a settlement has no amount"))?,
        };
        self.months.entry(Period::of(settlement.id.created_at())).or_default().settlements.push(state);
        self.directory.add_settlement(copy);
        Ok(())
    }

    /// Where an entry goes.
    fn destinations(&self, entry: &OutboxEntry) -> Destinations {
        let months = |months: &[Period]| Destinations { months: months.iter().copied().collect(), directory: false };
        let month_of = |id: VerificationId| Period::of(id.created_at());
        match entry {
            OutboxEntry::Period(_) => Destinations { directory: true, ..Destinations::default() },
            OutboxEntry::Settlement(id) => Destinations { directory: true, ..months(&[Period::of(id.created_at())]) },
            // An alert goes to the directory too. An event of a settlement has the destinations of that, whether it goes there or
            // not: it overtakes none that waits for one of them.
            OutboxEntry::Event(event) => {
                let own = Period::of(event.id.created_at());
                let settlement = SettlementId::parse(&event.subject).map(|id| Period::of(id.created_at()));
                let directory = settlement.is_some() || self.directory.is_alert(event);
                Destinations { directory, ..months(&[own, settlement.unwrap_or(own)]) }
            }
            // The event that a verification was answered is of its record's month.
            OutboxEntry::Change(RecordChange { event, .. }) => {
                let event_month = Period::of(event.id.created_at());
                months(&[event_month, VerificationId::parse(&event.subject).map_or(event_month, month_of)])
            }
            OutboxEntry::SettlementEvent(id, event) => {
                let months = months(&[Period::of(event.id.created_at()), Period::of(id.created_at())]);
                Destinations { directory: true, ..months }
            }
            OutboxEntry::Record(id) => months(&[month_of(*id)]),
        }
    }

    fn add_event(&mut self, event: OutboxEvent) -> Result<(), Fault> {
        self.directory.add_alert(&event);
        if let (OutboxEventKind::Known(kind), Some(seq)) = (&event.kind, self.entry) {
            let mut counts = MetricCounts::default();
            count_event(&mut counts, *kind, event.body.get());
            if !counts.is_empty() {
                self.counted.push((EventSource::Entry(seq), counts));
            }
        }
        let body =
            if event.body.get().len() > RECORD_BYTES_MAX { fit(event.body.get().to_owned())? } else { event.body };
        let event = EventCopy::from(OutboxEvent { body, ..event });
        if let (true, Some(seq)) = (self.is_heard, self.entry) {
            self.heard.push(HeardEvent { source: EventSource::Entry(seq), event: event.clone() });
        }
        self.months.entry(Period::of(event.id.created_at())).or_default().events.push(event);
        Ok(())
    }
}

/// A record's body. One that is too large for a row, which only an older build could write, is shipped with shorter
/// lists, as it would be answered today.
fn fit(body: String) -> Result<Box<RawValue>, Fault> {
    let body = if body.len() > RECORD_BYTES_MAX {
        let answer: VerificationAnswer = serde_json::from_str(&body).map_err(Fault::internal_json)?;
        let fields = [TelemetryField::Verification(Some(answer.id)), TelemetryField::Bytes(body.len())];
        event(TelemetryKind::RecordCut, &fields);
        serde_json::to_string(&answer.with_lists_cut()).map_err(Fault::internal)?
    } else {
        body
    };
    RawValue::from_string(body).map_err(Fault::internal_json)
}

/// What was loaded of the records that were not shipped yet.
#[derive(Default)]
pub(super) struct LoadedRecords {
    /// Their ids, in order.
    pub(super) ids: Vec<VerificationId>,
    /// Whether more may be left.
    pub(super) more: bool,
}

/// Loads the oldest records after an id. The empty id is less than every id.
pub(super) fn load_records(store: &LedgerStore, after: &str, batch: &mut Batch) -> Result<LoadedRecords, Fault> {
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
pub(super) struct Destinations {
    pub(super) months: BTreeSet<Period>,
    pub(super) directory: bool,
}

/// What took nothing while the outbox was being shipped: it is not asked again until the next time, and what it should
/// have taken stays in the outbox.
#[derive(Default)]
pub(super) struct Refusing {
    pub(super) at: Destinations,
    /// Couriers: what is for them waits elsewhere, and holds nothing up.
    pub(super) couriers: BTreeSet<EndpointId>,
    /// In how many batches Couriers have taken nothing.
    pub(super) late: u32,
    pub(super) first: Option<Fault>,
}

impl Refusing {
    /// Notes what was refused.
    pub(super) fn note(&mut self, taken: Result<(), Fault>, mark: impl FnOnce(&mut Destinations)) {
        if let Err(fault) = taken {
            mark(&mut self.at);
            self.first.get_or_insert(fault);
        }
    }

    pub(super) fn holds_up(&self, entry: &Destinations) -> bool {
        (self.at.directory && entry.directory) || !self.at.months.is_disjoint(&entry.months)
    }
}

/// What was loaded of the outbox.
#[derive(Default)]
pub(super) struct LoadedEntries {
    /// The entries that were loaded, and where each goes.
    pub(super) entries: Vec<(i64, Destinations)>,
    /// The last entry that was looked at: loaded, left for what takes nothing, or to be parked.
    pub(super) last: Option<i64>,
    /// Whether no entry follows.
    pub(super) is_end: bool,
    /// Entries that cannot be read.
    pub(super) unread: Vec<i64>,
}

/// What fills up while entries are loaded.
struct EntryLoad<'a> {
    store: &'a LedgerStore,
    refusing: &'a Refusing,
    load: ShipmentLoad,
    /// What is loaded: its newest text goes once a batch, whatever an entry was written for.
    settlements: BTreeSet<SettlementId>,
    records: BTreeSet<VerificationId>,
}

/// What became of a settlement's entry.
enum TakenSettlement {
    /// It is loaded.
    Taken,
    /// There is no such settlement; its event is loaded.
    Gone,
    /// The load has no room for it.
    NoRoom,
}

impl EntryLoad<'_> {
    /// Loads a settlement's newest text, once a batch, with an event of it.
    fn take_settlement(
        &mut self,
        id: SettlementId,
        event: Option<OutboxEvent>,
        batch: &mut Batch,
    ) -> Result<TakenSettlement, Fault> {
        let kept = match self.settlements.contains(&id) {
            true => None,
            false => self.store.settlement(id)?,
        };
        let is_gone = kept.is_none() && !self.settlements.contains(&id);
        let copy = match kept {
            Some((SettlementRecord { settlement, progress }, revision)) => {
                let body = serde_json::to_string(&settlement).map_err(Fault::internal)?;
                let course = serde_json::to_string(&progress.shipped()).map_err(Fault::internal)?;
                Some(SettlementCopy { settlement, body, course, revision })
            }
            None => None,
        };
        let bytes = event.as_ref().map_or(0, |event| event.body.get().len());
        let bytes = copy.as_ref().map_or(bytes, |copy| bytes.saturating_add(copy.bytes()));
        if bytes > 0 && !self.load.accept(bytes) {
            return Ok(TakenSettlement::NoRoom);
        }
        if let Some(event) = event {
            batch.add_event(event)?;
        }
        if let Some(copy) = copy {
            batch.add_settlement(copy)?;
            self.settlements.insert(id);
        }
        Ok(if is_gone { TakenSettlement::Gone } else { TakenSettlement::Taken })
    }

    /// Loads an entry with what it names; returns where it goes, or `None` where the load has no room for it. An entry
    /// whose subject is gone goes nowhere, and is done with.
    fn take(&mut self, entry: OutboxEntry, bytes: usize, batch: &mut Batch) -> Result<Option<Destinations>, Fault> {
        let to = batch.destinations(&entry);
        // What the directory alone refuses goes to its months all the same: lists and exports are read there. It waits on, and
        // goes once more with the directory's part.
        if !self.refusing.at.months.is_disjoint(&to.months) || (self.refusing.at.directory && to.months.is_empty()) {
            return Ok(Some(to));
        }
        match entry {
            OutboxEntry::Period(closed) => {
                Ok(self.load.accept(bytes).then(|| batch.directory.add_usage(closed)).map(|()| to))
            }
            OutboxEntry::Event(event) => {
                if !self.load.accept(bytes) {
                    return Ok(None);
                }
                batch.add_event(event)?;
                Ok(Some(to))
            }
            OutboxEntry::Settlement(id) => Ok(match self.take_settlement(id, None, batch)? {
                // A settlement that is gone has nowhere to go.
                TakenSettlement::Gone => Some(Destinations::default()),
                TakenSettlement::Taken => Some(to),
                TakenSettlement::NoRoom => None,
            }),
            OutboxEntry::SettlementEvent(id, event) => Ok(match self.take_settlement(id, Some(event), batch)? {
                TakenSettlement::Gone | TakenSettlement::Taken => Some(to),
                TakenSettlement::NoRoom => None,
            }),
            OutboxEntry::Change(RecordChange { event, answered }) => {
                let id = VerificationId::parse(&event.subject);
                let record = match id.filter(|id| !self.records.contains(id)) {
                    Some(id) => self.store.record(&id.to_string())?,
                    None => None,
                };
                let body = record.as_ref().map_or(0, |record| record.body.len());
                if !self.load.accept(bytes.saturating_add(body)) {
                    return Ok(None);
                }
                // The first thing that happened comes first.
                if let Some(answered) = answered {
                    batch.add_event(answered)?;
                }
                batch.add_event(event)?;
                if let Some(record) = record {
                    self.records.insert(batch.add_record(record)?);
                }
                Ok(Some(to))
            }
            OutboxEntry::Record(id) if self.records.contains(&id) => Ok(Some(to)),
            OutboxEntry::Record(id) => {
                let Some(record) = self.store.record(&id.to_string())? else {
                    return Ok(Some(Destinations::default()));
                };
                if !self.load.accept(record.body.len()) {
                    return Ok(None);
                }
                self.records.insert(batch.add_record(record)?);
                Ok(Some(to))
            }
        }
    }
}

/// Loads the oldest entries of the outbox after one, with what they name. One that cannot be read holds no other up, nor
/// does one for what takes nothing.
pub(super) fn load_outbox(
    store: &LedgerStore,
    after: i64,
    refusing: &Refusing,
    batch: &mut Batch,
) -> Result<LoadedEntries, Fault> {
    let (mut entries, mut loaded) = (ShipmentLoad::default(), LoadedEntries::default());
    let sizes = store.outbox_sizes(after, ROWS_READ_MAX)?;
    let Some(upto) = sizes.into_iter().take_while(|size| entries.accept(size.bytes)).last() else {
        loaded.is_end = true;
        return Ok(loaded);
    };
    // The row that an entry names is larger than the entry.
    let (settlements, records) = (BTreeSet::new(), BTreeSet::new());
    let mut load = EntryLoad { store, refusing, load: ShipmentLoad::default(), settlements, records };
    for row in store.outbox((after, upto.seq))? {
        batch.entry = Some(row.seq);
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
    batch.entry = None;
    loaded.is_end = !entries.is_full() && loaded.last == Some(upto.seq);
    Ok(loaded)
}

//! Ships the outbox at least once: records and events go to the objects of their months, the rest to the directory. Ids
//! and revisions make a repeat harmless.

use super::hear::keep_unheard;
use super::reply::LedgerOutput;
use super::shipment::{
    Batch, Destinations, EventSource, HeardEvent, LoadedEntries, LoadedRecords, ROWS_READ_MAX, Refusing, load_outbox,
    load_records,
};
use super::store::LedgerStore;
use super::{TenantLedger, ledger_name};
use crate::app;
use crate::app::{db, records};
use crate::clients::meter;
use crate::clients::records::RecordsClient;
use crate::d1;
use crate::d1::Shipment;
use crate::objects::alarm::PacedWork;
use futures_util::future::{Either, select};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::time::Duration;
use worker::Delay;
use x402_chain::id::{KeyId, VerificationId};
use x402_chain::time::{Period, UnixMillis};
use x402_core::error::{ErrorCode, Fault};
use x402_core::messages::meter::{MeterAddition, shard_of};
use x402_core::messages::records::RecordsBatch;
use x402_core::metrics::series::MetricCounts;
use x402_core::metrics::shipped::ShippedCounts;
use x402_core::outbox::OutboxEntry;
use x402_core::outbox::walk::{FRONT, OutboxWalk};
use x402_core::records::archive::ArchiveOwner;
use x402_core::tenancy::admission::{Admission, ClosedPeriod};

/// The most batches in one alarm: 20 × 100 = 2,000 records of the usual 4 KiB.
const BATCHES_MAX: usize = 20;
/// The most keys in one batch whose last use is written.
const KEYS_MAX: usize = 50;

/// The directory's deadline for a batch.
const DIRECTORY_MS: u64 = 8_000;

/// What was shipped already.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ShippedState {
    /// The id of the newest record that was shipped.
    pub(super) record: String,
    /// The totals of the current period, as shipped.
    pub(super) usage: Option<(Period, u64, u64)>,
    /// When each key was last used, as shipped.
    pub(super) last_used: BTreeMap<KeyId, UnixMillis>,
    /// What was counted with it, for a Meter.
    #[serde(default, skip_serializing_if = "ShippedCounts::is_new")]
    pub(super) counts: ShippedCounts,
}

/// What a turn of shipping has left.
pub(super) struct Shipping {
    /// Whether there may be more that can be shipped.
    pub(super) left: bool,
    /// Whether anything was taken.
    pub(super) is_taken: bool,
    /// What was refused, and by whom first.
    pub(super) refusing: Refusing,
}

/// What one batch has left.
struct ShippedBatch {
    /// Whether there may be more.
    left: bool,
    /// Whether anything was taken.
    is_taken: bool,
}

/// What a flush is for.
#[derive(Clone, Copy)]
pub(super) enum Flushed {
    /// A list reads the months' objects next.
    Records,
    /// A period is closed in the directory next.
    Usage,
}

/// Adds what of the usage was not shipped yet; returns whether some of it is left.
fn add_usage(shipment: &mut Shipment, shipped: &mut ShippedState, admission: &Admission) -> bool {
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
    let is_cut = used.len() >= KEYS_MAX;
    shipped.last_used.extend(used);
    is_cut
}

/// What was loaded for one batch.
struct Loaded {
    records: LoadedRecords,
    /// The entry of the outbox after which its entries come.
    after: i64,
    outbox: LoadedEntries,
    /// How often something had been noted as shipped by then.
    noted: u64,
}

impl Loaded {
    /// Whether an entry is taken by all that it goes to.
    fn is_taken(&self, seq: i64, refusing: &Refusing) -> bool {
        self.outbox.entries.iter().any(|(own, to)| *own == seq && !refusing.holds_up(to))
    }

    /// Whether something counts as shipped now: what only its months have taken waits on, and is no progress.
    fn has_progress(&self, refusing: &Refusing) -> bool {
        let is_whole = |(_, to): &(i64, Destinations)| !refusing.holds_up(to);
        refusing.first.is_none() || !self.records.ids.is_empty() || self.outbox.entries.iter().any(is_whole)
    }

    /// The entries from its first one on that no other turn has noted as shipped.
    fn entries_left(&self, store: &LedgerStore) -> Result<BTreeSet<i64>, Fault> {
        Ok(store.outbox_sizes(self.after, ROWS_READ_MAX)?.into_iter().map(|size| size.seq).collect())
    }
}

/// Clears the entries of the outbox that are shipped, and parks those that cannot be read.
fn note_entries(store: &LedgerStore, loaded: &Loaded, refusing: &Refusing, now: UnixMillis) -> Result<(), Fault> {
    let LoadedEntries { entries, last, unread, .. } = &loaded.outbox;
    for seq in unread {
        store.park_outbox(*seq, now)?;
    }
    match last {
        Some(last) if !entries.iter().any(|(_, to)| refusing.holds_up(to)) => {
            store.clear_outbox((loaded.after, *last))?;
        }
        _ => {
            let taken = entries.iter().filter(|(_, to)| !refusing.holds_up(to)).map(|(seq, _)| seq);
            for seq in taken.chain(unread) {
                store.clear_outbox((seq.saturating_sub(1), *seq))?;
            }
        }
    }
    Ok(())
}

/// Notes up to which record all are shipped. Those of an earlier month that are not wait in the outbox.
fn note_records(
    store: &LedgerStore,
    ids: &[VerificationId],
    (shipped, stored): (&mut ShippedState, &str),
    (refusing, current): (&Refusing, Period),
) -> Result<(), Fault> {
    for id in ids {
        let month = Period::of(id.created_at());
        let is_refused = refusing.at.months.contains(&month);
        if is_refused && month >= current {
            break;
        }
        let text = id.to_string();
        if is_refused && text.as_str() > stored {
            store.put_outbox(&OutboxEntry::Record(*id))?;
        }
        shipped.record = text;
    }
    if stored > shipped.record.as_str() {
        stored.clone_into(&mut shipped.record);
    }
    Ok(())
}

impl TenantLedger {
    /// Ships all that is due, within bounds. What one month, or the directory, does not take holds up nothing else.
    ///
    /// # Errors
    /// Those of the ledger's own storage.
    pub(super) async fn ship(&self, now: UnixMillis) -> Result<Shipping, Fault> {
        let (mut work, mut refusing) = (PacedWork::begin(), Refusing::default());
        // What is refused is left behind, and what comes after it goes on. Where it is not refused any more, it comes first: a
        // payment's later event must not overtake it on the way to a Courier.
        let mut walk = OutboxWalk::begin(FRONT);
        let (mut left, mut is_taken) = (true, false);
        for number in 0..BATCHES_MAX {
            let batch = self.ship_batch(now, &mut refusing, &mut walk).await?;
            (left, is_taken) = (batch.left, is_taken || batch.is_taken);
            if !left {
                break;
            }
            if number == 0 && refusing.first.is_some() && self.outbox_after.get() > walk.after() {
                walk = OutboxWalk::begin(self.outbox_after.get());
            }
            work.pause_if_due().await;
        }
        self.outbox_after.set(walk.after());
        self.send_counts().await?;
        Ok(Shipping { left, is_taken, refusing })
    }

    /// Sends a Meter what was counted with what was shipped. What it does not take is sent again; it holds up nothing.
    async fn send_counts(&self) -> Result<(), Fault> {
        let (store, taken) = (self.store(), self.counts_taken.get());
        let mut shipped: ShippedState = store.state("shipped")?.unwrap_or_default();
        if shipped.counts.to_send(taken).is_none() && shipped.counts.has_more() {
            shipped.counts.add(&MetricCounts::default(), taken);
            store.put_state("shipped", &shipped)?;
        }
        let Some((sequence, counts)) = shipped.counts.to_send(taken) else { return Ok(()) };
        let Ok(meters) = app::meters(&self.env) else { return Ok(()) };
        let source = self.with_state(|memory| Ok(ledger_name(memory)))?;
        let shard = shard_of(&source);
        let addition = MeterAddition { source, sequence, counts: counts.clone(), depths: Vec::new() };
        if meter::add(&meters, shard, addition).await.is_ok() {
            self.counts_taken.set(self.counts_taken.get().max(sequence));
        }
        Ok(())
    }

    /// Ships one batch.
    async fn ship_batch(
        &self,
        now: UnixMillis,
        refusing: &mut Refusing,
        walk: &mut OutboxWalk,
    ) -> Result<ShippedBatch, Fault> {
        let store = self.store();
        let before: ShippedState = store.state("shipped")?.unwrap_or_default();
        let mut shipped = before.clone();
        let (tenant, environment, admission) =
            self.with_state(|memory| Ok((memory.tenant.id, memory.tenant.environment, memory.admission.clone())))?;
        let (is_heard, noted) = (!self.endpoints()?.is_empty(), self.handing_over.noted.get());
        let mut batch = Batch::new(Shipment::new(tenant, environment, now), is_heard);
        let current = Period::of(now);
        // The records of the month that goes on wait in their order.
        let waits = refusing.at.months.contains(&current);
        let new = if waits { LoadedRecords::default() } else { load_records(&store, &before.record, &mut batch)? };
        let after = walk.after();
        let outbox = load_outbox(&store, after, refusing, &mut batch)?;
        let Batch { directory: mut shipment, months, heard, counted, .. } = batch;
        let more_keys = !refusing.at.directory && add_usage(&mut shipment, &mut shipped, &admission);
        let loaded = Loaded { records: new, after, outbox, noted };
        if shipment.is_empty() && months.is_empty() && loaded.outbox.last.is_none() {
            walk.step(loaded.outbox.last, loaded.outbox.is_end);
            return Ok(ShippedBatch { left: !walk.is_over(), is_taken: false });
        }
        let is_taken = self.send(ArchiveOwner { tenant, environment }, months, shipment, refusing).await?
            && loaded.has_progress(refusing);
        let turn = self.handing_over.turns.take().await;
        let endpoints = self.endpoints()?;
        if !is_heard && !endpoints.is_empty() {
            // An endpoint was made meanwhile: the batch is loaded again, with its events.
            return Ok(ShippedBatch { left: true, is_taken });
        }
        walk.step(loaded.outbox.last, loaded.outbox.is_end);
        // Another turn may have shipped the same, and more, meanwhile.
        let stored: ShippedState = store.state("shipped")?.unwrap_or_default();
        let (heard, counts) = self.shipped_now(heard, counted, &loaded, (&stored, refusing))?;
        let behind = self.send_heard(&endpoints, &heard, refusing).await?;
        if refusing.at.directory {
            shipped = before.clone();
        }
        shipped.counts = stored.counts.clone();
        if !counts.is_empty() {
            shipped.counts.add(&counts, self.counts_taken.get());
        }
        let is_kept = store.atomically(|| {
            note_entries(&store, &loaded, refusing, now)?;
            note_records(&store, &loaded.records.ids, (&mut shipped, &stored.record), (refusing, current))?;
            if shipped != before {
                store.put_state("shipped", &shipped)?;
            }
            keep_unheard(&store, &endpoints, &behind, &heard)
        })?;
        self.handing_over.noted.set(self.handing_over.noted.get().saturating_add(1));
        drop(turn);
        if is_kept {
            self.wake_soon(app::now()).await;
        }
        let more_records = loaded.records.more && !refusing.at.months.contains(&current);
        let left = more_records || !walk.is_over() || (more_keys && !refusing.at.directory);
        Ok(ShippedBatch { left, is_taken })
    }

    /// Of the events of a batch those that count as shipped now: their months have taken them, and no other turn has noted
    /// them meanwhile. The sum of what is counted of them, and of records that now wait for their month in the outbox.
    fn shipped_now(
        &self,
        heard: Vec<HeardEvent>,
        counted: Vec<(EventSource, MetricCounts)>,
        loaded: &Loaded,
        (stored, refusing): (&ShippedState, &Refusing),
    ) -> Result<(Vec<HeardEvent>, MetricCounts), Fault> {
        let is_alone = self.handing_over.noted.get() == loaded.noted;
        let left: BTreeSet<i64> = match is_alone || (heard.is_empty() && counted.is_empty()) {
            true => BTreeSet::new(),
            false => loaded.entries_left(&self.store())?,
        };
        let is_refused = |id: VerificationId| refusing.at.months.contains(&Period::of(id.created_at()));
        let is_noted = |source: EventSource| match source {
            EventSource::Record(id) => id.to_string() > stored.record,
            EventSource::Entry(seq) => loaded.is_taken(seq, refusing) && (is_alone || left.contains(&seq)),
        };
        let is_shipped = |each: &HeardEvent| match each.source {
            EventSource::Record(id) => is_noted(each.source) && !is_refused(id),
            EventSource::Entry(_) => is_noted(each.source),
        };
        let current = Period::of(app::now());
        let mut sum = MetricCounts::default();
        for (source, counts) in counted {
            // Those of the month that goes on wait where they are.
            let waits =
                matches!(source, EventSource::Record(id) if is_refused(id) && Period::of(id.created_at()) >= current);
            if is_noted(source) && !waits {
                sum.add(&counts);
            }
        }
        Ok((heard.into_iter().filter(is_shipped).collect(), sum))
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
            is_taken |= taken.is_ok();
            refusing.note(taken, |at| _ = at.months.insert(month));
        }
        if !shipment.is_empty() && !refusing.at.directory {
            let db = db(&self.env)?;
            let deadline = Delay::from(Duration::from_millis(DIRECTORY_MS));
            let taken = match select(pin!(d1::write_shipment(&db, shipment)), pin!(deadline)).await {
                Either::Left((taken, _)) => taken,
                Either::Right(_) => Err(Fault::internal(format!("the directory took nothing in {DIRECTORY_MS} ms"))),
            };
            is_taken |= taken.is_ok();
            refusing.note(taken, |at| at.directory = true);
        }
        Ok(is_taken)
    }

    /// Ships until nothing is left: for a list, what was answered to the months' objects; for the end of a period, the
    /// usage to the directory.
    ///
    /// # Errors
    /// `LEDGER_UNAVAILABLE` where that is not taken, or more is left than one turn ships.
    pub(super) async fn flush(&self, now: UnixMillis, wanted: Flushed) -> Result<LedgerOutput, Fault> {
        let (store, _working) = (self.store(), self.working.begin());
        self.with_state(|memory| {
            let mut admission = memory.admission.clone();
            if let Some(closed) = admission.enter_period(now) {
                let quota = admission.note_quota(&memory.admission, &memory.tenant, None);
                store.atomically(|| {
                    store.put_quota_events(&quota, now)?;
                    store.close_period(closed)?;
                    store.put_admission(&admission)
                })?;
                memory.note_written(admission, now);
            }
            Ok(())
        })?;
        self.begin_watching()?;
        self.load_endpoints(now).await?;
        let Shipping { left, refusing, .. } = self.ship(now).await?;
        let is_refused = match wanted {
            Flushed::Records => !refusing.at.months.is_empty(),
            Flushed::Usage => refusing.at.directory,
        };
        if let Some(fault) = refusing.first.filter(|_| is_refused) {
            let detail = "the ledger could not ship its records";
            let why = fault.cause().unwrap_or(&fault.detail);
            return Err(Fault::new(ErrorCode::LedgerUnavailable, detail).after(1).because(why));
        }
        if left {
            return Err(Fault::new(ErrorCode::LedgerUnavailable, "the ledger is still shipping its records").after(2));
        }
        Ok(LedgerOutput::done())
    }
}

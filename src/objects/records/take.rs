//! Takes what a ledger ships. A repeat changes nothing, nor does an older revision of a record; the totals change in the
//! same transaction as the records.

use super::days::ChangedDays;
use super::store::{NewEvent, NewRecord, RecordsStore};
use super::{ArchiveOwner, OWNER, RecordShare, Records, RecordsOwner, packed};
use crate::app::{bucket, db};
use crate::d1;
use crate::{app, archive};
use std::collections::{BTreeMap, BTreeSet};
use x402_chain::collect::{map_of, set_of};
use x402_chain::id::VerificationId;
use x402_chain::time::{Period, UnixMillis};
use x402_core::error::Fault;
use x402_core::messages::records::{RecordsBatch, RecordsEnvelope, RecordsReply};
use x402_core::records::archived_from;
use x402_core::records::detail::{RecordDetail, SettlementState};
use x402_core::records::rollup::{RollupKey, Totals, apply_share, day_of};

/// What is to be stored of a batch.
#[derive(Default)]
struct NewRows {
    records: Vec<NewRecord>,
    events: Vec<NewEvent>,
    settlements: Vec<SettlementState>,
}

/// What is known of a month that is archived already.
#[derive(Default)]
struct ArchivedPart {
    /// Records of the batch, as archived: revision and share.
    records: BTreeMap<VerificationId, (i64, RecordShare)>,
    /// By day, the directory's totals of its hours.
    days: BTreeMap<UnixMillis, Totals>,
}

impl Records {
    /// Stores a batch.
    pub(super) async fn take(
        &self,
        envelope: &RecordsEnvelope,
        batch: &RecordsBatch,
        now: UnixMillis,
    ) -> Result<RecordsReply, Fault> {
        let store = self.store();
        let owner = ArchiveOwner { tenant: envelope.tenant, environment: envelope.environment };
        let NewRows { records, events, settlements } = read_batch(envelope.month, batch)?;
        let stored: Option<RecordsOwner> = if self.open_stored()? { store.state(OWNER)? } else { None };
        let new = RecordsOwner { owner, month: envelope.month, is_late: now >= archived_from(envelope.month) };
        let month = stored.unwrap_or(new);
        let mut archived = ArchivedPart::default();
        if month.is_late {
            if records.is_empty() && events.is_empty() {
                return Ok(RecordsReply::Taken);
            }
            archived = self.read_archived(&store, owner, &records).await?;
        }
        // Nothing is awaited from here: an archive that began meanwhile is seen.
        if !self.open_stored()? {
            store.make_schema()?;
            self.opened.set(true);
        }
        if self.is_archiving(&store)? {
            return Ok(RecordsReply::Archiving);
        }
        store.atomically(|| {
            if store.state::<RecordsOwner>(OWNER)?.is_none() {
                store.put_state(OWNER, &month)?;
            }
            let mut days = ChangedDays::begin(&store, month.is_late)?;
            put_records(&store, records, &archived, &mut days)?;
            for event in events {
                store.put_event(event)?;
            }
            for settlement in &settlements {
                days.add_settlement(settlement)?;
            }
            days.finish()
        })?;
        self.wake_to_copy(app::now()).await;
        Ok(RecordsReply::Taken)
    }

    /// Reads what the archive holds of records that this object does not hold, and the totals of their days that it
    /// does not hold either.
    async fn read_archived(
        &self,
        store: &RecordsStore,
        owner: ArchiveOwner,
        records: &[NewRecord],
    ) -> Result<ArchivedPart, Fault> {
        let (bucket, db) = (bucket(&self.env)?, db(&self.env)?);
        let mut archived = ArchivedPart::default();
        let is_made = self.open_stored()?;
        let stored: BTreeSet<String> = match is_made {
            true => set_of(store.shares(records.iter().map(|record| &record.id))?.into_iter().map(|row| row.id)),
            false => BTreeSet::new(),
        };
        let mut wanted = Vec::new();
        for record in records {
            let day = day_of(record.share.key.start);
            let is_held = is_made && !store.totals_of_day(day)?.is_empty();
            if !is_held && !archived.days.contains_key(&day) {
                archived.days.insert(day, d1::read_rollups(&db, &owner, day).await?);
            }
            if !stored.contains(&record.id.to_string()) {
                wanted.push(record.id);
            }
        }
        for copy in archive::find(&bucket, &owner, wanted).await? {
            let share = RecordShare::read(copy.id, copy.record.get())?;
            archived.records.insert(copy.id, (copy.revision, share));
        }
        Ok(archived)
    }
}

/// The rows of a batch. A batch of another month is refused whole.
fn read_batch(month: Period, batch: &RecordsBatch) -> Result<NewRows, Fault> {
    let other = || Fault::internal("a batch holds a record, an event or a settlement of another month");
    let mut rows = NewRows::default();
    for copy in &batch.records {
        if Period::of(copy.id.created_at()) != month {
            return Err(other());
        }
        let text = copy.record.get();
        let (share, detail) = (RecordShare::read(copy.id, text)?, RecordDetail::read(copy.id, text)?);
        rows.records.push(NewRecord { id: copy.id, revision: copy.revision, share, detail, line: packed(copy)? });
    }
    for one in &batch.events {
        if Period::of(one.id.created_at()) != month {
            return Err(other());
        }
        let (kind, subject) = (one.kind.clone(), one.subject.clone());
        rows.events.push(NewEvent { id: one.id, kind, subject, line: packed(one)? });
    }
    for state in &batch.settlements {
        if Period::of(state.id.created_at()) != month {
            return Err(other());
        }
        rows.settlements.push(state.clone());
    }
    Ok(rows)
}

/// Stores records of a higher revision than the stored or archived one, and changes the totals and the days.
fn put_records(
    store: &RecordsStore,
    records: Vec<NewRecord>,
    archived: &ArchivedPart,
    days: &mut ChangedDays<'_>,
) -> Result<(), Fault> {
    for (day, totals) in &archived.days {
        if store.totals_of_day(*day)?.is_empty() {
            for (key, total) in totals {
                store.put_total(key, total, total.revision)?;
            }
        }
    }
    // What is stored of each record, or was before it was archived; then what this batch stores.
    let mut known = archived.records.clone();
    let hours: BTreeMap<VerificationId, UnixMillis> =
        map_of(records.iter().map(|record| (record.id, record.share.key.start)));
    let mut bodies = BTreeMap::new();
    for row in store.shares(hours.keys())? {
        let id = VerificationId::parse(&row.id).ok_or_else(|| Fault::internal("a stored record has no id"))?;
        let start = hours.get(&id).copied().unwrap_or_default();
        let key = RollupKey { start, chain: row.chain, outcome: row.outcome };
        known.insert(id, (row.revision, RecordShare { key, amount: row.amount }));
        bodies.insert(id, row.body);
    }
    let (mut totals, mut loaded, mut changed) = (Totals::new(), BTreeSet::new(), BTreeSet::new());
    let mut newer = Vec::new();
    for record in records {
        let NewRecord { id, revision, share, .. } = &record;
        let earlier = known.get(id);
        if earlier.is_some_and(|(stored, _)| stored >= revision) {
            continue;
        }
        let earlier = earlier.map(|(_, share)| share);
        for key in earlier.map(|earlier| &earlier.key).into_iter().chain([&share.key]) {
            if loaded.insert(key.clone())
                && let Some(total) = store.total(key)?
            {
                totals.insert(key.clone(), total);
            }
        }
        if earlier != Some(share) {
            changed.extend(earlier.map(|earlier| earlier.key.clone()));
            changed.insert(share.key.clone());
        }
        apply_share(&mut totals, earlier, share)?;
        days.add_record(*id, record.detail.clone(), bodies.get(id))?;
        known.insert(*id, (*revision, share.clone()));
        newer.push(record);
    }
    store.put_records(newer)?;
    for key in changed {
        if let Some(total) = totals.get(&key) {
            store.put_total(&key, total, 0)?;
        }
    }
    Ok(())
}

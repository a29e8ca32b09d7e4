//! What is counted of each day beside the totals, changed in the transaction that stores what changes it. Records that an
//! older build has stored are counted a part at a time, when the days are first asked for.

use super::store::RecordsStore;
use super::{Records, record_of};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use x402_chain::id::VerificationId;
use x402_chain::time::UnixMillis;
use x402_core::error::Fault;
use x402_core::messages::records::RecordsReply;
use x402_core::records::archive::ArchivedKind;
use x402_core::records::days::{DaySpan, MonthDays};
use x402_core::records::detail::{CountingProgress, DayDetail, RecordDetail, SettlementState, day_of_settlement};
use x402_core::records::rollup::{daily, day_of};

/// The name of the stored [`CountingProgress`].
const COUNTING: &str = "counting";
/// The most records of an older build that are counted in one call, in some 50 ms.
const COUNTED_MAX: usize = 2_000;

/// The days that a transaction changes.
pub(super) struct ChangedDays<'a> {
    store: &'a RecordsStore,
    /// `None`: nothing is counted, since nobody asks for days that are archived.
    progress: Option<CountingProgress>,
    days: BTreeMap<UnixMillis, DayDetail>,
    /// What records add that were changed.
    details: BTreeMap<VerificationId, RecordDetail>,
}

impl<'a> ChangedDays<'a> {
    fn of(store: &'a RecordsStore, progress: Option<CountingProgress>) -> Self {
        Self { store, progress, days: BTreeMap::new(), details: BTreeMap::new() }
    }

    /// Begins. `is_late`: the month is archived already.
    pub(super) fn begin(store: &'a RecordsStore, is_late: bool) -> Result<Self, Fault> {
        let progress = if is_late { None } else { Some(store.state(COUNTING)?.unwrap_or_default()) };
        Ok(Self::of(store, progress))
    }

    fn day(&mut self, day: UnixMillis) -> Result<&mut DayDetail, Fault> {
        Ok(match self.days.entry(day) {
            Entry::Occupied(day) => day.into_mut(),
            Entry::Vacant(new) => new.insert(self.store.day(day)?),
        })
    }

    /// Counts a record in the place of its stored body.
    pub(super) fn add_record(
        &mut self,
        id: VerificationId,
        detail: RecordDetail,
        stored: Option<&Vec<u8>>,
    ) -> Result<(), Fault> {
        if !self.progress.as_ref().is_some_and(|progress| progress.counts(&id.to_string())) {
            return Ok(());
        }
        let earlier = match (self.details.remove(&id), stored) {
            (Some(earlier), _) => Some(earlier),
            (None, Some(body)) => Some(RecordDetail::read(id, record_of(body)?.record.get())?),
            (None, None) => None,
        };
        if earlier.as_ref() != Some(&detail) {
            self.day(day_of(id.created_at()))?.apply_record(earlier.as_ref(), &detail)?;
        }
        self.details.insert(id, detail);
        Ok(())
    }

    /// Stores and counts a settlement, unless a newer revision is stored. One that adds the same is stored too: revisions in
    /// between may still come.
    pub(super) fn add_settlement(&mut self, new: &SettlementState) -> Result<(), Fault> {
        let stored = self.store.settlement(new.id)?;
        if self.progress.is_none() || stored.as_ref().is_some_and(|stored| stored.revision >= new.revision) {
            return Ok(());
        }
        if !stored.as_ref().is_some_and(|stored| stored.adds_the_same(new)) {
            self.day(day_of_settlement(new.id))?.apply_settlement(stored.as_ref(), new)?;
        }
        self.store.put_settlement(new)
    }

    /// Stores the days.
    pub(super) fn finish(self) -> Result<(), Fault> {
        for (day, mut detail) in self.days {
            detail.cut_payers();
            self.store.put_day(day, &detail)?;
        }
        Ok(())
    }
}

impl Records {
    /// What is counted of some days; or counts a part of what an older build has stored.
    pub(super) fn read_days(&self, span: DaySpan) -> Result<RecordsReply, Fault> {
        let mut month = MonthDays::default();
        if !self.open_stored()? {
            return Ok(RecordsReply::Days(month));
        }
        let store = self.store();
        let progress: CountingProgress = store.state(COUNTING)?.unwrap_or_default();
        if let Some(after) = progress.after {
            store.atomically(|| count_more(&store, &after))?;
            return Ok(RecordsReply::Counting);
        }
        for day in span.days_of_month() {
            month.add_day(day, &daily(&store.totals_of_day(day)?)?, store.day(day)?)?;
        }
        Ok(RecordsReply::Days(month))
    }
}

/// Counts records after an id, which were stored before any were counted.
fn count_more(store: &RecordsStore, after: &str) -> Result<(), Fault> {
    // Greater than every id.
    let rows = store.members_between(ArchivedKind::Records, (after, "ver_a"), COUNTED_MAX)?;
    let mut days = ChangedDays::of(store, Some(CountingProgress::default()));
    for row in &rows {
        let copy = record_of(&row.body)?;
        days.add_record(copy.id, RecordDetail::read(copy.id, copy.record.get())?, None)?;
    }
    days.finish()?;
    let last = rows.last().filter(|_| rows.len() >= COUNTED_MAX).map(|row| row.id.clone());
    store.put_state(COUNTING, &CountingProgress { after: last })
}

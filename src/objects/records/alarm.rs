//! The alarm of a Records object: copies changed totals to the directory, and archives the month when it is old enough.
//! The next alarm is set before work that may fail.

use super::{OWNER, Records, RecordsOwner};
use crate::app;
use crate::app::db;
use crate::d1;
use crate::telemetry::{TelemetryField, TelemetryKind, event};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use worker::ScheduledTime;
use x402_chain::time::{DAY_MS, UnixMillis};
use x402_core::alarm::alarm_for;
use x402_core::error::Fault;
use x402_core::messages::records::RecordsReply;
use x402_core::records::archived_from;
use x402_core::records::rollup::{RollupKey, Totals, daily, day_of};

/// Changed totals are copied this long after the first change, so that a busy month copies each of them once a minute.
const COPY_AFTER_MS: u64 = 60_000;
/// An alarm that fails or is cut off runs again after this long.
const AGAIN_AFTER_MS: u64 = 60_000;
/// The most totals in one batch.
const TOTALS_MAX: usize = 200;

impl Records {
    /// Makes sure that an alarm copies the totals soon.
    pub(super) async fn wake_to_copy(&self, now: UnixMillis) {
        let wanted = now.plus(COPY_AFTER_MS);
        if self.alarm_at.get().is_none() {
            // An object that has just woken does not know its alarm: to set it again would put it off.
            let stored = self.state.storage().get_alarm().await.ok().flatten();
            self.alarm_at.set(stored.and_then(|at| u64::try_from(at).ok()).map(UnixMillis));
        }
        if let Some(at) = alarm_for(wanted, self.alarm_at.get(), now) {
            self.set_alarm(at).await;
        }
    }

    async fn set_alarm(&self, at: UnixMillis) {
        self.alarm_at.set(Some(at));
        let date = js_sys::Date::new(&wasm_bindgen::JsValue::from_str(&at.rfc3339()));
        if let Err(error) = self.state.storage().set_alarm(ScheduledTime::new(date)).await {
            self.alarm_at.set(None);
            event(
                TelemetryKind::AlarmNotSet,
                &[TelemetryField::At(at), TelemetryField::Cause(&Fault::internal(error))],
            );
        }
    }

    /// Runs one alarm.
    pub(super) async fn run_alarm(&self) {
        let (now, _working) = (app::now(), self.working.begin());
        let next = match self.open_stored() {
            Ok(false) => return,
            Ok(true) => {
                self.set_alarm(now.plus(AGAIN_AFTER_MS)).await;
                self.run_due_work(now).await
            }
            Err(fault) => Err(fault),
        };
        match next {
            Ok(Some(at)) => self.set_alarm(at).await,
            Ok(None) => {
                self.alarm_at.set(None);
                if let Err(error) = self.state.storage().delete_alarm().await {
                    // It rings once more, and finds nothing to do.
                    event(TelemetryKind::RecordsAlarmFailed, &[TelemetryField::Cause(&Fault::internal(error))]);
                }
            }
            Err(fault) => event(TelemetryKind::RecordsAlarmFailed, &[TelemetryField::Cause(&fault)]),
        }
    }

    /// Does what is due; returns when the next work is due. Nothing is awaited after it was decided that there is none.
    async fn run_due_work(&self, now: UnixMillis) -> Result<Option<UnixMillis>, Fault> {
        let store = self.store();
        let Some(month) = store.state::<RecordsOwner>(OWNER)? else { return Ok(None) };
        self.copy_totals(&month).await?;
        let due = archived_from(month.month);
        if !month.is_late && now >= due && store.changed_totals(1)?.is_empty() {
            if !self.archive_month(&month).await? {
                return Ok(Some(app::now()));
            }
            // A late revision may have been taken since all was deleted.
            return Ok(self.open_stored()?.then(|| app::now().plus(COPY_AFTER_MS)));
        }
        // A batch that was taken meanwhile has changed totals. Nothing is awaited until the alarm is set.
        let is_changed = !store.changed_totals(1)?.is_empty();
        let copy = is_changed.then(|| app::now().plus(COPY_AFTER_MS));
        Ok(copy.or_else(|| (!month.is_late).then_some(due)))
    }

    /// Copies all totals to the directory, a day at a time. What it has of the same revision, or a newer one, stays.
    pub(super) async fn copy_all_totals(&self) -> Result<RecordsReply, Fault> {
        if !self.open_stored()? {
            return Ok(RecordsReply::Taken);
        }
        let (store, db) = (self.store(), db(&self.env)?);
        let Some(month) = store.state::<RecordsOwner>(OWNER)? else { return Ok(RecordsReply::Taken) };
        let mut day = month.month.start();
        while day < month.month.end() {
            let hours = store.totals_of_day(day)?;
            if !hours.is_empty() {
                d1::write_rollups(&db, &month.owner, &hours, &daily(&hours)?).await?;
            }
            day = day.plus(DAY_MS);
        }
        Ok(RecordsReply::Taken)
    }

    /// Copies changed totals to the directory, with the totals of their days. What changes meanwhile is copied by the
    /// next alarm.
    pub(super) async fn copy_totals(&self, month: &RecordsOwner) -> Result<(), Fault> {
        let (store, db) = (self.store(), db(&self.env)?);
        let mut is_more = true;
        while is_more {
            let changed = store.changed_totals(TOTALS_MAX)?;
            if changed.is_empty() {
                return Ok(());
            }
            is_more = changed.len() >= TOTALS_MAX;
            let mut days: BTreeMap<UnixMillis, Totals> = BTreeMap::new();
            let mut of_days = Totals::new();
            for key in changed.keys() {
                let start = day_of(key.start);
                let day = match days.entry(start) {
                    Entry::Occupied(day) => day.into_mut(),
                    Entry::Vacant(day) => day.insert(daily(&store.totals_of_day(start)?)?),
                };
                let key = RollupKey { start, ..key.clone() };
                if let Some(total) = day.get(&key) {
                    of_days.insert(key, *total);
                }
            }
            d1::write_rollups(&db, &month.owner, &changed, &of_days).await?;
            store.atomically(|| {
                for (key, total) in &changed {
                    store.note_copied(key, total.revision)?;
                }
                Ok(())
            })?;
        }
        Ok(())
    }
}

//! The ledger's alarm: ships the outbox, polls payments for finality, deletes expired rows. It runs at least once for
//! each change, since the next alarm is set before work that may fail.

use super::{TenantLedger, ledger_name};
use crate::app;
use crate::metering;

use crate::objects::ledger::ship::ShippedState;
use crate::telemetry::{TelemetryField, TelemetryKind, counts, event};
use worker::ScheduledTime;
use x402_chain::time::{DAY_MS, UnixMillis};
use x402_core::alarm::alarm_for;
use x402_core::error::Fault;
use x402_core::messages::meter::{ObjectQueue, QueueDepth};
use x402_core::outbox::walk::{FRONT, ships_on};

/// A record is shipped this long after it was written, so that a busy ledger ships in batches. Reads do not depend on
/// it: they ask the ledger, or make it ship.
const SHIP_AFTER_MS: u64 = 4_000;
/// An alarm that fails or is cut off runs again after this long.
const AGAIN_AFTER_MS: u64 = 15_000;
/// What an alarm leaves for want of room is done by the next one, this long after.
const LEFT_AFTER_MS: u64 = 100;
/// Payments that were never settled are deleted in batches, at least this far apart.
const PURGE_AFTER_MS: u64 = 60_000;

impl TenantLedger {
    /// Makes sure that an alarm runs soon.
    pub(super) async fn wake_soon(&self, now: UnixMillis) {
        let wanted = now.plus(SHIP_AFTER_MS);
        if let Some(at) = alarm_for(wanted, self.alarm_at.get(), now) {
            self.set_alarm(at).await;
        }
    }

    async fn set_alarm(&self, at: UnixMillis) {
        self.alarm_at.set(Some(at));
        let date = js_sys::Date::new(&wasm_bindgen::JsValue::from_str(&UnixMillis(at.0).rfc3339()));
        if let Err(error) = self.state.storage().set_alarm(ScheduledTime::new(date)).await {
            self.alarm_at.set(None);
            event(
                TelemetryKind::AlarmNotSet,
                &[TelemetryField::At(at), TelemetryField::Cause(&Fault::internal(error))],
            );
        }
    }

    /// Runs one alarm; sets the next one before and after the work.
    pub(super) async fn run_alarm(&self) {
        let (now, _working) = (app::now(), self.working.begin());
        self.set_alarm(now.plus(AGAIN_AFTER_MS)).await;
        match self.run_due_work(now).await {
            Ok(next) => {
                if let Some(at) = next {
                    self.set_alarm(at).await;
                } else {
                    // Expired rows are deleted once a day, as long as there are any rows.
                    self.set_alarm(app::now().plus(DAY_MS)).await;
                }
            }
            Err(fault) => {
                let mut fields = vec![TelemetryField::Cause(&fault)];
                fields.extend(self.with_state(|memory| Ok(memory.tenant.id)).ok().map(TelemetryField::Tenant));
                event(TelemetryKind::LedgerAlarmFailed, &fields);
            }
        }
        self.note_depth();
        metering::send_from_object(&self.state, &self.env);
    }

    /// Notes for the metrics how much waits to be shipped. An outbox that was empty and is so is not reported.
    fn note_depth(&self) {
        let Ok(Some(entries)) = self.store().outbox_count() else { return };
        if entries == 0 && self.depth.get() == 0 {
            return;
        }
        self.depth.set(entries);
        let named = self.with_state(|memory| Ok(ledger_name(memory)));
        if let Ok(object) = named {
            counts::note_depth(QueueDepth { queue: ObjectQueue::Outbox, object, entries, at: app::now() });
        }
    }

    /// Does what is due; returns when the next work is due.
    async fn run_due_work(&self, now: UnixMillis) -> Result<Option<UnixMillis>, Fault> {
        self.open_storage()?;
        if self.memory.borrow().is_none() {
            return Ok(None);
        }
        // A record that is written meanwhile sets an alarm of its own.
        self.alarm_at.set(None);
        self.write_rates(now)?;
        if !self.parked_returned.get() {
            self.store().return_parked()?;
            self.take_older_watches(now).await?;
            self.parked_returned.set(true);
        }
        self.watch_new().await?;
        self.load_endpoints(now).await?;
        self.send_waiting()?;
        let shipped = self.ship(now).await?;
        if let Some(fault) = &shipped.refusing.first {
            event(TelemetryKind::LedgerAlarmFailed, &[TelemetryField::Cause(fault)]);
        }
        self.poll_due_payments(now).await?;
        self.poll_due_settlements(now).await?;
        let is_refused = shipped.refusing.first.is_some();
        let left = self.purge(app::now()).await? | ships_on(shipped.left, shipped.is_taken, is_refused);
        let (after, store) = (app::now(), self.store());
        let payment = store.next_payment()?.map(|at| at.max(after.plus(PURGE_AFTER_MS)));
        let next = [store.next_finality_poll()?, store.next_settlement()?, payment].into_iter().flatten().min();
        let next_poll = next.map(|at| at.max(after.plus(100)));
        let more = match left {
            true => Some(LEFT_AFTER_MS),
            false if is_refused => Some(AGAIN_AFTER_MS),
            false if self.has_unshipped()? => Some(SHIP_AFTER_MS),
            false => self.has_waiting()?.then_some(AGAIN_AFTER_MS),
        };
        // Requests counted meanwhile: the next alarm may be far away, and nothing is awaited until it is set.
        self.write_rates(after)?;
        Ok([next_poll, more.map(|ms| after.plus(ms))].into_iter().flatten().min())
    }

    /// Stores the rates, if requests were counted since the last store: an eviction loses none.
    pub(super) fn write_rates(&self, now: UnixMillis) -> Result<(), Fault> {
        let store = self.store();
        self.with_state(|memory| {
            if memory.saved.is_all_saved(&memory.admission) {
                return Ok(());
            }
            let admission = memory.admission.clone();
            store.atomically(|| store.put_admission(&admission))?;
            memory.note_written(admission, now);
            Ok(())
        })
    }

    /// Whether anything waits for Couriers.
    fn has_waiting(&self) -> Result<bool, Fault> {
        let store = self.store();
        Ok(store.has_webhooks()? || !store.missed()?.is_empty())
    }

    fn has_unshipped(&self) -> Result<bool, Fault> {
        let store = self.store();
        let shipped: ShippedState = store.state("shipped")?.unwrap_or_default();
        Ok(!store.record_sizes(&shipped.record, 1)?.is_empty() || !store.outbox_sizes(FRONT, 1)?.is_empty())
    }
}

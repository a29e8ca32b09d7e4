//! The alarm of a Courier: delivers what is due, and forgets what ended 30 days ago, or does not fit. The next alarm is set
//! before work that may fail.

use super::deliver::Afterwards;
use super::{Courier, ENDPOINT};
use crate::app;
use crate::app::App;
use crate::metering;
use crate::objects::alarm::PacedWork;
use crate::telemetry::{TelemetryField, TelemetryKind, counts, event};
use worker::ScheduledTime;
use x402_chain::id::EndpointId;
use x402_chain::time::UnixMillis;
use x402_core::alarm::alarm_for;
use x402_core::error::Fault;
use x402_core::messages::meter::{ObjectQueue, QueueDepth};
use x402_core::webhook::delivery::{DeliveryState, KEPT_MS};
use x402_core::webhook::retention::forgotten_before;
use x402_core::webhook::schedule::PAUSE_MS_MAX;

/// An alarm that fails or is cut off runs again after this long.
const AGAIN_AFTER_MS: u64 = 30_000;
/// Deliveries that are forgotten in one transaction.
const FORGOTTEN_MAX: usize = 100;
/// The most such transactions of one alarm: they forget more than its attempts can end.
const TURNS_MAX: usize = 100;

/// What stops another alarm while one delivers.
struct RunGuard<'a>(&'a Courier);

impl Drop for RunGuard<'_> {
    fn drop(&mut self) {
        self.0.is_running.set(false);
    }
}

impl Courier {
    /// Makes sure that what is due is delivered: by the alarm that delivers, or by one that begins at once.
    ///
    /// # Errors
    /// Where no alarm could be set.
    pub(super) async fn wake_to_deliver(&self, now: UnixMillis) -> Result<(), Fault> {
        let is_running = self.is_running.get();
        if is_running {
            self.nudge_alarm();
        }
        let known = self.known_alarm().await;
        // The alarm that delivers has set another, for the case that it is cut off.
        let wanted = known.filter(|_| is_running).unwrap_or(now);
        match alarm_for(wanted, known, now) {
            Some(at) => self.set_alarm(at).await,
            None => Ok(()),
        }
    }

    /// Sets the alarm again of an object that has none, or whose alarm has not rung: while something is stored there is one,
    /// unless the platform has given it up.
    pub(super) async fn keep_alarm(&self, now: UnixMillis) {
        if !self.opened.get() || self.is_running.get() {
            return;
        }
        let known = self.known_alarm().await;
        if let Some(at) = alarm_for(known.unwrap_or(now), known, now) {
            // What has failed is logged, and tried again with the next message.
            let _ = self.set_alarm(at).await;
        }
    }

    /// When the alarm rings, if there is one. An object that has just woken does not know: to set it again would put it off.
    async fn known_alarm(&self) -> Option<UnixMillis> {
        if self.alarm_at.get().is_none() {
            let stored = self.state.storage().get_alarm().await.ok().flatten();
            self.alarm_at.set(stored.and_then(|at| u64::try_from(at).ok()).map(UnixMillis));
        }
        self.alarm_at.get()
    }

    /// Has the alarm that delivers look again at what is due.
    pub(super) fn nudge_alarm(&self) {
        self.is_nudged.set(true);
        if let Some(nudge) = self.nudge.borrow_mut().take() {
            // Where nobody listens, the alarm is about to look.
            let _ = nudge.send(());
        }
    }

    /// # Errors
    /// Where the platform does not take it, which is logged.
    pub(super) async fn set_alarm(&self, at: UnixMillis) -> Result<(), Fault> {
        self.alarm_at.set(Some(at));
        let date = js_sys::Date::new(&wasm_bindgen::JsValue::from_str(&at.rfc3339()));
        let set = self.state.storage().set_alarm(ScheduledTime::new(date)).await;
        set.map_err(Fault::internal).inspect_err(|fault| {
            self.alarm_at.set(None);
            event(TelemetryKind::AlarmNotSet, &[TelemetryField::At(at), TelemetryField::Cause(fault)]);
        })
    }

    /// Runs one alarm. The platform runs one at a time: an earlier one that seems to run was cut off.
    ///
    /// # Errors
    /// Where no other alarm could be set.
    pub(super) async fn run_alarm(&self) -> Result<(), Fault> {
        self.is_running.set(true);
        let (now, running, opened) = (app::now(), RunGuard(self), self.open_stored());
        if matches!(opened, Ok(false)) {
            self.alarm_at.set(None);
            return Ok(());
        }
        self.set_alarm(now.plus(AGAIN_AFTER_MS)).await?;
        let next = match opened {
            Ok(_) => self.run_due_work(now).await,
            Err(fault) => Err(fault),
        };
        drop(running);
        metering::send_from_object(&self.state, &self.env);
        match next {
            Ok(Some(at)) => self.set_alarm(at).await,
            // Nothing is stored any more, nor an alarm.
            Ok(None) => Ok(()),
            Err(fault) => {
                event(TelemetryKind::CourierAlarmFailed, &[TelemetryField::Cause(&fault)]);
                Ok(())
            }
        }
    }

    /// Does what is due; returns when the next work is due, or `None` where nothing is stored any more. Nothing is awaited
    /// after it was decided when that is.
    async fn run_due_work(&self, now: UnixMillis) -> Result<Option<UnixMillis>, Fault> {
        let Some(endpoint) = self.store().state::<EndpointId>(ENDPOINT)? else {
            self.delete_stored().await?;
            return Ok(None);
        };
        self.store().hasten_later_than(now.plus(PAUSE_MS_MAX), now)?;
        // What is promised to be sent again is not forgotten.
        self.reopen_some().await?;
        let is_old = self.forget_old(now).await?;
        let app = App::new(self.env.clone(), "")?;
        let afterwards = self.deliver_due(&app, endpoint).await?;
        if matches!(afterwards, Afterwards::Erase) {
            self.delete_stored().await?;
            return Ok(None);
        }
        let (store, after) = (self.store(), app::now());
        if let Some(entries) = self.waiting.get() {
            let depth = QueueDepth { queue: ObjectQueue::Courier, object: endpoint.to_string(), entries, at: after };
            counts::note_depth(depth);
        }
        // A change that came while the endpoint was read, or after it, is not what was read; nor was a redelivery begun that
        // was asked for since then.
        if is_old || self.changes.is_unasked() || self.redelivery()?.is_some() {
            return Ok(Some(after));
        }
        let next = match afterwards {
            Afterwards::Erase | Afterwards::Due => store.next_due()?,
            Afterwards::NotBefore(at) => store.next_due()?.map(|due| due.max(at)),
            Afterwards::Again(at) => Some(at),
        };
        let forget = store.first_end()?.map(|end| end.plus(KEPT_MS).plus(1));
        // An endpoint without any deliveries is looked at once more, and deleted if it is gone.
        let next = [next, forget].into_iter().flatten().min().unwrap_or_else(|| after.plus(KEPT_MS));
        Ok(Some(next.max(after)))
    }

    /// Forgets deliveries that ended long ago, or do not fit, and gives up those that could have been sent for as long; whether
    /// more are left.
    async fn forget_old(&self, now: UnixMillis) -> Result<bool, Fault> {
        let (store, mut work) = (self.store(), PacedWork::begin());
        let before = UnixMillis(now.0.saturating_sub(KEPT_MS));
        for _ in 0..TURNS_MAX {
            let (stored, mut ended) = (store.bytes(), Vec::new());
            for state in [DeliveryState::Delivered, DeliveryState::Exhausted] {
                let room = FORGOTTEN_MAX.saturating_sub(ended.len());
                ended.extend(store.ended_before(state, forgotten_before(state, stored, now), room)?);
            }
            let waiting = store.due_before(before, FORGOTTEN_MAX)?;
            if ended.is_empty() && waiting.is_empty() {
                return Ok(false);
            }
            store.atomically(|| {
                for event in &ended {
                    store.forget(*event)?;
                }
                for event in &waiting {
                    store.end(*event, DeliveryState::Exhausted, now)?;
                }
                Ok(())
            })?;
            let given_up = u64::try_from(waiting.len()).unwrap_or(u64::MAX);
            self.waiting.set(self.waiting.get().map(|count| count.saturating_sub(given_up)));
            work.pause().await;
        }
        Ok(true)
    }
}

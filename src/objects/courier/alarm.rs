//! The alarm of a Courier: delivers what is due, and forgets what ended 30 days ago. The next alarm is set before work that
//! may fail.

use super::{Courier, ENDPOINT};
use crate::app;
use crate::app::App;
use crate::objects::alarm::PacedWork;
use crate::telemetry::{TelemetryField, TelemetryKind, event};
use worker::ScheduledTime;
use x402_chain::id::{EndpointId, EventId};
use x402_chain::time::UnixMillis;
use x402_core::alarm::alarm_for;
use x402_core::error::Fault;
use x402_core::webhook::delivery::{DeliveryState, KEPT_MS};

/// An alarm that fails or is cut off runs again after this long.
const AGAIN_AFTER_MS: u64 = 30_000;
/// Deliveries that are forgotten in one transaction.
const FORGOTTEN_MAX: usize = 100;
/// The most such transactions of one alarm.
const TURNS_MAX: usize = 20;

/// What stops another alarm while one delivers.
struct RunGuard<'a>(&'a Courier);

impl Drop for RunGuard<'_> {
    fn drop(&mut self) {
        self.0.is_running.set(false);
    }
}

impl Courier {
    /// Makes sure that what is due is delivered: by the alarm that delivers, or by one that begins at once.
    pub(super) async fn wake_to_deliver(&self, now: UnixMillis) {
        if self.is_running.get() {
            self.nudge_alarm();
            return;
        }
        if self.alarm_at.get().is_none() {
            // An object that has just woken does not know its alarm: to set it again would put it off.
            let stored = self.state.storage().get_alarm().await.ok().flatten();
            self.alarm_at.set(stored.and_then(|at| u64::try_from(at).ok()).map(UnixMillis));
        }
        if let Some(at) = alarm_for(now, self.alarm_at.get(), now) {
            self.set_alarm(at).await;
        }
    }

    /// Has the alarm that delivers look again at what is due.
    pub(super) fn nudge_alarm(&self) {
        if let Some(nudge) = self.nudge.borrow_mut().take() {
            // Where nobody listens, the alarm is about to look.
            let _ = nudge.send(());
        }
    }

    async fn set_alarm(&self, at: UnixMillis) {
        self.alarm_at.set(Some(at));
        let date = js_sys::Date::new(&wasm_bindgen::JsValue::from_str(&at.rfc3339()));
        if let Err(error) = self.state.storage().set_alarm(ScheduledTime::new(date)).await {
            self.alarm_at.set(None);
            let fault = Fault::internal(error);
            event(TelemetryKind::AlarmNotSet, &[TelemetryField::At(at), TelemetryField::Cause(&fault)]);
        }
    }

    /// Runs one alarm.
    pub(super) async fn run_alarm(&self) {
        if self.is_running.replace(true) {
            return;
        }
        let (now, running) = (app::now(), RunGuard(self));
        let next = match self.open_stored() {
            Ok(false) => return,
            Ok(true) => {
                self.set_alarm(now.plus(AGAIN_AFTER_MS)).await;
                self.run_due_work(now).await
            }
            Err(fault) => Err(fault),
        };
        drop(running);
        match next {
            Ok(Some(at)) => self.set_alarm(at).await,
            // Nothing is stored any more, nor an alarm.
            Ok(None) => {}
            Err(fault) => event(TelemetryKind::CourierAlarmFailed, &[TelemetryField::Cause(&fault)]),
        }
    }

    /// Does what is due; returns when the next work is due, or `None` where nothing is stored any more. Nothing is awaited
    /// after it was decided when that is.
    async fn run_due_work(&self, now: UnixMillis) -> Result<Option<UnixMillis>, Fault> {
        let Some(endpoint) = self.store().state::<EndpointId>(ENDPOINT)? else {
            self.delete_stored().await?;
            return Ok(None);
        };
        let is_more = self.forget_old(now).await?;
        let app = App::new(self.env.clone(), "")?;
        let Some(pause) = self.deliver_due(&app, endpoint).await? else {
            self.delete_stored().await?;
            return Ok(None);
        };
        let (store, after) = (self.store(), app::now());
        if is_more {
            return Ok(Some(after));
        }
        let due = store.next_due()?.map(|due| due.max(pause.unwrap_or(due)));
        let forget = store.first_end()?.map(|end| end.plus(KEPT_MS).plus(1));
        // An endpoint without any deliveries is looked at once more, and deleted if it is gone.
        let next = [due, forget].into_iter().flatten().min().unwrap_or_else(|| after.plus(KEPT_MS));
        Ok(Some(next.max(after)))
    }

    /// Forgets deliveries that ended long ago, and gives up those that have waited as long; whether more are left.
    async fn forget_old(&self, now: UnixMillis) -> Result<bool, Fault> {
        let (store, mut work) = (self.store(), PacedWork::begin());
        let before = UnixMillis(now.0.saturating_sub(KEPT_MS));
        for _ in 0..TURNS_MAX {
            let ended = store.ended_before(before, FORGOTTEN_MAX)?;
            let waiting = store.waiting_before(EventId::new(before, [0; 10]), FORGOTTEN_MAX)?;
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
            self.waiting.set(None);
            work.pause().await;
        }
        Ok(true)
    }
}

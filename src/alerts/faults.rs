//! Counts verifications that failed, for operators' alert of the error rate. They are counted in the isolate and written
//! together after a moment, so that a fault of everything does not write a row a request.

use crate::app;
use crate::app::App;
use crate::d1::alerts;
use crate::telemetry::{TelemetryField, TelemetryKind, event};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use worker::{Context, Delay};
use x402_chain::time::UnixMillis;
use x402_core::error::Fault;
use x402_core::records::rollup::hour_of;

/// How long faults are gathered.
const GATHER_MS: u64 = 1_000;
/// After this time whoever gathers them was stopped.
const LOST_MS: u64 = 10_000;

thread_local! {
    /// How many there are, and since when they are gathered.
    static FAULTS: Cell<(u64, UnixMillis)> = const { Cell::new((0, UnixMillis(0))) };
}

/// Counts a verification that failed. What cannot be written is logged, and lost.
pub(crate) fn count(app: Rc<App>, context: &Context, now: UnixMillis) {
    let (number, since) = FAULTS.get();
    let is_gathered = number > 0 && now.since(since) < LOST_MS;
    FAULTS.set((number.saturating_add(1), if is_gathered { since } else { now }));
    if is_gathered {
        return;
    }
    app::after_answer(context, async move {
        Delay::from(Duration::from_millis(GATHER_MS)).await;
        let (number, _) = FAULTS.take();
        if let Err(fault) = write(&app, number, now).await {
            event(TelemetryKind::AlertFailed, &[TelemetryField::Cause(&fault)]);
        }
    });
}

async fn write(app: &App, number: u64, now: UnixMillis) -> Result<(), Fault> {
    if number == 0 { Ok(()) } else { alerts::add_faults(&app.db()?, hour_of(now), number).await }
}

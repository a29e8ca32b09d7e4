//! Ships events of the directory's outbox to the objects of their months: after the answer to the request that made them,
//! and by a timed job. A month's object stores an event once, so that one may be shipped twice.

use crate::app::App;
use crate::clients::records::RecordsClient;
use crate::d1::change::{note_events, unshipped_events};
use crate::telemetry::{TelemetryField, TelemetryKind, event};
use std::collections::BTreeMap;
use std::rc::Rc;
use x402_chain::id::EventId;
use x402_chain::time::{Period, UnixMillis};
use x402_core::error::Fault;
use x402_core::messages::records::RecordsBatch;
use x402_core::records::archive::ArchiveOwner;

/// Events of one run.
const EVENTS_MAX: u64 = 100;

/// Ships the events that wait; returns how many were shipped. Those that a month's object does not take stay, and come
/// after others the next time.
///
/// # Errors
/// Where the directory fails.
pub(crate) async fn ship(app: &App, now: UnixMillis) -> Result<usize, Fault> {
    let db = app.db()?;
    let mut months: BTreeMap<(String, Period), (ArchiveOwner, RecordsBatch)> = BTreeMap::new();
    for row in unshipped_events(&db, EVENTS_MAX).await? {
        let owner = ArchiveOwner { tenant: row.tenant, environment: row.environment };
        let key = (format!("{}:{}", row.tenant, row.environment.name()), Period::of(row.event.id.created_at()));
        months.entry(key).or_insert_with(|| (owner, RecordsBatch::default())).1.events.push(row.event);
    }
    let mut shipped = 0_usize;
    for ((_, month), (owner, batch)) in months {
        let ids: Vec<EventId> = batch.events.iter().map(|event| event.id).collect();
        let taken = RecordsClient { namespace: app.records()?, owner }.take(month, batch).await;
        if let Err(fault) = &taken {
            event(TelemetryKind::EventsNotShipped, &[TelemetryField::Cause(fault)]);
        }
        note_events(&db, &ids, taken.is_ok().then_some(now)).await?;
        if taken.is_ok() {
            shipped = shipped.saturating_add(ids.len());
        }
    }
    Ok(shipped)
}

/// Ships after an answer. What fails is shipped by the timed job.
pub(crate) async fn ship_or_log(app: Rc<App>, now: UnixMillis) {
    if let Err(fault) = ship(&app, now).await {
        event(TelemetryKind::EventsNotShipped, &[TelemetryField::Cause(&fault)]);
    }
}

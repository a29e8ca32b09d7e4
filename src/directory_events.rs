//! Ships events of the directory's outbox to the objects of their months: after the answer to the request that made them,
//! and by a timed job. A month's object stores an event once, so that one may be shipped twice.

use crate::app;
use crate::app::App;
use crate::clients::ledger::call_ledger;
use crate::clients::records::RecordsClient;
use crate::d1::change::{note_events, tenants_to_load, unshipped_events, unshipped_events_of};
use crate::d1::rows::{TenantToLoad, UnshippedEvent};
use crate::telemetry::{TelemetryField, TelemetryKind, event};
use futures_util::stream::{self, StreamExt};
use std::collections::BTreeMap;
use std::rc::Rc;
use worker::D1Database;
use x402_chain::id::{EventId, TenantId};
use x402_chain::network::Environment;
use x402_chain::time::{Period, UnixMillis};
use x402_core::error::{ErrorCode, Fault};
use x402_core::messages::ledger::{LedgerEnvelope, LedgerMessage};
use x402_core::messages::records::RecordsBatch;
use x402_core::records::archive::ArchiveOwner;

/// Events of one run.
const EVENTS_MAX: u64 = 100;
/// Tenants whose ledgers load at the same time.
const AT_ONCE: usize = 5;

/// Ships the events that wait; returns how many were shipped. Those whose change a ledger does not load, or that a month's
/// object does not take, stay, and come after others the next time.
///
/// # Errors
/// Where the directory fails.
pub(crate) async fn ship(app: &App, now: UnixMillis) -> Result<usize, Fault> {
    let rows = unshipped_events(&app.db()?, EVENTS_MAX).await?;
    ship_rows(app, rows, now).await
}

/// Ships the events of a tenant that wait, so that its list holds them.
///
/// # Errors
/// `LEDGER_UNAVAILABLE` where one cannot be shipped now; where the directory fails.
pub(crate) async fn ship_of(app: &App, tenant: TenantId, now: UnixMillis) -> Result<(), Fault> {
    let rows = unshipped_events_of(&app.db()?, tenant, EVENTS_MAX).await?;
    let waiting = rows.len();
    if waiting == 0 {
        return Ok(());
    }
    let shipped = ship_rows(app, rows, now).await?;
    let is_more = u64::try_from(waiting).is_ok_and(|rows| rows >= EVENTS_MAX);
    if shipped < waiting || is_more {
        let detail = "changes of the tenant are still being written to its events";
        return Err(Fault::new(ErrorCode::LedgerUnavailable, detail).after(1));
    }
    Ok(())
}

async fn ship_rows(app: &App, rows: Vec<UnshippedEvent>, now: UnixMillis) -> Result<usize, Fault> {
    let db = app.db()?;
    let mut months: BTreeMap<(String, Period), (ArchiveOwner, RecordsBatch)> = BTreeMap::new();
    let unloaded = load_changes(app, &db, &rows, now).await?;
    let is_held = |row: &UnshippedEvent| concerns_ledgers(row) && unloaded.iter().any(|tenant| holds_up(tenant, row));
    let (held, rows): (Vec<_>, Vec<_>) = rows.into_iter().partition(is_held);
    if !held.is_empty() {
        let ids: Vec<EventId> = held.iter().map(|row| row.event.id).collect();
        note_events(&db, &ids, None).await?;
    }
    for row in rows {
        let owner = ArchiveOwner { tenant: row.tenant, environment: row.environment };
        let key = (format!("{}:{}", row.tenant, row.environment.name()), Period::of(row.event.id.created_at()));
        months.entry(key).or_insert_with(|| (owner, RecordsBatch::default())).1.events.push(row.event.into());
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

fn concerns_ledgers(row: &UnshippedEvent) -> bool {
    row.event.kind.concerns_ledgers()
}

/// Whether a tenant must have loaded what has caused an event.
fn holds_up(tenant: &TenantToLoad, row: &UnshippedEvent) -> bool {
    match &tenant.lost {
        Some(lost) => *lost == row.event.subject,
        None => tenant.id == row.tenant,
    }
}

/// Makes ledgers load what has caused events; returns the tenants of those that did not. A tenant that is not in the
/// directory has nothing to load.
async fn load_changes(
    app: &App,
    db: &D1Database,
    rows: &[UnshippedEvent],
    now: UnixMillis,
) -> Result<Vec<TenantToLoad>, Fault> {
    let of: Vec<&UnshippedEvent> = rows.iter().filter(|row| concerns_ledgers(row)).collect();
    if of.is_empty() {
        return Ok(Vec::new());
    }
    let tenants = tenants_to_load(db, &of).await?;
    let load = |tenant: TenantToLoad| async move {
        let outcome = load_tenant(app, &tenant, now).await;
        if let Err(fault) = &outcome {
            event(TelemetryKind::EventsNotShipped, &[TelemetryField::Cause(fault)]);
        }
        outcome.is_err().then_some(tenant)
    };
    Ok(stream::iter(tenants).map(load).buffer_unordered(AT_ONCE).filter_map(core::future::ready).collect().await)
}

async fn load_tenant(app: &App, tenant: &TenantToLoad, now: UnixMillis) -> Result<(), Fault> {
    for environment in Environment::ALL {
        let message = LedgerMessage::Reload { version: tenant.version };
        let envelope = LedgerEnvelope::without_request(tenant.id, environment, app::request_id(now), message);
        if !call_ledger(app, &envelope, tenant.region.as_deref()).await?.is_done() {
            return Err(Fault::new(ErrorCode::LedgerUnavailable, "a ledger has not loaded its tenant"));
        }
    }
    Ok(())
}

/// Ships after an answer. What fails is shipped by the timed job.
pub(crate) async fn ship_or_log(app: Rc<App>, now: UnixMillis) {
    if let Err(fault) = ship(&app, now).await {
        event(TelemetryKind::EventsNotShipped, &[TelemetryField::Cause(&fault)]);
    }
}

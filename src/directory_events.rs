//! What follows changes of the directory: ledgers load them, and their events go to the objects of their months and to webhook
//! endpoints. It happens
//! after the answer to the request that made them, and again by a timed job where they failed. They are apart: records that
//! are away delay no ledger, and a ledger that is away holds up its tenant's events alone, and a
//! Courier that is away holds up webhooks alone: an event that is shipped and that a Courier has not taken is sent again to the
//! Couriers alone. A month's object and a Courier store an event once, so that one may be sent twice.

use crate::app;
use crate::app::App;
use crate::clients::courier::hand_over;
use crate::clients::ledger::call_ledger_within;
use crate::clients::records::RecordsClient;
use crate::d1::change::{
    ChangesOf, has_events_left, note_events, note_heard, note_loaded, tenants_to_load, unheard_events, unshipped_events,
};
use crate::d1::couriers::subscriptions;
use crate::d1::rows::{TenantToLoad, UnshippedEvent};
use crate::telemetry::{TelemetryField, TelemetryKind, event};
use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};
use std::collections::BTreeMap;
use std::rc::Rc;
use worker::D1Database;
use x402_chain::id::TenantId;
use x402_chain::network::Environment;
use x402_chain::time::{Period, UnixMillis};
use x402_core::error::{ErrorCode, Fault};
use x402_core::event::EventKind;
use x402_core::messages::courier::CourierItem;
use x402_core::messages::ledger::{LedgerEnvelope, LedgerMessage};
use x402_core::messages::records::RecordsBatch;
use x402_core::records::archive::ArchiveOwner;
use x402_core::records::events::EventCopy;

/// Events that are shipped by one query.
const EVENTS_MAX: u64 = 100;
/// Tenants with changes whose ledgers load by one query.
const TENANTS_MAX: u64 = 200;
/// Tenants whose ledgers load, and months that take events, at the same time.
const AT_ONCE: usize = 10;
/// How long a ledger may take to load a tenant.
const LOAD_MS: u64 = 3_000;
/// For how long loading and shipping each begin with more: a run ends before the next one, a minute later.
const RUN_MS: u64 = 20_000;

/// Makes ledgers load what they may not hold of changes, then ships events. Returns how many events
/// were shipped. What fails waits for the next run, and comes after others.
///
/// # Errors
/// Where the directory fails.
pub(crate) async fn carry_on(app: &App, of: ChangesOf, now: UnixMillis) -> Result<usize, Fault> {
    let loaded = load_changes(app, of, now).await;
    let heard = hear_again(app, of, now).await;
    let shipped = ship(app, of, now).await?;
    loaded.and(heard).map(|()| shipped)
}

/// Ships the events of a tenant that wait, so that its list holds them.
///
/// # Errors
/// `LEDGER_UNAVAILABLE` where one cannot be shipped now; where the directory fails.
pub(crate) async fn ship_of(app: &App, tenant: TenantId, now: UnixMillis) -> Result<(), Fault> {
    let db = app.db()?;
    if !has_events_left(&db, tenant).await? {
        return Ok(());
    }
    carry_on(app, ChangesOf::Tenant(tenant), now).await?;
    if has_events_left(&db, tenant).await? {
        let detail = "changes of the tenant are still being written to its events";
        return Err(Fault::new(ErrorCode::LedgerUnavailable, detail).after(1));
    }
    Ok(())
}

/// Whether a run that began then is to begin with more.
fn has_time(began: UnixMillis) -> bool {
    app::now().since(began) < RUN_MS
}

fn log(outcome: &Result<(), Fault>) {
    if let Err(fault) = outcome {
        event(TelemetryKind::EventsNotShipped, &[TelemetryField::Cause(fault)]);
    }
}

async fn load_changes(app: &App, of: ChangesOf, now: UnixMillis) -> Result<(), Fault> {
    let (db, began) = (&app.db()?, app::now());
    loop {
        let mut owners: Vec<Vec<TenantToLoad>> = Vec::new();
        for row in tenants_to_load(db, of, TENANTS_MAX).await? {
            match owners.iter_mut().find(|rows| rows.first().is_some_and(|first| first.owner == row.owner)) {
                Some(rows) => rows.push(row),
                None => owners.push(vec![row]),
            }
        }
        let is_all = u64::try_from(owners.len()).is_ok_and(|owners| owners < TENANTS_MAX);
        let load = |rows: Vec<TenantToLoad>| async move {
            if has_time(began) { load_owner(app, db, &rows, now).await } else { Ok(false) }
        };
        let done: Vec<Result<bool, Fault>> = stream::iter(owners).map(load).buffer_unordered(AT_ONCE).collect().await;
        let mut is_any = false;
        for outcome in done {
            is_any |= outcome?;
        }
        if is_all || !is_any || !has_time(began) {
            return Ok(());
        }
    }
}

/// Makes the ledgers load that one tenant's changes concern; whether all have.
async fn load_owner(app: &App, db: &D1Database, rows: &[TenantToLoad], now: UnixMillis) -> Result<bool, Fault> {
    let Some(TenantToLoad { owner, last, .. }) = rows.first() else { return Ok(true) };
    let calls = rows.iter().filter_map(|row| Some((row.id?, row.version?, row.region.as_deref())));
    let calls = calls.flat_map(|of| Environment::ALL.map(|environment| load(app, of, environment, now)));
    let outcomes = join_all(calls).await;
    outcomes.iter().for_each(log);
    let is_loaded = outcomes.iter().all(Result::is_ok);
    note_loaded(db, (*owner, *last), is_loaded.then_some(now)).await?;
    Ok(is_loaded)
}

async fn load(
    app: &App,
    (tenant, version, region): (TenantId, u64, Option<&str>),
    environment: Environment,
    now: UnixMillis,
) -> Result<(), Fault> {
    let message = LedgerMessage::Reload { version };
    let envelope = LedgerEnvelope::without_request(tenant, environment, app::request_id(now), message);
    if call_ledger_within(app, &envelope, region, LOAD_MS).await?.is_done() {
        return Ok(());
    }
    Err(Fault::new(ErrorCode::LedgerUnavailable, "a ledger has not loaded its tenant"))
}

/// Ships events whose changes ledgers hold; returns how many.
async fn ship(app: &App, of: ChangesOf, now: UnixMillis) -> Result<usize, Fault> {
    let (db, began) = (&app.db()?, app::now());
    let mut shipped = 0_usize;
    loop {
        let rows = unshipped_events(db, of, EVENTS_MAX).await?;
        let is_all = u64::try_from(rows.len()).is_ok_and(|rows| rows < EVENTS_MAX);
        let ship = |((_, month, _), (owner, batch)): (Month, (ArchiveOwner, RecordsBatch))| async move {
            if has_time(began) { ship_month(app, db, (owner, month, batch), now).await } else { Ok(0) }
        };
        let months = stream::iter(by_month(db, rows).await?).map(ship).buffer_unordered(AT_ONCE);
        let mut of_these = 0_usize;
        for outcome in months.collect::<Vec<Result<usize, Fault>>>().await {
            of_these = of_these.saturating_add(outcome?);
        }
        shipped = shipped.saturating_add(of_these);
        if is_all || of_these == 0 || !has_time(began) {
            return Ok(shipped);
        }
    }
}

/// Whose records, of which month, and whether this build knows the events' kinds: an object of another build may refuse
/// those, and takes the others.
type Month = (String, Period, bool);

/// Events by their months. Those that cannot be read are noted as tried, and wait.
async fn by_month(
    db: &D1Database,
    rows: Vec<UnshippedEvent>,
) -> Result<BTreeMap<Month, (ArchiveOwner, RecordsBatch)>, Fault> {
    let mut months: BTreeMap<Month, (ArchiveOwner, RecordsBatch)> = BTreeMap::new();
    let mut unread = Vec::new();
    for UnshippedEvent { id, event } in rows {
        match event {
            Ok((owner, event)) => {
                let is_known = EventKind::parse(&event.kind).is_some();
                let name = format!("{}:{}", owner.tenant, owner.environment.name());
                let month = (name, Period::of(event.id.created_at()), is_known);
                months.entry(month).or_insert_with(|| (owner, RecordsBatch::default())).1.events.push(event);
            }
            Err(fault) => {
                log(&Err(fault));
                unread.push(id);
            }
        }
    }
    if !unread.is_empty() {
        note_events(db, &unread, (None, None)).await?;
    }
    Ok(months)
}

/// Ships events to the object of their month; returns how many.
async fn ship_month(
    app: &App,
    db: &D1Database,
    (owner, month, batch): (ArchiveOwner, Period, RecordsBatch),
    now: UnixMillis,
) -> Result<usize, Fault> {
    let (ids, events) = (ids_of(&batch.events), batch.events.clone());
    let taken = RecordsClient { namespace: app.records()?, owner }.take(month, batch).await;
    log(&taken);
    if taken.is_err() {
        note_events(db, &ids, (None, None)).await?;
        return Ok(0);
    }
    let heard = hand_to_couriers(app, db, owner, &events).await;
    log(&heard);
    note_events(db, &ids, (Some(now), heard.is_ok().then_some(now))).await?;
    Ok(ids.len())
}

fn ids_of(events: &[EventCopy]) -> Vec<String> {
    events.iter().map(|event| event.id.to_string()).collect()
}

/// Hands events to the Couriers of the endpoints that get them: not those of before an endpoint was made, or of when it was
/// disabled. One that is disabled by now gets what has happened before.
async fn hand_to_couriers(app: &App, db: &D1Database, owner: ArchiveOwner, events: &[EventCopy]) -> Result<(), Fault> {
    let (couriers, subscriptions) = (app.couriers()?, subscriptions(db, &owner).await?);
    let calls = subscriptions.iter().filter_map(|one| {
        let wanted = events.iter().filter(|event| one.hears(event.id, &event.kind));
        let items: Vec<CourierItem> = wanted.cloned().map(CourierItem::from).collect();
        (!items.is_empty()).then(|| hand_over(&couriers, one.id, items))
    });
    join_all(calls).await.into_iter().collect()
}

/// Hands shipped events to Couriers that may not have them.
async fn hear_again(app: &App, of: ChangesOf, now: UnixMillis) -> Result<(), Fault> {
    let db = &app.db()?;
    let rows = unheard_events(db, of, EVENTS_MAX).await?;
    if rows.is_empty() {
        return Ok(());
    }
    let mut owners: BTreeMap<String, (ArchiveOwner, Vec<EventCopy>)> = BTreeMap::new();
    let mut unread = Vec::new();
    for UnshippedEvent { id, event } in rows {
        match event {
            Ok((owner, event)) => {
                let name = format!("{}:{}", owner.tenant, owner.environment.name());
                owners.entry(name).or_insert_with(|| (owner, Vec::new())).1.push(event);
            }
            Err(_) => unread.push(id),
        }
    }
    let hear = |(owner, events): (ArchiveOwner, Vec<EventCopy>)| async move {
        let heard = hand_to_couriers(app, db, owner, &events).await;
        log(&heard);
        note_heard(db, &ids_of(&events), heard.is_ok().then_some(now)).await
    };
    let noted = stream::iter(owners.into_values()).map(hear).buffer_unordered(AT_ONCE).collect::<Vec<_>>().await;
    if !unread.is_empty() {
        note_heard(db, &unread, None).await?;
    }
    noted.into_iter().collect()
}

/// Carries on with the changes of one request, after its answer. What fails is done by the timed job.
pub(crate) async fn carry_on_or_log(app: Rc<App>, of: UnixMillis) {
    log(&carry_on(&app, ChangesOf::Time(of), of).await.map(|_| ()));
}

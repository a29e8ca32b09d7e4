//! What the timed job does about tenants that are being deleted: it makes their ledgers load that the keys are dead, where
//! the request that said so has not, and erases personal data once a deletion is due. Each step may be repeated: a Worker
//! that is killed between two leaves the rest to the next run. It also erases what is left of webhook endpoints that were removed.

use crate::alerts::operators;
use crate::app;
use crate::app::App;
use crate::archive;
use crate::billing;
use crate::clients;
use crate::clients::courier::call_courier;
use crate::clients::records::RecordsClient;
use crate::d1;
use crate::d1::change::{Actor, Change};
use crate::d1::deletions;
use crate::d1::deletions::rows::DueDeletion;
use crate::d1::endpoints;
use crate::telemetry::{TelemetryField, TelemetryKind, event};
use futures_util::stream::{self, StreamExt};
use x402_chain::id::{AuditId, EndpointId, TenantId};
use x402_chain::network::Environment;
use x402_chain::time::{Period, UnixMillis};
use x402_core::audit::AuditAction;
use x402_core::error::{ErrorCode, Fault};
use x402_core::messages::courier::{CourierMessage, CourierReply};
use x402_core::messages::ledger::{LedgerEnvelope, LedgerMessage, LedgerReply};
use x402_core::records::archive::ArchiveOwner;

/// Tenants of one run.
const TENANTS_MAX: u64 = 10;
/// Turns of each kind for one tenant in a run: batches of the directory, messages to a ledger, lists of the archive. What is
/// left waits for the next run, a minute later.
const TURNS_MAX: usize = 20;
/// Removed endpoints of one run, and how many at the same time: with the deadline of a call a run ends within a minute.
const ENDPOINTS_MAX: u64 = 50;
/// How long an erasure may take until operators get a message, and how many it names at once.
const LATE_MS: u64 = 6 * 60 * 60_000;
const LATE_MAX: u64 = 50;
const AT_ONCE: usize = 5;

/// Goes on with deletions that are open; returns about how many something was done. A tenant that fails keeps no other
/// waiting: it is tried again, after the others.
///
/// # Errors
/// Where the directory fails.
pub(crate) async fn go_on(app: &App, now: UnixMillis) -> Result<usize, Fault> {
    let mut done = 0_usize;
    for open in deletions::open_deletions(&app.db()?, now, TENANTS_MAX).await? {
        match go_on_with(app, &open, now).await {
            Ok(()) => done = done.saturating_add(1),
            Err(fault) => event(TelemetryKind::DeletionFailed, &[TelemetryField::Cause(&fault)]),
        }
    }
    Ok(done)
}

async fn go_on_with(app: &App, open: &DueDeletion, now: UnixMillis) -> Result<(), Fault> {
    let (db, tenant) = (app.db()?, open.tenant);
    let erases = open.deletion.is_to_erase(now) && deletions::begin_erasure(&db, tenant, now).await?;
    let outside = close_and_erase(app, tenant, erases, now).await;
    // Whatever that has failed in keeps nothing in the directory.
    for _ in 0..if erases { TURNS_MAX } else { 0 } {
        if !deletions::erase_some(&db, tenant).await? {
            break;
        }
    }
    if outside? && erases {
        deletions::end_erasure(&db, &erased(tenant, now)?).await?;
    }
    Ok(())
}

/// Makes the ledgers load that the keys are dead; then, where that is due, erases what is not in the directory. Returns
/// whether nothing of it is left.
async fn close_and_erase(app: &App, tenant: TenantId, erases: bool, now: UnixMillis) -> Result<bool, Fault> {
    // The ledgers have a copy of the tenant's name.
    reload_ledgers(app, tenant, now).await?;
    deletions::note_closed(&app.db()?, tenant, now).await?;
    if !erases {
        return Ok(true);
    }
    for environment in Environment::ALL {
        // The ledger first: what it ships until then, the months hold.
        if !erase_ledger(app, tenant, environment, now).await?
            || !erase_records(app, ArchiveOwner { tenant, environment }, now).await?
        {
            return Ok(false);
        }
    }
    // After the ledgers, which ship to the endpoints that they know.
    for endpoint in endpoints::list_endpoints(&app.db()?, tenant).await? {
        if !erase_courier(app, endpoint.id).await? {
            return Ok(false);
        }
    }
    endpoints::erase_endpoints(&app.db()?, tenant).await?;
    // Last: where Stripe is away, or its key, nothing else waits for it.
    billing::erase(app, tenant).await
}

/// Tells operators of tenants whose erasure began some hours ago and is not done, as where Stripe's key is missing and a customer
/// cannot be deleted; returns how many.
///
/// # Errors
/// Where the directory fails.
pub(crate) async fn tell_late(app: &App, now: UnixMillis) -> Result<usize, Fault> {
    let before = UnixMillis(now.0.saturating_sub(LATE_MS));
    let late = deletions::late_deletions(&app.db()?, before, LATE_MAX).await?;
    if !late.is_empty() {
        let names: Vec<String> = late.iter().map(|one| one.tenant.to_string()).collect();
        let text = format!(
            "Deletions that are due are not done: {}. The log says why (deletion_failed). A plan that was paid goes on to be \
             charged until the customer is deleted at Stripe, which takes the key of the account that made it.",
            names.join(", ")
        );
        operators::tell(app, &text, now).await?;
    }
    Ok(late.len())
}

/// Has the Couriers of removed endpoints delete what they hold, where the request that removed them has not; returns of how many
/// nothing is left. One that is away keeps no other waiting.
///
/// # Errors
/// Where the directory fails.
pub(crate) async fn erase_removed(app: &App, now: UnixMillis) -> Result<usize, Fault> {
    let db = &app.db()?;
    let erase = |id: EndpointId| async move {
        let erased = erase_courier(app, id).await.unwrap_or_else(|fault| {
            event(TelemetryKind::CourierFailed, &[TelemetryField::Cause(&fault)]);
            false
        });
        if !erased {
            endpoints::note_tried(db, id, now).await?;
        }
        Ok::<bool, Fault>(erased)
    };
    let removed = endpoints::removed_endpoints(db, ENDPOINTS_MAX).await?;
    let done: Vec<Result<bool, Fault>> = stream::iter(removed).map(erase).buffer_unordered(AT_ONCE).collect().await;
    Ok(done.into_iter().filter(|outcome| matches!(outcome, Ok(true))).count())
}

/// Has the Courier of an endpoint that is removed, or is to be, delete what it holds; whether it has. One at work does not.
///
/// # Errors
/// Where it is not reached, or the directory fails.
pub(crate) async fn erase_courier(app: &App, id: EndpointId) -> Result<bool, Fault> {
    if call_courier(&app.couriers()?, id, CourierMessage::Erase).await? != CourierReply::Erased {
        return Ok(false);
    }
    endpoints::note_erased(&app.db()?, id).await?;
    Ok(true)
}

/// Puts hashes in the place of references in a ledger, and deletes its records; returns whether nothing is left.
async fn erase_ledger(app: &App, tenant: TenantId, environment: Environment, now: UnixMillis) -> Result<bool, Fault> {
    for _ in 0..TURNS_MAX {
        let envelope = LedgerEnvelope::without_request(tenant, environment, app::request_id(now), LedgerMessage::Erase);
        let response = clients::ledger::call_ledger(app, &envelope, None).await?;
        if response.is_done() {
            return Ok(true);
        }
        if *response.reply() != LedgerReply::Erasing {
            return Err(Fault::new(ErrorCode::LedgerUnavailable, "a ledger has erased nothing").after(1));
        }
    }
    Ok(false)
}

/// Deletes the records of all months, then their archive; returns whether nothing is left.
async fn erase_records(app: &App, owner: ArchiveOwner, now: UnixMillis) -> Result<bool, Fault> {
    let client = RecordsClient { namespace: app.records()?, owner };
    let (mut month, first) = (Period::of(now), Period::of(owner.tenant.created_at()));
    loop {
        client.erase(month).await?;
        if month <= first {
            break;
        }
        month = month.previous();
    }
    for _ in 0..TURNS_MAX {
        if archive::erase(&app.archive()?, &owner).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn reload_ledgers(app: &App, tenant: TenantId, now: UnixMillis) -> Result<(), Fault> {
    let (_, version) = d1::read_tenant(&app.db()?, tenant).await?;
    for environment in Environment::ALL {
        let message = LedgerMessage::Reload { version };
        let envelope = LedgerEnvelope::without_request(tenant, environment, app::request_id(now), message);
        if !clients::ledger::call_ledger(app, &envelope, None).await?.is_done() {
            return Err(Fault::new(ErrorCode::LedgerUnavailable, "a ledger has not loaded its tenant").after(1));
        }
    }
    Ok(())
}

/// What is recorded of the end.
fn erased(tenant: TenantId, now: UnixMillis) -> Result<Change, Fault> {
    Ok(Change {
        id: AuditId::new(now, app::random()?),
        tenant,
        environment: None,
        actor: Actor::System,
        action: AuditAction::DeletionDone,
        subject: tenant.to_string(),
        detail: None,
        ip_prefix: "erased".to_owned(),
        user_agent: None,
        at: now,
    })
}

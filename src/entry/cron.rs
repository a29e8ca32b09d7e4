//! Timed jobs, each bounded and repeatable without harm: closing periods, checking the registry, queueing lost mails,
//! shipping events of the directory, deleting tenants and what is left of webhook endpoints, alerts, billing.

use crate::alerts;
use crate::app;
use crate::app::App;
use crate::billing;
use crate::clients;
use crate::d1;
use crate::d1::change::ChangesOf;
use crate::directory_events;
use crate::erasure;
use crate::mail;
use crate::metering;
use crate::reporting;
use crate::rpc::registry;
use crate::telemetry::{TelemetryField, TelemetryKind, event};
use futures_util::future::{join, join5};
use futures_util::stream::{self, StreamExt};
use worker::Env;
use x402_chain::network::NETWORKS;
use x402_chain::time::{Period, UnixMillis};
use x402_core::error::Fault;
use x402_core::messages::ledger::{LedgerEnvelope, LedgerMessage, LedgerReply};

/// On the first of the month, last month's usage is closed in the directory.
const CLOSE_PERIOD: &str = "0 0 1 * *";
/// Every night, the registry is compared with the chains, and old sessions and mails are deleted.
const CHECK_REGISTRY: &str = "17 3 * * *";
/// Every minute, what was lost after an answer is done again: mails are queued, events of the directory shipped. Tenants
/// whose deletion is due are erased, and what removed webhook endpoints have left; alerts are sent.
const MINUTELY: &str = "* * * * *";
/// Every five minutes, what operators are alerted to is checked.
const CHECK_SERVICE: &str = "*/5 * * * *";

/// Ledgers closed in one run: a subrequest or two each, of the platform's 10,000. Those left are closed by the nightly
/// run.
const CLOSED_MAX: u64 = 2_000;
/// Ledgers that are called at the same time.
const AT_ONCE: usize = 5;

/// Runs what a cron trigger names.
pub(crate) async fn run_trigger(cron: &str, env: Env) {
    let app = App::new(env, "");
    let outcome = match &app {
        Ok(app) => run_job(cron, app).await,
        Err(fault) => Err(fault.clone()),
    };
    match outcome {
        Ok(0) if cron == MINUTELY || cron == CHECK_SERVICE => {}
        Ok(done) => event(TelemetryKind::CronDone, &[TelemetryField::Cron(cron), TelemetryField::Done(done)]),
        Err(fault) => event(TelemetryKind::CronFailed, &[TelemetryField::Cron(cron), TelemetryField::Cause(&fault)]),
    }
    let Ok(app) = app else { return };
    if let Some(work) = metering::send_due(app.env(), app::now()) {
        work.await;
    }
    if let Some(work) = reporting::send_due(app.env()) {
        work.await;
    }
}

async fn run_job(cron: &str, app: &App) -> Result<usize, Fault> {
    let now = app::now();
    match cron {
        CLOSE_PERIOD => close_periods(app, now).await,
        CHECK_REGISTRY => {
            let networks: Vec<_> = NETWORKS.iter().filter(|network| !network.local).collect();
            let checked = registry::run_registry_check(&app.settings, &app.db()?, &networks, now).await?.len();
            d1::people::purge(&app.db()?, now).await?;
            d1::proofs::purge_challenges(&app.db()?, now).await?;
            d1::alerts::purge(&app.db()?, now).await?;
            d1::operation::purge(&app.db()?, now).await?;
            // What is bounded first: a run that reads many customers may be cut short.
            let (closed, late) = (close_periods(app, now).await, erasure::tell_late(app, now).await);
            let compared = billing::books::reconcile(app, now).await;
            let done = [closed?, late?, compared?];
            Ok(done.into_iter().fold(checked, usize::saturating_add))
        }
        MINUTELY => {
            // No one of them waits for another, or fails with it.
            let shipping = directory_events::carry_on(app, ChangesOf::All, now);
            let (queueing, alerting) = (mail::queue_again(app, now), alerts::go_on(app, now));
            let (erasing, removing) = (erasure::go_on(app, now), erasure::erase_removed(app, now));
            let others = join(alerting, billing::due::go_on(app, now));
            let (shipped, queued, deleted, removed, (alerted, billed)) =
                join5(shipping, queueing, erasing, removing, others).await;
            let done = [shipped?, queued?, deleted?, removed?, alerted?, billed?];
            Ok(done.into_iter().fold(0, usize::saturating_add))
        }
        CHECK_SERVICE => alerts::operators::check(app, now).await,
        other => Err(Fault::internal(format!("the cron trigger '{other}' has no job"))),
    }
}

/// Closes every period that is over: its ledger ships its rows first. The ledger's own period changes without this.
async fn close_periods(app: &App, now: UnixMillis) -> Result<usize, Fault> {
    let db = app.db()?;
    let current = Period::of(now).to_string();
    let open = d1::open_periods(&db, &current, CLOSED_MAX).await?;
    let db = &db;
    let close = |open: d1::rows::OpenPeriod| async move {
        let request_id = app::request_id(now);
        let envelope = LedgerEnvelope::without_request(open.tenant, open.environment, request_id, LedgerMessage::Flush);
        let response = clients::ledger::call_ledger(app, &envelope, None).await?;
        // A deleted tenant has nothing to ship.
        if matches!(response.reply(), LedgerReply::Done | LedgerReply::NoTenant) {
            d1::close_period(db, &open, now).await?;
        }
        Ok::<bool, Fault>(response.is_done())
    };
    let closed: Vec<Result<bool, Fault>> = stream::iter(open).map(close).buffer_unordered(AT_ONCE).collect().await;
    Ok(closed.into_iter().filter(|outcome| matches!(outcome, Ok(true))).count())
}

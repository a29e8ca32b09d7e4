//! Alerts. Events that are alerts wait in the directory; the timed job of each minute makes notices of them, with mails to
//! owners and a message to the tenant's Slack-compatible URL. [`operators`] are sent notices by checks of their own. Tenants
//! take turns: none with many alerts, or with a URL that hangs, holds up others for longer than a turn.

pub(crate) mod faults;
pub(crate) mod operators;
pub(crate) mod slack;

use crate::app;
use crate::app::App;
use crate::d1::alerts::rows::{ExpiringKey, WaitingRow};
use crate::d1::alerts::{self, NewNotice, PostLine};
use crate::mail;
use crate::telemetry::{TelemetryField, TelemetryKind, event};
use futures_util::future::join;
use futures_util::stream::{self, StreamExt};
use worker::D1Database;
use x402_chain::id::{AuditId, MailId, NoticeId, TenantId};
use x402_chain::time::UnixMillis;
use x402_core::alert::{AlertRow, key_ends_days, notice_text};
use x402_core::error::Fault;

/// Notices that one run makes at most: six requests of the platform's 10,000 each, and one for each mail.
const NOTICES_MAX: u64 = 300;
/// Keys of which one run raises that they end soon.
const KEYS_MAX: u64 = 200;
/// Notices that are made, or keys that are raised, at the same time.
const AT_ONCE: usize = 5;
/// For how long a run begins with more of either: with the messages' own time it ends before the next one.
const RUN_MS: u64 = 10_000;

/// Sends what operators and tenants are alerted to; returns how many keys, notices and messages that were. Operators' messages
/// wait for nothing of tenants. Of one tenant's fault the others feel nothing: it is logged, and the next run tries again.
///
/// # Errors
/// Where the directory fails; the rest is done all the same.
pub(crate) async fn go_on(app: &App, now: UnixMillis) -> Result<usize, Fault> {
    let db = app.db()?;
    let of_operators = slack::post_due(app, &db, PostLine::Operators, now);
    let (of_operators, of_tenants) = join(of_operators, go_on_with_tenants(app, &db, now)).await;
    Ok(of_operators?.saturating_add(of_tenants?))
}

async fn go_on_with_tenants(app: &App, db: &D1Database, now: UnixMillis) -> Result<usize, Fault> {
    let raised = raise_expiring_keys(db, now).await;
    let made = make_notices(app, db, now).await;
    let (quick, slow) =
        join(slack::post_due(app, db, PostLine::Quick, now), slack::post_due(app, db, PostLine::Slow, now)).await;
    let done = [raised, made, quick, slow].into_iter().collect::<Result<Vec<usize>, Fault>>()?;
    Ok(done.into_iter().fold(0, usize::saturating_add))
}

/// Whether a run that began then is to begin with more.
fn has_time(began: UnixMillis) -> bool {
    app::now().since(began) < RUN_MS
}

/// Whether something was done; a fault is logged.
fn is_done(outcome: Result<bool, Fault>) -> bool {
    outcome.unwrap_or_else(|fault| {
        event(TelemetryKind::AlertFailed, &[TelemetryField::Cause(&fault)]);
        false
    })
}

/// Makes notices of alerts that are due, side by side; returns how many.
async fn make_notices(app: &App, db: &D1Database, now: UnixMillis) -> Result<usize, Fault> {
    let began = app::now();
    let make = |row: WaitingRow| async move {
        // Of a kind of another build nothing is known.
        let Some((kind, _)) = row.waiting.filter(|(_, waiting)| waiting.is_due(now)) else { return false };
        has_time(began) && is_done(make_notice(app, db, (row.tenant, kind), now).await)
    };
    let rows = alerts::waiting(db, now, NOTICES_MAX).await?;
    let made: Vec<bool> = stream::iter(rows).map(make).buffer_unordered(AT_ONCE).collect().await;
    Ok(made.into_iter().filter(|is_made| *is_made).count())
}

/// Makes a notice of all alerts of a tenant and kind that wait; `false` where none does.
async fn make_notice(
    app: &App,
    db: &D1Database,
    (tenant, kind): (TenantId, &AlertRow),
    now: UnixMillis,
) -> Result<bool, Fault> {
    let settings = alerts::read_settings(db, tenant).await?;
    let recipients = match settings.mails && app.settings.mail().is_some() {
        true => alerts::recipients(db, tenant).await?,
        false => Vec::new(),
    };
    let Some((count, listed)) = alerts::alerts_of(db, tenant, kind).await? else { return Ok(false) };
    let mails = mails_to(recipients.into_iter().map(|recipient| recipient.email), now)?;
    let listed: Vec<(String, String)> = listed.into_iter().map(|alert| alert.text).collect();
    let new = NewNotice {
        id: NoticeId::new(now, app::random()?),
        text: &notice_text(kind, &listed, count.number),
        at: now,
        is_posted: settings.sealed_url.is_some(),
        mails: &mails,
        origin: &app.origin,
    };
    alerts::put_notice(db, (tenant, kind), &count, &new).await?;
    queue(app, &mails).await;
    Ok(true)
}

/// Mails to addresses.
pub(crate) fn mails_to(
    addresses: impl Iterator<Item = String>,
    now: UnixMillis,
) -> Result<Vec<(MailId, String)>, Fault> {
    addresses.map(|address| Ok((MailId::new(now, app::random()?), address))).collect()
}

/// Queues mails that were written.
pub(crate) async fn queue(app: &App, mails: &[(MailId, String)]) {
    mail::queue_all(app, mails.iter().map(|(mail, _)| *mail)).await;
}

/// Raises for each key that ends within seven days, or within one, that it does, those of all tenants in turn; returns how
/// many.
async fn raise_expiring_keys(db: &D1Database, now: UnixMillis) -> Result<usize, Fault> {
    let began = app::now();
    let raise = |key: ExpiringKey| async move { has_time(began) && is_done(raise_expiring(db, &key, now).await) };
    let keys = alerts::expiring_keys(db, KEYS_MAX, now).await?;
    let raised: Vec<bool> = stream::iter(keys).map(raise).buffer_unordered(AT_ONCE).collect().await;
    Ok(raised.into_iter().filter(|is_raised| *is_raised).count())
}

async fn raise_expiring(db: &D1Database, key: &ExpiringKey, now: UnixMillis) -> Result<bool, Fault> {
    let id = AuditId::new(now, app::random()?);
    alerts::raise_expiring(db, key, (id, key_ends_days(key.expires_at, now)), now).await
}

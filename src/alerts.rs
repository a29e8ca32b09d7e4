//! Alerts. Events that are alerts wait in the directory; the timed job of each minute makes notices of them, with mails to
//! owners and a message to the tenant's Slack-compatible URL. [`operators`] are sent notices by checks of their own.

pub(crate) mod faults;
pub(crate) mod operators;
pub(crate) mod slack;

use crate::app;
use crate::app::App;
use crate::d1::alerts::{self, NewNotice};
use crate::mail;
use crate::telemetry::{TelemetryField, TelemetryKind, event};
use worker::D1Database;
use x402_chain::id::{AuditId, EventId, MailId, NoticeId, TenantId};
use x402_chain::time::UnixMillis;
use x402_core::alert::{AlertRow, KEY_ENDS_DAYS, notice_text};
use x402_core::error::Fault;

/// Notices that one run makes.
const NOTICES_MAX: usize = 50;
/// Keys of which one run raises that they end soon.
const KEYS_MAX: u64 = 500;

/// Makes notices of alerts that are due, then posts messages; returns how many of both. Of one tenant's fault the others
/// feel nothing: it is logged, and the next run tries again.
///
/// # Errors
/// Where the directory fails.
pub(crate) async fn go_on(app: &App, now: UnixMillis) -> Result<usize, Fault> {
    let db = app.db()?;
    let rows = alerts::waiting(&db, now).await?;
    let due =
        rows.iter().filter_map(|row| row.waiting.filter(|(_, waiting)| waiting.is_due(now)).map(|due| (row, due)));
    let mut made = 0_usize;
    for (row, (kind, _)) in due.take(NOTICES_MAX) {
        match make_notice(app, &db, (row.tenant, kind), now).await {
            Ok(()) => made = made.saturating_add(1),
            Err(fault) => event(TelemetryKind::AlertFailed, &[TelemetryField::Cause(&fault)]),
        }
    }
    Ok(slack::post_due(app, &db, now).await?.saturating_add(made))
}

/// Makes a notice of a tenant's alerts of one kind.
async fn make_notice(
    app: &App,
    db: &D1Database,
    (tenant, kind): (TenantId, &AlertRow),
    now: UnixMillis,
) -> Result<(), Fault> {
    let settings = alerts::read_settings(db, tenant).await?;
    let recipients = match settings.mails && app.settings.mail().is_some() {
        true => alerts::recipients(db, tenant).await?,
        false => Vec::new(),
    };
    let waiting = alerts::alerts_of(db, tenant, kind).await?;
    let mails = mails_to(recipients.into_iter().map(|recipient| recipient.email), now)?;
    let (ids, texts): (Vec<EventId>, Vec<(String, String)>) =
        waiting.into_iter().map(|alert| (alert.id, alert.text)).unzip();
    let new = NewNotice {
        id: NoticeId::new(now, app::random()?),
        text: &notice_text(kind, &texts),
        at: now,
        is_posted: settings.sealed_url.is_some(),
        mails: &mails,
        origin: &app.origin,
    };
    alerts::put_notice(db, (tenant, kind), &ids, &new).await?;
    queue(app, &mails).await;
    Ok(())
}

/// Mails to addresses.
pub(crate) fn mails_to(
    addresses: impl Iterator<Item = String>,
    now: UnixMillis,
) -> Result<Vec<(MailId, String)>, Fault> {
    addresses.map(|address| Ok((MailId::new(now, app::random()?), address))).collect()
}

/// Queues mails that were written. What is lost is queued within two minutes.
pub(crate) async fn queue(app: &App, mails: &[(MailId, String)]) {
    for (mail, _) in mails {
        if let Err(fault) = mail::queue(app, *mail).await {
            event(TelemetryKind::MailNotQueued, &[TelemetryField::Cause(&fault)]);
        }
    }
}

/// Raises for each key that ends within seven days, or within one, that it does; returns how many.
///
/// # Errors
/// Where the directory fails.
pub(crate) async fn raise_expiring_keys(app: &App, now: UnixMillis) -> Result<usize, Fault> {
    let db = app.db()?;
    let mut raised = 0_usize;
    for days in KEY_ENDS_DAYS {
        for key in alerts::expiring_keys(&db, days, KEYS_MAX, now).await? {
            let id = AuditId::new(now, app::random()?);
            raised = raised.saturating_add(alerts::raise_expiring(&db, &key, (id, days), now).await?.into());
        }
    }
    Ok(raised)
}

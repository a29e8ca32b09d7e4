//! Mails. A request writes a mail's row and queues its id; the queue's consumer makes its text and sends it. A message that
//! comes twice, or a mail that is queued twice, is sent once: a try reserves the row for a while, and the row says that the
//! mail was sent. A try whose Worker was killed is repeated when that time is over ([`queue_again`]).

mod cloudflare;
mod resend;

use crate::app::App;
use crate::d1::alerts;
use crate::d1::deletions;
use crate::d1::people::rows::MailKind;
use crate::d1::people::{self, MailEnd, identities, members};
use crate::d1::settings::read_appearance;
use crate::telemetry::{TelemetryField, TelemetryKind, event};
use futures_util::stream::{self, StreamExt};
use std::rc::Rc;
use wasm_bindgen::JsValue;
use worker::{D1Database, QueueContentType, RawMessageBuilder};
use x402_chain::id::MailId;
use x402_chain::time::UnixMillis;
use x402_core::error::{ErrorCode, Fault};
use x402_core::people::deletion;
use x402_core::people::delivery;
use x402_core::people::invitation::{find_token, shown_inviter};
use x402_core::people::mail::{
    MailText, TenantInMail, alert_mail, deletion_mail, invitation_mail, linked_mail, sign_in_mail,
};
use x402_core::people::sign_in::SignInSecrets;
use x402_core::settings::mail::MailBackend;

/// A mail that waits so long was lost between the directory and the queue, or its Worker was killed.
const LOST_MS: u64 = 60_000;
/// Mails that one run of the timed job queues again.
const AGAIN_MAX: u64 = 100;
/// Mails that are queued at the same time: the platform opens six connections.
const AT_ONCE: usize = 5;

/// Queues a mail.
///
/// # Errors
/// `MISCONFIGURED` without the binding; `INTERNAL` where the queue does not take it.
pub(crate) async fn queue(app: &App, mail: MailId) -> Result<(), Fault> {
    let message = RawMessageBuilder::new(JsValue::from_str(&mail.to_string()));
    let message = message.build_with_content_type(QueueContentType::Text);
    app.mails()?.send_raw(message).await.map_err(Fault::internal)
}

/// Queues a mail. If the queue does not take it, [`queue_again`] tries it again.
pub(crate) async fn queue_or_log(app: Rc<App>, mail: MailId) {
    if let Err(fault) = queue(&app, mail).await {
        event(TelemetryKind::MailNotQueued, &[TelemetryField::Cause(&fault)]);
    }
}

/// Queues mails, side by side; returns how many the queue has taken. Those that it does not take keep no others waiting:
/// [`queue_again`] tries them again.
pub(crate) async fn queue_all(app: &App, mails: impl Iterator<Item = MailId>) -> usize {
    let queue = |mail: MailId| async move {
        let queued = queue(app, mail).await;
        if let Err(fault) = &queued {
            event(TelemetryKind::MailNotQueued, &[TelemetryField::Cause(fault)]);
        }
        queued.is_ok()
    };
    let queued: Vec<bool> = stream::iter(mails).map(queue).buffer_unordered(AT_ONCE).collect().await;
    queued.into_iter().filter(|is_queued| *is_queued).count()
}

/// Queues mails again that were lost, each after the others that wait; returns how many.
///
/// # Errors
/// Where the directory fails.
pub(crate) async fn queue_again(app: &App, now: UnixMillis) -> Result<usize, Fault> {
    if app.settings.mail().is_none() {
        return Ok(0);
    }
    let before = UnixMillis(now.0.saturating_sub(LOST_MS));
    let lost = people::lost_mails(&app.db()?, (before, now), AGAIN_MAX).await?;
    Ok(queue_all(app, lost.into_iter()).await)
}

/// What the provider did with a mail.
enum Delivery {
    /// It has accepted it; with its id of it, if it gave one.
    Accepted(Option<String>),
    /// It sends none to the address, which has bounced or complained before.
    Suppressed,
}

/// What is left to do about a message of the queue.
pub(crate) enum MailStep {
    /// Nothing.
    Done,
    /// The mail is tried again after so many milliseconds.
    Again(u64),
}

/// Tries the mail that a message of the queue names, unless it was sent, or another try is under way or to come.
///
/// # Errors
/// Where the directory fails.
pub(crate) async fn send(app: &App, message: &str, now: UnixMillis) -> Result<MailStep, Fault> {
    let Some(mail) = MailId::parse(message) else {
        return Err(Fault::internal("a message of the queue names no mail"));
    };
    let db = app.db()?;
    let until = UnixMillis(now.0.saturating_add(reserved_ms(app)));
    let Some(claimed) = people::claim_mail(&db, mail, until, now).await? else { return Ok(MailStep::Done) };
    if claimed.is_marked {
        return end(&db, mail, MailEnd::Suppressed, now).await;
    }
    let made = match claimed.kind {
        _ if delivery::is_too_late(claimed.created_at, now) => None,
        MailKind::SignIn => sign_in(app, &db, mail, now).await?,
        MailKind::Invitation => invitation(app, &db, mail, now).await?,
        MailKind::Deletion => deletion(app, &db, mail, now).await?,
        MailKind::Identity => identities::read_mail(&db, mail)
            .await?
            .map(|row| (row.address.clone(), linked_mail(&row.account(), &row.origin))),
        MailKind::Alert => alerts::read_mail(&db, mail)
            .await?
            .map(|row| (row.address, alert_mail(row.title, &row.text, row.of, &row.origin))),
    };
    let Some((address, text)) = made else { return end(&db, mail, MailEnd::Failed, now).await };
    let fault = match deliver(app, (&db, mail), &address, &text, now).await {
        Ok(Delivery::Accepted(id)) => return end(&db, mail, MailEnd::Sent(id.as_deref()), now).await,
        Ok(Delivery::Suppressed) => return end(&db, mail, MailEnd::Suppressed, now).await,
        Err(fault) => fault,
    };
    event(TelemetryKind::MailNotSent, &[TelemetryField::Cause(&fault)]);
    let Some(next) = delivery::next_try(claimed.tries, claimed.created_at, now) else {
        return end(&db, mail, MailEnd::Failed, now).await;
    };
    people::try_mail_at(&db, mail, next).await?;
    Ok(MailStep::Again(next.since(now)))
}

/// How long a try reserves its mail: longer than it can take, so that no two are under way at once. Cloudflare's binding knows
/// no idempotency key, so a mail whose end is unknown waits for longer.
fn reserved_ms(app: &App) -> u64 {
    match app.settings.mail() {
        Some(MailBackend::Cloudflare(_)) => 5 * 60_000,
        Some(MailBackend::Mailbox | MailBackend::Resend(..)) | None => 60_000,
    }
}

async fn end(db: &D1Database, mail: MailId, end: MailEnd<'_>, now: UnixMillis) -> Result<MailStep, Fault> {
    people::end_mail(db, mail, end, now).await.map(|()| MailStep::Done)
}

async fn deliver(
    app: &App,
    (db, mail): (&D1Database, MailId),
    address: &str,
    text: &MailText,
    now: UnixMillis,
) -> Result<Delivery, Fault> {
    match app.settings.mail() {
        Some(MailBackend::Mailbox) => {
            people::put_into_mailbox(db, mail, address, text, now).await.map(|()| Delivery::Accepted(None))
        }
        Some(MailBackend::Cloudflare(sender)) => cloudflare::send(app, sender, address, text).await,
        Some(MailBackend::Resend(sender, key)) => resend::send((sender, key), mail, address, text).await,
        None => Err(Fault::new(ErrorCode::Misconfigured, "MAIL_BACKEND is not set")),
    }
}

/// The address and the text of a sign-in's mail; `None` where its link holds no longer, or its pepper was removed.
async fn sign_in(
    app: &App,
    db: &D1Database,
    mail: MailId,
    now: UnixMillis,
) -> Result<Option<(String, MailText)>, Fault> {
    let Some(row) = people::read_sign_in_mail(db, mail).await? else { return Ok(None) };
    let secrets = SignInSecrets::find(row.id, &row.token_hash, app.settings.peppers());
    let secrets = secrets.filter(|_| now < row.expires_at);
    Ok(secrets.map(|secrets| (row.address, sign_in_mail(row.intent, row.is_known, &secrets, &row.origin))))
}

/// The same of an invitation's; `None` also where the invitation was revoked.
async fn invitation(
    app: &App,
    db: &D1Database,
    mail: MailId,
    now: UnixMillis,
) -> Result<Option<(String, MailText)>, Fault> {
    let Some(row) = members::read_invitation_mail(db, mail).await? else { return Ok(None) };
    let token = find_token(row.id, &row.token_hash, app.settings.peppers()).filter(|_| now < row.expires_at);
    let Some(token) = token else { return Ok(None) };
    let shown = read_appearance(db, row.tenant).await?;
    let tenant = TenantInMail::of(shown.tier, shown.branding, shown.support_address);
    Ok(Some((row.address, invitation_mail(shown_inviter(&row.inviter), row.role, &token, &row.origin, &tenant))))
}

/// The same of the mail that asks an owner whether to delete the tenant.
async fn deletion(
    app: &App,
    db: &D1Database,
    mail: MailId,
    now: UnixMillis,
) -> Result<Option<(String, MailText)>, Fault> {
    let Some(row) = deletions::read_mail(db, mail).await? else { return Ok(None) };
    let token = deletion::find_token(row.id, &row.token_hash, app.settings.peppers());
    let token = token.filter(|_| now < row.expires_at);
    Ok(token.map(|token| (row.address, deletion_mail(row.tenant, &token, &row.origin))))
}

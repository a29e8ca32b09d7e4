//! Mails. A request writes a mail's row and queues its id; the queue's consumer makes its text and sends it. A message that
//! comes twice, or a mail that is queued twice, is sent once: the row says that it was sent.

use crate::app::App;
use crate::d1::people::rows::MailKind;
use crate::d1::people::{self, MailEnd, members};
use crate::telemetry::{TelemetryField, TelemetryKind, event};
use std::rc::Rc;
use wasm_bindgen::JsValue;
use worker::{D1Database, QueueContentType, RawMessageBuilder};
use x402_chain::id::MailId;
use x402_chain::time::UnixMillis;
use x402_core::error::{ErrorCode, Fault};
use x402_core::people::invitation::find_token;
use x402_core::people::mail::{MailText, invitation_mail, sign_in_mail};
use x402_core::people::sign_in::SignInSecrets;
use x402_core::settings::MailBackend;

/// A mail that waits so long was lost between the directory and the queue.
const LOST_MS: u64 = 60_000;
/// Mails that one run of the timed job queues again.
const AGAIN_MAX: u64 = 100;

/// Queues a mail.
///
/// # Errors
/// `MISCONFIGURED` without the binding; `INTERNAL` where the queue does not take it.
async fn queue(app: &App, mail: MailId) -> Result<(), Fault> {
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

/// Queues mails again that were lost; returns how many.
///
/// # Errors
/// Where the directory or the queue fails.
pub(crate) async fn queue_again(app: &App, now: UnixMillis) -> Result<usize, Fault> {
    if app.settings.mail().is_none() {
        return Ok(0);
    }
    let lost = people::queued_mails(&app.db()?, UnixMillis(now.0.saturating_sub(LOST_MS)), AGAIN_MAX).await?;
    for mail in &lost {
        queue(app, *mail).await?;
    }
    Ok(lost.len())
}

/// Sends the mail that a message of the queue names, unless it was sent.
///
/// # Errors
/// Where it is to be tried again.
pub(crate) async fn send(app: &App, message: &str, now: UnixMillis) -> Result<(), Fault> {
    let Some(mail) = MailId::parse(message) else {
        return Err(Fault::internal("a message of the queue names no mail"));
    };
    let db = app.db()?;
    let Some(kind) = people::mail_kind(&db, mail).await? else { return Ok(()) };
    let made = match kind {
        MailKind::SignIn => sign_in(app, &db, mail, now).await?,
        MailKind::Invitation => invitation(app, &db, mail, now).await?,
    };
    let Some((address, text)) = made else {
        return people::end_mail(&db, mail, MailEnd::Failed, now).await;
    };
    match app.settings.mail() {
        Some(MailBackend::Mailbox) => people::put_into_mailbox(&db, mail, &address, &text, now).await,
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
    Ok(token.map(|token| (row.address, invitation_mail(&row.inviter, row.role, &token, &row.origin))))
}

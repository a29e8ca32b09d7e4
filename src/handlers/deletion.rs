//! An owner deletes the tenant: a mail asks again, its token confirms, and for a week an owner can undo it.

use super::directory::reload_tenant;
use crate::app;
use crate::app::App;
use crate::d1::change::has_unshipped;
use crate::d1::deletions::{self, NewDeletion};
use crate::mail;
use crate::request::IncomingRequest;
use std::rc::Rc;
use worker::Context;
use x402_api::ApiReply;
use x402_api::deletion::{DeletionAsked, DeletionConfirmed, DeletionUndone, check_deletion, deletion_token};
use x402_chain::id::{DeletionId, MailId, TenantId};
use x402_core::audit::AuditAction;
use x402_core::error::{ErrorCode, Fault};
use x402_core::people::deletion::{Deletion, QUESTIONS_DAY_MAX, token};
use x402_core::people::secret::Secret;

async fn deletion_of(app: &App, tenant: TenantId) -> Result<Deletion, Fault> {
    Ok(deletions::read_deletion(&app.db()?, tenant).await?.map_or(Deletion::None, |row| row.deletion))
}

/// The deletion of a tenant, and whether a token is that of its newest question.
async fn answered(app: &App, tenant: TenantId, token: Option<Secret>) -> Result<(Deletion, bool), Fault> {
    let Some(row) = deletions::read_deletion(&app.db()?, tenant).await? else { return Ok((Deletion::None, false)) };
    Ok((row.deletion, token.is_some_and(|token| token.has_hash(&row.token_hash))))
}

/// Makes both ledgers load that the keys are dead, and notes that they have: until then the timed job tries it too.
async fn close_ledgers(app: &App, incoming: &IncomingRequest, tenant: TenantId) -> Result<(), Fault> {
    reload_tenant(app, incoming, tenant).await?;
    deletions::note_closed(&app.db()?, tenant, incoming.now).await
}

/// `DELETE /v1/tenant`: nothing is deleted; a mail asks the owner.
pub(super) async fn ask(app: &Rc<App>, context: &Context, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let (session, now) = (incoming.session()?, incoming.now);
    check_deletion(&incoming.body, session.tenant)?;
    session.check_served()?;
    if app.settings.mail().is_none() {
        return Err(Fault::new(ErrorCode::NotFound, "this service sends no mail: no deletion can be confirmed"));
    }
    let Deletion::Asked { expires_at } = deletion_of(app, session.tenant).await?.ask(now)? else {
        return Err(Fault::internal("a deletion that is asked for is not"));
    };
    let id = DeletionId::new(now, app::random()?);
    let token = app.settings.peppers().first().and_then(|pepper| token(id, pepper));
    let token = token.ok_or_else(|| Fault::internal("no pepper is configured for deletions"))?;
    let (mail, email) = (MailId::new(now, app::random()?), session.email.as_str());
    let new = NewDeletion { id, token: &token, person: session.person, email, expires_at, mail, origin: &app.origin };
    let made = incoming.change(AuditAction::DeletionAsked, session.tenant.to_string())?;
    if !deletions::ask(&app.db()?, &new, &made).await? {
        // It may have been confirmed meanwhile.
        deletion_of(app, session.tenant).await?.check_none()?;
        let detail = format!("an address is sent {QUESTIONS_DAY_MAX} such mails in 24 hours");
        return Err(Fault::new(ErrorCode::RateLimited, detail).after(3_600));
    }
    app::after_answer(context, mail::queue_or_log(Rc::clone(app), mail));
    Ok(ApiReply::json(202, &DeletionAsked { email: email.to_owned(), expires_at: expires_at.rfc3339() }))
}

/// `POST /v1/tenant/deletion`: the keys are dead in both ledgers before the answer. It may be repeated until it is answered.
pub(super) async fn confirm(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let session = incoming.session()?;
    let token = deletion_token(&incoming.body)?;
    session.check_served()?;
    let (before, is_token) = answered(app, session.tenant, token).await?;
    let mut after = before.confirm(is_token, incoming.now)?;
    if let (true, Some(token), Some(due_at)) = (after != before, token, after.due_at()) {
        let made = incoming.change(AuditAction::DeletionConfirmed, session.tenant.to_string())?;
        if !deletions::confirm(&app.db()?, &token, due_at, &made.detail(due_at.rfc3339())).await? {
            // Another request has confirmed it with the same token, or replaced the question.
            let (stored, is_token) = answered(app, session.tenant, Some(token)).await?;
            after = stored.confirm(is_token && stored.due_at().is_some(), incoming.now)?;
        }
    }
    let due_at = after.due_at().ok_or_else(|| Fault::internal("a deletion that is confirmed is not due"))?;
    close_ledgers(app, incoming, session.tenant).await?;
    Ok(ApiReply::json(200, &DeletionConfirmed { due_at: due_at.rfc3339() }))
}

/// `DELETE /v1/tenant/deletion`: the tenant goes on, without keys.
pub(super) async fn undo(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let session = incoming.session()?;
    session.check_served()?;
    let db = app.db()?;
    match deletion_of(app, session.tenant).await?.undo(incoming.now) {
        Ok(_) => {
            let made = incoming.change(AuditAction::DeletionUndone, session.tenant.to_string())?;
            if !deletions::undo(&db, &made).await? {
                deletion_of(app, session.tenant).await?.undo(incoming.now)?;
                return Err(Fault::new(ErrorCode::LedgerUnavailable, "the deletion changed at the same time").after(1));
            }
        }
        // The same request again, after a ledger was away or the answer was lost.
        Err(fault) if fault.code == ErrorCode::NotFound && has_unshipped(&db, session.tenant).await? => {}
        Err(fault) => return Err(fault),
    }
    // Ledgers that are away load it by the timed job: the old keys stay dead in them too.
    reload_tenant(app, incoming, session.tenant).await?;
    Ok(ApiReply::json(200, &DeletionUndone { undone_at: incoming.now.rfc3339() }))
}

//! What operators do for support: find, send a mail again, end sessions. Nothing here acts in the name of a person.

use super::records::RecordPlaces;
use crate::app;
use crate::app::App;
use crate::d1::alerts;
use crate::d1::change::{Actor, Change};
use crate::d1::people::{self, operators};
use crate::mail;
use crate::request::IncomingRequest;
use std::rc::Rc;
use worker::{Context, D1Database};
use x402_api::ApiReply;
use x402_api::body::invalid;
use x402_api::operators::{
    FoundKind, FoundView, MailQueued, MarkRemoved, OperatorAlertView, PersonSessionsEnded, SearchTerm, address_in_path,
    read_search,
};
use x402_api::records::ListPage;
use x402_chain::id::{MailId, PersonId, TenantId, VerificationId};
use x402_chain::network::Environment;
use x402_core::audit::AuditAction;
use x402_core::error::{ErrorCode, Fault};
use x402_core::records::archive::ArchiveOwner;

fn not_found(what: &'static str) -> Fault {
    Fault::new(ErrorCode::NotFound, what)
}

/// `GET /v1/admin/search`.
pub(super) async fn search(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let term = read_search(&incoming.query)?;
    let mut data = operators::search(&app.db()?, &term, incoming.now).await?;
    if let (SearchTerm::Verification(id, tenant), true) = (&term, data.is_empty()) {
        let rule = "is needed too: a verification is kept with the records of its tenant";
        let tenant = tenant.ok_or_else(|| invalid("tenant", rule))?;
        data.extend(find_verification(app, incoming, tenant, *id).await?);
    }
    Ok(ApiReply::json(200, &ListPage { data, next_cursor: None }))
}

/// `GET /v1/admin/alerts`.
pub(super) async fn list_alerts(app: &App) -> Result<ApiReply, Fault> {
    let open = alerts::operator_alerts(&app.db()?).await?;
    let data: Vec<OperatorAlertView> = open.into_iter().filter_map(OperatorAlertView::of).collect();
    Ok(ApiReply::json(200, &ListPage { data, next_cursor: None }))
}

/// A verification among the records of a tenant, in either environment.
async fn find_verification(
    app: &App,
    incoming: &IncomingRequest,
    tenant: TenantId,
    id: VerificationId,
) -> Result<Option<FoundView>, Fault> {
    for environment in Environment::ALL {
        let places = RecordPlaces::of(app, ArchiveOwner { tenant, environment }, incoming.now)?;
        if places.find(id).await?.is_some() {
            return Ok(Some(FoundView {
                kind: FoundKind::Verification,
                id: id.to_string(),
                tenant: Some(tenant.to_string()),
                environment: Some(environment),
                state: None,
                created_at: id.created_at().rfc3339(),
            }));
        }
    }
    Ok(None)
}

/// What is recorded of a change that concerns a mail address: an entry for each tenant of its person, about the person,
/// and for the tenant whose contact it is.
async fn changes_of(
    db: &D1Database,
    incoming: &IncomingRequest,
    email: &str,
    action: AuditAction,
) -> Result<Vec<Change>, Fault> {
    let made = |tenant, subject| incoming.change_by(Actor::Operator, tenant, action, subject);
    let (memberships, unowned) = people::tenants_of(db, email).await?;
    let mut changes = Vec::new();
    if let Some(person) = operators::find_person(db, email).await? {
        for row in &memberships {
            changes.push(made(row.membership.tenant, person.id.to_string())?);
        }
    }
    if let Some(tenant) = unowned {
        changes.push(made(tenant, tenant.to_string())?);
    }
    Ok(changes)
}

/// `POST /v1/admin/mails/{id}/resend`.
pub(super) async fn resend_mail(
    app: &Rc<App>,
    context: &Context,
    incoming: &IncomingRequest,
) -> Result<ApiReply, Fault> {
    if app.settings.mail().is_none() {
        return Err(not_found("no mails are sent: MAIL_BACKEND is not set"));
    }
    let none = || not_found("no such mail");
    let old = MailId::parse(incoming.param(0)).ok_or_else(none)?;
    let db = app.db()?;
    let row = operators::find_mail(&db, old).await?.ok_or_else(none)?;
    let new = MailId::new(incoming.now, app::random()?);
    let action = AuditAction::MailResent;
    let made = match row.tenant {
        Some(tenant) => vec![incoming.change_by(Actor::Operator, tenant, action, String::new())?],
        None => changes_of(&db, incoming, &row.address, action).await?,
    };
    let about = |change: Change| Change { subject: old.to_string(), ..change.detail(new.to_string()) };
    let made: Vec<Change> = made.into_iter().map(about).collect();
    if !operators::repeat_mail(&db, (old, new), &made, incoming.now).await? {
        let detail = "the mail waits to be sent, its link holds no longer, or its address is marked";
        return Err(Fault::new(ErrorCode::MailNotOpen, detail));
    }
    app::after_answer(context, mail::queue_or_log(Rc::clone(app), new));
    Ok(ApiReply::json(202, &MailQueued { id: new.to_string(), repeats: old.to_string() }))
}

/// `DELETE /v1/admin/mail-marks/{address}`.
pub(super) async fn remove_mark(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let address = address_in_path(incoming.param(0))?;
    let db = app.db()?;
    let made = changes_of(&db, incoming, &address, AuditAction::MarkRemoved).await?;
    if !operators::remove_mark(&db, &address, &made).await? {
        return Err(not_found("the address is not marked"));
    }
    Ok(ApiReply::json(200, &MarkRemoved { address, removed_at: incoming.now.rfc3339() }))
}

/// `DELETE /v1/admin/people/{id}/sessions`. A repeat ends those that began meanwhile.
pub(super) async fn end_sessions(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let none = || not_found("no such person");
    let person = PersonId::parse(incoming.param(0)).ok_or_else(none)?;
    let db = app.db()?;
    let row = operators::find_person(&db, &person.to_string()).await?.ok_or_else(none)?;
    let made = changes_of(&db, incoming, &row.email, AuditAction::SessionsEnded).await?;
    let ended = operators::end_all_sessions(&db, person, &made, incoming.now).await?;
    let (person_id, ended_at) = (person.to_string(), incoming.now.rfc3339());
    Ok(ApiReply::json(200, &PersonSessionsEnded { person_id, ended, ended_at }))
}

//! The people of a tenant: list, invite, join, change, remove, leave.

use super::session::begin_as;
use crate::app;
use crate::app::App;
use crate::d1::people;
use crate::d1::people::members::{self, NewInvitation};
use crate::d1::people::rows::{InvitationRow, MemberRow, check_served};
use crate::mail;
use crate::request::IncomingRequest;
use std::rc::Rc;
use worker::Context;
use x402_api::ApiReply;
use x402_api::body::invalid;
use x402_api::members::{InvitationAlone, MemberAlone, Members, Removed, invitation, join_token, member_role};
use x402_chain::id::{InvitationId, MailId, PersonId};
use x402_core::audit::AuditAction;
use x402_core::error::{ErrorCode, Fault};
use x402_core::people::invitation::{INVITATIONS_DAY_MAX, MEMBERS_MAX, token};
use x402_core::tenancy::role::Role;

fn not_found(what: &'static str) -> Fault {
    Fault::new(ErrorCode::NotFound, what)
}

fn one_too_many(param: &'static str) -> Fault {
    invalid(param, &format!("is one too many: a tenant can have {MEMBERS_MAX} members, invited ones among them"))
}

/// Whether nobody else can be invited. Who has an invitation gets another in its place.
fn is_full(present: &[MemberRow], open: &[InvitationRow], email: &str) -> bool {
    let others = open.iter().filter(|row| row.email != email).count();
    u64::try_from(present.len().saturating_add(others)).unwrap_or(u64::MAX) >= MEMBERS_MAX
}

/// `GET /v1/members`.
pub(super) async fn list_members(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let tenant = incoming.session()?.tenant;
    let (data, invitations) = members::list_members(&app.db()?, tenant, incoming.now).await?;
    let data = data.iter().map(|row| row.view()).collect();
    let invitations = invitations.iter().map(|row| row.view()).collect();
    Ok(ApiReply::json(200, &Members { data, invitations }))
}

/// `POST /v1/members/invitations`.
pub(super) async fn invite(app: &Rc<App>, context: &Context, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let ((email, role), now, session) = (invitation(&incoming.body)?, incoming.now, incoming.session()?);
    session.check_active()?;
    if app.settings.mail().is_none() {
        return Err(not_found("this service sends no mail: nobody can be invited"));
    }
    let db = app.db()?;
    let (present, open) = members::list_members(&db, session.tenant, now).await?;
    if present.iter().any(|member| member.email == email) {
        return Err(Fault::new(ErrorCode::AlreadyMember, "the address belongs to a member of the tenant").at("email"));
    }
    if is_full(&present, &open, &email) {
        return Err(one_too_many("email"));
    }
    let id = InvitationId::new(now, app::random()?);
    let token = app.settings.peppers().first().and_then(|pepper| token(id, pepper));
    let token = token.ok_or_else(|| Fault::internal("no pepper is configured for invitations"))?;
    let mail = MailId::new(now, app::random()?);
    let new =
        NewInvitation { id, email: &email, role, token: &token, invited_by: session.person, mail, origin: &app.origin };
    let made = incoming.change(AuditAction::MemberInvited, email.as_str())?.detail(role.name());
    if !members::put_invitation(&db, &new, &made).await? {
        let (present, open) = members::list_members(&db, session.tenant, now).await?;
        if is_full(&present, &open, &email) {
            return Err(one_too_many("email"));
        }
        let detail = format!(
            "too many invitations in 24 hours: a tenant sends at most {INVITATIONS_DAY_MAX}, and an address gets few"
        );
        return Err(Fault::new(ErrorCode::RateLimited, detail).after(3_600));
    }
    app::after_answer(context, mail::queue_or_log(Rc::clone(app), mail));
    let (_, open) = members::list_members(&db, session.tenant, now).await?;
    let made = open.iter().find(|row| row.id == id).ok_or_else(|| not_found("the invitation was revoked meanwhile"))?;
    Ok(ApiReply::json(201, &InvitationAlone { invitation: made.view() }))
}

/// `DELETE /v1/members/invitations/{id}`.
pub(super) async fn revoke_invitation(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let none = || not_found("no such invitation");
    let id = InvitationId::parse(incoming.param(0)).ok_or_else(none)?;
    let made = incoming.change(AuditAction::InvitationRevoked, incoming.param(0))?;
    if !members::revoke_invitation(&app.db()?, id, &made).await? {
        return Err(none());
    }
    Ok(ApiReply::json(200, &Removed { id: id.to_string(), removed_at: incoming.now.rfc3339() }))
}

/// `POST /v1/members/join`: an invitation's token becomes a membership and a session. A person who belongs to a tenant joins
/// by a session of his own: the link holds for a week, and would open that tenant too.
pub(super) async fn join(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let (db, now) = (app.db()?, incoming.now);
    let open = match join_token(&incoming.body)? {
        Some(token) => members::open_invitation(&db, &token, now).await?,
        None => None,
    };
    let open = open.ok_or_else(|| {
        Fault::new(ErrorCode::InvalidSignIn, "the invitation is unknown, has expired, or was used or revoked")
    })?;
    let session = match &incoming.visitor()?.cookies.session {
        // A session that holds for its tenant alone opens no other.
        Some(secret) => people::read_session(&db, secret)
            .await?
            .filter(|session| session.times.is_open(now) && !session.only_tenant),
        None => None,
    };
    let own = session.as_ref().map(|session| session.email.as_str());
    if open.has_account && own != Some(open.email.as_str()) {
        let detail = "the invited address has an account: sign in with it in this browser, then open the link again";
        return Err(Fault::new(ErrorCode::InvalidSignIn, detail));
    }
    check_served(open.status)?;
    if open.members >= MEMBERS_MAX {
        return Err(one_too_many("token"));
    }
    begin_as(app, incoming, &open, own).await
}

/// The member that the path names, and whether that is the person who asks. Another tenant's member is not found.
fn member_of(incoming: &IncomingRequest) -> Result<(PersonId, bool), Fault> {
    let person = PersonId::parse(incoming.param(0)).ok_or_else(|| not_found("no such member"))?;
    Ok((person, person == incoming.session()?.person))
}

/// Why a member was not changed: it is the last owner, or there is none.
async fn unchanged(app: &App, incoming: &IncomingRequest, person: PersonId) -> Fault {
    let listed = match (incoming.session(), app.db()) {
        (Ok(session), Ok(db)) => members::list_members(&db, session.tenant, incoming.now).await,
        (Err(fault), _) | (_, Err(fault)) => Err(fault),
    };
    match listed {
        Ok((present, _)) if present.iter().any(|member| member.person == person) => {
            Fault::new(ErrorCode::LastOwner, "a tenant keeps one owner: make another member an owner first")
        }
        Ok(_) => not_found("no such member"),
        Err(fault) => fault,
    }
}

/// `PATCH /v1/members/{person_id}`.
pub(super) async fn change_member(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let (role, (person, _)) = (member_role(&incoming.body)?, member_of(incoming)?);
    incoming.session()?.check_active()?;
    let made = incoming.change(AuditAction::MemberChanged, incoming.param(0))?.detail(role.name());
    match members::change_role(&app.db()?, person, role, &made).await? {
        Some(member) => Ok(ApiReply::json(200, &MemberAlone { member: member.view() })),
        None => Err(unchanged(app, incoming, person).await),
    }
}

/// `DELETE /v1/members/{person_id}`: an owner removes a member, or a person leaves.
pub(super) async fn remove_member(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let (session, (person, is_self)) = (incoming.session()?, member_of(incoming)?);
    if !is_self && session.role < Role::Owner {
        return Err(Fault::new(ErrorCode::InsufficientRole, "only an owner removes other members"));
    }
    let made = incoming.change(AuditAction::MemberRemoved, incoming.param(0))?;
    if !members::remove_member(&app.db()?, person, &made).await? {
        return Err(unchanged(app, incoming, person).await);
    }
    Ok(ApiReply::json(200, &Removed { id: person.to_string(), removed_at: incoming.now.rfc3339() }))
}

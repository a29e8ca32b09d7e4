//! The people of a tenant: list, invite, join, change, remove, leave.

use super::session::begin_as;
use crate::app;
use crate::app::App;
use crate::d1::change::{Actor, Change};
use crate::d1::people;
use crate::d1::people::members::{self, NewInvitation};
use crate::d1::people::rows::{InvitationRow, MemberRow, check_served};
use crate::mail;
use crate::request::IncomingRequest;
use std::rc::Rc;
use worker::Context;
use x402_api::ApiReply;
use x402_api::body::invalid;
use x402_api::members::{InvitationAlone, MemberAlone, Members, Removed, join_token, member_role, read_invitation};
use x402_chain::id::{InvitationId, MailId, PersonId};
use x402_chain::time::{DAY_MS, UnixMillis};
use x402_core::audit::AuditAction;
use x402_core::error::{ErrorCode, Fault};
use x402_core::people::invitation::{self, ADDRESS_DAY_MAX, INVITATIONS_DAY_MAX, MEMBERS_MAX, token};
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
    let ((email, role), now, session) = (read_invitation(&incoming.body)?, incoming.now, incoming.session()?);
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
    if let Some(same) = same_of_today(&open, &email, role, now) {
        let mail = MailId::new(now, app::random()?);
        if members::send_again(&db, same.id, (mail, &app.origin), now).await? {
            app::after_answer(context, mail::queue_or_log(Rc::clone(app), mail));
        }
        return Ok(ApiReply::json(201, &InvitationAlone { invitation: same.view() }));
    }
    let id = InvitationId::new(now, app::random()?);
    let token = app.settings.peppers().first().and_then(|pepper| token(id, pepper));
    let token = token.ok_or_else(|| Fault::internal("no pepper is configured for invitations"))?;
    let mail = MailId::new(now, app::random()?);
    let new =
        NewInvitation { id, email: &email, role, token: &token, invited_by: session.person, mail, origin: &app.origin };
    let made = incoming.change(AuditAction::MemberInvited, email.as_str())?.detail(role.name());
    if !members::put_invitation(&db, &new, &made).await? {
        return not_invited(app, incoming, &email, role).await;
    }
    app::after_answer(context, mail::queue_or_log(Rc::clone(app), mail));
    let invitation = InvitationRow { id, email, role, created_at: now, expires_at: invitation::expiry(now) };
    Ok(ApiReply::json(201, &InvitationAlone { invitation: invitation.view() }))
}

/// The invitation of the last day that is the same.
fn same_of_today<'a>(open: &'a [InvitationRow], email: &str, role: Role, now: UnixMillis) -> Option<&'a InvitationRow> {
    open.iter().find(|row| row.email == email && row.role == role && now.since(row.created_at) < DAY_MS)
}

/// The answer where no invitation was written: to one of two equal requests at once, that of the other; or why not.
async fn not_invited(app: &App, incoming: &IncomingRequest, email: &str, role: Role) -> Result<ApiReply, Fault> {
    let (session, now) = (incoming.session()?, incoming.now);
    let (present, open) = members::list_members(&app.db()?, session.tenant, now).await?;
    check_owner(&present, session.person)?;
    if let Some(same) = same_of_today(&open, email, role, now) {
        return Ok(ApiReply::json(201, &InvitationAlone { invitation: same.view() }));
    }
    if is_full(&present, &open, email) {
        return Err(one_too_many("email"));
    }
    let detail = format!(
        "too many invitations in 24 hours: a tenant sends {INVITATIONS_DAY_MAX}, of these {ADDRESS_DAY_MAX} to one address; \
         tenants of the free tier without a payment also share a bound for an address, and one for all"
    );
    Err(Fault::new(ErrorCode::RateLimited, detail).after(3_600))
}

/// Checks that whoever asks is still an owner: he may have been removed after the session was read.
fn check_owner(present: &[MemberRow], person: PersonId) -> Result<(), Fault> {
    let is_owner = present.iter().any(|member| member.person == person && member.role == Role::Owner);
    if is_owner {
        Ok(())
    } else {
        Err(Fault::new(ErrorCode::InsufficientRole, "you are no owner of the tenant any more"))
    }
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

/// Why a member was not changed or removed: it is the last owner, or there is none; or whoever asks is no owner any more.
fn unchanged(present: &[MemberRow], person: PersonId, (by, is_self): (PersonId, bool)) -> Fault {
    let of_owners = if is_self { Ok(()) } else { check_owner(present, by) };
    match of_owners {
        Err(fault) => fault,
        Ok(()) if present.iter().any(|member| member.person == person) => {
            Fault::new(ErrorCode::LastOwner, "a tenant keeps one owner: make another member an owner first")
        }
        Ok(()) => not_found("no such member"),
    }
}

/// `PATCH /v1/members/{person_id}`: nothing is recorded where the member has the role.
pub(super) async fn change_member(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let (role, (person, is_self)) = (member_role(&incoming.body)?, member_of(incoming)?);
    let (session, db) = (incoming.session()?, app.db()?);
    session.check_active()?;
    let made = incoming.change(AuditAction::MemberChanged, incoming.param(0))?.detail(role.name());
    let is_changed = members::change_role(&db, (person, session.person), role, &made).await?;
    let (present, _) = members::list_members(&db, session.tenant, incoming.now).await?;
    if !is_changed {
        check_owner(&present, session.person)?;
    }
    match present.iter().find(|member| member.person == person) {
        Some(member) if is_changed || member.role == role => {
            Ok(ApiReply::json(200, &MemberAlone { member: member.view() }))
        }
        Some(_) | None => Err(unchanged(&present, person, (session.person, is_self))),
    }
}

/// `DELETE /v1/members/{person_id}`: an owner removes a member, or a person leaves.
pub(super) async fn remove_member(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let (session, (person, is_self), db) = (incoming.session()?, member_of(incoming)?, app.db()?);
    if !is_self && session.role < Role::Owner {
        return Err(Fault::new(ErrorCode::InsufficientRole, "only an owner removes other members"));
    }
    let made = incoming.change(AuditAction::MemberRemoved, incoming.param(0))?;
    let moved = incoming.change(AuditAction::TenantUpdated, session.tenant.to_string())?.detail("email");
    let moved = Change { actor: Actor::System, ..moved };
    if !members::remove_member(&db, (person, session.person), (&made, &moved)).await? {
        let (present, _) = members::list_members(&db, session.tenant, incoming.now).await?;
        return Err(unchanged(&present, person, (session.person, is_self)));
    }
    Ok(ApiReply::json(200, &Removed { id: person.to_string(), removed_at: incoming.now.rfc3339() }))
}

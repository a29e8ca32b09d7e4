//! Members of tenants, and invitations, in the directory.

use super::super::change::{Change, change};
use super::super::{BoundValue, all, batch, rows_of, statement};
use super::rows::{InvitationMail, InvitationRow, MemberRow, OpenInvitation};
use super::sql;
use worker::D1Database;
use x402_chain::id::{InvitationId, MailId, PersonId, TenantId};
use x402_chain::time::UnixMillis;
use x402_core::error::Fault;
use x402_core::people::invitation;
use x402_core::people::secret::Secret;
use x402_core::people::sign_in::DAY_MS;
use x402_core::tenancy::role::Role;

/// A tenant's members in the order of joining, and its invitations that hold.
pub(crate) async fn list_members(
    db: &D1Database,
    tenant: TenantId,
    now: UnixMillis,
) -> Result<(Vec<MemberRow>, Vec<InvitationRow>), Fault> {
    let tenant = tenant.to_string();
    let tenant = BoundValue::Text(&tenant);
    let statements = vec![
        statement(db, sql::MEMBERS_OF, &[tenant])?,
        statement(db, sql::INVITATIONS_OF, &[tenant, BoundValue::Ms(now)])?,
    ];
    let results = batch(db, statements).await?;
    let [members, invitations] = results.as_slice() else {
        return Err(Fault::internal("a batch of two statements gave another number of results"));
    };
    Ok((rows_of(sql::MEMBERS_OF, members)?, rows_of(sql::INVITATIONS_OF, invitations)?))
}

/// Gives a member another role; invitations by one who is no owner hold no longer. `None` where it is the last owner, or no member.
pub(crate) async fn change_role(
    db: &D1Database,
    person: PersonId,
    role: Role,
    made: &Change,
) -> Result<Option<MemberRow>, Fault> {
    let (tenant, person) = (made.tenant.to_string(), person.to_string());
    let bind = [BoundValue::Text(role.name()), BoundValue::Text(&tenant), BoundValue::Text(&person)];
    let [_, of_tenant, of_person] = bind;
    let then = vec![statement(db, sql::INVITATIONS_LEFT, &[BoundValue::Ms(made.at), of_tenant, of_person])?];
    if !change(db, (sql::MEMBER_ROLE, &bind), made, then).await? {
        return Ok(None);
    }
    let members = all(db, sql::MEMBERS_OF, &[BoundValue::Text(&tenant)]).await?;
    Ok(members.into_iter().find(|member| member.person.to_string() == person))
}

/// Removes a member, whose sessions of the tenant and invitations to it hold no longer. A tenant whose contact was the
/// member's address gets that of another owner. `false` where it is the last owner, or no member.
pub(crate) async fn remove_member(db: &D1Database, person: PersonId, made: &Change) -> Result<bool, Fault> {
    let (tenant, person) = (made.tenant.to_string(), person.to_string());
    let bind = [BoundValue::Text(&tenant), BoundValue::Text(&person)];
    let (at, [tenant, person]) = (BoundValue::Ms(made.at), bind);
    let then = vec![
        statement(db, sql::INVITATIONS_LEFT, &[at, tenant, person])?,
        statement(db, sql::CONTACT_MOVE, &[at, person])?,
    ];
    change(db, (sql::MEMBER_REMOVE, &bind), made, then).await
}

/// An invitation that is to be written, with its mail.
pub(crate) struct NewInvitation<'a> {
    pub(crate) id: InvitationId,
    pub(crate) email: &'a str,
    pub(crate) role: Role,
    pub(crate) token: &'a Secret,
    pub(crate) invited_by: PersonId,
    pub(crate) mail: MailId,
    pub(crate) origin: &'a str,
}

/// Writes an invitation with its mail; `false` where there were too many today, of the tenant, to the address or in all, or
/// the tenant has as many members as it may. An older one to the address holds no longer.
pub(crate) async fn put_invitation(db: &D1Database, new: &NewInvitation<'_>, made: &Change) -> Result<bool, Fault> {
    let now = made.at;
    let texts = [
        new.id.to_string(),
        made.tenant.to_string(),
        new.token.hash(),
        new.invited_by.to_string(),
        new.mail.to_string(),
    ];
    let [id, tenant, hash, invited_by, mail] = texts.each_ref().map(|text| BoundValue::Text(text));
    let (email, at) = (BoundValue::Text(new.email), BoundValue::Ms(now));
    // Ids begin with their times.
    let since = InvitationId::new(UnixMillis(now.0.saturating_sub(DAY_MS)), [0; 10]).to_string();
    let bind = [
        id,
        tenant,
        email,
        BoundValue::Text(new.role.name()),
        hash,
        invited_by,
        at,
        BoundValue::Ms(invitation::expiry(now)),
        BoundValue::Text(&since),
        BoundValue::Number(invitation::INVITATIONS_DAY_MAX),
        BoundValue::Number(invitation::ADDRESS_DAY_MAX),
        BoundValue::Number(invitation::ALL_DAY_MAX),
        BoundValue::Number(invitation::MEMBERS_MAX),
    ];
    let then = vec![
        statement(db, sql::INVITATION_REPLACED, &[at, tenant, email, id])?,
        statement(db, sql::INVITATION_MAIL_PUT, &[mail, email, BoundValue::Text(new.origin), id, at])?,
    ];
    change(db, (sql::INVITATION_PUT, &bind), made, then).await
}

/// Revokes an invitation; `false` where the tenant has none of this id that holds.
pub(crate) async fn revoke_invitation(db: &D1Database, id: InvitationId, made: &Change) -> Result<bool, Fault> {
    let (tenant, id) = (made.tenant.to_string(), id.to_string());
    let bind = [BoundValue::Ms(made.at), BoundValue::Text(&tenant), BoundValue::Text(&id)];
    change(db, (sql::INVITATION_REVOKE, &bind), made, Vec::new()).await
}

/// The invitation of a token; `None` where it was accepted or revoked, or has expired.
pub(crate) async fn open_invitation(
    db: &D1Database,
    token: &Secret,
    now: UnixMillis,
) -> Result<Option<OpenInvitation>, Fault> {
    let rows = all(db, sql::INVITATION_BY_TOKEN, &[BoundValue::Text(&token.hash()), BoundValue::Ms(now)]).await?;
    Ok(rows.into_iter().next())
}

/// What the mail of an invitation is made of; `None` where it was sent, or the invitation was revoked.
pub(crate) async fn read_invitation_mail(db: &D1Database, mail: MailId) -> Result<Option<InvitationMail>, Fault> {
    Ok(all(db, sql::INVITATION_MAIL_GET, &[BoundValue::Text(&mail.to_string())]).await?.into_iter().next())
}

//! Members of tenants, and invitations, in the directory.

use super::super::change::{Change, change};
use super::super::{BoundValue, all, batch, rows_of, statement};
use super::rows::{InvitationMail, InvitationRow, MemberRow, OpenInvitation};
use super::{contact_statements, sql};
use worker::D1Database;
use x402_chain::id::{InvitationId, MailId, PersonId, TenantId};
use x402_chain::time::UnixMillis;
use x402_core::error::Fault;
use x402_core::people::invitation;
use x402_core::people::secret::Secret;
use x402_core::people::sign_in::{DAY_MS, mailbox};
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

/// Gives a member another role; invitations by one who is no owner hold no longer. `false` where it has the role, is the last
/// owner, or no member, or `by` is no owner any more.
pub(crate) async fn change_role(
    db: &D1Database,
    (person, by): (PersonId, PersonId),
    role: Role,
    made: &Change,
) -> Result<bool, Fault> {
    let texts = [made.tenant.to_string(), person.to_string(), by.to_string()];
    let [tenant, person, by] = texts.each_ref().map(|text| BoundValue::Text(text));
    let then = vec![statement(db, sql::INVITATIONS_LEFT, &[BoundValue::Ms(made.at), tenant, person])?];
    change(db, (sql::MEMBER_ROLE, &[BoundValue::Text(role.name()), tenant, person, by]), made, then).await
}

/// Removes a member, whose sessions of the tenant and invitations to it end. A tenant whose contact was the member's address
/// gets that of another owner, which `moved` records. `false` where it is the last owner, or no member, or `by` is another
/// and no owner any more.
pub(crate) async fn remove_member(
    db: &D1Database,
    (person, by): (PersonId, PersonId),
    (made, moved): (&Change, &Change),
) -> Result<bool, Fault> {
    let texts = [made.tenant.to_string(), person.to_string(), by.to_string()];
    let (at, bind) = (BoundValue::Ms(made.at), texts.each_ref().map(|text| BoundValue::Text(text)));
    let [tenant, id, _] = bind;
    let mut then = vec![
        statement(db, sql::INVITATIONS_LEFT, &[at, tenant, id])?,
        statement(db, sql::SESSIONS_LEFT, &[at, tenant, id])?,
    ];
    then.extend(contact_statements(db, (&person.to_string(), Some(made)), moved)?);
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

/// Writes an invitation with its mail; `false` where there were too many today, of the tenant, to the address or in all, the
/// tenant has as many members as it may, such an invitation of today holds, or who invites is no owner any more. An older one
/// to the address holds no longer.
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
    let mailbox = mailbox(new.email);
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
        BoundValue::Text(&mailbox),
    ];
    let then = vec![
        statement(db, sql::INVITATION_REPLACED, &[at, tenant, email, id])?,
        statement(db, sql::INVITATION_MAIL_PUT, &[mail, email, BoundValue::Text(new.origin), id, at])?,
    ];
    change(db, (sql::INVITATION_PUT, &bind), made, then).await
}

/// Sends the mail of an invitation again; `false` where the address was sent too many today, or the invitation holds no longer.
pub(crate) async fn send_again(
    db: &D1Database,
    id: InvitationId,
    (mail, origin): (MailId, &str),
    now: UnixMillis,
) -> Result<bool, Fault> {
    let texts = [mail.to_string(), origin.to_owned(), id.to_string()];
    let [mail, origin, id] = texts.each_ref().map(|text| BoundValue::Text(text));
    let since = BoundValue::Ms(UnixMillis(now.0.saturating_sub(DAY_MS)));
    let most = BoundValue::Number(invitation::ADDRESS_MAILS_MAX);
    let bind = [mail, origin, id, BoundValue::Ms(now), since, most];
    Ok(!all(db, sql::INVITATION_MAIL_AGAIN, &bind).await?.is_empty())
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

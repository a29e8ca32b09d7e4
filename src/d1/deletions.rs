//! Deletions of tenants in the directory.

#[allow(unreachable_pub, reason = "public natively, for tests")]
pub mod rows;
#[allow(unreachable_pub, reason = "public natively, for tests")]
pub mod sql;

use super::billing::wanted_statement;
use super::change::{Change, change};
use super::keys::touch_statement;
use super::{BoundValue, all, batch, result_of, statement};
use rows::{DeletionMail, DeletionRow, DueDeletion};
use worker::D1Database;
use x402_chain::id::{DeletionId, MailId, PersonId, TenantId};
use x402_chain::time::UnixMillis;
use x402_core::error::Fault;
use x402_core::people::deletion::QUESTIONS_DAY_MAX;
use x402_core::people::secret::Secret;
use x402_core::people::sign_in::DAY_MS;

/// People whose data one turn erases, each with at most a month's mails.
const PEOPLE_MAX: u64 = 5;
/// Rows of each other kind that one turn erases.
const ROWS_MAX: u64 = 100;

/// The deletion of a tenant, if one was ever asked for and not undone.
pub(crate) async fn read_deletion(db: &D1Database, tenant: TenantId) -> Result<Option<DeletionRow>, Fault> {
    Ok(all(db, sql::DELETION_GET, &[BoundValue::Text(&tenant.to_string())]).await?.into_iter().next())
}

/// A question to an owner that is to be written, with its mail.
pub(crate) struct NewDeletion<'a> {
    pub(crate) id: DeletionId,
    pub(crate) token: &'a Secret,
    pub(crate) person: PersonId,
    pub(crate) email: &'a str,
    pub(crate) expires_at: UnixMillis,
    pub(crate) mail: MailId,
    pub(crate) origin: &'a str,
}

/// Writes a question with its mail; `false` where the address was sent too many today, or the deletion was confirmed.
pub(crate) async fn ask(db: &D1Database, new: &NewDeletion<'_>, made: &Change) -> Result<bool, Fault> {
    let texts = [made.tenant.to_string(), new.id.to_string(), new.token.hash(), new.person.to_string()];
    let [tenant, id, hash, person] = texts.each_ref().map(|text| BoundValue::Text(text));
    let (at, email) = (BoundValue::Ms(made.at), BoundValue::Text(new.email));
    let since = BoundValue::Ms(UnixMillis(made.at.0.saturating_sub(DAY_MS)));
    let end = BoundValue::Ms(new.expires_at);
    let bind = [tenant, id, hash, person, at, end, email, since, BoundValue::Number(QUESTIONS_DAY_MAX)];
    let mail = new.mail.to_string();
    let mail = [BoundValue::Text(&mail), email, BoundValue::Text(new.origin), id, at];
    change(db, (sql::DELETION_ASK, &bind), made, vec![statement(db, sql::DELETION_MAIL_PUT, &mail)?]).await
}

/// What the mail of a question is made of; `None` where it was sent, or the question holds no longer.
pub(crate) async fn read_mail(db: &D1Database, mail: MailId) -> Result<Option<DeletionMail>, Fault> {
    Ok(all(db, sql::DELETION_MAIL_GET, &[BoundValue::Text(&mail.to_string())]).await?.into_iter().next())
}

/// Confirms a deletion and revokes all keys of the tenant, in one batch; `false` where the question holds no longer.
pub(crate) async fn confirm(db: &D1Database, token: &Secret, due_at: UnixMillis, made: &Change) -> Result<bool, Fault> {
    let (text, hash, at) = (made.tenant.to_string(), token.hash(), BoundValue::Ms(made.at));
    let tenant = BoundValue::Text(&text);
    let bind = [BoundValue::Ms(due_at), tenant, BoundValue::Text(&hash), at];
    // Its subscription is not to renew, which a read of Stripe sees to.
    let (keys, read) = (statement(db, sql::DELETION_KEYS, &[at, tenant])?, wanted_statement(db, made.tenant, made.at)?);
    let then = vec![keys, touch_statement(db, made)?, read];
    change(db, (sql::DELETION_CONFIRM, &bind), made, then).await
}

/// Notes that both ledgers of the tenant have loaded that its keys are dead.
pub(crate) async fn note_closed(db: &D1Database, tenant: TenantId, now: UnixMillis) -> Result<(), Fault> {
    let bind = [BoundValue::Ms(now), BoundValue::Text(&tenant.to_string())];
    result_of(statement(db, sql::DELETION_CLOSED, &bind)?).await.map(|_| ())
}

/// Undoes a deletion; `false` where it is due, or there is none.
pub(crate) async fn undo(db: &D1Database, made: &Change) -> Result<bool, Fault> {
    let bind = [BoundValue::Text(&made.tenant.to_string()), BoundValue::Ms(made.at)];
    // Its subscription goes on.
    let then = vec![wanted_statement(db, made.tenant, made.at)?];
    change(db, (sql::DELETION_UNDO, &bind), made, then).await
}

/// Deletions that are due or of which a ledger may not know, those tried least first. Each counts as tried.
pub(crate) async fn open_deletions(db: &D1Database, now: UnixMillis, limit: u64) -> Result<Vec<DueDeletion>, Fault> {
    let open = all(db, sql::DELETIONS_OPEN, &[BoundValue::Ms(now), BoundValue::Number(limit)]).await?;
    let tried = |row: &DueDeletion| statement(db, sql::DELETION_TRIED, &[BoundValue::Text(&row.tenant.to_string())]);
    if !open.is_empty() {
        batch(db, open.iter().map(tried).collect::<Result<_, _>>()?).await?;
    }
    Ok(open)
}

/// Deletions whose erasure began before a time and is not done.
pub(crate) async fn late_deletions(db: &D1Database, before: UnixMillis, limit: u64) -> Result<Vec<DueDeletion>, Fault> {
    all(db, sql::DELETIONS_LATE, &[BoundValue::Ms(before), BoundValue::Number(limit)]).await
}

/// Begins to erase a tenant, if that is due: its own row names nobody from then on, and nobody undoes its deletion.
pub(crate) async fn begin_erasure(db: &D1Database, tenant: TenantId, now: UnixMillis) -> Result<bool, Fault> {
    let text = tenant.to_string();
    let bind = [BoundValue::Ms(now), BoundValue::Text(&text)];
    if all(db, sql::ERASURE_BEGIN, &bind).await?.is_empty() {
        return Ok(false);
    }
    result_of(statement(db, sql::TENANT_ERASE, &bind)?).await.map(|_| true)
}

/// Erases some of what is left of a tenant, in one batch; returns whether there was any. It may be repeated without harm.
pub(crate) async fn erase_some(db: &D1Database, tenant: TenantId) -> Result<bool, Fault> {
    let text = tenant.to_string();
    let tenant = BoundValue::Text(&text);
    let members = all(db, sql::ERASED_MEMBERS, &[tenant, BoundValue::Number(PEOPLE_MAX)]).await?;
    let people: Vec<PersonId> = members.iter().map(|member| member.person).collect();
    let people = serde_json::to_string(&people).map_err(Fault::internal)?;
    let people = BoundValue::Text(&people);
    let mut statements = vec![statement(db, sql::MEMBERS_ERASE, &[tenant, people])?];
    // The addresses are in the rows of the people, which go last.
    for erase in [
        sql::PEOPLE_MAILBOX_ERASE,
        sql::PEOPLE_MAILS_ERASE,
        sql::PEOPLE_SIGN_INS_ERASE,
        sql::PEOPLE_MARKS_ERASE,
        sql::PEOPLE_IDENTITIES_ERASE,
        sql::PEOPLE_SESSIONS_ERASE,
        sql::PEOPLE_ERASE,
    ] {
        statements.push(statement(db, erase, &[people])?);
    }
    for erase in [
        sql::INVITATIONS_MAILBOX_ERASE,
        sql::INVITATIONS_MAILS_ERASE,
        sql::INVITATIONS_ERASE,
        sql::SESSIONS_ERASE,
        sql::AUDIT_ERASE,
        sql::KEYS_ERASE,
        sql::VERIFICATIONS_ERASE,
        sql::EVENTS_ERASE,
        sql::ALERTS_ERASE,
        sql::NOTICES_ERASE,
    ] {
        statements.push(statement(db, erase, &[tenant, BoundValue::Number(ROWS_MAX)])?);
    }
    for erase in [sql::CHALLENGES_ERASE, sql::OIDC_ERASE, sql::OIDC_IDENTITIES_ERASE] {
        statements.push(statement(db, erase, &[tenant])?);
    }
    let mut has_changed = false;
    for result in batch(db, statements).await? {
        let changes = result.meta().map_err(Fault::internal)?.and_then(|meta| meta.changes);
        has_changed |= changes != Some(0);
    }
    Ok(has_changed)
}

/// Ends the erasure of a tenant; `false` where something is left.
pub(crate) async fn end_erasure(db: &D1Database, made: &Change) -> Result<bool, Fault> {
    let bind = [BoundValue::Ms(made.at), BoundValue::Text(&made.tenant.to_string())];
    change(db, (sql::ERASURE_END, &bind), made, Vec::new()).await
}

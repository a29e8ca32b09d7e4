//! People, their sessions and mails in the directory.

pub(crate) mod identities;
pub(crate) mod members;
pub(crate) mod operators;
#[allow(unreachable_pub, reason = "public natively, for tests")]
pub mod rows;
pub(crate) mod sign_ins;
#[allow(unreachable_pub, reason = "public natively, for tests")]
pub mod sql;

use super::change::Change;
use super::{BoundValue, FirstRows, all, batch, result_of, rows_of, statement, tenant_statements};
use identities::Link;
use rows::{ClaimedMail, MembershipRow, OpenSignIn, OwnSessionRow, SessionRow, SignInMail};
use worker::{D1Database, D1PreparedStatement};
use x402_api::admin::NewTenant;
use x402_api::session::MailView;
use x402_chain::id::{InvitationId, MailId, PersonId, SessionId, SignInId, TenantId};
use x402_chain::time::UnixMillis;
use x402_core::error::Fault;
use x402_core::people::delivery::MailMark;
use x402_core::people::invitation::MEMBERS_MAX;
use x402_core::people::mail::MailText;
use x402_core::people::secret::Secret;
use x402_core::people::session::{IDLE_MS, SESSION_MS, SWITCHES_HOUR_MAX, SessionTimes};
use x402_core::people::sign_in;
use x402_core::tenancy::role::Role;

/// The sign-in of a link's token; `None` where it was used or has expired.
pub(crate) async fn open_sign_in(
    db: &D1Database,
    token: &Secret,
    now: UnixMillis,
) -> Result<Option<OpenSignIn>, Fault> {
    let rows = all(db, sql::SIGN_IN_BY_TOKEN, &[BoundValue::Text(&token.hash()), BoundValue::Ms(now)]).await?;
    Ok(rows.into_iter().next())
}

/// What becomes of a code.
pub(crate) enum CodeTry {
    /// It is compared with that of the sign-in that the browser asked for. `is_last`: it is the last of the day from all
    /// networks, if it is wrong.
    Compared { open: OpenSignIn, is_last: bool },
    /// The browser asked for no sign-in, or that was used, has expired, or was tried too often.
    NoSignIn,
    /// No code from this network is compared today, or none at all.
    Stopped,
}

/// Counts a try of the sign-in that a browser asked for, and a wrong code, in one batch: [`begin_session`] takes the latter
/// back where the code is right.
pub(crate) async fn try_code(
    db: &D1Database,
    browser: &Secret,
    ip_prefix: &str,
    now: UnixMillis,
) -> Result<CodeTry, Fault> {
    let (hash, day) = (browser.hash(), BoundValue::Ms(sign_in::day_of(now).0));
    let of_day = [day, BoundValue::Text(ip_prefix)];
    let bind = [
        BoundValue::Text(&hash),
        BoundValue::Ms(now),
        BoundValue::Number(sign_in::TRIES_MAX),
        day,
        BoundValue::Text(ip_prefix),
        BoundValue::Number(sign_in::WRONG_PREFIX_MAX),
        BoundValue::Number(sign_in::WRONG_ALL_MAX),
    ];
    let statements = vec![
        statement(db, sql::SIGN_IN_TRY, &bind)?,
        statement(db, sql::CODE_WRONG, &of_day)?,
        statement(db, sql::WRONG_CODES_GET, &of_day)?,
    ];
    let results = batch(db, statements).await?;
    let [tried, _, wrong] = results.as_slice() else {
        return Err(Fault::internal("a batch of three statements gave another number of results"));
    };
    let wrong = rows_of(sql::WRONG_CODES_GET, wrong)?.into_iter().next();
    let wrong = wrong.ok_or_else(|| Fault::internal("wrong codes were not counted"))?;
    Ok(match rows_of(sql::SIGN_IN_TRY, tried)?.into_iter().next() {
        Some(open) => CodeTry::Compared { open, is_last: wrong.of_all >= sign_in::WRONG_ALL_MAX },
        None if wrong.of_prefix >= sign_in::WRONG_PREFIX_MAX || wrong.of_all >= sign_in::WRONG_ALL_MAX => {
            CodeTry::Stopped
        }
        None => CodeTry::NoSignIn,
    })
}

/// A person's tenants, first that whose contact the address is, then in the order of joining; and the tenant whose contact it
/// is, if that has no member.
pub(crate) async fn tenants_of(db: &D1Database, email: &str) -> Result<(Vec<MembershipRow>, Option<TenantId>), Fault> {
    let bind = [BoundValue::Text(email)];
    let statements = vec![statement(db, sql::MEMBERSHIPS_OF, &bind)?, statement(db, sql::UNOWNED_TENANT, &bind)?];
    let results = batch(db, statements).await?;
    let [memberships, unowned] = results.as_slice() else {
        return Err(Fault::internal("a batch of two statements gave another number of results"));
    };
    let unowned = rows_of(sql::UNOWNED_TENANT, unowned)?.into_iter().next().map(|row| row.tenant);
    Ok((rows_of(sql::MEMBERSHIPS_OF, memberships)?, unowned))
}

/// The tenant whose contact an address is, if that has members of whom none has it.
pub(crate) async fn contact_left(db: &D1Database, email: &str) -> Result<Option<TenantId>, Fault> {
    Ok(all(db, sql::CONTACT_LEFT, &[BoundValue::Text(email)]).await?.into_iter().next().map(|row| row.tenant))
}

/// What a session takes that counts once: it is used in the batch that begins the session, or the batch fails.
#[derive(Clone, Copy)]
pub(crate) enum Spent<'a> {
    /// Nothing: another service has signed the person in.
    Nothing,
    /// The request of a link.
    Link(SignInId),
    /// The request of a code, which was counted as wrong.
    Code(SignInId),
    /// An invitation, with the address of the session that the browser has.
    Invitation(InvitationId, Option<&'a str>),
}

/// A session to begin.
pub(crate) struct NewSession<'a> {
    pub(crate) id: SessionId,
    pub(crate) secret: &'a Secret,
    /// The person's address, and the person's id if there is none with it.
    pub(crate) email: &'a str,
    pub(crate) person: PersonId,
    pub(crate) tenant: TenantId,
    pub(crate) ip_prefix: &'a str,
    pub(crate) user_agent: Option<&'a str>,
    /// The account of another service that signs the person in.
    pub(crate) link: Option<Link<'a>>,
    /// Whether it holds for this tenant alone: the tenant's own provider has signed the person in.
    pub(crate) only_tenant: bool,
    /// What is used by it.
    pub(crate) spent: Spent<'a>,
    /// The session that the browser had: it ends.
    pub(crate) previous: Option<&'a Secret>,
}

/// A tenant that is made with a session.
pub(crate) struct NewOwned<'a> {
    pub(crate) tenant: &'a NewTenant,
    pub(crate) first: FirstRows<'a>,
    /// What is recorded for the tenant whose contact was the address, and that gets another one.
    pub(crate) contact: Option<Change>,
}

/// A person becomes a member.
pub(crate) struct Joining<'a> {
    pub(crate) role: Role,
    /// What is recorded of it.
    pub(crate) made: &'a Change,
}

/// Begins a session, in one batch: what it takes is used, the person, the account of another service, a new tenant, the
/// membership of one who joins, the session; the browser's previous session and all other sign-ins of the address end.
/// Returns the session with the person's tenants: they are read in the batch, since a read after it could fail, and what it
/// has spent would be lost.
///
/// # Errors
/// `EMAIL_TAKEN`: the new tenant was made at the same time. `INVALID_SIGN_IN`: what it takes was used at the same time.
pub(crate) async fn begin_session(
    db: &D1Database,
    session: &NewSession<'_>,
    made: Option<&NewOwned<'_>>,
    joins: Option<&Joining<'_>>,
    now: UnixMillis,
) -> Result<Begun, Fault> {
    let [id, person, tenant] = [session.id.to_string(), session.person.to_string(), session.tenant.to_string()];
    let (hash, at, email) = (session.secret.hash(), BoundValue::Ms(now), BoundValue::Text(session.email));
    let [id, person, tenant, hash] = [&id, &person, &tenant, &hash].map(|text| BoundValue::Text(text));
    let mut statements = Vec::new();
    match session.spent {
        Spent::Nothing => {}
        Spent::Link(id) | Spent::Code(id) => {
            statements.push(statement(db, sql::SIGN_IN_USE, &[at, BoundValue::Text(&id.to_string())])?);
            if matches!(session.spent, Spent::Code(_)) {
                let day = BoundValue::Ms(sign_in::day_of(now).0);
                statements.push(statement(db, sql::CODE_RIGHT, &[day, BoundValue::Text(session.ip_prefix)])?);
            }
        }
        Spent::Invitation(id, own) => {
            let most = BoundValue::Number(MEMBERS_MAX);
            let bind = [at, BoundValue::Text(&id.to_string()), BoundValue::Maybe(own), most];
            statements.push(statement(db, sql::INVITATION_ACCEPT, &bind)?);
        }
    }
    // Entries of the audit log name the person.
    statements.push(statement(db, sql::PERSON_PUT, &[person, email, at])?);
    if let Some(link) = &session.link {
        statements.extend(identities::link_statements(db, link, session, now)?);
    }
    if let Some(made) = made {
        if let Some(moved) = &made.contact {
            statements.extend(contact_statements(db, (session.email, None), moved)?);
        }
        statements.extend(tenant_statements(db, made.tenant, &made.first)?);
    }
    if let Some(joins) = joins {
        statements.push(statement(db, sql::SESSIONS_LEFT, &[at, tenant, email])?);
        let most = BoundValue::Number(MEMBERS_MAX);
        statements.push(statement(
            db,
            sql::MEMBER_PUT,
            &[tenant, BoundValue::Text(joins.role.name()), at, email, most],
        )?);
        statements.extend(joins.made.statements(db)?);
    }
    let end = BoundValue::Ms(SessionTimes::begin(now).expires_at);
    let from = [BoundValue::Text(session.ip_prefix), BoundValue::Maybe(session.user_agent)];
    let [ip_prefix, user_agent] = from;
    let only = BoundValue::Number(session.only_tenant.into());
    let put = [id, hash, tenant, ip_prefix, user_agent, at, end, email, only];
    statements.push(statement(db, sql::SESSION_PUT, &put)?);
    statements.push(statement(db, sql::SIGN_INS_CLOSE, &[at, email])?);
    if let Some(previous) = session.previous {
        statements.push(statement(db, sql::SESSION_END, &[at, BoundValue::Text(&previous.hash())])?);
    }
    batch_with_session(db, statements, session.secret, session.email)
        .await?
        .ok_or_else(|| Fault::internal("a session that was written is not there"))
}

/// A session that has begun, and the tenants of its person.
pub(crate) type Begun = (SessionRow, Vec<MembershipRow>);

/// Runs a batch that may begin a session; returns that as it is then, or nothing.
async fn batch_with_session(
    db: &D1Database,
    mut statements: Vec<D1PreparedStatement>,
    secret: &Secret,
    email: &str,
) -> Result<Option<Begun>, Fault> {
    statements.push(statement(db, sql::SESSION_GET, &[BoundValue::Text(&secret.hash())])?);
    statements.push(statement(db, sql::MEMBERSHIPS_OF, &[BoundValue::Text(email)])?);
    let results = batch(db, statements).await?;
    let [.., session, tenants] = results.as_slice() else {
        return Err(Fault::internal("a batch gave fewer results than it has statements"));
    };
    let session = rows_of(sql::SESSION_GET, session)?.into_iter().next();
    let tenants = rows_of(sql::MEMBERSHIPS_OF, tenants)?;
    Ok(session.map(|session| (session, tenants)))
}

/// The statements that give the tenant of `moved` another contact than the address of a person (whose id or address is given),
/// and record it. With a change they do so only where that was made in the same batch.
fn contact_statements(
    db: &D1Database,
    (person, because): (&str, Option<&Change>),
    moved: &Change,
) -> Result<Vec<D1PreparedStatement>, Fault> {
    let (tenant, entry) = (moved.tenant.to_string(), because.map(|made| made.id.to_string()));
    let bind = [
        BoundValue::Ms(moved.at),
        BoundValue::Text(person),
        BoundValue::Text(&tenant),
        BoundValue::Maybe(entry.as_deref()),
    ];
    let mut statements = vec![statement(db, sql::CONTACT_MOVE, &bind)?];
    statements.extend(moved.statements(db)?);
    Ok(statements)
}

/// The session of a secret; `None` where there is none, it was ended, or the person has left the tenant.
pub(crate) async fn read_session(db: &D1Database, secret: &Secret) -> Result<Option<SessionRow>, Fault> {
    Ok(all(db, sql::SESSION_GET, &[BoundValue::Text(&secret.hash())]).await?.into_iter().next())
}

/// Notes that a session was used.
pub(crate) async fn note_session(db: &D1Database, id: SessionId, now: UnixMillis) -> Result<(), Fault> {
    let note = statement(db, sql::SESSION_SEEN, &[BoundValue::Ms(now), BoundValue::Text(&id.to_string())])?;
    result_of(note).await.map(|_| ())
}

/// Ends a session.
pub(crate) async fn end_session(db: &D1Database, secret: &Secret, now: UnixMillis) -> Result<(), Fault> {
    let end = statement(db, sql::SESSION_END, &[BoundValue::Ms(now), BoundValue::Text(&secret.hash())])?;
    result_of(end).await.map(|_| ())
}

/// Which of a person's sessions one of them reads and ends.
pub(crate) struct SessionScope {
    person: String,
    /// Of a session that holds for its tenant alone: only others like it.
    only: Option<String>,
}

impl SessionScope {
    /// That of a session.
    pub(crate) fn of(session: &SessionRow) -> Self {
        let only = session.only_tenant.then(|| session.tenant.to_string());
        Self { person: session.person.to_string(), only }
    }

    fn bind(&self) -> [BoundValue<'_>; 2] {
        [BoundValue::Text(&self.person), BoundValue::Maybe(self.only.as_deref())]
    }
}

/// A person's sessions that hold, the newest first.
pub(crate) async fn list_sessions(
    db: &D1Database,
    scope: &SessionScope,
    now: UnixMillis,
) -> Result<Vec<OwnSessionRow>, Fault> {
    let used_since = UnixMillis(now.0.saturating_sub(IDLE_MS));
    let [person, only] = scope.bind();
    all(db, sql::SESSIONS_OF, &[person, BoundValue::Ms(now), BoundValue::Ms(used_since), only]).await
}

/// Ends a session of a person; `false` where the person has none of this id.
pub(crate) async fn end_own_session(
    db: &D1Database,
    scope: &SessionScope,
    id: SessionId,
    now: UnixMillis,
) -> Result<bool, Fault> {
    let (id, [person, only]) = (id.to_string(), scope.bind());
    let bind = [BoundValue::Ms(now), BoundValue::Text(&id), person, only];
    Ok(!all(db, sql::SESSION_END_OWN, &bind).await?.is_empty())
}

/// Ends all sessions of a person.
pub(crate) async fn end_sessions(db: &D1Database, scope: &SessionScope, now: UnixMillis) -> Result<(), Fault> {
    let [person, only] = scope.bind();
    let bind = [BoundValue::Ms(now), person, only];
    result_of(statement(db, sql::SESSIONS_END, &bind)?).await.map(|_| ())
}

/// Replaces a session by one of another tenant, which ends when the first would have; `None` where the person does not
/// belong to the tenant, the session was replaced at the same time, or there were too many in the last hour.
pub(crate) async fn switch_session(
    db: &D1Database,
    (old, new): (&Secret, &Secret),
    (id, email): (SessionId, &str),
    tenant: TenantId,
    now: UnixMillis,
) -> Result<Option<Begun>, Fault> {
    // Ids begin with their times.
    let since = SessionId::new(UnixMillis(now.0.saturating_sub(HOUR_MS)), [0; 10]);
    let texts = [id.to_string(), new.hash(), tenant.to_string(), old.hash(), since.to_string()];
    let [id, hash, tenant, old, since] = texts.each_ref().map(|text| BoundValue::Text(text));
    let at = BoundValue::Ms(now);
    let bind = [id, hash, tenant, at, old, since, BoundValue::Number(SWITCHES_HOUR_MAX)];
    let put = statement(db, sql::SESSION_SWITCH, &bind)?;
    batch_with_session(db, vec![put, statement(db, sql::SESSION_REPLACED, &[at, old, hash])?], new, email).await
}

/// The span of [`SWITCHES_HOUR_MAX`].
const HOUR_MS: u64 = 60 * 60 * 1_000;
/// How long sessions that have ended, and what is known of mails, are kept: for questions about them.
const KEPT_MS: u64 = 30 * sign_in::DAY_MS;

/// Deletes what is no longer needed: requests to sign in and counts of wrong codes after a day, sessions, mails and shipped
/// events after a month.
pub(crate) async fn purge(db: &D1Database, now: UnixMillis) -> Result<(), Fault> {
    let before = |ms: u64| UnixMillis(now.0.saturating_sub(ms));
    let session = SessionId::new(before(SESSION_MS.saturating_add(KEPT_MS)), [0; 10]).to_string();
    let mail = MailId::new(before(KEPT_MS), [0; 10]).to_string();
    let invitation = InvitationId::new(before(KEPT_MS), [0; 10]).to_string();
    let statements = vec![
        statement(db, sql::SIGN_INS_PURGE, &[BoundValue::Ms(before(sign_in::DAY_MS))])?,
        statement(db, sql::OAUTH_PURGE, &[BoundValue::Ms(before(sign_in::DAY_MS))])?,
        statement(db, sql::WRONG_CODES_PURGE, &[BoundValue::Ms(before(sign_in::DAY_MS))])?,
        statement(db, sql::SESSIONS_PURGE, &[BoundValue::Text(&session)])?,
        statement(db, sql::INVITATIONS_PURGE, &[BoundValue::Text(&invitation)])?,
        statement(db, sql::MAILS_PURGE, &[BoundValue::Text(&mail)])?,
        statement(db, sql::MAILBOX_PURGE, &[BoundValue::Text(&mail)])?,
        statement(db, super::sql::REPORTS_PURGE, &[BoundValue::Ms(before(sign_in::DAY_MS))])?,
        statement(db, super::sql::EVENTS_PURGE, &[BoundValue::Ms(before(KEPT_MS))])?,
    ];
    batch(db, statements).await.map(|_| ())
}

/// Begins a try of a mail, which no other begins until `until`; `None` where it was sent, or another try is under way or to
/// come.
pub(crate) async fn claim_mail(
    db: &D1Database,
    mail: MailId,
    until: UnixMillis,
    now: UnixMillis,
) -> Result<Option<ClaimedMail>, Fault> {
    let id = mail.to_string();
    let bind = [BoundValue::Ms(until), BoundValue::Text(&id), BoundValue::Ms(now)];
    Ok(all(db, sql::MAIL_CLAIM, &bind).await?.into_iter().next())
}

/// Sets when a mail is tried again.
pub(crate) async fn try_mail_at(db: &D1Database, mail: MailId, at: UnixMillis) -> Result<(), Fault> {
    let bind = [BoundValue::Ms(at), BoundValue::Text(&mail.to_string())];
    result_of(statement(db, sql::MAIL_DUE, &bind)?).await.map(|_| ())
}

/// Marks addresses: none gets a mail from now on.
pub(crate) async fn mark_addresses(
    db: &D1Database,
    addresses: &[String],
    mark: MailMark,
    now: UnixMillis,
) -> Result<(), Fault> {
    let put = |address: &String| {
        let bind = [BoundValue::Text(address), BoundValue::Text(mark.name()), BoundValue::Ms(now)];
        statement(db, sql::MAIL_MARK, &bind)
    };
    batch(db, addresses.iter().map(put).collect::<Result<_, _>>()?).await.map(|_| ())
}

/// What the mail of a sign-in is made of; `None` where it was sent.
pub(crate) async fn read_sign_in_mail(db: &D1Database, mail: MailId) -> Result<Option<SignInMail>, Fault> {
    Ok(all(db, sql::SIGN_IN_MAIL_GET, &[BoundValue::Text(&mail.to_string())]).await?.into_iter().next())
}

/// How a mail ended.
#[derive(Clone, Copy)]
pub(crate) enum MailEnd<'a> {
    /// It was sent; with the provider's id of it, if there is one.
    Sent(Option<&'a str>),
    /// It was not, and is of no use any more.
    Failed,
    /// It was not, since its address gets no mail.
    Suppressed,
}

fn end_statement(
    db: &D1Database,
    mail: MailId,
    end: MailEnd<'_>,
    now: UnixMillis,
) -> Result<D1PreparedStatement, Fault> {
    let (state, provider_id) = match end {
        MailEnd::Sent(provider_id) => ("sent", provider_id),
        MailEnd::Failed => ("failed", None),
        MailEnd::Suppressed => ("suppressed", None),
    };
    let (id, provider_id) = (mail.to_string(), BoundValue::Maybe(provider_id));
    statement(db, sql::MAIL_END, &[BoundValue::Text(state), BoundValue::Ms(now), provider_id, BoundValue::Text(&id)])
}

/// Notes how a mail ended.
pub(crate) async fn end_mail(db: &D1Database, mail: MailId, end: MailEnd<'_>, now: UnixMillis) -> Result<(), Fault> {
    result_of(end_statement(db, mail, end, now)?).await.map(|_| ())
}

/// Puts a mail into the mailbox and notes that it was sent, in one batch: it is there once.
pub(crate) async fn put_into_mailbox(
    db: &D1Database,
    mail: MailId,
    address: &str,
    text: &MailText,
    now: UnixMillis,
) -> Result<(), Fault> {
    let id = mail.to_string();
    let texts = [&id, address, text.subject, &text.text, &text.html].map(BoundValue::Text);
    let [id, address, subject, plain, html] = texts;
    let put = statement(db, sql::MAILBOX_PUT, &[id, address, subject, plain, html, BoundValue::Ms(now)])?;
    batch(db, vec![put, end_statement(db, mail, MailEnd::Sent(None), now)?]).await.map(|_| ())
}

/// The newest mails of the mailbox.
pub(crate) async fn read_mailbox(db: &D1Database, limit: u64) -> Result<Vec<MailView>, Fault> {
    let rows = all(db, sql::MAILBOX_GET, &[BoundValue::Number(limit)]).await?;
    Ok(rows.into_iter().map(|row| row.mail).collect())
}

/// Mails that could have been tried since before a time; from now on they come after the others of which that holds.
pub(crate) async fn lost_mails(
    db: &D1Database,
    (before, now): (UnixMillis, UnixMillis),
    limit: u64,
) -> Result<Vec<MailId>, Fault> {
    let bind = [BoundValue::Ms(before), BoundValue::Ms(now), BoundValue::Number(limit)];
    let rows = all(db, sql::MAILS_LOST, &bind).await?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}

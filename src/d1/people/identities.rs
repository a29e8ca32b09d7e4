//! Sign-ins by other services in the directory.

use super::super::change::{Change, change_of_many};
use super::super::{BoundValue, all, statement};
use super::rows::{IdentityMail, IdentityRow};
use super::{NewSession, sql};
use worker::{D1Database, D1PreparedStatement};
use x402_api::identities::IdentityView;
use x402_chain::id::{MailId, PersonId};
use x402_chain::time::UnixMillis;
use x402_core::error::Fault;
use x402_core::people::client::network_around;
use x402_core::people::oauth::{self, Identity, IdentityProvider};
use x402_core::people::secret::Secret;
use x402_core::people::sign_in::{ALL_MAX, AROUND_MAX, LITTLE, PREFIX_MAX, SPAN_MS};

/// Writes a state with the browser that it is for; `false` where there were too many.
pub(crate) async fn put_state(
    db: &D1Database,
    provider: IdentityProvider,
    (state, browser): (&Secret, &Secret),
    ip_prefix: &str,
    now: UnixMillis,
) -> Result<bool, Fault> {
    let (state, browser, provider) = (state.hash(), browser.hash(), provider.name());
    let bind = [
        BoundValue::Text(&state),
        BoundValue::Text(&provider),
        BoundValue::Text(&browser),
        BoundValue::Text(ip_prefix),
        BoundValue::Ms(now),
        BoundValue::Ms(oauth::expiry(now)),
        BoundValue::Ms(UnixMillis(now.0.saturating_sub(SPAN_MS))),
        BoundValue::Number(PREFIX_MAX),
        BoundValue::Number(ALL_MAX),
        BoundValue::Number(LITTLE),
        BoundValue::Text(&network_around(ip_prefix)),
        BoundValue::Number(AROUND_MAX),
    ];
    Ok(!all(db, sql::OAUTH_PUT, &bind).await?.is_empty())
}

/// Uses a state, once; `false` where there is none of this browser, or it has expired or was used.
pub(crate) async fn use_state(
    db: &D1Database,
    provider: IdentityProvider,
    (state, browser): (&Secret, &Secret),
    now: UnixMillis,
) -> Result<bool, Fault> {
    let texts = [state.hash(), browser.hash(), provider.name()];
    let [state, browser, provider] = texts.each_ref().map(|text| BoundValue::Text(text));
    Ok(!all(db, sql::OAUTH_USE, &[BoundValue::Ms(now), state, browser, provider]).await?.is_empty())
}

/// Whom a service names; `None` where the account was never linked.
pub(crate) async fn find(db: &D1Database, identity: Identity<'_>) -> Result<Option<IdentityRow>, Fault> {
    let provider = identity.provider.name();
    let bind = [BoundValue::Text(&provider), BoundValue::Text(identity.subject)];
    Ok(all(db, sql::IDENTITY_GET, &bind).await?.into_iter().next())
}

/// The account of another service by which a session begins.
pub(crate) struct Link<'a> {
    pub(crate) identity: Identity<'a>,
    /// What is written where the account was not linked before.
    pub(crate) new: Option<NewLink<'a>>,
}

/// An account that is linked.
#[derive(Default)]
pub(crate) struct NewLink<'a> {
    /// The account's name.
    pub(crate) name: Option<&'a str>,
    /// The mail about it and the origin of its link; it is written if the person, or the tenant that the address leads to,
    /// was there before.
    pub(crate) mail: Option<(MailId, &'a str)>,
    /// Whether the address leads to a tenant that was there before.
    pub(crate) tenant_was_there: bool,
    /// What is recorded of it, an entry for each tenant that was there before.
    pub(crate) made: Vec<Change>,
}

/// The statements that link an account if it is new, and use it. The person is there by then.
pub(super) fn link_statements(
    db: &D1Database,
    link: &Link<'_>,
    session: &NewSession<'_>,
    now: UnixMillis,
) -> Result<Vec<D1PreparedStatement>, Fault> {
    let (id, provider) = (link.identity.id(), link.identity.provider.name());
    let [provider, subject, email] = [provider.as_str(), link.identity.subject, session.email].map(BoundValue::Text);
    let at = BoundValue::Ms(now);
    let mut statements = Vec::new();
    if let Some(new) = &link.new {
        let from = [BoundValue::Maybe(new.name), BoundValue::Text(session.ip_prefix)];
        let [name, ip_prefix] = from;
        statements.push(statement(db, sql::IDENTITY_PUT, &[provider, subject, name, ip_prefix, at, email])?);
        for made in &new.made {
            // Each counts the event before it as a change, and so does the mail.
            statements.extend(made.statements(db)?);
        }
        if let Some((mail, origin)) = new.mail {
            let (mail, person) = (mail.to_string(), session.person.to_string());
            let [mail, origin, id, person] = [&mail, origin, &id, &person].map(BoundValue::Text);
            let was_there = BoundValue::Number(new.tenant_was_there.into());
            statements.push(statement(db, sql::IDENTITY_MAIL_PUT, &[mail, email, origin, id, at, was_there, person])?);
        }
    }
    statements.push(statement(db, sql::IDENTITY_USE, &[at, provider, subject, email])?);
    Ok(statements)
}

/// The accounts that were linked to a person, the newest first.
pub(crate) async fn list(db: &D1Database, person: PersonId) -> Result<Vec<IdentityView>, Fault> {
    let rows = all(db, sql::IDENTITIES_OF, &[BoundValue::Text(&person.to_string())]).await?;
    Ok(rows.into_iter().map(|row| row.identity).collect())
}

/// Shuts an account of a person out; nothing where it is, or is another person's.
pub(crate) async fn end(
    db: &D1Database,
    identity: Identity<'_>,
    person: PersonId,
    made: &[Change],
    now: UnixMillis,
) -> Result<(), Fault> {
    let (provider, person) = (identity.provider.name(), person.to_string());
    let [provider, subject, person] = [provider.as_str(), identity.subject, &person].map(BoundValue::Text);
    change_of_many(db, (sql::IDENTITY_END, &[BoundValue::Ms(now), provider, subject, person]), made).await.map(|_| ())
}

/// What the mail about a linked account is made of; `None` where it was sent.
pub(crate) async fn read_mail(db: &D1Database, mail: MailId) -> Result<Option<IdentityMail>, Fault> {
    Ok(all(db, sql::IDENTITY_MAIL_GET, &[BoundValue::Text(&mail.to_string())]).await?.into_iter().next())
}

//! What operators find and change for support.

use super::super::change::{Change, change_of_many};
use super::super::{BoundValue, all, batch, rows_of, statement};
use super::rows::{FoundRow, MailToRepeat, PersonRow};
use super::sql;
use crate::storage::Statement;
use worker::D1Database;
use x402_api::operators::{FoundView, SearchTerm};
use x402_chain::id::{MailId, PersonId};
use x402_chain::time::UnixMillis;
use x402_core::error::Fault;

/// What the directory has by a term.
pub(crate) async fn search(db: &D1Database, term: &SearchTerm, now: UnixMillis) -> Result<Vec<FoundView>, Fault> {
    let one = |of: Statement<FoundRow>, text: String| async move { all(db, of, &[BoundValue::Text(&text)]).await };
    let rows = match term {
        SearchTerm::Email(email) => by_email(db, email, now).await,
        SearchTerm::Recipient(address) => one(sql::FOUND_RECIPIENTS, address.to_string()).await,
        SearchTerm::Settlement(id) => one(sql::FOUND_PAYMENTS, id.to_string()).await,
        SearchTerm::Verification(id, _) => one(sql::FOUND_PAYMENTS, id.to_string()).await,
        SearchTerm::Transaction(tx) => one(sql::FOUND_TRANSACTIONS, tx.to_string()).await,
    };
    Ok(rows?.into_iter().map(|row| row.found).collect())
}

/// Whose a mail address is, then its newest invitations and mails.
async fn by_email(db: &D1Database, email: &str, now: UnixMillis) -> Result<Vec<FoundRow>, Fault> {
    let email = BoundValue::Text(email);
    let statements = vec![
        statement(db, sql::FOUND_OWNERS, &[email])?,
        statement(db, sql::FOUND_MAILS, &[email, BoundValue::Ms(now)])?,
    ];
    let results = batch(db, statements).await?;
    let [owners, mails] = results.as_slice() else {
        return Err(Fault::internal("a batch of two statements gave another number of results"));
    };
    let mut found = rows_of(sql::FOUND_OWNERS, owners)?;
    found.extend(rows_of(sql::FOUND_MAILS, mails)?);
    Ok(found)
}

/// The person with an id or a mail address.
pub(crate) async fn find_person(db: &D1Database, id_or_email: &str) -> Result<Option<PersonRow>, Fault> {
    Ok(all(db, sql::PERSON_FIND, &[BoundValue::Text(id_or_email)]).await?.into_iter().next())
}

/// A mail that is to be repeated.
pub(crate) async fn find_mail(db: &D1Database, mail: MailId) -> Result<Option<MailToRepeat>, Fault> {
    Ok(all(db, sql::MAIL_TO_REPEAT, &[BoundValue::Text(&mail.to_string())]).await?.into_iter().next())
}

/// Repeats a mail as a new one; `false` where its link does not hold, its address gets no mails, or one about the same waits.
pub(crate) async fn repeat_mail(
    db: &D1Database,
    (old, new): (MailId, MailId),
    made: &[Change],
    now: UnixMillis,
) -> Result<bool, Fault> {
    let (old, new) = (old.to_string(), new.to_string());
    let bind = [BoundValue::Text(&new), BoundValue::Ms(now), BoundValue::Text(&old)];
    change_of_many(db, (sql::MAIL_REPEAT, &bind), made).await.map(|count| count > 0)
}

/// Lets an address get mails again; `false` where it was not marked.
pub(crate) async fn remove_mark(db: &D1Database, address: &str, made: &[Change]) -> Result<bool, Fault> {
    change_of_many(db, (sql::MARK_REMOVE, &[BoundValue::Text(address)]), made).await.map(|count| count > 0)
}

/// Ends all sessions of a person; returns how many held.
pub(crate) async fn end_all_sessions(
    db: &D1Database,
    person: PersonId,
    made: &[Change],
    now: UnixMillis,
) -> Result<usize, Fault> {
    let person = person.to_string();
    change_of_many(db, (sql::SESSIONS_END_COUNTED, &[BoundValue::Ms(now), BoundValue::Text(&person)]), made).await
}

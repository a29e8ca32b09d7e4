//! Requests to sign in, in the directory.

use super::super::{BoundValue, batch, rows_of, statement};
use super::sql;
use worker::D1Database;
use x402_api::session::MailRequest;
use x402_chain::id::{MailId, SignInId};
use x402_chain::time::UnixMillis;
use x402_core::error::Fault;
use x402_core::people::client::network_around;
use x402_core::people::secret::Secret;
use x402_core::people::sign_in;

/// A request to sign in that is to be written.
pub(crate) struct NewSignIn<'a> {
    pub(crate) id: SignInId,
    pub(crate) request: &'a MailRequest,
    pub(crate) token: &'a Secret,
    pub(crate) browser: &'a Secret,
    pub(crate) ip_prefix: &'a str,
    /// The cookie of a browser in which the person with the address has signed in.
    pub(crate) known: Option<&'a Secret>,
    /// Its mail, and the origin of the links in it.
    pub(crate) mail: MailId,
    pub(crate) origin: &'a str,
}

/// Whether a request may be sent its mail.
pub(crate) enum MailAllowed {
    /// It was written.
    Yes,
    /// There were too many: the milliseconds until the same request may succeed.
    After(u64),
}

/// Writes a request to sign in with its mail, unless there were too many. The same statements run whoever the address belongs
/// to.
pub(crate) async fn put_sign_in(db: &D1Database, new: &NewSignIn<'_>, now: UnixMillis) -> Result<MailAllowed, Fault> {
    let (id, mail) = (new.id.to_string(), new.mail.to_string());
    let (token, browser, known) = (new.token.hash(), new.browser.hash(), new.known.map(Secret::hash));
    let since = |ms: u64| BoundValue::Ms(UnixMillis(now.0.saturating_sub(ms)));
    let (around, mailbox) = (network_around(new.ip_prefix), sign_in::mailbox(&new.request.email));
    let (around, mailbox) = (BoundValue::Text(&around), BoundValue::Text(&mailbox));
    let (known, known_max) = (BoundValue::Maybe(known.as_deref()), BoundValue::Number(sign_in::KNOWN_DAY_MAX));
    let (prefix, new_max) = (BoundValue::Text(new.ip_prefix), BoundValue::Number(sign_in::NEW_AROUND_MAX));
    let day_max = [sign_in::ADDRESS_DAY_MAX, sign_in::ADDRESS_NEW_MAX].map(BoundValue::Number);
    let [address_max, address_new_max] = day_max;
    let bind = [
        BoundValue::Text(&id),
        BoundValue::Text(&new.request.email),
        BoundValue::Text(new.request.intent.name()),
        BoundValue::Maybe(new.request.company_name.as_deref()),
        BoundValue::Text(&token),
        BoundValue::Text(&browser),
        prefix,
        BoundValue::Ms(now),
        BoundValue::Ms(sign_in::expiry(now)),
        since(sign_in::SPAN_MS),
        since(sign_in::DAY_MS),
        BoundValue::Number(sign_in::ADDRESS_MAX),
        address_max,
        address_new_max,
        BoundValue::Number(sign_in::PREFIX_MAX),
        BoundValue::Number(sign_in::ALL_MAX),
        BoundValue::Number(sign_in::LITTLE),
        around,
        BoundValue::Number(sign_in::AROUND_MAX),
        mailbox,
        known,
        known_max,
        new_max,
    ];
    let put = statement(db, sql::SIGN_IN_PUT, &bind)?;
    let [mail, email, origin, id] = [&mail, &new.request.email, new.origin, &id].map(BoundValue::Text);
    let put_mail = statement(db, sql::SIGN_IN_MAIL_PUT, &[mail, email, origin, id, BoundValue::Ms(now)])?;
    let day = since(sign_in::DAY_MS);
    let bind = [mailbox, day, prefix, address_max, address_new_max, around, new_max, known, known_max];
    let results = batch(db, vec![put, put_mail, statement(db, sql::SIGN_IN_REFUSED_BY_DAY, &bind)?]).await?;
    let [added, _, refused] = results.as_slice() else {
        return Err(Fault::internal("a batch of three statements gave another number of results"));
    };
    if !rows_of(sql::SIGN_IN_PUT, added)?.is_empty() {
        return Ok(MailAllowed::Yes);
    }
    let first = rows_of(sql::SIGN_IN_REFUSED_BY_DAY, refused)?.into_iter().next();
    Ok(MailAllowed::After(match first {
        Some(first) => sign_in::DAY_MS.saturating_sub(now.since(first.created_at)),
        None => sign_in::SPAN_MS,
    }))
}

//! Sign-ins by other services in the directory.

use super::super::{BoundValue, all, statement};
use super::sql;
use worker::{D1Database, D1PreparedStatement};
use x402_chain::time::UnixMillis;
use x402_core::error::Fault;
use x402_core::people::oauth::{self, Identity, IdentityProvider};
use x402_core::people::secret::Secret;
use x402_core::people::sign_in::{ALL_MAX, LITTLE, PREFIX_MAX, SPAN_MS};

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

/// The address of the person whom a service names; `None` where the service has not signed anybody in as that.
pub(crate) async fn address_of(db: &D1Database, identity: Identity<'_>) -> Result<Option<String>, Fault> {
    let provider = identity.provider.name();
    let bind = [BoundValue::Text(&provider), BoundValue::Text(identity.subject)];
    Ok(all(db, sql::IDENTITY_GET, &bind).await?.into_iter().next().map(|row| row.email))
}

/// The statement that notes whom a service names: the person with an address, who is there by then.
pub(super) fn identity_statement(
    db: &D1Database,
    identity: Identity<'_>,
    email: &str,
    now: UnixMillis,
) -> Result<D1PreparedStatement, Fault> {
    let provider = identity.provider.name();
    let [provider, subject, email] = [provider.as_str(), identity.subject, email].map(BoundValue::Text);
    statement(db, sql::IDENTITY_PUT, &[provider, subject, BoundValue::Ms(now), email])
}

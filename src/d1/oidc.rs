//! Identity providers of tenants in the directory.

#[allow(unreachable_pub, reason = "public natively, for tests")]
pub mod rows;
#[allow(unreachable_pub, reason = "public natively, for tests")]
pub mod sql;

use super::change::{Change, change};
use super::{BoundValue, all, batch, result_of, rows_of, statement};
use rows::OidcRow;
use worker::D1Database;
use x402_api::oidc::OidcSettings;
use x402_chain::id::TenantId;
use x402_chain::time::UnixMillis;
use x402_core::error::Fault;
use x402_core::people::oidc::MailDomain;

/// The provider of a tenant, if it has set one.
pub(crate) async fn read_provider(db: &D1Database, tenant: TenantId) -> Result<Option<OidcRow>, Fault> {
    Ok(all(db, sql::OIDC_GET, &[BoundValue::Text(&tenant.to_string())]).await?.into_iter().next())
}

/// The provider of the tenant that has proven a domain.
pub(crate) async fn provider_of(db: &D1Database, domain: &MailDomain) -> Result<Option<OidcRow>, Fault> {
    Ok(all(db, sql::OIDC_OF_DOMAIN, &[BoundValue::Text(domain.as_str())]).await?.into_iter().next())
}

/// Sets the provider of the tenant of `made`. A proof stays where the domain does.
pub(crate) async fn put_provider(
    db: &D1Database,
    new: &OidcSettings,
    (sealed, dns_token): (&str, &str),
    made: &Change,
) -> Result<(), Fault> {
    let bind = [
        BoundValue::Text(&made.tenant.to_string()),
        BoundValue::Text(new.domain.as_str()),
        BoundValue::Text(&new.issuer),
        BoundValue::Text(&new.client.id),
        BoundValue::Text(sealed),
        BoundValue::Text(new.default_role.name()),
        BoundValue::Text(dns_token),
        BoundValue::Ms(made.at),
    ];
    change(db, (sql::OIDC_PUT, &bind), made, Vec::new()).await.map(|_| ())
}

/// Removes the provider of the tenant of `made`; `false` where there is none.
pub(crate) async fn remove_provider(db: &D1Database, made: &Change) -> Result<bool, Fault> {
    change(db, (sql::OIDC_REMOVE, &[BoundValue::Text(&made.tenant.to_string())]), made, Vec::new()).await
}

/// Notes that a tenant has proven its domain. `lost`: the tenant that had proven it before, whose record is gone, with what
/// is recorded of that. `false` where the settings were changed meanwhile.
///
/// # Errors
/// `DOMAIN_TAKEN` where a third tenant has proven the domain meanwhile.
pub(crate) async fn prove(
    db: &D1Database,
    row: &OidcRow,
    lost: Option<(&OidcRow, &Change)>,
    made: &Change,
) -> Result<bool, Fault> {
    let mut statements = Vec::new();
    if let Some((other, taken)) = lost {
        let tenant = other.tenant.to_string();
        let bind = [tenant.as_str(), other.domain.as_str(), &other.dns_token].map(BoundValue::Text);
        statements.push(statement(db, sql::OIDC_LOSE, &bind)?);
        statements.extend(taken.statements(db)?);
    }
    let at = statements.len();
    let tenant = row.tenant.to_string();
    let [tenant, domain, token] = [tenant.as_str(), row.domain.as_str(), &row.dns_token].map(BoundValue::Text);
    statements.push(statement(db, sql::OIDC_PROVE, &[BoundValue::Ms(made.at), tenant, domain, token])?);
    statements.extend(made.statements(db)?);
    let results = batch(db, statements).await?;
    let proven = results.get(at).map(|result| rows_of(sql::OIDC_PROVE, result)).transpose()?;
    Ok(proven.is_some_and(|rows| !rows.is_empty()))
}

/// Notes that the record of a proven domain was found again.
pub(crate) async fn note_checked(db: &D1Database, row: &OidcRow, now: UnixMillis) -> Result<(), Fault> {
    let tenant = row.tenant.to_string();
    let bind = [BoundValue::Ms(now), BoundValue::Text(&tenant), BoundValue::Text(&row.dns_token)];
    result_of(statement(db, sql::OIDC_CHECKED, &bind)?).await.map(|_| ())
}

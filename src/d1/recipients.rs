//! Which tenant holds an address: registered by an operator, derived, or by its first use in test.

use super::rows::{AddressRow, DefaultRow};
use super::{BoundValue, all, batch, no_tenant, rows_of, sql, statement, tenant_row};
use std::collections::BTreeSet;
use worker::{D1Database, D1PreparedStatement, D1Result};
use x402_api::admin::RecipientView;
use x402_chain::address::Address;
use x402_chain::id::TenantId;
use x402_chain::network;
use x402_chain::network::{Environment, Network};
use x402_chain::time::UnixMillis;
use x402_core::error::Fault;
use x402_core::tenancy::tenant::{FIRST_USES_MAX, Recipient};

pub(super) fn recipient_of(row: AddressRow, environment: Environment, defaults: &[DefaultRow]) -> Recipient {
    let AddressRow { address, text, first_use, only_on } = row;
    let own = defaults.iter().filter(|default| default.address == text);
    let chains =
        own.filter(|default| network::by_key(&default.chain).is_some_and(|network| network.environment == environment));
    let default_for = chains.map(|default| default.chain.clone()).collect();
    Recipient { address, default_for, first_use, only_on }
}

/// In test, registers an address to the tenant that uses it, unless a tenant holds it or held it, or this tenant holds
/// [`FIRST_USES_MAX`] addresses by first use. The directory's copy of the tenant shows whether it holds the address.
pub(crate) async fn register_first_use(
    db: &D1Database,
    tenant: TenantId,
    environment: Environment,
    address: &Address,
    now: UnixMillis,
) -> Result<(), Fault> {
    let (id, name, text) = (tenant.to_string(), environment.name(), address.to_string());
    let (id, name, text) = (BoundValue::Text(&id), BoundValue::Text(name), BoundValue::Text(&text));
    let most = BoundValue::Number(u64::try_from(FIRST_USES_MAX).map_err(Fault::internal)?);
    let put = [name, text, id, BoundValue::Ms(now), id, name, most];
    let touch = [BoundValue::Ms(now), id, name, text, id];
    let statements =
        vec![statement(db, sql::RECIPIENT_FIRST_USE, &put)?, statement(db, sql::FIRST_USER_TOUCH, &touch)?];
    batch(db, statements).await.map(|_| ())
}

/// Registers an address to a tenant for good. In test it is taken from a tenant that holds it only by first use: the
/// batch's results name that tenant, see [`previous_holders`].
pub(super) fn recipient_statements(
    db: &D1Database,
    tenant: TenantId,
    environment: Environment,
    address: &Address,
    now: UnixMillis,
) -> Result<Vec<D1PreparedStatement>, Fault> {
    let (id, name, text) = (tenant.to_string(), environment.name(), address.to_string());
    let (id, name, text, now) =
        (BoundValue::Text(&id), BoundValue::Text(name), BoundValue::Text(&text), BoundValue::Ms(now));
    let mut statements = Vec::new();
    if environment == Environment::Test {
        statements.push(statement(db, sql::RECIPIENT_LOSER, &[id, name, text])?);
        statements.push(statement(db, sql::RECIPIENT_LOSER_TOUCH, &[now, name, text, id])?);
        statements.push(statement(db, sql::RECIPIENT_TAKE, &[id, now, name, text, id])?);
    }
    statements.push(statement(db, sql::RECIPIENT_RESTORE, &[name, text, id])?);
    statements.push(statement(db, sql::RECIPIENT_PUT, &[name, text, id, now, name, text, id])?);
    Ok(statements)
}

/// The tenants that lost addresses by a batch, or by an earlier one that may have failed halfway: their ledgers must
/// load the directory's copies.
pub(super) fn previous_holders(results: &[D1Result]) -> Result<Vec<TenantId>, Fault> {
    let mut losers = BTreeSet::new();
    for result in results {
        // The other statements of the batch return no rows.
        losers.extend(rows_of(sql::RECIPIENT_LOSER, result)?.into_iter().filter_map(|row| row.tenant));
    }
    Ok(losers.into_iter().collect())
}

pub(super) fn default_statement(
    db: &D1Database,
    tenant: TenantId,
    network: &Network,
    address: &Address,
    replace: bool,
) -> Result<D1PreparedStatement, Fault> {
    let (tenant, address) = (tenant.to_string(), address.to_string());
    let sql = if replace { sql::DEFAULT_PUT } else { sql::DEFAULT_PUT_FIRST };
    statement(db, sql, &[BoundValue::Text(&tenant), BoundValue::Text(network.key), BoundValue::Text(&address)])
}

pub(super) fn removal_statements(
    db: &D1Database,
    tenant: &str,
    address: &str,
    now: UnixMillis,
) -> Result<[D1PreparedStatement; 2], Fault> {
    Ok([
        statement(
            db,
            sql::RECIPIENT_REMOVE,
            &[BoundValue::Ms(now), BoundValue::Text(tenant), BoundValue::Text(address)],
        )?,
        statement(db, sql::DEFAULTS_REMOVE, &[BoundValue::Text(tenant), BoundValue::Text(address)])?,
    ])
}

/// A tenant's recipients, removed ones too.
pub(crate) async fn list_recipients(db: &D1Database, tenant: TenantId) -> Result<Vec<RecipientView>, Fault> {
    if tenant_row(db, tenant).await?.is_none() {
        return Err(no_tenant());
    }
    let text = tenant.to_string();
    let rows = all(db, sql::RECIPIENTS_OF, &[BoundValue::Text(&text)]).await?;
    let defaults = all(db, sql::DEFAULTS_OF, &[BoundValue::Text(&text)]).await?;
    Ok(rows.iter().map(|row| row.view(&defaults)).collect())
}

/// Registers a recipient; returns the tenants that lost it.
pub(crate) async fn create_recipient(
    db: &D1Database,
    tenant: TenantId,
    (network, address): (&'static Network, &Address),
    default: Option<bool>,
    now: UnixMillis,
) -> Result<Vec<TenantId>, Fault> {
    let mut statements = recipient_statements(db, tenant, network.environment, address, now)?;
    if default != Some(false) {
        statements.push(default_statement(db, tenant, network, address, default == Some(true))?);
    }
    statements.push(statement(db, sql::TENANT_TOUCH, &[BoundValue::Ms(now), BoundValue::Text(&tenant.to_string())])?);
    previous_holders(&batch(db, statements).await?)
}

/// The next index of a child of the operator's key; an index is never used twice.
pub(crate) async fn next_child(
    db: &D1Database,
    tenant: TenantId,
    environment: Environment,
    now: UnixMillis,
) -> Result<u32, Fault> {
    let tenant = tenant.to_string();
    let bind = [BoundValue::Text(&tenant), BoundValue::Text(environment.name()), BoundValue::Ms(now)];
    let rows = all(db, sql::DERIVED_PUT, &bind).await?;
    rows.first().map(|row| row.number).ok_or_else(|| Fault::internal("the operator's key has no more children"))
}

/// Removes a recipient in both environments; it can never be registered again.
pub(crate) async fn remove_recipient(
    db: &D1Database,
    tenant: TenantId,
    address: &Address,
    now: UnixMillis,
) -> Result<(), Fault> {
    let text = tenant.to_string();
    let mut statements: Vec<_> = removal_statements(db, &text, &address.to_string(), now)?.into();
    statements.push(statement(db, sql::TENANT_TOUCH, &[BoundValue::Ms(now), BoundValue::Text(&text)])?);
    batch(db, statements).await.map(|_| ())
}

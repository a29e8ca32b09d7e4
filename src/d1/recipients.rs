//! Which tenant holds an address: registered by an operator, derived, or by its first use in test.

use super::change::Change;
use super::keys::touch_statement;
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
use x402_core::audit::AuditAction;
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

/// Registers an address to the tenant of `made` for good, and makes it the chain's default: always, never, or where it is
/// `None` if the chain has none. What is recorded is the first of it that changes anything. In test the address is taken
/// from a tenant that holds it only by first use: the batch's results name that tenant, see [`previous_holders`].
pub(super) fn addition_statements(
    db: &D1Database,
    (network, address): (&'static Network, &Address),
    default: Option<bool>,
    made: &Change,
) -> Result<Vec<D1PreparedStatement>, Fault> {
    let (id, text) = (made.tenant.to_string(), address.to_string());
    let (id, text, now) = (BoundValue::Text(&id), BoundValue::Text(&text), BoundValue::Ms(made.at));
    let name = BoundValue::Text(network.environment.name());
    let mut statements = Vec::new();
    if network.environment == Environment::Test {
        statements.push(statement(db, sql::RECIPIENT_LOSER, &[id, name, text])?);
        statements.push(statement(db, sql::RECIPIENT_LOSER_TOUCH, &[now, name, text, id])?);
        statements.push(statement(db, sql::RECIPIENT_TAKE, &[id, now, name, text, id])?);
        statements.extend(made.statements(db)?);
    }
    statements.push(statement(db, sql::RECIPIENT_RESTORE, &[name, text, id])?);
    statements.extend(made.statements(db)?);
    statements.push(statement(db, sql::RECIPIENT_PUT, &[name, text, id, now, name, text, id])?);
    statements.extend(made.statements(db)?);
    if default != Some(false) {
        let sql = if default == Some(true) { sql::DEFAULT_PUT } else { sql::DEFAULT_PUT_FIRST };
        statements.push(statement(db, sql, &[id, BoundValue::Text(network.key), text])?);
        statements.extend(made.statements_as(db, AuditAction::RecipientDefault)?);
    }
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

/// Retires the address that is the subject of `made`, in both environments.
pub(super) fn removal_statements(db: &D1Database, made: &Change) -> Result<Vec<D1PreparedStatement>, Fault> {
    let tenant = made.tenant.to_string();
    let (tenant, address) = (BoundValue::Text(&tenant), BoundValue::Text(&made.subject));
    let mut statements = vec![statement(db, sql::RECIPIENT_REMOVE, &[BoundValue::Ms(made.at), tenant, address])?];
    statements.extend(made.statements(db)?);
    statements.push(statement(db, sql::DEFAULTS_REMOVE, &[tenant, address])?);
    Ok(statements)
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
    recipient: (&'static Network, &Address),
    default: Option<bool>,
    made: &Change,
) -> Result<Vec<TenantId>, Fault> {
    let mut statements = addition_statements(db, recipient, default, made)?;
    statements.push(touch_statement(db, made)?);
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

/// Removes the recipient that is the subject of `made` in both environments; only its tenant can register it
/// again.
pub(crate) async fn remove_recipient(db: &D1Database, made: &Change) -> Result<(), Fault> {
    let mut statements = removal_statements(db, made)?;
    statements.push(touch_statement(db, made)?);
    batch(db, statements).await.map(|_| ())
}

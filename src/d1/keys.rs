//! A tenant's keys in the directory.

use super::change::{Change, change};
use super::{BoundValue, all, no_tenant, sql, statement, tenant_row};
use worker::{D1Database, D1PreparedStatement};
use x402_api::admin::KeyView;
use x402_chain::id::{KeyId, TenantId};
use x402_chain::network::Environment;
use x402_chain::time::UnixMillis;
use x402_core::error::Fault;
use x402_core::tenancy::key::{KeyHash, KeyKind};
use x402_core::tenancy::tenant::Scope;

/// A key to insert.
pub(crate) struct KeyToPut<'a> {
    pub(crate) id: KeyId,
    pub(crate) environment: Environment,
    pub(crate) kind: KeyKind,
    pub(crate) name: &'a str,
    pub(crate) hash: KeyHash,
    pub(crate) scopes: &'a [Scope],
    pub(crate) expires_at: Option<UnixMillis>,
}

/// The statement that inserts a key of the tenant of `made`.
pub(super) fn key_statement(db: &D1Database, key: &KeyToPut<'_>, made: &Change) -> Result<D1PreparedStatement, Fault> {
    let scopes = serde_json::to_string(key.scopes).map_err(Fault::internal)?;
    let (id, tenant, hash) = (key.id.to_string(), made.tenant.to_string(), key.hash.to_string());
    let bind = [
        BoundValue::Text(&id),
        BoundValue::Text(&tenant),
        BoundValue::Text(key.environment.name()),
        BoundValue::Text(key.name),
        BoundValue::Text(&hash),
        BoundValue::Text(&scopes),
        BoundValue::Ms(made.at),
        key.expires_at.map_or(BoundValue::Maybe(None), BoundValue::Ms),
        BoundValue::Text(key.kind.name()),
    ];
    statement(db, sql::KEY_PUT, &bind)
}

/// The statement that raises the version of a tenant, so that its ledgers load it.
pub(super) fn touch_statement(db: &D1Database, made: &Change) -> Result<D1PreparedStatement, Fault> {
    statement(db, sql::TENANT_TOUCH, &[BoundValue::Ms(made.at), BoundValue::Text(&made.tenant.to_string())])
}

/// A tenant's keys, the newest first.
pub(crate) async fn list_keys(db: &D1Database, tenant: TenantId) -> Result<Vec<KeyView>, Fault> {
    if tenant_row(db, tenant).await?.is_none() {
        return Err(no_tenant());
    }
    all(db, sql::KEYS_OF, &[BoundValue::Text(&tenant.to_string())]).await
}

/// A tenant's key, revoked or not; `None` where the tenant has none of this id.
pub(crate) async fn read_key(db: &D1Database, tenant: TenantId, key: KeyId) -> Result<Option<KeyView>, Fault> {
    if tenant_row(db, tenant).await?.is_none() {
        return Err(no_tenant());
    }
    let (tenant, key) = (tenant.to_string(), key.to_string());
    let rows = all(db, sql::KEY_GET, &[BoundValue::Text(&tenant), BoundValue::Text(&key)]).await?;
    Ok(rows.into_iter().next())
}

/// Inserts a key and raises the tenant's version.
pub(crate) async fn create_key(db: &D1Database, key: &KeyToPut<'_>, made: &Change) -> Result<(), Fault> {
    let mut statements = vec![key_statement(db, key, made)?];
    statements.extend(made.statements(db)?);
    statements.push(touch_statement(db, made)?);
    super::batch(db, statements).await.map(|_| ())
}

/// Revokes a key; a key that is revoked stays so, and nothing is recorded. The tenant's version is raised either way: a
/// ledger may not have loaded an earlier change.
pub(crate) async fn revoke_key(db: &D1Database, key: KeyId, made: &Change) -> Result<(), Fault> {
    let (tenant, key) = (made.tenant.to_string(), key.to_string());
    let bind = [BoundValue::Ms(made.at), BoundValue::Text(&tenant), BoundValue::Text(&key)];
    change(db, (sql::KEY_REVOKE, &bind), made, vec![touch_statement(db, made)?]).await.map(|_| ())
}

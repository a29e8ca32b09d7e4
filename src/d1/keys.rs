//! A tenant's keys in the directory.

use super::change::{Change, change};
use super::{BoundValue, all, no_tenant, sql, statement, tenant_row};
use crate::app::now;
use worker::{D1Database, D1PreparedStatement};
use x402_api::admin::{KEYS_MAX, KeyView, ROTATED_MAX};
use x402_chain::id::{KeyId, TenantId};
use x402_chain::network::Environment;
use x402_chain::time::UnixMillis;
use x402_core::error::Fault;
use x402_core::people::sign_in::LITTLE;
use x402_core::tenancy::allow_list::AllowedNetwork;
use x402_core::tenancy::key::{KeyHash, KeyKind};
use x402_core::tenancy::tenant::Scope;

/// The span in which reports of leaked keys are counted.
pub(crate) const REPORTS_SPAN_MS: u64 = 900_000;
/// The most reports of a network in the span: scanners report what they find in few requests a minute.
const REPORTS_MAX: u64 = 100;
/// The most reports of all in the span.
const REPORTS_ALL_MAX: u64 = 5_000;

/// A key to insert.
pub(crate) struct KeyToPut<'a> {
    pub(crate) id: KeyId,
    pub(crate) environment: Environment,
    pub(crate) kind: KeyKind,
    pub(crate) name: &'a str,
    pub(crate) hash: KeyHash,
    pub(crate) last_four: String,
    pub(crate) scopes: &'a [Scope],
    pub(crate) expires_at: Option<UnixMillis>,
    pub(crate) allow_list: &'a [AllowedNetwork],
}

/// The texts that the statement about a new key binds.
fn key_texts(key: &KeyToPut<'_>, made: &Change) -> Result<[String; 5], Fault> {
    let scopes = serde_json::to_string(key.scopes).map_err(Fault::internal)?;
    let allow_list = serde_json::to_string(key.allow_list).map_err(Fault::internal)?;
    Ok([key.id.to_string(), made.tenant.to_string(), key.hash.to_string(), scopes, allow_list])
}

/// What the statement about a new key of the tenant of `made` binds.
fn key_values<'a>(
    key: &'a KeyToPut<'_>,
    made: &Change,
    [id, tenant, hash, scopes, allow_list]: &'a [String; 5],
) -> Result<[BoundValue<'a>; 11], Fault> {
    Ok([
        BoundValue::Text(id),
        BoundValue::Text(tenant),
        BoundValue::Text(key.environment.name()),
        BoundValue::Text(key.name),
        BoundValue::Text(hash),
        BoundValue::Text(scopes),
        BoundValue::Ms(made.at),
        key.expires_at.map_or(BoundValue::Maybe(None), BoundValue::Ms),
        BoundValue::Text(key.kind.name()),
        BoundValue::Text(&key.last_four),
        BoundValue::Text(allow_list),
    ])
}

fn most(number: usize) -> Result<BoundValue<'static>, Fault> {
    u64::try_from(number).map(BoundValue::Number).map_err(Fault::internal)
}

/// The statement that inserts a key of the new tenant of `made`.
pub(super) fn first_key_statement(
    db: &D1Database,
    key: &KeyToPut<'_>,
    made: &Change,
) -> Result<D1PreparedStatement, Fault> {
    let texts = key_texts(key, made)?;
    statement(db, sql::KEY_PUT_FIRST, &key_values(key, made, &texts)?)
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
    all(db, sql::KEYS_OF, &[BoundValue::Text(&tenant.to_string()), BoundValue::Ms(now())]).await
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

/// A tenant's key, revoked or not, by the hash of its text; `None` where the tenant has none.
pub(crate) async fn find_key(db: &D1Database, tenant: TenantId, hash: KeyHash) -> Result<Option<KeyView>, Fault> {
    let (tenant, hash) = (tenant.to_string(), hash.to_string());
    let rows = all(db, sql::KEY_BY_HASH, &[BoundValue::Text(&tenant), BoundValue::Text(&hash)]).await?;
    Ok(rows.into_iter().next())
}

/// What follows a change of keys: those whose grace time is over are revoked, and the tenant's version is raised.
fn after(db: &D1Database, made: &Change) -> Result<Vec<D1PreparedStatement>, Fault> {
    let tenant = made.tenant.to_string();
    let end = statement(db, sql::KEYS_END, &[BoundValue::Ms(made.at), BoundValue::Text(&tenant)])?;
    Ok(vec![end, touch_statement(db, made)?])
}

/// Inserts a key and raises the tenant's version; `false` where the tenant has [`KEYS_MAX`] keys that hold, is being
/// deleted, or whoever makes the change may not do so any more.
pub(crate) async fn create_key(db: &D1Database, key: &KeyToPut<'_>, made: &Change) -> Result<bool, Fault> {
    let (texts, by) = (key_texts(key, made)?, made.actor.of_tenant());
    let [a, b, c, d, e, f, g, h, i, j, k] = key_values(key, made, &texts)?;
    let bind = [a, b, c, d, e, f, g, h, i, j, k, most(KEYS_MAX)?, BoundValue::Maybe(by.as_deref())];
    change(db, (sql::KEY_PUT, &bind), made, after(db, made)?).await
}

/// Whether the maker of a change may make a key with these scopes at this moment; an operator and the service may.
pub(crate) async fn may_make(db: &D1Database, scopes: &[Scope], made: &Change) -> Result<bool, Fault> {
    let Some(by) = made.actor.of_tenant() else { return Ok(true) };
    let (tenant, scopes) = (made.tenant.to_string(), serde_json::to_string(scopes).map_err(Fault::internal)?);
    let bind = [BoundValue::Text(&tenant), BoundValue::Text(&by), BoundValue::Text(&scopes), BoundValue::Ms(made.at)];
    Ok(!all(db, sql::KEY_MAKER, &bind).await?.is_empty())
}

/// A key that is to replace another, of which it takes everything but its text.
pub(crate) struct KeyRotation<'a> {
    /// The key that is replaced.
    pub(crate) old: KeyId,
    /// Until when that holds.
    pub(crate) grace_until: UnixMillis,
    pub(crate) new: KeyId,
    pub(crate) hash: KeyHash,
    pub(crate) last_four: &'a str,
}

/// Replaces a key; `false` where it is not in force, was replaced before, the tenant has [`ROTATED_MAX`] keys that hold,
/// or whoever makes the change may not do so any more.
pub(crate) async fn rotate_key(db: &D1Database, rotation: &KeyRotation<'_>, made: &Change) -> Result<bool, Fault> {
    let KeyRotation { old, grace_until, new, hash, last_four } = rotation;
    let texts = [old.to_string(), new.to_string(), hash.to_string(), made.tenant.to_string()];
    let [old, new, hash, tenant] = texts.each_ref().map(|text| BoundValue::Text(text));
    let last_four = BoundValue::Text(last_four);
    let (most, by) = (most(ROTATED_MAX)?, made.actor.of_tenant());
    let bind = [new, hash, last_four, BoundValue::Ms(made.at), tenant, old, most, BoundValue::Maybe(by.as_deref())];
    let mut then = vec![statement(db, sql::KEY_GRACE, &[BoundValue::Ms(*grace_until), tenant, old, new])?];
    then.extend(after(db, made)?);
    change(db, (sql::KEY_ROTATE, &bind), made, then).await
}

/// Revokes a key; a key that is revoked stays so, and nothing is recorded. The tenant's version is raised either way: a
/// ledger may not have loaded an earlier change.
pub(crate) async fn revoke_key(db: &D1Database, key: KeyId, made: &Change) -> Result<(), Fault> {
    let (tenant, key) = (made.tenant.to_string(), key.to_string());
    let bind = [BoundValue::Ms(made.at), BoundValue::Text(&tenant), BoundValue::Text(&key)];
    change(db, (sql::KEY_REVOKE, &bind), made, vec![touch_statement(db, made)?]).await.map(|_| ())
}

/// Counts a report of a leaked key; `false` where there were too many.
pub(crate) async fn count_report(db: &D1Database, ip_prefix: &str, now: UnixMillis) -> Result<bool, Fault> {
    let bind = [
        BoundValue::Text(ip_prefix),
        BoundValue::Ms(now),
        BoundValue::Ms(UnixMillis(now.0.saturating_sub(REPORTS_SPAN_MS))),
        BoundValue::Number(REPORTS_MAX),
        BoundValue::Number(REPORTS_ALL_MAX),
        BoundValue::Number(LITTLE),
    ];
    Ok(!all(db, sql::REPORT_PUT, &bind).await?.is_empty())
}

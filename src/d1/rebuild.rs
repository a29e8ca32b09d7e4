//! What rebuilds a tenant: its rows from what its ledgers know, and what a ledger that is rebuilt takes back.

#[allow(unreachable_pub, reason = "public natively, for tests")]
pub mod rows;
#[allow(unreachable_pub, reason = "public natively, for tests")]
pub mod sql;

use super::change::Change;
use super::{BoundValue, all, batch, result_of, statement};
use rows::{KeptSettlementRow, LostLedgerRow, UsageRow};
use serde_json::{Value, json};
use worker::{D1Database, D1PreparedStatement};
use x402_chain::id::{SettlementId, TenantId};
use x402_chain::network::Environment;
use x402_chain::time::UnixMillis;
use x402_core::error::Fault;
use x402_core::messages::ledger::rebuild::LedgerCopy;
use x402_core::records::archive::ArchiveOwner;
use x402_core::tenancy::admission::ClosedPeriod;
use x402_core::tenancy::tenant::{ApiKey, Tenant};
use x402_core::webhook::endpoint::EndpointStatus;
use x402_core::webhook::subscription::WebhookSubscription;

/// Notes that a ledger is to be rebuilt.
pub(crate) async fn note_lost(
    db: &D1Database,
    (tenant, environment): (TenantId, Environment),
    now: UnixMillis,
) -> Result<(), Fault> {
    let tenant = tenant.to_string();
    let bind = [BoundValue::Text(&tenant), BoundValue::Text(environment.name()), BoundValue::Ms(now)];
    result_of(statement(db, sql::LOST_PUT, &bind)?).await.map(|_| ())
}

/// Notes that a ledger is rebuilt, and records that, where it was noted as lost.
pub(crate) async fn note_rebuilt(db: &D1Database, environment: Environment, made: &Change) -> Result<(), Fault> {
    let tenant = made.tenant.to_string();
    let bind = [BoundValue::Text(&tenant), BoundValue::Text(environment.name())];
    let mut statements = vec![statement(db, sql::LOST_CLEAR, &bind)?];
    statements.extend(made.statements(db)?);
    batch(db, statements).await.map(|_| ())
}

/// Ledgers that are to be rebuilt, at most so many.
pub(crate) async fn lost_ledgers(db: &D1Database, limit: u64) -> Result<Vec<LostLedgerRow>, Fault> {
    all(db, sql::LOST_LEDGERS, &[BoundValue::Number(limit)]).await
}

/// Settlements before an id, the newest first, with what their ledger kept of them.
pub(crate) async fn kept_settlements(
    db: &D1Database,
    owner: ArchiveOwner,
    before: Option<SettlementId>,
    limit: u64,
) -> Result<Vec<KeptSettlementRow>, Fault> {
    // Greater than every id, for the first page.
    let (tenant, before) = (owner.tenant.to_string(), before.map_or_else(|| "stl_a".to_owned(), |id| id.to_string()));
    let bind = [
        BoundValue::Text(&tenant),
        BoundValue::Text(owner.environment.name()),
        BoundValue::Text(&before),
        BoundValue::Number(limit),
    ];
    all(db, sql::SETTLEMENTS_KEPT, &bind).await
}

/// What a ledger has counted, by period.
pub(crate) async fn usage_of(db: &D1Database, owner: ArchiveOwner) -> Result<Vec<ClosedPeriod>, Fault> {
    let tenant = owner.tenant.to_string();
    let bind = [BoundValue::Text(&tenant), BoundValue::Text(owner.environment.name())];
    Ok(all(db, sql::USAGE_OF, &bind).await?.into_iter().map(|UsageRow(usage)| usage).collect())
}

/// Writes what the ledgers of a tenant know of it, in one batch, and records that. Nothing of a newer version is overwritten.
pub(crate) async fn write_copies(db: &D1Database, copies: &[LedgerCopy], made: &Change) -> Result<(), Fault> {
    let Some(newest) = copies.iter().map(|copy| &copy.tenant).max_by_key(|tenant| tenant.version) else {
        return Ok(());
    };
    let mut statements = Vec::new();
    for copy in copies {
        statements.extend(copy_statements(db, copy, made.at)?);
    }
    statements.push(tenant_statement(db, newest, made.at)?);
    let tenant = made.tenant.to_string();
    statements.push(statement(db, sql::TENANT_NOTED, &[BoundValue::Text(&tenant)])?);
    statements.extend(made.statements(db)?);
    batch(db, statements).await.map(|_| ())
}

fn tenant_statement(db: &D1Database, tenant: &Tenant, now: UnixMillis) -> Result<D1PreparedStatement, Fault> {
    let (id, limits) = (tenant.id.to_string(), serde_json::to_string(&tenant.limits).map_err(Fault::internal)?);
    let bind = [
        BoundValue::Text(&id),
        BoundValue::Maybe(tenant.company_name.as_deref()),
        BoundValue::Text(tenant.tier.plan().name),
        BoundValue::Text(tenant.status.name()),
        BoundValue::Maybe(tenant.region.as_deref()),
        BoundValue::Text(&limits),
        BoundValue::Text(tenant.sanctions.name()),
        BoundValue::Number(tenant.explain.into()),
        BoundValue::Number(tenant.version),
        BoundValue::Ms(tenant.id.created_at()),
        BoundValue::Ms(now),
    ];
    statement(db, sql::TENANT_REBUILT, &bind)
}

/// The statements of keys, addresses and endpoints that one ledger knows.
fn copy_statements(db: &D1Database, copy: &LedgerCopy, now: UnixMillis) -> Result<Vec<D1PreparedStatement>, Fault> {
    let tenant = &copy.tenant;
    let (id, name) = (tenant.id.to_string(), tenant.environment.name());
    let (id, name, now) = (BoundValue::Text(&id), BoundValue::Text(name), BoundValue::Ms(now));
    let version = BoundValue::Number(tenant.version);
    let keys = Value::Array(tenant.keys.iter().map(key_value).collect::<Result<_, _>>()?).to_string();
    let last_used = serde_json::to_string(&copy.last_used).map_err(Fault::internal)?;
    let (mut recipients, mut defaults) = (Vec::new(), Vec::new());
    for each in &tenant.recipients {
        let (address, first_use) = (each.address.to_string(), u8::from(each.first_use));
        let chains = each.default_for.iter().map(|chain| json!({"chain": chain, "address": address}));
        defaults.extend(chains);
        // A list within the list is text, as the directory stores it.
        let only_on = each.only_on.as_ref().map(|chains| json!(chains).to_string());
        recipients.push(json!({"address": address, "first_use": first_use, "only_on": only_on}));
    }
    let [recipients, defaults] = [recipients, defaults].map(|list| Value::Array(list).to_string());
    let (keys, last_used) = (BoundValue::Text(&keys), BoundValue::Text(&last_used));
    let (recipients, defaults) = (BoundValue::Text(&recipients), BoundValue::Text(&defaults));
    let mut statements = vec![
        statement(db, sql::KEYS_ENDED, &[now, id, name, keys, version])?,
        statement(db, sql::KEYS_REBUILT, &[id, name, keys])?,
        statement(db, sql::KEYS_LAST_USED, &[id, last_used])?,
        statement(db, sql::RECIPIENTS_ENDED, &[now, id, name, recipients, version])?,
        statement(db, sql::RECIPIENTS_BACK, &[id, name, recipients, version])?,
        statement(db, sql::RECIPIENTS_REBUILT, &[id, name, now, recipients])?,
        statement(db, sql::DEFAULTS_REBUILT, &[id, defaults, version])?,
    ];
    // A build that knew no endpoints has stored the copy.
    if let Some(endpoints) = &tenant.webhooks {
        let list = Value::Array(endpoints.iter().map(endpoint_value).collect()).to_string();
        let list = BoundValue::Text(&list);
        statements.push(statement(db, sql::ENDPOINTS_ENDED, &[id, name, list, version])?);
        statements.push(statement(db, sql::ENDPOINTS_REBUILT, &[id, name, now, list, version])?);
    }
    Ok(statements)
}

fn key_value(key: &ApiKey) -> Result<Value, Fault> {
    let text = |list: Result<String, serde_json::Error>| list.map_err(Fault::internal);
    Ok(json!({
        "id": key.id.to_string(), "name": key.name, "hash": key.hash.to_string(),
        "scopes": text(serde_json::to_string(&key.scopes))?, "created_ms": key.created_at.0,
        "expires_ms": key.expires_at.map(|at| at.0), "allow_list": text(serde_json::to_string(&key.allow_list))?,
    }))
}

fn endpoint_value(one: &WebhookSubscription) -> Value {
    let status = if one.is_disabled() { EndpointStatus::Disabled } else { EndpointStatus::Paused };
    let (from, until) = one.earlier.unzip();
    let [disabled, active, from, until] = [one.disabled_at, one.active_at, from, until].map(|at| at.map(|at| at.0));
    json!({
        "id": one.id.to_string(), "events": json!(one.events).to_string(), "status": status.name(),
        "created_ms": one.id.created_at().0, "disabled_ms": disabled, "active_ms": active,
        "earlier_disabled_ms": from, "earlier_active_ms": until,
    })
}

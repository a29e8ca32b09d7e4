//! The directory (D1) executes the statements of [`sql`]. Related writes are one batch, every write may be repeated without
//! harm, and every query for a tenant's request names its tenant: only operators' lists and timed jobs read across tenants.

pub(crate) mod alerts;
pub(crate) mod billing;
pub(crate) mod change;
pub(crate) mod couriers;
pub(crate) mod deletions;
pub(crate) mod endpoints;
pub(crate) mod keys;
pub(crate) mod oidc;
pub(crate) mod operation;
pub(crate) mod people;
pub(crate) mod proofs;
pub(crate) mod rebuild;
mod recipients;
mod records;
mod rollups;
#[allow(unreachable_pub, reason = "public natively, for tests")]
pub mod rows;
pub(crate) mod settings;
#[allow(unreachable_pub, reason = "public natively, for tests")]
pub mod sql;

use crate::app::now;
use crate::storage::{FromRow, Present, SqlValue, Statement};
use change::Change;
use keys::{KeyToPut, first_key_statement};
use recipients::{addition_statements, previous_holders, recipient_of, removal_statements};
pub(crate) use recipients::{create_recipient, list_recipients, next_child, register_first_use, remove_recipient};
pub(crate) use records::{
    SettlementCopy, Shipment, close_period, list_records, list_settlements, open_periods, put_checks, put_stuck,
    read_checks, read_record, read_stuck, write_shipment,
};
pub(crate) use rollups::{read_rollups, write_rollups};
use rows::{DefaultRow, TenantRow};
use std::collections::BTreeMap;
use wasm_bindgen::JsValue;
use worker::{D1Database, D1PreparedStatement, D1Result};
use x402_api::admin::{NewTenant, TenantChange, TenantView};
use x402_api::billing::TierBy;
use x402_chain::address::Address;
use x402_chain::id::TenantId;
use x402_chain::network::{Environment, Network};
use x402_chain::time::UnixMillis;
use x402_core::audit::{CHANGES_HOUR_MAX, CHANGES_SPAN_MS};
use x402_core::error::{ErrorCode, Fault};
use x402_core::messages::ledger::PageQuery;
use x402_core::outbox::load::VALUE_BYTES_MAX;
use x402_core::tenancy::tenant::Tenant;

/// A value that a statement binds.
#[derive(Clone, Copy)]
enum BoundValue<'a> {
    Text(&'a str),
    Maybe(Option<&'a str>),
    Ms(UnixMillis),
    Number(u64),
}

impl BoundValue<'_> {
    /// The bytes that the value takes in a batch; numbers count as none.
    const fn bytes(&self) -> usize {
        match self {
            Self::Text(text) | Self::Maybe(Some(text)) => text.len(),
            Self::Maybe(None) | Self::Ms(_) | Self::Number(_) => 0,
        }
    }
}

impl From<&BoundValue<'_>> for JsValue {
    fn from(bind: &BoundValue<'_>) -> Self {
        match bind {
            BoundValue::Text(text) | BoundValue::Maybe(Some(text)) => Self::from_str(text),
            BoundValue::Maybe(None) => Self::NULL,
            BoundValue::Ms(UnixMillis(number)) | BoundValue::Number(number) => number_of(*number),
        }
    }
}

/// JavaScript's numbers are exact up to 2^53; times and counts stay far below.
fn number_of(number: u64) -> JsValue {
    let [high, low] = [number >> 32, number & 0xffff_ffff].map(|half| u32::try_from(half).unwrap_or(u32::MAX));
    JsValue::from_f64(f64::from(high).mul_add(4_294_967_296.0, f64::from(low)))
}

/// A statement with its values. A value larger than D1's limit is refused here, since a local D1 would accept it.
fn statement<T>(
    db: &D1Database,
    statement: Statement<T>,
    bind: &[BoundValue<'_>],
) -> Result<D1PreparedStatement, Fault> {
    bound(db, statement.text, bind)
}

fn bound(db: &D1Database, text: &'static str, bind: &[BoundValue<'_>]) -> Result<D1PreparedStatement, Fault> {
    if let Some(bytes) = bind.iter().map(BoundValue::bytes).find(|bytes| *bytes > VALUE_BYTES_MAX) {
        return Err(Fault::internal(format!("a value of {bytes} bytes: the directory takes {VALUE_BYTES_MAX}")));
    }
    let values: Vec<JsValue> = bind.iter().map(JsValue::from).collect();
    db.prepare(text).bind(&values).map_err(Fault::internal)
}

/// The directory failed; a write may have happened all the same.
fn d1_unavailable(error: impl core::fmt::Display) -> Fault {
    Fault::new(ErrorCode::LedgerUnavailable, "the directory is not available").after(1).because(error)
}

async fn all<T: FromRow>(db: &D1Database, query: Statement<T>, bind: &[BoundValue<'_>]) -> Result<Vec<T>, Fault> {
    rows_of(query, &result_of(statement(db, query, bind)?).await?)
}

/// What a statement returned.
async fn result_of(statement: D1PreparedStatement) -> Result<D1Result, Fault> {
    statement.all().await.map_err(d1_unavailable)
}

/// The rows that a statement returned.
fn rows_of<T: FromRow>(query: Statement<T>, result: &D1Result) -> Result<Vec<T>, Fault> {
    query.read_all(values_of(query.name, T::COLUMNS, result)?)
}

/// The values of the rows that a statement returned, in the order of the columns. D1 gives each row as an object.
fn values_of(name: &str, columns: &[&str], result: &D1Result) -> Result<Vec<Vec<SqlValue>>, Fault> {
    let rows: Vec<BTreeMap<String, SqlValue>> = result.results().map_err(Fault::internal)?;
    let mut all = Vec::with_capacity(rows.len());
    for mut row in rows {
        let values = columns.iter().map(|column| row.remove(*column).ok_or(column));
        let values = values.collect::<Result<_, _>>();
        all.push(values.map_err(|column| Fault::internal(format!("{name}: column {column} is missing")))?);
    }
    Ok(all)
}

async fn batch(db: &D1Database, statements: Vec<D1PreparedStatement>) -> Result<Vec<D1Result>, Fault> {
    db.batch(statements).await.map_err(|error| {
        let message = error.to_string();
        if message.contains("tenants.email") {
            Fault::new(ErrorCode::EmailTaken, "another tenant has this e-mail address").at("email")
        } else if message.contains("sign_ins.email") || message.contains("invitations.email") {
            Fault::new(ErrorCode::InvalidSignIn, "the link or the code was used, or holds no longer")
        } else if message.contains("audit_log.created_ms") {
            let detail = format!("too many changes of the tenant: at most {CHANGES_HOUR_MAX} in an hour are recorded");
            Fault::new(ErrorCode::RateLimited, detail).after(CHANGES_SPAN_MS / 1_000)
        } else if message.contains("audit_log.actor_id") {
            let detail = "your role in the tenant was taken away, or the key was revoked, meanwhile";
            Fault::new(ErrorCode::InsufficientRole, detail)
        } else if message.contains("identities.person_id") {
            Fault::new(ErrorCode::InvalidSignIn, "the account of the other service was removed, or linked, meanwhile")
        } else if message.contains("oidc_connections.domain") {
            Fault::new(ErrorCode::DomainTaken, "another tenant has proven the domain meanwhile").at("domain")
        } else if message.contains("recipients.environment") {
            let detail = "an address belongs, or belonged, to another tenant in this environment";
            Fault::new(ErrorCode::RecipientTaken, detail).at("recipients")
        } else if message.contains("recipient_challenge_is_used_once") {
            Fault::new(ErrorCode::InvalidProof, "the challenge was used before: ask for another").at("nonce")
        } else {
            d1_unavailable(message)
        }
    })
}

/// Whether the directory can be reached.
pub(crate) async fn ping(db: &D1Database) -> Result<(), Fault> {
    all(db, sql::PING, &[]).await.map(|_: Vec<Present>| ())
}

/// A tenant's copy for one environment; `None` if there is no such tenant.
pub(crate) async fn load_tenant(
    db: &D1Database,
    tenant: TenantId,
    environment: Environment,
) -> Result<Option<Tenant>, Fault> {
    Ok(load_first(db, tenant, environment).await?.map(|(tenant, _)| tenant))
}

/// The same for a ledger that may be empty, with whether the directory knows that it has counted something.
pub(crate) async fn load_first(
    db: &D1Database,
    tenant: TenantId,
    environment: Environment,
) -> Result<Option<(Tenant, bool)>, Fault> {
    let (id, name) = (tenant.to_string(), environment.name());
    let of_tenant = [BoundValue::Text(&id)];
    let in_environment = [BoundValue::Text(&id), BoundValue::Text(name)];
    let results = batch(
        db,
        vec![
            statement(db, sql::TENANT_GET, &of_tenant)?,
            statement(db, sql::KEYS_IN_FORCE, &[BoundValue::Text(&id), BoundValue::Text(name), BoundValue::Ms(now())])?,
            statement(db, sql::RECIPIENTS_IN_FORCE, &in_environment)?,
            statement(db, sql::DEFAULTS_OF, &of_tenant)?,
            statement(db, sql::ENDPOINTS_OF_TENANT, &in_environment)?,
            statement(db, rebuild::sql::LEDGER_USED, &in_environment)?,
        ],
    )
    .await?;
    let [tenants, keys, recipients, defaults, endpoints, used] = results.as_slice() else {
        return Err(Fault::internal("a batch of six statements gave another number of results"));
    };
    let Some(row) = rows_of(sql::TENANT_GET, tenants)?.into_iter().next() else { return Ok(None) };
    let keys = rows_of(sql::KEYS_IN_FORCE, keys)?;
    let defaults = rows_of(sql::DEFAULTS_OF, defaults)?;
    let recipients = rows_of(sql::RECIPIENTS_IN_FORCE, recipients)?;
    let recipients = recipients.into_iter().map(|row| recipient_of(row, environment, &defaults)).collect();
    let webhooks = rows_of(sql::ENDPOINTS_OF_TENANT, endpoints)?;
    let has_counted = !rows_of(rebuild::sql::LEDGER_USED, used)?.is_empty();
    Ok(Some((row.tenant(environment, keys, recipients, webhooks), has_counted)))
}

async fn tenant_row(db: &D1Database, tenant: TenantId) -> Result<Option<TenantRow>, Fault> {
    Ok(all(db, sql::TENANT_GET, &[BoundValue::Text(&tenant.to_string())]).await?.into_iter().next())
}

/// A tenant as operators see it, with its version.
pub(crate) async fn read_tenant(db: &D1Database, tenant: TenantId) -> Result<(TenantView, u64), Fault> {
    let Some(row) = tenant_row(db, tenant).await? else { return Err(no_tenant()) };
    let defaults = all(db, sql::DEFAULTS_OF, &[BoundValue::Text(&tenant.to_string())]).await?;
    Ok((row.view(defaults.iter()), row.version))
}

fn no_tenant() -> Fault {
    Fault::new(ErrorCode::NotFound, "no such tenant")
}

/// Tenants, the newest first, one more than the page holds.
pub(crate) async fn list_tenants(db: &D1Database, page: &PageQuery) -> Result<Vec<TenantView>, Fault> {
    // Greater than every id, for the first page.
    let before = page.before.as_deref().unwrap_or("ten_g");
    let limit = u64::from(page.limit).saturating_add(1);
    let rows = all(db, sql::TENANTS_BEFORE, &[BoundValue::Text(before), BoundValue::Number(limit)]).await?;
    let ids: Vec<TenantId> = rows.iter().map(|row| row.id).collect();
    let ids = serde_json::to_string(&ids).map_err(Fault::internal)?;
    let mut of: BTreeMap<TenantId, Vec<DefaultRow>> = BTreeMap::new();
    for row in all(db, sql::DEFAULTS_OF_MANY, &[BoundValue::Text(&ids)]).await? {
        of.entry(row.tenant).or_default().push(row.default);
    }
    Ok(rows.iter().map(|row| row.view(of.get(&row.id).map_or(&[][..], Vec::as_slice).iter())).collect())
}

/// A new tenant's keys and recipients, each with what is recorded of it.
pub(crate) struct FirstRows<'a> {
    /// What is recorded of the tenant itself.
    pub(crate) made: &'a Change,
    pub(crate) recipients: &'a [(&'static Network, Address, Change)],
    pub(crate) keys: &'a [(KeyToPut<'a>, Change)],
}

/// Creates a tenant with its first keys; returns the tenants that lost addresses.
pub(crate) async fn create_tenant(
    db: &D1Database,
    tenant: &NewTenant,
    first: &FirstRows<'_>,
) -> Result<Vec<TenantId>, Fault> {
    previous_holders(&batch(db, tenant_statements(db, tenant, first)?).await?)
}

/// The statements that create a tenant.
fn tenant_statements(
    db: &D1Database,
    tenant: &NewTenant,
    first: &FirstRows<'_>,
) -> Result<Vec<D1PreparedStatement>, Fault> {
    let (text, at) = (first.made.tenant.to_string(), BoundValue::Ms(first.made.at));
    let limits = serde_json::to_string(&tenant.limits).map_err(Fault::internal)?;
    let bind = [
        BoundValue::Text(&text),
        BoundValue::Text(&tenant.email),
        BoundValue::Maybe(tenant.company_name.as_deref()),
        BoundValue::Text(tenant.tier.plan().name),
        BoundValue::Maybe(tenant.region),
        BoundValue::Text(&limits),
        BoundValue::Text(tenant.sanctions.name()),
        BoundValue::Number(tenant.explain.into()),
        at,
        at,
    ];
    let mut statements = vec![statement(db, sql::TENANT_PUT, &bind)?];
    statements.extend(first.made.statements(db)?);
    for (key, made) in first.keys {
        statements.push(first_key_statement(db, key, made)?);
        statements.extend(made.statements(db)?);
    }
    for (network, address, made) in first.recipients {
        statements.extend(addition_statements(db, (network, address), Some(true), made)?);
    }
    Ok(statements)
}

/// Changes a tenant; returns the tenants that lost addresses. `made` is absent where only recipients are changed, each of
/// which has its own. `first` are statements that come in front of the change, in its batch.
pub(crate) async fn change_tenant(
    db: &D1Database,
    id: TenantId,
    (change, made, first): (&TenantChange, Option<&Change>, Vec<D1PreparedStatement>),
    recipients: Vec<(&'static Network, Option<Address>, Change)>,
    now: UnixMillis,
) -> Result<Vec<TenantId>, Fault> {
    let text = id.to_string();
    if tenant_row(db, id).await?.is_none() {
        return Err(no_tenant());
    }
    let limits = serde_json::to_string(&change.limits).map_err(Fault::internal)?;
    let bind = [
        BoundValue::Maybe(change.email.as_deref()),
        BoundValue::Number(u64::from(change.company_name.is_some())),
        BoundValue::Maybe(change.company_name.as_ref().and_then(Option::as_deref)),
        BoundValue::Maybe(change.tier.map(|tier| tier.plan().name)),
        BoundValue::Maybe(change.status.map(x402_core::tenancy::tenant::TenantStatus::name)),
        BoundValue::Text(&limits),
        BoundValue::Maybe(change.sanctions.map(x402_core::verdict::SanctionsPolicy::name)),
        change.explain.map_or(BoundValue::Maybe(None), |explain| BoundValue::Number(explain.into())),
        BoundValue::Maybe(change.tier_by.map(TierBy::name)),
        BoundValue::Ms(now),
        BoundValue::Text(&text),
    ];
    let mut statements = first;
    statements.push(statement(db, sql::TENANT_PATCH, &bind)?);
    if let Some(made) = made {
        statements.extend(made.statements(db)?);
    }
    let defaults = all(db, sql::DEFAULTS_OF, &[BoundValue::Text(&text)]).await?;
    for (network, address, made) in recipients {
        match address {
            Some(address) => statements.extend(addition_statements(db, (network, &address), Some(true), &made)?),
            None => {
                if let Some(removed) = defaults.iter().find(|default| default.chain == network.key) {
                    let made = Change { subject: removed.address.clone(), ..made };
                    statements.extend(removal_statements(db, &made)?);
                }
            }
        }
    }
    previous_holders(&batch(db, statements).await?)
}

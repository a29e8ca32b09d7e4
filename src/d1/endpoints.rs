//! Webhook endpoints in the directory.

#[allow(unreachable_pub, reason = "public natively, for tests")]
pub mod rows;
#[allow(unreachable_pub, reason = "public natively, for tests")]
pub mod sql;

use super::change::{Change, change};
use super::keys::touch_statement;
use super::{BoundValue, all, result_of, statement};
use crate::app::{App, now};
use crate::webcrypto;
use rows::{EndpointRow, LostSecrets};
use worker::D1Database;
use x402_api::webhook_endpoints::{EndpointChange, NewEndpoint};
use x402_chain::id::{EndpointId, TenantId};
use x402_chain::network::Environment;
use x402_chain::time::UnixMillis;
use x402_core::error::Fault;
use x402_core::sealing::SealedRow;
use x402_core::webhook::endpoint::{EndpointStatus, PREVIOUS_SECRET_MS};
use x402_core::webhook::secret::WebhookSecret;
use x402_core::webhook::subscription::ENDPOINTS_MAX;

/// The row of an endpoint's secrets. The present one and the one before it are sealed under the same name, so that one statement
/// makes the one the other; both are the endpoint's, and neither opens in the row of another.
const fn secret_row(id: &str) -> SealedRow<'_> {
    SealedRow { table: "webhook_endpoints", id }
}

/// Seals a secret of an endpoint; the text to store.
///
/// # Errors
/// `INTERNAL` where there is no pepper, or the platform refuses.
pub(crate) async fn seal_secret(app: &App, id: EndpointId, secret: &WebhookSecret) -> Result<String, Fault> {
    webcrypto::seal(app.settings.peppers(), secret_row(&id.to_string()), &secret.text()).await
}

/// What a message to an endpoint is sent by.
pub(crate) struct EndpointTarget {
    pub(crate) tenant: TenantId,
    /// The environment whose events it gets.
    pub(crate) environment: Environment,
    /// Where messages are sent to.
    pub(crate) url: String,
    pub(crate) status: EndpointStatus,
    /// The secrets that sign: the present one, then, for a day after a rotation, the one before it. None where no pepper opens the
    /// present one.
    pub(crate) secrets: Vec<WebhookSecret>,
    /// Whether it is noted that no pepper opens the secret.
    pub(crate) is_secret_lost: bool,
    /// Whether the tenant is served, and its tier includes webhooks.
    pub(crate) may_deliver: bool,
}

/// What a message to an endpoint is sent by at this moment; `None` where there is no such endpoint.
///
/// # Errors
/// Where the directory fails.
pub(crate) async fn read_target(app: &App, id: EndpointId) -> Result<Option<EndpointTarget>, Fault> {
    let text = id.to_string();
    let rows = all(&app.db()?, sql::ENDPOINT_TARGET, &[BoundValue::Text(&text)]).await?;
    let Some(row) = rows.into_iter().next() else { return Ok(None) };
    let may_deliver = row.may_deliver();
    let previous = row.previous.filter(|(_, until)| now() < *until).map(|(sealed, _)| sealed);
    let mut secrets = Vec::with_capacity(2);
    for sealed in [Some(row.secret_sealed), previous].into_iter().flatten() {
        let opened = webcrypto::open(app.settings.peppers(), secret_row(&text), &sealed).await;
        match opened.and_then(|secret| WebhookSecret::parse(&secret)) {
            Some(secret) => secrets.push(secret),
            // The one before it alone is what the receiver may have replaced by now.
            None if secrets.is_empty() => break,
            None => {}
        }
    }
    let (tenant, environment, url, status) = (row.tenant, row.environment, row.url, row.status);
    let is_secret_lost = row.secret_lost.is_some();
    Ok(Some(EndpointTarget { tenant, environment, url, status, secrets, is_secret_lost, may_deliver }))
}

/// A tenant's endpoints, the newest first.
pub(crate) async fn list_endpoints(db: &D1Database, tenant: TenantId) -> Result<Vec<EndpointRow>, Fault> {
    all(db, sql::ENDPOINTS_OF, &[BoundValue::Text(&tenant.to_string())]).await
}

/// A tenant's endpoint; `None` where the tenant has none of this id.
pub(crate) async fn read_endpoint(
    db: &D1Database,
    tenant: TenantId,
    id: EndpointId,
) -> Result<Option<EndpointRow>, Fault> {
    let (tenant, id) = (tenant.to_string(), id.to_string());
    let rows = all(db, sql::ENDPOINT_GET, &[BoundValue::Text(&tenant), BoundValue::Text(&id)]).await?;
    Ok(rows.into_iter().next())
}

/// Inserts an endpoint of the tenant of `made`, and raises the tenant's version; `false` where the tenant has
/// [`ENDPOINTS_MAX`] in the environment, or is being deleted.
pub(crate) async fn create_endpoint(
    db: &D1Database,
    new: &NewEndpoint,
    (id, sealed): (EndpointId, &str),
    made: &Change,
) -> Result<bool, Fault> {
    let (id, tenant) = (id.to_string(), made.tenant.to_string());
    let events = serde_json::to_string(&new.events).map_err(Fault::internal)?;
    let bind = [
        BoundValue::Text(&id),
        BoundValue::Text(&tenant),
        BoundValue::Text(new.environment.name()),
        BoundValue::Text(new.url.as_str()),
        BoundValue::Text(&events),
        BoundValue::Maybe(new.description.as_deref()),
        BoundValue::Text(sealed),
        BoundValue::Ms(made.at),
        BoundValue::Number(ENDPOINTS_MAX),
    ];
    change(db, (sql::ENDPOINT_PUT, &bind), made, vec![touch_statement(db, made)?]).await
}

/// Changes an endpoint, and raises the tenant's version; `false` where nothing changes.
pub(crate) async fn change_endpoint(
    db: &D1Database,
    id: EndpointId,
    new: &EndpointChange,
    made: &Change,
) -> Result<bool, Fault> {
    let (id, tenant) = (id.to_string(), made.tenant.to_string());
    let events = new.events.as_ref().map(serde_json::to_string).transpose().map_err(Fault::internal)?;
    let bind = [
        BoundValue::Maybe(new.url.as_ref().map(|url| url.as_str())),
        BoundValue::Maybe(events.as_deref()),
        BoundValue::Number(new.description.is_some().into()),
        BoundValue::Maybe(new.description.as_ref().and_then(Option::as_deref)),
        BoundValue::Maybe(new.status.map(EndpointStatus::name)),
        BoundValue::Ms(made.at),
        BoundValue::Text(&tenant),
        BoundValue::Text(&id),
    ];
    change(db, (sql::ENDPOINT_PATCH, &bind), made, vec![touch_statement(db, made)?]).await
}

/// Notes since when no pepper opens the secret of an endpoint, or that one does.
pub(crate) async fn note_secret_lost(db: &D1Database, id: EndpointId, since: Option<UnixMillis>) -> Result<(), Fault> {
    let since = since.map_or(BoundValue::Maybe(None), BoundValue::Ms);
    result_of(statement(db, sql::SECRET_LOST, &[since, BoundValue::Text(&id.to_string())])?).await.map(|_| ())
}

/// How many endpoints have a secret that no pepper opens, and one of them.
pub(crate) async fn lost_secrets(db: &D1Database) -> Result<LostSecrets, Fault> {
    let rows = all(db, sql::SECRETS_LOST, &[]).await?;
    Ok(rows.into_iter().next().unwrap_or_default())
}

/// Whether an endpoint has this secret, sealed.
async fn has_secret(db: &D1Database, id: &str, sealed: &str) -> Result<bool, Fault> {
    let rows = all(db, sql::ENDPOINT_TARGET, &[BoundValue::Text(id)]).await?;
    Ok(rows.iter().any(|row| row.secret_sealed == sealed))
}

/// Gives an endpoint a new secret; the present one signs for a day more. `false` where there is no such endpoint.
pub(crate) async fn rotate_secret(db: &D1Database, id: EndpointId, sealed: &str, made: &Change) -> Result<bool, Fault> {
    let (id, tenant) = (id.to_string(), made.tenant.to_string());
    let bind = [
        BoundValue::Text(sealed),
        BoundValue::Ms(made.at.plus(PREVIOUS_SECRET_MS)),
        BoundValue::Ms(made.at),
        BoundValue::Text(&tenant),
        BoundValue::Text(&id),
    ];
    match change(db, (sql::ENDPOINT_ROTATE, &bind), made, Vec::new()).await {
        // It may have been done, and its answer lost. Whoever repeats it would end the secret that is in use, for one that nobody
        // has ever seen.
        Err(fault) => {
            if has_secret(db, &id, sealed).await.unwrap_or_default() {
                Ok(true)
            } else {
                Err(fault)
            }
        }
        done @ Ok(_) => done,
    }
}

/// Removes an endpoint, and raises the tenant's version; `false` where there is none.
pub(crate) async fn remove_endpoint(db: &D1Database, id: EndpointId, made: &Change) -> Result<bool, Fault> {
    let (id, tenant) = (id.to_string(), made.tenant.to_string());
    let bind = [BoundValue::Text(&tenant), BoundValue::Text(&id)];
    change(db, (sql::ENDPOINT_REMOVE, &bind), made, vec![touch_statement(db, made)?]).await
}

/// Erases the endpoints of a tenant.
pub(crate) async fn erase_endpoints(db: &D1Database, tenant: TenantId) -> Result<(), Fault> {
    let erase = statement(db, sql::ENDPOINTS_ERASE, &[BoundValue::Text(&tenant.to_string())])?;
    result_of(erase).await.map(|_| ())
}

/// Endpoints that were removed and whose Couriers may hold something, those first that were tried least lately.
pub(crate) async fn removed_endpoints(db: &D1Database, limit: u64) -> Result<Vec<EndpointId>, Fault> {
    let rows = all(db, sql::REMOVED_ENDPOINTS, &[BoundValue::Number(limit)]).await?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}

/// Notes that the Courier of a removed endpoint could not be made to erase what it holds.
pub(crate) async fn note_tried(db: &D1Database, id: EndpointId, now: UnixMillis) -> Result<(), Fault> {
    let bind = [BoundValue::Ms(now), BoundValue::Text(&id.to_string())];
    result_of(statement(db, sql::REMOVED_TRIED, &bind)?).await.map(|_| ())
}

/// Notes that the Courier of a removed endpoint holds nothing any more.
pub(crate) async fn note_erased(db: &D1Database, id: EndpointId) -> Result<(), Fault> {
    result_of(statement(db, sql::REMOVED_ERASED, &[BoundValue::Text(&id.to_string())])?).await.map(|_| ())
}

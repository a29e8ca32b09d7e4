//! `/v1/webhook-endpoints`: a tenant says where its events are sent to. The ledgers of the tenant load which endpoints there are,
//! as they load keys.

use super::directory::reload_tenant;
use crate::app;
use crate::app::App;
use crate::clients::courier::call_courier;
use crate::d1;
use crate::d1::change::Change;
use crate::d1::deletions;
use crate::d1::endpoints::rows::EndpointRow;
use crate::d1::endpoints::{
    change_endpoint, create_endpoint, list_endpoints, read_endpoint, remove_endpoint, rotate_secret, seal_secret,
};
use crate::erasure::erase_courier;
use crate::request::IncomingRequest;
use crate::telemetry::{TelemetryField, TelemetryKind, event};
use crate::webhook_target::check_target;
use x402_api::ApiReply;
use x402_api::records::ListPage;
use x402_api::webhook_endpoints::{
    EndpointAlone, EndpointCreated, EndpointRemoved, EndpointRotated, endpoint_change, new_endpoint, too_many_endpoints,
};
use x402_chain::id::{EndpointId, TenantId};
use x402_chain::network::Environment;
use x402_core::audit::AuditAction;
use x402_core::error::{ErrorCode, Fault};
use x402_core::messages::courier::CourierMessage;
use x402_core::webhook::endpoint::EndpointStatus;
use x402_core::webhook::secret::WebhookSecret;

fn none() -> Fault {
    Fault::new(ErrorCode::NotFound, "no such webhook endpoint")
}

/// Checks that a key sees an endpoint's environment; a session sees both.
fn check_environment(incoming: &IncomingRequest, environment: Environment) -> Result<(), Fault> {
    match incoming.environment() {
        Some(own) if own != environment => {
            let detail = format!("a {} key manages no {} endpoints", own.name(), environment.name());
            Err(Fault::new(ErrorCode::EnvironmentMismatch, detail))
        }
        Some(_) | None => Ok(()),
    }
}

/// The endpoint of the caller's tenant that the path names.
///
/// # Errors
/// `NOT_FOUND`, also for another tenant's; `ENVIRONMENT_MISMATCH`.
pub(super) async fn named(app: &App, incoming: &IncomingRequest) -> Result<EndpointRow, Fault> {
    let id = EndpointId::parse(incoming.param(0)).ok_or_else(none)?;
    let row = read_endpoint(&app.db()?, incoming.tenant()?, id).await?.ok_or_else(none)?;
    check_environment(incoming, row.environment)?;
    Ok(row)
}

pub(super) async fn check_tier(app: &App, tenant: TenantId) -> Result<(), Fault> {
    d1::read_tenant(&app.db()?, tenant).await?.0.tier.check_webhooks()
}

/// A change of an endpoint, as the audit log records it.
fn change_of(incoming: &IncomingRequest, action: AuditAction, row: &EndpointRow) -> Result<Change, Fault> {
    Ok(incoming.change(action, row.id.to_string())?.of(row.environment))
}

fn log(called: Result<(), Fault>) {
    if let Err(fault) = called {
        event(TelemetryKind::CourierFailed, &[TelemetryField::Cause(&fault)]);
    }
}

/// Has the Courier read the endpoint again. One that is not reached does so within ten minutes, and before each alarm.
async fn wake_courier(app: &App, id: EndpointId, message: CourierMessage) {
    let called = match app.couriers() {
        Ok(couriers) => call_courier(&couriers, id, message).await.map(|_| ()),
        Err(fault) => Err(fault),
    };
    log(called);
}

/// `GET /v1/webhook-endpoints`: of both environments, or of the key's.
pub(super) async fn list(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let rows = list_endpoints(&app.db()?, incoming.tenant()?).await?;
    let seen = rows.into_iter().filter(|row| check_environment(incoming, row.environment).is_ok());
    let data = seen.map(|row| row.view(incoming.now)).collect();
    Ok(ApiReply::json(200, &ListPage { data, next_cursor: None }))
}

/// `GET /v1/webhook-endpoints/{id}`.
pub(super) async fn read(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let webhook_endpoint = named(app, incoming).await?.view(incoming.now);
    Ok(ApiReply::json(200, &EndpointAlone { webhook_endpoint }))
}

/// `POST /v1/webhook-endpoints`. A request that is repeated makes another endpoint, and nobody would have the secret of this
/// one: so a ledger that is not reached is no error.
pub(super) async fn create(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let (tenant, db) = (incoming.tenant()?, app.db()?);
    let new = new_endpoint(&incoming.body, &app.origin)?;
    check_environment(incoming, new.environment)?;
    check_tier(app, tenant).await?;
    check_target(app, new.url.as_str()).await.map_err(|refused| refused.at("url"))?;
    let id = EndpointId::new(incoming.now, app::random()?);
    let secret = WebhookSecret::new(app::random()?);
    let sealed = seal_secret(app, id, &secret).await?;
    let made = incoming.change(AuditAction::EndpointCreated, id.to_string())?;
    let made = made.detail(new.environment.name()).of(new.environment);
    if !create_endpoint(&db, &new, (id, &sealed), &made).await? {
        let deletion = deletions::read_deletion(&db, tenant).await?;
        deletion.map_or(Ok(()), |row| row.deletion.check_none())?;
        return Err(too_many_endpoints());
    }
    let in_force = reload_tenant(app, incoming, tenant).await.is_ok();
    let webhook_endpoint = EndpointRow::new(id, new, incoming.now).view(incoming.now);
    Ok(ApiReply::json(201, &EndpointCreated { webhook_endpoint, secret: secret.text(), in_force }))
}

/// `PATCH /v1/webhook-endpoints/{id}`: changes it, pauses it, or makes it active again.
pub(super) async fn patch(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let (tenant, db) = (incoming.tenant()?, app.db()?);
    let new = endpoint_change(&incoming.body, &app.origin)?;
    let row = named(app, incoming).await?;
    check_tier(app, tenant).await?;
    if let Some(url) = &new.url {
        check_target(app, url.as_str()).await.map_err(|refused| refused.at("url"))?;
    }
    if let Some(names) = new.names() {
        let made = change_of(incoming, AuditAction::EndpointUpdated, &row)?.detail(names);
        change_endpoint(&db, row.id, &new, &made).await?;
        // Also where nothing has changed: a ledger may not have loaded an equal change before.
        let loaded = reload_tenant(app, incoming, tenant).await;
        let is_resumed = new.url.is_some() || new.status == Some(EndpointStatus::Active);
        wake_courier(app, row.id, if is_resumed { CourierMessage::Resume } else { CourierMessage::Wake }).await;
        loaded?;
    }
    read(app, incoming).await
}

/// `DELETE /v1/webhook-endpoints/{id}`: nothing is sent to it from then on.
pub(super) async fn remove(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let row = named(app, incoming).await?;
    let made = change_of(incoming, AuditAction::EndpointRemoved, &row)?;
    if !remove_endpoint(&app.db()?, row.id, &made).await? {
        return Err(none());
    }
    // The timed job erases what is left.
    log(erase_courier(app, row.id).await.map(|_| ()));
    reload_tenant(app, incoming, incoming.tenant()?).await?;
    Ok(ApiReply::json(200, &EndpointRemoved { id: row.id.to_string(), removed_at: incoming.now.rfc3339() }))
}

/// `POST /v1/webhook-endpoints/{id}/rotate-secret`. The ledgers know no secrets: there is nothing to load.
pub(super) async fn rotate(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let row = named(app, incoming).await?;
    let secret = WebhookSecret::new(app::random()?);
    let sealed = seal_secret(app, row.id, &secret).await?;
    let made = change_of(incoming, AuditAction::EndpointRotated, &row)?;
    if !rotate_secret(&app.db()?, row.id, &sealed, &made).await? {
        return Err(none());
    }
    wake_courier(app, row.id, CourierMessage::Wake).await;
    let webhook_endpoint = row.rotated(incoming.now).view(incoming.now);
    Ok(ApiReply::json(200, &EndpointRotated { webhook_endpoint, secret: secret.text() }))
}

//! What Couriers change and ask of the directory.

use super::change::{Actor, Change, change};
use super::endpoints::read_target;
use super::keys::touch_statement;
use super::{BoundValue, all, sql};
use crate::app;
use crate::app::App;
use worker::D1Database;
use x402_chain::id::{AuditId, EndpointId};
use x402_chain::time::UnixMillis;
use x402_core::audit::AuditAction;
use x402_core::error::Fault;
use x402_core::records::archive::ArchiveOwner;
use x402_core::webhook::subscription::{WebhookSubscription, learned};

/// Disables an endpoint, with an event of its tenant, unless it is disabled already, or has another URL than the one that has
/// failed; whether it was.
///
/// # Errors
/// Where the directory fails: nothing is changed then, and the same may be tried again.
pub(crate) async fn disable_endpoint(
    app: &App,
    id: EndpointId,
    (reason, url): (&str, Option<&str>),
    now: UnixMillis,
) -> Result<bool, Fault> {
    let Some(target) = read_target(app, id).await? else { return Ok(false) };
    let (db, text) = (app.db()?, id.to_string());
    let made = Change {
        id: AuditId::new(now, app::random()?),
        tenant: target.tenant,
        environment: Some(target.environment),
        actor: Actor::System,
        action: AuditAction::EndpointDisabled,
        subject: text.clone(),
        detail: Some(reason.to_owned()),
        ip_prefix: "unknown".to_owned(),
        user_agent: None,
        at: now,
    };
    let bind = [BoundValue::Text(reason), BoundValue::Ms(now), BoundValue::Text(&text), BoundValue::Maybe(url)];
    change(&db, (sql::ENDPOINT_DISABLE, &bind), &made, vec![touch_statement(&db, &made)?]).await
}

/// A tenant's endpoints, those that are disabled too.
pub(crate) async fn subscriptions(db: &D1Database, of: &ArchiveOwner) -> Result<Vec<WebhookSubscription>, Fault> {
    let tenant = of.tenant.to_string();
    let bind = [BoundValue::Text(&tenant), BoundValue::Text(of.environment.name())];
    Ok(learned(all(db, sql::ENDPOINTS_OF_TENANT, &bind).await?, &[], app::now()))
}

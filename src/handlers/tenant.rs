//! `/v1/tenant`: a tenant reads and changes itself.

use super::directory::reload_tenant;
use crate::alerts::slack;
use crate::app::App;
use crate::d1;
use crate::d1::billing::want_read;
use crate::d1::change::has_unshipped;
use crate::d1::{alerts, deletions, settings};
use crate::request::IncomingRequest;
use x402_api::ApiReply;
use x402_api::tenant::{
    AlertsChange, AlertsView, OwnTenantAlone, OwnTenantView, TenantSettings, branding_view, tenant_settings,
};
use x402_chain::id::TenantId;
use x402_chain::network::Environment;
use x402_chain::time::UnixMillis;
use x402_core::audit::AuditAction;
use x402_core::error::{ErrorCode, Fault};
use x402_core::people::deletion::ShownStatus;
use x402_core::tenancy::branding::{branding_shown, check_branding_tier};

/// `GET /v1/tenant`.
pub(super) async fn read_own_tenant(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    Ok(ApiReply::json(200, &OwnTenantAlone { tenant: own_tenant(app, incoming.tenant()?).await? }))
}

/// `PATCH /v1/tenant`.
pub(super) async fn change_own_tenant(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let tenant = incoming.tenant()?;
    if incoming.caller.is_some_and(|caller| caller.environment == Environment::Test) {
        let detail = "a test key cannot change what holds in live: use a live key, or sign in";
        return Err(Fault::new(ErrorCode::EnvironmentMismatch, detail));
    }
    let new = tenant_settings(&incoming.body)?;
    let db = app.db()?;
    if matches!(new.branding, Some(Some(_))) {
        check_branding_tier(d1::read_tenant(&db, tenant).await?.0.tier)?;
    }
    if let Some(names) = changed(&new) {
        let made = incoming.change(AuditAction::TenantUpdated, tenant.to_string())?.detail(names);
        let sealed = match &new.alerts.url {
            Some(Some(url)) => Some(slack::seal(app, tenant, url).await?),
            Some(None) | None => None,
        };
        // The ledgers may not have loaded an equal change before.
        let is_changed = settings::put_settings(&db, &new, sealed.as_deref(), &made).await?;
        if new.company_name.is_some() {
            // The name is on Stripe's invoices too.
            want_read(&db, tenant, incoming.now).await?;
        }
        if is_changed || has_unshipped(&db, tenant).await? {
            reload_tenant(app, incoming, tenant).await?;
        }
    }
    Ok(ApiReply::json(200, &OwnTenantAlone { tenant: own_tenant(app, tenant).await? }))
}

/// The names of the members that a change sets; `None` where there is none.
fn changed(new: &TenantSettings) -> Option<String> {
    let members = [
        ("company_name", new.company_name.is_some()),
        ("support_address", new.support_address.is_some()),
        ("sanctions", new.sanctions.is_some()),
        ("branding", new.branding.is_some()),
        ("alerts", new.alerts != AlertsChange::default()),
    ];
    let names: Vec<&str> = members.into_iter().filter(|(_, is_set)| *is_set).map(|(name, _)| name).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

async fn own_tenant(app: &App, id: TenantId) -> Result<OwnTenantView, Fault> {
    let db = app.db()?;
    let (tenant, _) = d1::read_tenant(&db, id).await?;
    let shown = settings::read_appearance(&db, id).await?;
    let alerts = alerts::read_settings(&db, id).await?;
    let deletion_due_at = deletions::read_deletion(&db, id).await?.and_then(|row| row.deletion.due_at());
    Ok(OwnTenantView {
        id: tenant.id,
        company_name: tenant.company_name,
        email: tenant.email,
        support_address: shown.support_address,
        tier: tenant.tier,
        status: ShownStatus::of(tenant.status, deletion_due_at),
        deletion_due_at: deletion_due_at.map(UnixMillis::rfc3339),
        region: tenant.region,
        limits: tenant.limits,
        sanctions: tenant.sanctions,
        branding: shown.branding.as_ref().map(branding_view),
        branding_shown: branding_shown(shown.tier, shown.branding).is_some(),
        alerts: AlertsView { mail: alerts.mails, slack_host: alerts.host },
        created_at: tenant.created_at,
    })
}

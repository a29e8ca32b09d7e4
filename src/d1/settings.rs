//! What a tenant shows of itself, and changes by itself.

use super::change::{Change, change};
use super::rows::AppearanceRow;
use super::{BoundValue, all, no_tenant, sql};
use worker::D1Database;
use x402_api::tenant::TenantSettings;
use x402_chain::id::TenantId;
use x402_core::error::Fault;
use x402_core::public_url::PublicUrl;
use x402_core::verdict::SanctionsPolicy;

/// A tenant's support address and branding as they are stored.
pub(crate) async fn read_appearance(db: &D1Database, tenant: TenantId) -> Result<AppearanceRow, Fault> {
    let rows = all(db, sql::APPEARANCE_OF, &[BoundValue::Text(&tenant.to_string())]).await?;
    rows.into_iter().next().ok_or_else(no_tenant)
}

/// Changes the settings of the tenant of `made`, and raises its version; `false` where all of them are so already.
/// `sealed_url` is the URL of its alerts, if one is set.
pub(crate) async fn put_settings(
    db: &D1Database,
    new: &TenantSettings,
    sealed_url: Option<&str>,
    made: &Change,
) -> Result<bool, Fault> {
    let branding = new.branding.as_ref().and_then(Option::as_ref).map(serde_json::to_string);
    let branding = branding.transpose().map_err(Fault::internal)?;
    let text = |member: &Option<Option<String>>| member.as_ref().and_then(Option::as_deref).map(str::to_owned);
    let (name, support) = (text(&new.company_name), text(&new.support_address));
    let sets = |is_there: bool| BoundValue::Number(is_there.into());
    let bind = [
        sets(new.company_name.is_some()),
        BoundValue::Maybe(name.as_deref()),
        sets(new.support_address.is_some()),
        BoundValue::Maybe(support.as_deref()),
        BoundValue::Maybe(new.sanctions.map(SanctionsPolicy::name)),
        sets(new.branding.is_some()),
        BoundValue::Maybe(branding.as_deref()),
        BoundValue::Ms(made.at),
        BoundValue::Text(&made.tenant.to_string()),
        sets(new.alerts.url.is_some()),
        BoundValue::Maybe(sealed_url),
        BoundValue::Maybe(new.alerts.url.as_ref().and_then(Option::as_ref).map(PublicUrl::host)),
        new.alerts.mail.map_or(BoundValue::Maybe(None), sets),
    ];
    change(db, (sql::TENANT_SETTINGS_PUT, &bind), made, Vec::new()).await
}

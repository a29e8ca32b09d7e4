//! `/v1/tenant/oidc`: a tenant sets the identity provider of its own, and proves its mail domain.

use crate::app;
use crate::app::App;
use crate::d1;
use crate::d1::change::{Actor, Change};
use crate::d1::oidc::rows::OidcRow;
use crate::d1::oidc::{note_checked, prove, provider_of, put_provider, read_provider, remove_provider};
use crate::dns;
use crate::request::IncomingRequest;
use crate::webcrypto;
use x402_api::ApiReply;
use x402_api::oidc::{CALLBACK_PATH, DnsRecordView, OidcAlone, OidcRemoved, OidcView, oidc_settings};
use x402_chain::id::TenantId;
use x402_chain::time::UnixMillis;
use x402_core::audit::AuditAction;
use x402_core::error::{ErrorCode, Fault};
use x402_core::people::oidc::{check_oidc_tier, is_fresh, is_recorded, record_text};
use x402_core::people::secret::Secret;
use x402_core::sealing::SealedRow;

/// The address to which a tenant's provider sends a browser back.
pub(super) fn redirect_uri(app: &App, tenant: TenantId) -> String {
    format!("{}{}", app.origin, CALLBACK_PATH.replace("{tenant}", &tenant.to_string()))
}

/// The row of a tenant's client secret.
pub(super) const fn secret_row(tenant: &str) -> SealedRow<'_> {
    SealedRow { table: "oidc_connections", id: tenant }
}

fn none() -> Fault {
    Fault::new(ErrorCode::NotFound, "the tenant has set no identity provider")
}

async fn reply(app: &App, tenant: TenantId) -> Result<ApiReply, Fault> {
    let row = read_provider(&app.db()?, tenant).await?.ok_or_else(none)?;
    let oidc = OidcView {
        domain: row.domain.to_string(),
        issuer: row.issuer,
        client_id: row.client_id,
        default_role: row.default_role,
        redirect_uri: redirect_uri(app, tenant),
        dns_record: DnsRecordView { kind: "TXT", name: row.domain.record_name(), value: record_text(&row.dns_token) },
        proven_at: row.proven_at.map(UnixMillis::rfc3339),
        checked_at: row.checked_at.map(UnixMillis::rfc3339),
        updated_at: row.updated_at.rfc3339(),
    };
    Ok(ApiReply::json(200, &OidcAlone { oidc }))
}

/// `GET /v1/tenant/oidc`.
pub(super) async fn read(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    reply(app, incoming.tenant()?).await
}

/// `PUT /v1/tenant/oidc`. The client secret comes with each: it is sent to the issuer that is set with it, and to no other.
pub(super) async fn put(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let new = oidc_settings(&incoming.body, &app.origin)?;
    let (session, db) = (incoming.session()?, app.db()?);
    session.check_active()?;
    check_oidc_tier(d1::read_tenant(&db, session.tenant).await?.0.tier)?;
    let tenant = session.tenant.to_string();
    let sealed = webcrypto::seal(app.settings.peppers(), secret_row(&tenant), &new.client.secret).await?;
    let token = Secret::new(app::random()?).text();
    let made = incoming.change(AuditAction::OidcUpdated, new.domain.as_str())?.detail(new.issuer.as_str());
    put_provider(&db, &new, (&sealed, &token), &made).await?;
    reply(app, session.tenant).await
}

/// `DELETE /v1/tenant/oidc`. Whoever has signed in by it stays signed in, and a member.
pub(super) async fn remove(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let (tenant, db) = (incoming.tenant()?, app.db()?);
    incoming.session()?.check_active()?;
    let domain = read_provider(&db, tenant).await?.ok_or_else(none)?.domain.to_string();
    let made = incoming.change(AuditAction::OidcRemoved, domain.as_str())?;
    if !remove_provider(&db, &made).await? {
        return Err(none());
    }
    Ok(ApiReply::json(200, &OidcRemoved { domain, removed_at: incoming.now.rfc3339() }))
}

/// `POST /v1/tenant/oidc/prove`. Where another tenant has proven the domain, its record must be gone: one question to the DNS
/// answers for both, since the records of all stand under one name.
pub(super) async fn prove_domain(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let (session, db) = (incoming.session()?, app.db()?);
    session.check_active()?;
    check_oidc_tier(d1::read_tenant(&db, session.tenant).await?.0.tier)?;
    let row = read_provider(&db, session.tenant).await?.ok_or_else(none)?;
    let found = dns::txt_records(app.settings.resolver(), &row.domain.record_name()).await?;
    if !is_recorded(&found, &row.dns_token) {
        let name = row.domain.record_name();
        let detail =
            format!("there is no TXT record of {name} with the text that is shown; a new one can take an hour");
        return Err(Fault::new(ErrorCode::InvalidProof, detail).at("domain"));
    }
    if row.proven_at.is_some() {
        note_checked(&db, &row, incoming.now).await?;
        return reply(app, session.tenant).await;
    }
    let holder = provider_of(&db, &row.domain).await?;
    if holder.as_ref().is_some_and(|holder| is_recorded(&found, &holder.dns_token)) {
        let detail = "another tenant has proven the domain, and its DNS record is still there: remove that one first";
        return Err(Fault::new(ErrorCode::DomainTaken, detail).at("domain"));
    }
    let domain = row.domain.as_str();
    let lost = match &holder {
        Some(holder) => {
            let taken = incoming.change_by(Actor::System, holder.tenant, AuditAction::OidcTaken, domain)?;
            // The network and the browser are those of the other tenant's owner.
            Some((holder, Change { ip_prefix: "unknown".to_owned(), user_agent: None, ..taken }))
        }
        None => None,
    };
    let made = incoming.change(AuditAction::OidcProven, domain)?;
    if !prove(&db, &row, lost.as_ref().map(|(holder, taken)| (*holder, taken)), &made).await? {
        return Err(Fault::new(ErrorCode::InvalidProof, "the settings were changed meanwhile: try again").at("domain"));
    }
    reply(app, session.tenant).await
}

/// Checks that the DNS record of a proven domain was found within a day; else it is looked up again.
///
/// # Errors
/// `INVALID_SIGN_IN` where the domain is not proven, or its record is gone; `UPSTREAM_UNAVAILABLE`.
pub(super) async fn check_proof(app: &App, row: &OidcRow, now: UnixMillis) -> Result<(), Fault> {
    let Some(checked_at) = row.proven_at.and(row.checked_at) else {
        return Err(Fault::new(
            ErrorCode::InvalidSignIn,
            "your company has not proven its mail domain: sign in by a mail",
        ));
    };
    if is_fresh(checked_at, now) {
        return Ok(());
    }
    let found = dns::txt_records(app.settings.resolver(), &row.domain.record_name()).await?;
    if !is_recorded(&found, &row.dns_token) {
        let detail = "the DNS record that proves your company's mail domain is gone: sign in by a mail";
        return Err(Fault::new(ErrorCode::InvalidSignIn, detail));
    }
    note_checked(&app.db()?, row, now).await
}

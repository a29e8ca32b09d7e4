//! The operators' routes. A change is written to the directory, then loaded by both ledgers of the tenant, and answered
//! only after both have acknowledged it.

use super::directory::{first_keys, reload_ledgers, reload_tenant};
use super::keys;
use crate::alerts;
use crate::alerts::operators;
use crate::app;
use crate::app::App;
use crate::billing;
use crate::billing::stored_tier;
use crate::d1;
use crate::d1::FirstRows;
use crate::d1::billing::{read_billing, wanted_statement};
use crate::d1::change::{Actor, Change};
use crate::d1::deletions;
use crate::request::IncomingRequest;
use crate::rpc::registry;
use serde::Serialize;
use worker::D1PreparedStatement;
use x402_api::ApiReply;
use x402_api::admin;
use x402_api::admin::{NewAddress, RecipientAlone, TenantAlone, TenantChange, TenantCreated, check_room};
use x402_api::billing::TierBy;
use x402_api::body::invalid;
use x402_api::records::{ListPage, read_page_query};
use x402_chain::address::{Address, Family};
use x402_chain::id::{MailId, TenantId};
use x402_chain::network::{Environment, Network};
use x402_chain::registry_check::{Difference, RegistryCheckOutcome};
use x402_chain::time::UnixMillis;
use x402_core::audit::AuditAction;
use x402_core::error::{ErrorCode, Fault};
use x402_core::settings::mail::MailBackend;

fn not_found(what: &str) -> Fault {
    Fault::new(ErrorCode::NotFound, format!("no such {what}"))
}

fn tenant_of(incoming: &IncomingRequest) -> Result<TenantId, Fault> {
    TenantId::parse(incoming.param(0)).ok_or_else(|| not_found("tenant"))
}

/// A change of a tenant by an operator.
fn change(
    incoming: &IncomingRequest,
    tenant: TenantId,
    action: AuditAction,
    subject: impl Into<String>,
) -> Result<Change, Fault> {
    incoming.change_by(Actor::Operator, tenant, action, subject)
}

/// The addition of an address by an operator.
fn addition(
    incoming: &IncomingRequest,
    tenant: TenantId,
    network: &Network,
    address: &Address,
) -> Result<Change, Fault> {
    let made = change(incoming, tenant, AuditAction::RecipientAdded, address.to_string())?;
    Ok(made.detail(network.key).of(network.environment))
}

/// Makes the ledgers of the tenants that lost addresses load their copies, before another tenant has the addresses.
pub(super) async fn reload_previous_holders(
    app: &App,
    incoming: &IncomingRequest,
    losers: Vec<TenantId>,
) -> Result<(), Fault> {
    for loser in losers {
        reload_tenant(app, incoming, loser).await?;
    }
    Ok(())
}

/// `POST /v1/admin/tenants`.
pub(super) async fn create_tenant(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let new = admin::new_tenant(&incoming.body)?;
    let id = TenantId::new(incoming.now, app::random()?);
    let made = change(incoming, id, AuditAction::TenantCreated, id.to_string())?;
    let (api_keys, keys) = first_keys(app, incoming, (id, &Actor::Operator))?;
    let db = app.db()?;
    let mut deriving = RecipientDeriver::new(app, id, incoming.now);
    let mut recipients = Vec::new();
    for (network, wanted) in &new.recipients {
        let address = deriving.address(network, *wanted, &admin::recipient_param(network.key)).await?;
        recipients.push((*network, address, addition(incoming, id, network, &address)?));
    }
    let first = FirstRows { made: &made, recipients: &recipients, keys: &keys };
    let losers = d1::create_tenant(&db, &new, &first).await?;
    let (tenant, version) = d1::read_tenant(&db, id).await?;
    // The keys are shown this once: a ledger that is not reached is no error, and loads the tenant within minutes.
    let _ = reload_previous_holders(app, incoming, losers).await;
    let _ = reload_ledgers(app, incoming, id, version, new.region).await;
    Ok(ApiReply::json(201, &TenantCreated { tenant, api_keys }))
}

/// `GET /v1/admin/tenants`.
pub(super) async fn list_tenants(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let page = read_page_query(&incoming.query, |text| TenantId::parse(text).is_some())?;
    let tenants = d1::list_tenants(&app.db()?, &page).await?;
    Ok(ApiReply::json(200, &ListPage::of(tenants, page.limit, |tenant| tenant.id.clone())))
}

/// `GET /v1/admin/tenants/{id}`.
pub(super) async fn read_tenant(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let (tenant, _) = d1::read_tenant(&app.db()?, tenant_of(incoming)?).await?;
    Ok(ApiReply::json(200, &TenantAlone { tenant }))
}

/// Checks that a tenant was not deleted.
async fn check_not_erased(app: &App, tenant: TenantId) -> Result<(), Fault> {
    let deletion = deletions::read_deletion(&app.db()?, tenant).await?;
    deletion.map_or(Ok(()), |row| row.deletion.check_not_erased())
}

/// `PATCH /v1/admin/tenants/{id}`.
pub(super) async fn patch_tenant(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let id = tenant_of(incoming)?;
    let mut wanted = admin::tenant_change(&incoming.body)?;
    check_not_erased(app, id).await?;
    let named = wanted.named();
    if wanted.tier_by == Some(TierBy::Billing) {
        wanted.tier = stored_tier(read_billing(&app.db()?, id).await?.as_ref(), incoming.now);
    }
    let made = match named.is_empty() && !wanted.recipients.is_empty() {
        true => None,
        false => Some(change(incoming, id, AuditAction::TenantUpdated, id.to_string())?.detail(named)),
    };
    let db = app.db()?;
    let mut deriving = RecipientDeriver::new(app, id, incoming.now);
    let mut recipients = Vec::new();
    for (network, wanted) in &wanted.recipients {
        let (address, made) = match wanted {
            Some(wanted) => {
                let address = deriving.address(network, *wanted, &admin::recipient_param(network.key)).await?;
                (Some(address), addition(incoming, id, network, &address)?)
            }
            // The directory knows which address it is.
            None => (None, change(incoming, id, AuditAction::RecipientRetired, "")?.of(network.environment)),
        };
        recipients.push((*network, address, made));
    }
    let (first, mails) = billing_statements(app, incoming, id, &wanted).await?;
    let losers = d1::change_tenant(&db, id, (&wanted, made.as_ref(), first), recipients, incoming.now).await?;
    alerts::queue(app, &mails).await;
    reload_previous_holders(app, incoming, losers).await?;
    let (tenant, version) = d1::read_tenant(&db, id).await?;
    reload_ledgers(app, incoming, id, version, None).await?;
    Ok(ApiReply::json(200, &TenantAlone { tenant }))
}

/// The statements that a change of a tenant has about its plan, and the mails to owners: a tier that is another is recorded and
/// reported; and Stripe is read soon, which gets names, ends the subscription of a tenant that is cancelled, and says
/// what is paid at that moment. Operators get a message about a subscription that goes on beside a tier by hand.
async fn billing_statements(
    app: &App,
    incoming: &IncomingRequest,
    id: TenantId,
    wanted: &TenantChange,
) -> Result<(Vec<D1PreparedStatement>, Vec<(MailId, String)>), Fault> {
    let db = app.db()?;
    let (before, _) = d1::read_tenant(&db, id).await?;
    let (mut statements, mut mails) = (Vec::new(), Vec::new());
    if let Some(tier) = wanted.tier.filter(|tier| *tier != before.tier) {
        let made = change(incoming, id, AuditAction::TierUpdated, id.to_string())?;
        (statements, mails) = billing::tier_by_hand(app, made, (before.tier, tier)).await?;
    }
    let is_named = wanted.email.is_some() || wanted.company_name.is_some();
    if is_named || wanted.tier_by.is_some() || wanted.status.is_some() {
        statements.push(wanted_statement(&db, id, incoming.now)?);
    }
    if before.tier_by == TierBy::Billing && wanted.tier_by == Some(TierBy::Operator) {
        let state = read_billing(&db, id).await?.and_then(|row| row.state);
        if let Some(state) = state.filter(|state| state.status.is_live()) {
            let text = format!(
                "The tier of tenant {id} is set by hand from now on, and its subscription {} goes on to be charged: end it in \
                 Stripe's dashboard, unless the tenant is to pay both.",
                state.subscription
            );
            operators::tell(app, &text, incoming.now).await?;
        }
    }
    Ok((statements, mails))
}

/// `GET …/api-keys`: without the keys' texts.
pub(super) async fn list_keys(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    keys::list(app, tenant_of(incoming)?, None).await
}

/// `POST …/api-keys`: the text is shown once.
pub(super) async fn create_key(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let new = admin::new_key(&incoming.body, incoming.now)?;
    keys::create(app, incoming, (tenant_of(incoming)?, Actor::Operator), &new).await
}

/// `DELETE …/api-keys/{key_id}`: the next request with the key is refused.
pub(super) async fn revoke_key(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let tenant = tenant_of(incoming)?;
    let key = keys::named(app, tenant, incoming.param(1)).await?;
    keys::revoke(app, incoming, (tenant, Actor::Operator), key).await
}

/// Replaces `derive` by an address, deriving at most one for each environment.
pub(super) struct RecipientDeriver<'a> {
    app: &'a App,
    tenant: TenantId,
    now: UnixMillis,
    derived: Vec<(Environment, Address)>,
}

impl<'a> RecipientDeriver<'a> {
    pub(super) const fn new(app: &'a App, tenant: TenantId, now: UnixMillis) -> Self {
        Self { app, tenant, now, derived: Vec::new() }
    }

    /// The address to register; `param` is the member that names it.
    pub(super) async fn address(
        &mut self,
        network: &Network,
        wanted: NewAddress,
        param: &str,
    ) -> Result<Address, Fault> {
        let environment = network.environment;
        match wanted {
            NewAddress::Given(address) => Ok(address),
            NewAddress::Derived => {
                if let Some((_, address)) = self.derived.iter().find(|(known, _)| *known == environment) {
                    return Ok(*address);
                }
                let xpub = self.app.settings.xpub();
                let xpub = xpub.ok_or_else(|| invalid(param, "cannot be derived: EVM_XPUB is not set"))?;
                let index = d1::next_child(&self.app.db()?, self.tenant, environment, self.now).await?;
                let address =
                    xpub.address(index).ok_or_else(|| Fault::internal("a derived public key has no address"))?;
                self.derived.push((environment, address));
                Ok(address)
            }
        }
    }
}

/// `GET …/recipients`, of both environments.
pub(super) async fn list_recipients(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let data = d1::list_recipients(&app.db()?, tenant_of(incoming)?).await?;
    Ok(ApiReply::json(200, &ListPage { data, next_cursor: None }))
}

/// `POST …/recipients`: registers or derives an address.
pub(super) async fn create_recipient(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let tenant = tenant_of(incoming)?;
    let new = admin::new_recipient(&incoming.body)?;
    let db = app.db()?;
    check_not_erased(app, tenant).await?;
    let wanted = match &new.address {
        NewAddress::Given(address) => Some((address, new.network.environment)),
        NewAddress::Derived => None,
    };
    check_room(&d1::list_recipients(&db, tenant).await?, wanted)?;
    let mut deriving = RecipientDeriver::new(app, tenant, incoming.now);
    let address = deriving.address(new.network, new.address, "address").await?;
    let made = addition(incoming, tenant, new.network, &address)?;
    let losers = d1::create_recipient(&db, (new.network, &address), new.default, &made)
        .await
        .map_err(|fault| if fault.code == ErrorCode::RecipientTaken { fault.at("address") } else { fault })?;
    reload_previous_holders(app, incoming, losers).await?;
    reload_tenant(app, incoming, tenant).await?;
    let recipient = one_recipient(app, tenant, &address, Some(new.network.environment)).await?;
    Ok(ApiReply::json(201, &RecipientAlone { recipient }))
}

pub(super) async fn one_recipient(
    app: &App,
    tenant: TenantId,
    address: &Address,
    environment: Option<Environment>,
) -> Result<admin::RecipientView, Fault> {
    let text = address.to_string();
    let all = d1::list_recipients(&app.db()?, tenant).await?;
    let mut own = all.into_iter().filter(|each| each.address == text);
    own.find(|each| environment.is_none_or(|wanted| each.environment == wanted)).ok_or_else(|| not_found("recipient"))
}

/// `DELETE …/recipients/{address}`: only its tenant can register the address again.
pub(super) async fn remove_recipient(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let tenant = tenant_of(incoming)?;
    let text = incoming.param(1);
    let address = [Family::Evm, Family::Svm].into_iter().find_map(|family| Address::parse(family, text));
    let address = address.ok_or_else(|| not_found("recipient"))?;
    let environment = one_recipient(app, tenant, &address, None).await?.environment;
    let db = app.db()?;
    let made = change(incoming, tenant, AuditAction::RecipientRetired, address.to_string())?;
    d1::remove_recipient(&db, &made.of(environment)).await?;
    reload_tenant(app, incoming, tenant).await?;
    Ok(ApiReply::json(200, &RecipientAlone { recipient: one_recipient(app, tenant, &address, None).await? }))
}

/// The most mails that are shown.
const MAILBOX_MAX: u64 = 100;

/// `GET /v1/admin/mailbox`: the newest mails, where none is sent.
pub(super) async fn read_mailbox(app: &App) -> Result<ApiReply, Fault> {
    match app.settings.mail() {
        Some(MailBackend::Mailbox) => {}
        Some(MailBackend::Cloudflare(_) | MailBackend::Resend(..)) | None => {
            return Err(not_found("mailbox: MAIL_BACKEND is not `mailbox`"));
        }
    }
    let data = d1::people::read_mailbox(&app.db()?, MAILBOX_MAX).await?;
    Ok(ApiReply::json(200, &ListPage { data, next_cursor: None }))
}

/// The result of one chain's registry check in JSON.
#[derive(Serialize)]
struct CheckView<'a> {
    chain: &'a str,
    outcome: RegistryCheckOutcome,
    differences: &'a [Difference],
    checked_at: String,
}

/// The results of all chains that were checked.
#[derive(Serialize)]
struct ChecksView<'a> {
    chains: Vec<CheckView<'a>>,
}

/// `POST /v1/admin/chains/check`.
pub(super) async fn check_chains(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let networks = admin::chains_to_check(&incoming.body)?;
    let reports = registry::run_registry_check(&app.settings, &app.db()?, &networks, incoming.now).await?;
    let checked_at = incoming.now.rfc3339();
    let chains = reports.iter().map(|report| CheckView {
        chain: report.chain,
        outcome: report.outcome,
        differences: &report.differences,
        checked_at: checked_at.clone(),
    });
    Ok(ApiReply::json(200, &ChecksView { chains: chains.collect() }))
}

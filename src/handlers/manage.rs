//! Who may call a route that manages a tenant: a person by a session, or a key with the scope `manage`.

use super::account::call_own_ledger;
use crate::app::App;
use crate::d1;
use crate::request::{IncomingRequest, ManagingKey};
use crate::response::OutgoingResponse;
use serde::Deserialize;
use x402_api::endpoint::Endpoint;
use x402_core::error::Fault;
use x402_core::messages::ledger::{AccountView, LedgerMessage, LedgerReply};
use x402_core::tenancy::access::{Access, KeyScope};
use x402_core::tenancy::admission::{KeyUse, PresentedKey, authorize_key, invalid_key};
use x402_core::tenancy::key::Caller;
use x402_core::tenancy::tenant::Scope;

/// What is read of the ledger's answer about a key.
#[derive(Deserialize)]
struct Described {
    api_key: ManagingKey,
}

/// Checks the caller of a route that a session or a key may call: the ledger checks the key; a session was read before,
/// and changes nothing where the tenant is not served, but for the end of what is paid. Returns the ledger's refusal. Does nothing on other routes. Where
/// the ledger is not reached, the directory checks the key of a request that takes something away: a leaked key is
/// revoked all the same.
///
/// # Errors
/// `TENANT_SUSPENDED`, `LEDGER_UNAVAILABLE`.
pub(super) async fn check_manager(
    app: &App,
    incoming: &mut IncomingRequest,
) -> Result<Option<OutgoingResponse>, Fault> {
    let Access::Managed(_) = incoming.row.access else { return Ok(None) };
    let Some(caller) = incoming.caller else {
        // Whose requests are refused must not be charged against their will.
        if incoming.row.method.is_unsafe() && !ends_payment(incoming.row.endpoint) {
            incoming.session()?.check_active()?;
        }
        return Ok(None);
    };
    let message = LedgerMessage::Account { key: caller.hash, view: AccountView::Whoami, off: Vec::new() };
    let answered = call_own_ledger(app, incoming, message).await;
    let is_reached = answered.as_ref().is_ok_and(|response| response.status() < 500);
    if !is_reached && takes_away(incoming.row.endpoint) {
        incoming.managing_key = Some(find_manager(app, incoming, caller).await?);
        return Ok(None);
    }
    let response = answered?;
    if *response.reply() != LedgerReply::Answer {
        return Ok(Some(response.into_answer()?.into()));
    }
    incoming.managing_key = Some(response.json::<Described>().await?.api_key);
    Ok(None)
}

/// Whether a route only ends something: a delay would cost more than a check by the directory, which may be newer than
/// the ledger's copy and never older.
const fn takes_away(endpoint: Endpoint) -> bool {
    matches!(endpoint, Endpoint::OwnKeyRevoke | Endpoint::OwnRecipientRetire | Endpoint::WebhookRemove)
}

/// Whether an owner's session may call a route also where the tenant is suspended: it ends what is paid, or shows the invoices.
const fn ends_payment(endpoint: Endpoint) -> bool {
    matches!(endpoint, Endpoint::BillingCancel | Endpoint::BillingPortal)
}

/// The managing key as the directory has it, checked as its ledger would.
async fn find_manager(app: &App, incoming: &IncomingRequest, caller: Caller) -> Result<ManagingKey, Fault> {
    let tenant = d1::load_tenant(&app.db()?, caller.tenant, caller.environment).await?.ok_or_else(invalid_key)?;
    let used = KeyUse { scope: KeyScope::Only(Scope::Manage), from: incoming.client.ip() };
    let key = authorize_key(&tenant, PresentedKey { hash: caller.hash, used }, incoming.now)?;
    Ok(ManagingKey { id: key.id, scopes: key.scopes.clone() })
}

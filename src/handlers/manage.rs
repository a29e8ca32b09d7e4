//! Who may call a route that manages a tenant: a person by a session, or a key with the scope `manage`.

use super::account::call_own_ledger;
use crate::app::App;
use crate::request::{IncomingRequest, ManagingKey};
use crate::response::OutgoingResponse;
use serde::Deserialize;
use x402_core::error::Fault;
use x402_core::messages::ledger::{AccountView, LedgerMessage, LedgerReply};
use x402_core::tenancy::access::Access;

/// What is read of the ledger's answer about a key.
#[derive(Deserialize)]
struct Described {
    api_key: ManagingKey,
}

/// Checks the caller of a route that a session or a key may call: the ledger checks the key; a session was read before,
/// and changes nothing where the tenant is not served. Returns the ledger's refusal. Does nothing on other routes.
///
/// # Errors
/// `TENANT_SUSPENDED`, `LEDGER_UNAVAILABLE`.
pub(super) async fn check_manager(
    app: &App,
    incoming: &mut IncomingRequest,
) -> Result<Option<OutgoingResponse>, Fault> {
    let Access::Managed(_) = incoming.row.access else { return Ok(None) };
    let Some(caller) = incoming.caller else {
        if incoming.row.method.is_unsafe() {
            incoming.session()?.check_active()?;
        }
        return Ok(None);
    };
    let message = LedgerMessage::Account { key: caller.hash, view: AccountView::Whoami, off: Vec::new() };
    let response = call_own_ledger(app, incoming, message).await?;
    if *response.reply() != LedgerReply::Answer {
        return Ok(Some(response.into_answer()?.into()));
    }
    incoming.managing_key = Some(response.json::<Described>().await?.api_key);
    Ok(None)
}

//! Routes that a key holder reads: usage, chains, the key and its tenant, records.

use super::records::RecordPlaces;
use crate::app::App;
use crate::clients;
use crate::clients::ledger::LedgerResponse;
use crate::request::IncomingRequest;
use crate::response::OutgoingResponse;
use crate::rpc::registry;
use worker::Context;
use x402_api::records::read_page_query;
use x402_api::{ApiReply, settlements};
use x402_chain::id::{SettlementId, TenantId, VerificationId};
use x402_chain::network::Environment;
use x402_core::error::{ErrorCode, Fault};
use x402_core::messages::ledger::{AccountView, LedgerMessage, LedgerReply};
use x402_core::records::archive::ArchiveOwner;
use x402_core::tenancy::access::Access;

/// Sends a message to the ledger of the request's key.
pub(super) async fn call_own_ledger(
    app: &App,
    incoming: &IncomingRequest,
    message: LedgerMessage,
) -> Result<LedgerResponse, Fault> {
    call_own_ledger_as(app, incoming, incoming.row.access, message).await
}

/// The same with another access than the route's.
pub(super) async fn call_own_ledger_as(
    app: &App,
    incoming: &IncomingRequest,
    access: Access,
    message: LedgerMessage,
) -> Result<LedgerResponse, Fault> {
    let caller = incoming.caller()?;
    let mut envelope = incoming.envelope(app, (caller.tenant, caller.environment), message);
    envelope.access = Some(access.sent(true));
    clients::ledger::call_ledger(app, &envelope, None).await
}

/// Headers of the rate windows.
pub(super) type RateHeaders = Vec<(&'static str, String)>;

/// Whether a request may read what has happened to its tenant.
pub(super) enum Admitted {
    /// It may, of this tenant; the ledger has shipped what it held.
    Reader(TenantId, RateHeaders),
    /// The ledger has refused its key.
    Refused(OutgoingResponse),
}

/// Makes the ledger of the key, or of the session's tenant, ship what it holds; it checks the key first.
///
/// # Errors
/// `LEDGER_UNAVAILABLE`.
pub(super) async fn admit(app: &App, incoming: &IncomingRequest, environment: Environment) -> Result<Admitted, Fault> {
    admit_as(app, incoming, environment, false).await
}

/// The same; `is_counted` where an export begins.
///
/// # Errors
/// `LEDGER_UNAVAILABLE`.
pub(super) async fn admit_as(
    app: &App,
    incoming: &IncomingRequest,
    environment: Environment,
    is_counted: bool,
) -> Result<Admitted, Fault> {
    let (tenant, message) = match incoming.caller {
        Some(caller) => (caller.tenant, LedgerMessage::List { key: caller.hash }),
        None => (incoming.session()?.tenant, LedgerMessage::Flush),
    };
    let mut envelope = incoming.envelope(app, (tenant, environment), message);
    envelope.counted = is_counted;
    let response = clients::ledger::call_ledger(app, &envelope, None).await?;
    Ok(match matches!(response.reply(), LedgerReply::Done | LedgerReply::NoTenant) {
        true => Admitted::Reader(tenant, if incoming.caller.is_some() { response.rates() } else { RateHeaders::new() }),
        false => Admitted::Refused(response.into_answer()?.into()),
    })
}

/// The ledger's complete answer to a message.
async fn answer_from_ledger(
    app: &App,
    incoming: &IncomingRequest,
    message: LedgerMessage,
) -> Result<OutgoingResponse, Fault> {
    Ok(call_own_ledger(app, incoming, message).await?.into_answer()?.into())
}

/// `GET /v1/usage`, answered by the ledger.
pub(super) async fn read_usage(
    app: &App,
    context: &Context,
    incoming: &IncomingRequest,
) -> Result<OutgoingResponse, Fault> {
    let off = registry::disabled_chains(app, context, incoming.now).await;
    answer_from_ledger(
        app,
        incoming,
        LedgerMessage::Account { key: incoming.caller()?.hash, view: AccountView::Usage, off },
    )
    .await
}

/// `GET /v1/supported-chains`.
pub(super) async fn list_chains(
    app: &App,
    context: &Context,
    incoming: &IncomingRequest,
) -> Result<OutgoingResponse, Fault> {
    let off = registry::disabled_chains(app, context, incoming.now).await;
    answer_from_ledger(
        app,
        incoming,
        LedgerMessage::Account { key: incoming.caller()?.hash, view: AccountView::Chains, off },
    )
    .await
}

/// `GET /v1/whoami`, answered by the ledger.
pub(super) async fn read_whoami(app: &App, incoming: &IncomingRequest) -> Result<OutgoingResponse, Fault> {
    let key = incoming.caller()?.hash;
    answer_from_ledger(app, incoming, LedgerMessage::Account { key, view: AccountView::Whoami, off: Vec::new() }).await
}

/// `GET /v1/verifications/{id}`: from the ledger; from where it has shipped it if the ledger has deleted it.
pub(super) async fn read_verification(app: &App, incoming: &IncomingRequest) -> Result<OutgoingResponse, Fault> {
    let caller = incoming.caller()?;
    let none = || Fault::new(ErrorCode::NotFound, "no such verification");
    let id = VerificationId::parse(incoming.param(0));
    // An invalid key is refused before an invalid id.
    let asked = id.unwrap_or_else(|| VerificationId::new(incoming.now, [0; 10]));
    let response = call_own_ledger(app, incoming, LedgerMessage::Record { key: caller.hash, id: asked }).await?;
    if *response.reply() != LedgerReply::NoRecord {
        return Ok(response.into_answer()?.into());
    }
    let owner = ArchiveOwner { tenant: caller.tenant, environment: caller.environment };
    let body = RecordPlaces::of(app, owner, incoming.now)?.find(id.ok_or_else(none)?).await?.ok_or_else(none)?;
    Ok(ApiReply { headers: response.rates(), ..ApiReply::stored(200, body) }.into())
}

/// `GET /v1/settlements/{id}`.
pub(super) async fn read_settlement(app: &App, incoming: &IncomingRequest) -> Result<OutgoingResponse, Fault> {
    let (key, id) = (incoming.caller()?.hash, settlement_id(incoming));
    answer_from_ledger(app, incoming, LedgerMessage::Settlement { key, id }).await
}

/// `GET /v1/settlements`: from the ledger, which keeps all of them.
pub(super) async fn list_settlements(app: &App, incoming: &IncomingRequest) -> Result<OutgoingResponse, Fault> {
    let key = incoming.caller()?.hash;
    let page = read_page_query(&incoming.query, |text| SettlementId::parse(text).is_some())?;
    let filter = settlements::read_filter(&incoming.query)?;
    answer_from_ledger(app, incoming, LedgerMessage::Settlements { key, filter, page }).await
}

/// `POST /v1/settlements/{id}/hand-over`.
pub(super) async fn hand_over(app: &App, incoming: &IncomingRequest) -> Result<OutgoingResponse, Fault> {
    let (key, id) = (incoming.caller()?.hash, settlement_id(incoming));
    answer_from_ledger(app, incoming, LedgerMessage::HandOver { key, id }).await
}

/// The id in the path. Text that is no id becomes an id that no object has, so that the key is checked first.
fn settlement_id(incoming: &IncomingRequest) -> SettlementId {
    SettlementId::parse(incoming.param(0)).unwrap_or_else(|| SettlementId::new(incoming.now, [0; 10]))
}

/// `GET /v1/verifications`.
pub(super) async fn list_verifications(app: &App, incoming: &IncomingRequest) -> Result<OutgoingResponse, Fault> {
    let caller = incoming.caller()?;
    let page = read_page_query(&incoming.query, |text| VerificationId::parse(text).is_some())?;
    let admitted = call_own_ledger(app, incoming, LedgerMessage::List { key: caller.hash }).await?;
    if !admitted.is_done() {
        return Ok(admitted.into_answer()?.into());
    }
    let owner = ArchiveOwner { tenant: caller.tenant, environment: caller.environment };
    let list = RecordPlaces::of(app, owner, incoming.now)?.list(&page).await?;
    let mut reply = ApiReply::json(200, &list);
    reply.headers = admitted.rates();
    Ok(reply.into())
}

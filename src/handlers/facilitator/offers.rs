//! What is settled here, for sellers who write requirements: `supported` lists it, `accepts` completes it.

use crate::app::App;
use crate::clients;
use crate::handlers::verify::check_rate_guard;
use crate::request::IncomingRequest;
use crate::response::OutgoingResponse;
use crate::rpc::{registry, signer_balance};
use worker::Context;
use x402_api::accepts::{AcceptsRequest, OfferedSettlement};
use x402_api::{ApiReply, facilitator};
use x402_chain::address::Family;
use x402_chain::network::{NETWORKS, Network};
use x402_chain::signer::Signer;
use x402_core::error::Fault;
use x402_core::messages::ledger::{AccountView, LedgerMessage, LedgerReply};
use x402_core::tenancy::payee::PayeeAnswer;

/// `GET /facilitator/supported`: what is settled here; with a key, what its tenant may use.
pub(in crate::handlers) async fn list_supported(
    app: &App,
    context: &Context,
    incoming: &IncomingRequest,
) -> Result<OutgoingResponse, Fault> {
    let off = registry::disabled_chains(app, context, incoming.now).await;
    let is_on = |network: &&'static Network| can_settle(app, network) && !off.iter().any(|chain| chain == network.key);
    let mut networks: Vec<&'static Network> = NETWORKS.iter().filter(is_on).collect();
    let mut headers = Vec::new();
    if let Some(caller) = &incoming.caller {
        let message = LedgerMessage::Account { key: caller.hash, view: AccountView::Chains, off };
        let envelope = incoming.envelope(app, (caller.tenant, caller.environment), message);
        let response = clients::ledger::call_ledger(app, &envelope, None).await?;
        if *response.reply() != LedgerReply::Answer {
            return Ok(response.into_answer()?.into());
        }
        let chains: EnabledChains = response.json().await?;
        networks.retain(|network| {
            network.environment == caller.environment && chains.enabled_chains.iter().any(|chain| chain == network.key)
        });
        headers = response.rates();
    }
    let networks = signer_balance::funded_networks(app, context, networks, incoming.now).await;
    let kinds = networks.iter().map(|network| (*network, fee_payer(app, incoming, network)));
    let signers = networks.iter().flat_map(|network| app.settings.signers(network.family, network.environment));
    let mut reply = ApiReply::json(200, &facilitator::supported_kinds(kinds, signers.map(Signer::address)));
    reply.headers = headers;
    Ok(reply.into())
}

/// `POST /facilitator/accepts`: completes the seller's partial requirements.
pub(in crate::handlers) async fn complete_requirements(
    app: &App,
    context: &Context,
    incoming: &IncomingRequest,
) -> Result<OutgoingResponse, Fault> {
    let caller = incoming.caller()?;
    let request = AcceptsRequest::read(&incoming.body)?;
    check_rate_guard(app, &caller).await?;
    let off = registry::disabled_chains(app, context, incoming.now).await;
    let message = LedgerMessage::Payees { key: caller.hash, wanted: request.payee_queries(), off };
    let envelope = incoming.envelope(app, (caller.tenant, caller.environment), message);
    let response = clients::ledger::call_ledger(app, &envelope, None).await?;
    if *response.reply() != LedgerReply::Payees {
        return Ok(response.into_answer()?.into());
    }
    let payees: Vec<PayeeAnswer> = response.json().await?;
    let own = |network: &&'static Network| network.environment == caller.environment && can_settle(app, network);
    let networks = request.networks().into_iter().filter(own).collect();
    let networks = signer_balance::funded_networks(app, context, networks, incoming.now).await;
    let mut reply = request.answer(payees, |network| {
        if networks.iter().any(|settled| settled.key == network.key) {
            OfferedSettlement::Settled { fee_payer: fee_payer(app, incoming, network) }
        } else {
            OfferedSettlement::NotSettled
        }
    });
    reply.headers.extend(response.rates());
    Ok(reply.into())
}

/// Whether anything can be settled on a network.
fn can_settle(app: &App, network: &Network) -> bool {
    network.settle.is_some() && !app.settings.signers(network.family, network.environment).is_empty()
}

/// The fee payer for a seller's Solana transactions: always the same for one seller, and spread evenly over all.
fn fee_payer(app: &App, incoming: &IncomingRequest, network: &Network) -> Option<String> {
    if network.family != Family::Svm {
        return None;
    }
    let at = incoming.caller.map_or(0, |caller| usize::from(caller.tenant.0.last().copied().unwrap_or(0)));
    let own = app.settings.signers(network.family, network.environment);
    own.get(at.checked_rem(own.len())?).map(|signer| signer.address().to_string())
}

/// The one member that is read of the ledger's answer to `GET /v1/supported-chains`.
#[derive(serde::Deserialize)]
struct EnabledChains {
    enabled_chains: Vec<String>,
}

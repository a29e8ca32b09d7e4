//! What is settled here, for whoever makes requirements: `supported` lists it, `accepts` fills it in.

use super::envelope;
use crate::app::App;
use crate::clients;
use crate::clients::ledger::{Ask, View};
use crate::handlers::verify::guard;
use crate::platform::response::Outgoing;
use crate::request::Incoming;
use crate::rpc::{gas, registry};
use worker::Context;
use x402_api::accepts::{Offered, Request};
use x402_api::{Reply, facilitator};
use x402_chain::address::Family;
use x402_chain::network::{NETWORKS, Network};
use x402_chain::signer::Signer;
use x402_core::error::Fault;
use x402_core::tenancy::payee::Payee;

/// `GET /facilitator/supported`: what is settled here; with a key, what is open to its tenant.
pub(in crate::handlers) async fn supported(
    app: &App,
    context: &Context,
    incoming: &Incoming,
) -> Result<Outgoing, Fault> {
    let off = registry::off(app, context, incoming.now).await;
    let is_on = |network: &&'static Network| settles(app, network) && !off.iter().any(|chain| chain == network.key);
    let mut networks: Vec<&'static Network> = NETWORKS.iter().filter(is_on).collect();
    let mut headers = Vec::new();
    if let Some(caller) = &incoming.caller {
        let ask = Ask::Account { key: caller.hash, view: View::Chains, off };
        let response = clients::ledger::ask(app, &envelope(app, incoming, caller, ask), None).await?;
        if response.status() != 200 {
            return Ok(response.into());
        }
        let chains: Chains = serde_json::from_str(&response.text().await?).map_err(Fault::internal)?;
        networks.retain(|network| {
            network.environment == caller.environment && chains.enabled_chains.iter().any(|chain| chain == network.key)
        });
        headers = response.rates();
    }
    let networks = gas::affordable(app, context, networks, incoming.now).await;
    let kinds = networks.iter().map(|network| (*network, fee_payer(app, incoming, network)));
    let signers = networks.iter().flat_map(|network| app.settings.signers(network.family, network.environment));
    let mut reply = Reply::json(200, &facilitator::supported(kinds, signers.map(Signer::address)));
    reply.headers = headers;
    Ok(reply.into())
}

/// `POST /facilitator/accepts`: the seller's partial requirements, completed.
pub(in crate::handlers) async fn accepts(app: &App, context: &Context, incoming: &Incoming) -> Result<Outgoing, Fault> {
    let caller = incoming.caller()?; // who
    let request = Request::read(&incoming.body)?; // what
    guard(app, &caller).await?;
    let off = registry::off(app, context, incoming.now).await;
    let ask = Ask::Payees { key: caller.hash, wanted: request.wanted(), off };
    let response = clients::ledger::ask(app, &envelope(app, incoming, &caller, ask), None).await?; // book
    if response.status() != 200 {
        return Ok(response.into());
    }
    let payees: Vec<Payee> = serde_json::from_str(&response.text().await?).map_err(Fault::internal)?;
    let own = |network: &&'static Network| network.environment == caller.environment && settles(app, network);
    let networks = request.networks().into_iter().filter(own).collect();
    let networks = gas::affordable(app, context, networks, incoming.now).await; // good
    let mut reply = request.answer(payees, |network| {
        if networks.iter().any(|settled| settled.key == network.key) {
            Offered::Settled { fee_payer: fee_payer(app, incoming, network) }
        } else {
            Offered::Not
        }
    });
    reply.headers.extend(response.rates());
    Ok(reply.into()) // tell
}

/// Whether anything can be settled on a network at all.
fn settles(app: &App, network: &Network) -> bool {
    network.settle.is_some() && !app.settings.signers(network.family, network.environment).is_empty()
}

/// Who of us pays the fee of a seller's Solana transactions: a seller is always named the same, and
/// all of them together name each as often.
fn fee_payer(app: &App, incoming: &Incoming, network: &Network) -> Option<String> {
    if network.family != Family::Svm {
        return None;
    }
    let at = incoming.caller.map_or(0, |caller| usize::from(caller.tenant.0.last().copied().unwrap_or(0)));
    let own = app.settings.signers(network.family, network.environment);
    own.get(at.checked_rem(own.len())?).map(|signer| signer.address().to_string())
}

/// The one member that is read of `supported-chains`.
#[derive(serde::Deserialize)]
struct Chains {
    enabled_chains: Vec<String>,
}

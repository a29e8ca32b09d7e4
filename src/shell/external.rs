//! Payments that somebody else has put on the chain: an authorization is public
//! as soon as one transaction shows it, and anybody may send it.

use super::app::App;
use super::rpc;
use crate::address::TxId;
use crate::chain::evm::used;
use crate::chain::facts::Call;
use crate::chain::{head_call, read_head};
use crate::network::Network;
use crate::settle::flight::units;
pub(crate) use crate::settle::flight::{Lookup, Signed};
use core::slice::from_ref;

/// The transaction that used the authorization and moved its money. `at` is a block by
/// whose end it was used, if ever: a node that does not have it yet is not believed.
pub(crate) async fn find(app: &App, network: &'static Network, signed: &Signed, at: Option<u64>) -> Lookup {
    let providers = app.settings.providers(network);
    if let Some(state) = at.and_then(|block| used::state_call(network, &signed.payer, &signed.nonce, block)) {
        let told =
            rpc::call_until(network, &providers, from_ref(&state), |facts| used::is_used(facts, &state).is_some());
        if used::is_used(&told.await, &state) == Some(false) {
            return Lookup::Nothing;
        }
    }
    let head = head_call(network);
    let least = at.unwrap_or(0);
    let facts = rpc::call_until(network, &providers, from_ref(&head), |facts| {
        read_head(facts, &head).is_some_and(|head| head >= least)
    });
    let Some(newest) = read_head(&facts.await, &head).filter(|head| *head >= least) else { return Lookup::Unknown };
    let mut is_whole = true;
    for search in used::calls(network, &signed.payer, &signed.nonce, newest) {
        // The head is told beside the logs, by the same node.
        let calls: [Call; 2] = [head.clone(), search.clone()];
        let told = rpc::call_until(network, &providers, &calls, |facts| {
            used::read(facts, &search).is_some() && read_head(facts, &head).is_some_and(|head| head >= least)
        });
        let facts = told.await;
        match used::read(&facts, &search) {
            Some(Some(id)) => return paid(app, network, signed, id).await,
            Some(None) if read_head(&facts, &head).is_some_and(|head| head >= least) => {}
            Some(None) | None => is_whole = false,
        }
    }
    if is_whole { Lookup::Nothing } else { Lookup::Unknown }
}

/// What the transaction that used the authorization has moved.
async fn paid(app: &App, network: &'static Network, signed: &Signed, id: TxId) -> Lookup {
    let trace = rpc::trace(&app.settings, network, &id).await;
    let mined = trace.as_ref().and_then(|trace| trace.mined()).filter(|mined| mined.failure.is_none());
    // Its event was told just now: a node that does not know it is behind.
    let Some(mined) = mined else { return Lookup::Unknown };
    match units(mined, signed) {
        units if units.is_empty() => Lookup::Nothing,
        units => Lookup::Found { id, units },
    }
}

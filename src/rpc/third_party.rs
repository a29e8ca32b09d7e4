//! Payments that a third party has brought to the chain: an authorization is public as soon as one transaction shows
//! it, and anybody may send it. On Solana only we complete a transaction: there it is an attempt of ours that was given
//! up and mined after all.

use crate::app::App;
use crate::rpc;
use core::cell::Cell;
use core::slice::from_ref;
use x402_chain::address::{Address, TxId};
use x402_chain::amount::Amount;
use x402_chain::evm::authorization_search;
use x402_chain::evm::authorization_search::SearchEnd;
use x402_chain::facts::{Call, Facts};
use x402_chain::network::Network;
use x402_chain::quorum::required_agreement;
use x402_chain::reader::{head_call, read_head};
use x402_chain::time::UnixSeconds;
use x402_chain::trace::{Trace, Transfer};
use x402_core::settlement::flight::matching_units;
pub(crate) use x402_core::settlement::flight::{ExpectedTransfer, ThirdPartyLookup};

/// The transaction that used the authorization and moved its money. `at` is a block by whose end it was used, if that
/// matters: later uses are not searched. A node that has not reached it, or answers that the authorization is unused,
/// is behind, so that its empty result proves nothing. That a large payment has no such transaction must be reported by
/// two nodes, as its trace.
pub(crate) async fn find_settlement(
    app: &App,
    network: &'static Network,
    signed: &ExpectedTransfer,
    at: Option<u64>,
) -> ThirdPartyLookup {
    let providers = app.settings.providers(network);
    let needed = required_agreement(providers.len(), signed.amount, app.settings.quorum());
    let state = |block| authorization_search::authorization_state_call(network, &signed.payer, &signed.nonce, block);
    let Some(used_now) = state(None) else { return ThirdPartyLookup::Nothing };
    if let Some(used_then) = at.and_then(|block| state(Some(block)))
        && unused_by(network, &providers, &used_then, needed).await
    {
        return ThirdPartyLookup::Nothing;
    }
    let head = head_call(network);
    let is_there = |facts: &Facts| read_head(facts, &head).is_some_and(|head| head >= at.unwrap_or(0));
    let facts = rpc::call_until(network, &providers, from_ref(&head), is_there).await;
    let Some(newest) = read_head(&facts, &head).filter(|_| is_there(&facts)) else { return ThirdPartyLookup::Unknown };
    // Nodes delete the state of old blocks. An authorization that is unused in a later block was unused in an earlier
    // one.
    if let Some(used_later) = at.and_then(|_| state(Some(newest)))
        && unused_by(network, &providers, &used_later, needed).await
    {
        return ThirdPartyLookup::Nothing;
    }
    // The use that made a transaction fail is in a block before it, however long ago.
    let last = at.map_or(SearchEnd::Newest(newest), SearchEnd::Block);
    let mut is_whole = true;
    for search in authorization_search::search_calls(network, &signed.payer, &signed.nonce, last) {
        // The node's head is asked with the logs, of the same node.
        let calls: [Call; 3] = [head.clone(), used_now.clone(), search.clone()];
        let knows =
            |facts: &Facts| is_there(facts) && authorization_search::read_is_used(facts, &used_now) == Some(true);
        let (found, without) = (Cell::new(None), Cell::new(0_usize));
        let is_enough = |facts: &Facts| match authorization_search::read_search(facts, &search) {
            Some(Some(id)) => {
                found.set(Some(id));
                true
            }
            Some(None) => knows(facts) && increment(&without) >= needed,
            None => false,
        };
        rpc::call_until(network, &providers, &calls, is_enough).await;
        if let Some(id) = found.get() {
            return read_payment(app, network, signed, id).await;
        }
        is_whole &= without.get() >= needed;
    }
    if is_whole { ThirdPartyLookup::Nothing } else { ThirdPartyLookup::Unknown }
}

/// Whether enough nodes report that the authorization is unused in the state that the call names.
async fn unused_by(network: &'static Network, providers: &[&str], call: &Call, needed: usize) -> bool {
    let unused = Cell::new(0_usize);
    let is_enough = |facts: &Facts| match authorization_search::read_is_used(facts, call) {
        Some(true) => true,
        Some(false) => increment(&unused) >= needed,
        None => false,
    };
    rpc::call_until(network, providers, from_ref(call), is_enough).await;
    unused.get() >= needed
}

/// A block whose time is not before `end`: from it on, an authorization that is invalid then can never be used. `None`
/// while the chain has none, or no node answers.
pub(crate) async fn block_at_or_after(app: &App, network: &'static Network, end: UnixSeconds) -> Option<u64> {
    let call = authorization_search::newest_block_call();
    let is_past =
        |facts: &Facts| authorization_search::read_newest_block(facts, &call).filter(|(_, time)| *time >= end);
    let providers = app.settings.providers(network);
    let facts = rpc::call_until(network, &providers, from_ref(&call), |facts| is_past(facts).is_some()).await;
    is_past(&facts).map(|(number, _)| number)
}

/// Adds one and returns the sum.
fn increment(words: &Cell<usize>) -> usize {
    words.set(words.get().saturating_add(1));
    words.get()
}

/// The settlement by a Solana transaction, whose signatures name its payer; [`ThirdPartyLookup::Nothing`] where it
/// failed.
pub(crate) async fn find_landed(
    app: &App,
    network: &'static Network,
    id: TxId,
    (pay_to, amount): (&Address, Amount),
) -> ThirdPartyLookup {
    let Some(trace) = fetch_trace_for(app, network, amount, &id).await else { return ThirdPartyLookup::Unknown };
    let Some(mined) = trace.mined() else { return ThirdPartyLookup::Unknown };
    let pays = |transfer: &Transfer| transfer.to.as_ref() == Some(pay_to) && transfer.amount == amount;
    if mined.failure.is_none() && mined.transfers.iter().any(pays) {
        ThirdPartyLookup::Found { id, units: Vec::new() }
    } else {
        ThirdPartyLookup::Nothing
    }
}

/// A transaction's trace; for a large payment two nodes must agree on it.
async fn fetch_trace_for(app: &App, network: &'static Network, amount: Amount, id: &TxId) -> Option<Trace> {
    if amount >= app.settings.quorum() {
        rpc::fetch_trace_by_two(&app.settings, network, id).await
    } else {
        rpc::fetch_trace(&app.settings, network, id).await
    }
}

/// The settlement by the transaction that used the authorization.
async fn read_payment(app: &App, network: &'static Network, signed: &ExpectedTransfer, id: TxId) -> ThirdPartyLookup {
    let trace = fetch_trace_for(app, network, signed.amount, &id).await;
    let mined = trace.as_ref().and_then(|trace| trace.mined()).filter(|mined| mined.failure.is_none());
    // Its event was read just now: a node that does not know the transaction is behind.
    let Some(mined) = mined else { return ThirdPartyLookup::Unknown };
    match matching_units(mined, signed) {
        units if units.is_empty() => ThirdPartyLookup::Nothing,
        units => ThirdPartyLookup::Found { id, units },
    }
}

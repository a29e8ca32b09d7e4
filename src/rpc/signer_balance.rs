//! The balances of our signers in the chain's own coin. A network whose signers all lack funds, or whose providers do
//! not answer, is not offered. A balance is fresh for a minute and used for ten.

use crate::app;
use crate::app::App;
use crate::rpc;
use futures_util::future::{Either, join_all, select};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;
use worker::{Context, Delay};
use x402_chain::address::Address;
use x402_chain::network::Network;
use x402_chain::reader::{min_native_balance, native_balance_call, read_native_balance};
use x402_chain::time::UnixMillis;
use x402_core::settings::Settings;

const FRESH_MS: u64 = 60_000;
const BELIEVED_MS: u64 = 600_000;
/// How long `/supported` waits for balances that were never read.
const DEADLINE_MS: u64 = 3_000;

/// What is known of a signer's balance.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SignerFunds {
    /// It can pay for a transaction.
    Funded,
    /// A node has answered that it cannot.
    Unfunded,
    /// No provider answered: the network is not offered, and the signer does not count as unfunded.
    Unanswered,
}

/// When a signer's balance was read, and the result.
type KnownBalances = BTreeMap<(&'static str, Address), (UnixMillis, SignerFunds)>;

thread_local! {
    static BALANCES: RefCell<KnownBalances> = const { RefCell::new(BTreeMap::new()) };
    static FETCHED_AT: RefCell<BTreeMap<&'static str, UnixMillis>> = const { RefCell::new(BTreeMap::new()) };
}

/// The remembered balance of a signer, if it may still be used.
fn known_funds(network: &Network, signer: &Address, now: UnixMillis) -> Option<SignerFunds> {
    let known = BALANCES.with_borrow(|all| all.get(&(network.key, *signer)).copied());
    known.filter(|(at, _)| now.since(*at) < BELIEVED_MS).map(|(_, funds)| funds)
}

/// Whether a node has answered that a signer cannot pay for a transaction.
fn is_unfunded(network: &Network, signer: &Address, now: UnixMillis) -> bool {
    known_funds(network, signer, now) == Some(SignerFunds::Unfunded)
}

/// Notes a node's answer that a signer cannot pay: it is not used while another can.
pub(crate) fn note_unfunded(network: &'static Network, signer: Address, now: UnixMillis) {
    BALANCES.with_borrow_mut(|all| all.insert((network.key, signer), (now, SignerFunds::Unfunded)));
}

/// The keys of a network that are known to lack funds. Where all do, an old balance is read again first, before a
/// payment is refused for it.
pub(crate) async fn unfunded_signers(app: &App, network: &'static Network, now: UnixMillis) -> Vec<Address> {
    let signers = signer_addresses(&app.settings, network);
    let is_short = |now| move |signer: &&Address| is_unfunded(network, signer, now);
    if signers.iter().all(|signer| is_short(now)(&signer)) && is_stale(network, now) {
        fetch_balances(Rc::clone(&app.settings), network).await;
    }
    signers.iter().filter(is_short(app::now())).copied().collect()
}

/// Whether the balance of any of the signers is fresh.
fn is_known(network: &Network, signers: &[Address], now: UnixMillis) -> bool {
    signers.iter().any(|signer| known_funds(network, signer, now).is_some())
}

fn is_stale(network: &Network, now: UnixMillis) -> bool {
    FETCHED_AT.with_borrow(|all| all.get(network.key).is_none_or(|at| now.since(*at) >= FRESH_MS))
}

/// What each signer of a network holds, in the coin's smallest unit; `None` where no provider answered, or the chain
/// is not reached (`is_reached`), in which case none is asked.
pub(crate) async fn read_balances(
    settings: &Settings,
    network: &'static Network,
    is_reached: bool,
) -> Vec<(Address, Option<u128>)> {
    let signers = signer_addresses(settings, network);
    if signers.is_empty() || !is_reached {
        return signers.into_iter().map(|signer| (signer, None)).collect();
    }
    let calls: Vec<_> = signers.iter().map(native_balance_call).collect();
    let facts = rpc::call_all(network, &settings.providers(network), &calls).await;
    let held = |(signer, call): (Address, &_)| (signer, read_native_balance(network, &facts, call));
    signers.into_iter().zip(&calls).map(held).collect()
}

/// Reads the balances of one network's signers.
async fn fetch_balances(settings: Rc<Settings>, network: &'static Network) {
    let signers = signer_addresses(&settings, network);
    FETCHED_AT.with_borrow_mut(|all| all.insert(network.key, app::now()));
    let calls: Vec<_> = signers.iter().map(native_balance_call).collect();
    let facts = rpc::call_all(network, &settings.providers(network), &calls).await;
    for (signer, call) in signers.into_iter().zip(&calls) {
        let (now, held) = (app::now(), read_native_balance(network, &facts, call));
        let found = held
            .map(|held| if held >= min_native_balance(network) { SignerFunds::Funded } else { SignerFunds::Unfunded });
        // That no provider answers counts only where nothing better is known; another answer than a balance does not
        // count.
        let silent = facts.get(call).is_none() && known_funds(network, &signer, now) != Some(SignerFunds::Funded);
        if let Some(funds) = found.or(silent.then_some(SignerFunds::Unanswered)) {
            BALANCES.with_borrow_mut(|all| all.insert((network.key, signer), (now, funds)));
        }
    }
}

fn signer_addresses(settings: &Settings, network: &Network) -> Vec<Address> {
    let signers = settings.signers(network.family, network.environment);
    signers.iter().map(x402_chain::signer::Signer::address).collect()
}

/// The networks on which a signer of ours can pay at present.
pub(crate) async fn funded_networks(
    app: &App,
    context: &Context,
    networks: Vec<&'static Network>,
    now: UnixMillis,
) -> Vec<&'static Network> {
    let stale: Vec<_> = networks.iter().copied().filter(|network| is_stale(network, now)).collect();
    let known = |network: &&'static Network| is_known(network, &signer_addresses(&app.settings, network), now);
    let (later, first): (Vec<_>, Vec<_>) = stale.into_iter().partition(known);
    for network in later {
        refresh_balances_later(app, context, network, now);
    }
    let fetching = join_all(first.into_iter().map(|network| fetch_balances(Rc::clone(&app.settings), network)));
    let deadline = Delay::from(Duration::from_millis(DEADLINE_MS));
    if let Either::Right(_) = select(pin!(fetching), pin!(deadline)).await {}
    // Offer networks whose balance check timed out: a server that starts now would otherwise never offer them.
    let fails = |network: &Network, own: &Address| {
        matches!(known_funds(network, own, app::now()), Some(SignerFunds::Unfunded | SignerFunds::Unanswered))
    };
    let offered =
        |network: &&'static Network| !signer_addresses(&app.settings, network).iter().all(|own| fails(network, own));
    networks.into_iter().filter(offered).collect()
}

/// Reads the balances of a network's signers after the answer, unless they are fresh.
pub(crate) fn refresh_balances_later(app: &App, context: &Context, network: &'static Network, now: UnixMillis) {
    if is_stale(network, now) {
        let settings = Rc::clone(&app.settings);
        app::after_answer(context, async move { fetch_balances(settings, network).await });
    }
}

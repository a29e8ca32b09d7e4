//! The price of a unit of gas, by network. A quote is fresh for ten seconds, and used for a minute while it is renewed
//! after an answer. One request asks the providers; others wait for its quote.

use crate::app;
use crate::app::App;
use crate::rpc;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;
use worker::{Context, Delay};
use x402_chain::evm::sender::GasPrice;
use x402_chain::evm::tx;
use x402_chain::network::Network;
use x402_chain::time::UnixMillis;
use x402_core::settings::Settings;

const FRESH_MS: u64 = 10_000;
const BELIEVED_MS: u64 = 60_000;
/// How long it is remembered that no provider quotes a price within the cap.
const NO_PRICE_MS: u64 = 2_000;
/// How long others wait for the request that asks; a request that is cut off never answers.
const PATIENCE_MS: u64 = 2_000;
/// How often a waiting caller checks for the answer.
const RECHECK_MS: u64 = 5;

/// A quote, and when it was received.
#[derive(Clone, Copy)]
struct GasQuote {
    price: Option<GasPrice>,
    at: UnixMillis,
}

thread_local! {
    static QUOTES: RefCell<BTreeMap<&'static str, GasQuote>> = const { RefCell::new(BTreeMap::new()) };
    /// Since when a request is asking.
    static FETCHING_SINCE: RefCell<BTreeMap<&'static str, UnixMillis>> = const { RefCell::new(BTreeMap::new()) };
}

/// A remembered price, without waiting: `Some(None)` where no provider quotes one within the cap, or nothing is sent on
/// the network; `None` where providers must be asked. An old quote is renewed after the answer.
pub(crate) fn cached_price(
    app: &App,
    context: &Context,
    network: &'static Network,
    now: UnixMillis,
) -> Option<Option<GasPrice>> {
    if network.settle.is_none_or(|settle| settle.gas().is_none()) {
        return Some(None);
    }
    let quote = current_quote(network, now)?;
    if now.since(quote.at) >= FRESH_MS && !is_being_fetched(network, now) {
        FETCHING_SINCE.with_borrow_mut(|all| all.insert(network.key, now));
        let settings = Rc::clone(&app.settings);
        app::after_answer(context, async move {
            fetch_quote(&settings, network).await;
        });
    }
    Some(quote.price)
}

/// A price that is not remembered.
pub(crate) async fn await_price(app: &App, network: &'static Network) -> Option<GasPrice> {
    let began = app::now();
    while is_being_fetched(network, app::now()) && app::now().since(began) < PATIENCE_MS {
        Delay::from(Duration::from_millis(RECHECK_MS)).await;
        if let Some(quote) = current_quote(network, app::now()) {
            return quote.price;
        }
    }
    fetch_quote(&app.settings, network).await
}

/// A price in place of one that a node refused as below the market.
pub(crate) async fn requote_price(app: &App, network: &'static Network, refused: GasPrice) -> Option<GasPrice> {
    QUOTES.with_borrow_mut(|all| {
        if all.get(network.key).is_some_and(|quote| quote.price == Some(refused)) {
            all.remove(network.key);
        }
    });
    match current_quote(network, app::now()) {
        Some(quote) => quote.price,
        None => await_price(app, network).await,
    }
}

/// The quote, if it may still be used.
fn current_quote(network: &Network, now: UnixMillis) -> Option<GasQuote> {
    let quote = QUOTES.with_borrow(|all| all.get(network.key).copied())?;
    let believed_ms = if quote.price.is_some() { BELIEVED_MS } else { NO_PRICE_MS };
    (now.since(quote.at) < believed_ms).then_some(quote)
}

fn is_being_fetched(network: &Network, now: UnixMillis) -> bool {
    FETCHING_SINCE.with_borrow(|all| all.get(network.key).is_some_and(|at| now.since(*at) < PATIENCE_MS))
}

/// Asks the providers, even if another request does so too.
async fn fetch_quote(settings: &Settings, network: &'static Network) -> Option<GasPrice> {
    FETCHING_SINCE.with_borrow_mut(|all| all.insert(network.key, app::now()));
    let answer =
        rpc::decide_by_providers(network, &settings.providers(network), None, |facts| tx::quote_price(network, facts))
            .await;
    let now = app::now();
    // The old quote stays while no node answers; that none answers is not remembered.
    if let Some((price, _)) = answer {
        QUOTES.with_borrow_mut(|all| all.insert(network.key, GasQuote { price, at: now }));
    }
    FETCHING_SINCE.with_borrow_mut(|all| all.remove(network.key));
    answer.and_then(|(price, _)| price)
}

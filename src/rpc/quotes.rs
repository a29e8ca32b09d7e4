//! What a unit of gas costs now, by network: known for ten seconds, believed for
//! a minute while it is asked anew after an answer. One caller asks, the others
//! wait for the answer.

use crate::app;
use crate::app::App;
use crate::rpc;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;
use worker::{Context, Delay};
use x402_chain::evm::sender::Price;
use x402_chain::evm::tx;
use x402_chain::network::Network;
use x402_chain::time::UnixMillis;
use x402_core::settings::Settings;

const FRESH_MS: u64 = 10_000;
const BELIEVED_MS: u64 = 60_000;
/// How long it is believed that nobody names a price within the cap.
const NOTHING_MS: u64 = 2_000;
/// How long others wait for the one who asks; a request that is cut off never answers.
const PATIENCE_MS: u64 = 2_000;
/// How often they look.
const LOOK_MS: u64 = 5;

/// The answer, and when it came.
#[derive(Clone, Copy)]
struct Quote {
    price: Option<Price>,
    at: UnixMillis,
}

thread_local! {
    static QUOTES: RefCell<BTreeMap<&'static str, Quote>> = const { RefCell::new(BTreeMap::new()) };
    /// Since when somebody asks.
    static ASKING: RefCell<BTreeMap<&'static str, UnixMillis>> = const { RefCell::new(BTreeMap::new()) };
}

/// A price that is known or believed, without waiting: `Some(None)` where nobody names one within the cap, or nothing
/// is sent there; `None` where it must be asked. One that grows old is asked anew after the answer.
pub(crate) fn known(app: &App, context: &Context, network: &'static Network, now: UnixMillis) -> Option<Option<Price>> {
    if network.settle.is_none_or(|settle| settle.gas().is_none()) {
        return Some(None);
    }
    let quote = standing(network, now)?;
    if now.since(quote.at) >= FRESH_MS && !is_asked(network, now) {
        ASKING.with_borrow_mut(|all| all.insert(network.key, now));
        let settings = Rc::clone(&app.settings);
        app::after_answer(context, async move {
            ask(&settings, network).await;
        });
    }
    Some(quote.price)
}

/// A price that nobody knows yet.
pub(crate) async fn asked(app: &App, network: &'static Network) -> Option<Price> {
    let began = app::now();
    while is_asked(network, app::now()) && app::now().since(began) < PATIENCE_MS {
        Delay::from(Duration::from_millis(LOOK_MS)).await;
        if let Some(quote) = standing(network, app::now()) {
            return quote.price;
        }
    }
    ask(&app.settings, network).await
}

/// A price in place of one that was refused as below the market.
pub(crate) async fn anew(app: &App, network: &'static Network, refused: Price) -> Option<Price> {
    QUOTES.with_borrow_mut(|all| {
        if all.get(network.key).is_some_and(|quote| quote.price == Some(refused)) {
            all.remove(network.key);
        }
    });
    match standing(network, app::now()) {
        Some(quote) => quote.price,
        None => asked(app, network).await,
    }
}

/// What is still believed.
fn standing(network: &Network, now: UnixMillis) -> Option<Quote> {
    let quote = QUOTES.with_borrow(|all| all.get(network.key).copied())?;
    let believed_ms = if quote.price.is_some() { BELIEVED_MS } else { NOTHING_MS };
    (now.since(quote.at) < believed_ms).then_some(quote)
}

fn is_asked(network: &Network, now: UnixMillis) -> bool {
    ASKING.with_borrow(|all| all.get(network.key).is_some_and(|at| now.since(*at) < PATIENCE_MS))
}

/// Asks, whoever else does.
async fn ask(settings: &Settings, network: &'static Network) -> Option<Price> {
    ASKING.with_borrow_mut(|all| all.insert(network.key, app::now()));
    let answer = rpc::decide(network, &settings.providers(network), |facts| tx::quote(network, facts)).await;
    let now = app::now();
    // What is believed stands while no node answers; that none answers is not believed.
    if let Some((price, _)) = answer {
        QUOTES.with_borrow_mut(|all| all.insert(network.key, Quote { price, at: now }));
    }
    ASKING.with_borrow_mut(|all| all.remove(network.key));
    answer.and_then(|(price, _)| price)
}

//! What is read from the chain before a transaction is signed (EVM): the signer's nonce, the market's price, the
//! payer's balance.

use super::{Settler, network_of};
use crate::app::App;
use crate::rpc;
use std::collections::BTreeMap;
use x402_chain::address::Address;
use x402_chain::confirm::{StateDecision, VerdictBasis};
use x402_chain::evm::tx;
use x402_chain::facts::{Call, Facts, Undecided};
use x402_chain::network::Network;
use x402_core::error::Fault;
use x402_core::settlement::Flight;
use x402_core::settlement::launch;
use x402_core::settlement::launch::{InFlightTotals, LaunchDenial, LaunchFacts};

impl Settler {
    /// Reads what a launch needs. A second node is asked where the first knows fewer of the signer's transactions than
    /// are mined, or reports that the payer's balance is too low.
    pub(super) async fn quote_launch(
        &self,
        app: &App,
        flight: &Flight,
        before: &[(String, Flight)],
    ) -> Result<(LaunchFacts, VerdictBasis), Fault> {
        let network = network_of(flight)?;
        let quote = LaunchQuestion::of(flight, flight.price.is_none(), Some(&flight.payer))?;
        let mined = if before.is_empty() { self.nonces()?.next } else { None };
        let spending = self.spending()?;
        let is_short = |observed: LaunchFacts| {
            // What could not be read is refused when the launch is decided.
            let now = self.flights_in_flight().unwrap_or_default();
            let known: BTreeMap<&str, &Flight> =
                before.iter().chain(&now).map(|(key, other)| (key.as_str(), other)).collect();
            let aloft = InFlightTotals::of(known.into_values(), flight, &spending, network);
            launch::check_with_chain(flight, network, observed, aloft) == Err(LaunchDenial::Balance)
        };
        let rule = |facts: &Facts| {
            let observed = quote.read(facts)?;
            let behind = observed.nonce.filter(|nonce| mined.is_some_and(|mined| *nonce < mined));
            Ok(LaunchQuote { observed, is_short: is_short(observed), behind })
        };
        let decided = rpc::decide_by_providers(network, &app.settings.providers(network), rule).await;
        let nothing = LaunchFacts { nonce: None, holds: None, price: None };
        Ok(decided.map_or((nothing, VerdictBasis::Definite), |(first, basis)| (first.observed, basis)))
    }
}

/// A node's refusal before a launch that needs a second node.
struct LaunchQuote {
    observed: LaunchFacts,
    /// Whether the payer's balance is too low.
    is_short: bool,
    /// How many of the signer's transactions the node knows, where more are mined.
    behind: Option<u64>,
}

impl StateDecision for LaunchQuote {
    type Refusal = (bool, Option<u64>);

    fn refusal(&self) -> Option<Self::Refusal> {
        (self.is_short || self.behind.is_some()).then_some((self.is_short, self.behind))
    }
}

/// The calls for the nonce and, if required, the market's price and a payer's balance.
struct LaunchQuestion {
    network: &'static Network,
    count: Call,
    holding: Option<Call>,
    price: bool,
}

impl LaunchQuestion {
    fn of(flight: &Flight, price: bool, payer: Option<&Address>) -> Result<Self, Fault> {
        let network = network_of(flight)?;
        // The key is not needed: flights of a signer that is not configured are carried on.
        let Address::Evm(signer) = flight.signer else {
            return Err(Fault::internal("a flight's signer is of another chain family"));
        };
        let count = tx::pending_nonce_call(signer);
        Ok(Self { network, count, holding: payer.and_then(|payer| tx::token_balance_call(network, payer)), price })
    }

    fn calls(&self) -> Vec<Call> {
        let price = if self.price { tx::price_calls() } else { Vec::new() };
        [Some(self.count.clone()), self.holding.clone()].into_iter().flatten().chain(price).collect()
    }

    /// The answers, as far as there were any.
    fn read_partial(&self, facts: &Facts) -> LaunchFacts {
        LaunchFacts {
            nonce: tx::read_number(facts, &self.count),
            holds: self.holding.as_ref().and_then(|call| tx::read_token_balance(facts, call)),
            price: if self.price { tx::capped_price(self.network, facts) } else { None },
        }
    }

    /// All answers: a node that leaves one out is skipped. A price above the cap counts as an answer without a price.
    fn read(&self, facts: &Facts) -> Result<LaunchFacts, Undecided> {
        facts.require(&self.calls())?;
        if self.price {
            tx::quote_price(self.network, facts)?;
        }
        let observed = self.read_partial(facts);
        let is_whole = observed.nonce.is_some() && observed.holds.is_some() == self.holding.is_some();
        if is_whole { Ok(observed) } else { Err(Undecided::malformed("incomplete_quote")) }
    }
}

/// The nonce and, if required, the market's price: of the node that answers most, where none answers all.
pub(super) async fn quote_price_and_nonce(app: &App, flight: &Flight, price: bool) -> Result<LaunchFacts, Fault> {
    let quote = LaunchQuestion::of(flight, price, None)?;
    let providers = app.settings.providers(quote.network);
    let is_whole = |facts: &Facts| quote.read(facts).is_ok();
    Ok(quote.read_partial(&rpc::call_until(quote.network, &providers, &quote.calls(), is_whole).await))
}

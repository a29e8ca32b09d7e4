//! What is read from the chain before a transaction is signed (EVM): the signer's nonce, the market's price, the
//! payer's balance.

use super::{Settler, network_of};
use crate::app::App;
use crate::rpc;
use x402_chain::collect::map_of;
use x402_chain::confirm::{StateDecision, VerdictBasis};
use x402_chain::facts::Facts;
use x402_core::error::Fault;
use x402_core::settlement::Flight;
use x402_core::settlement::launch;
use x402_core::settlement::launch::{InFlightTotals, LaunchDenial, LaunchFacts};
use x402_core::settlement::quote::{LaunchCalls, NonceCount};

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
        let quote = LaunchCalls::of_launch(flight, network).ok_or_else(another_family)?;
        let mined = if before.is_empty() { self.nonces()?.next } else { None };
        let spending = self.spending()?;
        let is_short = |observed: LaunchFacts| {
            // What could not be read is refused when the launch is decided.
            let now = self.flights_in_flight().unwrap_or_default();
            let known = map_of(before.iter().chain(&now).map(|(key, other)| (key.as_str(), other)));
            let aloft = InFlightTotals::of(known.into_values(), flight, &spending, network);
            launch::check_with_chain(flight, network, observed, aloft) == Err(LaunchDenial::Balance)
        };
        let rule = |facts: &Facts| {
            let observed = quote.read(facts)?;
            let behind = observed.nonce.filter(|nonce| mined.is_some_and(|mined| *nonce < mined));
            Ok(LaunchQuote { observed, is_short: is_short(observed), behind })
        };
        let decided = rpc::decide_by_providers(network, &app.settings.providers(network), None, rule).await;
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

/// The market's price and the nonce of a flight's signer, as `count` counts its transactions: of the node that answers
/// most, where none answers all. A price above the cap counts as an answer without a price.
pub(super) async fn quote_price_and_nonce(app: &App, flight: &Flight, count: NonceCount) -> Result<LaunchFacts, Fault> {
    let network = network_of(flight)?;
    let quote = LaunchCalls::of(flight, network, count).ok_or_else(another_family)?;
    let providers = app.settings.providers(network);
    let is_whole = |facts: &Facts| quote.read(facts).is_ok();
    Ok(quote.read_partial(&rpc::call_until(network, &providers, &quote.calls(), is_whole).await))
}

fn another_family() -> Fault {
    Fault::internal("a flight's signer is of another chain family")
}

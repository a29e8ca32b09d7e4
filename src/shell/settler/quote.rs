//! What must be known of the chain before a transaction is signed (EVM): the
//! signer's nonce, today's price, what the payer holds.

use super::evm::evm_signer;
use super::{Settler, network_of};
use crate::address::Address;
use crate::chain::confirm::{Basis, Decided};
use crate::chain::evm::tx;
use crate::chain::facts::{Call, Facts, Unknown};
use crate::error::Fault;
use crate::network::Network;
use crate::settle::Flight;
use crate::settle::launch::{self, Aloft, Denied, Told};
use crate::shell::app::App;
use crate::shell::rpc;
use std::collections::BTreeMap;

impl Settler {
    /// What must be known to launch a flight. A second node is asked where the one that was asked knows fewer of the
    /// signer's transactions than are mined, or reports that the payer holds too little.
    pub(super) async fn quote_first(
        &self,
        app: &App,
        flight: &Flight,
        before: &[(String, Flight)],
    ) -> Result<(Told, Basis), Fault> {
        let network = network_of(flight)?;
        let quote = Quote::of(app, flight, flight.price.is_none(), Some(&flight.payer))?;
        let mined = if before.is_empty() { self.nonces()?.next } else { None };
        let spending = self.spending()?;
        let is_short = |told: Told| {
            // What cannot be read fails when the launch is decided on.
            let now = self.flying().unwrap_or_default();
            let known: BTreeMap<&str, &Flight> =
                before.iter().chain(&now).map(|(key, other)| (key.as_str(), other)).collect();
            let aloft = Aloft::of(known.into_values(), flight, &spending, network);
            launch::on_chain(flight, network, told, aloft) == Err(Denied::Balance)
        };
        let rule = |facts: &Facts| {
            let told = quote.read(facts)?;
            let behind = told.nonce.filter(|nonce| mined.is_some_and(|mined| *nonce < mined));
            Ok(Quoted { told, is_short: is_short(told), behind })
        };
        let decided = rpc::decide(network, &app.settings.providers(network), rule).await;
        let untold = Told { nonce: None, holds: None, price: None };
        Ok(decided.map_or((untold, Basis::Plain), |(first, basis)| (first.told, basis)))
    }
}

/// What a node answers before a launch, and what of it another may not share.
struct Quoted {
    told: Told,
    /// Whether the payer holds too little.
    is_short: bool,
    /// How many of the signer's transactions it knows, where more are mined.
    behind: Option<u64>,
}

impl Decided for Quoted {
    type Refusal = (bool, Option<u64>);

    fn refusal(&self) -> Option<Self::Refusal> {
        (self.is_short || self.behind.is_some()).then_some((self.is_short, self.behind))
    }
}

/// The calls for the nonce and, where they are wanted, today's price and what a payer holds.
struct Quote {
    network: &'static Network,
    count: Call,
    holding: Option<Call>,
    price: bool,
}

impl Quote {
    fn of(app: &App, flight: &Flight, price: bool, payer: Option<&Address>) -> Result<Self, Fault> {
        let network = network_of(flight)?;
        let count = tx::count_call(evm_signer(app, flight)?.address());
        Ok(Self { network, count, holding: payer.and_then(|payer| tx::holding_call(network, payer)), price })
    }

    fn calls(&self) -> Vec<Call> {
        let price = if self.price { tx::price_calls() } else { Vec::new() };
        [Some(self.count.clone()), self.holding.clone()].into_iter().flatten().chain(price).collect()
    }

    /// What was answered, as far as it was.
    fn part(&self, facts: &Facts) -> Told {
        Told {
            nonce: tx::number(facts, &self.count),
            holds: self.holding.as_ref().and_then(|call| tx::holding(facts, call)),
            price: if self.price { tx::price(self.network, facts) } else { None },
        }
    }

    /// All of it: a node that leaves anything out is passed over. A price above the cap is none, and an answer.
    fn read(&self, facts: &Facts) -> Result<Told, Unknown> {
        facts.have(&self.calls())?;
        if self.price {
            tx::quote(self.network, facts)?;
        }
        let told = self.part(facts);
        let is_whole = told.nonce.is_some() && told.holds.is_some() == self.holding.is_some();
        if is_whole { Ok(told) } else { Err(Unknown::nonsense("incomplete_quote")) }
    }
}

/// The nonce and, where it is wanted, today's price: of the node that answers most, where none answers all.
pub(super) async fn quote(app: &App, flight: &Flight, price: bool) -> Result<Told, Fault> {
    let quote = Quote::of(app, flight, price, None)?;
    let providers = app.settings.providers(quote.network);
    let is_whole = |facts: &Facts| quote.read(facts).is_ok();
    Ok(quote.part(&rpc::call_until(quote.network, &providers, &quote.calls(), is_whole).await))
}

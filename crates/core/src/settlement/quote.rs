//! The calls before a transaction is signed (EVM): the signer's nonce, and where they are needed the market's gas price
//! and the payer's balance.

use super::Flight;
use super::launch::LaunchFacts;
use x402_chain::address::Address;
use x402_chain::evm::tx;
use x402_chain::facts::{Call, Facts, Undecided};
use x402_chain::network::Network;

/// Which of the signer's transactions are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NonceCount {
    /// Mined and pending ones: the next nonce, as the node reports it.
    Pending,
    /// Mined ones only.
    Mined,
}

/// The calls of one round, and the reading of their answers.
#[derive(Clone, Debug)]
pub struct LaunchCalls {
    network: &'static Network,
    count: Call,
    balance: Option<Call>,
    price: bool,
}

impl LaunchCalls {
    /// Nonce and gas price for a flight's signer. They need no key, so that the flights of a signer that was removed
    /// from the settings can be brought to their end. `None` for a signer of another family.
    #[must_use]
    pub fn of(flight: &Flight, network: &'static Network, count: NonceCount) -> Option<Self> {
        let Address::Evm(signer) = flight.signer else { return None };
        let count = match count {
            NonceCount::Pending => tx::pending_nonce_call(signer),
            NonceCount::Mined => tx::mined_nonce_call(signer),
        };
        Some(Self { network, count, balance: None, price: true })
    }

    /// What a launch needs: the nonce, the payer's balance, and the price unless the flight has one. `None` for a
    /// signer of another family.
    #[must_use]
    pub fn of_launch(flight: &Flight, network: &'static Network) -> Option<Self> {
        let balance = tx::token_balance_call(network, &flight.payer);
        Some(Self { balance, price: flight.price.is_none(), ..Self::of(flight, network, NonceCount::Pending)? })
    }

    /// The calls of the one round.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        let price = if self.price { tx::price_calls() } else { Vec::new() };
        [Some(self.count.clone()), self.balance.clone()].into_iter().flatten().chain(price).collect()
    }

    /// The facts that were answered; the others are `None`.
    #[must_use]
    pub fn read_partial(&self, facts: &Facts) -> LaunchFacts {
        LaunchFacts {
            nonce: tx::read_number(facts, &self.count),
            holds: self.balance.as_ref().and_then(|call| tx::read_token_balance(facts, call)),
            price: if self.price { tx::capped_price(self.network, facts) } else { None },
        }
    }

    /// All facts of one node. Where even the base fee is above the chain's cap, the price is `None` and counts as
    /// answered.
    ///
    /// # Errors
    /// [`Undecided::Missing`] with the calls; [`Undecided::Malformed`] where the node left one unanswered: another is
    /// to be asked.
    pub fn read(&self, facts: &Facts) -> Result<LaunchFacts, Undecided> {
        facts.require(&self.calls())?;
        if self.price {
            tx::quote_price(self.network, facts)?;
        }
        let observed = self.read_partial(facts);
        let is_whole = observed.nonce.is_some() && observed.holds.is_some() == self.balance.is_some();
        if is_whole { Ok(observed) } else { Err(Undecided::malformed("incomplete_quote")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settlement::flight::tests::flight;
    use serde_json::value::to_raw_value;
    use serde_json::{Value, json};
    use x402_chain::evm::sender::GasPrice;
    use x402_chain::facts::RpcReply;
    use x402_chain::network::by_key;

    /// What a node answers to a call; `null` to what it does not know.
    fn answers(calls: &[Call], of: impl Fn(&Call) -> Value) -> Facts {
        let mut facts = Facts::new();
        for call in calls {
            facts.insert(call.clone(), RpcReply::Value(to_raw_value(&of(call)).expect("JSON")));
        }
        facts
    }

    fn word(call: &Call) -> Value {
        match call.method {
            "eth_getTransactionCount" => json!("0x7"),
            "eth_call" => json!(format!("0x{}09", "00".repeat(31))),
            "eth_getBlockByNumber" => json!({"baseFeePerGas": "0x3b9aca00"}),
            _ => json!("0x5f5e100"),
        }
    }

    #[test]
    fn price_and_nonce_are_asked_in_one_round() {
        let base = by_key("base").expect("registered");
        let quote = LaunchCalls::of(&flight(), base, NonceCount::Pending).expect("an EVM signer");
        assert_eq!(quote.read(&Facts::new()), Err(Undecided::Missing(quote.calls())));
        let read = quote.read(&answers(&quote.calls(), word)).expect("whole");
        let price = Some(GasPrice { max_wei: 2_100_000_000, tip_wei: 100_000_000 });
        assert_eq!(read, LaunchFacts { nonce: Some(7), holds: None, price });
        let mined = LaunchCalls::of(&flight(), base, NonceCount::Mined).expect("an EVM signer");
        assert!(
            mined.calls().iter().any(|call| call.params.contains("latest") && call.method == "eth_getTransactionCount")
        );
        let svm = Flight { signer: Address::Svm([1; 32]), ..flight() };
        assert!(
            LaunchCalls::of(&svm, base, NonceCount::Pending).is_none() && LaunchCalls::of_launch(&svm, base).is_none()
        );
    }

    #[test]
    fn a_launch_asks_for_the_balance_and_for_no_price_that_the_flight_brings() {
        let base = by_key("base").expect("registered");
        let of = |price| LaunchCalls::of_launch(&Flight { price, ..flight() }, base).expect("an EVM signer");
        let (priced, open) = (of(Some(GasPrice { max_wei: 5, tip_wei: 1 })), of(None));
        assert_eq!((priced.calls().len(), open.calls().len()), (2, 5));
        let read = priced.read(&answers(&priced.calls(), word)).expect("whole");
        assert_eq!(
            (read.nonce, read.holds.map(|holds| holds.to_string()), read.price),
            (Some(7), Some("9".into()), None)
        );
        // A node that leaves the nonce or the balance out is passed over; what it said is read all the same.
        for method in ["eth_getTransactionCount", "eth_call"] {
            let facts = answers(&open.calls(), |call| if call.method == method { json!(null) } else { word(call) });
            assert_eq!(open.read(&facts), Err(Undecided::malformed("incomplete_quote")), "{method}");
            assert!(open.read_partial(&facts).price.is_some());
        }
        // A price above the cap is none, and an answer.
        let dear = |call: &Call| match call.method {
            "eth_getBlockByNumber" => json!({"baseFeePerGas": "0x174876e800"}),
            _ => word(call),
        };
        assert_eq!(open.read(&answers(&open.calls(), dear)).expect("an answer").price, None);
        let silent = |call: &Call| if call.method == "eth_getBlockByNumber" { json!(null) } else { word(call) };
        assert!(open.read(&answers(&open.calls(), silent)).is_ok(), "the gas price stands in for the base fee");
    }
}

//! What a Settler decides: which nonce is next, what a node's refusal means, how
//! a transaction's story ends a settlement. Pure; the shell signs, sends and waits.

use crate::address::Address;
use crate::amount::Amount;
use crate::chain::evm::tx::{Message, Price};
use crate::chain::trace::{Found, Mined, Trace};
use crate::id::{SettlementId, TenantId};
use crate::network::Environment;
use crate::payment::settlement::{Attempt, SettlementStatus};
use crate::reason::Reason;
use crate::time::{UnixMillis, UnixSeconds};
use alloy_primitives::B256;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// One payment on its way, as the Worker hands it to the Settler.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flight {
    /// Whose.
    pub settlement: SettlementId,
    /// How many attempts the ledger knew when it reserved this one.
    pub attempt: usize,
    /// The seller.
    pub tenant: TenantId,
    /// Which money.
    pub environment: Environment,
    /// Our key of the network.
    pub network: String,
    /// Which of our keys sends it.
    pub signer: Address,
    /// Why nothing may be sent for it now; what is on its way already is waited for all the same.
    pub held: Option<(Reason, String)>,
    /// What is sent.
    pub cargo: Cargo,
    /// Who pays.
    pub payer: Address,
    /// Who is paid.
    pub pay_to: Address,
    /// How much.
    pub amount: Amount,
    /// The authorization's nonce (EVM).
    pub nonce: Option<B256>,
    /// From when on the authorization is worthless (EVM `validBefore`); `None` on Solana.
    #[serde(default)]
    pub valid_before: Option<UnixSeconds>,
    /// The price at which it was simulated: that of the first transaction (EVM).
    #[serde(default)]
    pub price: Option<Price>,
    /// The most that a unit of gas may ever cost for it, wei: what the ledger has reserved money for (EVM).
    #[serde(default)]
    pub max_fee_wei: Option<u128>,
    /// Whether the seller's tier costs nothing: all such sellers share one daily budget.
    #[serde(default)]
    pub free: bool,
}

/// What is sent, by family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cargo {
    /// A call, to be given a nonce and a price.
    Evm(Message),
    /// A transaction in base64 that lacks our signature.
    Svm(String),
}

impl Flight {
    /// Its name in the Settler's storage: the same request finds the same flight.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}/{}", self.settlement, self.attempt)
    }
}

/// How a flight stands, as the Settler tells the ledger and the Worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Whose.
    pub settlement: SettlementId,
    /// Which attempt; `None` in reports of older builds.
    #[serde(default)]
    pub attempt: Option<usize>,
    /// How far it is.
    pub status: SettlementStatus,
    /// Why it failed.
    pub reason: Option<Reason>,
    /// A sentence about a failure.
    pub told: String,
    /// The transaction that counts, or was sent last.
    pub transaction: Option<String>,
    /// Every transaction that was sent for this attempt.
    pub attempts: Vec<Attempt>,
    /// Whether the transaction is somebody else's.
    pub external: bool,
    /// Whether a block that held it has left the chain: what was completed may then fail.
    pub reorged: bool,
    /// Which `Transfer` logs of the transaction may be this payment, the likeliest first, as
    /// [`crate::chain::trace::Transfer::ordinal`] counts them (EVM). Usually one.
    #[serde(default)]
    pub units: Vec<u64>,
    /// What the chain took from the signer for it; `None` while nothing is mined.
    #[serde(default)]
    pub spent: Option<Spent>,
    /// Whether a node has taken any of its transactions, or may have.
    #[serde(default)]
    pub handed: bool,
}

/// What a mined transaction took from its signer, in the chain's smallest unit (wei, lamports).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// All of it.
    pub total: u128,
    /// The part that an OP-stack chain takes for its layer 1 (`l1Fee` of the receipt).
    pub l1_fee: u128,
}

/// What a Settler is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Settle, or go on waiting; answered with a [`Report`].
    Settle(Box<Flight>),
    /// Never launch this attempt, unless it is known already; answered with [`Standing`].
    Refuse {
        /// Whose.
        settlement: SettlementId,
        /// Which attempt.
        attempt: usize,
    },
    /// Name the payers for whom nothing is launched now; answered with a list of [`HeldPayer`].
    Held,
}

/// What a Settler knows of an attempt that it was told never to launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It had never heard of it, and will never launch it.
    Refused,
    /// It has launched it, or is about to.
    Known,
}

/// A payer whose settlement has reverted of late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldPayer {
    /// Who.
    pub payer: Address,
    /// Until when nothing is launched for them.
    pub until: UnixMillis,
}

/// The nonces that one signer has to give on one chain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nonces {
    /// The first that was never given.
    pub next: Option<u64>,
    /// Given, and never sent: the next payments fill them.
    pub free: BTreeSet<u64>,
    /// What fills a gap where no payment came, until the chain has it.
    #[serde(default)]
    pub fillers: BTreeMap<u64, String>,
}

impl Nonces {
    /// Takes the next. `chain` is how many the chain has seen, those that wait
    /// included; `idle` says that nothing is on its way, so that only the chain counts.
    #[must_use]
    pub fn take(&mut self, chain: u64, idle: bool) -> u64 {
        if idle {
            self.free.clear();
            self.next = Some(chain);
        }
        self.free.retain(|nonce| *nonce >= chain);
        if let Some(free) = self.free.pop_first() {
            return free;
        }
        let nonce = self.next.unwrap_or(chain).max(chain);
        self.next = Some(nonce.saturating_add(1));
        nonce
    }

    /// Fills the gaps below a nonce that is on its way, with what `sign` makes
    /// for each; answers all that is to be sent, again or for the first time.
    pub fn fill(&mut self, chain: u64, below: u64, sign: impl Fn(u64) -> Option<String>) -> Vec<String> {
        self.fillers.retain(|nonce, _| *nonce >= chain);
        let gaps: Vec<u64> = self.free.range(..below).copied().filter(|nonce| *nonce >= chain).collect();
        for nonce in gaps {
            if let Some(raw) = sign(nonce) {
                self.free.remove(&nonce);
                self.fillers.insert(nonce, raw);
            }
        }
        self.fillers.values().cloned().collect()
    }

    /// Gives one back that was never sent.
    pub fn give_back(&mut self, nonce: u64) {
        if self.next == Some(nonce.saturating_add(1)) {
            self.next = Some(nonce);
        } else {
            self.free.insert(nonce);
        }
    }
}

/// What a node's refusal of a transaction means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It has it already.
    Known,
    /// Another transaction has used the nonce.
    NonceUsed,
    /// It wants a higher price.
    Underpriced,
    /// The signer cannot pay the gas.
    Poor,
    /// It may have been taken, or not.
    Unclear,
}

/// Reads a node's words (geth, its kin, and those that imitate them).
#[must_use]
pub fn refusal(words: &str) -> Refused {
    let words = words.to_lowercase();
    let says = |text: &str| words.contains(text);
    if says("already known") || says("already imported") || says("known transaction") {
        Refused::Known
    } else if says("nonce too low") || says("nonce is too low") || says("old nonce") {
        Refused::NonceUsed
    } else if says("underpriced") || says("less than block base fee") || says("fee too low") {
        Refused::Underpriced
    } else if says("insufficient funds") {
        Refused::Poor
    } else {
        Refused::Unclear
    }
}

/// Whether a transaction moved an amount to a receiver, by a payer where one is named.
#[must_use]
pub fn moved(mined: &Mined, payer: Option<&Address>, pay_to: &Address, amount: Amount) -> bool {
    mined.transfers.iter().any(|transfer| {
        let from = payer.is_none_or(|payer| transfer.from.as_ref() == Some(payer));
        from && transfer.to.as_ref() == Some(pay_to) && transfer.amount == amount
    })
}

/// How a transaction's story ends a flight; `None` while it has no end.
#[must_use]
pub fn ending(flight: &Flight, trace: &Trace) -> Option<(SettlementStatus, Option<Reason>, String)> {
    let Found::Mined(mined) = &trace.found else { return None };
    let (failed, unmoved) = match flight.cargo {
        Cargo::Evm(_) => (Reason::EvmFailed, Reason::EvmEventMismatch),
        Cargo::Svm(_) => (Reason::SvmFailed, Reason::SvmUnconfirmed),
    };
    if let Some(failure) = &mined.failure {
        let told = format!("the transaction failed: {failure}");
        return Some((SettlementStatus::Failed, Some(failed), told));
    }
    // Balances on Solana name who gained and who lost, but not by whom who gained.
    let payer = Some(&flight.payer).filter(|_| matches!(flight.cargo, Cargo::Evm(_)));
    Some(if moved(mined, payer, &flight.pay_to, flight.amount) {
        (SettlementStatus::Completed, None, String::new())
    } else {
        let told = "the transaction succeeded without the transfer that was signed".to_owned();
        (SettlementStatus::Failed, Some(unmoved), told)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::TxId;
    use crate::chain::trace::{Block, Depth, Place, Transfer};
    use proptest::prelude::*;

    #[test]
    fn nonces_follow_one_another_and_returned_ones_are_filled() {
        let mut nonces = Nonces::default();
        assert_eq!((nonces.take(7, true), nonces.take(7, false), nonces.take(7, false)), (7, 8, 9));
        nonces.give_back(8);
        nonces.give_back(9);
        assert_eq!((nonces.take(7, false), nonces.take(7, false), nonces.take(7, false)), (8, 9, 10));
        // Somebody else has used the key.
        assert_eq!(nonces.take(20, false), 20);
        // A chain that began anew.
        assert_eq!(nonces.take(0, true), 0);
    }

    #[test]
    fn a_gap_below_what_is_on_its_way_is_filled_once() {
        let mut nonces = Nonces { next: Some(10), free: BTreeSet::from([3, 5, 9]), fillers: BTreeMap::new() };
        let sign = |nonce: u64| Some(format!("raw {nonce}"));
        // 3 was used by somebody else; 9 holds nobody up.
        assert_eq!(nonces.fill(4, 8, sign), ["raw 5"]);
        assert_eq!((nonces.take(4, false), nonces.fill(4, 8, |_| None)), (9, vec!["raw 5".to_owned()]));
        assert!(nonces.fill(6, 8, sign).is_empty() && nonces.fillers.is_empty());
    }

    #[test]
    fn a_nodes_words_are_understood() {
        for (words, want) in [
            ("already known", Refused::Known),
            ("nonce too low: next nonce 5, tx nonce 4", Refused::NonceUsed),
            ("replacement transaction underpriced", Refused::Underpriced),
            ("max fee per gas less than block base fee", Refused::Underpriced),
            ("Insufficient funds for gas * price + value", Refused::Poor),
            ("internal error", Refused::Unclear),
        ] {
            assert_eq!(refusal(words), want, "{words}");
        }
    }

    fn flight() -> Flight {
        let address = |byte| Address::Evm([byte; 20].into());
        Flight {
            settlement: SettlementId::new(crate::time::UnixMillis(1), 1),
            attempt: 2,
            tenant: TenantId([1; 12]),
            environment: Environment::Test,
            network: "base".to_owned(),
            signer: address(5),
            held: None,
            cargo: Cargo::Evm(Message { to: [9; 20].into(), data: vec![1].into(), gas_limit: 1 }),
            payer: address(1),
            pay_to: address(2),
            amount: Amount::atomic(7),
            nonce: None,
            valid_before: None,
            price: None,
            max_fee_wei: None,
            free: false,
        }
    }

    fn mined(failure: Option<&str>, transfers: Vec<Transfer>) -> Trace {
        let block = Block { number: 1, hash: None, time: None };
        let found = Found::Mined(Box::new(Mined {
            failure: failure.map(str::to_owned),
            block,
            head: 1,
            depth: Depth::Seen,
            submitter: None,
            transfers,
            foreign: Vec::new(),
            zero: Vec::new(),
            confidential: Vec::new(),
            memos: Vec::new(),
            authorizations: Vec::new(),
        }));
        Trace { tx: TxId::Evm([1; 32].into()), found }
    }

    #[test]
    fn only_the_transfer_that_was_signed_completes_a_settlement() {
        let flight = flight();
        assert!(flight.key().starts_with("stl_") && flight.key().ends_with("/2"));
        let moved = |to, amount| Transfer {
            place: Place::LogIndex(0),
            ordinal: 0,
            from: Some(flight.payer),
            to: Some(to),
            amount: Amount::atomic(amount),
        };
        let status = |trace: &Trace| ending(&flight, trace).map(|(status, reason, _)| (status, reason));
        let good = mined(None, vec![moved(flight.payer, 7), moved(flight.pay_to, 7)]);
        assert_eq!(status(&good), Some((SettlementStatus::Completed, None)));
        for wrong in [vec![], vec![moved(flight.pay_to, 6)], vec![moved(flight.payer, 7)]] {
            let want = Some((SettlementStatus::Failed, Some(Reason::EvmEventMismatch)));
            assert_eq!(status(&mined(None, wrong)), want);
        }
        let want = Some((SettlementStatus::Failed, Some(Reason::EvmFailed)));
        assert_eq!(status(&mined(Some("reverted"), Vec::new())), want);
        assert_eq!(status(&Trace { found: Found::Pending, ..good }), None);
    }

    proptest! {
        #[test]
        fn no_nonce_is_given_twice(back in proptest::collection::vec(any::<bool>(), 1..60)) {
            let mut nonces = Nonces::default();
            let mut held = BTreeSet::new();
            for (at, give_back) in back.iter().enumerate() {
                let nonce = nonces.take(5, at == 0);
                prop_assert!(held.insert(nonce), "{nonce} twice");
                if *give_back {
                    held.remove(&nonce);
                    nonces.give_back(nonce);
                }
            }
        }
    }
}

//! The scheme `exact` (docs/spec/protocol.md#p-2-1, #p-2-4), whichever the family:
//! what is free to judge comes first, then one round of questions to the chain.

pub mod evm;
pub mod rules;
pub mod svm;

use crate::address::{Address, Family};
use crate::amount::Amount;
use crate::evm::sender::Sender;
use crate::facts::Unknown;
use crate::network::Network;
use crate::time::UnixSeconds;
use crate::x402::{Payload, Payment};
use rules::{ChainVerdict, Known, Rules};

/// What was signed, with every member of its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Terms {
    /// An EIP-3009 authorization.
    Evm(Box<evm::Terms>),
    /// A transaction that lacks our signature only.
    Svm(Box<svm::Terms>),
}

impl Terms {
    /// Who pays.
    #[must_use]
    pub const fn payer(&self) -> Address {
        match self {
            Self::Evm(terms) => terms.payer(),
            Self::Svm(terms) => terms.payer(),
        }
    }

    /// Who is paid.
    #[must_use]
    pub const fn pay_to(&self) -> Address {
        match self {
            Self::Evm(terms) => terms.pay_to(),
            Self::Svm(terms) => terms.pay_to(),
        }
    }

    /// How much.
    #[must_use]
    pub fn amount(&self) -> Amount {
        match self {
            Self::Evm(terms) => terms.amount(),
            Self::Svm(terms) => terms.amount(),
        }
    }

    /// From when on it is worthless, where it says so itself (EVM).
    #[must_use]
    pub fn valid_before(&self) -> Option<UnixSeconds> {
        match self {
            Self::Evm(terms) => Some(terms.valid_before()),
            Self::Svm(_) => None,
        }
    }
}

/// How the free rules came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// The rules.
    pub rules: Rules,
    /// What was signed, if all that is free to check was good, or its time alone
    /// is over: then only what is recorded of it can help.
    pub terms: Option<Terms>,
}

/// All that can be judged without the chain. `own` are the addresses that pay
/// for transactions on this network.
#[must_use]
pub fn judge_free(payment: &Payment, network: &Network, own: &[Address], now: UnixSeconds) -> Judged {
    let mut rules = Rules::default();
    let terms = match network.family {
        Family::Evm => evm::free(&mut rules, payment, network, now).map(|terms| Terms::Evm(Box::new(terms))),
        Family::Svm => svm::free(&mut rules, payment, network, own).map(|terms| Terms::Svm(Box::new(terms))),
    };
    Judged { rules, terms }
}

/// Judges by the chain what is good as far as can be judged without it, if `sender` would send the transaction.
///
/// # Errors
/// [`Unknown::Missing`] with the calls of one round (a second where a payer is
/// found to have code, a last one where a failure is looked into);
/// [`Unknown::Malformed`] where the node's answer is no evidence.
pub fn judge_on_chain(
    payment: &Payment,
    terms: &Terms,
    sender: &Sender,
    known: Known<'_>,
) -> Result<ChainVerdict, Unknown> {
    match terms {
        Terms::Evm(terms) => evm::on_chain(terms, sender, known),
        Terms::Svm(terms) => svm::on_chain(payment.version, terms, known.facts),
    }
}

/// Who pays by the payload's own word, good or not: a refusal names them.
#[must_use]
pub fn payer_named(payment: &Payment) -> Option<Address> {
    match &payment.payload {
        Payload::Eip3009(signed) => Address::parse(Family::Evm, &signed.from),
        Payload::Transaction(text) => svm::payer_named(text),
        Payload::Other => None,
    }
}

/// All the rules at once, for tests: we have no address of our own but the sender's.
///
/// # Errors
/// As [`judge_on_chain`].
#[cfg(test)]
pub(crate) fn judge(
    payment: &Payment,
    network: &Network,
    sender: &Sender,
    facts: &crate::facts::Facts,
    now: UnixSeconds,
) -> Result<Judged, Unknown> {
    use crate::evm::memory::Memory;

    let mut judged = judge_free(payment, network, core::slice::from_ref(&sender.address), now);
    if let (Some(terms), None) = (&judged.terms, &judged.rules.refusal) {
        let known = Known { facts, memory: &Memory::default(), settles: true, now };
        let verdict = judge_on_chain(payment, terms, sender, known)?;
        let ChainVerdict::Judged(rules, _) = verdict else { panic!("a poor sender") };
        judged.rules.checks.extend(rules.checks);
        judged.rules.refusal = rules.refusal;
    }
    Ok(judged)
}

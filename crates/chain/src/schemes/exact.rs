//! The scheme `exact` (docs/spec/protocol.md#p-2-1, #p-2-4) of either family: first the rules that need no chain, then
//! one round of calls.

pub mod evm;
pub mod rules;
pub mod svm;

use crate::address::{Address, Family};
use crate::amount::Amount;
use crate::evm::sender::TransactionSender;
use crate::facts::Undecided;
use crate::network::Network;
use crate::time::UnixSeconds;
use crate::x402::{Payload, Payment, Scheme};
use rules::{OnchainContext, OnchainVerdict, SchemeRules};

/// What the payer signed, with every member parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExactPayment {
    /// An EIP-3009 authorization.
    Evm(Box<evm::EvmExactPayment>),
    /// A transaction that lacks only our signature.
    Svm(Box<svm::SvmExactPayment>),
}

impl ExactPayment {
    /// The scheme that it was signed for.
    #[must_use]
    pub const fn scheme(&self) -> Scheme {
        Scheme::Exact
    }

    /// The address whose tokens move.
    #[must_use]
    pub const fn payer(&self) -> Address {
        match self {
            Self::Evm(terms) => terms.payer(),
            Self::Svm(terms) => terms.payer(),
        }
    }

    /// The address that is paid (`payTo`).
    #[must_use]
    pub const fn pay_to(&self) -> Address {
        match self {
            Self::Evm(terms) => terms.pay_to(),
            Self::Svm(terms) => terms.pay_to(),
        }
    }

    /// The amount, in the asset's atomic units.
    #[must_use]
    pub fn amount(&self) -> Amount {
        match self {
            Self::Evm(terms) => terms.amount(),
            Self::Svm(terms) => terms.amount(),
        }
    }

    /// From when on the authorization is invalid (EVM `validBefore`); `None` on Solana.
    #[must_use]
    pub fn valid_before(&self) -> Option<UnixSeconds> {
        match self {
            Self::Evm(terms) => Some(terms.valid_before()),
            Self::Svm(_) => None,
        }
    }
}

/// The result of the rules that need no chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffchainVerdict {
    /// The rules that need no chain, with their results.
    pub rules: SchemeRules,
    /// What the payer signed, if every rule that needs no chain passed, or only `validBefore` failed: a settlement that
    /// is recorded for it may still answer.
    pub payment: Option<ExactPayment>,
}

/// Checks every rule that needs no chain. `own` are the addresses of our signers on this network.
#[must_use]
pub fn verify_offchain(payment: &Payment, network: &Network, own: &[Address], now: UnixSeconds) -> OffchainVerdict {
    let mut rules = SchemeRules::default();
    let terms = match network.family {
        Family::Evm => {
            evm::verify_offchain(&mut rules, payment, network, now).map(|terms| ExactPayment::Evm(Box::new(terms)))
        }
        Family::Svm => {
            svm::verify_offchain(&mut rules, payment, network, own).map(|terms| ExactPayment::Svm(Box::new(terms)))
        }
    };
    OffchainVerdict { rules, payment: terms }
}

/// Checks the rules that need the chain, as if `sender` would send the transaction.
///
/// # Errors
/// [`Undecided::Missing`] with the calls of one round (a second where a payer is
/// found to have code, a last one for the reason of a failure);
/// [`Undecided::Malformed`] where the node's answer is no evidence.
pub fn verify_onchain(
    payment: &Payment,
    terms: &ExactPayment,
    sender: &TransactionSender,
    known: OnchainContext<'_>,
) -> Result<OnchainVerdict, Undecided> {
    match terms {
        ExactPayment::Evm(terms) => evm::verify_onchain(terms, sender, known),
        ExactPayment::Svm(terms) => svm::verify_onchain(payment.version, terms, known.facts),
    }
}

/// The payer that the payload names, valid or not: a refusal repeats it.
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
/// As [`verify_onchain`].
#[cfg(test)]
pub(crate) fn verify_offchain_and_onchain(
    payment: &Payment,
    network: &Network,
    sender: &TransactionSender,
    facts: &crate::facts::Facts,
    now: UnixSeconds,
) -> Result<OffchainVerdict, Undecided> {
    use crate::evm::cache::VerificationCache;

    let mut judged = verify_offchain(payment, network, core::slice::from_ref(&sender.address), now);
    if let (Some(terms), None) = (&judged.payment, &judged.rules.refusal) {
        let known = OnchainContext { facts, memory: &VerificationCache::default(), settles: true, now };
        let verdict = verify_onchain(payment, terms, sender, known)?;
        let OnchainVerdict::Checked(rules, _) = verdict else { panic!("a poor sender") };
        judged.rules.checks.extend(rules.checks);
        judged.rules.refusal = rules.refusal;
    }
    Ok(judged)
}

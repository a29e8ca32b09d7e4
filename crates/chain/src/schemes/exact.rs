//! The scheme `exact` (PROTOCOL sections 2.1 and 2.4), whichever the family:
//! what is free to judge comes first, then one round of questions to the chain.

pub mod evm;
pub mod svm;

use crate::address::{Address, Family};
use crate::amount::Amount;
use crate::checks::Check;
use crate::confirm::{Basis, Decided};
use crate::evm::memory::Memory;
use crate::evm::tx::Price;
use crate::facts::{Facts, Unknown};
use crate::network::Network;
use crate::reason::Reason;
use crate::time::UnixSeconds;
use crate::trace::CodeKind;
use crate::x402::{Payload, Payment};
use std::borrow::Cow;

/// The hazard's name where no code at the payer's address could be read: how the signature is checked is open.
pub const UNREAD_PAYER: &str = "unread_code_of_the_payer";

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

/// Some rules and how they came out; after a broken one the rest is not looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Each rule that was looked at, with its outcome.
    pub checks: Vec<Check>,
    /// The first broken rule with its sentence; `None`: good.
    pub refusal: Option<(Reason, String)>,
    /// Whether they were looked at in the chain's state, as one node reported it: at another height, or by
    /// another node, they may come out otherwise. Else they are about the payment alone.
    pub of_state: bool,
}

impl Rules {
    /// Rules that are looked at in the chain's state.
    #[must_use]
    pub fn of_state() -> Self {
        Self { of_state: true, ..Self::default() }
    }

    /// Notes a rule with what was found; answers whether it holds.
    pub fn rule(&mut self, name: &str, holds: bool, reason: Reason, found: impl Into<Found>) -> bool {
        let detail = match found.into() {
            Found::Fact(fact) => fact,
            Found::Either(kept, _) if holds => kept.to_owned(),
            Found::Either(_, broken) => broken.into_owned(),
        };
        if !holds {
            self.refusal = Some((reason, detail.clone()));
        }
        self.checks.push(Check { name: name.to_owned(), passed: holds, detail });
        holds
    }
}

/// What was found when a rule was looked at. A rule's own wording ("the memo is extra.memo") says the opposite of
/// what was found where it is broken, so there is no way to give one sentence of fixed text for both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A fact with its values, which reads right either way: "the payer holds 5".
    Fact(String),
    /// What is said where the rule holds, and where it is broken.
    Either(&'static str, Cow<'static, str>),
}

impl From<String> for Found {
    fn from(fact: String) -> Self {
        Self::Fact(fact)
    }
}

impl From<(&'static str, &'static str)> for Found {
    fn from((kept, broken): (&'static str, &'static str)) -> Self {
        Self::Either(kept, broken.into())
    }
}

impl From<(&'static str, String)> for Found {
    fn from((kept, broken): (&'static str, String)) -> Self {
        Self::Either(kept, broken.into())
    }
}

/// Characters of a text from outside that a sentence repeats.
const QUOTED_MAX: usize = 80;

/// A text from outside as a sentence names it: in quotes, and not longer than an address.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.chars().take(QUOTED_MAX).collect::<String>())
}

/// What is said of what the buyer accepted.
pub(crate) const ACCEPTED: (&str, &str) =
    ("the buyer accepted these requirements", "the buyer accepted other requirements than these");

/// What is said of the schemes that both sides name.
pub(crate) fn schemes(payment: &Payment) -> (&'static str, String) {
    let (wanted, accepted) = (quoted(&payment.requirements.scheme), quoted(payment.accepted.scheme()));
    let found = format!("the scheme is {wanted} in the requirements and {accepted} in the payment; 'exact' is served");
    ("the scheme is exact on both sides", found)
}

/// What is said of the networks that both sides name.
pub(crate) fn networks(payment: &Payment) -> (&'static str, String) {
    let (wanted, accepted) = (quoted(&payment.requirements.network), quoted(payment.accepted.network()));
    ("one network on both sides", format!("the network is {wanted} in the requirements and {accepted} in the payment"))
}

/// Who would send the transaction, and how: what is simulated is what is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    /// The address.
    pub address: Address,
    /// The most gas that it may use (EVM).
    pub gas_limit: Option<u64>,
    /// What a unit of gas may cost (EVM); `None` where nobody would send it, or no node names a price.
    pub price: Option<Price>,
}

/// What the chain's answers make of terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainVerdict {
    /// How the rules came out, and what is at the payer's address: what has code is paid from otherwise.
    Judged(Rules, CodeKind),
    /// The sender cannot pay for the gas. That is ours, whatever the payment is.
    Poor,
    /// The sender's price is below the base fee. That is ours too.
    Underpriced,
}

/// What a node refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The payment, for this reason.
    Payment(Reason),
    /// The sender, who cannot pay for the gas.
    Poor,
    /// The sender's price.
    Underpriced,
}

impl Decided for ChainVerdict {
    type Refusal = Refusal;

    fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Judged(rules, _) => {
                let (reason, _) = rules.refusal.as_ref().filter(|_| rules.of_state)?;
                Some(Refusal::Payment(*reason))
            }
            Self::Poor => Some(Refusal::Poor),
            Self::Underpriced => Some(Refusal::Underpriced),
        }
    }
}

/// What is known beside the terms.
#[derive(Clone, Copy)]
pub struct Known<'a> {
    /// A node's answers.
    pub facts: &'a Facts,
    /// What was found out before.
    pub memory: &'a Memory,
    /// Whether money is to move next: then the payer's code is read now, whatever was seen before.
    pub settles: bool,
    /// When it is.
    pub now: UnixSeconds,
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

/// The check that stands with a refusal that the only provider's word makes final.
#[must_use]
pub fn single_provider(basis: Basis) -> Option<Check> {
    let detail = "one provider is configured for the chain: its word counts";
    let check = Check { name: "single_provider".to_owned(), passed: true, detail: detail.to_owned() };
    (basis == Basis::Single).then_some(check)
}

/// The check that a refusal fails which nothing confirms.
#[must_use]
pub fn unconfirmed(basis: Basis) -> Option<Check> {
    let detail = "another node confirms the refusal, or the one that refuses is as high as the others";
    let check = Check { name: "second_provider".to_owned(), passed: false, detail: detail.to_owned() };
    (basis == Basis::Unconfirmed).then_some(check)
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
    facts: &Facts,
    now: UnixSeconds,
) -> Result<Judged, Unknown> {
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

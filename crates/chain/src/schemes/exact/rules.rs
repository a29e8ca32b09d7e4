//! The rules of `exact` as values, whichever the family: how each came out, what a refusal rests on, and what is said
//! of what both sides name.

use crate::checks::Check;
use crate::confirm::{Basis, Decided};
use crate::evm::memory::Memory;
use crate::facts::Facts;
use crate::reason::Reason;
use crate::time::UnixSeconds;
use crate::trace::CodeKind;
use crate::x402::Payment;
use std::borrow::Cow;

/// The hazard's name where no code at the payer's address could be read: how the signature is checked is open.
pub const UNREAD_PAYER: &str = "unread_code_of_the_payer";

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

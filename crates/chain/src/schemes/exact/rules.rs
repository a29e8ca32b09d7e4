//! The rules of `exact` as values, whichever the family: how each came out, what a refusal rests on, and what is said
//! of what both sides name.

use crate::checks::Check;
use crate::confirm::{StateDecision, VerdictBasis};
use crate::evm::cache::VerificationCache;
use crate::facts::Facts;
use crate::reason::Reason;
use crate::time::UnixSeconds;
use crate::trace::CodeKind;
use crate::x402::Payment;
use std::borrow::Cow;

/// The hazard's name where no code at the payer's address could be read: how the signature is checked is open.
pub const UNREAD_PAYER: &str = "unread_code_of_the_payer";

/// The rules that were checked, with their results; after a failed rule no other is checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SchemeRules {
    /// Each rule that was checked, with its result.
    pub checks: Vec<Check>,
    /// The first broken rule with its sentence; `None`: good.
    pub refusal: Option<(Reason, String)>,
    /// Whether the rules depend on the chain's state as one node reported it: another node, or another height, may give
    /// another result. Otherwise they depend on the payment alone.
    pub of_state: bool,
}

impl SchemeRules {
    /// Rules that depend on the chain's state.
    #[must_use]
    pub fn of_state() -> Self {
        Self { of_state: true, ..Self::default() }
    }

    /// Notes a rule with what was found; answers whether it holds.
    pub fn record(&mut self, name: &str, holds: bool, reason: Reason, found: impl Into<RuleDetail>) -> bool {
        let detail = match found.into() {
            RuleDetail::Fact(fact) => fact,
            RuleDetail::PassOrFail(kept, _) if holds => kept.to_owned(),
            RuleDetail::PassOrFail(_, broken) => broken.into_owned(),
        };
        if !holds {
            self.refusal = Some((reason, detail.clone()));
        }
        self.checks.push(Check { name: name.to_owned(), passed: holds, detail });
        holds
    }
}

/// What was found when a rule was checked. The text of a rule ("the memo is extra.memo") says the opposite of what was
/// found when it fails, so each result has a sentence of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleDetail {
    /// A fact with its values, which reads right either way: "the payer holds 5".
    Fact(String),
    /// What is said where the rule holds, and where it is broken.
    PassOrFail(&'static str, Cow<'static, str>),
}

impl From<String> for RuleDetail {
    fn from(fact: String) -> Self {
        Self::Fact(fact)
    }
}

impl From<(&'static str, &'static str)> for RuleDetail {
    fn from((kept, broken): (&'static str, &'static str)) -> Self {
        Self::PassOrFail(kept, broken.into())
    }
}

impl From<(&'static str, String)> for RuleDetail {
    fn from((kept, broken): (&'static str, String)) -> Self {
        Self::PassOrFail(kept, broken.into())
    }
}

/// Characters of a text from outside that a sentence repeats.
const QUOTED_MAX: usize = 80;

/// A text from outside as a sentence names it: in quotes, and not longer than an address.
pub(crate) fn quote_text(text: &str) -> String {
    format!("'{}'", text.chars().take(QUOTED_MAX).collect::<String>())
}

/// What is said of what the buyer accepted.
pub(crate) const ACCEPTED_DETAIL: (&str, &str) =
    ("the buyer accepted these requirements", "the buyer accepted other requirements than these");

/// What is said of the schemes that both sides name.
pub(crate) fn schemes_detail(payment: &Payment) -> (&'static str, String) {
    let (wanted, accepted) = (quote_text(&payment.requirements.scheme), quote_text(payment.accepted.scheme()));
    let found = format!("the scheme is {wanted} in the requirements and {accepted} in the payment; 'exact' is served");
    ("the scheme is exact on both sides", found)
}

/// What is said of the networks that both sides name.
pub(crate) fn networks_detail(payment: &Payment) -> (&'static str, String) {
    let (wanted, accepted) = (quote_text(&payment.requirements.network), quote_text(payment.accepted.network()));
    ("one network on both sides", format!("the network is {wanted} in the requirements and {accepted} in the payment"))
}

/// What the chain's answers make of terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnchainVerdict {
    /// How the rules came out, and what is at the payer's address: what has code is paid from otherwise.
    Checked(SchemeRules, CodeKind),
    /// The sender cannot pay for the gas. That is ours, whatever the payment is.
    SignerUnfunded,
    /// The sender's price is below the base fee. That is ours too.
    Underpriced,
}

/// What a node's answer speaks against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnchainRefusal {
    /// The payment, for this reason.
    Payment(Reason),
    /// The sender, who cannot pay for the gas.
    SignerUnfunded,
    /// The sender's gas price is below the base fee.
    Underpriced,
}

impl StateDecision for OnchainVerdict {
    type Refusal = OnchainRefusal;

    fn refusal(&self) -> Option<OnchainRefusal> {
        match self {
            Self::Checked(rules, _) => {
                let (reason, _) = rules.refusal.as_ref().filter(|_| rules.of_state)?;
                Some(OnchainRefusal::Payment(*reason))
            }
            Self::SignerUnfunded => Some(OnchainRefusal::SignerUnfunded),
            Self::Underpriced => Some(OnchainRefusal::Underpriced),
        }
    }
}

/// What the on-chain rules need beside the payment itself.
#[derive(Clone, Copy)]
pub struct OnchainContext<'a> {
    /// The answers of one node so far.
    pub facts: &'a Facts,
    /// Results of earlier verifications: signers, deployed tokens, payers' code.
    pub memory: &'a VerificationCache,
    /// Whether money is to move next: then the payer's code is read now, whatever was seen before.
    pub settles: bool,
    /// The time by which validity is judged.
    pub now: UnixSeconds,
}

/// The check that accompanies a refusal which rests on the only provider.
#[must_use]
pub fn single_provider_check(basis: VerdictBasis) -> Option<Check> {
    let detail = "only one provider is configured for the chain: its answer counts";
    let check = Check { name: "single_provider".to_owned(), passed: true, detail: detail.to_owned() };
    (basis == VerdictBasis::Single).then_some(check)
}

/// The check that a refusal fails which nothing confirms.
#[must_use]
pub fn unconfirmed_check(basis: VerdictBasis) -> Option<Check> {
    let detail = "another node confirms the refusal, or the one that refuses is as high as the others";
    let check = Check { name: "second_provider".to_owned(), passed: false, detail: detail.to_owned() };
    (basis == VerdictBasis::Unconfirmed).then_some(check)
}

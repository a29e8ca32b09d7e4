//! The rules of `exact` as values, for either family: their results, what a refusal depends on, and the sentences about
//! members that both sides name.

use crate::checks::Check;
use crate::confirm::{StateDecision, VerdictBasis};
use crate::evm::cache::VerificationCache;
use crate::facts::Facts;
use crate::reason::Reason;
use crate::time::UnixSeconds;
use crate::trace::CodeKind;
use crate::x402::{Payment, Scheme};
use std::borrow::Cow;

/// The name of the hazard that no code at the payer's address could be read, so that it is unknown how the signature is
/// checked.
pub const UNREAD_PAYER: &str = "unread_code_of_the_payer";

/// The rules that were checked, with their results; after a failed rule no other is checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SchemeRules {
    /// Each rule that was checked, with its result.
    pub checks: Vec<Check>,
    /// The first failed rule with its sentence; `None`: every rule passed.
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

    /// Notes a rule with what was found; returns whether it passed.
    pub(crate) fn record(&mut self, name: &str, holds: bool, reason: Reason, found: impl Into<RuleDetail>) -> bool {
        let detail = match found.into() {
            RuleDetail::Fact(fact) => fact,
            RuleDetail::PassOrFail(kept, _) if holds => kept.into_owned(),
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
pub(crate) enum RuleDetail {
    /// A fact with its values, true in either case: "the payer holds 5".
    Fact(String),
    /// A sentence for the rule that passed, and one for the rule that failed.
    PassOrFail(Cow<'static, str>, Cow<'static, str>),
}

impl From<String> for RuleDetail {
    fn from(fact: String) -> Self {
        Self::Fact(fact)
    }
}

impl From<(&'static str, &'static str)> for RuleDetail {
    fn from((kept, broken): (&'static str, &'static str)) -> Self {
        Self::PassOrFail(kept.into(), broken.into())
    }
}

impl From<(&'static str, String)> for RuleDetail {
    fn from((kept, broken): (&'static str, String)) -> Self {
        Self::PassOrFail(kept.into(), broken.into())
    }
}

/// The most characters of outside text that a sentence quotes.
const QUOTED_MAX: usize = 80;

/// Outside text as a sentence quotes it: in quotation marks, cut to [`QUOTED_MAX`] characters.
pub(crate) fn quote_text(text: &str) -> String {
    format!("'{}'", text.chars().take(QUOTED_MAX).collect::<String>())
}

/// The sentence about the requirements that the buyer accepted.
pub(crate) const ACCEPTED_DETAIL: (&str, &str) =
    ("the buyer accepted these requirements", "the buyer accepted other requirements than these");

/// Whether both sides name this scheme, and the sentence about it.
pub(crate) fn check_scheme(payment: &Payment) -> (bool, RuleDetail) {
    let (wanted, accepted, own) = (&payment.requirements.scheme, payment.accepted.scheme(), Scheme::Exact.name());
    let is_own = [wanted, accepted].iter().all(|named| named.served == Some(Scheme::Exact));
    let (wanted, accepted) = (quote_text(&wanted.text), quote_text(&accepted.text));
    let broken =
        format!("the scheme is {wanted} in the requirements and {accepted} in the payment; only '{own}' is served");
    (
        is_own,
        RuleDetail::PassOrFail(format!("the requirements and the payment name the scheme {own}").into(), broken.into()),
    )
}

/// The sentence about the networks that both sides name.
pub(crate) fn networks_detail(payment: &Payment) -> (&'static str, String) {
    let (wanted, accepted) = (quote_text(&payment.requirements.network), quote_text(payment.accepted.network()));
    (
        "the requirements and the payment name the same network",
        format!("the network is {wanted} in the requirements and {accepted} in the payment"),
    )
}

/// The result of the rules that need the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnchainVerdict {
    /// The rules with their results, and the kind of account at the payer's address, which decides the calldata.
    Checked(SchemeRules, CodeKind),
    /// The sender cannot pay for the gas: a failure on our side, whatever the payment is.
    SignerUnfunded,
    /// The sender's gas price is below the base fee: a failure on our side too.
    Underpriced,
}

/// What a refusal by a node is about.
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
    /// What earlier verifications found: signers, deployed tokens, payers' code.
    pub memory: &'a VerificationCache,
    /// Whether money moves next: then the payer's code is read now, even if it is remembered.
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

/// The check that fails when nothing confirms a refusal.
#[must_use]
pub fn unconfirmed_check(basis: VerdictBasis) -> Option<Check> {
    let detail = "no other node confirms the refusal, and the node that refuses does not report the highest block";
    let check = Check { name: "second_provider".to_owned(), passed: false, detail: detail.to_owned() };
    (basis == VerdictBasis::Unconfirmed).then_some(check)
}

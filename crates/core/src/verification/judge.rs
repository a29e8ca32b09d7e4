//! Whether a transaction has paid a recipient, and its risk. Pure: a trace, the claim and the tenant's policy go in, a
//! judgement comes out.

mod claim_status;
mod flow;
pub mod risk;
mod selection;

use crate::sanctions;
use crate::verdict::{RefusalCode, SanctionsPolicy};
use crate::verification::answer::{Binding, Finality};
use crate::verification::claim::Claim;
pub use claim_status::{BoundReference, ClaimStatus, ClaimUnit, HeldClaim, PriorClaim};
use flow::{PaymentPart, RecipientFlow};
use selection::PartSelection;
use x402_chain::address::{Address, Family};
use x402_chain::amount::Amount;
use x402_chain::checks::Check;
use x402_chain::time::{UnixMillis, UnixSeconds};
use x402_chain::trace::{Depth, MinedTransaction, Screening, Trace, TransactionState, Transfer};

/// What a judgement depends on besides the claim and the trace.
#[derive(Clone, Copy, Debug)]
pub struct JudgeContext<'a> {
    /// The recipient that must have been paid.
    pub recipient: Address,
    /// Code and blacklist entries of the parties.
    pub screening: &'a Screening,
    /// Whether only one provider is configured for the chain.
    pub single_provider: bool,
    /// The sanctions list; `None` where it could not be read.
    pub sanctions: Option<&'a sanctions::SanctionsList>,
    /// Whether a payment by a payer on the sanctions list is refused or only reported.
    pub policy: SanctionsPolicy,
    /// The claims on the payment. Of two claims on one log the first counts.
    pub held_claims: &'a [HeldClaim],
    /// Payers that have paid this tenant before.
    pub known_payers: &'a [Address],
    /// The time of the judgement.
    pub now: UnixMillis,
}

/// The verdict with its reasons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The first broken rule by precedence, with its sentence; `None`: paid.
    pub refusal: Option<(RefusalCode, String)>,
    /// Each rule with its result.
    pub checks: Vec<Check>,
    /// What the recipient gained by the judged transfers.
    pub amount: Amount,
    /// The amount above the expected one.
    pub overpaid: Option<Amount>,
    /// The transfers that are judged.
    pub transfers: Vec<Transfer>,
    /// Every address that paid by these transfers.
    pub payers: Vec<Address>,
    /// What ties the transaction to the buyer.
    pub binding: Binding,
    /// The finality of the block; `None` below `confirmed`.
    pub finality: Option<Finality>,
    /// Which part of the payment is claimed already.
    pub claim_status: ClaimStatus,
    /// The risk score with its factors.
    pub risk: risk::RiskAssessment,
}

impl Judgement {
    /// Whether the tenant was paid.
    #[must_use]
    pub const fn is_paid(&self) -> bool {
        self.refusal.is_none()
    }

    /// The first claim of a payment that is valid and was claimed under the same reference before.
    #[must_use]
    pub(crate) fn replayed(&self) -> Option<&PriorClaim> {
        match &self.claim_status {
            ClaimStatus::Again(prior) if self.is_paid() => Some(prior),
            ClaimStatus::Again(_) | ClaimStatus::Fresh(_) | ClaimStatus::Taken(_) => None,
        }
    }

    /// The units that a claim takes: none where the payment is refused or claimed already.
    #[must_use]
    pub fn units(&self) -> &[ClaimUnit] {
        match &self.claim_status {
            ClaimStatus::Fresh(units) if self.is_paid() => units,
            ClaimStatus::Again(_) | ClaimStatus::Fresh(_) | ClaimStatus::Taken(_) => &[],
        }
    }
}

/// The results of the rules, in the order of precedence.
struct VerdictRules {
    checks: Vec<Check>,
    refusal: Option<(RefusalCode, String)>,
}

impl VerdictRules {
    /// Records a rule: its name, the refusal if it failed, and a sentence in either case.
    fn record(&mut self, name: &str, broken: Option<RefusalCode>, detail: impl Into<String>) {
        let detail = detail.into();
        if let Some(refusal) = broken {
            let earlier = self.refusal.as_ref().is_some_and(|(first, _)| *first <= refusal);
            if !earlier {
                self.refusal = Some((refusal, detail.clone()));
            }
        }
        self.checks.push(Check { name: name.to_owned(), passed: broken.is_none(), detail });
    }
}

/// Judges a payment. Every failed rule is listed in the checks; the refusal is the first by the order of
/// [`RefusalCode`].
#[must_use]
pub fn judge(claim: &Claim, trace: &Trace, context: &JudgeContext<'_>) -> Judgement {
    let mut out = VerdictRules { checks: Vec::new(), refusal: None };
    match &trace.found {
        TransactionState::Unknown => {
            let detail = "no node knows this transaction; is it a user operation hash, or on another chain?";
            out.record("transaction_known", Some(RefusalCode::TxNotFound), detail);
            unmined_judgement(context, out)
        }
        TransactionState::Pending => {
            out.record("transaction_known", None, "the transaction is known");
            out.record("transaction_mined", Some(RefusalCode::TxPending), "the transaction is in no block yet");
            unmined_judgement(context, out)
        }
        TransactionState::Mined(mined) => judge_mined(claim, mined, context),
    }
}

/// Whether a later trace still shows the payment that was answered: each of its transfers, by payer and amount, since a
/// log's index changes with the block; or at least the same sum, where transfers cannot be judged apart or were not.
#[must_use]
pub(crate) fn still_shows(
    mined: &MinedTransaction,
    recipient: &Address,
    lines: &[(Option<Address>, Amount)],
    paid: Amount,
) -> bool {
    let flow = RecipientFlow::of(mined, recipient);
    let answered = lines.iter().fold(Amount::ZERO, |sum, (_, amount)| Amount(sum.0.saturating_add(amount.0)));
    if !flow.apart || answered != paid {
        return flow.net >= paid;
    }
    let mut left = flow.incoming;
    lines.iter().all(|(payer, amount)| {
        let found = left.iter().position(|line| line.from == *payer && line.amount == *amount);
        found.map(|at| left.swap_remove(at)).is_some()
    })
}

fn unmined_judgement(context: &JudgeContext<'_>, out: VerdictRules) -> Judgement {
    Judgement {
        risk: risk::unmined_risk(context),
        refusal: out.refusal,
        checks: out.checks,
        amount: Amount::ZERO,
        overpaid: None,
        transfers: Vec::new(),
        payers: Vec::new(),
        binding: Binding::None,
        finality: None,
        claim_status: ClaimStatus::Fresh(Vec::new()),
    }
}

/// What the rules of a mined payment read.
#[derive(Clone, Copy)]
struct RuleInput<'a> {
    claim: &'a Claim,
    mined: &'a MinedTransaction,
    flow: &'a RecipientFlow<'a>,
    selection: &'a PartSelection<'a>,
    claim_status: &'a ClaimStatus,
    context: &'a JudgeContext<'a>,
}

fn judge_mined(claim: &Claim, mined: &MinedTransaction, context: &JudgeContext<'_>) -> Judgement {
    let flow = RecipientFlow::of(mined, &context.recipient);
    let selection = PartSelection::of(claim, mined, &flow);
    let (claim_status, rest) = claim_status::claim_status_of(claim, &flow, &selection.part, context.held_claims);
    let input = RuleInput { claim, mined, flow: &flow, selection: &selection, claim_status: &claim_status, context };
    let (mut part, mut ruled) = (&selection.part, check_rules(&input, &selection.part));
    if let (None, Some(rest)) = (&ruled.0.refusal, &rest) {
        (part, ruled) = (rest, check_rules(&input, rest));
    }
    let (out, binding) = ruled;
    let finality = match mined.depth {
        Depth::Included => None,
        Depth::Confirmed => Some(Finality::Confirmed),
        Depth::Finalized => Some(Finality::Finalized),
    };
    let overpaid = claim.expected.map(|expected| part.amount.saturating_minus(expected));
    let risk = risk::assess_risk(&risk::RiskInput { claim, mined, flow: &flow, part, binding, overpaid }, context);
    Judgement {
        refusal: out.refusal,
        checks: out.checks,
        amount: part.amount,
        overpaid,
        transfers: part.lines.iter().copied().cloned().collect(),
        payers: part.payers.clone(),
        binding,
        finality,
        claim_status,
        risk,
    }
}

/// Checks all rules of a mined payment on a part of it; returns the binding to its buyer.
fn check_rules(input: &RuleInput<'_>, part: &PaymentPart<'_>) -> (VerdictRules, Binding) {
    let RuleInput { claim, mined, context, .. } = *input;
    let mut out = VerdictRules { checks: Vec::new(), refusal: None };
    out.record("transaction_known", None, "the transaction is known");
    out.record("transaction_mined", None, format!("in block {}", mined.block.number));
    let failed = mined.failure.is_some().then_some(RefusalCode::TxFailed);
    let detail = mined
        .failure
        .as_ref()
        .map_or_else(|| "the transaction was executed".to_owned(), |why| format!("the transaction failed: {why}"));
    out.record("transaction_succeeded", failed, detail);
    check_arrival(&mut out, input, part);
    let binding = check_bindings(&mut out, input);
    check_timing(&mut out, claim, mined, context.now);
    check_sanctions(&mut out, part, context);
    check_unclaimed(&mut out, input);
    (out, binding)
}

/// The rules `WRONG_ASSET`, `NO_MATCHING_TRANSFER`, `RECIPIENT_FORWARDED`, `CONFIDENTIAL_AMOUNT`, `AMOUNT_TOO_LOW`.
fn check_arrival(out: &mut VerdictRules, input: &RuleInput<'_>, part: &PaymentPart<'_>) {
    let RuleInput { claim, mined, flow, context, .. } = *input;
    let to_recipient = |to: Option<&Address>| to == Some(&context.recipient);
    let hidden = mined.confidential.iter().any(|transfer| to_recipient(transfer.to.as_ref()));
    let nothing = flow.gross_in.is_zero() && !hidden;
    // On EVM any contract can log a transfer to any address; only a known bridged token shows a buyer's mistake. On
    // Solana the balance of another mint did grow.
    let other = mined.foreign.iter().find(|foreign| {
        to_recipient(foreign.to.as_ref()) && (foreign.name.is_some() || claim.network.family == Family::Svm)
    });
    let (asset, detail) = match other {
        Some(foreign) if nothing => {
            let name = foreign.name.clone().unwrap_or_else(|| "another token".to_owned());
            (Some(RefusalCode::WrongAsset), format!("the recipient received {name} ({}), not USDC", foreign.asset))
        }
        Some(_) | None => (None, format!("the registered asset is {}", claim.network.asset.text)),
    };
    out.record("asset_registered", asset, detail);
    let missing = (nothing && asset.is_none()).then_some(RefusalCode::NoMatchingTransfer);
    let detail = if nothing { flow::movements_sentence(mined, &context.recipient) } else { flow.arrived() };
    out.record("transfer_to_recipient", missing, detail);
    let forwarded = (!flow.gross_in.is_zero() && flow.net.is_zero()).then_some(RefusalCode::RecipientForwarded);
    out.record(
        "recipient_kept_it",
        forwarded,
        format!("{} came in, {} went out in the same transaction", flow.gross_in, flow.gross_out),
    );
    let confidential = (hidden && flow.gross_in.is_zero()).then_some(RefusalCode::ConfidentialAmount);
    let detail = if hidden { "a transfer's amount is encrypted" } else { "no amount is encrypted" };
    out.record("amount_readable", confidential, detail);
    match claim.expected {
        Some(expected) => {
            let low = (part.amount < expected).then_some(RefusalCode::AmountTooLow);
            let detail =
                format!("{} USDC arrived{}, {} expected", part.amount.usdc(), origin_phrase(input), expected.usdc());
            out.record("amount_expected", low, detail);
        }
        None => out.record("amount_expected", None, "no amount was named"),
    }
}

/// The phrase in the sentence about the amount that says which transfers were selected.
fn origin_phrase(input: &RuleInput<'_>) -> &'static str {
    match (input.selection.from_payer, input.selection.by_nonce) {
        (_, Some(given)) if !given.is_zero() => " by the named authorization",
        (Some(given), None) if !given.is_zero() => " from the named payer",
        (Some(_) | None, _) => "",
    }
}

/// The rules `PAYER_MISMATCH`, `MEMO_MISMATCH`, `AUTHORIZATION_MISMATCH`, and the binding that each gives.
fn check_bindings(out: &mut VerdictRules, input: &RuleInput<'_>) -> Binding {
    let RuleInput { claim, mined, flow, selection, .. } = *input;
    let mut binding = Binding::None;
    if let (Some(payer), Some(given)) = (&claim.payer, selection.from_payer) {
        let detail = format!("{} USDC came from {payer} for certain", given.usdc());
        out.record("payer_named", given.is_zero().then_some(RefusalCode::PayerMismatch), detail);
        if !given.is_zero() {
            binding = binding.max(Binding::Payer);
        }
    } else {
        out.record("payer_named", None, "no payer was named");
    }
    if let Some(memo) = &claim.memo {
        // One transaction may carry the memos of several payments, or one payment of several.
        let is_sole = mined.memos.len() <= 1 && !flow.is_of_many();
        let (good, detail) = match (mined.memos.contains(memo), is_sole || claim.payer.is_some()) {
            (true, true) => (true, "the transaction carries the memo"),
            (true, false) => (false, "the transaction has several memos or payers; name the payer too"),
            (false, _) => (false, "the transaction does not carry the memo"),
        };
        out.record("memo_named", (!good).then_some(RefusalCode::MemoMismatch), detail);
        if good && is_sole {
            binding = binding.max(Binding::Memo);
        }
    } else {
        out.record("memo_named", None, "no memo was named");
    }
    if let Some(given) = selection.by_nonce {
        let detail = if given.is_zero() {
            "no single transfer to the recipient belongs to the named nonce"
        } else {
            "the transfer of the named nonce reached the recipient"
        };
        out.record("authorization_named", given.is_zero().then_some(RefusalCode::AuthorizationMismatch), detail);
        if !given.is_zero() {
            binding = binding.max(Binding::Authorization);
        }
    } else {
        out.record("authorization_named", None, "no authorization was named");
    }
    binding
}

/// The block's time; where the chain does not report it, estimated from the distance to the head and the chain's usual
/// block time.
pub(crate) fn block_time(claim: &Claim, mined: &MinedTransaction, now: UnixMillis) -> UnixSeconds {
    mined.block.time.unwrap_or_else(|| {
        let blocks = mined.head.saturating_sub(mined.block.number);
        UnixMillis(now.0.saturating_sub(blocks.saturating_mul(claim.network.block_time_ms))).seconds()
    })
}

/// The rules `TOO_OLD` and `NOT_FINAL`.
fn check_timing(out: &mut VerdictRules, claim: &Claim, mined: &MinedTransaction, now: UnixMillis) {
    let age = now.seconds().since(block_time(claim, mined, now));
    let old = (age > claim.max_age_s).then_some(RefusalCode::TooOld);
    out.record("age", old, format!("{age} seconds old, at most {} are accepted", claim.max_age_s));
    let (deep, wanted) = match claim.finality {
        Finality::Confirmed => (mined.depth >= Depth::Confirmed, "confirmed"),
        Finality::Finalized => (mined.depth == Depth::Finalized, "finalized"),
    };
    let detail = format!("{} confirmations; the request requires '{wanted}'", mined.confirmations());
    out.record("finality", (!deep).then_some(RefusalCode::NotFinal), detail);
}

/// The rule `SANCTIONED_ADDRESS`: what it does is the tenant's policy.
fn check_sanctions(out: &mut VerdictRules, part: &PaymentPart<'_>, context: &JudgeContext<'_>) {
    let listed = context.sanctions.and_then(|list| part.payers.iter().find(|payer| list.contains(payer)));
    let refused = match context.policy {
        SanctionsPolicy::Refuse => listed.map(|_| RefusalCode::SanctionedAddress),
        SanctionsPolicy::Report => None,
    };
    let detail = match (listed, context.sanctions) {
        (Some(payer), _) => format!("{payer} is on the sanctions list"),
        (None, Some(_)) => "no payer is on the sanctions list".to_owned(),
        (None, None) => "the sanctions list could not be read".to_owned(),
    };
    out.record("payer_not_sanctioned", refused, detail);
}

/// The rule `ALREADY_CLAIMED`: one reference may claim again, another may not.
fn check_unclaimed(out: &mut VerdictRules, input: &RuleInput<'_>) {
    let (refused, detail) = match input.claim_status {
        ClaimStatus::Fresh(_) => (None, "not claimed before"),
        ClaimStatus::Again(_) => (None, "claimed before under the same reference"),
        ClaimStatus::Taken(prior) if prior.is_of(input.claim.reference.as_deref()) => {
            let detail = "a part was claimed before under the same reference, and the rest is not enough";
            (Some(RefusalCode::AlreadyClaimed), detail)
        }
        ClaimStatus::Taken(_) => (Some(RefusalCode::AlreadyClaimed), "claimed before, under another reference or none"),
    };
    out.record("not_claimed_before", refused, detail);
}

#[cfg(test)]
mod part_tests;
#[cfg(test)]
mod tests;

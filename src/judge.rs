//! Whether a transaction has paid a recipient, and how far to trust it. Pure:
//! the chain's story, the claim and the tenant's wishes in, a judgement out.

mod flow;
pub mod risk;

use crate::address::{Address, Family};
use crate::amount::Amount;
use crate::chain::trace::{Depth, Found, Mined, Screening, Trace};
use crate::id::ClaimId;
use crate::payment::{Binding, Check, Claim, Finality};
use crate::sanctions;
use crate::time::{UnixMillis, UnixSeconds};
use crate::verdict::{Refusal, SanctionsPolicy};
use flow::Flow;

/// An earlier claim of the same payment in this ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prior {
    /// The verification or settlement that claimed it.
    pub id: ClaimId,
    /// Its reference.
    pub reference: Option<String>,
    /// When.
    pub at: UnixMillis,
}

impl Prior {
    /// Whether a claim under `reference` is this claim again. An absent reference equals nothing.
    #[must_use]
    pub fn is_of(&self, reference: Option<&str>) -> bool {
        reference.is_some() && self.reference.as_deref() == reference
    }
}

/// All that a judgement rests on besides the claim and the trace.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Who must have been paid.
    pub recipient: Address,
    /// What was read of the parties.
    pub screening: &'a Screening,
    /// Whether only one provider is configured for the chain.
    pub single_provider: bool,
    /// The sanctions list; `None` where there is none to read.
    pub sanctions: Option<&'a sanctions::List>,
    /// What a listed payer means.
    pub policy: SanctionsPolicy,
    /// The earlier claim.
    pub prior: Option<&'a Prior>,
    /// Payers that this tenant has been paid by before.
    pub known_payers: &'a [Address],
    /// The time of the judgement.
    pub now: UnixMillis,
}

/// The verdict with its grounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The first broken rule by precedence, with its sentence; `None`: paid.
    pub refusal: Option<(Refusal, String)>,
    /// Each rule and how it came out.
    pub checks: Vec<Check>,
    /// What the recipient gained.
    pub amount: Amount,
    /// Above what was expected.
    pub overpaid: Option<Amount>,
    /// Who paid.
    pub payers: Vec<Address>,
    /// What ties the transaction to the buyer.
    pub binding: Binding,
    /// How deep it lies.
    pub finality: Option<Finality>,
    /// Whether the same reference claimed it before.
    pub replayed: bool,
    /// How far to trust it.
    pub risk: risk::Risk,
}

impl Judgement {
    /// Whether the tenant was paid.
    #[must_use]
    pub const fn is_paid(&self) -> bool {
        self.refusal.is_none()
    }
}

/// The rules' outcomes, in the order of precedence.
struct Outcomes {
    checks: Vec<Check>,
    refusal: Option<(Refusal, String)>,
}

impl Outcomes {
    /// Notes a rule: its name, the refusal if it is broken, and a sentence either way.
    fn rule(&mut self, name: &str, broken: Option<Refusal>, detail: impl Into<String>) {
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

/// Judges a payment. Every failed rule stands in the checks; the refusal is the
/// first by the order of [`Refusal`].
#[must_use]
pub fn judge(claim: &Claim, trace: &Trace, context: &Context<'_>) -> Judgement {
    let mut out = Outcomes { checks: Vec::new(), refusal: None };
    match &trace.found {
        Found::Unknown => {
            let told = "no node knows this transaction; is it a user operation hash, or on another chain?";
            out.rule("transaction_known", Some(Refusal::TxNotFound), told);
            unmined(claim, context, out)
        }
        Found::Pending => {
            out.rule("transaction_known", None, "the transaction is known");
            out.rule("transaction_mined", Some(Refusal::TxPending), "the transaction is in no block yet");
            unmined(claim, context, out)
        }
        Found::Mined(mined) => judge_mined(claim, mined, context, out),
    }
}

/// What a recipient kept of the registered asset.
#[must_use]
pub fn net_to(mined: &Mined, recipient: &Address) -> Amount {
    Flow::of(mined, recipient).net
}

fn unmined(_claim: &Claim, context: &Context<'_>, out: Outcomes) -> Judgement {
    Judgement {
        risk: risk::unmined(context),
        refusal: out.refusal,
        checks: out.checks,
        amount: Amount::ZERO,
        overpaid: None,
        payers: Vec::new(),
        binding: Binding::None,
        finality: None,
        replayed: false,
    }
}

fn judge_mined(claim: &Claim, mined: &Mined, context: &Context<'_>, mut out: Outcomes) -> Judgement {
    let flow = Flow::of(mined, &context.recipient);
    out.rule("transaction_known", None, "the transaction is known");
    out.rule("transaction_mined", None, format!("in block {}", mined.block.number));
    let failed = mined.failure.is_some().then_some(Refusal::TxFailed);
    let told = mined.failure.as_ref().map_or_else(|| "executed".to_owned(), |why| format!("it failed: {why}"));
    out.rule("transaction_succeeded", failed, told);
    arrival(&mut out, claim, mined, &flow, context);
    let binding = conditions(&mut out, claim, mined, &flow);
    timing(&mut out, claim, mined, context.now);
    standing(&mut out, claim, &flow, context);
    let finality = match mined.depth {
        Depth::Seen => None,
        Depth::Confirmed => Some(Finality::Confirmed),
        Depth::Finalized => Some(Finality::Finalized),
    };
    let overpaid = claim.expected.map(|expected| flow.net.less(expected));
    let risk = risk::assess(&risk::Grounds { claim, mined, flow: &flow, binding, overpaid }, context);
    let replayed = out.refusal.is_none() && context.prior.is_some_and(|prior| prior.is_of(claim.reference.as_deref()));
    Judgement {
        refusal: out.refusal,
        checks: out.checks,
        amount: flow.net,
        overpaid,
        payers: flow.payers,
        binding,
        finality,
        replayed,
        risk,
    }
}

/// WRONG_ASSET, NO_MATCHING_TRANSFER, RECIPIENT_FORWARDED, CONFIDENTIAL_AMOUNT, AMOUNT_TOO_LOW.
fn arrival(out: &mut Outcomes, claim: &Claim, mined: &Mined, flow: &Flow<'_>, context: &Context<'_>) {
    let to_recipient = |to: Option<&Address>| to == Some(&context.recipient);
    let hidden = mined.confidential.iter().any(|transfer| to_recipient(transfer.to.as_ref()));
    let nothing = flow.gross_in.is_zero() && !hidden;
    // On EVM anybody can make a contract that logs a transfer to anybody; only
    // a known bridged form tells of a buyer's mistake. On Solana another mint's
    // balance grew for certain.
    let other = mined.foreign.iter().find(|foreign| {
        to_recipient(foreign.to.as_ref()) && (foreign.name.is_some() || claim.network.family == Family::Svm)
    });
    let (asset, told) = match other {
        Some(foreign) if nothing => {
            let name = foreign.name.clone().unwrap_or_else(|| "another token".to_owned());
            (Some(Refusal::WrongAsset), format!("the recipient got {name} ({}), not USDC", foreign.asset))
        }
        Some(_) | None => (None, format!("the registered asset is {}", claim.network.asset.text)),
    };
    out.rule("asset_registered", asset, told);
    let missing = (nothing && asset.is_none()).then_some(Refusal::NoMatchingTransfer);
    let told = if nothing { flow::moved(mined, &context.recipient) } else { flow.told() };
    out.rule("transfer_to_recipient", missing, told);
    let forwarded = (!flow.gross_in.is_zero() && flow.net.is_zero()).then_some(Refusal::RecipientForwarded);
    out.rule(
        "recipient_kept_it",
        forwarded,
        format!("{} came in, {} went out in the same transaction", flow.gross_in, flow.gross_out),
    );
    let confidential = (hidden && flow.gross_in.is_zero()).then_some(Refusal::ConfidentialAmount);
    let told = if hidden { "a transfer's amount is encrypted" } else { "no amount is encrypted" };
    out.rule("amount_readable", confidential, told);
    match claim.expected {
        Some(expected) => {
            let low = (flow.net < expected).then_some(Refusal::AmountTooLow);
            let told = format!("{} USDC arrived, {} expected", flow.net.usdc(), expected.usdc());
            out.rule("amount_expected", low, told);
        }
        None => out.rule("amount_expected", None, "no amount was named"),
    }
}

/// PAYER_MISMATCH, MEMO_MISMATCH, AUTHORIZATION_MISMATCH; and what they bind.
fn conditions(out: &mut Outcomes, claim: &Claim, mined: &Mined, flow: &Flow<'_>) -> Binding {
    let mut binding = Binding::None;
    if let Some(payer) = &claim.payer {
        let given = flow.at_least_from(payer);
        let good = !given.is_zero() && claim.expected.is_none_or(|expected| given >= expected);
        let told = format!("{} USDC came from {payer} for certain", given.usdc());
        out.rule("payer_named", (!good).then_some(Refusal::PayerMismatch), told);
        if good {
            binding = binding.max(Binding::Payer);
        }
    } else {
        out.rule("payer_named", None, "no payer was named");
    }
    if let Some(memo) = &claim.memo {
        let good = mined.memos.contains(memo);
        let told = if good { "the transaction carries the memo" } else { "the transaction does not carry the memo" };
        out.rule("memo_named", (!good).then_some(Refusal::MemoMismatch), told);
        if good {
            binding = binding.max(Binding::Memo);
        }
    } else {
        out.rule("memo_named", None, "no memo was named");
    }
    if let Some(nonce) = &claim.authorization_nonce {
        // A nonce used in the same transaction by somebody who did not pay this
        // recipient binds nothing.
        let good =
            mined.authorizations.iter().any(|used| used.nonce == *nonce && flow.payers.contains(&used.authorizer));
        let told = if good { "a payer used the nonce" } else { "no payer used the nonce" };
        out.rule("authorization_named", (!good).then_some(Refusal::AuthorizationMismatch), told);
        if good {
            binding = binding.max(Binding::Authorization);
        }
    } else {
        out.rule("authorization_named", None, "no authorization was named");
    }
    binding
}

/// The block's time; where the chain does not say, from its distance to the
/// head and the chain's usual pace.
pub(crate) fn block_time(claim: &Claim, mined: &Mined, now: UnixMillis) -> UnixSeconds {
    mined.block.time.unwrap_or_else(|| {
        let blocks = mined.head.saturating_sub(mined.block.number);
        UnixMillis(now.0.saturating_sub(blocks.saturating_mul(claim.network.block_time_ms))).seconds()
    })
}

/// TOO_OLD, NOT_FINAL.
fn timing(out: &mut Outcomes, claim: &Claim, mined: &Mined, now: UnixMillis) {
    let age = now.seconds().since(block_time(claim, mined, now));
    let old = (age > claim.max_age_s).then_some(Refusal::TooOld);
    out.rule("age", old, format!("{age} seconds old, {} accepted", claim.max_age_s));
    let (deep, wanted) = match claim.finality {
        Finality::Confirmed => (mined.depth >= Depth::Confirmed, "confirmed"),
        Finality::Finalized => (mined.depth == Depth::Finalized, "finalized"),
    };
    let told = format!("{} confirmations; {wanted} was asked for", mined.confirmations());
    out.rule("finality", (!deep).then_some(Refusal::NotFinal), told);
}

/// SANCTIONED_ADDRESS, ALREADY_CLAIMED.
fn standing(out: &mut Outcomes, claim: &Claim, flow: &Flow<'_>, context: &Context<'_>) {
    let listed = context.sanctions.and_then(|list| flow.payers.iter().find(|payer| list.names(payer)));
    let refused = match context.policy {
        SanctionsPolicy::Refuse => listed.map(|_| Refusal::SanctionedAddress),
        SanctionsPolicy::Report => None,
    };
    let told = match (listed, context.sanctions) {
        (Some(payer), _) => format!("{payer} is on the sanctions list"),
        (None, Some(_)) => "no payer is on the sanctions list".to_owned(),
        (None, None) => "there is no sanctions list to read".to_owned(),
    };
    out.rule("payer_not_sanctioned", refused, told);
    let other = context.prior.filter(|prior| !prior.is_of(claim.reference.as_deref()));
    let told = match (context.prior, other) {
        (_, Some(_)) => "claimed before, under another reference or none",
        (Some(_), None) => "claimed before under the same reference",
        (None, None) => "not claimed before",
    };
    out.rule("not_claimed_before", other.map(|_| Refusal::AlreadyClaimed), told);
}

#[cfg(test)]
mod tests;

//! The risk score of a payment: factors of fixed weight from public chain data, each with a sentence. It is no advice
//! on money laundering.
//!
//! The score is 1 − ∏(1 − weight) over the factors, so it is bounded, monotone and does not depend on their order. A
//! check that could not run is the factor `unscreened`, and never counts as passed. Weights: docs/spec/chains.md#risk,
//! version 2026-11.

use super::flow::{PaymentPart, RecipientFlow};
use super::{JudgeContext, block_time};
use crate::verification::answer::{Binding, Hundredths, RiskFactor, RiskLevel};
use crate::verification::claim::Claim;
use x402_chain::address::{Address, Family};
use x402_chain::amount::Amount;
use x402_chain::trace::{CodeKind, Depth, MinedTransaction};

/// The score and its factors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RiskAssessment {
    /// The score, 0.00 to 1.00.
    pub score: Hundredths,
    /// The score's level.
    pub level: RiskLevel,
    /// The factors that make up the score.
    pub factors: Vec<RiskFactor>,
}

/// What the factors read of a mined payment.
pub(crate) struct RiskInput<'a> {
    pub(crate) claim: &'a Claim,
    pub(crate) mined: &'a MinedTransaction,
    pub(crate) flow: &'a RecipientFlow<'a>,
    pub(crate) part: &'a PaymentPart<'a>,
    pub(crate) binding: Binding,
    pub(crate) overpaid: Option<Amount>,
}

struct RiskFactors(Vec<RiskFactor>);

impl RiskFactors {
    fn add(&mut self, code: &str, weight: u8, detail: impl Into<String>) {
        self.0.push(RiskFactor { code: code.to_owned(), weight: Hundredths(weight), detail: detail.into() });
    }

    fn assessment(self) -> RiskAssessment {
        // 100^19 < 2^128: at most 19 factors enter the product; there are fewer codes than that.
        let (mut left, mut whole) = (1_u128, 1_u128);
        for factor in self.0.iter().take(19) {
            left = left.saturating_mul(u128::from(100_u8.saturating_sub(factor.weight.0)));
            whole = whole.saturating_mul(100);
        }
        let taken = whole.saturating_sub(left).saturating_mul(100);
        let rounded = taken.saturating_add(whole / 2).checked_div(whole).unwrap_or(100);
        let score = u8::try_from(rounded.min(100)).unwrap_or(100);
        let level = match score {
            0..20 => RiskLevel::Low,
            20..50 => RiskLevel::Medium,
            50..80 => RiskLevel::High,
            80.. => RiskLevel::Severe,
        };
        RiskAssessment { score: Hundredths(score), level, factors: self.0 }
    }
}

/// The risk of a transaction that is in no block.
pub(crate) fn unmined_risk(context: &JudgeContext<'_>) -> RiskAssessment {
    let mut factors = RiskFactors(Vec::new());
    factors.add("not_final", 60, "the transaction is in no block");
    if context.single_provider {
        factors.add("single_provider", 5, "only one provider is configured for the chain");
    }
    factors.assessment()
}

/// The risk of a mined payment.
pub(crate) fn assess_risk(input: &RiskInput<'_>, context: &JudgeContext<'_>) -> RiskAssessment {
    let mut factors = RiskFactors(Vec::new());
    add_sanctions_factors(&mut factors, input, context);
    add_issuer_factors(&mut factors, input, context);
    add_depth_factors(&mut factors, input);
    add_transaction_factors(&mut factors, input);
    add_amount_factors(&mut factors, input);
    add_age_factors(&mut factors, input, context);
    let strangers = input.part.payers.iter().any(|payer| !context.known_payers.contains(payer));
    if strangers {
        factors.add("first_seen_payer", 5, "this payer has not paid this tenant before");
    }
    if context.single_provider {
        factors.add("single_provider", 5, "only one provider is configured for the chain");
    }
    factors.assessment()
}

fn add_sanctions_factors(factors: &mut RiskFactors, input: &RiskInput<'_>, context: &JudgeContext<'_>) {
    let Some(list) = context.sanctions else {
        factors.add("unscreened", 5, "the sanctions list could not be read");
        return;
    };
    if list.is_stale(context.now) {
        let detail = format!("the sanctions list is {} days old", list.age_days(context.now));
        factors.add("unscreened", 5, detail);
    }
    if let Some(payer) = input.part.payers.iter().find(|payer| list.contains(payer)) {
        factors.add("sanctioned_payer", 100, format!("{payer} is on the sanctions list"));
    }
    if list.contains(&context.recipient) {
        factors.add("sanctioned_recipient", 100, format!("{} is on the sanctions list", context.recipient));
    }
    if let Some(submitter) = input.mined.submitter.filter(|submitter| list.contains(submitter)) {
        factors.add("sanctioned_submitter", 90, format!("{submitter} is on the sanctions list"));
    }
}

fn add_issuer_factors(factors: &mut RiskFactors, input: &RiskInput<'_>, context: &JudgeContext<'_>) {
    let blocked = |party: &Address| context.screening.get(party).and_then(|facts| facts.blocked);
    let payers = &input.part.payers;
    if let Some(payer) = payers.iter().find(|payer| blocked(payer) == Some(true)) {
        factors.add("issuer_blacklisted_payer", 90, format!("the issuer has blocked {payer}"));
    }
    if blocked(&context.recipient) == Some(true) {
        let detail = format!("the issuer has blocked {}: it cannot spend what it received", context.recipient);
        factors.add("issuer_blacklisted_recipient", 100, detail);
    }
    // On Solana a freeze shows on the accounts that moved; a recipient that received nothing has none.
    let checked = payers.iter().chain((!input.flow.incoming.is_empty()).then_some(&context.recipient));
    let unknown: Vec<String> = checked.filter(|party| blocked(party).is_none()).map(Address::to_string).collect();
    if !unknown.is_empty() {
        factors.add("unscreened", 5, format!("it is not known whether the issuer has blocked {}", unknown.join(", ")));
    }
    let code = |party: &Address| context.screening.get(party).and_then(|facts| facts.code);
    if let Some(payer) = payers.iter().find(|payer| code(payer) == Some(CodeKind::Contract)) {
        factors.add("payer_contract", 5, format!("{payer} is a contract"));
    }
}

fn add_depth_factors(factors: &mut RiskFactors, input: &RiskInput<'_>) {
    // On an L2 and on Solana a confirmed block has never been reverted so far.
    let slow = input.claim.network.block_time_ms >= 10_000;
    match (input.mined.depth, slow) {
        (Depth::Included, _) => factors.add("not_final", 35, "in a block, but not confirmed"),
        (Depth::Confirmed, true) => factors.add("not_final", 10, "confirmed, not final"),
        (Depth::Confirmed, false) => factors.add("not_final", 5, "confirmed, not final"),
        (Depth::Finalized, _) => {}
    }
}

fn add_transaction_factors(factors: &mut RiskFactors, input: &RiskInput<'_>) {
    let flow = input.flow;
    if !flow.gross_out.is_zero() {
        let detail = format!("the recipient passed on {} USDC in the same transaction", flow.gross_out.usdc());
        factors.add("recipient_forwarded", 30, detail);
    }
    if input.binding == Binding::None {
        factors.add("binding_none", 20, "nothing ties the transaction to this buyer: a hash is public");
    }
    match input.part.payers.len() {
        0 if !input.part.lines.is_empty() => {
            factors.add("minted_or_bridged_in", 10, "no account paid: minted or bridged in")
        }
        0 | 1 => {}
        more => factors.add("payer_ambiguous", 15, format!("{more} accounts paid")),
    }
    if is_poisoned(input) {
        factors.add(
            "poisoning_pattern",
            20,
            "worthless look-alike transfers to the recipient stand in the same transaction",
        );
    }
}

/// Zero-value transfers, or on EVM counterfeit tokens' logs, that name the recipient.
fn is_poisoned(input: &RiskInput<'_>) -> bool {
    let mut recipients = input.flow.incoming.iter().filter_map(|transfer| transfer.to);
    let Some(recipient) = recipients.next() else { return false };
    input.mined.zero.iter().any(|zero| zero.to == recipient)
        || (input.claim.network.family == Family::Evm
            && input.mined.foreign.iter().any(|foreign| foreign.to == Some(recipient) && foreign.name.is_none()))
}

fn add_amount_factors(factors: &mut RiskFactors, input: &RiskInput<'_>) {
    let net = input.part.amount;
    if let (Some(over), Some(expected)) = (input.overpaid, input.claim.expected) {
        let hundredfold = over.0.saturating_mul(alloy_primitives::U256::from(100));
        if over > expected {
            factors.add("overpaid", 15, "more than twice the expected amount");
        } else if hundredfold > expected.0 {
            factors.add("overpaid", 5, "more than 1 % above the expected amount");
        }
    }
    // 0.01 USDC.
    if !net.is_zero() && net < Amount::atomic(10_000) {
        factors.add("dust", 10, "less than 0.01 USDC");
    }
}

fn add_age_factors(factors: &mut RiskFactors, input: &RiskInput<'_>, context: &JudgeContext<'_>) {
    let now = context.now.seconds();
    match now.since(block_time(input.claim, input.mined, context.now)) {
        0..=86_400 => {}
        86_401..=604_800 => factors.add("stale", 10, "more than a day old"),
        604_801.. => factors.add("stale", 30, "more than a week old"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn score(weights: &[u8]) -> u8 {
        let mut factors = RiskFactors(Vec::new());
        for weight in weights {
            factors.add("x", *weight, "x");
        }
        factors.assessment().score.0
    }

    #[test]
    fn the_examples_of_the_specification_hold() {
        assert_eq!(score(&[]), 0);
        assert_eq!(score(&[5]), 5);
        assert_eq!(score(&[5, 20, 5]), 28);
        assert_eq!(score(&[100, 5]), 100);
    }

    proptest! {
        #[test]
        fn a_factor_more_never_lowers_the_score(weights in proptest::collection::vec(0_u8..=100, 0..15), more in 0_u8..=100) {
            let before = score(&weights);
            let mut grown = weights;
            grown.insert(0, more);
            prop_assert!(score(&grown) >= before);
        }
    }
}

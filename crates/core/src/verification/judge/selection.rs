//! Which of the transfers to a recipient a request is about.

use super::flow::{PaymentPart, RecipientFlow};
use crate::verification::claim::Claim;
use alloy_primitives::B256;
use x402_chain::address::Address;
use x402_chain::amount::Amount;
use x402_chain::trace::{MinedTransaction, Transfer};

/// The transfers that a request selects: those of the payer and of the authorization that it names, or all. Where they
/// cannot be judged apart ([`RecipientFlow::apart`]) it is the whole, and the named payer or authorization only limits
/// the amount.
pub(crate) struct PartSelection<'a> {
    /// The selected part. Where what the request names is absent, all that arrived.
    pub(crate) part: PaymentPart<'a>,
    /// The amount that certainly came from the named payer; `None` where none is named.
    pub(crate) from_payer: Option<Amount>,
    /// The amount that certainly came by the named authorization; `None` where none is named.
    pub(crate) by_nonce: Option<Amount>,
}

impl<'a> PartSelection<'a> {
    pub(crate) fn of(claim: &Claim, mined: &MinedTransaction, flow: &RecipientFlow<'a>) -> Self {
        let payer = claim.payer.as_ref();
        let bound = claim.authorization_nonce.map(|nonce| transfer_of_nonce(mined, flow, &nonce, payer));
        let from_payer = payer.map(|payer| flow.at_least_from(payer));
        let certain = |line: &Transfer| line.amount.saturating_minus(flow.gross_out);
        let by_nonce = bound.map(|line| line.map_or(Amount::ZERO, certain));
        let is_there = payer.is_none_or(|payer| flow.gave(payer)) && bound != Some(None);
        let part = match [from_payer, by_nonce].into_iter().flatten().min() {
            Some(amount) if is_there && !flow.apart => PaymentPart { amount, ..flow.whole() },
            Some(_) if is_there => {
                let named = |line: &&Transfer| {
                    payer.is_none_or(|payer| line.from.as_ref() == Some(payer))
                        && bound.flatten().is_none_or(|bound| bound.ordinal == line.ordinal)
                };
                PaymentPart::of(flow.incoming.iter().copied().filter(named).collect())
            }
            Some(_) | None => flow.whole(),
        };
        Self { part, from_payer, by_nonce }
    }
}

/// The one transfer to the recipient beside a use of this nonce, by the payer where one is named; `None` where there is
/// none, or several.
fn transfer_of_nonce<'a>(
    mined: &MinedTransaction,
    flow: &RecipientFlow<'a>,
    nonce: &B256,
    payer: Option<&Address>,
) -> Option<&'a Transfer> {
    let mut found = mined
        .authorizations
        .iter()
        .filter(|used| used.nonce == *nonce && payer.is_none_or(|payer| used.authorizer == *payer))
        .filter_map(|used| {
            let is_its = |line: &&&Transfer| Some(line.ordinal) == used.transfer && line.from == Some(used.authorizer);
            flow.incoming.iter().find(is_its).copied()
        });
    let first = found.next();
    first.filter(|_| found.next().is_none())
}

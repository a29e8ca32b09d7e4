//! Which part of a payment is claimed already in its ledger.

use super::flow::{PaymentPart, RecipientFlow};
use crate::verification::claim::Claim;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use x402_chain::id::ClaimId;
use x402_chain::time::UnixMillis;
use x402_chain::trace::Transfer;

/// The part of a transaction's payment to one recipient that a claim binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClaimUnit {
    /// The whole payment. It excludes every log, as any log excludes it.
    Whole,
    /// One `Transfer` log, by its [`Transfer::ordinal`] (EVM).
    Log(u64),
}

impl ClaimUnit {
    /// Whether it binds this log.
    #[must_use]
    pub const fn covers(self, ordinal: u64) -> bool {
        match self {
            Self::Whole => true,
            Self::Log(own) => own == ordinal,
        }
    }
}

/// The reference of an earlier claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BoundReference {
    /// As the seller wrote it.
    Text(String),
    /// Its SHA-256 in hex: all that is left after an erasure.
    Hash(String),
}

impl BoundReference {
    /// The SHA-256 of a reference, in hex.
    #[must_use]
    pub fn hash_of(reference: &str) -> String {
        hex::encode(Sha256::digest(reference))
    }

    /// What is known of it: the text, or the hash.
    #[must_use]
    pub fn known(&self) -> &str {
        match self {
            Self::Text(known) | Self::Hash(known) => known,
        }
    }

    fn is(&self, reference: &str) -> bool {
        match self {
            Self::Text(text) => text == reference,
            Self::Hash(hash) => *hash == Self::hash_of(reference),
        }
    }
}

/// An earlier claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriorClaim {
    /// The verification or settlement that claimed it.
    pub id: ClaimId,
    /// The reference of the earlier claim.
    pub reference: Option<BoundReference>,
    /// When the earlier claim was made.
    pub at: UnixMillis,
}

impl PriorClaim {
    /// Whether a claim under `reference` repeats this claim. An absent reference equals no other.
    #[must_use]
    pub(crate) fn is_of(&self, reference: Option<&str>) -> bool {
        self.reference.as_ref().zip(reference).is_some_and(|(bound, reference)| bound.is(reference))
    }
}

/// A unit that is claimed in this ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldClaim {
    /// The unit that is claimed.
    pub unit: ClaimUnit,
    /// The claim that holds it.
    pub prior: PriorClaim,
}

/// How the selected transfers relate to the claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimStatus {
    /// Enough of it is unclaimed: the units that a claim takes.
    Fresh(Vec<ClaimUnit>),
    /// Claimed under the same reference; the first such claim.
    Again(PriorClaim),
    /// Too little of it is unclaimed; a claim that prevents it.
    Taken(PriorClaim),
}

/// Compares the selected transfers with the claims; of two claims on one log the first counts. A new success needs
/// transfers for which no success was given: if those are fewer than selected, they are returned as the part to judge
/// and answer.
pub(crate) fn claim_status_of<'a>(
    claim: &Claim,
    flow: &RecipientFlow<'a>,
    selected: &PaymentPart<'a>,
    held: &[HeldClaim],
) -> (ClaimStatus, Option<PaymentPart<'a>>) {
    if flow.apart && !selected.lines.is_empty() && !held.is_empty() {
        return claim_status_by_log(claim, selected, held);
    }
    let own = |held: &&HeldClaim| held.prior.is_of(claim.reference.as_deref());
    let status = match (held.iter().find(|held| !own(held)), first_claim(held.iter().filter(own))) {
        (Some(other), _) => ClaimStatus::Taken(other.prior.clone()),
        (None, Some(own)) => ClaimStatus::Again(own.clone()),
        (None, None) if flow.apart && selected.lines.len() < flow.incoming.len() => {
            ClaimStatus::Fresh(log_units(&selected.lines))
        }
        (None, None) => ClaimStatus::Fresh(vec![ClaimUnit::Whole]),
    };
    (status, None)
}

/// The comparison where each log counts by itself and something is claimed.
fn claim_status_by_log<'a>(
    claim: &Claim,
    selected: &PaymentPart<'a>,
    held: &[HeldClaim],
) -> (ClaimStatus, Option<PaymentPart<'a>>) {
    let (mut free, mut own, mut owners, mut other) = (Vec::new(), Vec::new(), Vec::new(), None);
    for line in selected.lines.iter().copied() {
        match held.iter().find(|held| held.unit.covers(line.ordinal)) {
            None => free.push(line),
            Some(holder) if holder.prior.is_of(claim.reference.as_deref()) => {
                own.push(line);
                owners.push(holder);
            }
            Some(holder) => other = other.or(Some(&holder.prior)),
        }
    }
    let (free, own, first) = (PaymentPart::of(free), PaymentPart::of(own), first_claim(owners.into_iter()));
    let suffices = |part: &PaymentPart<'_>| {
        !part.lines.is_empty() && claim.expected.is_none_or(|expected| part.amount >= expected)
    };
    match (first, other) {
        (None, None) => (ClaimStatus::Fresh(log_units(&free.lines)), None),
        (Some(first), None) if free.lines.is_empty() => (ClaimStatus::Again(first.clone()), None),
        _ if suffices(&free) => (ClaimStatus::Fresh(log_units(&free.lines)), Some(free)),
        (Some(first), _) if suffices(&own) => (ClaimStatus::Again(first.clone()), Some(own)),
        (_, Some(in_the_way)) | (Some(in_the_way), None) => (ClaimStatus::Taken(in_the_way.clone()), None),
    }
}

fn first_claim<'h>(held: impl Iterator<Item = &'h HeldClaim>) -> Option<&'h PriorClaim> {
    held.map(|held| &held.prior).min_by_key(|prior| prior.at)
}

fn log_units(lines: &[&Transfer]) -> Vec<ClaimUnit> {
    lines.iter().map(|line| ClaimUnit::Log(line.ordinal)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use x402_chain::id::VerificationId;

    #[test]
    fn a_reference_of_which_only_the_hash_is_left_is_the_same_reference() {
        let bound = |reference| {
            let id = ClaimId::Verification(VerificationId::new(UnixMillis(1), [1; 10]));
            PriorClaim { id, reference: Some(reference), at: UnixMillis(1) }
        };
        let hash = BoundReference::hash_of("order-1");
        assert_eq!(hash, hex::encode(Sha256::digest(b"order-1")));
        let erased = bound(BoundReference::Hash(hash.clone()));
        assert!(erased.is_of(Some("order-1")));
        // Who sends the hash does not have the reference.
        for other in [None, Some("order-2"), Some(""), Some(hash.as_str())] {
            assert!(!erased.is_of(other), "{other:?}");
        }
        // A reference that looks like a hash is compared as it is.
        let named = bound(BoundReference::Text(hash.clone()));
        assert!(named.is_of(Some(&hash)) && !named.is_of(Some("order-1")));
    }
}

//! The recorded claims: which part of a payment is bound to which reference or settlement, and which part a settlement
//! may still claim.
//!
//! A payment is a transaction's transfers to one recipient. The whole of it is one row, a
//! proper part one row a log. The whole excludes every log, as any log excludes the whole.

pub use crate::verification::judge::{BoundReference, ClaimUnit, HeldClaim, PriorClaim};
use x402_chain::address::Address;
use x402_chain::id::ClaimId;
use x402_chain::time::UnixMillis;
use x402_chain::trace::{MinedTransaction, UsedAuthorization};

/// A claim to write: this unit of the payment is bound for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimRow {
    /// The network's CAIP-2 id.
    pub network: String,
    /// The transaction's hash, or on Solana its first signature.
    pub tx: String,
    /// The recipient's address.
    pub recipient: String,
    /// The part of the payment that is bound.
    pub unit: ClaimUnit,
    /// The verification or settlement that claims it.
    pub id: ClaimId,
    /// Its reference; a settlement has none.
    pub reference: Option<String>,
    /// When it was claimed.
    pub at: UnixMillis,
}

impl ClaimRow {
    /// The claim as a later verification compares with it.
    #[must_use]
    pub fn held_claim(&self) -> HeldClaim {
        let prior =
            PriorClaim { id: self.id, reference: self.reference.clone().map(BoundReference::Text), at: self.at };
        HeldClaim { unit: self.unit, prior }
    }
}

/// The logs that a verification has claimed, as they are kept beside its record: ordinals, separated by spaces; `None` where
/// it has claimed the whole, or nothing.
#[must_use]
pub fn units_text(claims: &[ClaimRow]) -> Option<String> {
    let ordinal = |claim: &ClaimRow| match claim.unit {
        ClaimUnit::Whole => None,
        ClaimUnit::Log(ordinal) => Some(ordinal.to_string()),
    };
    let logs: Vec<String> = claims.iter().filter_map(ordinal).collect();
    (!logs.is_empty()).then(|| logs.join(" "))
}

/// The units that [`units_text`] names; the whole where it names none, also of a build that kept none: then more is claimed
/// than was, and never less.
#[must_use]
pub fn units_of(text: Option<&str>) -> Vec<ClaimUnit> {
    let logs = text.unwrap_or_default().split(' ').map(|ordinal| ordinal.parse().map(ClaimUnit::Log));
    logs.collect::<Result<_, _>>().unwrap_or_else(|_| vec![ClaimUnit::Whole])
}

/// The unit that a settlement has claimed already or may claim. `candidates` are the logs that may be its own transfer
/// ([`crate::settlement::SettlementReport::units`]), the likeliest first. Without candidates (on Solana, and in reports
/// of older builds) it is the whole.
///
/// # Errors
/// The claim that is in the way.
pub fn claimable_unit(held: &[HeldClaim], candidates: &[u64], own: ClaimId) -> Result<ClaimUnit, ClaimId> {
    let is_own = |held: &&HeldClaim| held.prior.id == own;
    let fits = |unit: ClaimUnit| match unit {
        ClaimUnit::Whole => true,
        ClaimUnit::Log(ordinal) => candidates.is_empty() || candidates.contains(&ordinal),
    };
    if let Some(again) = held.iter().find(|held| is_own(held) && fits(held.unit)) {
        return Ok(again.unit);
    }
    let others = || held.iter().filter(|held| !is_own(held));
    let holder = |ordinal: u64| others().find(|held| held.unit.covers(ordinal));
    let in_the_way = match candidates.first() {
        None => others().next(),
        Some(likeliest) => holder(*likeliest),
    };
    match (in_the_way, candidates.iter().find(|ordinal| holder(**ordinal).is_none())) {
        (_, Some(free)) => Ok(ClaimUnit::Log(*free)),
        (Some(other), None) => Err(other.prior.id),
        (None, None) => Ok(ClaimUnit::Whole),
    }
}

/// The units that an authorization has paid to `recipient` in its transaction: its own transfer, or every transfer from
/// its authorizer where its own is not known.
#[must_use]
pub fn units_paid_by(used: &UsedAuthorization, mined: &MinedTransaction, recipient: &Address) -> Vec<ClaimUnit> {
    let reached = mined
        .transfers
        .iter()
        .filter(|line| line.to.as_ref() == Some(recipient) && line.from.as_ref() != Some(recipient));
    let own = reached.filter(|line| match used.transfer {
        Some(ordinal) => line.ordinal == ordinal,
        None => line.from == Some(used.authorizer),
    });
    own.map(|line| ClaimUnit::Log(line.ordinal)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use x402_chain::id::SettlementId;

    const AT: UnixMillis = UnixMillis(1_795_000_000_000);

    fn id(number: u128) -> ClaimId {
        let [_, _, _, _, _, _, random @ ..] = number.to_be_bytes();
        ClaimId::Settlement(SettlementId::new(AT, random))
    }

    fn held(unit: ClaimUnit, number: u128) -> HeldClaim {
        HeldClaim { unit, prior: PriorClaim { id: id(number), reference: None, at: AT } }
    }

    #[test]
    fn a_settlement_takes_the_likeliest_log_that_is_free() {
        let ask = |held: &[HeldClaim], candidates: &[u64]| claimable_unit(held, candidates, id(1));
        assert_eq!(ask(&[], &[3, 5]), Ok(ClaimUnit::Log(3)));
        assert_eq!(ask(&[held(ClaimUnit::Log(3), 2)], &[3, 5]), Ok(ClaimUnit::Log(5)));
        assert_eq!(ask(&[held(ClaimUnit::Log(3), 2), held(ClaimUnit::Log(5), 4)], &[3, 5]), Err(id(2)));
        assert_eq!(ask(&[held(ClaimUnit::Log(5), 4)], &[5]), Err(id(4)));
        // A claim of another payment of the transaction is in nobody's way.
        assert_eq!(ask(&[held(ClaimUnit::Log(9), 2)], &[3]), Ok(ClaimUnit::Log(3)));
        // The whole excludes every log.
        assert_eq!(ask(&[held(ClaimUnit::Whole, 2)], &[3, 5]), Err(id(2)));
    }

    #[test]
    fn without_candidates_it_is_the_whole_which_any_log_excludes() {
        let ask = |held: &[HeldClaim]| claimable_unit(held, &[], id(1));
        assert_eq!(ask(&[]), Ok(ClaimUnit::Whole));
        assert_eq!(ask(&[held(ClaimUnit::Whole, 2)]), Err(id(2)));
        assert_eq!(ask(&[held(ClaimUnit::Log(7), 2)]), Err(id(2)));
    }

    #[test]
    fn its_own_claim_found_again_is_its_own() {
        let ask = |held: &[HeldClaim], candidates: &[u64]| claimable_unit(held, candidates, id(1));
        assert_eq!(ask(&[held(ClaimUnit::Whole, 1)], &[3]), Ok(ClaimUnit::Whole));
        assert_eq!(ask(&[held(ClaimUnit::Whole, 1)], &[]), Ok(ClaimUnit::Whole));
        assert_eq!(ask(&[held(ClaimUnit::Log(5), 1)], &[]), Ok(ClaimUnit::Log(5)));
        // Not a second one, though a likelier one is free now.
        assert_eq!(ask(&[held(ClaimUnit::Log(3), 2), held(ClaimUnit::Log(5), 1)], &[3, 5]), Ok(ClaimUnit::Log(5)));
        assert_eq!(ask(&[held(ClaimUnit::Log(5), 1)], &[3, 5]), Ok(ClaimUnit::Log(5)));
        // What it holds is not among them: the transaction came back with something else.
        assert_eq!(ask(&[held(ClaimUnit::Log(5), 1)], &[3]), Ok(ClaimUnit::Log(3)));
        assert_eq!(ask(&[held(ClaimUnit::Log(5), 1), held(ClaimUnit::Log(3), 2)], &[3]), Err(id(2)));
    }
}

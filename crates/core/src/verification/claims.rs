//! What of a payment is bound to whom: the rows, and which of them a settlement may have.
//!
//! A payment is a transaction's transfers to one recipient. The whole of it is one row, a
//! proper part one row a log. The whole excludes every log, as any log excludes the whole.

pub use crate::verification::judge::{Held, Prior, Unit};
use x402_chain::address::Address;
use x402_chain::id::ClaimId;
use x402_chain::time::UnixMillis;
use x402_chain::trace::{Authorization, Mined};

/// A claim to write: this unit of the payment is bound for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// CAIP-2.
    pub network: String,
    /// The transaction.
    pub tx: String,
    /// Who was paid.
    pub recipient: String,
    /// What of it.
    pub unit: Unit,
    /// The verification or settlement that claims it.
    pub id: ClaimId,
    /// Its reference; a settlement has none.
    pub reference: Option<String>,
    /// When.
    pub at: UnixMillis,
}

impl Row {
    /// The row as a later look-up finds it.
    #[must_use]
    pub fn held(&self) -> Held {
        let prior = Prior { id: self.id, reference: self.reference.clone(), at: self.at };
        Held { unit: self.unit, prior }
    }
}

/// Which unit a settlement holds already or may claim, of the logs that may be its own
/// ([`crate::settlement::Report::units`]), the likeliest first. Without candidates (Solana, and
/// reports of the build before) it is the whole.
///
/// # Errors
/// The claim that is in the way.
pub fn free_unit(held: &[Held], candidates: &[u64], own: ClaimId) -> Result<Unit, ClaimId> {
    let is_own = |held: &&Held| held.prior.id == own;
    let fits = |unit: Unit| match unit {
        Unit::Whole => true,
        Unit::Log(ordinal) => candidates.is_empty() || candidates.contains(&ordinal),
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
        (_, Some(free)) => Ok(Unit::Log(*free)),
        (Some(other), None) => Err(other.prior.id),
        (None, None) => Ok(Unit::Whole),
    }
}

/// What an authorization that this transaction used up has paid to `recipient`: its transfer,
/// or every one from its authorizer where none is known to be its own.
#[must_use]
pub fn paid_by(used: &Authorization, mined: &Mined, recipient: &Address) -> Vec<Unit> {
    let reached = mined
        .transfers
        .iter()
        .filter(|line| line.to.as_ref() == Some(recipient) && line.from.as_ref() != Some(recipient));
    let own = reached.filter(|line| match used.transfer {
        Some(ordinal) => line.ordinal == ordinal,
        None => line.from == Some(used.authorizer),
    });
    own.map(|line| Unit::Log(line.ordinal)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use x402_chain::id::SettlementId;

    const AT: UnixMillis = UnixMillis(1_795_000_000_000);

    fn id(number: u128) -> ClaimId {
        ClaimId::Settlement(SettlementId::new(AT, number))
    }

    fn held(unit: Unit, number: u128) -> Held {
        Held { unit, prior: Prior { id: id(number), reference: None, at: AT } }
    }

    #[test]
    fn a_settlement_takes_the_likeliest_log_that_is_free() {
        let ask = |held: &[Held], candidates: &[u64]| free_unit(held, candidates, id(1));
        assert_eq!(ask(&[], &[3, 5]), Ok(Unit::Log(3)));
        assert_eq!(ask(&[held(Unit::Log(3), 2)], &[3, 5]), Ok(Unit::Log(5)));
        assert_eq!(ask(&[held(Unit::Log(3), 2), held(Unit::Log(5), 4)], &[3, 5]), Err(id(2)));
        assert_eq!(ask(&[held(Unit::Log(5), 4)], &[5]), Err(id(4)));
        // A claim of another payment of the transaction is in nobody's way.
        assert_eq!(ask(&[held(Unit::Log(9), 2)], &[3]), Ok(Unit::Log(3)));
        // The whole excludes every log.
        assert_eq!(ask(&[held(Unit::Whole, 2)], &[3, 5]), Err(id(2)));
    }

    #[test]
    fn without_candidates_it_is_the_whole_which_any_log_excludes() {
        let ask = |held: &[Held]| free_unit(held, &[], id(1));
        assert_eq!(ask(&[]), Ok(Unit::Whole));
        assert_eq!(ask(&[held(Unit::Whole, 2)]), Err(id(2)));
        assert_eq!(ask(&[held(Unit::Log(7), 2)]), Err(id(2)));
    }

    #[test]
    fn its_own_claim_found_again_is_its_own() {
        let ask = |held: &[Held], candidates: &[u64]| free_unit(held, candidates, id(1));
        assert_eq!(ask(&[held(Unit::Whole, 1)], &[3]), Ok(Unit::Whole));
        assert_eq!(ask(&[held(Unit::Whole, 1)], &[]), Ok(Unit::Whole));
        assert_eq!(ask(&[held(Unit::Log(5), 1)], &[]), Ok(Unit::Log(5)));
        // Not a second one, though a likelier one is free now.
        assert_eq!(ask(&[held(Unit::Log(3), 2), held(Unit::Log(5), 1)], &[3, 5]), Ok(Unit::Log(5)));
        assert_eq!(ask(&[held(Unit::Log(5), 1)], &[3, 5]), Ok(Unit::Log(5)));
        // What it holds is not among them: the transaction came back with something else.
        assert_eq!(ask(&[held(Unit::Log(5), 1)], &[3]), Ok(Unit::Log(3)));
        assert_eq!(ask(&[held(Unit::Log(5), 1), held(Unit::Log(3), 2)], &[3]), Err(id(2)));
    }
}

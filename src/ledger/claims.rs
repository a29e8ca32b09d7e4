//! Stub until the branch of claims is merged.
use crate::id::ClaimId;
use crate::judge::Prior;
/// Unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// The whole.
    Whole,
    /// One log.
    Log(u64),
}
/// Held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Unit.
    pub unit: Unit,
    /// Prior.
    pub prior: Prior,
}
/// Free.
pub fn free_unit(held: &[Held], candidates: &[u64], own: ClaimId) -> Result<Unit, ClaimId> {
    let units: Vec<Unit> = if candidates.is_empty() {
        vec![Unit::Whole]
    } else {
        candidates.iter().map(|each| Unit::Log(*each)).collect()
    };
    let clash = |unit: &Unit| {
        held.iter().find(|held| {
            held.prior.id != own && (held.unit == *unit || held.unit == Unit::Whole || *unit == Unit::Whole)
        })
    };
    let first = units.first().and_then(clash).map(|held| held.prior.id);
    if let Some(mine) = held.iter().find(|held| held.prior.id == own) {
        return Ok(mine.unit);
    }
    units.into_iter().find(|unit| clash(unit).is_none()).ok_or(first.unwrap_or(own))
}

//! How a payment stands to the claims of its ledger.

use super::flow::{Flow, Part};
use crate::verification::claim::Claim;
use x402_chain::id::ClaimId;
use x402_chain::time::UnixMillis;
use x402_chain::trace::Transfer;

/// What of a transaction's payment to one recipient a claim takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unit {
    /// All of it. Excludes every log, as any log excludes this.
    Whole,
    /// One `Transfer` log, by its [`Transfer::ordinal`] (EVM).
    Log(u64),
}

impl Unit {
    /// Whether it takes this log.
    #[must_use]
    pub const fn covers(self, ordinal: u64) -> bool {
        match self {
            Self::Whole => true,
            Self::Log(own) => own == ordinal,
        }
    }
}

/// Who claimed something, and when.
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

/// A unit that is claimed in this ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// What.
    pub unit: Unit,
    /// By whom.
    pub prior: Prior,
}

/// How what a request selects stands to what is claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Free, all of it or enough of it: what a claim takes.
    Fresh(Vec<Unit>),
    /// Claimed under the same reference, first by this.
    Again(Prior),
    /// Not enough of it is free: this is in the way.
    Taken(Prior),
}

/// Judges what is selected by what is held, of two holds on one log by the first. A success
/// that repeats no earlier one is covered by transfers that no success was given for: where those
/// are fewer than were selected, they are returned as the part to judge and answer.
pub(crate) fn stand<'a>(
    claim: &Claim,
    flow: &Flow<'a>,
    selected: &Part<'a>,
    held: &[Held],
) -> (Standing, Option<Part<'a>>) {
    if flow.apart && !selected.lines.is_empty() && !held.is_empty() {
        return stand_apart(claim, selected, held);
    }
    let own = |held: &&Held| held.prior.is_of(claim.reference.as_deref());
    let standing = match (held.iter().find(|held| !own(held)), first(held.iter().filter(own))) {
        (Some(other), _) => Standing::Taken(other.prior.clone()),
        (None, Some(own)) => Standing::Again(own.clone()),
        (None, None) if flow.apart && selected.lines.len() < flow.incoming.len() => {
            Standing::Fresh(logs(&selected.lines))
        }
        (None, None) => Standing::Fresh(vec![Unit::Whole]),
    };
    (standing, None)
}

/// The same where each log stands for itself and something is held.
fn stand_apart<'a>(claim: &Claim, selected: &Part<'a>, held: &[Held]) -> (Standing, Option<Part<'a>>) {
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
    let (free, own, first) = (Part::of(free), Part::of(own), first(owners.into_iter()));
    let suffices =
        |part: &Part<'_>| !part.lines.is_empty() && claim.expected.is_none_or(|expected| part.amount >= expected);
    match (first, other) {
        (None, None) => (Standing::Fresh(logs(&free.lines)), None),
        (Some(first), None) if free.lines.is_empty() => (Standing::Again(first.clone()), None),
        _ if suffices(&free) => (Standing::Fresh(logs(&free.lines)), Some(free)),
        (Some(first), _) if suffices(&own) => (Standing::Again(first.clone()), Some(own)),
        (_, Some(in_the_way)) | (Some(in_the_way), None) => (Standing::Taken(in_the_way.clone()), None),
    }
}

fn first<'h>(held: impl Iterator<Item = &'h Held>) -> Option<&'h Prior> {
    held.map(|held| &held.prior).min_by_key(|prior| prior.at)
}

fn logs(lines: &[&Transfer]) -> Vec<Unit> {
    lines.iter().map(|line| Unit::Log(line.ordinal)).collect()
}

//! Limits what simulation cannot foresee: a payer whose settlement reverted on chain has cost us gas, and gets no
//! launch for a while.

use crate::settlement::status::SettlementStatus;
use x402_chain::reason::Reason;
use x402_chain::time::UnixMillis;

/// The first penalty: 10 minutes; each further one is twice as long.
const FIRST_MS: u64 = 600_000;
/// No penalty lasts longer than a day.
const MAX_MS: u64 = 86_400_000;
/// A penalty that is over is remembered for a day: a revert in that time makes a longer one.
const KEEP_MS: u64 = 86_400_000;

/// A payer's reverts, and until when nothing is launched for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Penalty {
    /// How many settlements have reverted since one was completed.
    pub count: u32,
    /// Until when nothing is launched.
    pub until: UnixMillis,
}

impl Penalty {
    /// The penalty after one more revert.
    #[must_use]
    pub fn after_revert(before: Option<Self>, now: UnixMillis) -> Self {
        let known = before.map_or(0, |before| before.count);
        let length = FIRST_MS.checked_shl(known.min(16)).map_or(MAX_MS, |length| length.min(MAX_MS));
        Self { count: known.saturating_add(1), until: now.plus(length) }
    }

    /// The penalty after one of the payer's settlements completes: the next is short again. During a penalty, a
    /// completed settlement was launched before the last revert, and changes nothing.
    #[must_use]
    pub fn after_success(self, now: UnixMillis) -> Option<Self> {
        self.active_until(now).map(|until| Self { count: 1, until: until.min(now.plus(FIRST_MS)) })
    }

    /// Until when nothing is launched, if that is in the future.
    #[must_use]
    pub(crate) fn active_until(self, now: UnixMillis) -> Option<UnixMillis> {
        Some(self.until).filter(|until| *until > now)
    }
}

/// Penalties that ended before this time may be deleted.
#[must_use]
pub const fn forgotten_before(now: UnixMillis) -> UnixMillis {
    UnixMillis(now.0.saturating_sub(KEEP_MS))
}

/// What the end of a flight changes in its payer's penalty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PenaltyEffect {
    /// A settlement of the payer has reverted: the penalty begins, or gets longer.
    Extended,
    /// A settlement of the payer is completed: the penalty gets shorter.
    Reduced,
    /// The penalty stays as it is.
    None,
}

/// What the end of a flight changes in its payer's penalty. A third party's transaction changes nothing, nor does a
/// failure that is in no block: `cost` says whether the chain took anything.
#[must_use]
pub fn penalty_effect(status: SettlementStatus, reason: Option<Reason>, external: bool, cost: bool) -> PenaltyEffect {
    match (status, reason) {
        (SettlementStatus::Completed, _) if !external => PenaltyEffect::Reduced,
        (SettlementStatus::Failed, Some(Reason::EvmFailed)) => PenaltyEffect::Extended,
        // On Solana the same reason stands for a transaction that is in no block.
        (SettlementStatus::Failed, Some(Reason::SvmFailed)) if cost => PenaltyEffect::Extended,
        (SettlementStatus::Completed | SettlementStatus::Failed | SettlementStatus::Pending, _) => PenaltyEffect::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_is_twice_as_long_up_to_a_day() {
        let now = UnixMillis(1_000_000);
        let mut penalty = None;
        let lengths: Vec<u64> = (0..10)
            .map(|_| {
                let next = Penalty::after_revert(penalty, now);
                penalty = Some(next);
                next.until.since(now) / 60_000
            })
            .collect();
        assert_eq!(lengths, [10, 20, 40, 80, 160, 320, 640, 1_280, 1_440, 1_440]);
        let many = Penalty { count: u32::MAX, until: now };
        assert_eq!(Penalty::after_revert(Some(many), now).until.since(now), MAX_MS);
    }

    #[test]
    fn what_was_launched_beside_a_revert_does_not_end_the_wait() {
        let now = UnixMillis(1_000_000);
        let first = Penalty::after_revert(None, now);
        assert_eq!(first.after_success(now), Some(first));
        let many = Penalty::after_revert(Some(Penalty { count: 5, until: now }), now);
        assert_eq!(many.after_success(now), Some(Penalty { count: 1, until: now.plus(FIRST_MS) }));
        assert_eq!(many.after_success(many.until), None);
    }

    #[test]
    fn a_penalty_ends_and_is_forgotten_a_day_later() {
        let penalty = Penalty::after_revert(None, UnixMillis(0));
        assert_eq!(penalty.active_until(UnixMillis(599_999)), Some(UnixMillis(600_000)));
        assert_eq!(penalty.active_until(UnixMillis(600_000)), None);
        assert_eq!(forgotten_before(UnixMillis(87_000_000)), UnixMillis(600_000));
        assert_eq!(forgotten_before(UnixMillis(1)), UnixMillis(0));
    }

    #[test]
    fn only_a_revert_is_punished_and_only_our_own_success_pardons() {
        let (completed, failed) = (SettlementStatus::Completed, SettlementStatus::Failed);
        assert_eq!(penalty_effect(completed, None, false, true), PenaltyEffect::Reduced);
        assert_eq!(penalty_effect(completed, None, true, false), PenaltyEffect::None);
        assert_eq!(penalty_effect(failed, Some(Reason::EvmFailed), false, true), PenaltyEffect::Extended);
        assert_eq!(penalty_effect(failed, Some(Reason::SvmFailed), false, true), PenaltyEffect::Extended);
        for reason in [Reason::EvmValidBefore, Reason::UnexpectedSettle, Reason::SvmFailed, Reason::EvmEventMismatch] {
            assert_eq!(penalty_effect(failed, Some(reason), false, false), PenaltyEffect::None);
        }
        assert_eq!(penalty_effect(SettlementStatus::Pending, None, false, false), PenaltyEffect::None);
    }
}

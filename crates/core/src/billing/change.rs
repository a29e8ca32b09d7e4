//! What is wanted of a subscription, and whether it is so.

use super::state::BillingState;
use super::subscription::SubscriptionStatus;
use crate::tenancy::tier::Tier;

/// What is wanted of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// This plan: at once, or a smaller one from the end of the period on.
    Plan(Tier),
    /// Its end with the period.
    EndAtPeriod,
    /// Its end at once.
    EndNow,
    /// That it goes on, with the plan that it has.
    GoOn,
}

impl Wanted {
    /// The name of the change, which is stored, and what it is about.
    #[must_use]
    pub const fn name(self) -> (&'static str, &'static str) {
        match self {
            Self::Plan(tier) => ("change", tier.plan().name),
            Self::EndAtPeriod => ("cancel", "period_end"),
            Self::EndNow => ("cancel", "now"),
            Self::GoOn => ("resume", ""),
        }
    }

    /// Whether a state is what is wanted. Stripe answers a request that it has answered before by its old answer, and does
    /// nothing: what somebody else has undone meanwhile is undone still.
    #[must_use]
    pub fn is_met(self, state: Option<&BillingState>) -> bool {
        let Some(state) = state.filter(|state| state.status.is_live()) else {
            return matches!(self, Self::EndAtPeriod | Self::EndNow);
        };
        let waiting = state.waiting_plan();
        match self {
            Self::Plan(tier) => waiting.or(state.plan) == Some(tier),
            Self::EndAtPeriod => state.cancel_at.is_some(),
            // Another subscription may go on: each is ended by its own name, and not by a key.
            Self::EndNow => true,
            Self::GoOn => state.cancel_at.is_none() && waiting.is_none() && state.status != SubscriptionStatus::Paused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::subscription::tests::{one, raw};
    use super::*;
    use x402_chain::time::UnixMillis;

    fn state(status: &str, tier: &str) -> BillingState {
        BillingState::from(&one(&raw("sub_a", status, tier)))
    }

    #[test]
    fn a_plan_is_met_when_it_holds_or_waits_and_nothing_else_waits() {
        let pro = state("active", "pro");
        let waits = BillingState { next_plan: Some(Tier::Starter), ..pro.clone() };
        let came = BillingState { next_plan: Some(Tier::Pro), ..pro.clone() };
        for (state, tier, want) in [
            (&pro, Tier::Pro, true),
            (&pro, Tier::Starter, false),
            (&waits, Tier::Starter, true),
            (&waits, Tier::Pro, false),
            (&came, Tier::Pro, true),
        ] {
            assert_eq!(Wanted::Plan(tier).is_met(Some(state)), want, "{tier:?} {state:?}");
        }
        assert!(!Wanted::Plan(Tier::Pro).is_met(None));
    }

    #[test]
    fn an_end_and_its_being_taken_back_are_opposites() {
        let going = state("active", "pro");
        let ending = BillingState { cancel_at: Some(UnixMillis(5)), ..going.clone() };
        assert!(Wanted::GoOn.is_met(Some(&going)) && !Wanted::EndAtPeriod.is_met(Some(&going)));
        assert!(!Wanted::GoOn.is_met(Some(&ending)) && Wanted::EndAtPeriod.is_met(Some(&ending)));
        assert!(!Wanted::GoOn.is_met(Some(&state("paused", "pro"))));
        let over = state("canceled", "pro");
        assert!(Wanted::EndNow.is_met(Some(&over)) && Wanted::EndAtPeriod.is_met(Some(&over)));
        assert!(!Wanted::GoOn.is_met(Some(&over)));
    }
}

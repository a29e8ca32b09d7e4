//! What is kept of a customer's subscriptions, and which tier follows.

use super::subscription::{Subscription, SubscriptionStatus};
use crate::tenancy::tier::Tier;
use core::cmp::Reverse;
use serde::{Deserialize, Serialize};
use x402_chain::time::{DAY_MS, UnixMillis};

/// How long the tier is kept after a charge has failed.
pub const GRACE_MS: u64 = 7 * DAY_MS;

/// The subscription of a tenant as it was read last; stored as JSON, of which equal states have equal texts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BillingState {
    /// `sub_…`.
    pub subscription: String,
    /// Its status.
    pub status: SubscriptionStatus,
    /// The tier that is paid for; `None` for a price that is not ours.
    pub plan: Option<Tier>,
    /// Its price: `price_…`.
    pub price: String,
    /// The item that is changed with the plan.
    pub item: String,
    /// The end of its trial.
    pub trial_end: Option<UnixMillis>,
    /// The start of the period that is paid for or tried.
    pub period_start: UnixMillis,
    /// Its end.
    pub period_end: UnixMillis,
    /// When it ends, if that was asked for.
    pub cancel_at: Option<UnixMillis>,
    /// The schedule that changes the plan at the end of the period.
    pub schedule: Option<String>,
    /// The plan from then on.
    pub next_plan: Option<Tier>,
}

impl BillingState {
    /// The smaller plan that waits for the end of the period. Once it has come it waits no longer, though its schedule, which
    /// names it, goes on for another month.
    #[must_use]
    pub fn waiting_plan(&self) -> Option<Tier> {
        self.next_plan.filter(|next| Some(*next) != self.plan)
    }
}

impl From<&Subscription> for BillingState {
    fn from(of: &Subscription) -> Self {
        Self {
            subscription: of.id.clone(),
            status: of.status,
            plan: of.tier,
            price: of.price.clone(),
            item: of.item.clone(),
            trial_end: of.trial_end,
            period_start: of.period.0,
            period_end: of.period.1,
            cancel_at: of.cancel_at.filter(|_| of.status.is_live()),
            schedule: of.schedule.as_ref().map(|(id, _)| id.clone()),
            next_plan: of.schedule.as_ref().and_then(|(_, tier)| *tier),
        }
    }
}

/// What follows from all subscriptions of a customer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BillingPicture {
    /// The one that counts; `None` where there has never been one.
    pub state: Option<BillingState>,
    /// Others of plans that go on: they are cancelled. Two are made where two checkouts are paid.
    pub surplus: Vec<Subscription>,
    /// Whether the customer has had a trial.
    pub trial_used: bool,
}

/// What follows from all subscriptions of a customer, in any order. Of those that go on, one of a plan counts before one that
/// an operator has made for something else; what is paid or tried counts before what is past due, and that before what is not
/// paid; then the newest counts. Of those that have ended the newest is shown. What is of no plan is nobody's second one.
#[must_use]
pub fn picture_of(all: &[Subscription]) -> BillingPicture {
    let is_plan = |one: &Subscription| one.status.is_live() && one.tier.is_some();
    let mut sorted: Vec<&Subscription> = all.iter().collect();
    sorted.sort_by_key(|one| {
        (Reverse(is_plan(one)), Reverse(one.status.weight()), Reverse(one.created), Reverse(one.id.as_str()))
    });
    let surplus = sorted.iter().skip(1).filter(|one| is_plan(one)).map(|one| (*one).clone()).collect();
    BillingPicture {
        state: sorted.first().map(|one| BillingState::from(*one)),
        surplus,
        trial_used: all.iter().any(|one| one.trial_end.is_some()),
    }
}

/// Which tier follows from what is paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entitlement {
    /// This one.
    Tier(Tier),
    /// None that this build knows, as for a price that an operator has made by hand: the tier stays as it is.
    Unknown,
}

/// Which tier follows from what is paid. `past_due_since` is when a failed charge was first seen.
#[must_use]
pub fn entitlement(state: Option<&BillingState>, past_due_since: Option<UnixMillis>, now: UnixMillis) -> Entitlement {
    let free = Entitlement::Tier(Tier::default());
    let Some(state) = state else { return free };
    let paid = state.plan.map_or(Entitlement::Unknown, Entitlement::Tier);
    match state.status {
        SubscriptionStatus::Trialing | SubscriptionStatus::Active => paid,
        SubscriptionStatus::PastDue => match past_due_since {
            Some(since) if now.since(since) >= GRACE_MS => free,
            Some(_) | None => paid,
        },
        SubscriptionStatus::Unpaid
        | SubscriptionStatus::Paused
        | SubscriptionStatus::Incomplete
        | SubscriptionStatus::IncompleteExpired
        | SubscriptionStatus::Canceled => free,
    }
}

/// Whether a plan is served: it is paid for, tried, or in the grace after a failed charge.
#[must_use]
pub fn is_served(state: &BillingState, past_due_since: Option<UnixMillis>, now: UnixMillis) -> bool {
    entitlement(Some(state), past_due_since, now) != Entitlement::Tier(Tier::default())
}

/// How a change of plan is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanChange {
    /// It is the plan already, and nothing else is planned; or it is planned already.
    Nothing,
    /// It is the plan already, and the change that waits is dropped.
    Keep,
    /// At once, and the difference is charged at once.
    Upgrade,
    /// At once, and for nothing if the trial goes on until then.
    InTrial,
    /// At the end of the period that is paid for.
    AtPeriodEnd,
}

/// How the plan of a subscription that goes on is changed to another.
#[must_use]
pub fn plan_change(state: &BillingState, to: Tier) -> PlanChange {
    match state.plan {
        Some(plan) if plan == to && state.schedule.is_none() => PlanChange::Nothing,
        Some(_) if state.next_plan == Some(to) => PlanChange::Nothing,
        Some(plan) if plan == to => PlanChange::Keep,
        _ if state.status == SubscriptionStatus::Trialing => PlanChange::InTrial,
        Some(plan) if to < plan => PlanChange::AtPeriodEnd,
        Some(_) | None => PlanChange::Upgrade,
    }
}

#[cfg(test)]
mod tests {
    use super::super::subscription::tests::{one, raw};
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    const NOW: UnixMillis = UnixMillis(1_795_910_400_000);

    fn subscription(id: &str, status: &str, tier: &str, created: u64) -> Subscription {
        let mut body = raw(id, status, tier);
        body["created"] = json!(created);
        one(&body)
    }

    #[test]
    fn of_two_paid_checkouts_the_newest_is_kept() {
        let all = [subscription("sub_a", "active", "pro", 1), subscription("sub_b", "active", "starter", 2)];
        let picture = picture_of(&all);
        assert_eq!(picture.state.expect("one").subscription, "sub_b");
        assert_eq!(picture.surplus.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), ["sub_a"]);
    }

    #[test]
    fn what_is_paid_counts_before_what_is_newer() {
        let all = [
            subscription("sub_a", "active", "pro", 1),
            subscription("sub_b", "incomplete", "starter", 2),
            subscription("sub_c", "past_due", "starter", 3),
            subscription("sub_d", "canceled", "starter", 4),
        ];
        let picture = picture_of(&all);
        assert_eq!(picture.state.expect("one").subscription, "sub_a");
        assert_eq!(picture.surplus.len(), 1, "neither what has ended nor what has not begun is cancelled");
        assert_eq!(picture_of(&[]).state, None);
    }

    #[test]
    fn what_is_no_plan_neither_counts_before_one_nor_is_cancelled() {
        let support = subscription("sub_b", "active", "support", 2);
        for (status, want) in [("active", "sub_a"), ("past_due", "sub_a"), ("canceled", "sub_b")] {
            let picture = picture_of(&[subscription("sub_a", status, "pro", 1), support.clone()]);
            assert_eq!(picture.state.map(|state| state.subscription).as_deref(), Some(want), "{status}");
            assert_eq!(picture.surplus, [], "{status}");
        }
    }

    #[test]
    fn a_trial_is_used_once() {
        let mut body = raw("sub_a", "canceled", "pro");
        assert!(!picture_of(&[one(&body)]).trial_used);
        body["trial_end"] = json!(1_795_910_400);
        assert!(picture_of(&[one(&body), subscription("sub_b", "active", "pro", 5)]).trial_used);
    }

    fn state(status: &str, tier: &str) -> BillingState {
        BillingState::from(&subscription("sub_a", status, tier, 1))
    }

    #[test]
    fn only_what_is_paid_or_tried_gives_its_tier() {
        for status in SubscriptionStatus::ALL {
            let want = match status {
                SubscriptionStatus::Trialing | SubscriptionStatus::Active | SubscriptionStatus::PastDue => Tier::Pro,
                SubscriptionStatus::Unpaid
                | SubscriptionStatus::Paused
                | SubscriptionStatus::Incomplete
                | SubscriptionStatus::IncompleteExpired
                | SubscriptionStatus::Canceled => Tier::Free,
            };
            let found = entitlement(Some(&state(status.name(), "pro")), Some(NOW), NOW);
            assert_eq!(found, Entitlement::Tier(want), "{status:?}");
        }
        assert_eq!(entitlement(None, None, NOW), Entitlement::Tier(Tier::Free));
        assert_eq!(entitlement(Some(&state("active", "gold")), None, NOW), Entitlement::Unknown);
        assert_eq!(entitlement(Some(&state("canceled", "gold")), None, NOW), Entitlement::Tier(Tier::Free));
    }

    #[test]
    fn a_failed_charge_has_seven_days() {
        let at = |ms: u64| entitlement(Some(&state("past_due", "pro")), Some(NOW), NOW.plus(ms));
        assert_eq!(at(GRACE_MS - 1), Entitlement::Tier(Tier::Pro));
        assert_eq!(at(GRACE_MS), Entitlement::Tier(Tier::Free));
    }

    #[test]
    fn a_plan_is_served_until_the_grace_after_a_failed_charge_ends() {
        let at = |status: &str, ms: u64| is_served(&state(status, "pro"), Some(NOW), NOW.plus(ms));
        assert!(at("trialing", 0) && at("active", GRACE_MS) && at("past_due", GRACE_MS - 1));
        assert!(!at("past_due", GRACE_MS) && !at("unpaid", 0) && !at("paused", 0));
    }

    #[test]
    fn a_smaller_plan_waits_until_it_has_come() {
        let pro = BillingState { next_plan: Some(Tier::Starter), ..state("active", "pro") };
        assert_eq!(pro.waiting_plan(), Some(Tier::Starter));
        assert_eq!(BillingState { plan: Some(Tier::Starter), ..pro }.waiting_plan(), None);
    }

    #[test]
    fn a_larger_plan_comes_at_once_and_a_smaller_one_at_the_end() {
        let active = state("active", "pro");
        assert_eq!(plan_change(&active, Tier::Enterprise), PlanChange::Upgrade);
        assert_eq!(plan_change(&active, Tier::Starter), PlanChange::AtPeriodEnd);
        assert_eq!(plan_change(&active, Tier::Pro), PlanChange::Nothing);
        let planned = BillingState { schedule: Some("sub_sched_1".to_owned()), ..active };
        assert_eq!(plan_change(&planned, Tier::Pro), PlanChange::Keep);
        let planned = BillingState { next_plan: Some(Tier::Starter), ..planned };
        assert_eq!(plan_change(&planned, Tier::Starter), PlanChange::Nothing);
        assert_eq!(plan_change(&planned, Tier::Pro), PlanChange::Keep);
        assert_eq!(plan_change(&planned, Tier::Enterprise), PlanChange::Upgrade);
        let tried = state("trialing", "pro");
        assert_eq!(plan_change(&tried, Tier::Starter), PlanChange::InTrial);
        assert_eq!(plan_change(&state("active", "gold"), Tier::Starter), PlanChange::Upgrade);
    }

    proptest! {
        #[test]
        fn the_order_in_which_stripe_lists_does_not_matter(
            statuses in proptest::collection::vec(0_usize..SubscriptionStatus::ALL.len(), 0..6), turn in 0_usize..6,
        ) {
            let all: Vec<_> = statuses.iter().enumerate().map(|(at, status)| {
                let name = SubscriptionStatus::ALL[*status].name();
                subscription(&format!("sub_{at}"), name, "pro", u64::try_from(at / 2).expect("few"))
            }).collect();
            let mut turned = all.clone();
            turned.rotate_left(turn.min(all.len()));
            prop_assert_eq!(picture_of(&all), picture_of(&turned));
            let live = all.iter().filter(|one| one.status.is_live()).count();
            prop_assert_eq!(picture_of(&all).surplus.len(), live.saturating_sub(1));
        }
    }
}

//! Plans that are paid for: what Stripe says of a customer's subscriptions, and which tier follows. Stripe is the source of
//! truth; the directory keeps what was read last ([`state::BillingState`]).

pub mod answer;
pub mod change;
pub mod due;
pub mod form;
mod methods;
pub mod notice;
pub mod schedule;
pub mod signature;
pub mod state;
pub mod subscription;

use crate::tenancy::tier::{PLANS, Plan, Tier};

/// The version of Stripe's API that every request names, and that the webhook endpoint is made with: it decides the shape of
/// answers and events.
pub const STRIPE_VERSION: &str = "2026-10-28.endive";
/// Days of the first subscription of a customer that cost nothing. A card is asked for.
pub const TRIAL_DAYS: u64 = 7;

/// The tiers that are sold, the smallest first.
pub fn paid_plans() -> impl Iterator<Item = &'static Plan> {
    PLANS.iter().filter(|plan| plan.price_usd > 0)
}

/// The name by which the price of a tier is found at Stripe. `npm run stripe:setup` makes the price, and moves the name to its
/// successor where the table of tiers has another amount.
#[must_use]
pub fn lookup_key(tier: Tier) -> String {
    format!("x402_edge_{}_monthly", tier.plan().name)
}

/// The tier of that name if it is sold.
#[must_use]
pub fn parse_paid_tier(text: &str) -> Option<Tier> {
    paid_plans().find(|plan| plan.name == text).map(|plan| plan.tier)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_costs_something_is_sold() {
        let names: Vec<_> = paid_plans().map(|plan| plan.name).collect();
        assert_eq!(names, ["starter", "pro", "enterprise"]);
        assert_eq!((parse_paid_tier("free"), parse_paid_tier("pro")), (None, Some(Tier::Pro)));
        assert_eq!(lookup_key(Tier::Pro), "x402_edge_pro_monthly");
    }
}

//! `/v1/billing`: the plan of a tenant, and how it is changed.

pub mod invoice;

use crate::body::{invalid, parse_body, variant};
use invoice::InvoicePreview;
use serde::{Deserialize, Serialize};
use x402_chain::time::UnixMillis;
use x402_core::billing::answer::PaymentCard;
use x402_core::billing::form::is_stripe_id;
use x402_core::billing::state::BillingState;
use x402_core::billing::subscription::SubscriptionStatus;
use x402_core::error::Fault;
use x402_core::tenancy::tier::{PLANS, Tier};

/// Who sets the tier of a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum TierBy {
    /// What is paid for by Stripe.
    Billing,
    /// An operator, as for an invoice that is written by hand. Stripe does not change it.
    Operator,
}

impl TierBy {
    /// The name in JSON and in the directory.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Billing => "billing",
            Self::Operator => "operator",
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Billing, Self::Operator].into_iter().find(|by| by.name() == text)
    }
}

/// A plan that is sold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum SoldPlan {
    /// `starter`.
    Starter,
    /// `pro`.
    Pro,
    /// `enterprise`.
    Enterprise,
}

impl SoldPlan {
    /// Its tier.
    #[must_use]
    pub const fn tier(self) -> Tier {
        match self {
            Self::Starter => Tier::Starter,
            Self::Pro => Tier::Pro,
            Self::Enterprise => Tier::Enterprise,
        }
    }
}

/// The body of `POST /v1/billing/checkout` and `/change`.
#[derive(Debug, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PlanBody {
    /// The plan that is wanted. `POST /v1/billing/cancel` leads back to `free`.
    #[serde(deserialize_with = "variant")]
    pub plan: SoldPlan,
}

/// The plan of a body.
///
/// # Errors
/// `INVALID_JSON`, `INVALID_REQUEST` naming the member.
pub fn wanted_plan(body: &[u8]) -> Result<Tier, Fault> {
    Ok(parse_body::<PlanBody>(body)?.plan.tier())
}

/// When a subscription is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum CancelAt {
    /// At the end of the period that is paid for, or of the trial.
    PeriodEnd,
    /// At once; what is paid is not given back.
    Now,
}

/// The body of `POST /v1/billing/cancel`.
#[derive(Debug, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CancelBody {
    /// When the subscription is to end.
    #[serde(deserialize_with = "variant")]
    pub at: CancelAt,
}

/// When a body says that a subscription is to end.
///
/// # Errors
/// `INVALID_JSON`, `INVALID_REQUEST` naming the member.
pub fn wanted_end(body: &[u8]) -> Result<CancelAt, Fault> {
    Ok(parse_body::<CancelBody>(body)?.at)
}

/// The plan whose price a preview is of: the parameter `plan` of a query.
///
/// # Errors
/// `INVALID_REQUEST`.
pub fn previewed_plan(query: &str) -> Result<Option<Tier>, Fault> {
    let found = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "plan");
    let Some((_, text)) = found else { return Ok(None) };
    let plan = x402_core::billing::parse_paid_tier(&text);
    plan.map(Some).ok_or_else(|| invalid("plan", "must be starter, pro or enterprise"))
}

/// Where a browser is sent to.
#[derive(Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct BillingUrl {
    /// A page of Stripe's. That of a checkout can be paid for 45 to 60 minutes, that of the portal is to be opened within some.
    /// The one who opens it needs no other credential: show it to nobody else.
    pub url: String,
}

/// The payment method that invoices are charged to.
#[derive(Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct PaymentMethodView {
    /// The kind, such as `card`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The card's brand, such as `visa`.
    pub brand: Option<String>,
    /// Its last four digits.
    pub last_four: Option<String>,
    /// Its end, such as `2030-02`.
    pub expires: Option<String>,
}

impl From<PaymentCard> for PaymentMethodView {
    fn from(card: PaymentCard) -> Self {
        let expires = card.expires.map(|(month, year)| format!("{year:04}-{month:02}"));
        Self { kind: card.kind, brand: card.brand, last_four: card.last_four, expires }
    }
}

/// What a tenant has, by which tiers differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Chains of live, by key, for which it has a default address.
    pub chains: Vec<String>,
    /// Its webhook endpoints.
    pub webhook_endpoints: u64,
    /// Whether it has a name, logo and colours of its own.
    pub branding: bool,
    /// Whether its people sign in by an identity provider of its own.
    pub oidc: bool,
}

/// What a tenant has and a plan does not include. It is kept, and refused.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct BeyondPlan {
    /// The plan.
    pub plan: Tier,
    /// Chains, by key, for which the tenant has a default address. Any other address is on all chains of its family.
    pub chains: Vec<String>,
    /// Webhook endpoints: nothing is sent to them.
    pub webhook_endpoints: u64,
    /// Whether name, logo and colours are not shown.
    pub branding: bool,
    /// Whether people no longer sign in by the identity provider.
    pub oidc: bool,
}

impl BeyondPlan {
    /// What of the holdings a plan does not include.
    #[must_use]
    pub fn of(tier: Tier, held: &Holdings) -> Self {
        let plan = tier.plan();
        Self {
            plan: tier,
            chains: held.chains.iter().filter(|key| !tier.includes_chain(key)).cloned().collect(),
            webhook_endpoints: if plan.webhooks { 0 } else { held.webhook_endpoints },
            branding: held.branding && !plan.branding,
            oidc: held.oidc && !plan.oidc,
        }
    }

    /// Whether the plan includes all.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.chains.is_empty() && self.webhook_endpoints == 0 && !self.branding && !self.oidc
    }

    /// What each smaller plan does not include, and the present one, where that is something.
    #[must_use]
    pub fn of_all(tier: Tier, held: &Holdings) -> Vec<Self> {
        let smaller = PLANS.iter().map(|plan| plan.tier).filter(|one| *one <= tier);
        smaller.map(|one| Self::of(one, held)).filter(|beyond| !beyond.is_empty()).collect()
    }
}

/// The answer of `GET /v1/billing`, and of what changes it.
#[derive(Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct BillingView {
    /// The tier that holds at this moment: it sets limits and chains.
    pub tier: Tier,
    /// Who sets the tier: what is paid, or an operator.
    pub tier_by: TierBy,
    /// The plan that is paid for; `null` where there is none, or its price is not of the table of tiers.
    pub plan: Option<Tier>,
    /// The subscription's status; `null` where there has never been one.
    pub status: Option<SubscriptionStatus>,
    /// The end of the trial, RFC 3339; `null` outside of one.
    pub trial_ends_at: Option<String>,
    /// Whether a first subscription would begin with a trial.
    pub trial_available: bool,
    /// The start of the period that is paid for or tried, RFC 3339.
    pub period_starts_at: Option<String>,
    /// Its end.
    pub period_ends_at: Option<String>,
    /// When the subscription ends, if that was asked for, RFC 3339.
    pub cancels_at: Option<String>,
    /// The smaller plan that waits for the end of the period; `null` where none waits.
    pub next_plan: Option<Tier>,
    /// After a failed charge: when the limits of the free tier begin to hold, RFC 3339; `null` where an operator has set the tier.
    pub grace_ends_at: Option<String>,
    /// The next invoice, or with `?plan=` that of the change to this plan: of a larger one at once, else the next; `null` where
    /// there is none, or Stripe was not reached.
    pub next_invoice: Option<InvoicePreview>,
    /// What invoices are charged to; `null` where there is none, or Stripe was not reached.
    pub payment_method: Option<PaymentMethodView>,
    /// Whether Stripe answered; what the other members say was read before.
    pub stripe_reached: bool,
    /// What the tenant has beyond its tier and beyond smaller plans.
    pub beyond_plans: Vec<BeyondPlan>,
}

/// What is stored of a tenant's billing.
#[derive(Clone, Debug)]
pub struct StoredBilling<'a> {
    /// The tier that holds.
    pub tier: Tier,
    /// Who sets it.
    pub tier_by: TierBy,
    /// The subscription.
    pub state: Option<&'a BillingState>,
    /// Whether there was a trial.
    pub trial_used: bool,
    /// When a failed charge ends the tier.
    pub grace_ends: Option<UnixMillis>,
}

impl BillingView {
    /// What is stored; `next_invoice` and `payment_method` are Stripe's.
    #[must_use]
    pub fn of(stored: &StoredBilling<'_>, held: &Holdings) -> Self {
        let StoredBilling { tier, tier_by, state, trial_used, grace_ends } = *stored;
        let live = state.filter(|state| state.status.is_live());
        let time = |at: fn(&BillingState) -> Option<UnixMillis>| live.and_then(at).map(UnixMillis::rfc3339);
        Self {
            tier,
            tier_by,
            plan: live.and_then(|state| state.plan),
            status: state.map(|state| state.status),
            trial_ends_at: time(|state| state.trial_end.filter(|_| state.status == SubscriptionStatus::Trialing)),
            trial_available: !trial_used,
            period_starts_at: time(|state| Some(state.period_start)),
            period_ends_at: time(|state| Some(state.period_end)),
            cancels_at: time(|state| state.cancel_at),
            next_plan: live.and_then(BillingState::waiting_plan),
            grace_ends_at: grace_ends.filter(|_| tier_by == TierBy::Billing).map(UnixMillis::rfc3339),
            next_invoice: None,
            payment_method: None,
            stripe_reached: false,
            beyond_plans: BeyondPlan::of_all(tier, held),
        }
    }
}

/// The answer of `POST /v1/admin/billing/check`: a part of all customers.
#[derive(Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct BillingChecked {
    /// How many tenants were compared.
    pub checked: u64,
    /// Those of which the directory and Stripe differ.
    pub differences: Vec<BillingDifference>,
    /// What to send as `cursor` for the next part; `null` at the end.
    pub next_cursor: Option<String>,
}

/// A tenant of which the directory and Stripe differ.
#[derive(Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct BillingDifference {
    /// The tenant; `null` for a customer at Stripe that no tenant has.
    pub tenant: Option<String>,
    /// The customer at Stripe.
    pub customer: Option<String>,
    /// What differs, one sentence.
    pub detail: String,
}

/// The body of `POST /v1/admin/billing/check`.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct BillingCheckBody {
    /// `next_cursor` of the part before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 300)))]
    pub cursor: Option<String>,
}

/// Where a part of the check begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckCursor {
    /// After this tenant; empty for the first.
    Tenants(String),
    /// After this subscription, of all at Stripe; `None` for the first.
    Subscriptions(Option<String>),
}

impl CheckCursor {
    /// The cursor as a text.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Tenants(after) => after.clone(),
            Self::Subscriptions(after) => after.clone().unwrap_or_else(|| "sub_".to_owned()),
        }
    }
}

/// Where a body says that a part of the check begins.
///
/// # Errors
/// `INVALID_JSON`, `INVALID_REQUEST` naming the member.
pub fn check_cursor(body: &[u8]) -> Result<CheckCursor, Fault> {
    match parse_body::<BillingCheckBody>(body)?.cursor {
        None => Ok(CheckCursor::Tenants(String::new())),
        Some(text) if text == "sub_" => Ok(CheckCursor::Subscriptions(None)),
        Some(text) if is_stripe_id(&text, "sub_") => Ok(CheckCursor::Subscriptions(Some(text))),
        Some(text) if x402_chain::id::TenantId::parse(&text).is_some() => Ok(CheckCursor::Tenants(text)),
        Some(_) => Err(invalid("cursor", "must be the next_cursor of a part of this check")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use x402_core::error::ErrorCode;

    #[test]
    fn only_what_is_sold_can_be_wanted() {
        let sold: Vec<_> = x402_core::billing::paid_plans().map(|plan| plan.tier).collect();
        for tier in &sold {
            assert_eq!(wanted_plan(format!(r#"{{"plan":"{}"}}"#, tier.plan().name).as_bytes()), Ok(*tier));
        }
        assert_eq!(sold, [SoldPlan::Starter, SoldPlan::Pro, SoldPlan::Enterprise].map(SoldPlan::tier));
        for wrong in [r#"{"plan":"free"}"#, r#"{"plan":"PRO"}"#, "{}", r#"{"plan":"pro","at":"now"}"#] {
            let fault = wanted_plan(wrong.as_bytes()).expect_err(wrong);
            assert_eq!(fault.code, ErrorCode::InvalidRequest, "{wrong}");
            assert!(!fault.detail.contains("'free'"), "{}", fault.detail);
        }
        assert_eq!(wanted_end(br#"{"at":"period_end"}"#), Ok(CancelAt::PeriodEnd));
        assert!(wanted_end(br#"{"at":"later"}"#).is_err());
        assert_eq!(previewed_plan("a=b"), Ok(None));
        assert_eq!(previewed_plan("plan=pro"), Ok(Some(Tier::Pro)));
        assert!(previewed_plan("plan=free").is_err());
    }

    #[test]
    fn what_is_beyond_a_plan_is_named_for_each_smaller_one() {
        let held = Holdings {
            chains: vec!["base".to_owned(), "polygon".to_owned()],
            webhook_endpoints: 2,
            branding: true,
            oidc: false,
        };
        let all = BeyondPlan::of_all(Tier::Pro, &held);
        let plans: Vec<_> = all.iter().map(|beyond| beyond.plan).collect();
        assert_eq!(plans, [Tier::Free, Tier::Starter]);
        let of = |at: usize| all.get(at).expect("one");
        assert_eq!((of(0).webhook_endpoints, of(1).webhook_endpoints), (2, 0));
        assert_eq!(of(1).chains, ["polygon"]);
        assert!(of(1).branding && !of(1).oidc);
        // After a downgrade the present plan is among them.
        assert!(BeyondPlan::of_all(Tier::Free, &held).iter().any(|beyond| beyond.plan == Tier::Free));
    }

    #[test]
    fn a_check_goes_on_where_it_was() {
        let of = |text: &str| check_cursor(text.as_bytes());
        assert_eq!(of("{}"), Ok(CheckCursor::Tenants(String::new())));
        for cursor in [CheckCursor::Subscriptions(None), CheckCursor::Subscriptions(Some("sub_1".to_owned()))] {
            assert_eq!(of(&format!(r#"{{"cursor":"{}"}}"#, cursor.text())), Ok(cursor));
        }
        assert!(of(r#"{"cursor":"x"}"#).is_err());
    }
}

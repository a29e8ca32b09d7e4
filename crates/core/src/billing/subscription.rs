//! A subscription as Stripe's API answers it (version [`super::STRIPE_VERSION`]).

use super::parse_paid_tier;
use crate::error::{ErrorCode, Fault};
use crate::tenancy::tier::Tier;
use serde::{Deserialize, Serialize};
use x402_chain::time::{UnixMillis, UnixSeconds};

/// Declares [`SubscriptionStatus`] from its rows: variant, name at Stripe, documentation.
macro_rules! statuses {
    ($($variant:ident $name:literal $doc:literal;)+) => {
        /// The status of a subscription, as Stripe names it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
        pub enum SubscriptionStatus {
            $(#[doc = $doc] #[serde(rename = $name)] $variant,)+
        }

        impl SubscriptionStatus {
            /// All.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name at Stripe and in JSON.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

statuses! {
    Trialing "trialing" "In its trial; nothing was charged.";
    Active "active" "Paid.";
    PastDue "past_due" "A charge failed, and Stripe tries again.";
    Unpaid "unpaid" "All charges of a period failed; Stripe tries no more.";
    Paused "paused" "The trial ended without a card.";
    Incomplete "incomplete" "The first charge has not succeeded.";
    IncompleteExpired "incomplete_expired" "The first charge did not succeed within a day.";
    Canceled "canceled" "It has ended.";
}

impl SubscriptionStatus {
    /// How much of a subscription it is: of several the one with the most is kept, then the newest. 0: it has ended, or has
    /// never begun.
    #[must_use]
    pub const fn weight(self) -> u8 {
        match self {
            Self::Trialing | Self::Active => 3,
            Self::PastDue => 2,
            Self::Unpaid | Self::Paused => 1,
            Self::Incomplete | Self::IncompleteExpired | Self::Canceled => 0,
        }
    }

    /// Whether the subscription goes on: it is paid for, or may be again.
    #[must_use]
    pub const fn is_live(self) -> bool {
        self.weight() > 0
    }
}

/// A subscription, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// `sub_…`.
    pub id: String,
    /// Its status.
    pub status: SubscriptionStatus,
    /// When it was made.
    pub created: UnixMillis,
    /// The item that is changed with the plan: `si_…`.
    pub item: String,
    /// Its price: `price_…`.
    pub price: String,
    /// The tier that the price is of; `None` for a price that is not ours.
    pub tier: Option<Tier>,
    /// The end of its trial, also one that is over.
    pub trial_end: Option<UnixMillis>,
    /// The period that is paid for, or tried: start and end.
    pub period: (UnixMillis, UnixMillis),
    /// When it ends, if that was asked for.
    pub cancel_at: Option<UnixMillis>,
    /// The schedule that it follows, and the tier from the end of the period on.
    pub schedule: Option<(String, Option<Tier>)>,
    /// Its last invoice: `in_…`.
    pub latest_invoice: Option<String>,
    /// Whether it ends because the tenant is being deleted, and nobody has asked for its end.
    pub ends_by_deletion: bool,
}

/// An object that may be given by its id alone.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrId<T> {
    Id(String),
    One(T),
}

#[derive(Deserialize)]
struct RawMetadata {
    #[serde(default)]
    tier: Option<String>,
    #[serde(default)]
    x402_deletion: Option<String>,
}

#[derive(Deserialize)]
struct RawPrice {
    id: String,
    #[serde(default)]
    metadata: Option<RawMetadata>,
}

#[derive(Deserialize)]
struct RawItem {
    id: String,
    price: RawPrice,
    current_period_start: UnixSeconds,
    current_period_end: UnixSeconds,
}

#[derive(Deserialize)]
struct RawItems {
    data: Vec<RawItem>,
}

#[derive(Deserialize)]
struct RawSchedule {
    id: String,
    #[serde(default)]
    metadata: Option<RawMetadata>,
}

#[derive(Deserialize)]
struct RawInvoice {
    id: String,
}

#[derive(Deserialize)]
struct RawSubscription {
    id: String,
    status: SubscriptionStatus,
    created: UnixSeconds,
    #[serde(default)]
    cancel_at_period_end: bool,
    cancel_at: Option<UnixSeconds>,
    trial_end: Option<UnixSeconds>,
    schedule: Option<OneOrId<RawSchedule>>,
    items: RawItems,
    latest_invoice: Option<OneOrId<RawInvoice>>,
    #[serde(default)]
    metadata: Option<RawMetadata>,
}

fn tier_of(metadata: Option<&RawMetadata>) -> Option<Tier> {
    metadata.and_then(|all| all.tier.as_deref()).and_then(parse_paid_tier)
}

impl RawItems {
    /// The item of a plan of ours, or the first: an operator may have added what is none.
    fn plan(self) -> Option<RawItem> {
        let is_plan = |item: &RawItem| tier_of(item.price.metadata.as_ref()).is_some();
        let at = self.data.iter().position(is_plan).unwrap_or_default();
        self.data.into_iter().nth(at)
    }
}

impl RawSubscription {
    fn read(self) -> Result<Subscription, Fault> {
        let item = self.items.plan().ok_or_else(|| unreadable("a subscription without items"))?;
        let period = (item.current_period_start.millis(), item.current_period_end.millis());
        let at_end = self.cancel_at_period_end.then_some(period.1);
        let mark = self.metadata.and_then(|all| all.x402_deletion);
        Ok(Subscription {
            id: self.id,
            status: self.status,
            created: self.created.millis(),
            item: item.id,
            price: item.price.id,
            tier: tier_of(item.price.metadata.as_ref()),
            trial_end: self.trial_end.map(UnixSeconds::millis),
            period,
            cancel_at: self.cancel_at.map(UnixSeconds::millis).or(at_end),
            schedule: self.schedule.map(|schedule| match schedule {
                OneOrId::Id(id) => (id, None),
                OneOrId::One(one) => (one.id, tier_of(one.metadata.as_ref())),
            }),
            latest_invoice: self.latest_invoice.map(|invoice| match invoice {
                OneOrId::Id(id) | OneOrId::One(RawInvoice { id }) => id,
            }),
            ends_by_deletion: mark.is_some_and(|mark| !mark.is_empty()),
        })
    }
}

/// Stripe answered in a form that this build does not read.
#[must_use]
pub fn unreadable(what: &str) -> Fault {
    let detail = "Stripe's answer could not be read: try again later";
    Fault::new(ErrorCode::UpstreamUnavailable, detail).after(60).because(what)
}

#[derive(Deserialize)]
struct RawList {
    data: Vec<RawSubscription>,
    #[serde(default)]
    has_more: bool,
}

/// A page of a list of subscriptions, and whether there are more. Those without items, which nothing of ours makes, are an
/// error: to leave one out could take a plan away that was paid for.
///
/// # Errors
/// `UPSTREAM_UNAVAILABLE` where it is of another form.
pub fn read_page(body: &[u8]) -> Result<(Vec<Subscription>, bool), Fault> {
    let list: RawList =
        serde_json::from_slice(body).map_err(|error| unreadable("a list of subscriptions").because_json(&error))?;
    let all = list.data.into_iter().map(RawSubscription::read).collect::<Result<_, _>>()?;
    Ok((all, list.has_more))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// A subscription as Stripe answers it.
    pub(crate) fn raw(id: &str, status: &str, tier: &str) -> Value {
        json!({
            "id": id, "object": "subscription", "status": status, "created": 1_795_910_400, "cancel_at": null,
            "cancel_at_period_end": false, "trial_end": null, "schedule": null, "latest_invoice": "in_1",
            "items": {"object": "list", "data": [{
                "id": "si_1", "current_period_start": 1_795_910_400, "current_period_end": 1_798_502_400,
                "price": {"id": format!("price_{tier}"), "metadata": {"tier": tier}}
            }]}
        })
    }

    pub(crate) fn one(raw: &Value) -> Subscription {
        let page = json!({"object": "list", "data": [raw], "has_more": false});
        read_page(page.to_string().as_bytes()).expect("a page").0.remove(0)
    }

    #[test]
    fn a_subscription_is_read_with_its_plan() {
        let read = one(&raw("sub_1", "active", "pro"));
        assert_eq!((read.status, read.tier), (SubscriptionStatus::Active, Some(Tier::Pro)));
        assert_eq!(read.period.1.since(read.period.0), 30 * x402_chain::time::DAY_MS);
        assert_eq!((read.cancel_at, read.schedule, read.latest_invoice.as_deref()), (None, None, Some("in_1")));
    }

    #[test]
    fn an_end_and_a_schedule_are_read() {
        let mut body = raw("sub_1", "trialing", "gold");
        body["cancel_at_period_end"] = json!(true);
        body["schedule"] = json!({"id": "sub_sched_1", "metadata": {"tier": "starter"}});
        body["latest_invoice"] = json!({"id": "in_2"});
        let read = one(&body);
        assert_eq!(read.tier, None, "a price of somebody else");
        assert_eq!(read.cancel_at, Some(read.period.1));
        assert_eq!(read.schedule, Some(("sub_sched_1".to_owned(), Some(Tier::Starter))));
        assert_eq!(read.latest_invoice.as_deref(), Some("in_2"));
        body["schedule"] = json!("sub_sched_1");
        assert_eq!(one(&body).schedule, Some(("sub_sched_1".to_owned(), None)));
    }

    #[test]
    fn the_item_of_a_plan_counts_and_not_one_beside_it() {
        let mut body = raw("sub_1", "active", "pro");
        let other = json!({"id": "si_0", "current_period_start": 1, "current_period_end": 2,
            "price": {"id": "price_support", "metadata": {}}});
        body["items"]["data"].as_array_mut().expect("items").insert(0, other);
        let read = one(&body);
        assert_eq!((read.item.as_str(), read.tier), ("si_1", Some(Tier::Pro)));
        body["items"]["data"][1]["price"]["metadata"] = json!({});
        assert_eq!(one(&body).item, "si_0", "none is of a plan: the first");
    }

    #[test]
    fn an_end_by_a_deletion_is_told_from_one_that_was_asked_for() {
        let mut body = raw("sub_1", "active", "pro");
        body["cancel_at_period_end"] = json!(true);
        for (metadata, marked) in [
            (json!({"tenant": "ten_1"}), false),
            (json!({"x402_deletion": ""}), false),
            (json!({"x402_deletion": "true"}), true),
        ] {
            body["metadata"] = metadata;
            assert_eq!(one(&body).ends_by_deletion, marked);
        }
    }

    #[test]
    fn another_form_is_an_error() {
        let page = |data: Value| json!({"data": [data], "has_more": true}).to_string();
        assert!(read_page(page(raw("sub_1", "active", "pro")).as_bytes()).expect("a page").1);
        for wrong in [json!({}), raw("sub_1", "resting", "pro"), {
            let mut none = raw("sub_1", "active", "pro");
            none["items"]["data"] = json!([]);
            none
        }] {
            let fault = read_page(page(wrong).as_bytes()).expect_err("another form");
            assert_eq!(fault.code, ErrorCode::UpstreamUnavailable);
        }
    }

    #[test]
    fn statuses_have_the_names_of_stripe() {
        for status in SubscriptionStatus::ALL {
            assert_eq!(serde_json::to_value(status).expect("JSON"), status.name());
        }
    }
}

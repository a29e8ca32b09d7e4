//! The requests to Stripe's API: what each sends, as a form.

pub mod upkeep;

use super::{TRIAL_DAYS, lookup_key};
use crate::tenancy::tier::Tier;
use x402_chain::id::TenantId;
use x402_chain::time::UnixMillis;

/// The method of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StripeMethod {
    /// Reads; the form is the query.
    Get,
    /// Writes; the form is the body.
    Post,
    /// Ends; the form is the query.
    Delete,
}

/// A request: method, path below `https://api.stripe.com`, form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StripeCall {
    /// The method.
    pub method: StripeMethod,
    /// The path, such as `/v1/customers`.
    pub path: String,
    /// Names and values, in order.
    pub form: Vec<(String, String)>,
}

impl StripeCall {
    fn new(method: StripeMethod, path: impl Into<String>, form: &[(&str, &str)]) -> Self {
        let form = form.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { method, path: path.into(), form }
    }

    fn get(path: impl Into<String>, form: &[(&str, &str)]) -> Self {
        Self::new(StripeMethod::Get, path, form)
    }

    pub(super) fn post(path: impl Into<String>, form: &[(&str, &str)]) -> Self {
        Self::new(StripeMethod::Post, path, form)
    }

    /// The form as `application/x-www-form-urlencoded`.
    #[must_use]
    pub fn encoded(&self) -> String {
        form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.form).finish()
    }

    /// The address below the origin, with the query of what is not posted.
    #[must_use]
    pub fn target(&self) -> String {
        match self.method {
            StripeMethod::Get | StripeMethod::Delete if !self.form.is_empty() => {
                format!("{}?{}", self.path, self.encoded())
            }
            StripeMethod::Get | StripeMethod::Delete | StripeMethod::Post => self.path.clone(),
        }
    }
}

/// Whether a text is an id of Stripe's: it goes into paths.
#[must_use]
pub fn is_stripe_id(text: &str, prefix: &str) -> bool {
    let is_word = |rest: &str| rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    text.len() <= 255 && text.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty() && is_word(rest))
}

/// Makes the customer of a tenant.
#[must_use]
pub fn create_customer(tenant: TenantId, email: &str, name: Option<&str>) -> StripeCall {
    let tenant = tenant.to_string();
    let mut form = vec![("email", email), ("metadata[tenant]", tenant.as_str())];
    form.extend(name.map(|name| ("name", name)));
    StripeCall::post("/v1/customers", &form)
}

/// Reads a customer, with the payment method that invoices are charged to.
#[must_use]
pub fn read_customer(customer: &str) -> StripeCall {
    StripeCall::get(format!("/v1/customers/{customer}"), &[("expand[0]", "invoice_settings.default_payment_method")])
}

/// Deletes a customer; Stripe ends all its subscriptions at once.
#[must_use]
pub fn delete_customer(customer: &str) -> StripeCall {
    StripeCall::new(StripeMethod::Delete, format!("/v1/customers/{customer}"), &[])
}

/// Lists the subscriptions of a customer, also those that have ended; those after an id.
#[must_use]
pub fn list_subscriptions(customer: &str, after: Option<&str>) -> StripeCall {
    let mut form = vec![("customer", customer), ("status", "all"), ("limit", "100"), ("expand[0]", "data.schedule")];
    form.extend(after.map(|id| ("starting_after", id)));
    StripeCall::get("/v1/subscriptions", &form)
}

/// Reads a subscription, with the payment method that it is charged to.
#[must_use]
pub fn read_subscription_card(subscription: &str) -> StripeCall {
    StripeCall::get(format!("/v1/subscriptions/{subscription}"), &[("expand[0]", "default_payment_method")])
}

/// Finds the price of a tier.
#[must_use]
pub fn find_price(tier: Tier) -> StripeCall {
    StripeCall::get("/v1/prices", &[("lookup_keys[0]", lookup_key(tier).as_str()), ("active", "true"), ("limit", "1")])
}

/// What a checkout is made of.
#[derive(Clone, Copy, Debug)]
pub struct Checkout<'a> {
    /// Whose it is.
    pub tenant: TenantId,
    /// The customer.
    pub customer: &'a str,
    /// The price.
    pub price: &'a str,
    /// Whether it begins with a trial.
    pub trial: bool,
    /// Where the browser goes after it.
    pub success_url: &'a str,
    /// Where it goes if the person leaves.
    pub cancel_url: &'a str,
    /// When it can no longer be paid.
    pub expires_at: UnixMillis,
    /// Whether Stripe computes taxes.
    pub tax: bool,
}

/// Makes a checkout session.
#[must_use]
pub fn create_checkout(of: &Checkout<'_>) -> StripeCall {
    let (tenant, days, expires) =
        (of.tenant.to_string(), TRIAL_DAYS.to_string(), of.expires_at.seconds().0.to_string());
    let mut form = vec![
        ("mode", "subscription"),
        ("customer", of.customer),
        ("client_reference_id", &tenant),
        ("line_items[0][price]", of.price),
        ("line_items[0][quantity]", "1"),
        ("subscription_data[metadata][tenant]", &tenant),
        ("payment_method_collection", "always"),
        ("allow_promotion_codes", "true"),
        ("success_url", of.success_url),
        ("cancel_url", of.cancel_url),
        ("expires_at", &expires),
    ];
    if of.trial {
        form.push(("subscription_data[trial_period_days]", &days));
        form.push(("subscription_data[trial_settings][end_behavior][missing_payment_method]", "cancel"));
    }
    if of.tax {
        form.extend([("automatic_tax[enabled]", "true"), ("customer_update[address]", "auto")]);
    }
    let mut call = StripeCall::post("/v1/checkout/sessions", &form);
    call.form.extend(super::methods::cards_alone());
    call
}

/// Lists the checkout sessions of a customer that can be paid, the newest hundred.
#[must_use]
pub fn list_open_checkouts(customer: &str) -> StripeCall {
    StripeCall::get("/v1/checkout/sessions", &[("customer", customer), ("status", "open"), ("limit", "100")])
}

/// Ends a checkout session that can be paid.
#[must_use]
pub fn expire_checkout(session: &str) -> StripeCall {
    StripeCall::post(format!("/v1/checkout/sessions/{session}/expire"), &[])
}

/// Lists how the billing portal is set up.
#[must_use]
pub fn list_portals() -> StripeCall {
    StripeCall::get("/v1/billing_portal/configurations", &[("active", "true"), ("limit", "100")])
}

/// Makes a session of the billing portal, as a configuration sets it up: without one Stripe refuses it where nobody has saved a
/// default in the dashboard.
#[must_use]
pub fn create_portal(customer: &str, return_url: &str, configuration: &str) -> StripeCall {
    let form = [("customer", customer), ("return_url", return_url), ("configuration", configuration)];
    StripeCall::post("/v1/billing_portal/sessions", &form)
}

/// Makes a session of the billing portal that confirms an upgrade: it asks for what the card's bank wants.
#[must_use]
pub fn create_portal_confirming(
    customer: &str,
    (return_url, configuration): (&str, &str),
    (subscription, item, price): (&str, &str, &str),
) -> StripeCall {
    let form = [
        ("customer", customer),
        ("return_url", return_url),
        ("configuration", configuration),
        ("flow_data[type]", "subscription_update_confirm"),
        ("flow_data[subscription_update_confirm][subscription]", subscription),
        ("flow_data[subscription_update_confirm][items][0][id]", item),
        ("flow_data[subscription_update_confirm][items][0][price]", price),
        ("flow_data[subscription_update_confirm][items][0][quantity]", "1"),
        // Else the page goes on to all that its configuration allows.
        ("flow_data[after_completion][type]", "redirect"),
        ("flow_data[after_completion][redirect][return_url]", return_url),
    ];
    StripeCall::post("/v1/billing_portal/sessions", &form)
}

/// Changes the plan of a subscription at once: the difference is charged at once, and nothing changes where that fails. In a
/// trial the difference is nothing; the same is sent there, since a trial may end while the request is on its way.
#[must_use]
pub fn change_plan(subscription: &str, item: &str, price: &str) -> StripeCall {
    let form = [
        ("items[0][id]", item),
        ("items[0][price]", price),
        ("proration_behavior", "always_invoice"),
        ("payment_behavior", "error_if_incomplete"),
    ];
    StripeCall::post(format!("/v1/subscriptions/{subscription}"), &form)
}

/// Reads a subscription with its newest invoice.
#[must_use]
pub fn read_latest_invoice(subscription: &str) -> StripeCall {
    StripeCall::get(format!("/v1/subscriptions/{subscription}"), &[("expand[0]", "latest_invoice")])
}

/// Makes a schedule of a subscription, whose first phase is the present period.
#[must_use]
pub fn create_schedule(subscription: &str) -> StripeCall {
    StripeCall::post("/v1/subscription_schedules", &[("from_subscription", subscription)])
}

/// Reads a schedule.
#[must_use]
pub fn read_schedule(schedule: &str) -> StripeCall {
    StripeCall::get(format!("/v1/subscription_schedules/{schedule}"), &[])
}

/// Lets a subscription go without its schedule.
#[must_use]
pub fn release_schedule(schedule: &str) -> StripeCall {
    StripeCall::post(format!("/v1/subscription_schedules/{schedule}/release"), &[])
}

/// Has a subscription end at the end of its period, or go on.
#[must_use]
pub fn cancel_at_period_end(subscription: &str, ends: bool) -> StripeCall {
    let ends = if ends { "true" } else { "false" };
    StripeCall::post(format!("/v1/subscriptions/{subscription}"), &[("cancel_at_period_end", ends)])
}

/// Ends a subscription at once.
#[must_use]
pub fn cancel_now(subscription: &str) -> StripeCall {
    StripeCall::new(StripeMethod::Delete, format!("/v1/subscriptions/{subscription}"), &[])
}

/// Resumes a subscription that is paused: a new period begins and is charged.
#[must_use]
pub fn resume(subscription: &str) -> StripeCall {
    StripeCall::post(format!("/v1/subscriptions/{subscription}/resume"), &[("billing_cycle_anchor[type]", "now")])
}

/// Lists the invoices of a customer, the newest first, those after an id.
#[must_use]
pub fn list_invoices(customer: &str, limit: u32, after: Option<&str>) -> StripeCall {
    let limit = limit.to_string();
    let mut form = vec![("customer", customer), ("limit", limit.as_str())];
    form.extend(after.map(|id| ("starting_after", id)));
    StripeCall::get("/v1/invoices", &form)
}

/// What a preview of an invoice is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Previewed<'a> {
    /// The next invoice, as things are.
    Next,
    /// The next invoice if an item has another price by then.
    NextAt(&'a str, &'a str),
    /// The invoice of an item's change to another price at this moment.
    AtOnce(&'a str, &'a str),
}

/// Previews an invoice of a subscription.
#[must_use]
pub fn preview_invoice(customer: &str, subscription: &str, of: Previewed<'_>) -> StripeCall {
    let mut form = vec![("customer", customer), ("subscription", subscription)];
    let change = match of {
        Previewed::Next => None,
        Previewed::NextAt(item, price) => Some((item, price, "none")),
        Previewed::AtOnce(item, price) => Some((item, price, "always_invoice")),
    };
    if let Some((item, price, behavior)) = change {
        form.extend([
            ("subscription_details[items][0][id]", item),
            ("subscription_details[items][0][price]", price),
            ("subscription_details[proration_behavior]", behavior),
        ]);
    }
    StripeCall::post("/v1/invoices/create_preview", &form)
}

/// Lists the payments of an invoice.
#[must_use]
pub fn list_invoice_payments(invoice: &str) -> StripeCall {
    StripeCall::get("/v1/invoice_payments", &[("invoice", invoice), ("status", "paid"), ("limit", "10")])
}

/// Gives a payment back.
#[must_use]
pub fn refund(payment_intent: &str) -> StripeCall {
    StripeCall::post("/v1/refunds", &[("payment_intent", payment_intent), ("reason", "duplicate")])
}

/// Lists events that were not delivered, since a time, those after an id.
#[must_use]
pub fn list_undelivered_events(since: UnixMillis, after: Option<&str>) -> StripeCall {
    let since = since.seconds().0.to_string();
    let mut form = vec![("delivery_success", "false"), ("created[gte]", since.as_str()), ("limit", "100")];
    form.extend(after.map(|id| ("starting_after", id)));
    StripeCall::get("/v1/events", &form)
}

/// Lists subscriptions that go on, of all customers, those after an id.
#[must_use]
pub fn list_all_subscriptions(after: Option<&str>) -> StripeCall {
    let mut form = vec![("limit", "100")];
    form.extend(after.map(|id| ("starting_after", id)));
    StripeCall::get("/v1/subscriptions", &form)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENANT: TenantId = TenantId([7; 12]);

    #[test]
    fn a_form_is_a_body_or_a_query() {
        let call = create_customer(TENANT, "ann+x@x.test", None);
        assert_eq!(call.target(), "/v1/customers");
        assert_eq!(call.encoded(), format!("email=ann%2Bx%40x.test&metadata%5Btenant%5D={TENANT}"));
        assert_eq!(
            create_customer(TENANT, "a@x.test", Some("A & B")).form.last().map(|last| last.1.as_str()),
            Some("A & B")
        );
        let list = list_subscriptions("cus_1", Some("sub_9"));
        let query = "customer=cus_1&status=all&limit=100&expand%5B0%5D=data.schedule&starting_after=sub_9";
        assert_eq!(list.target(), format!("/v1/subscriptions?{query}"));
        assert_eq!(cancel_now("sub_1").target(), "/v1/subscriptions/sub_1");
    }

    #[test]
    fn a_trial_and_taxes_are_asked_for_where_they_are_wanted() {
        let of = |trial, tax| {
            create_checkout(&Checkout {
                tenant: TENANT,
                customer: "cus_1",
                price: "price_1",
                trial,
                success_url: "https://x.test/a",
                cancel_url: "https://x.test/b",
                expires_at: UnixMillis(1_795_910_400_999),
                tax,
            })
            .form
        };
        let names = |form: &[(String, String)]| form.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        assert_eq!(of(true, true).len(), of(false, false).len() + 4);
        assert!(names(&of(true, false)).contains(&"subscription_data[trial_period_days]".to_owned()));
        assert!(!names(&of(false, true)).iter().any(|name| name.contains("trial")));
        assert!(of(false, false).contains(&("expires_at".to_owned(), "1795910400".to_owned())));
    }

    #[test]
    fn ids_are_words_behind_their_prefix() {
        assert!(is_stripe_id("sub_1AbC", "sub_") && is_stripe_id("cs_test_a1", "cs_"));
        for wrong in ["", "sub_", "sub_1/../x", "sub_1?a", "cus_1"] {
            assert!(!is_stripe_id(wrong, "sub_"), "{wrong}");
        }
        assert!(!is_stripe_id(&format!("sub_{}", "a".repeat(252)), "sub_"));
    }
}

//! The requests that keep Stripe in line with the tenant, which nobody makes on a page of Stripe's or by a route.

use super::StripeCall;

/// The mark of a subscription that ends because its tenant is being deleted, in its metadata: it is set and taken back with
/// the end itself, so that an end that the owner has asked for is never taken back.
pub const ENDS_BY_DELETION: &str = "x402_deletion";

/// Tells Stripe the address and the name of a customer. Stripe takes no empty name: who has none has the address in its place.
#[must_use]
pub fn update_customer(customer: &str, email: &str, name: Option<&str>) -> StripeCall {
    let form = [("email", email), ("name", name.unwrap_or(email))];
    StripeCall::post(format!("/v1/customers/{customer}"), &form)
}

/// Has a subscription end with its period because the tenant is being deleted, or takes that back.
#[must_use]
pub fn end_by_deletion(subscription: &str, ends: bool) -> StripeCall {
    let (ends, mark) = if ends { ("true", "true") } else { ("false", "") };
    let name = format!("metadata[{ENDS_BY_DELETION}]");
    let form = [("cancel_at_period_end", ends), (name.as_str(), mark)];
    StripeCall::post(format!("/v1/subscriptions/{subscription}"), &form)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_by_a_deletion_is_marked_and_taken_back_with_its_mark() {
        let form = |ends| end_by_deletion("sub_1", ends).encoded();
        assert_eq!(form(true), "cancel_at_period_end=true&metadata%5Bx402_deletion%5D=true");
        assert_eq!(form(false), "cancel_at_period_end=false&metadata%5Bx402_deletion%5D=");
        assert_eq!(update_customer("cus_1", "a@x.test", None).encoded(), "email=a%40x.test&name=a%40x.test");
    }
}

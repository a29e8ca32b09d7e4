//! The schedule by which a smaller plan waits for the end of the period. Stripe replaces the phases of a schedule as a whole:
//! what the present one has and the request leaves out is gone at once, such as a discount.

use super::answer::read;
use super::form::{StripeCall, is_stripe_id};
use super::state::BillingState;
use super::subscription::unreadable;
use crate::error::Fault;
use crate::tenancy::tier::Tier;
use serde::Deserialize;
use serde_json::Value;
use x402_chain::time::UnixSeconds;

/// From when until when a phase goes on.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Span {
    start_date: UnixSeconds,
    end_date: UnixSeconds,
}

/// A schedule of a subscription.
#[derive(Debug, Deserialize)]
pub struct Schedule {
    /// `sub_sched_…`.
    pub id: String,
    /// The phase that goes on, which cannot be moved.
    current_phase: Option<Span>,
    #[serde(default)]
    phases: Vec<Value>,
}

/// Reads a schedule.
///
/// # Errors
/// `UPSTREAM_UNAVAILABLE` where it is of another form.
pub fn read_schedule(body: &[u8]) -> Result<Schedule, Fault> {
    let schedule: Schedule = read(body, "a schedule")?;
    if is_stripe_id(&schedule.id, "sub_sched_") { Ok(schedule) } else { Err(unreadable("a schedule's id")) }
}

/// Has a schedule change the price at the end of the present period; a month later it is released. The present phase is said
/// again as it is. The tier is kept in the schedule's metadata, by which it is read back.
#[must_use]
pub fn plan_downgrade(schedule: &Schedule, state: &BillingState, price: &str, tier: Tier) -> StripeCall {
    let of_state = Span { start_date: state.period_start.seconds(), end_date: state.period_end.seconds() };
    let span = schedule.current_phase.unwrap_or(of_state);
    let starts = |phase: &&Value| phase.get("start_date").and_then(Value::as_u64) == Some(span.start_date.0);
    let present = schedule.phases.iter().find(starts).or_else(|| schedule.phases.first());
    let (start, end) = (span.start_date.0.to_string(), span.end_date.0.to_string());
    let form = [
        ("end_behavior", "release"),
        ("proration_behavior", "none"),
        ("metadata[tier]", tier.plan().name),
        ("phases[0][start_date]", &start),
        ("phases[0][end_date]", &end),
        ("phases[0][proration_behavior]", "none"),
        ("phases[1][duration][interval]", "month"),
        ("phases[1][duration][interval_count]", "1"),
        ("phases[1][proration_behavior]", "none"),
    ];
    let mut call = StripeCall::post(format!("/v1/subscription_schedules/{}", schedule.id), &form);
    call.form.extend(terms("phases[0]", present, (&state.price, None)));
    call.form.extend(terms("phases[1]", present, (&state.price, Some(price))));
    call
}

/// The id of an object, which may be given by it alone.
fn id(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("id").and_then(Value::as_str))
}

fn list<'a>(of: Option<&'a Value>, name: &str) -> &'a [Value] {
    of.and_then(|of| of.get(name)).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// What a phase is made of, as a form: the terms of the present one, the plan's price `from` replaced by `to`.
fn terms(at: &str, present: Option<&Value>, (from, to): (&str, Option<&str>)) -> Vec<(String, String)> {
    let items = list(present, "items");
    let price_of = |item: &Value| item.get("price").and_then(id).map(str::to_owned);
    // Somebody may have changed the plan a moment ago: then the first item is it.
    let plan = items.iter().position(|item| price_of(item).as_deref() == Some(from)).unwrap_or_default();
    let mut form = Vec::new();
    if items.is_empty() {
        form.push((format!("{at}[items][0][price]"), to.unwrap_or(from).to_owned()));
        form.push((format!("{at}[items][0][quantity]"), "1".to_owned()));
    }
    for (number, item) in items.iter().enumerate() {
        let at = format!("{at}[items][{number}]");
        let changed = to.filter(|_| number == plan).map(str::to_owned);
        form.extend(changed.or_else(|| price_of(item)).map(|price| (format!("{at}[price]"), price)));
        let quantity = item.get("quantity").and_then(Value::as_u64).unwrap_or(1);
        form.push((format!("{at}[quantity]"), quantity.to_string()));
        form.extend(discounts(&at, item));
        form.extend(ids(&at, "tax_rates", item));
    }
    let Some(present) = present else { return form };
    form.extend(discounts(at, present));
    form.extend(ids(at, "default_tax_rates", present));
    if present.pointer("/automatic_tax/enabled").and_then(Value::as_bool) == Some(true) {
        form.push((format!("{at}[automatic_tax][enabled]"), "true".to_owned()));
    }
    let method = present.get("default_payment_method").and_then(id);
    form.extend(method.map(|method| (format!("{at}[default_payment_method]"), method.to_owned())));
    form
}

/// The discounts of a phase or of an item of it: one that there is goes on until its own end, and does not begin anew.
fn discounts(at: &str, of: &Value) -> Vec<(String, String)> {
    let all = list(Some(of), "discounts").iter().filter_map(|one| {
        ["discount", "promotion_code", "coupon"].iter().find_map(|name| Some((*name, id(one.get(*name)?)?)))
    });
    let named =
        all.enumerate().map(|(number, (name, id))| (format!("{at}[discounts][{number}][{name}]"), id.to_owned()));
    named.collect()
}

fn ids(at: &str, name: &str, of: &Value) -> Vec<(String, String)> {
    let all = list(Some(of), name).iter().filter_map(id);
    all.enumerate().map(|(number, id)| (format!("{at}[{name}][{number}]"), id.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::super::subscription::tests::{one, raw};
    use super::*;
    use serde_json::json;

    fn state() -> BillingState {
        BillingState::from(&one(&raw("sub_1", "active", "pro")))
    }

    fn values(body: &Value) -> Vec<(String, String)> {
        let schedule = read_schedule(body.to_string().as_bytes()).expect("a schedule");
        plan_downgrade(&schedule, &state(), "price_b", Tier::Starter).form
    }

    #[track_caller]
    fn check(form: &[(String, String)], name: &str, want: Option<&str>) {
        let found = form.iter().find(|(each, _)| each == name).map(|(_, value)| value.as_str());
        assert_eq!(found, want, "{name}");
    }

    #[test]
    fn a_downgrade_has_two_phases() {
        let form = values(&json!({"id": "sub_sched_1", "current_phase": null}));
        for (name, want) in [
            ("phases[0][start_date]", "1795910400"),
            ("phases[0][end_date]", "1798502400"),
            ("phases[0][items][0][price]", "price_pro"),
            ("phases[1][items][0][price]", "price_b"),
            ("metadata[tier]", "starter"),
            ("end_behavior", "release"),
        ] {
            check(&form, name, Some(want));
        }
        assert!(read_schedule(br#"{"id":"sub_1","current_phase":null}"#).is_err());
    }

    #[test]
    fn the_present_phase_is_said_again_as_it_is() {
        let old = json!({"start_date": 1, "end_date": 5, "items": [{"price": "price_old"}]});
        let present = json!({"start_date": 5, "end_date": 9, "default_payment_method": "pm_1",
            "automatic_tax": {"enabled": true}, "default_tax_rates": [{"id": "txr_1"}],
            "discounts": [{"coupon": null, "discount": "di_1", "promotion_code": null}, {"coupon": {"id": "half"}}],
            "items": [{"price": "price_seat", "quantity": 3, "tax_rates": []},
                {"price": {"id": "price_pro"}, "quantity": 1, "discounts": [{"discount": {"id": "di_2"}}]}]});
        let form = values(&json!({"id": "sub_sched_1", "current_phase": {"start_date": 5, "end_date": 9},
            "phases": [old, present]}));
        for phase in ["phases[0]", "phases[1]"] {
            for (name, want) in [
                ("[items][0][price]", "price_seat"),
                ("[items][0][quantity]", "3"),
                ("[items][1][discounts][0][discount]", "di_2"),
                ("[discounts][0][discount]", "di_1"),
                ("[discounts][1][coupon]", "half"),
                ("[automatic_tax][enabled]", "true"),
                ("[default_payment_method]", "pm_1"),
                ("[default_tax_rates][0]", "txr_1"),
            ] {
                check(&form, &format!("{phase}{name}"), Some(want));
            }
        }
        check(&form, "phases[0][items][1][price]", Some("price_pro"));
        check(&form, "phases[1][items][1][price]", Some("price_b"));
        check(&form, "phases[0][start_date]", Some("5"));
        check(&form, "phases[2][start_date]", None);
    }

    #[test]
    fn a_plan_that_was_changed_a_moment_ago_is_not_put_back() {
        let present = json!({"start_date": 5, "end_date": 9, "items": [{"price": "price_larger", "quantity": 1}]});
        let form = values(&json!({"id": "sub_sched_1", "current_phase": {"start_date": 5, "end_date": 9},
            "phases": [present]}));
        check(&form, "phases[0][items][0][price]", Some("price_larger"));
        check(&form, "phases[1][items][0][price]", Some("price_b"));
    }
}

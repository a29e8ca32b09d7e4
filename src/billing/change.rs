//! Changes of a subscription that its tenant asks for. Each is read back: Stripe answers a request that it has answered before
//! by its old answer, without doing anything.

use super::operation::{NO_SUBSCRIPTION, Operation, OperationFault};
use super::portal::{latest_invoice, not_charged, portal_url, unpaid};
use super::{Author, Synced, sync};
use crate::app::App;
use crate::stripe::StripeFailure;
use x402_core::billing::answer::{OfStatus, StripeInvoice, read};
use x402_core::billing::change::Wanted;
use x402_core::billing::form;
use x402_core::billing::schedule::{plan_downgrade, read_schedule};
use x402_core::billing::state::{BillingState, PlanChange, is_served, plan_change};
use x402_core::billing::subscription::SubscriptionStatus;
use x402_core::error::{ErrorCode, Fault};
use x402_core::tenancy::tier::Tier;

/// There is no subscription that goes on.
pub(crate) fn no_subscription() -> Fault {
    Fault::new(ErrorCode::NoSubscription, NO_SUBSCRIPTION)
}

/// Makes a change, and reads back what has become of it.
///
/// # Errors
/// `NO_SUBSCRIPTION`, `SUBSCRIPTION_ENDING`, `PAYMENT_REQUIRED`, `BILLING_BUSY`, `MISCONFIGURED`, `UPSTREAM_UNAVAILABLE`; where
/// the directory fails.
pub(crate) async fn change(app: &App, author: Author<'_>, wanted: Wanted) -> Result<Synced, Fault> {
    let (name, of) = wanted.name();
    for _ in 0..2 {
        let operation = Operation::begin(app, (author.tenant(), author.now()), name, of).await?;
        let outcome = make(app, &operation, author, wanted).await;
        // Also where it has failed: a part of it may be done, and what is read afterwards is to say so.
        let read = match outcome.is_ok() || operation.has_sent() {
            true => sync(app, author).await,
            false => Ok(None),
        };
        let is_met = matches!(&read, Ok(Some(synced)) if wanted.is_met(synced.row.state.as_ref()));
        operation.end(outcome, is_met).await?;
        let synced = read?.ok_or_else(no_subscription)?;
        if is_met {
            return Ok(synced);
        }
        // Once more, under another number.
    }
    let detail = "Stripe says that the change is made, and does not show it: read the plan, and try again";
    Err(Fault::new(ErrorCode::UpstreamUnavailable, detail).after(5))
}

async fn make(app: &App, operation: &Operation<'_>, author: Author<'_>, wanted: Wanted) -> Result<(), OperationFault> {
    let synced = sync(app, author).await?.ok_or_else(no_subscription)?;
    let row = synced.row;
    let state = row.state.filter(|state| state.status.is_live()).ok_or_else(no_subscription)?;
    let customer = row.customer.ok_or_else(no_subscription)?;
    match wanted {
        Wanted::Plan(plan) => {
            if !is_served(&state, row.past_due_since, author.now()) {
                return Err(unpaid(app, &customer, (&state, None)).await?.into());
            }
            change_plan(app, operation, (&customer, &state), plan).await
        }
        Wanted::EndAtPeriod if state.cancel_at.is_some() => Ok(()),
        Wanted::EndAtPeriod => {
            release(operation, &state).await?;
            operation.send(&form::cancel_at_period_end(&state.subscription, true), "end").await?;
            Ok(())
        }
        Wanted::EndNow => {
            release(operation, &state).await?;
            match operation.send(&form::cancel_now(&state.subscription), "now").await {
                Ok(_) => Ok(()),
                // It has ended meanwhile.
                Err(failure) if failure.is_missing() => Ok(()),
                Err(failure) => Err(failure.into()),
            }
        }
        Wanted::GoOn => go_on(app, operation, (&customer, &state)).await,
    }
}

async fn release(operation: &Operation<'_>, state: &BillingState) -> Result<(), StripeFailure> {
    if let Some(schedule) = &state.schedule {
        operation.send(&form::release_schedule(schedule), &format!("release.{schedule}")).await?;
    }
    Ok(())
}

/// Whether a plan may be asked for: what ends is made neither smaller nor to go on by that.
///
/// # Errors
/// `SUBSCRIPTION_ENDING`.
pub(crate) fn check_going(state: &BillingState, plan: Tier, how: PlanChange) -> Result<(), Fault> {
    let goes_on = match how {
        PlanChange::Upgrade | PlanChange::InTrial => true,
        PlanChange::Nothing | PlanChange::Keep => state.plan != Some(plan),
        PlanChange::AtPeriodEnd => false,
    };
    if goes_on || state.cancel_at.is_none() {
        return Ok(());
    }
    let detail = "the subscription ends with its period: POST /v1/billing/resume lets it go on, then change it";
    Err(Fault::new(ErrorCode::SubscriptionEnding, detail))
}

async fn change_plan(
    app: &App,
    operation: &Operation<'_>,
    (customer, state): (&str, &BillingState),
    plan: Tier,
) -> Result<(), OperationFault> {
    let how = plan_change(state, plan);
    check_going(state, plan, how)?;
    match how {
        PlanChange::Nothing => {}
        PlanChange::Keep => release(operation, state).await?,
        PlanChange::InTrial => {
            let price = operation.price(plan).await?;
            charge(app, operation, (customer, state), &price).await?;
            release(operation, state).await?;
        }
        PlanChange::Upgrade => {
            let invoice = latest_invoice(app, state).await?;
            // What is left of a period is given back: it must have been paid.
            if state.status == SubscriptionStatus::PastDue || !invoice.as_ref().is_none_or(StripeInvoice::is_paid) {
                return Err(unpaid(app, customer, (state, invoice)).await?.into());
            }
            let price = operation.price(plan).await?;
            charge(app, operation, (customer, state), &price).await?;
            // It would undo the change at the end of the period. Not before the charge: it stays where that fails.
            release(operation, state).await?;
        }
        PlanChange::AtPeriodEnd => {
            let price = operation.price(plan).await?;
            plan_smaller(operation, state, (plan, &price)).await?;
        }
    }
    Ok(())
}

/// Changes the price at once, and charges the difference.
async fn charge(
    app: &App,
    operation: &Operation<'_>,
    (customer, state): (&str, &BillingState),
    price: &str,
) -> Result<(), OperationFault> {
    let call = form::change_plan(&state.subscription, &state.item, price);
    let answer = match operation.send(&call, "plan").await {
        // The refusal of a try that was broken off, perhaps of another card: it was not charged, and is tried again.
        Err(StripeFailure::Refused(402, _)) if operation.is_repeat => operation.send(&call, "plan.again").await,
        answer => answer,
    };
    match answer {
        Ok(_) => Ok(()),
        Err(StripeFailure::Refused(402, _)) => {
            operation.refused().await?;
            Err(not_charged(app, customer, (state, price)).await?.into())
        }
        Err(failure) => Err(failure.into()),
    }
}

/// Plans a smaller plan for the end of the period. Another that waits is replaced in its schedule, and not dropped first.
async fn plan_smaller(
    operation: &Operation<'_>,
    state: &BillingState,
    (plan, price): (Tier, &str),
) -> Result<(), OperationFault> {
    let waiting = state.schedule.as_deref().filter(|_| state.waiting_plan().is_some());
    let body = match waiting {
        Some(schedule) => operation.send(&form::read_schedule(schedule), "").await?,
        None => {
            release(operation, state).await?;
            // Its key is of what was released before: the same key would answer with the schedule that is released now.
            let part = format!("schedule.{}", state.schedule.as_deref().unwrap_or("first"));
            operation.send(&form::create_schedule(&state.subscription), &part).await?
        }
    };
    let schedule = read_schedule(&body)?;
    operation.send(&plan_downgrade(&schedule, state, price, plan), &format!("phases.{}", schedule.id)).await?;
    Ok(())
}

async fn go_on(
    app: &App,
    operation: &Operation<'_>,
    (customer, state): (&str, &BillingState),
) -> Result<(), OperationFault> {
    release(operation, state).await?;
    if state.cancel_at.is_some() {
        operation.send(&form::cancel_at_period_end(&state.subscription, false), "end").await?;
    }
    if state.status == SubscriptionStatus::Paused {
        let is_resumed = match operation.send(&form::resume(&state.subscription), "resume").await {
            // It stays paused until its invoice is paid.
            Ok(body) => read::<OfStatus>(&body, "a subscription")?.status != SubscriptionStatus::Paused,
            Err(StripeFailure::Refused(400 | 402, _)) => false,
            Err(failure) => return Err(failure.into()),
        };
        if !is_resumed {
            let detail = "the subscription is paused until its invoice is paid: pay it, or give a card, in the portal";
            let portal = portal_url(app, customer).await?;
            return Err(Fault::new(ErrorCode::PaymentRequired, detail).leading_to(portal).into());
        }
    }
    Ok(())
}

//! What is reported to Stripe of a tenant without a request for it: that its subscription ends with the tenant or with its period,
//! where the tenant is cancelled or being deleted, and which address and name its invoices have.

use super::{Author, Found};
use crate::app::App;
use crate::d1::billing::note_told;
use crate::d1::billing::rows::{BillingRow, StandingRow};
use crate::stripe::{Stripe, StripeFailure};
use crate::telemetry::{TelemetryField, TelemetryKind, event};
use sha2::{Digest, Sha256};
use x402_core::billing::answer::read_customer;
use x402_core::billing::form;
use x402_core::billing::form::upkeep::{end_by_deletion, update_customer};
use x402_core::billing::subscription::Subscription;
use x402_core::error::Fault;
use x402_core::tenancy::tenant::TenantStatus;

/// Ends subscriptions of a tenant that an operator has cancelled, has them end with their period while the tenant is being
/// deleted, and takes that back where the deletion was undone. Returns whether anything was changed at Stripe.
pub(super) async fn end_what_ends(
    app: &App,
    author: Author<'_>,
    (row, standing): (&BillingRow, &StandingRow),
    found: &Found,
) -> Result<bool, Fault> {
    let stripe = Stripe::of(app)?;
    let key = |part: &str, one: &Subscription| format!("{}:{part}.{}:{}", author.tenant(), one.id, row.ticket);
    let mut is_changed = false;
    for one in found.all.iter().filter(|one| one.status.is_live() && one.tier.is_some()) {
        let is_cancelled = standing.status == TenantStatus::Cancelled;
        let ends = standing.is_deleting && one.cancel_at.is_none();
        let goes_on = !standing.is_deleting && one.ends_by_deletion;
        if !is_cancelled && !ends && !goes_on {
            continue;
        }
        is_changed = true;
        // What follows a schedule is not ended but by it.
        if let Some((schedule, _)) = one.schedule.as_ref().filter(|_| is_cancelled || ends) {
            let call = form::release_schedule(schedule);
            match stripe.write(&call, &key("release", one)).await {
                // It has been released meanwhile.
                Ok(_) | Err(StripeFailure::Refused(400 | 404, _)) => {}
                Err(failure) => return Err(failure.into()),
            }
        }
        if is_cancelled {
            match stripe.read(&form::cancel_now(&one.id)).await {
                Ok(_) => {}
                Err(failure) if failure.is_missing() => {}
                Err(failure) => return Err(failure.into()),
            }
        } else {
            stripe.write(&end_by_deletion(&one.id, ends), &key("deletion", one)).await?;
        }
    }
    Ok(is_changed)
}

/// The hash of what is reported to Stripe of a customer: the address itself is kept in one place alone.
fn told(customer: &str, standing: &StandingRow) -> String {
    let text = format!("{customer}\n{}\n{}", standing.email, standing.company_name.as_deref().unwrap_or_default());
    hex::encode(Sha256::digest(text))
}

/// Reports the tenant's address and name to Stripe where they are others than the last that were. What the customer has changed in
/// the portal stays until the tenant's own changes.
pub(super) async fn tell_customer(
    app: &App,
    author: Author<'_>,
    (row, standing): (&BillingRow, &StandingRow),
    customer: &str,
) -> Result<(), Fault> {
    let told = told(customer, standing);
    // A tenant that is being deleted is about to lose its address.
    if standing.is_deleting || row.customer_told.as_ref() == Some(&told) {
        return Ok(());
    }
    let stripe = Stripe::of(app)?;
    let (email, name) = (standing.email.as_str(), standing.company_name.as_deref());
    let is_known = match row.customer_told {
        Some(_) => false,
        // Most customers were made a moment ago, of what the tenant has now.
        None => {
            let found = read_customer(&stripe.read(&form::read_customer(customer)).await?)?;
            found.is_deleted || (found.email.as_deref(), found.name.as_deref()) == (Some(email), name)
        }
    };
    if !is_known {
        let key = format!("{}:told.{customer}:{}", author.tenant(), row.read_ticket);
        match stripe.write(&update_customer(customer, email, name), &key).await {
            Ok(_) => {}
            // An address that Stripe does not take is not reported again.
            Err(failure @ StripeFailure::Refused(400 | 402 | 422, _)) => {
                event(TelemetryKind::BillingFailed, &[TelemetryField::Cause(&failure.into())]);
            }
            Err(failure) => return Err(failure.into()),
        }
    }
    note_told(&app.db()?, (author.tenant(), customer), &told).await
}

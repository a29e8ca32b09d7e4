//! Subscriptions beyond the one that counts: two checkouts were paid, in two tabs or before the first was known here. They are
//! cancelled, and what was paid for them is given back.

use super::{Author, notice, notice_of};
use crate::alerts::{self, operators};
use crate::app::App;
use crate::d1::billing::record;
use crate::stripe::{Stripe, StripeFailure};
use x402_chain::time::DAY_MS;
use x402_core::audit::AuditAction;
use x402_core::billing::answer::read_payment_intents;
use x402_core::billing::form;
use x402_core::billing::notice::{BillingNotice, paid_twice_text};
use x402_core::billing::state::BillingPicture;
use x402_core::billing::subscription::Subscription;
use x402_core::error::Fault;

/// A subscription that was made so shortly before the one that counts was paid for nothing: a checkout can be paid for an hour,
/// and an event may be late for a day.
const DUPLICATE_MS: u64 = 2 * DAY_MS;
/// The code for a payment that was given back before.
const REFUNDED_BEFORE: &str = "charge_already_refunded";

/// Ends all subscriptions beyond the one that counts.
pub(super) async fn end_all(
    app: &App,
    author: Author<'_>,
    (customer, ticket): (&str, u64),
    (all, picture): (&[Subscription], &BillingPicture),
) -> Result<(), Fault> {
    let Some(kept) = picture.state.as_ref().and_then(|state| all.iter().find(|one| one.id == state.subscription))
    else {
        return Ok(());
    };
    for surplus in &picture.surplus {
        let is_duplicate = kept.created.since(surplus.created).max(surplus.created.since(kept.created)) <= DUPLICATE_MS;
        end(app, author, (customer, ticket), (surplus, is_duplicate)).await?;
    }
    Ok(())
}

/// Gives back first, tells operators where nothing is given back, then cancels: a Worker that is killed between finds the
/// subscription again.
async fn end(
    app: &App,
    author: Author<'_>,
    (customer, ticket): (&str, u64),
    (surplus, is_duplicate): (&Subscription, bool),
) -> Result<(), Fault> {
    let stripe = Stripe::of(app)?;
    let refunds = is_duplicate && app.settings.refunds_duplicates();
    let mut refunded = 0_usize;
    if let (true, Some(invoice)) = (refunds, &surplus.latest_invoice) {
        for intent in read_payment_intents(&stripe.read(&form::list_invoice_payments(invoice)).await?)? {
            // A key of this read: Stripe keeps also a fault of its own for a key, and nothing is given back twice.
            match stripe.write(&form::refund(&intent), &format!("{}:refund:{intent}:{ticket}", author.tenant())).await {
                Ok(_) => {}
                Err(StripeFailure::Refused(_, error)) if error.code.as_deref() == Some(REFUNDED_BEFORE) => {}
                Err(failure) => return Err(failure.into()),
            }
            refunded = refunded.saturating_add(1);
        }
    }
    if !refunds {
        let invoice = surplus.latest_invoice.as_deref().unwrap_or("none");
        let text = format!(
            "Tenant {} has paid two subscriptions ({customer}): {} is cancelled. Look whether its last invoice, {invoice}, is \
             to be refunded.",
            author.tenant(),
            surplus.id
        );
        operators::tell(app, &text, author.now()).await?;
    }
    match stripe.read(&form::cancel_now(&surplus.id)).await {
        Ok(_) => {}
        // Somebody else has ended it.
        Err(failure) if failure.is_missing() => return Ok(()),
        Err(failure) => return Err(failure.into()),
    }
    let detail = if refunded > 0 { format!("{refunded} refunded") } else { "nothing refunded".to_owned() };
    let made = author.change(AuditAction::SubscriptionSurplus, &surplus.id)?.detail(detail);
    let db = app.db()?;
    let (text, posted, mails) = notice_of(app, &db, author, paid_twice_text(&surplus.id, refunded > 0)).await?;
    let new = notice(app, author.now(), (&text, posted, &mails))?;
    record(&db, &made, (BillingNotice::PaidTwice, &new)).await?;
    alerts::queue(app, &mails).await;
    Ok(())
}

//! Subscriptions beyond the one that counts: two checkouts were paid, in two tabs or before the first was known here. They are
//! cancelled, and what was paid for them is given back.

use super::{Author, Found, notice, notice_of};
use crate::alerts::{self, operators};
use crate::app::App;
use crate::d1::billing::record_surplus;
use crate::d1::billing::rows::BillingRow;
use crate::stripe::{Stripe, StripeFailure};
use x402_chain::time::DAY_MS;
use x402_core::audit::AuditAction;
use x402_core::billing::answer::read_payment_intents;
use x402_core::billing::form;
use x402_core::billing::notice::{SecondPayment, paid_twice_text};
use x402_core::billing::subscription::Subscription;
use x402_core::error::Fault;

/// A subscription that was made so shortly before the one that counts was paid for nothing: a checkout can be paid for an hour,
/// and an event may be late for a day.
const DUPLICATE_MS: u64 = 2 * DAY_MS;
/// The code for a payment that was given back before.
const REFUNDED_BEFORE: &str = "charge_already_refunded";

/// What is done about the payment of a second subscription.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Surplus {
    /// It is given back.
    Duplicate,
    /// Operators are asked whether it is given back.
    Asked,
    /// It was used, and operators get a message.
    Used,
}

/// Ends all subscriptions beyond the one that counts. One that cannot be ended keeps no other; the first fault is returned.
pub(super) async fn end_all(
    app: &App,
    author: Author<'_>,
    (customer, row): (&str, &BillingRow),
    found: &Found,
) -> Result<(), Fault> {
    let state = found.picture.state.as_ref();
    let Some(kept) = state.and_then(|state| found.all.iter().find(|one| one.id == state.subscription)) else {
        return Ok(());
    };
    let mut outcome = Ok(());
    for surplus in &found.picture.surplus {
        let is_duplicate = kept.created.since(surplus.created).max(surplus.created.since(kept.created)) <= DUPLICATE_MS;
        // A larger plan may have been bought to be used for the time until a smaller one is paid.
        let is_larger = surplus.tier > kept.tier;
        let kind = match (is_duplicate, is_larger || !app.settings.refunds_duplicates()) {
            (false, _) => Surplus::Used,
            (true, true) => Surplus::Asked,
            (true, false) => Surplus::Duplicate,
        };
        let ended = end(app, author, (customer, row), (surplus, kind)).await;
        outcome = outcome.and(ended);
    }
    outcome
}

/// Gives back first, then tells, then cancels: a Worker that is killed between finds the subscription again, and tells once.
async fn end(
    app: &App,
    author: Author<'_>,
    (customer, row): (&str, &BillingRow),
    (surplus, kind): (&Subscription, Surplus),
) -> Result<(), Fault> {
    let stripe = Stripe::of(app)?;
    let refunds = kind == Surplus::Duplicate;
    let (refunded, refused) =
        if refunds { refund(&stripe, author, row.read_ticket, surplus).await? } else { (0, None) };
    if row.surplus_told.as_ref() != Some(&surplus.id) {
        if !refunds || refused.is_some() {
            let invoice = surplus.latest_invoice.as_deref().unwrap_or("none");
            let why = refused.map_or(String::new(), |why| format!(" Stripe has refused to refund it: {why}."));
            let text = format!(
                "Tenant {} has paid two subscriptions ({customer}): {} is cancelled.{why} Look whether its last invoice, \
                 {invoice}, is to be refunded.",
                author.tenant(),
                surplus.id
            );
            operators::tell(app, &text, author.now()).await?;
        }
        let payment = match (refunded, kind) {
            (1.., _) => SecondPayment::Refunded,
            (0, Surplus::Duplicate | Surplus::Asked) => SecondPayment::Owed,
            (0, Surplus::Used) => SecondPayment::Used,
        };
        tell(app, author, surplus, (refunded, payment)).await?;
    }
    match stripe.read(&form::cancel_now(&surplus.id)).await {
        Ok(_) => Ok(()),
        // Somebody else has ended it.
        Err(failure) if failure.is_missing() => Ok(()),
        Err(failure) => Err(failure.into()),
    }
}

/// Gives back what was paid for a subscription; how many payments were, and why Stripe has refused one for good, as where the
/// bank disputes it: that keeps no subscription from its end.
async fn refund(
    stripe: &Stripe<'_>,
    author: Author<'_>,
    ticket: u64,
    surplus: &Subscription,
) -> Result<(usize, Option<String>), Fault> {
    let (mut refunded, mut refused) = (0_usize, None);
    let Some(invoice) = &surplus.latest_invoice else { return Ok((refunded, refused)) };
    for intent in read_payment_intents(&stripe.read(&form::list_invoice_payments(invoice)).await?)? {
        // A key of this read: Stripe keeps also a fault of its own for a key, and nothing is given back twice.
        match stripe.write(&form::refund(&intent), &format!("{}:refund:{intent}:{ticket}", author.tenant())).await {
            Ok(_) => refunded = refunded.saturating_add(1),
            Err(StripeFailure::Refused(_, error)) if error.code.as_deref() == Some(REFUNDED_BEFORE) => {
                refunded = refunded.saturating_add(1);
            }
            // The key is not accepted, which says nothing of the payment.
            Err(failure @ StripeFailure::Refused(401 | 403, _)) => return Err(failure.into()),
            Err(StripeFailure::Refused(_, error)) => refused = Some(error.words()),
            Err(failure) => return Err(failure.into()),
        }
    }
    Ok((refunded, refused))
}

/// Records that a subscription is ended, and tells owners.
async fn tell(
    app: &App,
    author: Author<'_>,
    surplus: &Subscription,
    (refunded, payment): (usize, SecondPayment),
) -> Result<(), Fault> {
    let detail = if refunded > 0 { format!("{refunded} refunded") } else { "nothing refunded".to_owned() };
    let made = author.change(AuditAction::SubscriptionSurplus, &surplus.id)?.detail(detail);
    let db = app.db()?;
    let (text, posted, mails) = notice_of(app, &db, author, paid_twice_text(&surplus.id, payment)).await?;
    let new = notice(app, author.now(), (&text, posted, &mails))?;
    if record_surplus(&db, &made, &new).await? {
        alerts::queue(app, &mails).await;
    }
    Ok(())
}

//! Pages of Stripe's billing portal, and of invoices. A session of the portal changes nothing, and is of use for some minutes:
//! each has a key of its own, so that Stripe never answers an old one.

use crate::app::{self, App};
use crate::stripe::{Stripe, StripeFailure};
use x402_core::billing::answer::{OfLatestInvoice, OfUrl, PortalUse, StripeInvoice, read, read_portal};
use x402_core::billing::form::{self, StripeCall};
use x402_core::billing::state::BillingState;
use x402_core::billing::subscription::unreadable;
use x402_core::error::{ErrorCode, Fault};

/// The address of a session.
///
/// # Errors
/// `UPSTREAM_UNAVAILABLE` where it is of another form.
pub(crate) fn url_of(body: &[u8], what: &str) -> Result<String, Fault> {
    let session: OfUrl = read(body, what)?;
    session.url.filter(|url| url.starts_with("https://")).ok_or_else(|| unreadable(what))
}

async fn configuration(stripe: &Stripe<'_>, of: PortalUse) -> Result<Option<String>, Fault> {
    read_portal(&stripe.read(&form::list_portals()).await?, of)
}

async fn open(stripe: &Stripe<'_>, call: &StripeCall) -> Result<Vec<u8>, StripeFailure> {
    stripe.write(call, &format!("portal:{}", app::request_id(app::now()))).await
}

/// A page with a customer's invoices and cards.
///
/// # Errors
/// `MISCONFIGURED`, `UPSTREAM_UNAVAILABLE`.
pub(crate) async fn portal_url(app: &App, customer: &str) -> Result<String, Fault> {
    let stripe = Stripe::of(app)?;
    let configuration = configuration(&stripe, PortalUse::Portal).await?.ok_or_else(|| {
        let detail = "billing is not set up: Stripe has no portal; `npm run stripe:setup` makes it";
        Fault::new(ErrorCode::Misconfigured, detail).after(60)
    })?;
    let call = form::create_portal(customer, &format!("{}/billing", app.origin), &configuration);
    url_of(&open(&stripe, &call).await?, "a portal session")
}

/// The card could not be charged for a price, and nothing has changed: where the person can confirm the change, or give another
/// card.
///
/// # Errors
/// `MISCONFIGURED`, `UPSTREAM_UNAVAILABLE`.
pub(super) async fn not_charged(
    app: &App,
    customer: &str,
    (state, price): (&BillingState, &str),
) -> Result<Fault, Fault> {
    let stripe = Stripe::of(app)?;
    let confirmed = match configuration(&stripe, PortalUse::Confirm).await? {
        Some(configuration) => {
            let of = (state.subscription.as_str(), state.item.as_str(), price);
            let return_url = format!("{}/billing", app.origin);
            let call = form::create_portal_confirming(customer, (&return_url, &configuration), of);
            match open(&stripe, &call).await {
                Ok(body) => Some(url_of(&body, "a portal session")?),
                Err(StripeFailure::Refused(..)) => None,
                Err(failure) => return Err(failure.into()),
            }
        }
        None => None,
    };
    let url = match confirmed {
        Some(url) => url,
        // Another card can be given all the same.
        None => portal_url(app, customer).await?,
    };
    let detail = "the card could not be charged: nothing has changed; confirm the change, or give another card";
    Ok(Fault::new(ErrorCode::PaymentRequired, detail).leading_to(url))
}

/// The newest invoice of a subscription.
///
/// # Errors
/// `UPSTREAM_UNAVAILABLE`.
pub(super) async fn latest_invoice(app: &App, state: &BillingState) -> Result<Option<StripeInvoice>, Fault> {
    let body = Stripe::of(app)?.read(&form::read_latest_invoice(&state.subscription)).await?;
    Ok(read::<OfLatestInvoice>(&body, "a subscription")?.latest_invoice)
}

/// The plan that there is is not paid: where it can be.
///
/// # Errors
/// `MISCONFIGURED`, `UPSTREAM_UNAVAILABLE`.
pub(crate) async fn unpaid(
    app: &App,
    customer: &str,
    (state, invoice): (&BillingState, Option<StripeInvoice>),
) -> Result<Fault, Fault> {
    let invoice = match invoice {
        Some(invoice) => Some(invoice),
        None => latest_invoice(app, state).await?,
    };
    let url = match invoice.as_ref().and_then(StripeInvoice::payable_at) {
        Some(url) => url.to_owned(),
        None => portal_url(app, customer).await?,
    };
    let detail = "the present plan is not paid: pay its invoice at action_url first. Stripe charges an invoice within some hours \
                  of the start of its period";
    Ok(Fault::new(ErrorCode::PaymentRequired, detail).leading_to(url))
}

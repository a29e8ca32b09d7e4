//! Changes at Stripe. One of a tenant is under way at a time; its number, which is stored before anything is sent, is a part of
//! its idempotency keys. A change that Stripe has not answered is repeated under the same number.

use crate::app::App;
use crate::d1::billing::{begin_operation, end_operation, note_checkout, read_billing};
use crate::stripe::{Stripe, StripeFailure};
use x402_chain::id::TenantId;
use x402_chain::time::UnixMillis;
use x402_core::billing::answer::{OfId, PortalUse, StripePage, read, read_portal};
use x402_core::billing::form;
use x402_core::billing::form::{StripeCall, StripeMethod, is_stripe_id};
use x402_core::error::{ErrorCode, Fault};
use x402_core::tenancy::tier::Tier;

/// What is said where nothing can be changed.
pub(crate) const NO_SUBSCRIPTION: &str =
    "the tenant has no subscription that goes on: POST /v1/billing/checkout begins one";

/// A change that is under way.
pub(crate) struct Operation<'a> {
    stripe: Stripe<'a>,
    app: &'a App,
    tenant: TenantId,
    name: &'static str,
    attempt: u64,
}

impl<'a> Operation<'a> {
    /// Begins a change of this name; `of` is what it is about, as the plan: a change of another is another change.
    ///
    /// # Errors
    /// `BILLING_BUSY`, `NO_SUBSCRIPTION`, `MISCONFIGURED`; where the directory fails.
    pub(crate) async fn begin(
        app: &'a App,
        (tenant, now): (TenantId, UnixMillis),
        name: &'static str,
        of: &str,
    ) -> Result<Operation<'a>, Fault> {
        let stripe = Stripe::of(app)?;
        let db = app.db()?;
        let Some(attempt) = begin_operation(&db, tenant, &format!("{name} {of}"), now).await? else {
            // A tenant that never had to do with Stripe has no row.
            let (code, detail) = match read_billing(&db, tenant).await? {
                Some(_) => {
                    (ErrorCode::BillingBusy, "another change of the billing is under way: try again in a moment")
                }
                None => (ErrorCode::NoSubscription, NO_SUBSCRIPTION),
            };
            return Err(Fault::new(code, detail));
        };
        Ok(Self { stripe, app, tenant, name, attempt })
    }

    /// Sends one of the change's requests; `part` tells it from its others.
    pub(crate) async fn send(&self, call: &StripeCall, part: &str) -> Result<Vec<u8>, StripeFailure> {
        match call.method {
            StripeMethod::Get | StripeMethod::Delete => self.stripe.read(call).await,
            StripeMethod::Post => {
                let key = format!("{}:{}.{part}:{}", self.tenant, self.name, self.attempt);
                self.stripe.write(call, &key).await
            }
        }
    }

    /// Ends the change with its outcome.
    pub(crate) async fn end<T>(self, outcome: Result<T, OperationFault>) -> Result<T, Fault> {
        let is_open = outcome.as_ref().is_err_and(|fault| fault.is_open);
        end_operation(&self.app.db()?, (self.tenant, self.attempt), is_open).await?;
        outcome.map_err(|fault| fault.fault)
    }
}

/// Why a change was not made.
pub(crate) struct OperationFault {
    fault: Fault,
    /// Whether Stripe has not answered.
    is_open: bool,
}

impl OperationFault {
    /// The fault, whether or not Stripe has answered.
    pub(crate) fn into_fault(self) -> Fault {
        self.fault
    }
}

impl From<Fault> for OperationFault {
    fn from(fault: Fault) -> Self {
        Self { fault, is_open: false }
    }
}

impl From<StripeFailure> for OperationFault {
    fn from(failure: StripeFailure) -> Self {
        Self { is_open: failure.is_open(), fault: failure.into() }
    }
}

/// The price of a tier at Stripe.
///
/// # Errors
/// `MISCONFIGURED` where there is none.
pub(crate) async fn price_of(stripe: &Stripe<'_>, tier: Tier) -> Result<String, OperationFault> {
    let page: StripePage<OfId> = read(&stripe.read(&form::find_price(tier)).await?, "prices")?;
    let price = page.data.into_iter().next().map(|price| price.id).filter(|id| is_stripe_id(id, "price_"));
    price.ok_or_else(|| {
        let detail = "billing is not set up: Stripe has no price for the plan; `npm run stripe:setup` makes it";
        Fault::new(ErrorCode::Misconfigured, detail).after(60).into()
    })
}

impl Operation<'_> {
    /// The configuration of the portal for a use; `None` where it was not made.
    pub(crate) async fn portal(&self, of: PortalUse) -> Result<Option<String>, OperationFault> {
        Ok(read_portal(&self.stripe.read(&form::list_portals()).await?, of)?)
    }

    /// The price of a tier at Stripe.
    pub(crate) async fn price(&self, tier: Tier) -> Result<String, OperationFault> {
        price_of(&self.stripe, tier).await
    }
}

/// Ends the checkouts of a customer that can still be paid: a subscription goes on, and a second one is not wanted.
///
/// # Errors
/// `UPSTREAM_UNAVAILABLE`; where the directory fails.
pub(super) async fn expire_checkouts(
    app: &App,
    tenant: TenantId,
    (customer, ticket): (&str, u64),
) -> Result<(), Fault> {
    let stripe = Stripe::of(app)?;
    let open: StripePage<OfId> = read(&stripe.read(&form::list_open_checkouts(customer)).await?, "checkouts")?;
    for session in open.data.into_iter().filter(|session| is_stripe_id(&session.id, "cs_")) {
        // A key of this read: Stripe keeps also a fault of its own for a key, and to end twice does no more.
        match stripe
            .write(&form::expire_checkout(&session.id), &format!("{tenant}:expire:{}:{ticket}", session.id))
            .await
        {
            // It was paid or has ended meanwhile.
            Ok(_) | Err(StripeFailure::Refused(..)) => {}
            Err(failure) => return Err(failure.into()),
        }
    }
    note_checkout(&app.db()?, tenant, UnixMillis(0)).await
}

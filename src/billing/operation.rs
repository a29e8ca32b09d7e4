//! Changes at Stripe. One of a tenant is under way at a time; its number, which is stored before anything is sent, is a part of
//! its idempotency keys. A change that Stripe has not answered is repeated under the same number.

use crate::app::App;
use crate::d1::billing::rows::Attempt;
use crate::d1::billing::{begin_operation, end_operation, note_checkout, read_billing};
use crate::stripe::{Stripe, StripeFailure};
use core::cell::Cell;
use futures_util::future::join_all;
use x402_chain::id::TenantId;
use x402_chain::time::UnixMillis;
use x402_core::billing::answer::{OfId, StripePage, read};
use x402_core::billing::form;
use x402_core::billing::form::{StripeCall, StripeMethod, is_stripe_id};
use x402_core::error::{ErrorCode, Fault};
use x402_core::tenancy::tier::Tier;

/// What is said where nothing can be changed.
pub(crate) const NO_SUBSCRIPTION: &str =
    "the tenant has no subscription that goes on: POST /v1/billing/checkout begins one";
const BUSY: &str =
    "another change of the billing is under way: try again in a moment, or a minute after one that was broken off";
/// A change takes some seconds.
const BUSY_AFTER_S: u64 = 5;
/// Pages of a hundred checkouts that are ended at a time.
const CHECKOUT_PAGES_MAX: usize = 5;
/// A Worker has six connections.
const EXPIRED_AT_ONCE: usize = 6;

/// A change that is under way.
pub(crate) struct Operation<'a> {
    stripe: Stripe<'a>,
    app: &'a App,
    tenant: TenantId,
    name: &'static str,
    attempt: u64,
    /// Whether the try before under this number was broken off.
    pub(super) is_repeat: bool,
    /// Whether anything was sent that writes.
    has_sent: Cell<bool>,
}

impl<'a> Operation<'a> {
    /// Begins a change of this name; `of` is what it is about, as the plan: a change of another is another change. What was read
    /// of the tenant's row before may have been changed by another since: read it again.
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
        let Some(Attempt { number, is_repeat }) = begin_operation(&db, tenant, &format!("{name} {of}"), now).await?
        else {
            // A tenant that never had to do with Stripe has no row.
            return Err(match read_billing(&db, tenant).await? {
                Some(_) => Fault::new(ErrorCode::BillingBusy, BUSY).after(BUSY_AFTER_S),
                None => Fault::new(ErrorCode::NoSubscription, NO_SUBSCRIPTION),
            });
        };
        Ok(Self { stripe, app, tenant, name, attempt: number, is_repeat, has_sent: Cell::new(false) })
    }

    /// Sends one of the change's requests; `part` tells it from its others.
    pub(crate) async fn send(&self, call: &StripeCall, part: &str) -> Result<Vec<u8>, StripeFailure> {
        match call.method {
            StripeMethod::Get => self.stripe.read(call).await,
            StripeMethod::Delete => {
                self.has_sent.set(true);
                self.stripe.read(call).await
            }
            StripeMethod::Post => {
                self.has_sent.set(true);
                let key = format!("{}:{}.{part}:{}", self.tenant, self.name, self.attempt);
                self.stripe.write(call, &key).await
            }
        }
    }

    /// Whether anything was sent that may have changed something.
    pub(super) fn has_sent(&self) -> bool {
        self.has_sent.get()
    }

    /// Stripe has refused the change: the same request again is another change. It is noted at once, since Stripe would repeat
    /// its refusal to the same key for a day.
    pub(super) async fn refused(&self) -> Result<(), Fault> {
        end_operation(&self.app.db()?, (self.tenant, self.attempt), false).await
    }

    /// Ends the change with its outcome. `is_done`: what was wanted was read back, whatever was answered.
    pub(crate) async fn end<T>(self, outcome: Result<T, OperationFault>, is_done: bool) -> Result<T, Fault> {
        // What was broken off before, and not taken up now, is still open.
        let untouched = self.is_repeat && !self.has_sent.get();
        let is_open = !is_done && outcome.as_ref().is_err_and(|fault| fault.is_open || untouched);
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
    /// The price of a tier at Stripe.
    pub(crate) async fn price(&self, tier: Tier) -> Result<String, OperationFault> {
        price_of(&self.stripe, tier).await
    }
}

/// Ends the checkouts of a customer that can still be paid: a subscription goes on, and a second one is not wanted. More than
/// [`CHECKOUT_PAGES_MAX`] pages of them are left to the next read.
///
/// # Errors
/// `UPSTREAM_UNAVAILABLE`; where the directory fails.
pub(super) async fn expire_checkouts(
    app: &App,
    tenant: TenantId,
    (customer, ticket): (&str, u64),
) -> Result<(), Fault> {
    let stripe = Stripe::of(app)?;
    let stripe = &stripe;
    let expire = |session: OfId| async move {
        // A key of this read: Stripe keeps also a fault of its own for a key, and to end twice does no more.
        let key = format!("{tenant}:expire:{}:{ticket}", session.id);
        match stripe.write(&form::expire_checkout(&session.id), &key).await {
            // It was paid or has ended meanwhile.
            Ok(_) | Err(StripeFailure::Refused(..)) => Ok(()),
            Err(failure) => Err(Fault::from(failure)),
        }
    };
    for _ in 0..CHECKOUT_PAGES_MAX {
        let open: StripePage<OfId> = read(&stripe.read(&form::list_open_checkouts(customer)).await?, "checkouts")?;
        let mut sessions = open.data.into_iter().filter(|session| is_stripe_id(&session.id, "cs_"));
        loop {
            let some: Vec<OfId> = sessions.by_ref().take(EXPIRED_AT_ONCE).collect();
            if some.is_empty() {
                break;
            }
            join_all(some.into_iter().map(expire)).await.into_iter().collect::<Result<(), Fault>>()?;
        }
        if !open.has_more {
            return note_checkout(&app.db()?, tenant, UnixMillis(0)).await;
        }
    }
    Ok(())
}

//! `/v1/billing`: the plan of a tenant. A change is made at Stripe, then read back: the answer says what Stripe says, and comes
//! when both ledgers hold the tier that follows.

use crate::app::App;
use crate::billing::change::{change as change_subscription, check_going, no_subscription};
use crate::billing::operation::{Operation, OperationFault, price_of};
use crate::billing::portal::{portal_url, unpaid, url_of};
use crate::billing::{Author, books, load_ledgers, sync};
use crate::d1;
use crate::d1::billing::rows::BillingRow;
use crate::d1::billing::{holdings, make_billing, note_checkout, put_customer, read_billing};
use crate::d1::deletions;
use crate::request::IncomingRequest;
use crate::stripe::{Stripe, StripeFailure};
use futures_util::future::join3;
use x402_api::ApiReply;
use x402_api::admin::TenantView;
use x402_api::billing::invoice::{InvoicePreview, InvoiceView, invoice_page};
use x402_api::billing::{
    BillingUrl, BillingView, CancelAt, StoredBilling, TierBy, check_cursor, previewed_plan, wanted_end, wanted_plan,
};
use x402_api::records::ListPage;
use x402_chain::id::TenantId;
use x402_chain::network::Environment;
use x402_chain::time::UnixMillis;
use x402_core::billing::answer::{
    OfId, PaymentCard, StripeInvoice, StripePage, read, read_customer, read_subscription_card,
};
use x402_core::billing::change::Wanted;
use x402_core::billing::form::{self, Checkout, Previewed, is_stripe_id};
use x402_core::billing::state::{BillingState, GRACE_MS, PlanChange, is_served, plan_change};
use x402_core::billing::subscription::{SubscriptionStatus, unreadable};
use x402_core::error::{ErrorCode, Fault};
use x402_core::tenancy::tier::Tier;

/// How long a checkout may be paid at least, and in what steps its end is set: Stripe takes 30 minutes to a day. A request that
/// is repeated because Stripe did not answer must be the same to the letter, its end too.
const CHECKOUT_MS: u64 = 45 * 60_000;
const CHECKOUT_STEP_MS: u64 = 15 * 60_000;

/// Checks that billing is set up, and that the tenant does not ask too often: each request becomes several at Stripe, which
/// takes a hundred a second of all tenants together.
async fn check_asked(app: &App, incoming: &IncomingRequest) -> Result<TenantId, Fault> {
    Stripe::set_up(app)?;
    let tenant = incoming.tenant()?;
    let Some(guard) = app.billing_guard() else { return Ok(tenant) };
    match guard.limit(tenant.to_string()).await {
        Ok(outcome) if !outcome.success => {
            let detail = "too many requests about the billing of this tenant within a minute";
            Err(Fault::new(ErrorCode::RateLimited, detail).after(60))
        }
        Ok(_) | Err(_) => Ok(tenant),
    }
}

/// Checks that a request may change the plan.
async fn check_change(app: &App, incoming: &IncomingRequest) -> Result<TenantId, Fault> {
    let tenant = check_asked(app, incoming).await?;
    if incoming.caller.is_some_and(|caller| caller.environment == Environment::Test) {
        let detail = "a test key cannot change what is paid: use a live key, or sign in";
        return Err(Fault::new(ErrorCode::EnvironmentMismatch, detail));
    }
    let deletion = deletions::read_deletion(&app.db()?, tenant).await?;
    deletion.map_or(Ok(()), |row| row.deletion.check_none())?;
    Ok(tenant)
}

async fn tenant_of(app: &App, tenant: TenantId) -> Result<TenantView, Fault> {
    Ok(d1::read_tenant(&app.db()?, tenant).await?.0)
}

fn check_sold(tenant: &TenantView) -> Result<(), Fault> {
    match tenant.tier_by {
        TierBy::Billing => Ok(()),
        TierBy::Operator => {
            let detail = "an operator has set the tier by hand: ask the operator to have it follow what is paid here";
            Err(Fault::new(ErrorCode::PlanByOperator, detail))
        }
    }
}

/// What is kept of a tenant that has to do with Stripe.
async fn stored(app: &App, tenant: TenantId) -> Result<BillingRow, Fault> {
    read_billing(&app.db()?, tenant).await?.ok_or_else(|| Fault::internal("a row of billing is gone"))
}

fn is_live(row: &BillingRow) -> bool {
    row.state.as_ref().is_some_and(|state| state.status.is_live())
}

/// Makes a change, and answers what is read back of it.
async fn changed(app: &App, incoming: &IncomingRequest, tenant: TenantId, wanted: Wanted) -> Result<ApiReply, Fault> {
    let author = Author::Request(incoming, tenant);
    let synced = change_subscription(app, author, wanted).await?;
    // An event about the change may have been quicker: another has written the tier then, and may not have had it loaded yet.
    let is_loaded = synced.is_loaded && load_ledgers(app, author).await.is_ok();
    check_loaded(is_loaded)?;
    answer(app, tenant, Some(synced.row), None).await
}

fn check_loaded(is_loaded: bool) -> Result<(), Fault> {
    if is_loaded {
        return Ok(());
    }
    let detail = "the plan is changed, but a ledger has not loaded the tier yet: it holds within minutes";
    Err(Fault::new(ErrorCode::ChangeNotLoaded, detail).after(1))
}

/// `GET /v1/billing`. Without Stripe's answer, what was read before.
pub(super) async fn read_plan(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let preview = previewed_plan(&incoming.query)?;
    let (tenant, db) = (check_asked(app, incoming).await?, app.db()?);
    let mut row = read_billing(&db, tenant).await?;
    // Who comes back from the page to pay on may be quicker than the event about it.
    let may_have_paid = |row: &BillingRow| row.checkout_until > incoming.now && !is_live(row);
    if row.as_ref().is_some_and(may_have_paid)
        && let Ok(Some(synced)) = sync(app, Author::System(tenant, incoming.now)).await
    {
        row = Some(synced.row);
    }
    answer(app, tenant, row, preview.map(|plan| (plan, incoming.now))).await
}

/// A plan that is asked for by name, and when.
type Asked = (Tier, UnixMillis);

async fn answer(
    app: &App,
    tenant: TenantId,
    row: Option<BillingRow>,
    preview: Option<Asked>,
) -> Result<ApiReply, Fault> {
    let held = holdings(&app.db()?, tenant).await?;
    let shown = tenant_of(app, tenant).await?;
    let state = row.as_ref().and_then(|row| row.state.as_ref());
    let stored = StoredBilling {
        tier: shown.tier,
        tier_by: shown.tier_by,
        state,
        trial_used: row.as_ref().is_some_and(|row| row.trial_used),
        grace_ends: row.as_ref().and_then(|row| row.past_due_since).map(|since| since.plus(GRACE_MS)),
    };
    let mut view = BillingView::of(&stored, &held);
    match ask_stripe(app, row.as_ref(), preview).await {
        Ok((invoice, card)) => {
            view.stripe_reached = true;
            view.next_invoice = invoice;
            view.payment_method = card.map(Into::into);
        }
        // What is asked for by name is not left out in silence.
        Err(fault) if preview.is_some() || fault.code == ErrorCode::Misconfigured => return Err(fault),
        Err(_) => {}
    }
    Ok(ApiReply::json(200, &view))
}

/// The next invoice and the payment method.
async fn ask_stripe(
    app: &App,
    row: Option<&BillingRow>,
    preview: Option<Asked>,
) -> Result<(Option<InvoicePreview>, Option<PaymentCard>), Fault> {
    let stripe = Stripe::of(app)?;
    let nothing = || if preview.is_some() { Err(no_subscription()) } else { Ok(None) };
    let Some((row, customer)) = row.and_then(|row| Some((row, row.customer.as_deref()?))) else {
        return Ok((nothing()?, None));
    };
    let of_customer = async { Ok(read_customer(&stripe.read(&form::read_customer(customer)).await?)?.card) };
    let Some(state) = row.state.as_ref().filter(|state| state.status.is_live()) else {
        return Ok((nothing()?, of_customer.await?));
    };
    let of_subscription =
        async { read_subscription_card(&stripe.read(&form::read_subscription_card(&state.subscription)).await?) };
    let of_invoice = preview_of(&stripe, customer, (state, row.past_due_since), preview);
    let (invoice, card, own) = join3(of_invoice, of_customer, of_subscription).await;
    let card: Result<Option<PaymentCard>, Fault> = card;
    Ok((invoice?, own?.or(card?)))
}

/// The next invoice, or what a change to a plan would cost: at once for a larger plan, with the next invoice otherwise.
async fn preview_of(
    stripe: &Stripe<'_>,
    customer: &str,
    (state, past_due_since): (&BillingState, Option<UnixMillis>),
    preview: Option<Asked>,
) -> Result<Option<InvoicePreview>, Fault> {
    let how = preview.map(|(plan, _)| plan_change(state, plan));
    if let (Some((plan, now)), Some(how)) = (preview, how) {
        let waits = how == PlanChange::Upgrade && state.status == SubscriptionStatus::PastDue;
        if waits || !is_served(state, past_due_since, now) {
            let detail = "the present plan is not paid: POST /v1/billing/portal leads to its invoice";
            return Err(Fault::new(ErrorCode::PaymentRequired, detail));
        }
        check_going(state, plan, how)?;
    }
    // What ends has no next invoice, and Stripe refuses to preview it.
    if how != Some(PlanChange::Upgrade) && state.cancel_at.is_some() {
        return Ok(None);
    }
    let price = match (preview, how) {
        (_, Some(PlanChange::Keep)) => Some(state.price.clone()),
        (None, _) | (_, None | Some(PlanChange::Nothing)) => None,
        (Some((plan, _)), Some(_)) => Some(price_of(stripe, plan).await.map_err(OperationFault::into_fault)?),
    };
    let of = match (how, price.as_deref()) {
        (Some(PlanChange::Upgrade), Some(price)) => Previewed::AtOnce(&state.item, price),
        (_, Some(price)) => Previewed::NextAt(&state.item, price),
        (_, None) => Previewed::Next,
    };
    // Nothing is made: a key that is of what is asked alone serves.
    let key = format!("preview:{}:{}", state.subscription, crate::app::request_id(crate::app::now()));
    let body = match stripe.preview(&form::preview_invoice(customer, &state.subscription, of), &key).await {
        Ok(body) => body,
        Err(StripeFailure::Refused(400 | 404, _)) if of == Previewed::Next => return Ok(None),
        Err(failure) => return Err(failure.into()),
    };
    let invoice: StripeInvoice = read(&body, "a preview of an invoice")?;
    let plan = preview.map(|(plan, _)| plan).or(state.waiting_plan()).or(state.plan);
    Ok(Some(InvoicePreview::of(&invoice, plan, how == Some(PlanChange::Upgrade))))
}

/// The tenant's customer at Stripe, made once. The row is read here, since the change has begun: another may have stored one.
async fn customer_of(
    app: &App,
    operation: &Operation<'_>,
    (tenant, id): (&TenantView, TenantId),
) -> Result<String, OperationFault> {
    if let Some(customer) = stored(app, id).await?.customer {
        return Ok(customer);
    }
    let call = form::create_customer(id, &tenant.email, tenant.company_name.as_deref());
    let made: OfId = read(&operation.send(&call, "customer").await?, "a customer")?;
    if !is_stripe_id(&made.id, "cus_") {
        return Err(unreadable("a customer's id").into());
    }
    let kept = put_customer(&app.db()?, id, &made.id).await?;
    if kept != made.id {
        // This change took so long that another has made one meanwhile. Nobody knows of this one, which holds an address.
        operation.send(&form::delete_customer(&made.id), "").await?;
    }
    Ok(kept)
}

/// `POST /v1/billing/checkout`: a page of Stripe's on which a plan is paid.
pub(super) async fn checkout(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let plan = wanted_plan(&incoming.body)?;
    let id = check_change(app, incoming).await?;
    let tenant = tenant_of(app, id).await?;
    check_sold(&tenant)?;
    make_billing(&app.db()?, id, incoming.now).await?;
    let expires_at =
        UnixMillis(incoming.now.0.div_ceil(CHECKOUT_STEP_MS).saturating_mul(CHECKOUT_STEP_MS)).plus(CHECKOUT_MS);
    let of = format!("{} {}", plan.plan().name, expires_at.0);
    let operation = Operation::begin(app, (id, incoming.now), "checkout", &of).await?;
    let outcome = begin_checkout(app, &operation, (&tenant, Author::Request(incoming, id)), (plan, expires_at)).await;
    let url = operation.end(outcome, false).await?;
    Ok(ApiReply::json(200, &BillingUrl { url }))
}

async fn begin_checkout(
    app: &App,
    operation: &Operation<'_>,
    (tenant, author): (&TenantView, Author<'_>),
    (plan, expires_at): (Tier, UnixMillis),
) -> Result<String, OperationFault> {
    // A checkout may have been paid a moment ago, in another tab.
    sync(app, author).await?;
    let row = stored(app, author.tenant()).await?;
    if let Some(state) = row.state.as_ref().filter(|_| is_live(&row)) {
        return Err(subscribed(app, &row, state, author.now()).await?.into());
    }
    let customer = customer_of(app, operation, (tenant, row.tenant)).await?;
    let price = operation.price(plan).await?;
    let (success_url, cancel_url) =
        (format!("{}/billing?checkout=done", app.origin), format!("{}/billing?checkout=left", app.origin));
    let checkout = Checkout {
        tenant: row.tenant,
        customer: &customer,
        price: &price,
        trial: !row.trial_used,
        success_url: &success_url,
        cancel_url: &cancel_url,
        expires_at,
        tax: app.settings.stripe_tax(),
    };
    // Before it can be paid: a subscription that is found ends the checkouts that are open.
    note_checkout(&app.db()?, row.tenant, expires_at).await?;
    Ok(url_of(&operation.send(&form::create_checkout(&checkout), "session").await?, "a checkout")?)
}

/// Why a tenant begins no subscription: it has one.
async fn subscribed(app: &App, row: &BillingRow, state: &BillingState, now: UnixMillis) -> Result<Fault, Fault> {
    let customer = row.customer.as_deref().filter(|_| !is_served(state, row.past_due_since, now));
    if let Some(customer) = customer {
        return unpaid(app, customer, (state, None)).await;
    }
    let detail = match state.cancel_at {
        Some(_) => {
            "the tenant has a subscription, which ends with its period: POST /v1/billing/resume lets it go on, POST \
             /v1/billing/change changes its plan then"
        }
        None => "the tenant has a subscription: POST /v1/billing/change changes its plan",
    };
    Ok(Fault::new(ErrorCode::SubscriptionExists, detail))
}

/// `POST /v1/billing/portal`: a page of Stripe's with invoices and payment methods. Only who has no customer yet begins a change.
pub(super) async fn portal(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let id = check_change(app, incoming).await?;
    let tenant = tenant_of(app, id).await?;
    make_billing(&app.db()?, id, incoming.now).await?;
    // The customer may have been deleted at Stripe.
    sync(app, Author::Request(incoming, id)).await?;
    let customer = match stored(app, id).await?.customer {
        Some(customer) => customer,
        None => {
            let operation = Operation::begin(app, (id, incoming.now), "portal", "").await?;
            let outcome = customer_of(app, &operation, (&tenant, id)).await;
            operation.end(outcome, false).await?
        }
    };
    Ok(ApiReply::json(200, &BillingUrl { url: portal_url(app, &customer).await? }))
}

/// `POST /v1/billing/change`: a larger plan at once, a smaller one at the end of the period.
pub(super) async fn change(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let plan = wanted_plan(&incoming.body)?;
    let id = check_change(app, incoming).await?;
    check_sold(&tenant_of(app, id).await?)?;
    changed(app, incoming, id, Wanted::Plan(plan)).await
}

/// `POST /v1/billing/cancel`.
pub(super) async fn cancel(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let wanted = match wanted_end(&incoming.body)? {
        CancelAt::PeriodEnd => Wanted::EndAtPeriod,
        CancelAt::Now => Wanted::EndNow,
    };
    let id = check_change(app, incoming).await?;
    changed(app, incoming, id, wanted).await
}

/// `POST /v1/billing/resume`: takes an end or a smaller plan that waits back, and resumes what is paused.
pub(super) async fn resume(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let id = check_change(app, incoming).await?;
    changed(app, incoming, id, Wanted::GoOn).await
}

/// `GET /v1/billing/invoices`.
pub(super) async fn list_invoices(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let (limit, after) = invoice_page(&incoming.query)?;
    let tenant = check_asked(app, incoming).await?;
    let stripe = Stripe::set_up(app)?;
    let row = read_billing(&app.db()?, tenant).await?;
    let Some(customer) = row.and_then(|row| row.customer) else {
        return Ok(ApiReply::json(200, &ListPage::<InvoiceView> { data: Vec::new(), next_cursor: None }));
    };
    let body = match stripe.read(&form::list_invoices(&customer, limit, after.as_deref())).await {
        Ok(body) => body,
        Err(failure) if failure.is_missing() && after.is_some() => {
            return Err(x402_api::body::invalid("cursor", "must be the next_cursor of a page of this list"));
        }
        Err(failure) => return Err(failure.into()),
    };
    let page: StripePage<StripeInvoice> = read(&body, "invoices")?;
    let data: Vec<InvoiceView> = page.data.into_iter().map(InvoiceView::from).collect();
    let next_cursor = data.last().filter(|_| page.has_more).map(|last| last.id.clone());
    Ok(ApiReply::json(200, &ListPage { data, next_cursor }))
}

/// `POST /v1/admin/billing/check`.
pub(super) async fn check(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let cursor = check_cursor(&incoming.body)?;
    // Also where no tenant pays: nothing was compared.
    Stripe::set_up(app)?;
    Ok(ApiReply::json(200, &books::check_part(app, &cursor, incoming.now).await?))
}

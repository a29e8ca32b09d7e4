//! `/v1/billing`: the plan of a tenant. A change is made at Stripe, then read back: the answer says what Stripe says, and comes
//! when both ledgers hold the tier that follows.

use crate::app::App;
use crate::billing::operation::{NO_SUBSCRIPTION, Operation, OperationFault, price_of};
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
use x402_api::billing::{
    BillingUrl, BillingView, CancelAt, InvoicePreview, InvoiceView, StoredBilling, TierBy, check_cursor, invoice_page,
    previewed_plan, wanted_end, wanted_plan,
};
use x402_api::records::ListPage;
use x402_chain::id::TenantId;
use x402_chain::network::Environment;
use x402_chain::time::UnixMillis;
use x402_core::billing::answer::{
    OfId, OfSchedule, OfStatus, OfUrl, PaymentCard, PortalUse, StripeInvoice, StripePage, read, read_customer,
    read_subscription_card,
};
use x402_core::billing::form::{self, Checkout, is_stripe_id};
use x402_core::billing::state::{BillingState, GRACE_MS, PlanChange, plan_change};
use x402_core::billing::subscription::{SubscriptionStatus, unreadable};
use x402_core::error::{ErrorCode, Fault};
use x402_core::tenancy::tier::Tier;

/// How long a checkout may be paid at least, and in what steps its end is set: Stripe takes 30 minutes to a day. A request that
/// is repeated because Stripe did not answer must be the same to the letter, its end too.
const CHECKOUT_MS: u64 = 45 * 60_000;
const CHECKOUT_STEP_MS: u64 = 15 * 60_000;

/// Checks that a request may change the plan, and that billing is set up.
async fn check_change(app: &App, incoming: &IncomingRequest) -> Result<TenantId, Fault> {
    Stripe::set_up(app)?;
    let tenant = incoming.tenant()?;
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

fn no_subscription() -> Fault {
    Fault::new(ErrorCode::NoSubscription, NO_SUBSCRIPTION)
}

/// The subscription that goes on, as Stripe says at this moment.
async fn live(app: &App, author: Author<'_>) -> Result<(String, BillingState), Fault> {
    let synced = sync(app, author).await?.ok_or_else(no_subscription)?;
    let state = synced.row.state.filter(|state| state.status.is_live()).ok_or_else(no_subscription)?;
    Ok((synced.row.customer.ok_or_else(no_subscription)?, state))
}

/// Reads back what a change has done, and answers it.
async fn answer_changed(app: &App, author: Author<'_>) -> Result<ApiReply, Fault> {
    let synced = sync(app, author).await?.ok_or_else(no_subscription)?;
    // An event about the change may have been quicker: another has written the tier then, and may not have had it loaded yet.
    let is_loaded = synced.is_loaded && load_ledgers(app, author).await.is_ok();
    check_loaded(is_loaded)?;
    answer(app, author.tenant(), None).await
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
    Stripe::set_up(app)?;
    answer(app, incoming.tenant()?, previewed_plan(&incoming.query)?).await
}

async fn answer(app: &App, tenant: TenantId, preview: Option<Tier>) -> Result<ApiReply, Fault> {
    let db = app.db()?;
    let (row, held) = (read_billing(&db, tenant).await?, holdings(&db, tenant).await?);
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
    let customer = row.as_ref().and_then(|row| row.customer.as_deref());
    match ask_stripe(app, customer, state, preview).await {
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
    customer: Option<&str>,
    state: Option<&BillingState>,
    preview: Option<Tier>,
) -> Result<(Option<InvoicePreview>, Option<PaymentCard>), Fault> {
    let stripe = Stripe::of(app)?;
    let Some(customer) = customer else {
        return match preview {
            Some(_) => Err(no_subscription()),
            None => Ok((None, None)),
        };
    };
    let live = state.filter(|state| state.status.is_live());
    let of_customer = async { Ok(read_customer(&stripe.read(&form::read_customer(customer)).await?)?.card) };
    let Some(state) = live else {
        return if preview.is_some() { Err(no_subscription()) } else { Ok((None, of_customer.await?)) };
    };
    let of_subscription =
        async { read_subscription_card(&stripe.read(&form::read_subscription_card(&state.subscription)).await?) };
    let (invoice, card, own) = join3(preview_of(&stripe, customer, state, preview), of_customer, of_subscription).await;
    let card: Result<Option<PaymentCard>, Fault> = card;
    Ok((invoice?, own?.or(card?)))
}

async fn preview_of(
    stripe: &Stripe<'_>,
    customer: &str,
    state: &BillingState,
    preview: Option<Tier>,
) -> Result<Option<InvoicePreview>, Fault> {
    // What ends has no next invoice, and Stripe refuses to preview it.
    if preview.is_none() && state.cancel_at.is_some() {
        return Ok(None);
    }
    let price = match preview {
        Some(tier) => Some(price_of(stripe, tier).await.map_err(OperationFault::into_fault)?),
        None => None,
    };
    let change = price.as_deref().map(|price| (state.item.as_str(), price));
    let call = form::preview_invoice(customer, &state.subscription, change);
    // Nothing is made: a key that is of what is asked alone serves.
    let key = format!("preview:{}:{}", state.subscription, crate::app::request_id(crate::app::now()));
    let body = match stripe.preview(&call, &key).await {
        Ok(body) => body,
        Err(StripeFailure::Refused(400 | 404, _)) if preview.is_none() => return Ok(None),
        Err(failure) => return Err(failure.into()),
    };
    let invoice: StripeInvoice = read(&body, "a preview of an invoice")?;
    Ok(Some(InvoicePreview::of(&invoice, preview.or(state.next_plan).or(state.plan), preview.is_some())))
}

/// The tenant's customer at Stripe, made once.
async fn customer_of(
    app: &App,
    operation: &Operation<'_>,
    tenant: &TenantView,
    row: &BillingRow,
) -> Result<String, OperationFault> {
    if let Some(customer) = &row.customer {
        return Ok(customer.clone());
    }
    let call = form::create_customer(row.tenant, &tenant.email, tenant.company_name.as_deref());
    let made: OfId = read(&operation.send(&call, "customer").await?, "a customer")?;
    if !is_stripe_id(&made.id, "cus_") {
        return Err(unreadable("a customer's id").into());
    }
    put_customer(&app.db()?, row.tenant, &made.id).await?;
    Ok(made.id)
}

fn url_of(body: &[u8], what: &str) -> Result<String, Fault> {
    let session: OfUrl = read(body, what)?;
    session.url.filter(|url| url.starts_with("https://")).ok_or_else(|| unreadable(what))
}

/// `POST /v1/billing/checkout`: a page of Stripe's on which a plan is paid.
pub(super) async fn checkout(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let plan = wanted_plan(&incoming.body)?;
    let (id, db) = (check_change(app, incoming).await?, app.db()?);
    let author = Author::Request(incoming, id);
    let tenant = tenant_of(app, id).await?;
    check_sold(&tenant)?;
    make_billing(&db, id, incoming.now).await?;
    // A checkout may have been paid a moment ago, in another tab.
    sync(app, author).await?;
    let row = read_billing(&db, id).await?.ok_or_else(|| Fault::internal("a row of billing is gone"))?;
    if row.state.as_ref().is_some_and(|state| state.status.is_live()) {
        let detail = "the tenant has a subscription: POST /v1/billing/change changes its plan";
        return Err(Fault::new(ErrorCode::SubscriptionExists, detail));
    }
    let expires_at =
        UnixMillis(incoming.now.0.div_ceil(CHECKOUT_STEP_MS).saturating_mul(CHECKOUT_STEP_MS)).plus(CHECKOUT_MS);
    let of = format!("{} {}", plan.plan().name, expires_at.0);
    let operation = Operation::begin(app, (id, incoming.now), "checkout", &of).await?;
    let outcome = begin_checkout(app, &operation, (&tenant, &row), (plan, expires_at)).await;
    let url = operation.end(outcome).await?;
    Ok(ApiReply::json(200, &BillingUrl { url }))
}

async fn begin_checkout(
    app: &App,
    operation: &Operation<'_>,
    (tenant, row): (&TenantView, &BillingRow),
    (plan, expires_at): (Tier, UnixMillis),
) -> Result<String, OperationFault> {
    let customer = customer_of(app, operation, tenant, row).await?;
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

/// `POST /v1/billing/portal`: a page of Stripe's with invoices and payment methods.
pub(super) async fn portal(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let (id, db) = (check_change(app, incoming).await?, app.db()?);
    let tenant = tenant_of(app, id).await?;
    make_billing(&db, id, incoming.now).await?;
    // The customer may have been deleted at Stripe.
    sync(app, Author::Request(incoming, id)).await?;
    let row = read_billing(&db, id).await?.ok_or_else(|| Fault::internal("a row of billing is gone"))?;
    let operation = Operation::begin(app, (id, incoming.now), "portal", "").await?;
    let outcome = async {
        let customer = customer_of(app, &operation, &tenant, &row).await?;
        portal_url(app, &operation, &customer).await
    }
    .await;
    let url = operation.end(outcome).await?;
    Ok(ApiReply::json(200, &BillingUrl { url }))
}

/// `POST /v1/billing/change`: a larger plan at once, a smaller one at the end of the period.
pub(super) async fn change(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let plan = wanted_plan(&incoming.body)?;
    let id = check_change(app, incoming).await?;
    let author = Author::Request(incoming, id);
    check_sold(&tenant_of(app, id).await?)?;
    let operation = Operation::begin(app, (id, incoming.now), "change", plan.plan().name).await?;
    let outcome = change_plan(app, &operation, author, plan).await;
    operation.end(outcome).await?;
    answer_changed(app, author).await
}

async fn change_plan(
    app: &App,
    operation: &Operation<'_>,
    author: Author<'_>,
    plan: Tier,
) -> Result<(), OperationFault> {
    let (customer, state) = live(app, author).await?;
    let is_paid =
        matches!(state.status, SubscriptionStatus::Trialing | SubscriptionStatus::Active | SubscriptionStatus::PastDue);
    if !is_paid {
        let detail = "the subscription is not paid: pay its invoice in the portal first";
        let portal = portal_url(app, operation, &customer).await?;
        return Err(Fault::new(ErrorCode::PaymentRequired, detail).leading_to(portal).into());
    }
    let how = plan_change(&state, plan);
    if state.cancel_at.is_some() && how == PlanChange::AtPeriodEnd {
        let detail = "the subscription ends with its period: POST /v1/billing/resume lets it go on, then change it";
        return Err(Fault::new(ErrorCode::SubscriptionEnding, detail).into());
    }
    if how == PlanChange::Nothing {
        return Ok(());
    }
    let price = operation.price(plan).await?;
    // A schedule would undo the change at the end of the period.
    if let Some(schedule) = &state.schedule {
        operation.send(&form::release_schedule(schedule), &format!("release.{schedule}")).await?;
    }
    let subscription = state.subscription.as_str();
    match how {
        PlanChange::Nothing | PlanChange::Keep => {}
        PlanChange::InTrial => {
            operation.send(&form::change_plan(subscription, &state.item, &price, false), "plan").await?;
        }
        PlanChange::Upgrade => {
            let call = form::change_plan(subscription, &state.item, &price, true);
            match operation.send(&call, "plan").await {
                Ok(_) => {}
                Err(StripeFailure::Refused(402, _)) => {
                    return Err(not_charged(app, operation, &customer, (&state, &price)).await?.into());
                }
                Err(failure) => return Err(failure.into()),
            }
        }
        PlanChange::AtPeriodEnd => {
            // Its key is of what was released before: the same key would answer with the schedule that is released now.
            let part = format!("schedule.{}", state.schedule.as_deref().unwrap_or("first"));
            let made = operation.send(&form::create_schedule(subscription), &part).await?;
            let schedule: OfSchedule = read(&made, "a schedule")?;
            if !is_stripe_id(&schedule.id, "sub_sched_") {
                return Err(unreadable("a schedule's id").into());
            }
            let phase = schedule.current_phase.map(|phase| (phase.start_date.millis(), phase.end_date.millis()));
            let period = phase.unwrap_or((state.period_start, state.period_end));
            let call = form::plan_downgrade(&schedule.id, (&state.price, &price), plan, period);
            operation.send(&call, &format!("phases.{}", schedule.id)).await?;
        }
    }
    Ok(())
}

async fn portal_url(app: &App, operation: &Operation<'_>, customer: &str) -> Result<String, OperationFault> {
    let configuration = operation.portal(PortalUse::Portal).await?.ok_or_else(|| {
        let detail = "billing is not set up: Stripe has no portal; `npm run stripe:setup` makes it";
        Fault::new(ErrorCode::Misconfigured, detail).after(60)
    })?;
    let call = form::create_portal(customer, &format!("{}/billing", app.origin), &configuration);
    Ok(url_of(&operation.send(&call, "portal").await?, "a portal session")?)
}

/// The card could not be charged, and nothing has changed: where the person can confirm the change, or give another card.
async fn not_charged(
    app: &App,
    operation: &Operation<'_>,
    customer: &str,
    (state, price): (&BillingState, &str),
) -> Result<Fault, OperationFault> {
    let confirmed = match operation.portal(PortalUse::Confirm).await? {
        Some(configuration) => {
            let of = (state.subscription.as_str(), state.item.as_str(), price);
            let return_url = format!("{}/billing", app.origin);
            let call = form::create_portal_confirming(customer, (&return_url, &configuration), of);
            match operation.send(&call, "confirm").await {
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
        None => portal_url(app, operation, customer).await?,
    };
    let detail = "the card could not be charged: nothing has changed; confirm the change, or give another card";
    Ok(Fault::new(ErrorCode::PaymentRequired, detail).leading_to(url))
}

/// `POST /v1/billing/cancel`.
pub(super) async fn cancel(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let at = wanted_end(&incoming.body)?;
    let id = check_change(app, incoming).await?;
    let author = Author::Request(incoming, id);
    let name = match at {
        CancelAt::PeriodEnd => "period_end",
        CancelAt::Now => "now",
    };
    let operation = Operation::begin(app, (id, incoming.now), "cancel", name).await?;
    let outcome = end_subscription(app, &operation, author, at).await;
    operation.end(outcome).await?;
    answer_changed(app, author).await
}

async fn end_subscription(
    app: &App,
    operation: &Operation<'_>,
    author: Author<'_>,
    at: CancelAt,
) -> Result<(), OperationFault> {
    let (_, state) = live(app, author).await?;
    if at == CancelAt::PeriodEnd && state.cancel_at.is_some() {
        return Ok(());
    }
    if let Some(schedule) = &state.schedule {
        operation.send(&form::release_schedule(schedule), &format!("release.{schedule}")).await?;
    }
    match at {
        CancelAt::PeriodEnd => {
            operation.send(&form::cancel_at_period_end(&state.subscription, true), "end").await?;
        }
        CancelAt::Now => match operation.send(&form::cancel_now(&state.subscription), "now").await {
            Ok(_) => {}
            // It has ended meanwhile.
            Err(failure) if failure.is_missing() => {}
            Err(failure) => return Err(failure.into()),
        },
    }
    Ok(())
}

/// `POST /v1/billing/resume`: takes an end or a smaller plan that waits back, and resumes what is paused.
pub(super) async fn resume(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let id = check_change(app, incoming).await?;
    let author = Author::Request(incoming, id);
    let operation = Operation::begin(app, (id, incoming.now), "resume", "").await?;
    let outcome = go_on(app, &operation, author).await;
    operation.end(outcome).await?;
    answer_changed(app, author).await
}

async fn go_on(app: &App, operation: &Operation<'_>, author: Author<'_>) -> Result<(), OperationFault> {
    let (customer, state) = live(app, author).await?;
    if let Some(schedule) = &state.schedule {
        operation.send(&form::release_schedule(schedule), &format!("release.{schedule}")).await?;
    }
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
            let portal = portal_url(app, operation, &customer).await?;
            return Err(Fault::new(ErrorCode::PaymentRequired, detail).leading_to(portal).into());
        }
    }
    Ok(())
}

/// `GET /v1/billing/invoices`.
pub(super) async fn list_invoices(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let (limit, after) = invoice_page(&incoming.query)?;
    let stripe = Stripe::set_up(app)?;
    let row = read_billing(&app.db()?, incoming.tenant()?).await?;
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

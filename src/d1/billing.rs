//! Billing in the directory. What a read of Stripe has found is written in one batch with the tier that follows, their entries
//! in the audit log, and the mails about them.

#[allow(unreachable_pub, reason = "public natively, for tests")]
pub mod rows;
#[allow(unreachable_pub, reason = "public natively, for tests")]
pub mod sql;

use super::alerts::NewNotice;
use super::change::Change;
use super::{BoundValue, all, batch, result_of, rows_of, statement};
use rows::{Attempt, BilledTenant, BillingRow, DueRow, HeldCustomer, StandingRow, UnknownPriceRow, UnpaidTierRow};
use worker::{D1Database, D1PreparedStatement};
use x402_api::billing::Holdings;
use x402_chain::id::TenantId;
use x402_chain::time::{DAY_MS, UnixMillis};
use x402_core::billing::notice::BillingNotice;
use x402_core::billing::state::BillingState;
use x402_core::error::Fault;
use x402_core::tenancy::tier::Tier;

/// How long a change at Stripe keeps others of the tenant away.
const BUSY_MS: u64 = 60_000;
/// How long a change that Stripe has not answered is repeated under its number: Stripe keeps an answer for 24 hours.
const REPEATED_MS: u64 = 23 * 60 * 60_000;
/// How long events of Stripe are remembered: it sends one again for three days.
const EVENTS_KEPT_MS: u64 = 30 * DAY_MS;

/// A tenant's row; `None` where it never had to do with Stripe.
pub(crate) async fn read_billing(db: &D1Database, tenant: TenantId) -> Result<Option<BillingRow>, Fault> {
    Ok(all(db, sql::BILLING_GET, &[BoundValue::Text(&tenant.to_string())]).await?.into_iter().next())
}

/// The row of the tenant that has a customer.
pub(crate) async fn billing_of(db: &D1Database, customer: &str) -> Result<Option<BillingRow>, Fault> {
    Ok(all(db, sql::BILLING_OF, &[BoundValue::Text(customer)]).await?.into_iter().next())
}

/// Makes a tenant's row, once.
pub(crate) async fn make_billing(db: &D1Database, tenant: TenantId, now: UnixMillis) -> Result<(), Fault> {
    let bind = [BoundValue::Text(&tenant.to_string()), BoundValue::Ms(now)];
    result_of(statement(db, sql::BILLING_MAKE, &bind)?).await.map(|_| ())
}

/// Numbers a read of Stripe that begins; the row with its number. `None` where the tenant has none.
pub(crate) async fn begin_read(db: &D1Database, tenant: TenantId) -> Result<Option<BillingRow>, Fault> {
    Ok(all(db, sql::BILLING_TICKET, &[BoundValue::Text(&tenant.to_string())]).await?.into_iter().next())
}

/// Gives a tenant its customer, if it has none; the one that it has.
pub(crate) async fn put_customer(db: &D1Database, tenant: TenantId, customer: &str) -> Result<String, Fault> {
    let bind = [BoundValue::Text(customer), BoundValue::Text(&tenant.to_string())];
    let kept = all(db, sql::BILLING_CUSTOMER, &bind).await?.into_iter().next();
    kept.map(|kept| kept.0).ok_or_else(|| Fault::internal("a row of billing is gone"))
}

fn time(at: Option<UnixMillis>) -> BoundValue<'static> {
    at.map_or(BoundValue::Maybe(None), BoundValue::Ms)
}

/// What a read of Stripe has found.
pub(crate) struct BillingFound<'a> {
    /// The number of the read.
    pub(crate) ticket: u64,
    pub(crate) state: Option<&'a BillingState>,
    pub(crate) trial_used: bool,
    pub(crate) is_past_due: bool,
    /// When something is due by time.
    pub(crate) due_at: Option<UnixMillis>,
    pub(crate) unknown_price: Option<&'a str>,
    /// The customer, if it was deleted at Stripe.
    pub(crate) deleted: Option<&'a str>,
}

/// The tier that follows, with what is recorded of it and the notice about it.
pub(crate) struct TierFound<'a> {
    pub(crate) tier: Tier,
    pub(crate) made: &'a Change,
    pub(crate) notice: NewNotice<'a>,
}

/// The statements of a notice about billing, which is written where the statement before them in the batch has changed a row.
fn notice_statements(
    db: &D1Database,
    (tenant, kind): (&str, BillingNotice),
    new: &NewNotice<'_>,
) -> Result<Vec<D1PreparedStatement>, Fault> {
    let id = new.id.to_string();
    let [notice, tenant, kind, text] = [&id, tenant, kind.name(), new.text].map(BoundValue::Text);
    let bind = [notice, tenant, kind, text, BoundValue::Ms(new.at), new.due()];
    let mut statements = vec![statement(db, sql::BILLING_NOTICE_PUT, &bind)?];
    statements.extend(new.mails(db)?);
    Ok(statements)
}

/// The statements of a tier that follows from the read of a number, if that is still the one that was written last.
fn tier_statements(
    db: &D1Database,
    (tenant, ticket): (&str, u64),
    TierFound { tier, made, notice }: &TierFound<'_>,
) -> Result<Vec<D1PreparedStatement>, Fault> {
    let bind = [
        BoundValue::Text(tenant),
        BoundValue::Text(tier.plan().name),
        BoundValue::Ms(made.at),
        BoundValue::Number(ticket),
    ];
    let mut statements = vec![statement(db, sql::TIER_FOLLOWS, &bind)?];
    statements.extend(made.statements(db)?);
    statements.extend(notice_statements(db, (tenant, BillingNotice::PlanChanged), notice)?);
    Ok(statements)
}

/// Writes the tier that follows by time from the read of a number, unless another was written. Returns whether it was changed.
pub(crate) async fn put_tier(db: &D1Database, ticket: u64, tier: &TierFound<'_>) -> Result<bool, Fault> {
    let tenant = tier.made.tenant.to_string();
    let results = batch(db, tier_statements(db, (&tenant, ticket), tier)?).await?;
    let changed = results.first().map(|result| rows_of(sql::TIER_FOLLOWS, result)).transpose()?;
    Ok(changed.is_some_and(|rows| !rows.is_empty()))
}

/// Writes what a read of Stripe has found, unless a later one was written; `made` is recorded where the state is another. Returns
/// whether the tier was changed.
pub(crate) async fn put_found(
    db: &D1Database,
    found: &BillingFound<'_>,
    made: &Change,
    tier: Option<&TierFound<'_>>,
) -> Result<bool, Fault> {
    let tenant = made.tenant.to_string();
    let state = found.state.map(serde_json::to_string).transpose().map_err(Fault::internal)?;
    let (ticket, of) = (BoundValue::Number(found.ticket), BoundValue::Text(&tenant));
    let mut statements = vec![statement(db, sql::BILLING_STATE, &[of, BoundValue::Maybe(state.as_deref()), ticket])?];
    statements.extend(made.statements(db)?);
    let bind = [
        of,
        ticket,
        BoundValue::Ms(made.at),
        BoundValue::Number(found.is_past_due.into()),
        BoundValue::Number(found.trial_used.into()),
        time(found.due_at),
        BoundValue::Maybe(found.unknown_price),
        BoundValue::Maybe(found.deleted),
    ];
    statements.push(statement(db, sql::BILLING_READ, &bind)?);
    let at_tier = statements.len();
    if let Some(tier) = tier {
        statements.extend(tier_statements(db, (&tenant, found.ticket), tier)?);
    }
    let results = batch(db, statements).await?;
    let changed =
        tier.and_then(|_| results.get(at_tier)).map(|result| rows_of(sql::TIER_FOLLOWS, result)).transpose()?;
    Ok(changed.is_some_and(|rows| !rows.is_empty()))
}

/// Begins a change at Stripe; its number is that of the try before where Stripe has not answered that. `None` where another is
/// under way, or the tenant has no row.
pub(crate) async fn begin_operation(
    db: &D1Database,
    tenant: TenantId,
    name: &str,
    now: UnixMillis,
) -> Result<Option<Attempt>, Fault> {
    let bind = [
        BoundValue::Text(&tenant.to_string()),
        BoundValue::Text(name),
        BoundValue::Ms(now),
        BoundValue::Ms(UnixMillis(now.0.saturating_sub(REPEATED_MS))),
        BoundValue::Ms(now.plus(BUSY_MS)),
    ];
    Ok(all(db, sql::OPERATION_BEGIN, &bind).await?.into_iter().next())
}

/// Ends a change at Stripe. `is_open`: Stripe has not answered, and the same change is repeated under the same number.
pub(crate) async fn end_operation(
    db: &D1Database,
    (tenant, attempt): (TenantId, u64),
    is_open: bool,
) -> Result<(), Fault> {
    let bind = [BoundValue::Number(is_open.into()), BoundValue::Text(&tenant.to_string()), BoundValue::Number(attempt)];
    result_of(statement(db, sql::OPERATION_END, &bind)?).await.map(|_| ())
}

/// Notes until when a checkout may be paid; 0: none may.
pub(crate) async fn note_checkout(db: &D1Database, tenant: TenantId, until: UnixMillis) -> Result<(), Fault> {
    let bind = [BoundValue::Ms(until), BoundValue::Text(&tenant.to_string())];
    result_of(statement(db, sql::CHECKOUT_UNTIL, &bind)?).await.map(|_| ())
}

/// Tenants for which something is due, the longest ago first.
pub(crate) async fn due(db: &D1Database, now: UnixMillis, limit: u64) -> Result<Vec<DueRow>, Fault> {
    all(db, sql::BILLING_DUE, &[BoundValue::Ms(now), BoundValue::Number(limit)]).await
}

/// Has what was due be due at another time.
pub(crate) async fn put_off(db: &D1Database, due: &DueRow, until: Option<UnixMillis>) -> Result<(), Fault> {
    let bind = [time(until), BoundValue::Text(&due.tenant.to_string()), BoundValue::Ms(due.at)];
    result_of(statement(db, sql::DUE_LATER, &bind)?).await.map(|_| ())
}

/// Has what was due and has failed be due again at a time.
pub(crate) async fn put_again(db: &D1Database, due: &DueRow, at: UnixMillis) -> Result<(), Fault> {
    let bind = [BoundValue::Ms(at), BoundValue::Text(&due.tenant.to_string()), BoundValue::Ms(due.at)];
    result_of(statement(db, sql::DUE_AGAIN, &bind)?).await.map(|_| ())
}

/// Notes that what was due is done, with its notice, in one batch; nothing where another has done it.
pub(crate) async fn put_done(
    db: &D1Database,
    due: &DueRow,
    (mark, next): (&str, Option<UnixMillis>),
    notice: Option<(BillingNotice, &NewNotice<'_>)>,
) -> Result<(), Fault> {
    let tenant = due.tenant.to_string();
    let bind = [BoundValue::Text(mark), time(next), BoundValue::Text(&tenant), BoundValue::Ms(due.at)];
    let mut statements = vec![statement(db, sql::DUE_DONE, &bind)?];
    if let Some((kind, new)) = notice {
        statements.extend(notice_statements(db, (&tenant, kind), new)?);
    }
    batch(db, statements).await.map(|_| ())
}

/// Records that a second subscription is ended, with a notice about it, unless that was recorded last. Returns whether it was
/// recorded.
pub(crate) async fn record_surplus(db: &D1Database, made: &Change, notice: &NewNotice<'_>) -> Result<bool, Fault> {
    let tenant = made.tenant.to_string();
    let bind = [BoundValue::Text(&made.subject), BoundValue::Text(&tenant)];
    let mut statements = vec![statement(db, sql::SURPLUS_TOLD, &bind)?];
    statements.extend(made.statements(db)?);
    statements.extend(notice_statements(db, (&tenant, BillingNotice::PaidTwice), notice)?);
    let results = batch(db, statements).await?;
    let told = results.first().map(|result| rows_of(sql::SURPLUS_TOLD, result)).transpose()?;
    Ok(told.is_some_and(|rows| !rows.is_empty()))
}

/// The statements that set a tier by an operator's hand, with its entry and the notice about it; nothing where it is the tier.
/// They come in the batch of the operator's change.
pub(crate) fn tier_by_hand(
    db: &D1Database,
    TierFound { tier, made, notice }: &TierFound<'_>,
) -> Result<Vec<D1PreparedStatement>, Fault> {
    let tenant = made.tenant.to_string();
    let bind = [BoundValue::Text(tier.plan().name), BoundValue::Text(&tenant)];
    let mut statements = vec![statement(db, sql::TIER_BY_HAND, &bind)?];
    statements.extend(made.statements(db)?);
    statements.extend(notice_statements(db, (&tenant, BillingNotice::PlanChanged), notice)?);
    Ok(statements)
}

/// The statement that has a tenant's customer be read by a time: something has happened that a read that goes on may not have
/// seen.
pub(crate) fn wanted_statement(
    db: &D1Database,
    tenant: TenantId,
    by: UnixMillis,
) -> Result<D1PreparedStatement, Fault> {
    statement(db, sql::READ_WANTED, &[BoundValue::Ms(by), BoundValue::Text(&tenant.to_string())])
}

/// Has a tenant's customer be read by a time.
pub(crate) async fn want_read(db: &D1Database, tenant: TenantId, by: UnixMillis) -> Result<(), Fault> {
    result_of(wanted_statement(db, tenant, by)?).await.map(|_| ())
}

/// The same of the tenant that has a customer, if one has.
pub(crate) async fn want_read_of(db: &D1Database, customer: &str, by: UnixMillis) -> Result<(), Fault> {
    result_of(statement(db, sql::READ_WANTED_OF, &[BoundValue::Ms(by), BoundValue::Text(customer)])?).await.map(|_| ())
}

/// What of a tenant matters to its subscription.
pub(crate) async fn read_standing(db: &D1Database, tenant: TenantId) -> Result<StandingRow, Fault> {
    let rows = all(db, sql::STANDING, &[BoundValue::Text(&tenant.to_string())]).await?;
    rows.into_iter().next().ok_or_else(super::no_tenant)
}

/// Notes the hash of what was reported to Stripe of a tenant's customer.
pub(crate) async fn note_told(db: &D1Database, (tenant, customer): (TenantId, &str), told: &str) -> Result<(), Fault> {
    let bind = [BoundValue::Text(told), BoundValue::Text(&tenant.to_string()), BoundValue::Text(customer)];
    result_of(statement(db, sql::CUSTOMER_TOLD, &bind)?).await.map(|_| ())
}

/// Tenants with a tier by what is paid that have never had a subscription.
pub(crate) async fn unpaid_tiers(db: &D1Database, after: &str, limit: u64) -> Result<Vec<UnpaidTierRow>, Fault> {
    all(db, sql::UNPAID_TIERS, &[BoundValue::Text(after), BoundValue::Number(limit)]).await
}

/// Which of some customers a tenant has.
pub(crate) async fn customers_held(db: &D1Database, customers: &[&str]) -> Result<Vec<String>, Fault> {
    let list = serde_json::to_string(customers).map_err(Fault::internal)?;
    let rows = all(db, sql::CUSTOMERS_HELD, &[BoundValue::Text(&list)]).await?;
    Ok(rows.into_iter().map(|HeldCustomer(customer)| customer).collect())
}

/// Tenants with customers, after one, in the order of their ids.
pub(crate) async fn billed_after(db: &D1Database, after: &str, limit: u64) -> Result<Vec<TenantId>, Fault> {
    let rows = all(db, sql::BILLED_AFTER, &[BoundValue::Text(after), BoundValue::Number(limit)]).await?;
    Ok(rows.into_iter().map(|BilledTenant(tenant)| tenant).collect())
}

/// Tenants whose customers were read before a time, the longest ago first.
pub(crate) async fn billed_stale(db: &D1Database, before: UnixMillis, limit: u64) -> Result<Vec<TenantId>, Fault> {
    let rows = all(db, sql::BILLED_STALE, &[BoundValue::Ms(before), BoundValue::Number(limit)]).await?;
    Ok(rows.into_iter().map(|BilledTenant(tenant)| tenant).collect())
}

/// Tenants whose price is unknown.
pub(crate) async fn unknown_prices(db: &D1Database, limit: u64) -> Result<Vec<UnknownPriceRow>, Fault> {
    all(db, sql::UNKNOWN_PRICES, &[BoundValue::Number(limit)]).await
}

/// What a tenant has, by which tiers differ.
pub(crate) async fn holdings(db: &D1Database, tenant: TenantId) -> Result<Holdings, Fault> {
    let rows = all(db, sql::HOLDINGS, &[BoundValue::Text(&tenant.to_string())]).await?;
    rows.into_iter().next().map(|row| row.0).ok_or_else(super::no_tenant)
}

/// Whether an event of Stripe was queued.
pub(crate) async fn is_event_known(db: &D1Database, id: &str) -> Result<bool, Fault> {
    Ok(!all(db, sql::STRIPE_EVENT_KNOWN, &[BoundValue::Text(id)]).await?.is_empty())
}

/// Notes that an event of Stripe was queued.
pub(crate) async fn note_event(db: &D1Database, id: &str, now: UnixMillis) -> Result<(), Fault> {
    let bind = [BoundValue::Text(id), BoundValue::Ms(now)];
    result_of(statement(db, sql::STRIPE_EVENT_PUT, &bind)?).await.map(|_| ())
}

/// Forgets events of Stripe that are old.
pub(crate) async fn purge_events(db: &D1Database, now: UnixMillis) -> Result<(), Fault> {
    let before = UnixMillis(now.0.saturating_sub(EVENTS_KEPT_MS));
    result_of(statement(db, sql::STRIPE_EVENTS_PURGE, &[BoundValue::Ms(before)])?).await.map(|_| ())
}

/// Forgets what is kept of a tenant's billing.
pub(crate) async fn erase_billing(db: &D1Database, tenant: TenantId) -> Result<(), Fault> {
    result_of(statement(db, sql::BILLING_ERASE, &[BoundValue::Text(&tenant.to_string())])?).await.map(|_| ())
}

//! Whether the directory says what Stripe says: every night for those who were read longest ago, and on an operator's demand
//! for all. What differs is brought in line, and operators get a message: an event was lost, and the mistake is ours.

use super::{Author, read_picture, stored_tier, sync, sync_customer};
use crate::alerts::operators;
use crate::app::App;
use crate::d1;
use crate::d1::billing::rows::BillingRow;
use crate::d1::billing::{billed_after, billed_stale, billing_of, purge_events, read_billing};
use crate::stripe::Stripe;
use crate::telemetry::{TelemetryField, TelemetryKind, event};
use serde::Deserialize;
use x402_api::billing::{BillingChecked, BillingDifference, CheckCursor, TierBy};
use x402_chain::id::TenantId;
use x402_chain::time::{DAY_MS, UnixMillis};
use x402_core::billing::answer::{StripeEvent, StripePage, read};
use x402_core::billing::form;
use x402_core::billing::state::BillingState;
use x402_core::error::Fault;

/// Customers that a nightly run compares, of those whose last read is older than most of a day.
const NIGHT_MAX: u64 = 500;
const STALE_MS: u64 = 20 * 60 * 60_000;
/// Pages of a hundred events that were not delivered which a nightly run reads.
const EVENT_PAGES_MAX: usize = 20;
/// How far back they are asked for: Stripe sends one again for three days.
const EVENTS_SINCE_MS: u64 = 4 * DAY_MS;
/// Tenants that one part of a check on demand compares: two or three requests to Stripe each.
const PART_MAX: u64 = 25;

fn words(state: Option<&BillingState>) -> String {
    state.map_or("no subscription".to_owned(), |state| {
        let plan = state.plan.map_or("an unknown price", |tier| tier.plan().name);
        let end = state.cancel_at.map_or(String::new(), |at| format!(", ends {}", at.rfc3339()));
        let next = state.next_plan.map_or(String::new(), |tier| format!(", then {}", tier.plan().name));
        format!("{} {} {plan} until {}{end}{next}", state.subscription, state.status.name(), state.period_end.rfc3339())
    })
}

/// What differs between what is kept of a tenant and what Stripe says; `None`: nothing.
async fn difference(app: &App, row: &BillingRow, now: UnixMillis) -> Result<Option<String>, Fault> {
    let (stripe, db) = (Stripe::of(app)?, app.db()?);
    let Some(customer) = &row.customer else { return Ok(None) };
    let (_, picture, is_deleted) = read_picture(&stripe, customer).await?;
    if is_deleted {
        return Ok(Some(format!("the customer {customer} was deleted at Stripe")));
    }
    if picture.state != row.state {
        let (kept, found) = (words(row.state.as_ref()), words(picture.state.as_ref()));
        return Ok(Some(format!("the directory has {kept}; Stripe has {found}")));
    }
    if !picture.surplus.is_empty() {
        return Ok(Some(format!("{} subscriptions beyond the one that counts go on", picture.surplus.len())));
    }
    let (tenant, _) = d1::read_tenant(&db, row.tenant).await?;
    let wanted = stored_tier(Some(row), now).filter(|_| tenant.tier_by == TierBy::Billing);
    Ok(wanted
        .filter(|tier| *tier != tenant.tier)
        .map(|tier| format!("the tier is {}, and {} is paid", tenant.tier.plan().name, tier.plan().name)))
}

/// What differs of a tenant, unless that changes while it is looked at.
async fn compare(app: &App, tenant: TenantId, now: UnixMillis) -> Result<Option<BillingDifference>, Fault> {
    let db = app.db()?;
    let Some(row) = read_billing(&db, tenant).await? else { return Ok(None) };
    let Some(mut detail) = difference(app, &row, now).await? else { return Ok(None) };
    // A sync may have been under way.
    if let Some(again) = read_billing(&db, tenant).await?.filter(|again| again.ticket != row.ticket) {
        let Some(second) = difference(app, &again, now).await? else { return Ok(None) };
        detail = second;
    }
    Ok(Some(BillingDifference { tenant: Some(tenant.to_string()), customer: row.customer, detail }))
}

/// Compares a part of all, and brings what differs in line.
///
/// # Errors
/// `MISCONFIGURED`, `UPSTREAM_UNAVAILABLE`; where the directory fails.
pub(crate) async fn check_part(app: &App, cursor: &CheckCursor, now: UnixMillis) -> Result<BillingChecked, Fault> {
    match cursor {
        CheckCursor::Tenants(after) => check_tenants(app, after, now).await,
        CheckCursor::Subscriptions(after) => check_subscriptions(app, after.as_deref(), now).await,
    }
}

async fn check_tenants(app: &App, after: &str, now: UnixMillis) -> Result<BillingChecked, Fault> {
    let tenants = billed_after(&app.db()?, after, PART_MAX).await?;
    let is_last = u64::try_from(tenants.len()).is_ok_and(|count| count < PART_MAX);
    let next = match tenants.last() {
        Some(last) if !is_last => CheckCursor::Tenants(last.to_string()),
        Some(_) | None => CheckCursor::Subscriptions(None),
    };
    let checked = u64::try_from(tenants.len()).unwrap_or(u64::MAX);
    let differences = compare_all(app, tenants, now).await?;
    tell(app, &differences, now).await?;
    Ok(BillingChecked { checked, differences, next_cursor: Some(next.text()) })
}

async fn compare_all(app: &App, tenants: Vec<TenantId>, now: UnixMillis) -> Result<Vec<BillingDifference>, Fault> {
    let mut differences = Vec::new();
    for tenant in tenants {
        if let Some(difference) = compare(app, tenant, now).await? {
            sync(app, Author::System(tenant, now)).await?;
            differences.push(difference);
        }
    }
    Ok(differences)
}

#[derive(Deserialize)]
struct Listed {
    id: String,
    customer: String,
    metadata: Option<ListedMetadata>,
}

#[derive(Deserialize)]
struct ListedMetadata {
    tenant: Option<String>,
}

/// Subscriptions at Stripe that say they are a tenant's, and whose customer no tenant has.
async fn check_subscriptions(app: &App, after: Option<&str>, now: UnixMillis) -> Result<BillingChecked, Fault> {
    let (stripe, db) = (Stripe::of(app)?, app.db()?);
    let page: StripePage<Listed> = read(&stripe.read(&form::list_all_subscriptions(after)).await?, "subscriptions")?;
    let mut differences = Vec::new();
    let last = page.data.last().map(|last| last.id.clone());
    for one in page.data {
        let Some(tenant) = one.metadata.and_then(|all| all.tenant) else { continue };
        if billing_of(&db, &one.customer).await?.is_none() {
            let detail =
                format!("{} of the customer goes on, and no tenant has the customer; it names {tenant}", one.id);
            differences.push(BillingDifference { tenant: None, customer: Some(one.customer), detail });
        }
    }
    tell(app, &differences, now).await?;
    let next_cursor = last.filter(|_| page.has_more).map(|last| CheckCursor::Subscriptions(Some(last)).text());
    Ok(BillingChecked { checked: 0, differences, next_cursor })
}

async fn tell(app: &App, differences: &[BillingDifference], now: UnixMillis) -> Result<(), Fault> {
    if differences.is_empty() {
        return Ok(());
    }
    let line = |one: &BillingDifference| format!("{}: {}", one.tenant.as_deref().unwrap_or("no tenant"), one.detail);
    let lines: Vec<String> = differences.iter().map(line).collect();
    event(TelemetryKind::BillingDiffers, &[TelemetryField::Done(differences.len())]);
    let of_tenants = "was brought in line, where it is of a tenant";
    let text = format!("Billing: the directory differed from Stripe, and {of_tenants}.\n{}", lines.join("\n"));
    operators::tell(app, &text, now).await
}

/// The nightly run: customers of events that Stripe could not deliver, then those who were read longest ago. Returns how many
/// were compared. One that fails keeps no other waiting.
///
/// # Errors
/// Where the directory or Stripe fails.
pub(crate) async fn reconcile(app: &App, now: UnixMillis) -> Result<usize, Fault> {
    if app.settings.stripe_key().is_none() {
        return Ok(0);
    }
    let db = app.db()?;
    purge_events(&db, now).await?;
    for customer in undelivered(app, now).await? {
        if let Err(fault) = sync_customer(app, &customer, now).await {
            event(TelemetryKind::BillingFailed, &[TelemetryField::Cause(&fault)]);
        }
    }
    let mut differences = Vec::new();
    let stale = billed_stale(&db, UnixMillis(now.0.saturating_sub(STALE_MS)), NIGHT_MAX).await?;
    let count = stale.len();
    for tenant in stale {
        let compared = match compare(app, tenant, now).await {
            Ok(difference) => {
                differences.extend(difference);
                // Also where nothing differs: it is the read that counts as the last.
                sync(app, Author::System(tenant, now)).await.map(|_| ())
            }
            Err(fault) => Err(fault),
        };
        if let Err(fault) = compared {
            event(TelemetryKind::BillingFailed, &[TelemetryField::Cause(&fault)]);
        }
    }
    tell(app, &differences, now).await?;
    Ok(count)
}

/// The customers of events that Stripe could not deliver, each once.
async fn undelivered(app: &App, now: UnixMillis) -> Result<Vec<String>, Fault> {
    let stripe = Stripe::of(app)?;
    let since = UnixMillis(now.0.saturating_sub(EVENTS_SINCE_MS));
    let (mut customers, mut after): (Vec<String>, Option<String>) = (Vec::new(), None);
    for _ in 0..EVENT_PAGES_MAX {
        let body = stripe.read(&form::list_undelivered_events(since, after.as_deref())).await?;
        let page: StripePage<StripeEvent> = read(&body, "events")?;
        after = page.data.last().map(|last| last.id.clone());
        for customer in page.data.into_iter().filter_map(|one| one.customer) {
            if !customers.contains(&customer) {
                customers.push(customer);
            }
        }
        if !page.has_more || after.is_none() {
            break;
        }
    }
    Ok(customers)
}

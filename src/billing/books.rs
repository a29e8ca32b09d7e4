//! Whether the directory says what Stripe says: every night for those who were read longest ago, and on an operator's demand
//! for all. What differs is brought in line, and operators get a message: an event was lost, and the mistake is ours.

use super::{Author, Synced, read_customer_of, stored_tier, sync, sync_customer};
use crate::alerts::operators;
use crate::app::App;
use crate::d1;
use crate::d1::billing::rows::BillingRow;
use crate::d1::billing::{billed_after, billed_stale, customers_held, purge_events, read_billing, unpaid_tiers};
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
/// Pages of a hundred events that were not delivered which a nightly run reads, and customers of them that it reads back.
const EVENT_PAGES_MAX: usize = 20;
const UNDELIVERED_MAX: usize = 500;
/// Pages of a hundred subscriptions, and tenants with a tier and no subscription, that a nightly run looks through.
const SUBSCRIPTION_PAGES_MAX: usize = 50;
const UNPAID_MAX: u64 = 100;
/// Differences that one message names.
const LINES_MAX: usize = 50;
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
    let Some(found) = read_customer_of(&stripe, customer).await? else {
        let cause = "STRIPE_SECRET_KEY is of another account or mode than the one in which it was made";
        return Ok(Some(format!("Stripe does not know the customer {customer}: {cause}")));
    };
    if found.is_deleted {
        return Ok(Some(format!("the customer {customer} was deleted at Stripe")));
    }
    let picture = found.picture;
    if picture.state != row.state {
        let (kept, found) = (words(row.state.as_ref()), words(picture.state.as_ref()));
        return Ok(Some(format!("the directory has {kept}; Stripe has {found}")));
    }
    if !picture.surplus.is_empty() {
        return Ok(Some(format!("{} subscriptions beyond the one that counts go on", picture.surplus.len())));
    }
    let (tenant, _) = d1::read_tenant(&db, row.tenant).await?;
    // Without a state there has never been a subscription from which a tier would follow.
    let wanted = stored_tier(Some(row), now).filter(|_| tenant.tier_by == TierBy::Billing && row.state.is_some());
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
            differences.push(in_line(app, tenant, difference, now).await);
        }
    }
    Ok(differences)
}

/// Brings a tenant that differs in line. Where that fails the difference says so: it keeps no other tenant from being compared.
async fn in_line(app: &App, tenant: TenantId, found: BillingDifference, now: UnixMillis) -> BillingDifference {
    let fault = match sync(app, Author::System(tenant, now)).await {
        Ok(Some(Synced { unfinished: Some(fault), .. })) | Err(fault) => fault,
        Ok(_) => return found,
    };
    event(TelemetryKind::BillingFailed, &[TelemetryField::Cause(&fault)]);
    let detail = format!("{}; it could not be brought in line: {}", found.detail, fault.detail);
    BillingDifference { detail, ..found }
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

/// A page of subscriptions at Stripe that say they are a tenant's, and whose customer no tenant has; and the last one's id
/// where there are more.
async fn orphans(app: &App, after: Option<&str>) -> Result<(Vec<BillingDifference>, Option<String>), Fault> {
    let (stripe, db) = (Stripe::of(app)?, app.db()?);
    let page: StripePage<Listed> = read(&stripe.read(&form::list_all_subscriptions(after)).await?, "subscriptions")?;
    let last = page.data.last().map(|last| last.id.clone());
    let of_tenants = page.data.into_iter().filter_map(|one| {
        let tenant = one.metadata.and_then(|all| all.tenant)?;
        Some((one.id, one.customer, tenant))
    });
    let of_tenants: Vec<(String, String, String)> = of_tenants.collect();
    let customers: Vec<&str> = of_tenants.iter().map(|(_, customer, _)| customer.as_str()).collect();
    let held = if customers.is_empty() { Vec::new() } else { customers_held(&db, &customers).await? };
    let lost = of_tenants.into_iter().filter(|(_, customer, _)| !held.contains(customer));
    let differences = lost.map(|(id, customer, tenant)| {
        let detail = format!(
            "{id} of the customer goes on, and no tenant has the customer; it names {tenant}. Nobody can end it here: end it in \
             Stripe's dashboard, and look whether what was paid is to be refunded"
        );
        BillingDifference { tenant: None, customer: Some(customer), detail }
    });
    Ok((differences.collect(), last.filter(|_| page.has_more)))
}

/// Tenants that have a tier by what is paid, and have never paid: an operator has set it by a build that did not say so.
async fn unpaid(app: &App, after: &str) -> Result<Vec<BillingDifference>, Fault> {
    let rows = unpaid_tiers(&app.db()?, after, UNPAID_MAX).await?;
    let differences = rows.into_iter().map(|row| {
        let tier = row.tier.plan().name;
        let detail = format!(
            "the tier is {tier} by what is paid, and there has never been a subscription. Set `tier` by hand to keep it, or \
             `tier_by` to `billing` to end it"
        );
        BillingDifference { tenant: Some(row.tenant.to_string()), customer: None, detail }
    });
    Ok(differences.collect())
}

async fn check_subscriptions(app: &App, after: Option<&str>, now: UnixMillis) -> Result<BillingChecked, Fault> {
    let (mut differences, next) = orphans(app, after).await?;
    if next.is_none() {
        differences.extend(unpaid(app, "").await?);
    }
    tell(app, &differences, now).await?;
    let next_cursor = next.map(|last| CheckCursor::Subscriptions(Some(last)).text());
    Ok(BillingChecked { checked: 0, differences, next_cursor })
}

async fn tell(app: &App, differences: &[BillingDifference], now: UnixMillis) -> Result<(), Fault> {
    if differences.is_empty() {
        return Ok(());
    }
    let name = |one: &BillingDifference| one.tenant.clone().or_else(|| one.customer.clone()).unwrap_or_default();
    let line = |one: &BillingDifference| format!("{}: {}", name(one), one.detail);
    let mut lines: Vec<String> = differences.iter().take(LINES_MAX).map(line).collect();
    let more = differences.len().saturating_sub(LINES_MAX);
    if more > 0 {
        lines.push(format!("{more} more: npm run billing:check names them."));
    }
    event(TelemetryKind::BillingDiffers, &[TelemetryField::Done(differences.len())]);
    let mended = "was brought in line, but for what says how it is to be";
    let text = format!("Billing: the directory differed from Stripe, and {mended}.\n{}", lines.join("\n"));
    operators::tell(app, &text, now).await
}

/// The nightly run: customers of events that Stripe could not deliver, then those who were read longest ago, then what is of no
/// tenant or of no subscription. Returns how many were compared. One that fails keeps no other waiting.
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
        match compare(app, tenant, now).await {
            Ok(Some(difference)) => differences.push(in_line(app, tenant, difference, now).await),
            // Also where nothing differs: it is the read that counts as the last.
            Ok(None) => {
                if let Err(fault) = sync(app, Author::System(tenant, now)).await {
                    event(TelemetryKind::BillingFailed, &[TelemetryField::Cause(&fault)]);
                }
            }
            Err(fault) => event(TelemetryKind::BillingFailed, &[TelemetryField::Cause(&fault)]),
        }
    }
    // What was compared is reported also where this fails.
    let failed = match of_nobody(app).await {
        Ok(lost) => {
            differences.extend(lost);
            None
        }
        Err(fault) => Some(fault),
    };
    tell(app, &differences, now).await?;
    failed.map_or(Ok(count), Err)
}

/// Subscriptions that no tenant has, and tiers that no subscription pays: what no tenant's own comparison shows.
async fn of_nobody(app: &App) -> Result<Vec<BillingDifference>, Fault> {
    let (mut all, mut after) = (unpaid(app, "").await?, None);
    for _ in 0..SUBSCRIPTION_PAGES_MAX {
        let (found, next) = orphans(app, after.as_deref()).await?;
        all.extend(found);
        if next.is_none() {
            break;
        }
        after = next;
    }
    Ok(all)
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
            if !customers.contains(&customer) && customers.len() < UNDELIVERED_MAX {
                customers.push(customer);
            }
        }
        if !page.has_more || after.is_none() {
            break;
        }
    }
    Ok(customers)
}

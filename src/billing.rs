//! Plans that are paid for. Whatever has happened at Stripe, [`sync`] reads the customer's subscriptions back and writes what
//! follows: the state, the tier, and what both ledgers hold. A read that began later is never overwritten by one that began
//! earlier: reads are numbered in the directory when they begin.

pub(crate) mod books;
pub(crate) mod change;
pub(crate) mod due;
pub(crate) mod operation;
pub(crate) mod portal;
mod surplus;

use crate::alerts;
use crate::app;
use crate::app::App;
use crate::clients::ledger::call_ledger;
use crate::d1;
use crate::d1::alerts::{self as notices, NewNotice};
use crate::d1::billing::rows::BillingRow;
use crate::d1::billing::{BillingFound, TierFound, begin_read, billing_of, erase_billing, put_found, read_billing};
use crate::d1::change::{Actor, Change};
use crate::request::IncomingRequest;
use crate::stripe::Stripe;
use futures_util::future::join_all;
use worker::D1Database;
use x402_api::billing::TierBy;
use x402_chain::id::{AuditId, MailId, NoticeId, TenantId};
use x402_chain::network::Environment;
use x402_chain::time::UnixMillis;
use x402_core::audit::AuditAction;
use x402_core::billing::answer::read_customer;
use x402_core::billing::due::next_due;
use x402_core::billing::form;
use x402_core::billing::notice::changed_text;
use x402_core::billing::state::{BillingPicture, BillingState, Entitlement, entitlement, picture_of};
use x402_core::billing::subscription::{Subscription, SubscriptionStatus, read_page, unreadable};
use x402_core::error::{ErrorCode, Fault};
use x402_core::messages::ledger::{LedgerEnvelope, LedgerMessage};
use x402_core::tenancy::tier::Tier;

/// Pages of a hundred subscriptions of one customer that are read. More than that nobody has by way of us.
const PAGES_MAX: usize = 10;

/// Who changes something.
#[derive(Clone, Copy)]
pub(crate) enum Author<'a> {
    /// The request of an owner, or of a key of the tenant.
    Request(&'a IncomingRequest, TenantId),
    /// The service itself, at a time.
    System(TenantId, UnixMillis),
}

impl Author<'_> {
    pub(crate) const fn tenant(self) -> TenantId {
        match self {
            Self::Request(_, tenant) | Self::System(tenant, _) => tenant,
        }
    }

    pub(crate) const fn now(self) -> UnixMillis {
        match self {
            Self::Request(incoming, ..) => incoming.now,
            Self::System(_, now) => now,
        }
    }

    /// A change of the tenant, as the audit log records it.
    pub(crate) fn change(self, action: AuditAction, subject: &str) -> Result<Change, Fault> {
        match self {
            Self::Request(incoming, tenant) => incoming.change_by(incoming.actor()?, tenant, action, subject),
            Self::System(tenant, now) => Ok(Change {
                id: AuditId::new(now, app::random()?),
                tenant,
                environment: None,
                actor: Actor::System,
                action,
                subject: subject.to_owned(),
                detail: None,
                ip_prefix: "unknown".to_owned(),
                user_agent: None,
                at: now,
            }),
        }
    }
}

/// What a sync has found and done.
pub(crate) struct Synced {
    /// The row as it is after it.
    pub(crate) row: BillingRow,
    /// Whether both ledgers hold the tier that follows.
    pub(crate) is_loaded: bool,
}

/// All subscriptions of a customer, and whether the customer was deleted at Stripe.
async fn read_subscriptions(stripe: &Stripe<'_>, customer: &str) -> Result<(Vec<Subscription>, bool), Fault> {
    let mut all: Vec<Subscription> = Vec::new();
    for _ in 0..PAGES_MAX {
        let after = all.last().map(|last| last.id.clone());
        match stripe.read(&form::list_subscriptions(customer, after.as_deref())).await {
            Ok(body) => {
                let (page, has_more) = read_page(&body)?;
                let is_last = !has_more || page.is_empty();
                all.extend(page);
                if is_last {
                    return Ok((all, false));
                }
            }
            Err(failure) if failure.is_missing() => return Ok((Vec::new(), true)),
            Err(failure) => return Err(failure.into()),
        }
    }
    Err(unreadable("a customer with more than a thousand subscriptions"))
}

/// What Stripe says of a customer, and whether the customer was deleted.
pub(crate) async fn read_picture(
    stripe: &Stripe<'_>,
    customer: &str,
) -> Result<(Vec<Subscription>, BillingPicture, bool), Fault> {
    let (all, mut is_deleted) = read_subscriptions(stripe, customer).await?;
    let picture = picture_of(&all);
    if !is_deleted && picture.state.as_ref().is_none_or(|state| !state.status.is_live()) {
        is_deleted = match stripe.read(&form::read_customer(customer)).await {
            Ok(body) => read_customer(&body)?.is_deleted,
            Err(failure) if failure.is_missing() => true,
            Err(failure) => return Err(failure.into()),
        };
    }
    Ok((all, picture, is_deleted))
}

/// Reads a tenant's subscriptions back from Stripe, and writes what follows. `None` where the tenant has no customer.
///
/// # Errors
/// `MISCONFIGURED`, `UPSTREAM_UNAVAILABLE`; where the directory fails.
pub(crate) async fn sync(app: &App, author: Author<'_>) -> Result<Option<Synced>, Fault> {
    let (stripe, db) = (Stripe::of(app)?, app.db()?);
    let Some(row) = begin_read(&db, author.tenant()).await? else { return Ok(None) };
    let Some(customer) = row.customer.clone() else { return Ok(None) };
    let (all, picture, is_deleted) = read_picture(&stripe, &customer).await?;
    // A customer that was deleted may be listed without its subscriptions, all of which have ended.
    let ended = || row.state.clone().map(|state| BillingState { status: SubscriptionStatus::Canceled, ..state });
    let state = picture.state.clone().or_else(|| if is_deleted { ended() } else { None });
    let changed = write(app, &db, author, (&row, &picture, state.as_ref()), is_deleted).await?;
    let is_loaded = !changed.tier || load_ledgers(app, author).await.is_ok();
    let row = read_billing(&db, author.tenant()).await?.ok_or_else(|| Fault::internal("a row of billing is gone"))?;
    // Another read that began later does the rest by itself.
    if row.read_ticket == changed.ticket && row.customer.is_some() {
        surplus::end_all(app, author, (&customer, changed.ticket), (&all, &picture)).await?;
        if row.checkout_until > author.now() && row.state.as_ref().is_some_and(|state| state.status.is_live()) {
            operation::expire_checkouts(app, author.tenant(), (&customer, changed.ticket)).await?;
        }
    }
    Ok(Some(Synced { row, is_loaded }))
}

/// What was written of a read.
struct Written {
    ticket: u64,
    tier: bool,
}

async fn write(
    app: &App,
    db: &D1Database,
    author: Author<'_>,
    (row, picture, state): (&BillingRow, &BillingPicture, Option<&BillingState>),
    is_deleted: bool,
) -> Result<Written, Fault> {
    let now = author.now();
    let is_past_due = state.is_some_and(|state| state.status == SubscriptionStatus::PastDue);
    let since = is_past_due.then(|| row.past_due_since.unwrap_or(now));
    let unknown = state.filter(|state| state.status.is_live() && state.plan.is_none());
    let found = BillingFound {
        ticket: row.ticket,
        state,
        trial_used: picture.trial_used || row.trial_used,
        is_past_due,
        due_at: next_due(state, since, row.due_done.as_deref()).map(|due| due.at),
        unknown_price: unknown.map(|state| state.price.as_str()),
        deleted: row.customer.as_deref().filter(|_| is_deleted),
    };
    let words = state.map_or("none".to_owned(), |state| {
        format!("{} {}", state.status.name(), state.plan.map_or("unknown", |tier| tier.plan().name))
    });
    let subject = state.map_or("none", |state| state.subscription.as_str());
    let made = author.change(AuditAction::SubscriptionUpdated, subject)?.detail(words);
    let paid = entitlement(state, since, now);
    let mut is_written = false;
    loop {
        let (tenant, _) = d1::read_tenant(db, author.tenant()).await?;
        let wanted = match paid {
            Entitlement::Tier(tier) if tenant.tier_by == TierBy::Billing && tier != tenant.tier => Some(tier),
            Entitlement::Tier(_) | Entitlement::Unknown => None,
        };
        match wanted {
            Some(to) => {
                let tier = write_tier(app, db, author, (&found, &made), (tenant.tier, to)).await?;
                return Ok(Written { ticket: row.ticket, tier });
            }
            None if is_written => return Ok(Written { ticket: row.ticket, tier: false }),
            None => put_found(db, &found, &made, None).await?,
        };
        // A read that began earlier may have written another tier since the tenant was read: once more, now that it no longer can.
        is_written = true;
    }
}

async fn write_tier(
    app: &App,
    db: &D1Database,
    author: Author<'_>,
    (found, made): (&BillingFound<'_>, &Change),
    (from, to): (Tier, Tier),
) -> Result<bool, Fault> {
    let detail = format!("{} → {}", from.plan().name, to.plan().name);
    let of_tier = author.change(AuditAction::TierUpdated, &author.tenant().to_string())?.detail(detail);
    let (text, posted, mails) = notice_of(app, db, author, changed_text(from, to)).await?;
    let tier = TierFound { tier: to, made: &of_tier, notice: notice(app, author.now(), (&text, posted, &mails))? };
    let is_changed = put_found(db, found, made, Some(&tier)).await?;
    if is_changed {
        alerts::queue(app, &mails).await;
    }
    Ok(is_changed)
}

/// The text of a notice, whether it is posted to the tenant's URL, and its mails.
type NoticeParts = (String, bool, Vec<(MailId, String)>);

/// What a notice to a tenant is made of. Owners who want no alerts by mail get these all the same: they are about money.
async fn notice_of(app: &App, db: &D1Database, author: Author<'_>, text: String) -> Result<NoticeParts, Fault> {
    let settings = notices::read_settings(db, author.tenant()).await?;
    let recipients = match app.settings.mail().is_some() {
        true => notices::recipients(db, author.tenant()).await?,
        false => Vec::new(),
    };
    let mails = alerts::mails_to(recipients.into_iter().map(|one| one.email), author.now())?;
    Ok((text, settings.sealed_url.is_some(), mails))
}

fn notice<'a>(
    app: &'a App,
    now: UnixMillis,
    (text, is_posted, mails): (&'a str, bool, &'a [(MailId, String)]),
) -> Result<NewNotice<'a>, Fault> {
    Ok(NewNotice { id: NoticeId::new(now, app::random()?), text, at: now, is_posted, mails, origin: &app.origin })
}

/// Makes both ledgers load the tier that was written. Where one does not, the timed job of each minute makes it.
pub(crate) async fn load_ledgers(app: &App, author: Author<'_>) -> Result<(), Fault> {
    let (_, version) = d1::read_tenant(&app.db()?, author.tenant()).await?;
    let load = |environment: Environment| async move {
        let message = LedgerMessage::Reload { version };
        let id = app::request_id(author.now());
        let envelope = LedgerEnvelope::without_request(author.tenant(), environment, id, message);
        call_ledger(app, &envelope, None).await
    };
    for response in join_all(Environment::ALL.map(load)).await {
        if !response?.is_done() {
            return Err(Fault::new(ErrorCode::ChangeNotLoaded, "a ledger has not loaded its tenant").after(1));
        }
    }
    Ok(())
}

/// The tier that follows what is stored, for a tenant whose tier an operator no longer sets.
pub(crate) fn stored_tier(row: Option<&BillingRow>, now: UnixMillis) -> Option<Tier> {
    let state = row.and_then(|row| row.state.as_ref());
    match entitlement(state, row.and_then(|row| row.past_due_since), now) {
        Entitlement::Tier(tier) => Some(tier),
        Entitlement::Unknown => None,
    }
}

/// Syncs the tenant that has a customer; nothing for a customer that no tenant has.
///
/// # Errors
/// As [`sync`].
pub(crate) async fn sync_customer(app: &App, customer: &str, now: UnixMillis) -> Result<(), Fault> {
    let Some(row) = billing_of(&app.db()?, customer).await? else { return Ok(()) };
    sync(app, Author::System(row.tenant, now)).await.map(|_| ())
}

/// Deletes the customer of a tenant that is erased, which ends its subscriptions at once, and forgets what is kept of it;
/// whether that is done.
///
/// # Errors
/// Where Stripe or the directory fails.
pub(crate) async fn erase(app: &App, tenant: TenantId) -> Result<bool, Fault> {
    let db = app.db()?;
    let customer = read_billing(&db, tenant).await?.and_then(|row| row.customer);
    if let Some(customer) = customer {
        // Where billing is no longer set up, nothing can be ended, and the erasure waits for no key.
        if let Ok(stripe) = Stripe::of(app) {
            match stripe.read(&form::delete_customer(&customer)).await {
                Ok(_) => {}
                Err(failure) if failure.is_missing() => {}
                Err(failure) => return Err(failure.into()),
            }
        }
    }
    erase_billing(&db, tenant).await.map(|()| true)
}

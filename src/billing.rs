//! Plans that are paid for. Whatever has happened at Stripe, [`sync`] reads the customer's subscriptions back and writes what
//! follows: the state, the tier, and what both ledgers hold. A read that began later is never overwritten by one that began
//! earlier: reads are numbered in the directory when they begin.

pub(crate) mod books;
pub(crate) mod change;
pub(crate) mod due;
pub(crate) mod operation;
pub(crate) mod portal;
mod surplus;
mod upkeep;

use crate::alerts;
use crate::app;
use crate::app::App;
use crate::clients::ledger::call_ledger;
use crate::d1;
use crate::d1::alerts::{self as notices, NewNotice};
use crate::d1::billing::rows::{BillingRow, StandingRow};
use crate::d1::billing::{
    BillingFound, TierFound, begin_read, billing_of, erase_billing, put_found, put_tier, read_billing, read_standing,
    want_read, want_read_of,
};
use crate::d1::change::{Actor, Change};
use crate::request::IncomingRequest;
use crate::stripe::Stripe;
use crate::telemetry::{TelemetryField, TelemetryKind, event};
use futures_util::future::join_all;
use worker::{D1Database, D1PreparedStatement};
use x402_api::billing::TierBy;
use x402_chain::id::{AuditId, MailId, NoticeId, TenantId};
use x402_chain::network::Environment;
use x402_chain::time::UnixMillis;
use x402_core::audit::AuditAction;
use x402_core::billing::answer::read_customer;
use x402_core::billing::due::next_due;
use x402_core::billing::form;
use x402_core::billing::notice::{changed_by_text, changed_text};
use x402_core::billing::state::{BillingPicture, BillingState, Entitlement, entitlement, picture_of};
use x402_core::billing::subscription::{Subscription, SubscriptionStatus, read_page, unreadable};
use x402_core::error::{ErrorCode, Fault};
use x402_core::messages::ledger::{LedgerEnvelope, LedgerMessage};
use x402_core::tenancy::tenant::TenantStatus;
use x402_core::tenancy::tier::Tier;

/// Pages of a hundred subscriptions of one customer that are read. More than that nobody has by way of us.
const PAGES_MAX: usize = 10;
/// When a customer is read again whose read has failed, and one of whom not all was done.
const FAILED_MS: u64 = 5 * 60_000;
const UNFINISHED_MS: u64 = 60 * 60_000;

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
    /// Why something beside it was not done, such as the end of a second subscription: it is tried again.
    pub(crate) unfinished: Option<Fault>,
}

/// What Stripe says of a customer.
pub(crate) struct Found {
    /// All subscriptions.
    all: Vec<Subscription>,
    /// What follows from them.
    picture: BillingPicture,
    /// Whether the customer was deleted.
    is_deleted: bool,
}

/// All subscriptions of a customer; `None` where Stripe knows no such customer.
async fn read_subscriptions(stripe: &Stripe<'_>, customer: &str) -> Result<Option<Vec<Subscription>>, Fault> {
    let mut all: Vec<Subscription> = Vec::new();
    for _ in 0..PAGES_MAX {
        let after = all.last().map(|last| last.id.clone());
        match stripe.read(&form::list_subscriptions(customer, after.as_deref())).await {
            Ok(body) => {
                let (page, has_more) = read_page(&body)?;
                let is_last = !has_more || page.is_empty();
                all.extend(page);
                if is_last {
                    return Ok(Some(all));
                }
            }
            // Of a later page it may be the subscription that is gone.
            Err(failure) if failure.is_missing() && after.is_none() => return Ok(None),
            Err(failure) => return Err(failure.into()),
        }
    }
    Err(unreadable("a customer with more than a thousand subscriptions"))
}

/// What Stripe says of a customer; `None` where it knows no such customer. That is no word about the customer: a key of
/// another mode or account is answered so. A customer that was deleted is still shown, as deleted, and as nothing else is.
///
/// # Errors
/// `MISCONFIGURED`, `UPSTREAM_UNAVAILABLE`.
pub(crate) async fn read_customer_of(stripe: &Stripe<'_>, customer: &str) -> Result<Option<Found>, Fault> {
    let listed = read_subscriptions(stripe, customer).await?;
    let (is_listed, all) = (listed.is_some(), listed.unwrap_or_default());
    let picture = picture_of(&all);
    if picture.state.as_ref().is_some_and(|state| state.status.is_live()) {
        return Ok(Some(Found { all, picture, is_deleted: false }));
    }
    let is_deleted = match stripe.read(&form::read_customer(customer)).await {
        Ok(body) => read_customer(&body)?.is_deleted,
        Err(failure) if failure.is_missing() => return Ok(None),
        Err(failure) => return Err(failure.into()),
    };
    if !is_listed && !is_deleted {
        return Err(unreadable("a customer whose subscriptions are not known"));
    }
    Ok(Some(Found { all, picture, is_deleted }))
}

/// Stripe knows no such customer: nothing follows from that but that the key is another's.
fn unknown_customer(customer: &str) -> Fault {
    let detail = "billing is not set up: Stripe does not know the tenant's customer by STRIPE_SECRET_KEY, which must be of the \
                  account and the mode in which it was made";
    Fault::new(ErrorCode::Misconfigured, detail).after(60).because(format!("unknown customer {customer}"))
}

/// Reads a tenant's subscriptions back from Stripe, and writes what follows. `None` where the tenant has no customer.
///
/// # Errors
/// `MISCONFIGURED`, `UPSTREAM_UNAVAILABLE`; where the directory fails.
pub(crate) async fn sync(app: &App, author: Author<'_>) -> Result<Option<Synced>, Fault> {
    let (stripe, db) = (Stripe::of(app)?, app.db()?);
    let Some(row) = begin_read(&db, author.tenant()).await? else { return Ok(None) };
    let Some(customer) = row.customer.clone() else { return Ok(None) };
    let read = async || read_customer_of(&stripe, &customer).await?.ok_or_else(|| unknown_customer(&customer));
    let mut found = read().await?;
    let standing = read_standing(&db, author.tenant()).await?;
    let ended = upkeep::end_what_ends(app, author, (&row, &standing), &found).await;
    if ended.as_ref().is_ok_and(|is_changed| *is_changed) {
        found = read().await?;
    }
    // A customer that was deleted may be listed without its subscriptions, all of which have ended.
    let canceled = || row.state.clone().map(|state| BillingState { status: SubscriptionStatus::Canceled, ..state });
    let state = found.picture.state.clone().or_else(|| if found.is_deleted { canceled() } else { None });
    let changed = write(app, &db, author, (&row, &found.picture, state.as_ref()), found.is_deleted).await?;
    let is_loaded = !changed.tier || load_ledgers(app, author).await.is_ok();
    let now_kept = read_billing(&db, author.tenant()).await?;
    let row = now_kept.ok_or_else(|| Fault::internal("a row of billing is gone"))?;
    // Another read that began later does the rest by itself.
    let finished = match row.read_ticket == changed.ticket && row.customer.is_some() {
        true => ended.map(|_| ()).and(finish(app, author, (&customer, &row, &standing), &found).await),
        false => Ok(()),
    };
    let unfinished = finished.err();
    if let Some(fault) = &unfinished {
        event(TelemetryKind::BillingFailed, &[TelemetryField::Cause(fault)]);
        want_read(&db, author.tenant(), author.now().plus(UNFINISHED_MS)).await?;
    }
    Ok(Some(Synced { row, is_loaded, unfinished }))
}

/// What else follows from a read: it has been written, and none of this fails it.
async fn finish(
    app: &App,
    author: Author<'_>,
    (customer, row, standing): (&str, &BillingRow, &StandingRow),
    found: &Found,
) -> Result<(), Fault> {
    let surplus = surplus::end_all(app, author, (customer, row), found).await;
    let is_live = row.state.as_ref().is_some_and(|state| state.status.is_live());
    let is_sold =
        standing.tier_by == TierBy::Billing && standing.status == TenantStatus::Active && !standing.is_deleting;
    let expired = match row.checkout_until > author.now() && (is_live || !is_sold) {
        true => operation::expire_checkouts(app, author.tenant(), (customer, row.read_ticket)).await,
        false => Ok(()),
    };
    let told = upkeep::tell_customer(app, author, (row, standing), customer).await;
    surplus.and(expired).and(told)
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
    let paid = match (state, &row.state) {
        // There has never been a subscription: a tier that it has is of an operator, by a build that did not say so.
        (None, None) => Entitlement::Unknown,
        _ => entitlement(state, since, now),
    };
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
    let of_tier = tier_change(author.change(AuditAction::TierUpdated, &author.tenant().to_string())?, from, to);
    let (text, posted, mails) =
        notice_of(app, db, author, changed_by_text(from, to, found.state.map(|state| state.status))).await?;
    let tier = TierFound { tier: to, made: &of_tier, notice: notice(app, author.now(), (&text, posted, &mails))? };
    let is_changed = put_found(db, found, made, Some(&tier)).await?;
    if is_changed {
        alerts::queue(app, &mails).await;
    }
    Ok(is_changed)
}

/// Ends the grace of a tenant whose customer cannot be read: that it has ended follows from what was read before, and the next
/// read gives the plan back where its invoice was paid meanwhile.
///
/// # Errors
/// Where the directory fails.
pub(crate) async fn end_grace(app: &App, tenant: TenantId, now: UnixMillis) -> Result<(), Fault> {
    let (db, author) = (app.db()?, Author::System(tenant, now));
    let Some(row) = read_billing(&db, tenant).await? else { return Ok(()) };
    let is_past_due = row.state.as_ref().is_some_and(|state| state.status == SubscriptionStatus::PastDue);
    let (before, _) = d1::read_tenant(&db, tenant).await?;
    let Some(to) = stored_tier(Some(&row), now) else { return Ok(()) };
    if !is_past_due || before.tier_by != TierBy::Billing || to >= before.tier {
        return Ok(());
    }
    let made = tier_change(author.change(AuditAction::TierUpdated, &tenant.to_string())?, before.tier, to);
    let (text, posted, mails) =
        notice_of(app, &db, author, changed_by_text(before.tier, to, Some(SubscriptionStatus::PastDue))).await?;
    let tier = TierFound { tier: to, made: &made, notice: notice(app, now, (&text, posted, &mails))? };
    if put_tier(&db, row.read_ticket, &tier).await? {
        alerts::queue(app, &mails).await;
        // The timed job of each minute makes those load it that do not.
        let _ = load_ledgers(app, author).await;
    }
    Ok(())
}

/// What the audit log records of a tier that is another.
fn tier_change(made: Change, from: Tier, to: Tier) -> Change {
    made.detail(format!("{} → {}", from.plan().name, to.plan().name))
}

/// The statements that set a tier by an operator's hand, with its entry and the notice to owners, and the mails of that.
///
/// # Errors
/// Where the directory fails.
pub(crate) async fn tier_by_hand(
    app: &App,
    made: Change,
    (from, to): (Tier, Tier),
) -> Result<(Vec<D1PreparedStatement>, Vec<(MailId, String)>), Fault> {
    let (db, author) = (app.db()?, Author::System(made.tenant, made.at));
    let made = tier_change(made, from, to);
    let (text, posted, mails) = notice_of(app, &db, author, changed_text(from, to)).await?;
    let tier = TierFound { tier: to, made: &made, notice: notice(app, made.at, (&text, posted, &mails))? };
    let statements = d1::billing::tier_by_hand(&db, &tier)?;
    Ok((statements, mails))
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

/// Syncs the tenant that has a customer; nothing for a customer that no tenant has. Where that fails the timed job does it,
/// however long the fault lasts.
///
/// # Errors
/// As [`sync`]; also where something beside it was not done.
pub(crate) async fn sync_customer(app: &App, customer: &str, now: UnixMillis) -> Result<(), Fault> {
    let db = app.db()?;
    let synced = async {
        let Some(row) = billing_of(&db, customer).await? else { return Ok(()) };
        match sync(app, Author::System(row.tenant, now)).await? {
            Some(Synced { unfinished: Some(fault), .. }) => Err(fault),
            Some(_) | None => Ok(()),
        }
    }
    .await;
    if synced.is_err() {
        want_read_of(&db, customer, now.plus(FAILED_MS)).await?;
    }
    synced
}

/// Deletes the customer of a tenant that is erased, which ends its subscriptions at once, and forgets what is kept of it;
/// whether that is done. Without a key, or by the key of another account, it is not: nobody else knows the customer.
///
/// # Errors
/// `MISCONFIGURED`; where Stripe or the directory fails.
pub(crate) async fn erase(app: &App, tenant: TenantId) -> Result<bool, Fault> {
    let db = app.db()?;
    if let Some(customer) = read_billing(&db, tenant).await?.and_then(|row| row.customer) {
        let stripe = Stripe::of(app)?;
        match stripe.read(&form::delete_customer(&customer)).await {
            Ok(_) => {}
            // It was deleted before, or it is of another account.
            Err(failure) if failure.is_missing() => match stripe.read(&form::read_customer(&customer)).await {
                Ok(body) if read_customer(&body)?.is_deleted => {}
                Ok(_) => return Ok(false),
                Err(failure) if failure.is_missing() => return Err(unknown_customer(&customer)),
                Err(failure) => return Err(failure.into()),
            },
            Err(failure) => return Err(failure.into()),
        }
    }
    erase_billing(&db, tenant).await.map(|()| true)
}

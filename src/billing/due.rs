//! What is due by time: the mail before a trial's end, the mails after a failed charge, the end of its grace. Stripe is read
//! before each: nobody gets a mail about an invoice that was paid a minute ago, nor several of which one says all.

use super::{Author, end_grace, notice, notice_of, sync};
use crate::alerts;
use crate::app::App;
use crate::d1;
use crate::d1::billing::rows::DueRow;
use crate::d1::billing::{due, put_again, put_done, put_off};
use crate::stripe::Stripe;
use crate::telemetry::{TelemetryField, TelemetryKind, event};
use x402_api::billing::TierBy;
use x402_chain::time::UnixMillis;
use x402_core::billing::answer::read_open_invoice;
use x402_core::billing::due::{DueStep, due_by, next_due};
use x402_core::billing::form;
use x402_core::billing::notice::{DueNotice, due_text};
use x402_core::error::Fault;

/// Tenants of one run.
const TENANTS_MAX: u64 = 50;
/// Until a tenant is tried again whose customer could not be read.
const AGAIN_MS: u64 = 5 * 60_000;
/// The newest invoices of a customer, of which one may be paid.
const INVOICES: u32 = 10;

/// Does what is due; returns for how many tenants. One that fails keeps no other waiting.
///
/// # Errors
/// Where the directory fails.
pub(crate) async fn go_on(app: &App, now: UnixMillis) -> Result<usize, Fault> {
    let db = app.db()?;
    let mut done = 0_usize;
    for row in due(&db, now, TENANTS_MAX).await? {
        match step(app, &row, now).await {
            Ok(()) => done = done.saturating_add(1),
            Err(fault) => {
                // Without the key nothing is to be sent, which is no fault.
                if app.settings.stripe_key().is_some() {
                    event(TelemetryKind::BillingFailed, &[TelemetryField::Cause(&fault)]);
                }
                end_grace(app, row.tenant, now).await?;
                put_again(&db, &row, now.plus(AGAIN_MS)).await?;
            }
        }
    }
    Ok(done)
}

async fn step(app: &App, row: &DueRow, now: UnixMillis) -> Result<(), Fault> {
    let (db, author) = (app.db()?, Author::System(row.tenant, now));
    let Some(synced) = sync(app, author).await? else { return put_off(&db, row, None).await };
    let kept = synced.row;
    let Some(at) = kept.due_at else { return Ok(()) };
    let row = DueRow { tenant: row.tenant, at };
    let (state, since) = (kept.state.as_ref(), kept.past_due_since);
    let Some(next) = due_by(state, since, kept.due_done.as_deref(), now) else { return put_off(&db, &row, None).await };
    if next.at > now {
        return if next.at == at { Ok(()) } else { put_off(&db, &row, Some(next.at)).await };
    }
    let after = next_due(state, since, Some(&next.mark)).map(|due| due.at);
    let (tenant, _) = d1::read_tenant(&db, row.tenant).await?;
    let invoice = match (next.step, kept.customer.as_deref()) {
        (DueStep::PaymentFailed(_), Some(customer)) => open_invoice(app, customer).await?,
        (DueStep::PaymentFailed(_) | DueStep::TrialEnds(_) | DueStep::GraceEnds, _) => None,
    };
    let of = DueNotice {
        plan: state.and_then(|state| state.plan),
        is_by_operator: tenant.tier_by == TierBy::Operator,
        invoice_url: invoice.as_deref(),
    };
    let Some((kind, text)) = due_text(next.step, of) else {
        return put_done(&db, &row, (&next.mark, after), None).await;
    };
    let (text, posted, mails) = notice_of(app, &db, author, text).await?;
    let new = notice(app, now, (&text, posted, &mails))?;
    put_done(&db, &row, (&next.mark, after), Some((kind, &new))).await?;
    alerts::queue(app, &mails).await;
    Ok(())
}

/// The page on which the newest invoice that is open is paid: a mail about a charge that has failed leads there.
async fn open_invoice(app: &App, customer: &str) -> Result<Option<String>, Fault> {
    read_open_invoice(&Stripe::of(app)?.read(&form::list_invoices(customer, INVOICES, None)).await?)
}

//! Messages of the queues: ids of mails, and of customers at Stripe. Each is acknowledged or tried again by itself: an error of
//! the whole batch would send the others a second time.

use crate::app;
use crate::app::App;
use crate::billing::sync_customer;
use crate::mail;
use crate::mail::MailStep;
use crate::metering;
use crate::reporting;
use crate::telemetry::{TelemetryField, TelemetryKind, counts, event};
use futures_util::stream::{self, StreamExt};
use std::collections::BTreeMap;
use worker::{Env, MessageBatch, MessageExt, QueueRetryOptionsBuilder, RawMessage};
use x402_chain::time::UnixMillis;
use x402_core::billing::form::is_stripe_id;
use x402_core::error::Fault;
use x402_core::metrics::MetricFamily;

/// Until a mail is tried again where the directory failed, milliseconds.
const RETRY_MS: u64 = 30_000;
/// The longest delay that a queue takes: a day.
const DELAY_S_MAX: u32 = 86_400;
/// Mails that are sent at the same time: one that takes long holds up no other of its batch, and the platform opens six
/// connections.
const AT_ONCE: usize = 5;

/// Until a customer is read again where Stripe or the directory failed, milliseconds: a hundred times (`wrangler.toml`). A fault
/// that lasts longer is noted in the directory, and the timed job reads the customer when it is over.
const CUSTOMER_RETRY_MS: u64 = 15_000;

/// Takes a batch of any queue: an id says which it is of.
pub(super) async fn take(batch: MessageBatch<()>, env: Env) {
    let app = App::new(env, "");
    let mut mails: Vec<RawMessage> = Vec::new();
    let mut customers: BTreeMap<String, Vec<RawMessage>> = BTreeMap::new();
    let now = app::now();
    for message in batch.raw_iter() {
        let id = message.body().as_string().unwrap_or_default();
        let queue = if is_stripe_id(&id, "cus_") { "stripe" } else { "mails" };
        let entered = UnixMillis(message.timestamp().as_millis());
        counts::observe(MetricFamily::QueueLag, &[queue], now.since(entered));
        match is_stripe_id(&id, "cus_") {
            true => customers.entry(id).or_default().push(message),
            false => mails.push(message),
        }
    }
    stream::iter(mails).for_each_concurrent(AT_ONCE, |message| take_mail(app.as_ref(), message)).await;
    stream::iter(customers).for_each_concurrent(AT_ONCE, |of| take_customer(app.as_ref(), of)).await;
    let Ok(app) = app else { return };
    if let Some(work) = metering::send_due(app.env(), app::now()) {
        work.await;
    }
    if let Some(work) = reporting::send_due(app.env()) {
        work.await;
    }
}

/// Reads a customer back once for all events about it that have come together: each of them had happened before.
async fn take_customer(app: Result<&App, &Fault>, (customer, messages): (String, Vec<RawMessage>)) {
    let synced = match app {
        Ok(app) => sync_customer(app, &customer, app::now()).await,
        Err(fault) => Err(fault.clone()),
    };
    if let Err(fault) = &synced {
        event(TelemetryKind::BillingFailed, &[TelemetryField::Cause(fault)]);
    }
    for message in messages {
        match synced {
            Ok(()) => message.ack(),
            Err(_) => retry(&message, CUSTOMER_RETRY_MS),
        }
    }
}

async fn take_mail(app: Result<&App, &Fault>, message: RawMessage) {
    let step = match app {
        Ok(app) => mail::send(app, &message.body().as_string().unwrap_or_default(), app::now()).await,
        Err(fault) => Err(fault.clone()),
    };
    let again_ms = match step {
        Ok(MailStep::Done) => return message.ack(),
        Ok(MailStep::Again(ms)) => ms,
        Err(fault) => {
            event(TelemetryKind::MailNotSent, &[TelemetryField::Cause(&fault)]);
            RETRY_MS
        }
    };
    // Never before the row's own time.
    retry(&message, again_ms);
}

/// Has a message come again after so many milliseconds.
fn retry(message: &RawMessage, after_ms: u64) {
    let seconds = u32::try_from(after_ms.div_ceil(1_000)).unwrap_or(DELAY_S_MAX).min(DELAY_S_MAX);
    message.retry_with_options(&QueueRetryOptionsBuilder::new().with_delay_seconds(seconds).build());
}

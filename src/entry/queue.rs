//! Messages of the queues: ids of mails, and of customers at Stripe. Each is acknowledged or tried again by itself: an error of
//! the whole batch would send the others a second time.

use crate::app;
use crate::app::App;
use crate::billing::sync_customer;
use crate::mail;
use crate::mail::MailStep;
use crate::telemetry::{TelemetryField, TelemetryKind, event};
use worker::{Env, MessageBatch, MessageExt, QueueRetryOptionsBuilder};
use x402_core::billing::form::is_stripe_id;

/// Until a mail is tried again where the directory failed, milliseconds.
const RETRY_MS: u64 = 30_000;
/// The longest delay that a queue takes: a day.
const DELAY_S_MAX: u32 = 86_400;

/// Until a customer is read again where Stripe or the directory failed, milliseconds.
const CUSTOMER_RETRY_MS: u64 = 15_000;

/// Takes a batch of any queue: an id says which it is of.
pub(super) async fn take(batch: MessageBatch<()>, env: Env) {
    let app = App::new(env, "");
    // Several events about a customer come together: one read answers all.
    let mut read: Vec<String> = Vec::new();
    for message in batch.raw_iter() {
        let id = message.body().as_string().unwrap_or_default();
        let step = match &app {
            Ok(_) if read.contains(&id) => Ok(MailStep::Done),
            Ok(app) if is_stripe_id(&id, "cus_") => match sync_customer(app, &id, app::now()).await {
                Ok(()) => {
                    read.push(id);
                    Ok(MailStep::Done)
                }
                Err(fault) => {
                    event(TelemetryKind::BillingFailed, &[TelemetryField::Cause(&fault)]);
                    Ok(MailStep::Again(CUSTOMER_RETRY_MS))
                }
            },
            Ok(app) => mail::send(app, &id, app::now()).await,
            Err(fault) => Err(fault.clone()),
        };
        let again_ms = match step {
            Ok(MailStep::Done) => {
                message.ack();
                continue;
            }
            Ok(MailStep::Again(ms)) => ms,
            Err(fault) => {
                event(TelemetryKind::MailNotSent, &[TelemetryField::Cause(&fault)]);
                RETRY_MS
            }
        };
        // Never before the row's own time.
        let seconds = u32::try_from(again_ms.div_ceil(1_000)).unwrap_or(DELAY_S_MAX).min(DELAY_S_MAX);
        message.retry_with_options(&QueueRetryOptionsBuilder::new().with_delay_seconds(seconds).build());
    }
}

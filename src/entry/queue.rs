//! Messages of the queue of mails. Each is acknowledged or tried again by itself: an error of the whole batch would send
//! the others a second time.

use crate::app;
use crate::app::App;
use crate::mail;
use crate::mail::MailStep;
use crate::telemetry::{TelemetryField, TelemetryKind, event};
use futures_util::stream::{self, StreamExt};
use worker::{Env, MessageBatch, MessageExt, QueueRetryOptionsBuilder, RawMessage};
use x402_core::error::Fault;

/// Until a mail is tried again where the directory failed, milliseconds.
const RETRY_MS: u64 = 30_000;
/// The longest delay that a queue takes: a day.
const DELAY_S_MAX: u32 = 86_400;
/// Mails that are sent at the same time: one that takes long holds up no other of its batch, and the platform opens six
/// connections.
const AT_ONCE: usize = 5;

/// Sends the mails of a batch.
pub(super) async fn take(batch: MessageBatch<()>, env: Env) {
    let app = App::new(env, "");
    stream::iter(batch.raw_iter()).for_each_concurrent(AT_ONCE, |message| take_message(app.as_ref(), message)).await;
}

async fn take_message(app: Result<&App, &Fault>, message: RawMessage) {
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
    let seconds = u32::try_from(again_ms.div_ceil(1_000)).unwrap_or(DELAY_S_MAX).min(DELAY_S_MAX);
    message.retry_with_options(&QueueRetryOptionsBuilder::new().with_delay_seconds(seconds).build());
}

//! Messages of the queue of mails. Each is acknowledged or tried again by itself: an error of the whole batch would send
//! the others a second time.

use crate::app;
use crate::app::App;
use crate::mail;
use crate::mail::MailStep;
use crate::telemetry::{TelemetryField, TelemetryKind, event};
use worker::{Env, MessageBatch, MessageExt, QueueRetryOptionsBuilder};

/// Until a mail is tried again where the directory failed, milliseconds.
const RETRY_MS: u64 = 30_000;
/// The longest delay that a queue takes: a day.
const DELAY_S_MAX: u32 = 86_400;

/// Sends the mails of a batch.
pub(super) async fn take(batch: MessageBatch<()>, env: Env) {
    let app = App::new(env, "");
    for message in batch.raw_iter() {
        let step = match &app {
            Ok(app) => mail::send(app, &message.body().as_string().unwrap_or_default(), app::now()).await,
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

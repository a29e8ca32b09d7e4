//! Messages of the queue of mails. Each is acknowledged or tried again by itself: an error of the whole batch would send
//! the others a second time.

use crate::app;
use crate::app::App;
use crate::mail;
use crate::telemetry::{TelemetryField, TelemetryKind, event};
use worker::{Env, MessageBatch, MessageExt, QueueRetryOptionsBuilder};

/// Seconds until a mail that could not be sent is tried again.
const RETRY_S: u32 = 30;

/// Sends the mails of a batch.
pub(super) async fn take(batch: MessageBatch<()>, env: Env) {
    let app = App::new(env, "");
    for message in batch.raw_iter() {
        let sent = match &app {
            Ok(app) => mail::send(app, &message.body().as_string().unwrap_or_default(), app::now()).await,
            Err(fault) => Err(fault.clone()),
        };
        match sent {
            Ok(()) => message.ack(),
            Err(fault) => {
                event(TelemetryKind::MailNotSent, &[TelemetryField::Cause(&fault)]);
                message.retry_with_options(&QueueRetryOptionsBuilder::new().with_delay_seconds(RETRY_S).build());
            }
        }
    }
}

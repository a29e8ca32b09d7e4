//! Sends errors to Sentry. Whoever does work calls [`send_due`] after it: nothing waits for that, and nothing depends on it.

use crate::app;
use crate::app::App;
use crate::outbound::{OutboundRequest, deadline, request_headers, send_report};
use crate::telemetry::errors::{note_panic, with_outbox};
use crate::telemetry::{TelemetryField, TelemetryKind, event};
use serde::Deserialize;
use serde_json::Value;
use std::rc::Rc;
use worker::Env;
use x402_core::sentry::envelope::write_envelope;
use x402_core::sentry::limits::backoff_ms;
use x402_core::sentry::outbox::LossReason;
use x402_core::settings::Settings;

/// The time for one event.
const DEADLINE_MS: u32 = 5_000;

/// The work of sending what waits; `None` where nothing does, or without a DSN. It never fails.
pub(crate) fn send_due(env: &Env) -> Option<impl Future<Output = ()> + use<>> {
    if !with_outbox(|outbox| outbox.is_waiting()) {
        return None;
    }
    let app = App::new(env.clone(), "").ok()?;
    if app.settings.sentry().is_none() {
        with_outbox(|outbox| outbox.switch_off());
        return None;
    }
    let events = take(&app.settings);
    let (settings, secrets) = (Rc::clone(&app.settings), app.secrets());
    (!events.is_empty()).then(|| send_all(settings, secrets, events))
}

/// The events to send now.
fn take(settings: &Settings) -> Vec<Value> {
    let random = || u32::from_le_bytes(app::random().unwrap_or_default());
    let per_mille = settings.sentry().map_or(0, |sentry| sentry.sample_per_mille);
    with_outbox(|outbox| outbox.take(app::now(), per_mille, random))
}

/// Sends what waits after an object's work.
pub(crate) fn send_from_object(state: &worker::State, env: &Env) {
    if let Some(work) = send_due(env) {
        state.wait_until(work);
    }
}

async fn send_all(settings: Rc<Settings>, secrets: Vec<String>, mut events: Vec<Value>) {
    while !events.is_empty() {
        send_each(&settings, &secrets, events).await;
        with_outbox(|outbox| outbox.end());
        // Whoever had something meanwhile has left it to this.
        events = take(&settings);
    }
}

async fn send_each(settings: &Settings, secrets: &[String], events: Vec<Value>) {
    let mut left = u64::try_from(events.len()).unwrap_or(u64::MAX);
    for event in events {
        if with_outbox(|outbox| outbox.is_paused(app::now())) {
            return with_outbox(|outbox| outbox.lose(LossReason::Backoff, left));
        }
        match send(settings, secrets, event).await {
            Ok(()) => {}
            // The others would wait as long.
            Err(LossReason::NetworkError) => {
                return with_outbox(|outbox| outbox.lose(LossReason::NetworkError, left));
            }
            Err(reason) => with_outbox(|outbox| outbox.lose(reason, 1)),
        }
        left = left.saturating_sub(1);
    }
}

async fn send(settings: &Settings, secrets: &[String], event: Value) -> Result<(), LossReason> {
    let Some(sentry) = settings.sentry() else { return Ok(()) };
    let lost = with_outbox(|outbox| outbox.take_lost());
    let body = write_envelope(event, &sentry.environment, secrets, (&lost, app::now()));
    let authorization = sentry.dsn.authorization();
    let headers =
        request_headers(&[("content-type", "application/x-sentry-envelope"), ("x-sentry-auth", &authorization)]);
    let request = OutboundRequest {
        url: sentry.dsn.envelope_url(),
        headers: &headers,
        body: Some(&body),
        deadline: deadline(DEADLINE_MS),
        answer_max: 0,
    };
    let outcome = match send_report(request).await {
        Ok(answer) => {
            let pause = backoff_ms(answer.status, answer.limits.as_deref(), answer.retry_after_ms);
            with_outbox(|outbox| outbox.pause(app::now().plus(pause)));
            match answer.status {
                200..=299 => return Ok(()),
                429 => LossReason::Backoff,
                _ => LossReason::SendError,
            }
        }
        Err(_) => LossReason::NetworkError,
    };
    with_outbox(|outbox| outbox.restore_lost(lost));
    Err(outcome)
}

/// What an instance leaves when it panics.
#[derive(Deserialize)]
struct LeftPanic {
    place: String,
    event: Value,
}

/// Reports the panic of the instance before this one: in the log, and at once to Sentry.
pub(crate) async fn report_panic(env: Env, text: String) {
    let Ok(left) = serde_json::from_str::<LeftPanic>(&text) else { return };
    event(TelemetryKind::Panicked, &[TelemetryField::Place(&left.place)]);
    note_panic(left.event);
    if let Some(work) = send_due(&env) {
        work.await;
    }
}

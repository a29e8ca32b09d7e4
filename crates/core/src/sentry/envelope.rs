//! The bytes that leave: one event, scrubbed and bounded, and what was left out since the last.

use super::outbox::LostEvents;
use super::scrub::scrub;
use serde_json::{Value, json};
use x402_chain::time::UnixMillis;

/// The most bytes of an event. Sentry takes a megabyte.
const EVENT_MAX: usize = 64 * 1_024;
/// The most bytes of a text in it.
const TEXT_MAX: usize = 2_048;
/// The most items of a list in it.
const ITEMS_MAX: usize = 64;

/// The envelope of an event (<https://develop.sentry.dev/sdk/foundations/transport/envelopes/>).
#[must_use]
pub fn write_envelope(
    mut event: Value,
    environment: &str,
    secrets: &[String],
    (lost, now): (&LostEvents, UnixMillis),
) -> String {
    if let Some(members) = event.as_object_mut() {
        members.insert("environment".to_owned(), environment.into());
    }
    // A text is scrubbed whole: half of a secret has no longer its form.
    scrub(&mut event, secrets);
    bound(&mut event);
    let mut body = event.to_string();
    // What an event can do without.
    for member in ["breadcrumbs", "extra", "contexts"] {
        if body.len() > EVENT_MAX {
            if let Some(members) = event.as_object_mut() {
                members.remove(member);
            }
            body = event.to_string();
        }
    }
    let id = event.get("event_id").and_then(Value::as_str).unwrap_or_default();
    let head = json!({"event_id": id, "sent_at": now.rfc3339()});
    let item = json!({"type": "event", "content_type": "application/json", "length": body.len()});
    let mut envelope = format!("{head}\n{item}\n{body}\n");
    if !lost.is_empty() {
        let discarded: Vec<Value> = lost
            .iter()
            .map(|(reason, count)| json!({"reason": reason.name(), "category": "error", "quantity": count}))
            .collect();
        let report = json!({"timestamp": now.rfc3339(), "discarded_events": discarded}).to_string();
        let item = json!({"type": "client_report", "length": report.len()});
        envelope.push_str(&format!("{item}\n{report}\n"));
    }
    envelope
}

fn bound(value: &mut Value) {
    match value {
        Value::String(text) => {
            let end = (0..=TEXT_MAX.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
            text.truncate(end);
        }
        Value::Array(items) => {
            // Of calls on a stack and of what has happened before, the last count.
            let surplus = items.len().saturating_sub(ITEMS_MAX);
            items.drain(..surplus);
            items.iter_mut().for_each(bound);
        }
        Value::Object(members) => members.values_mut().for_each(bound),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests;

//! An error as an event of Sentry's (<https://develop.sentry.dev/sdk/foundations/transport/event-payloads/>).

use super::stack::StackFrame;
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use x402_chain::time::UnixMillis;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SentryLevel {
    /// A fault.
    Error,
    /// A panic: the instance is gone.
    Fatal,
}

/// What has happened before, within the same request.
#[derive(Clone, Debug, Serialize)]
pub struct Breadcrumb {
    /// When, as [`sentry_time`] writes it.
    pub timestamp: Value,
    /// `provider` or `step`.
    pub category: &'static str,
    /// What, in a few words.
    pub message: String,
    /// `info`, or `error` where it failed.
    pub level: &'static str,
    /// Details.
    pub data: BTreeMap<&'static str, Value>,
}

/// Where and for whom an error has happened, as far as it is known.
#[derive(Clone, Debug, Default)]
pub struct ErrorSurroundings {
    /// The route's path, with the names of its parameters.
    pub route: Option<String>,
    /// Our key of the network.
    pub chain: Option<String>,
    /// The tenant's id.
    pub tenant: Option<String>,
    /// The request's id.
    pub request_id: Option<String>,
    /// The trace's id, and that of the request's span.
    pub trace: Option<(String, String)>,
    /// What has happened before.
    pub breadcrumbs: Vec<Breadcrumb>,
}

/// What an error is.
#[derive(Clone, Debug)]
pub struct ReportedError {
    /// The kind of event, as the log names it.
    pub kind: String,
    /// The error's code, where it has one.
    pub code: Option<String>,
    /// What is known of the cause.
    pub cause: String,
    /// How bad it is.
    pub level: SentryLevel,
    /// What makes two errors the same; never a text that varies.
    pub fingerprint: Vec<String>,
    /// The stack, the oldest call first; empty where there is none.
    pub frames: Vec<StackFrame>,
    /// Where it has failed, if no route says it.
    pub culprit: Option<String>,
    /// The other facts.
    pub facts: Map<String, Value>,
}

/// Which event it is.
#[derive(Clone, Debug)]
pub struct EventIdentity {
    /// 16 random bytes.
    pub id: [u8; 16],
    /// When it has happened.
    pub at: UnixMillis,
    /// The build that says it.
    pub release: String,
}

#[derive(Serialize)]
struct SentryEvent<'a> {
    event_id: String,
    timestamp: Value,
    platform: &'static str,
    level: SentryLevel,
    logger: &'static str,
    release: &'a str,
    transaction: &'a str,
    culprit: &'a str,
    fingerprint: &'a [String],
    exception: Values<SentryException<'a>>,
    breadcrumbs: Values<&'a Breadcrumb>,
    tags: BTreeMap<&'static str, &'a str>,
    extra: &'a Map<String, Value>,
    contexts: Map<String, Value>,
    sdk: SdkName,
}

#[derive(Serialize)]
struct Values<T> {
    values: Vec<T>,
}

#[derive(Serialize)]
struct SentryException<'a> {
    #[serde(rename = "type")]
    kind: String,
    value: &'a str,
    mechanism: Mechanism,
    #[serde(skip_serializing_if = "Option::is_none")]
    stacktrace: Option<Frames<'a>>,
}

#[derive(Serialize)]
struct Frames<'a> {
    frames: &'a [StackFrame],
}

#[derive(Serialize)]
struct Mechanism {
    #[serde(rename = "type")]
    kind: &'static str,
    handled: bool,
}

#[derive(Serialize)]
struct SdkName {
    name: &'static str,
    version: &'static str,
}

/// Seconds since 1970 with decimals: Spotlight reads no other form.
#[must_use]
pub fn sentry_time(at: UnixMillis) -> Value {
    let (seconds, ms) = (at.seconds().0, at.0.checked_rem(1_000).unwrap_or_default());
    serde_json::from_str(&format!("{seconds}.{ms:03}")).unwrap_or_else(|_| seconds.into())
}

/// The event, without its environment; not scrubbed yet ([`super::envelope::write_envelope`] does both).
#[must_use]
pub fn sentry_event(error: &ReportedError, around: &ErrorSurroundings, identity: &EventIdentity) -> Value {
    let is_panic = error.level == SentryLevel::Fatal;
    let transaction = around.route.as_deref().unwrap_or(&error.kind);
    let tags = [
        ("kind", Some(&error.kind)),
        ("code", error.code.as_ref()),
        ("route", around.route.as_ref()),
        ("chain", around.chain.as_ref()),
        ("tenant", around.tenant.as_ref()),
        ("request_id", around.request_id.as_ref()),
    ];
    let mut contexts = Map::new();
    if let Some((trace, span)) = &around.trace {
        contexts.insert("trace".to_owned(), serde_json::json!({"trace_id": trace, "span_id": span}));
    }
    let exception = SentryException {
        kind: error.code.as_ref().map_or_else(|| error.kind.clone(), |code| format!("{} ({code})", error.kind)),
        value: &error.cause,
        mechanism: Mechanism { kind: if is_panic { "panic" } else { "telemetry" }, handled: !is_panic },
        stacktrace: (!error.frames.is_empty()).then_some(Frames { frames: &error.frames }),
    };
    let event = SentryEvent {
        event_id: hex::encode(identity.id),
        timestamp: sentry_time(identity.at),
        platform: if is_panic { "native" } else { "other" },
        level: error.level,
        logger: "telemetry",
        release: &identity.release,
        transaction,
        culprit: error.culprit.as_deref().unwrap_or(transaction),
        fingerprint: &error.fingerprint,
        exception: Values { values: vec![exception] },
        breadcrumbs: Values { values: around.breadcrumbs.iter().collect() },
        tags: tags.into_iter().filter_map(|(name, value)| Some((name, value?.as_str()))).collect(),
        extra: &error.facts,
        contexts,
        sdk: SdkName { name: "x402-edge", version: env!("CARGO_PKG_VERSION") },
    };
    serde_json::to_value(event).unwrap_or_default()
}

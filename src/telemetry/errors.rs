//! The errors of this isolate that wait to be sent to Sentry ([`crate::reporting`]). Bounded: it may be lost with the isolate.

use super::sentry::reported_error;
use super::{TelemetryField, TelemetryKind};
use crate::app;
use crate::platform::panics::hand_over;
use crate::request_trace::{self, ProviderCall, RequestTrace};
use serde_json::{Map, Value, json};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::PanicHookInfo;
use x402_core::sentry::event::{
    Breadcrumb, ErrorSurroundings, EventIdentity, ReportedError, SentryLevel, sentry_event, sentry_time,
};
use x402_core::sentry::outbox::{SentryOutbox, WaitingEvent};
use x402_core::sentry::stack::{culprit, plain_path, read_stack};

thread_local! {
    static OUTBOX: RefCell<SentryOutbox> = const { RefCell::new(SentryOutbox::new()) };
}

/// Does something with the errors that wait.
pub(crate) fn with_outbox<T>(act: impl FnOnce(&mut SentryOutbox) -> T) -> T {
    OUTBOX.with_borrow_mut(act)
}

/// The build: its version, and its commit where the build knows it.
fn release() -> String {
    match option_env!("X402_EDGE_COMMIT") {
        Some(commit) => format!("x402-edge@{}+{commit}", env!("CARGO_PKG_VERSION")),
        None => format!("x402-edge@{}", env!("CARGO_PKG_VERSION")),
    }
}

fn identity() -> EventIdentity {
    EventIdentity { id: app::random().unwrap_or_default(), at: app::now(), release: release() }
}

/// Keeps what an event of the log reports, where it is an error.
pub(super) fn note(kind: TelemetryKind, fields: &[TelemetryField<'_>]) {
    if !OUTBOX.with_borrow(SentryOutbox::is_on) {
        return;
    }
    let around = request_trace::current().map(|trace| surroundings(&trace)).unwrap_or_default();
    if let Some((error, around)) = reported_error(kind, fields, around) {
        let event = sentry_event(&error, &around, &identity());
        with_outbox(|outbox| outbox.put(WaitingEvent { event, is_always_sent: false }));
    }
}

/// Keeps what the instance before has left when it panicked.
pub(crate) fn note_panic(event: Value) {
    with_outbox(|outbox| outbox.put(WaitingEvent { event, is_always_sent: true }));
}

/// What is known of the request that is being served.
fn surroundings(trace: &RequestTrace) -> ErrorSurroundings {
    let calls = trace.calls();
    let steps = trace.steps().into_iter().map(|(step, ms)| Breadcrumb {
        timestamp: sentry_time(app::now()),
        category: "step",
        message: format!("{}: {ms} ms so far", step.name()),
        level: "info",
        data: BTreeMap::from([("ms", ms.into())]),
    });
    ErrorSurroundings {
        route: trace.route().map(str::to_owned),
        chain: trace.network().map(|network| network.key.to_owned()),
        tenant: trace.tenant().map(|tenant| tenant.to_string()),
        request_id: Some(trace.request_id.to_string()),
        trace: Some((trace.trace_id().to_string(), trace.span().span.to_string())),
        breadcrumbs: calls.iter().map(call_breadcrumb).chain(steps).collect(),
    }
}

fn call_breadcrumb(call: &ProviderCall) -> Breadcrumb {
    let ProviderCall { at, network, host, outcome, ms } = call;
    Breadcrumb {
        timestamp: sentry_time(*at),
        category: "provider",
        message: format!("{host}: {outcome}"),
        level: if *outcome == "ok" { "info" } else { "error" },
        data: BTreeMap::from([
            ("chain", network.key.into()),
            ("provider", host.as_str().into()),
            ("outcome", (*outcome).into()),
            ("ms", (*ms).into()),
        ]),
    }
}

/// Has a panic leave its event where it outlives the instance: the shim gives it to the next one at once.
pub(crate) fn watch_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let (error, line) = panic_error(info, &hand_over::stack());
        let around = request_trace::current_in_panic().map(|trace| surroundings(&trace)).unwrap_or_default();
        let event = sentry_event(&error, &around, &identity());
        hand_over::panicked(&json!({"place": line, "event": event}).to_string());
        // That of `worker`, where it was set before.
        before(info);
    }));
}

/// The error that a panic is, and its place in the sources.
fn panic_error(info: &PanicHookInfo<'_>, stack: &str) -> (ReportedError, String) {
    let (file, line) = info.location().map_or(("", 0), |place| (plain_path(place.file()), place.line()));
    let message = info.payload_as_str().unwrap_or("a panic without words");
    let frames = read_stack(stack);
    let culprit = culprit(&frames).map(str::to_owned);
    let place = format!("{file}:{line}");
    let error = ReportedError {
        kind: TelemetryKind::Panicked.name().to_owned(),
        code: None,
        cause: message.to_owned(),
        level: SentryLevel::Fatal,
        // Lines move with every version.
        fingerprint: ["panic".to_owned(), file.to_owned()].into_iter().chain(culprit.clone()).collect(),
        frames,
        culprit,
        facts: Map::from_iter([("place".to_owned(), place.as_str().into())]),
    };
    (error, place)
}

//! What the Worker says of itself: stable names, and one place that prints.

use crate::tidy::all_sources;
use std::collections::BTreeSet;
use x402_chain::id::RequestId;
use x402_chain::time::UnixMillis;
use x402_core::error::Fault;
use x402_edge::telemetry::{TelemetryField, TelemetryKind, event_line};

#[test]
fn kinds_of_events_have_names_of_their_own() {
    let names: BTreeSet<_> = TelemetryKind::ALL.iter().map(|kind| (kind.name(), kind.level())).collect();
    assert_eq!(names.len(), TelemetryKind::ALL.len());
    for kind in TelemetryKind::ALL {
        assert!(kind.doc().ends_with('.'), "{kind:?}");
    }
}

#[test]
fn a_log_line_is_a_message_and_its_members() {
    let fault = Fault::internal("a cause");
    let fields = [
        TelemetryField::RequestId(RequestId::new(UnixMillis(0), [0; 10])),
        TelemetryField::Code(fault.code),
        TelemetryField::Cause(&fault),
        TelemetryField::Endpoint(None),
        TelemetryField::Settlement(None),
    ];
    let line = event_line(TelemetryKind::Faulted, &fields);
    let members = r#""code":"INTERNAL","endpoint":"none","message":"fault","request_id":"req_"#;
    assert!(line.starts_with(&format!(r#"{{"cause":"a cause",{members}"#)), "{line}");
    assert!(line.ends_with(r#"","settlement":null}"#), "{line}");
    // A fault without a cause is said by its sentence.
    let refused = Fault::new(fault.code, "a sentence");
    assert_eq!(
        event_line(TelemetryKind::CronFailed, &[TelemetryField::Cause(&refused)]),
        r#"{"cause":"a sentence","message":"cron failed"}"#
    );
}

#[test]
fn nothing_prints_but_telemetry() {
    for (file, text) in all_sources() {
        for word in ["console_", "console::", "println!", "print!(", "eprint"] {
            assert!(file == "telemetry.rs" || !text.contains(word), "{file} holds {word}");
        }
    }
}

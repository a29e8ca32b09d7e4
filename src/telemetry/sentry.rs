//! What Sentry is sent about an event of the log: the same facts, those that it can search by as tags.

use super::{TelemetryField, TelemetryKind, TelemetryLevel};
use serde_json::{Map, Value};
use x402_core::sentry::event::{ErrorSurroundings, ReportedError, SentryLevel};

/// The error that an event reports, and where it was; `None` for one that is no error. What the event itself says of its
/// surroundings counts.
#[must_use]
pub fn reported_error(
    kind: TelemetryKind,
    fields: &[TelemetryField<'_>],
    mut around: ErrorSurroundings,
) -> Option<(ReportedError, ErrorSurroundings)> {
    if kind.level() != TelemetryLevel::Error {
        return None;
    }
    let (mut code, mut cause, mut facts) = (None, None, Map::new());
    for field in fields {
        if let TelemetryField::Cause(fault) = field {
            code.get_or_insert_with(|| fault.code.as_str().to_owned());
        }
        let (name, value) = field.member();
        let place = match name {
            "code" => &mut code,
            "cause" => &mut cause,
            "chain" => &mut around.chain,
            "tenant" => &mut around.tenant,
            "request_id" => &mut around.request_id,
            "endpoint" => &mut around.route,
            _ => {
                facts.insert(name.to_owned(), value);
                continue;
            }
        };
        if let Value::String(text) = value {
            place.replace(text);
        }
    }
    let fingerprint = [Some(kind.name().to_owned()), code.clone()].into_iter().flatten().collect();
    let error = ReportedError {
        kind: kind.name().to_owned(),
        code,
        cause: cause.unwrap_or_else(|| kind.doc().to_owned()),
        level: SentryLevel::Error,
        fingerprint,
        frames: Vec::new(),
        culprit: None,
        facts,
    };
    Some((error, around))
}

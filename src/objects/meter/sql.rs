//! Every statement of a Meter.
//!
//! Times are integers of unix milliseconds; counts are TEXT of JSON.

use super::rows::{DepthRow, SequenceRow, SpanRow};
use crate::storage::statements;

statements! {
    /// Binds a source; returns the number of its last addition.
    SEQUENCE_GET: SequenceRow = "SELECT sequence FROM sources WHERE name = ?";
    /// Binds a source, a number and a time.
    SEQUENCE_PUT: () = "INSERT INTO sources (name, sequence, at_ms) VALUES (?, ?, ?)
        ON CONFLICT (name) DO UPDATE SET sequence = excluded.sequence, at_ms = excluded.at_ms";
    /// Binds a time: forgets isolates that have sent nothing since. Ledgers are kept.
    ISOLATES_PURGE: () = "DELETE FROM sources WHERE name >= 'isolate:' AND name < 'isolate;' AND at_ms < ?";
    /// Binds a length and a start; returns what was counted in the span.
    SPAN_GET: SpanRow = "SELECT body FROM spans WHERE length_ms = ? AND start_ms = ?";
    /// Binds a length, a start and a body.
    SPAN_PUT: () = "INSERT INTO spans (length_ms, start_ms, body) VALUES (?, ?, ?)
        ON CONFLICT (length_ms, start_ms) DO UPDATE SET body = excluded.body";
    /// Binds a length and a time; returns what was counted in spans of that length that begin then or later.
    SPANS_FROM: SpanRow = "SELECT body FROM spans WHERE length_ms = ? AND start_ms >= ?";
    /// Binds a length and a time: forgets spans of that length that have begun before.
    SPANS_PURGE: () = "DELETE FROM spans WHERE length_ms = ? AND start_ms < ?";
    /// Binds queue, object, entries, and the time.
    DEPTH_PUT: () = "INSERT INTO depths (queue, object, entries, at_ms) VALUES (?, ?, ?, ?)
        ON CONFLICT (queue, object) DO UPDATE SET entries = excluded.entries, at_ms = excluded.at_ms WHERE excluded.at_ms >= depths.at_ms";
    /// Returns all depths: of objects in which something has waited within a day.
    DEPTHS_GET: DepthRow = "SELECT queue, object, entries, at_ms FROM depths";
    /// Binds a time: forgets depths that were reported before.
    DEPTHS_PURGE: () = "DELETE FROM depths WHERE at_ms < ?";
}

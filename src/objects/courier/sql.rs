//! Every statement of a Courier (the SQLite of a webhook endpoint).
//!
//! Ids are TEXT, which sort by their times; times are integers of unix milliseconds; a body is a message, compressed.

use super::rows::{AttemptRow, CountRow, DueRow, EventRow, MessageRow, SubjectRow, SummaryRow};
use crate::storage::{FirstTime, Present, statements};

statements! {
    /// Returns a row where the tables are made.
    TABLES_GET: Present = "SELECT 1 AS present FROM sqlite_master WHERE name = 'deliveries'";
    /// Binds id, number, subject, kind, when it is due, body; returns a row if the event is new. It is due where no other of its subject
    /// waits, and comes after those that do, also where the clock that has numbered them was ahead.
    DELIVERY_PUT: Present = "INSERT INTO deliveries (event_id, seq, subject, kind, state, attempts, tried, due_ms, body)
        SELECT ?1, MAX(?2, IFNULL((SELECT MAX(seq) + 1 FROM deliveries WHERE subject = ?3 AND state = 'waiting'), 0)),
        ?3, ?4, 'waiting', 0, 0,
        iif(EXISTS (SELECT 1 FROM deliveries WHERE subject = ?3 AND state = 'waiting'), NULL, ?5), ?6
        WHERE true ON CONFLICT (event_id) DO NOTHING RETURNING 1 AS present";
    /// Binds id, number, subject, kind, now, body: one that is not sent, since too many wait.
    DELIVERY_PUT_ENDED: () = "INSERT INTO deliveries (event_id, seq, subject, kind, state, attempts, tried, ended_ms, body)
        VALUES (?, ?, ?, ?, 'exhausted', 0, 0, ?, ?) ON CONFLICT (event_id) DO NOTHING";
    /// Binds a time and a limit; returns deliveries that are due, those first that have waited longest.
    DELIVERIES_DUE: DueRow = "SELECT event_id, subject, attempts, tried FROM deliveries WHERE due_ms <= ?
        ORDER BY due_ms LIMIT ?";
    /// Binds now and a time: what is due later than that is due now.
    DELIVERIES_SOONER: () = "UPDATE deliveries SET due_ms = ?1 WHERE due_ms > ?2";
    /// Returns the next time at which a delivery is due, or null.
    NEXT_DUE: FirstTime = "SELECT MIN(due_ms) AS first_ms FROM deliveries WHERE due_ms IS NOT NULL";
    /// Binds an id; returns the message.
    MESSAGE_GET: MessageRow = "SELECT body FROM deliveries WHERE event_id = ?";
    /// Binds when the attempt counts as lost, and an id: an attempt begins.
    DELIVERY_BEGIN: () = "UPDATE deliveries SET attempts = attempts + 1, tried = tried + 1, due_ms = ?
        WHERE event_id = ? AND state = 'waiting'";
    /// Binds id, number, now.
    ATTEMPT_PUT: () = "INSERT INTO attempts (event_id, n, at_ms, head) VALUES (?, ?, ?, '')
        ON CONFLICT (event_id, n) DO NOTHING";
    /// Binds duration, status or null, failure or null, head, id, number: how the attempt ended.
    ATTEMPT_END: () = "UPDATE attempts SET duration_ms = ?, status = ?, failure = ?, head = ? WHERE event_id = ? AND n = ?";
    /// Binds a time and an id: the delivery is sent again then.
    DELIVERY_AGAIN: () = "UPDATE deliveries SET due_ms = ? WHERE event_id = ? AND state = 'waiting'";
    /// Binds state, now, id; returns the subject if the delivery has waited.
    DELIVERY_END: SubjectRow = "UPDATE deliveries SET state = ?, due_ms = NULL, ended_ms = ?
        WHERE event_id = ? AND state = 'waiting' RETURNING subject";
    /// Binds now and a subject: the first of those about it that wait is due, if none is, since it came (its number are
    /// microseconds): so it has waited as long as it did for the one before it.
    SUBJECT_NEXT: () = "UPDATE deliveries SET due_ms = MIN(?1, seq / 1000) WHERE event_id = (SELECT event_id FROM deliveries
        WHERE subject = ?2 AND state = 'waiting' ORDER BY seq LIMIT 1) AND due_ms IS NULL";
    /// Binds number and id; returns the subject if the delivery has ended: it waits again, after others of its subject.
    DELIVERY_REOPEN: SubjectRow = "UPDATE deliveries SET state = 'waiting', tried = 0, ended_ms = NULL, seq = MAX(?1,
        IFNULL((SELECT MAX(o.seq) + 1 FROM deliveries o WHERE o.subject = deliveries.subject AND o.state = 'waiting'), 0))
        WHERE event_id = ?2 AND state <> 'waiting' RETURNING subject";
    /// Binds now and an id: a delivery that is due, or later, is due from now on, and begins its schedule anew.
    DELIVERY_HASTEN: () = "UPDATE deliveries SET due_ms = ?, tried = 0
        WHERE event_id = ? AND due_ms IS NOT NULL";
    /// Binds an id; returns how many attempts of its schedule a delivery has had that waits.
    TRIED_GET: CountRow = "SELECT tried AS count FROM deliveries WHERE event_id = ? AND state = 'waiting'";
    /// Binds an id, a time and a limit; returns exhausted ones from the id on that ended until then, the oldest first. By the index
    /// that has them in this order: by that of their ends all would be sorted.
    EXHAUSTED_FROM: EventRow = "SELECT event_id FROM deliveries INDEXED BY deliveries_exhausted WHERE event_id >= ?
        AND state = 'exhausted' AND ended_ms <= ? ORDER BY event_id LIMIT ?";
    /// Binds an id; returns how many exhausted ones there are from it on.
    EXHAUSTED_COUNT: CountRow = "SELECT COUNT(*) AS count FROM deliveries WHERE event_id >= ? AND state = 'exhausted'";
    /// Binds an id and a limit; returns those of smaller ids, the greatest first.
    DELIVERIES_BEFORE: SummaryRow = "SELECT event_id, kind, subject, state, attempts, due_ms, ended_ms FROM deliveries
        WHERE event_id < ? ORDER BY event_id DESC LIMIT ?";
    /// Binds an id.
    DELIVERY_GET: SummaryRow = "SELECT event_id, kind, subject, state, attempts, due_ms, ended_ms FROM deliveries
        WHERE event_id = ?";
    /// Binds an id; returns its attempts, the newest first.
    ATTEMPTS_GET: AttemptRow = "SELECT at_ms, duration_ms, status, failure, head FROM attempts WHERE event_id = ? ORDER BY n DESC LIMIT 100";
    /// Returns how many wait.
    WAITING_COUNT: CountRow = "SELECT COUNT(*) AS count FROM deliveries WHERE state = 'waiting'";
    /// Binds a state, a time and a limit; returns deliveries that ended so before it, the first ones first.
    ENDED_BEFORE: EventRow = "SELECT event_id FROM deliveries WHERE state = ? AND ended_ms < ? ORDER BY ended_ms LIMIT ?";
    /// Binds a time and a limit; returns those that have been due since before it, the first ones first.
    DUE_BEFORE: EventRow = "SELECT event_id FROM deliveries WHERE due_ms < ? ORDER BY due_ms LIMIT ?";
    /// Binds a state; returns the first end of those that ended so, or null.
    FIRST_END: FirstTime = "SELECT MIN(ended_ms) AS first_ms FROM deliveries WHERE state = ? AND ended_ms IS NOT NULL";
    /// Binds a state; returns the last end of those that ended so, or null.
    LAST_END: FirstTime = "SELECT MAX(ended_ms) AS first_ms FROM deliveries WHERE state = ? AND ended_ms IS NOT NULL";
    /// Binds an id.
    DELIVERY_DELETE: () = "DELETE FROM deliveries WHERE event_id = ?";
    /// Binds an id and a number: attempts up to it.
    ATTEMPTS_FORGET: () = "DELETE FROM attempts WHERE event_id = ? AND n <= ?";
    /// Binds an id: with its delivery.
    ATTEMPTS_DELETE: () = "DELETE FROM attempts WHERE event_id = ?";
}

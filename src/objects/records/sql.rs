//! Every statement of a Records object (the SQLite of a tenant's month).
//!
//! Amounts and ids are TEXT; times are integers of unix milliseconds; a body is a line, compressed.

use super::rows::{
    DayRow, HourlyTotal, ListedEvent, ListedOutcome, MemberRow, MemberSize, RowCounts, StoredSettlement, StoredShare,
};
use crate::storage::{Present, statements};

statements! {
    /// Returns a row where the tables are made.
    TABLES_GET: Present = "SELECT 1 AS present FROM sqlite_master WHERE name = 'records'";
    /// Binds an id; returns id and body.
    RECORD_GET: MemberRow = "SELECT id, body FROM records WHERE id = ?";
    /// Binds a JSON array of ids; returns what those that are stored have added to the totals, and their bodies.
    SHARES_GET: StoredShare = "SELECT id, revision, chain, outcome, amount, body FROM records
        WHERE id IN (SELECT value FROM json_each(?))";
    /// Binds id, revision, chain, outcome, amount, size, body. An older revision changes nothing.
    RECORD_PUT: () = "INSERT INTO records (id, revision, chain, outcome, amount, size, body) VALUES
        (?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT (id) DO UPDATE SET revision = excluded.revision, chain = excluded.chain,
        outcome = excluded.outcome, amount = excluded.amount, size = excluded.size, body = excluded.body
        WHERE excluded.revision > records.revision";
    /// The same of four records.
    RECORDS_PUT_4: () = "INSERT INTO records (id, revision, chain, outcome, amount, size, body) VALUES
        (?, ?, ?, ?, ?, ?, ?), (?, ?, ?, ?, ?, ?, ?), (?, ?, ?, ?, ?, ?, ?), (?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT (id) DO UPDATE SET revision = excluded.revision, chain = excluded.chain,
        outcome = excluded.outcome, amount = excluded.amount, size = excluded.size, body = excluded.body
        WHERE excluded.revision > records.revision";
    /// The same of fourteen: a statement binds at most 100 values.
    RECORDS_PUT_14: () = "INSERT INTO records (id, revision, chain, outcome, amount, size, body) VALUES
        (?, ?, ?, ?, ?, ?, ?), (?, ?, ?, ?, ?, ?, ?), (?, ?, ?, ?, ?, ?, ?), (?, ?, ?, ?, ?, ?, ?),
        (?, ?, ?, ?, ?, ?, ?), (?, ?, ?, ?, ?, ?, ?), (?, ?, ?, ?, ?, ?, ?), (?, ?, ?, ?, ?, ?, ?),
        (?, ?, ?, ?, ?, ?, ?), (?, ?, ?, ?, ?, ?, ?), (?, ?, ?, ?, ?, ?, ?), (?, ?, ?, ?, ?, ?, ?),
        (?, ?, ?, ?, ?, ?, ?), (?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT (id) DO UPDATE SET revision = excluded.revision, chain = excluded.chain,
        outcome = excluded.outcome, amount = excluded.amount, size = excluded.size, body = excluded.body
        WHERE excluded.revision > records.revision";
    /// Binds an id and a limit; returns id and size of smaller ids, the greatest first.
    SIZES_BEFORE: MemberSize = "SELECT id, size FROM records WHERE id < ? ORDER BY id DESC LIMIT ?";
    /// Binds id, kind, subject, size, body; harmless when repeated.
    EVENT_PUT: () = "INSERT INTO events (id, kind, subject, size, body) VALUES (?, ?, ?, ?, ?)
        ON CONFLICT (id) DO NOTHING";
    /// Binds an id; returns id and body.
    EVENT_GET: MemberRow = "SELECT id, body FROM events WHERE id = ?";
    /// Binds two ids and a limit; returns id, size, kind and subject (null in rows of older builds) of ids less than the
    /// first, from the second on, the greatest first.
    EVENTS_BEFORE: ListedEvent = "SELECT id, size, kind, subject FROM events WHERE id < ? AND id >= ?
        ORDER BY id DESC LIMIT ?";
    /// Binds two ids and a limit; returns id, size and outcome of ids less than the first, from the second on, the
    /// greatest first.
    OUTCOMES_BEFORE: ListedOutcome = "SELECT id, size, outcome FROM records WHERE id < ? AND id >= ?
        ORDER BY id DESC LIMIT ?";
    /// Binds an id and a limit; returns id and size of greater ids, the smallest first.
    RECORD_SIZES: MemberSize = "SELECT id, size FROM records WHERE id > ? ORDER BY id LIMIT ?";
    /// The same of events.
    EVENT_SIZES: MemberSize = "SELECT id, size FROM events WHERE id > ? ORDER BY id LIMIT ?";
    /// Binds two ids and a limit; returns id and body after the first, up to the second.
    RECORDS_BETWEEN: MemberRow = "SELECT id, body FROM records WHERE id > ? AND id <= ? ORDER BY id LIMIT ?";
    /// The same of events.
    EVENTS_BETWEEN: MemberRow = "SELECT id, body FROM events WHERE id > ? AND id <= ? ORDER BY id LIMIT ?";
    /// Returns how many records and events there are.
    COUNTS_GET: RowCounts =
        "SELECT (SELECT COUNT(*) FROM records) AS records, (SELECT COUNT(*) FROM events) AS events";
    /// Binds hour, chain, outcome; returns the total.
    TOTAL_GET: HourlyTotal = "SELECT hour_ms, chain, outcome, count, amount, revision FROM totals
        WHERE hour_ms = ? AND chain = ? AND outcome = ?";
    /// Binds a time and a later one; returns the totals of the hours from the first, before the second.
    TOTALS_BETWEEN: HourlyTotal = "SELECT hour_ms, chain, outcome, count, amount, revision FROM totals
        WHERE hour_ms >= ? AND hour_ms < ?";
    /// Binds a limit; returns totals that the directory does not hold as they are. There are a few for each hour.
    TOTALS_CHANGED: HourlyTotal = "SELECT hour_ms, chain, outcome, count, amount, revision FROM totals
        WHERE revision > copied LIMIT ?";
    /// Binds hour, chain, outcome, count, amount, revision, and the revision that the directory holds.
    TOTAL_PUT: () = "INSERT INTO totals (hour_ms, chain, outcome, count, amount, revision, copied)
        VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (hour_ms, chain, outcome) DO UPDATE SET count = excluded.count,
        amount = excluded.amount, revision = excluded.revision";
    /// Binds a revision, and hour, chain, outcome: the directory holds the total of that revision.
    TOTAL_COPIED: () = "UPDATE totals SET copied = ? WHERE hour_ms = ? AND chain = ? AND outcome = ?";
    /// Binds the start of a day; returns what is counted of it beside the totals.
    DAY_GET: DayRow = "SELECT body FROM days WHERE day_ms = ?";
    /// Binds the start of a day, and what is counted of it.
    DAY_PUT: () = "INSERT INTO days (day_ms, body) VALUES (?, ?)
        ON CONFLICT (day_ms) DO UPDATE SET body = excluded.body";
    /// Binds an id; returns the settlement as it is counted.
    SETTLEMENT_GET: StoredSettlement =
        "SELECT id, revision, network, status, amount FROM settlements WHERE id = ?";
    /// Binds id, revision, network, status, amount.
    SETTLEMENT_PUT: () = "INSERT INTO settlements (id, revision, network, status, amount) VALUES (?, ?, ?, ?, ?)
        ON CONFLICT (id) DO UPDATE SET revision = excluded.revision, network = excluded.network,
        status = excluded.status, amount = excluded.amount";
}

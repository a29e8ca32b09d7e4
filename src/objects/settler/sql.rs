//! Every statement of a Settler (the SQLite of its Durable Object).
//!
//! Keys and JSON are TEXT; times are integers of unix milliseconds.

use super::rows::{FlightKey, FlightNonce, FlightRow, FlyingFlight, TrackedFlight};
use crate::storage::{FirstTime, Present, statements};
use x402_core::messages::settler::HeldPayer;
use x402_core::settlement::penalty::Penalty;

statements! {
    /// Binds a key and a time: the attempt is never launched.
    REFUSED_PUT: () = "INSERT INTO refused (key, at_ms) VALUES (?, ?) ON CONFLICT (key) DO NOTHING";
    /// Binds a key; returns a row where the attempt is never launched.
    REFUSED_GET: Present = "SELECT 1 AS present FROM refused WHERE key = ?";
    /// Binds a time: deletes attempts that were refused before it; no launch comes that late.
    REFUSED_PURGE: () = "DELETE FROM refused WHERE at_ms < ?";
    /// Binds a payer; returns how many have reverted, and until when nothing is launched.
    PENALTY_GET: Penalty = "SELECT count, until_ms FROM penalties WHERE payer = ?";
    /// Binds payer, count, until when.
    PENALTY_PUT: () = "INSERT INTO penalties (payer, count, until_ms) VALUES (?, ?, ?)
        ON CONFLICT (payer) DO UPDATE SET count = excluded.count, until_ms = excluded.until_ms";
    /// Binds a payer.
    PENALTY_DELETE: () = "DELETE FROM penalties WHERE payer = ?";
    /// Binds a time; returns the payers held after it and until when, the longest first. The table holds
    /// payers of the last days whose transactions we have paid for in vain.
    PENALTIES_AFTER: HeldPayer =
        "SELECT payer, until_ms FROM penalties WHERE until_ms > ? ORDER BY until_ms DESC LIMIT 2000";
    /// Binds a time: deletes penalties that ended before it.
    PENALTIES_PURGE: () = "DELETE FROM penalties WHERE until_ms < ?";
    /// Binds a key, when the next poll is due, since when it is polled.
    WATCHED_PUT: () = "INSERT INTO watched (key, next_ms, since_ms) VALUES (?, ?, ?)
        ON CONFLICT (key) DO UPDATE SET next_ms = excluded.next_ms";
    /// Binds a time; returns keys and since when they are polled. The table holds what is not yet final.
    WATCHED_DUE: TrackedFlight = "SELECT key, since_ms FROM watched WHERE next_ms <= ? ORDER BY next_ms LIMIT 40";
    /// Returns when the next is due.
    WATCHED_NEXT: FirstTime = "SELECT MIN(next_ms) AS first_ms FROM watched";
    /// Binds a key.
    WATCHED_DELETE: () = "DELETE FROM watched WHERE key = ?";
    /// Binds what was sent and a key: the flight is on its way again.
    FLIGHT_REOPEN: () = "UPDATE flights SET report = NULL, told = 0, sent = ? WHERE key = ?";
    /// Binds key, nonce, flight, what was sent, time.
    FLIGHT_PUT: () = "INSERT INTO flights (key, nonce, flight, sent, changed_ms) VALUES (?, ?, ?, ?, ?)";
    /// Binds a key; returns nonce, flight, what was sent, report, whether the ledger holds it.
    FLIGHT_GET: FlightRow = "SELECT key, nonce, flight, sent, report, told FROM flights WHERE key = ?";
    /// Binds nonce, what was sent, time, key.
    FLIGHT_SENT: () = "UPDATE flights SET nonce = ?, sent = ?, changed_ms = ? WHERE key = ?";
    /// Binds report, time, key. The first report stands.
    FLIGHT_END: () = "UPDATE flights SET report = ?, changed_ms = ? WHERE key = ? AND report IS NULL";
    /// Binds a key: the ledger holds the report.
    FLIGHT_REPORTED: () = "UPDATE flights SET told = 1 WHERE key = ?";
    /// Returns the keys of all that are on their way, by nonce.
    FLIGHTS_OPEN: FlightKey = "SELECT key FROM flights WHERE report IS NULL ORDER BY nonce, key";
    /// Returns the nonces of all that are on their way, the lowest first.
    FLIGHTS_NONCES: FlightNonce = "SELECT nonce FROM flights WHERE report IS NULL ORDER BY nonce";
    /// Binds a key; returns the keys after it of flights that have ended, which the ledger does not know yet.
    FLIGHTS_ENDED: FlightKey =
        "SELECT key FROM flights WHERE told = 0 AND report IS NOT NULL AND key > ? ORDER BY key LIMIT 200";
    /// Binds a key: its report is sent once more.
    FLIGHT_REPORT_AGAIN: () = "UPDATE flights SET told = 0 WHERE key = ? AND report IS NOT NULL";
    /// Returns key and flight of all that are on their way.
    FLIGHTS_FLYING: FlyingFlight = "SELECT key, flight FROM flights WHERE report IS NULL";
    /// Binds a time: deletes flights that were reported before it. What is not yet final is kept: its bytes may have to be
    /// sent again.
    FLIGHTS_PURGE: () =
        "DELETE FROM flights WHERE told = 1 AND changed_ms < ? AND key NOT IN (SELECT key FROM watched)";
}

//! Every statement of a tenant's ledger (the SQLite of its Durable Object).
//!
//! Amounts and ids are TEXT; times are integers of unix milliseconds.

use super::rows::{
    ClaimText, CountedRow, EntryCount, IdempotencyPlace, IdentifierRow, ListedSettlement, OutboxRow, OutboxSize,
    RecordIdRow, RecordRow, RecordSize, SettlementIdRow, SettlementRow, StoredSettlement, WaitingEndpoint,
    WaitingWebhook, WatchGroup, WatchedRow,
};
use crate::storage::{FirstTime, Present, statements};
use x402_core::outbox::StoredRecord;
use x402_core::settlement::payment::PaymentRecord;
use x402_core::tenancy::admission::IdempotencyRecord;
use x402_core::verification::claims::HeldClaim;

statements! {
    /// Binds network, transaction, recipient twice; returns ordinal (null for the whole), id, reference, whether
    /// that is a hash (1 or null), time.
    CLAIMS_GET: HeldClaim = "SELECT NULL AS ordinal, id, reference, hashed, claimed_ms FROM claims
        WHERE network = ? AND tx = ? AND recipient = ?
        UNION ALL SELECT ordinal, id, reference, hashed, claimed_ms FROM log_claims
        WHERE network = ? AND tx = ? AND recipient = ?";
    /// Binds network, transaction, recipient, id, reference, time, and again the first three. Fails where the
    /// whole is claimed; writes a row unless a log is.
    CLAIM_PUT: () = "INSERT INTO claims (network, tx, recipient, id, reference, claimed_ms)
        SELECT ?, ?, ?, ?, ?, ? WHERE NOT EXISTS
        (SELECT 1 FROM log_claims WHERE network = ? AND tx = ? AND recipient = ?)";
    /// Binds network, transaction, recipient, ordinal, id, reference, time, and again the first three. Fails
    /// where the log is claimed; writes a row unless the whole is.
    LOG_CLAIM_PUT: () = "INSERT INTO log_claims (network, tx, recipient, ordinal, id, reference, claimed_ms)
        SELECT ?, ?, ?, ?, ?, ?, ? WHERE NOT EXISTS
        (SELECT 1 FROM claims WHERE network = ? AND tx = ? AND recipient = ?)";
    /// Binds network, transaction, recipient and a limit; returns the claims that follow, with the texts of references.
    CLAIMS_AFTER: ClaimText = "SELECT network, tx, recipient, 0 AS ordinal,
        CASE WHEN hashed IS NULL THEN reference END AS text FROM claims
        WHERE (network, tx, recipient) > (?, ?, ?) ORDER BY network, tx, recipient LIMIT ?";
    /// Binds network, transaction, recipient, ordinal and a limit; the same of logs.
    LOG_CLAIMS_AFTER: ClaimText = "SELECT network, tx, recipient, ordinal,
        CASE WHEN hashed IS NULL THEN reference END AS text FROM log_claims
        WHERE (network, tx, recipient, ordinal) > (?, ?, ?, ?) ORDER BY network, tx, recipient, ordinal LIMIT ?";
    /// Binds a hash, network, transaction, recipient: it takes the place of the reference.
    CLAIM_HASH: () = "UPDATE claims SET reference = ?, hashed = 1
        WHERE network = ? AND tx = ? AND recipient = ? AND hashed IS NULL";
    /// Binds a hash, network, transaction, recipient, ordinal; the same of a log.
    LOG_CLAIM_HASH: () = "UPDATE log_claims SET reference = ?, hashed = 1
        WHERE network = ? AND tx = ? AND recipient = ? AND ordinal = ? AND hashed IS NULL";
    /// Binds a limit: deletes answers and their keys.
    IDEMPOTENCY_ERASE: () = "DELETE FROM idempotency WHERE (route, key) IN
        (SELECT route, key FROM idempotency ORDER BY route, key LIMIT ?)";
    /// Binds a limit: deletes identifiers of payments.
    IDENTIFIERS_ERASE: () = "DELETE FROM payment_identifiers WHERE (payer, id) IN
        (SELECT payer, id FROM payment_identifiers ORDER BY payer, id LIMIT ?)";
    /// Binds a limit: deletes payers.
    PAYERS_ERASE: () =
        "DELETE FROM payers WHERE address IN (SELECT address FROM payers ORDER BY address LIMIT ?)";
    /// Binds a limit: deletes records.
    RECORDS_ERASE: () = "DELETE FROM records WHERE id IN (SELECT id FROM records ORDER BY id LIMIT ?)";
    /// Binds a limit: deletes groups of records that are polled.
    GROUPS_ERASE: () =
        "DELETE FROM watch_groups WHERE seq IN (SELECT seq FROM watch_groups ORDER BY seq LIMIT ?)";
    /// Binds a limit: deletes what an older build polls.
    WATCHES_ERASE: () = "DELETE FROM watches WHERE id IN (SELECT id FROM watches ORDER BY id LIMIT ?)";
    /// Binds two seqs: deletes what names or holds records and events after the first, up to the second.
    OUTBOX_ERASE: () = "DELETE FROM outbox WHERE seq > ? AND seq <= ? AND kind NOT IN ('period', 'settlement')";
    /// Binds a limit: deletes what is kept apart of the outbox.
    PARKED_ERASE: () =
        "DELETE FROM outbox_parked WHERE seq IN (SELECT seq FROM outbox_parked ORDER BY seq LIMIT ?)";
    /// Binds a limit: deletes what waits for Couriers.
    WEBHOOKS_ERASE: () =
        "DELETE FROM webhooks_waiting WHERE seq IN (SELECT seq FROM webhooks_waiting ORDER BY seq LIMIT ?)";
    /// Binds an id; returns the body, its revision, and the logs that it has claimed.
    RECORD_GET: RecordRow = "SELECT body, revision, units FROM records WHERE id = ?";
    /// Binds an id; the same, where the record is polled for finality.
    WATCHED_GET: RecordRow = "SELECT body, revision, units FROM records WHERE id = ? AND watched = 1";
    /// Binds id, body, whether it is polled for finality (1 or null), what it counts against the quota (0 or 1) where
    /// the admission is not stored with it, else null, and the logs that it has claimed, or null.
    RECORD_PUT: () = "INSERT INTO records (id, revision, body, watched, counted, units) VALUES (?, 0, ?, ?, ?, ?)";
    /// Binds an id; returns id and count of the records after it that hold what they have counted.
    RECORDS_COUNTED: CountedRow =
        "SELECT id, counted FROM records WHERE id > ? AND counted IS NOT NULL ORDER BY id";
    /// Binds body, whether it is polled for finality (1 or null), id.
    RECORD_UPDATE: () = "UPDATE records SET body = ?, watched = ?, revision = revision + 1 WHERE id = ?";
    /// Binds whether it is polled for finality (1 or null), and an id.
    RECORD_WATCH: () = "UPDATE records SET watched = ? WHERE id = ?";
    /// Binds two ids; returns id and chain of the records after the first, up to the second, that are polled for
    /// finality.
    WATCHED_BETWEEN: WatchedRow = "SELECT id, json_extract(body, '$.chain') AS chain FROM records
        WHERE id > ? AND id <= ? AND watched = 1 ORDER BY id";
    /// Binds the last id shipped and a limit; returns id and bytes.
    RECORD_SIZES: RecordSize =
        "SELECT id, length(CAST(body AS BLOB)) AS bytes FROM records WHERE id > ? ORDER BY id LIMIT ?";
    /// Binds the last id shipped and the newest to ship; returns id, revision, body, and the logs that it has claimed.
    RECORDS_BETWEEN: StoredRecord =
        "SELECT id, revision, body, units FROM records WHERE id > ? AND id <= ? ORDER BY id";
    /// Binds an id; returns the newest one after it.
    RECORD_NEWEST: RecordIdRow = "SELECT id FROM records WHERE id > ? ORDER BY id DESC LIMIT 1";
    /// Binds two ids and a number; returns the id that so many follow the first one, up to the second.
    RECORD_AT: RecordIdRow = "SELECT id FROM records WHERE id > ? AND id <= ? ORDER BY id LIMIT 1 OFFSET ?";
    /// Binds two ids: deletes records after the first, up to the second. Those that are polled for finality stay, and
    /// those that an entry of the outbox, also one that is kept apart, ships once more.
    RECORDS_PURGE: () = "DELETE FROM records WHERE id > ? AND id <= ? AND watched IS NULL AND id NOT IN
        (SELECT COALESCE(CASE kind WHEN 'record' THEN body ELSE json_extract(body, '$.subject') END, '')
        FROM (SELECT kind, body FROM outbox UNION ALL SELECT kind, body FROM outbox_parked)
        WHERE kind IN ('record', 'change'))";
    /// Binds route and key; returns body hash, status, body, time, until when the answer repeats.
    IDEMPOTENCY_GET: IdempotencyRecord =
        "SELECT body_hash, status, body, created_ms, answer_until_ms FROM idempotency WHERE route = ? AND key = ?";
    /// Binds route, key, body hash, status, body, time, until when the answer repeats.
    IDEMPOTENCY_PUT: () = "INSERT INTO idempotency (route, key, body_hash, status, body, created_ms,
        answer_until_ms) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (route, key) DO UPDATE SET
        body_hash = excluded.body_hash, status = excluded.status, body = excluded.body,
        created_ms = excluded.created_ms, answer_until_ms = excluded.answer_until_ms";
    /// Binds status, body, until when it repeats, route, key: the answer to what came under the key.
    IDEMPOTENCY_ANSWER: () = "UPDATE idempotency SET status = ?, body = ?, answer_until_ms = ?
        WHERE route = ? AND key = ?";
    /// Binds route, key and a number; returns the route and key that so many follow the first ones, and one more.
    IDEMPOTENCY_AT: IdempotencyPlace = "SELECT route, key FROM idempotency WHERE (route, key) > (?, ?)
        ORDER BY route, key LIMIT 1 OFFSET ?";
    /// Binds route and key twice, and a time: deletes what was written by then after the first, up to the second.
    IDEMPOTENCY_PURGE: () = "DELETE FROM idempotency WHERE (route, key) > (?, ?) AND (route, key) <= (?, ?)
        AND created_ms <= ?";
    /// Binds an address; returns 1 if the tenant was paid by it before.
    PAYER_GET: Present = "SELECT 1 AS present FROM payers WHERE address = ?";
    /// Binds an address.
    PAYER_PUT: () = "INSERT INTO payers (address) VALUES (?) ON CONFLICT (address) DO NOTHING";
    /// Binds an authorization; returns fingerprint, proof, expiry, settlement and its course.
    PAYMENT_GET: PaymentRecord = "SELECT p.fingerprint, p.proof, p.expires_ms, s.body, s.course FROM payments p
        LEFT JOIN settlements s ON s.id = p.settlement_id WHERE p.authorization = ?";
    /// Binds authorization, fingerprint, proof, settlement, expiry. A payment that is known takes the
    /// requirements that reserve it.
    PAYMENT_PUT: () = "INSERT INTO payments (authorization, fingerprint, proof, settlement_id, expires_ms)
        VALUES (?, ?, ?, ?, ?) ON CONFLICT (authorization) DO UPDATE SET fingerprint = excluded.fingerprint,
        proof = excluded.proof, settlement_id = COALESCE(excluded.settlement_id, settlement_id),
        expires_ms = excluded.expires_ms";
    /// Binds a time and a limit: deletes payments without a settlement that have expired.
    PAYMENTS_PURGE: () = "DELETE FROM payments WHERE authorization IN (SELECT authorization FROM payments
        WHERE settlement_id IS NULL AND expires_ms <= ? ORDER BY expires_ms LIMIT ?)";
    /// Returns the earliest end of a payment without a settlement.
    PAYMENTS_NEXT: FirstTime = "SELECT MIN(expires_ms) AS first_ms FROM payments WHERE settlement_id IS NULL";
    /// Binds a payer and a payment identifier; returns the authorization.
    IDENTIFIER_GET: IdentifierRow = "SELECT authorization FROM payment_identifiers WHERE payer = ? AND id = ?";
    /// Binds payer, payment identifier, authorization: the newest that was reserved counts.
    IDENTIFIER_PUT: () = "INSERT INTO payment_identifiers (payer, id, authorization) VALUES (?, ?, ?)
        ON CONFLICT (payer, id) DO UPDATE SET authorization = excluded.authorization";
    /// Binds an id; returns body, course and revision.
    SETTLEMENT_GET: SettlementRow = "SELECT body, course, revision FROM settlements WHERE id = ?";
    /// Binds id, body, course, status, network, payer, transaction, whether it is handed over, when it is due.
    /// A due time that is set already stays: it is corrected when it has come.
    SETTLEMENT_PUT: () = "INSERT INTO settlements
        (id, body, course, status, network, payer, tx, handed, due_ms, revision) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 1)
        ON CONFLICT (id) DO UPDATE SET body = excluded.body, course = excluded.course, status = excluded.status,
        tx = excluded.tx, handed = excluded.handed, due_ms = COALESCE(settlements.due_ms, excluded.due_ms),
        revision = settlements.revision + 1";
    /// Binds when it is due, and an id.
    SETTLEMENT_DUE: () = "UPDATE settlements SET due_ms = ? WHERE id = ?";
    /// Binds a time and a limit; returns the ids due by then.
    SETTLEMENTS_DUE: SettlementIdRow = "SELECT id FROM settlements WHERE handed = 0 AND status <> 'failed'
        AND due_ms <= ? ORDER BY due_ms LIMIT ?";
    /// Returns the earliest due time.
    SETTLEMENTS_NEXT: FirstTime =
        "SELECT MIN(due_ms) AS first_ms FROM settlements WHERE handed = 0 AND status <> 'failed' AND due_ms IS NOT NULL";
    /// Binds id, network, whether handed over, limit (network and handed may be null); returns older ones, the newest first.
    SETTLEMENTS_BEFORE: ListedSettlement = "SELECT id, body FROM settlements WHERE id < ?1
        AND (?2 IS NULL OR network = ?2) AND (?3 IS NULL OR handed = ?3) ORDER BY id DESC LIMIT ?4";
    /// The same of those that may still be handed over.
    SETTLEMENTS_OPEN: ListedSettlement =
        "SELECT id, body FROM settlements WHERE handed = 0 AND status <> 'failed' AND id < ?1
        AND (?2 IS NULL OR network = ?2) AND (?3 IS NULL OR handed = ?3) ORDER BY id DESC LIMIT ?4";
    /// The same of one payer, bound last; of those that are not handed over, none that has failed.
    SETTLEMENTS_OF_PAYER: ListedSettlement = "SELECT id, body FROM settlements WHERE payer = ?5 AND id < ?1
        AND (?2 IS NULL OR network = ?2) AND (?3 IS NULL OR handed = ?3)
        AND (?3 IS NOT 0 OR status <> 'failed') ORDER BY id DESC LIMIT ?4";
    /// The same of one transaction, bound last with a payer, who may be null.
    SETTLEMENTS_OF_TRANSACTION: ListedSettlement = "SELECT id, body FROM settlements WHERE tx = ?5 AND id < ?1
        AND (?6 IS NULL OR payer = ?6) AND (?2 IS NULL OR network = ?2) AND (?3 IS NULL OR handed = ?3)
        AND (?3 IS NOT 0 OR status <> 'failed') ORDER BY id DESC LIMIT ?4";
    /// The same of one authorization, bound last with a transaction, which may be null.
    SETTLEMENTS_OF_AUTHORIZATION: ListedSettlement = "SELECT id, body FROM settlements
        WHERE id = (SELECT settlement_id FROM payments WHERE authorization = ?5) AND id < ?1
        AND (?6 IS NULL OR tx = ?6) AND (?2 IS NULL OR network = ?2) AND (?3 IS NULL OR handed = ?3)
        AND (?3 IS NOT 0 OR status <> 'failed') ORDER BY id DESC LIMIT ?4";
    /// Binds an id and a limit; returns the settlements that follow, the oldest first: id, body, course, revision.
    SETTLEMENTS_AFTER: StoredSettlement =
        "SELECT id, body, course, revision FROM settlements WHERE id > ? ORDER BY id LIMIT ?";
    /// Binds network, transaction, recipient, id, reference, time: a claim that is taken over. One that is there stays.
    CLAIM_RESTORE: () = "INSERT INTO claims (network, tx, recipient, id, reference, claimed_ms)
        VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING";
    /// Binds network, transaction, recipient, ordinal, id, reference, time; the same of a log.
    LOG_CLAIM_RESTORE: () = "INSERT INTO log_claims (network, tx, recipient, ordinal, id, reference, claimed_ms)
        VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING";
    /// Binds id, revision, body, and the logs that it has claimed: a record that is polled on.
    RECORD_RESTORE: () = "INSERT INTO records (id, revision, body, watched, units) VALUES (?, ?, ?, 1, ?)
        ON CONFLICT DO NOTHING";
    /// Binds id, body, course, status, network, payer, transaction, whether it is handed over, when it is due, revision: a
    /// settlement that is taken over. One that is there stays.
    SETTLEMENT_RESTORE: () = "INSERT INTO settlements
        (id, body, course, status, network, payer, tx, handed, due_ms, revision) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT DO NOTHING";
    /// Binds a payer; returns 1 if one of their settlements is completed.
    PAYER_HAS_PAID: Present = "SELECT 1 AS present FROM settlements WHERE payer = ? AND status = 'completed' LIMIT 1";
    /// Binds when it is due, and its ids.
    GROUP_PUT: () = "INSERT INTO watch_groups (next_ms, ids) VALUES (?, ?)";
    /// Binds when it is due, its ids, and its number.
    GROUP_UPDATE: () = "UPDATE watch_groups SET next_ms = ?, ids = ? WHERE seq = ?";
    /// Binds its number.
    GROUP_DELETE: () = "DELETE FROM watch_groups WHERE seq = ?";
    /// Binds a time and a limit; returns the groups due by then. The table holds a row for each hundred payments that
    /// are not yet final, so it is scanned.
    GROUPS_DUE: WatchGroup = "SELECT seq, ids FROM watch_groups WHERE next_ms <= ? ORDER BY next_ms LIMIT ?";
    /// Returns the earliest time at which a group is due for a poll.
    GROUPS_NEXT: FirstTime = "SELECT MIN(next_ms) AS first_ms FROM watch_groups";
    /// Binds a limit; returns records that an older build polls for finality.
    WATCHES_GET: RecordIdRow = "SELECT id FROM watches ORDER BY id LIMIT ?";
    /// Binds an id.
    WATCH_DELETE: () = "DELETE FROM watches WHERE id = ?";
    /// Returns how many entries wait, 10,000 at most.
    OUTBOX_COUNT: EntryCount = "SELECT COUNT(*) AS count FROM (SELECT 1 FROM outbox LIMIT 10000)";
    /// Binds kind and body.
    OUTBOX_PUT: () = "INSERT INTO outbox (kind, body) VALUES (?, ?)";
    /// Binds a seq and a limit; returns seq and bytes of those after it, the oldest first.
    OUTBOX_SIZES: OutboxSize =
        "SELECT seq, length(CAST(body AS BLOB)) AS bytes FROM outbox WHERE seq > ? ORDER BY seq LIMIT ?";
    /// Binds two seqs; returns seq, kind, body after the first, up to the second, the oldest first.
    OUTBOX_GET: OutboxRow = "SELECT seq, kind, body FROM outbox WHERE seq > ? AND seq <= ? ORDER BY seq";
    /// Binds two seqs: what was shipped after the first, up to the second.
    OUTBOX_DELETE: () = "DELETE FROM outbox WHERE seq > ? AND seq <= ?";
    /// Binds a time and the seq of an entry that this build cannot read: it is kept apart, and holds no other up.
    OUTBOX_PARK: () = "INSERT INTO outbox_parked (seq, kind, body, parked_ms)
        SELECT seq, kind, body, ? FROM outbox WHERE seq = ?";
    /// Returns a row where an entry is kept apart.
    PARKED_GET: Present = "SELECT 1 AS present FROM outbox_parked LIMIT 1";
    /// Puts the entries that are kept apart at the end of the outbox.
    PARKED_RETURN: () = "INSERT INTO outbox (kind, body) SELECT kind, body FROM outbox_parked ORDER BY seq";
    /// Follows `PARKED_RETURN` in its transaction.
    PARKED_DELETE: () = "DELETE FROM outbox_parked";
    /// Returns a row where an event waits for a Courier.
    WEBHOOKS_ANY: Present = "SELECT 1 AS present FROM webhooks_waiting LIMIT 1";
    /// Binds an endpoint and an event as JSON.
    WEBHOOK_PUT: () = "INSERT INTO webhooks_waiting (endpoint, body) VALUES (?, ?)";
    /// Binds an endpoint and a limit; returns seq and bytes, the oldest first.
    WEBHOOK_SIZES: OutboxSize = "SELECT seq, length(CAST(body AS BLOB)) AS bytes FROM webhooks_waiting WHERE endpoint = ?
        ORDER BY seq LIMIT ?";
    /// Binds an endpoint and a seq; returns events up to it, the oldest first.
    WEBHOOKS_GET: WaitingWebhook = "SELECT body FROM webhooks_waiting WHERE endpoint = ? AND seq <= ? ORDER BY seq";
    /// Binds an endpoint and a seq: the Courier has those up to it.
    WEBHOOKS_DELETE: () = "DELETE FROM webhooks_waiting WHERE endpoint = ? AND seq <= ?";
    /// Binds an endpoint; returns the next one for which something waits.
    WEBHOOKS_NEXT: WaitingEndpoint =
        "SELECT endpoint FROM webhooks_waiting WHERE endpoint > ? ORDER BY endpoint LIMIT 1";
}

//! Every SQL statement, named. `ledger` is a tenant's own SQLite, `directory` is D1.
//!
//! Amounts and ids are TEXT; times are integers of unix milliseconds.

/// Statements of a tenant's ledger (SQLite of its Durable Object).
pub mod ledger {
    /// The table that every build has; harmless when repeated. Its row `schema` counts the migrations applied.
    pub const STATE_SCHEMA: &str =
        "CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;";
    /// The schema before its migrations. One row holds what changes with every
    /// request, a claim is one row, a record is one row: rows written are the bill.
    pub const SCHEMA: &str = "
        CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
        CREATE TABLE IF NOT EXISTS claims (network TEXT NOT NULL, tx TEXT NOT NULL, recipient TEXT NOT NULL,
            id TEXT NOT NULL, reference TEXT, claimed_ms INTEGER NOT NULL,
            PRIMARY KEY (network, tx, recipient)) WITHOUT ROWID;
        CREATE TABLE IF NOT EXISTS records (id TEXT PRIMARY KEY, revision INTEGER NOT NULL, body TEXT NOT NULL) WITHOUT ROWID;
        CREATE TABLE IF NOT EXISTS idempotency (route TEXT NOT NULL, key TEXT NOT NULL, body_hash TEXT NOT NULL,
            status INTEGER, body TEXT, created_ms INTEGER NOT NULL, PRIMARY KEY (route, key)) WITHOUT ROWID;
        CREATE TABLE IF NOT EXISTS payers (address TEXT PRIMARY KEY) WITHOUT ROWID;
        CREATE TABLE IF NOT EXISTS watches (id TEXT PRIMARY KEY, next_ms INTEGER NOT NULL) WITHOUT ROWID;
        CREATE TABLE IF NOT EXISTS payments (authorization TEXT PRIMARY KEY, fingerprint TEXT NOT NULL,
            settlement_id TEXT) WITHOUT ROWID;
        CREATE TABLE IF NOT EXISTS settlements (id TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
        CREATE TABLE IF NOT EXISTS senders (settlement_id TEXT PRIMARY KEY, signer TEXT NOT NULL) WITHOUT ROWID;
        CREATE TABLE IF NOT EXISTS identifiers (id TEXT PRIMARY KEY, authorization TEXT NOT NULL) WITHOUT ROWID;
        CREATE TABLE IF NOT EXISTS outbox (seq INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, body TEXT NOT NULL);
    ";
    /// What changes the schema of an older build, in order; each is applied once, and the rows of the
    /// build before it are carried over.
    pub const MIGRATIONS: &[&str] = &[MIGRATION_1_DELIVERY];
    /// Delivery is a state of its own; identifiers are scoped by payer; payments that were never settled end;
    /// a claim binds a `Transfer` log, and a row of `claims` the whole of a payment, as every row before did.
    pub const MIGRATION_1_DELIVERY: &str = "
        ALTER TABLE settlements ADD COLUMN course TEXT NOT NULL DEFAULT '{}';
        ALTER TABLE settlements ADD COLUMN revision INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE settlements ADD COLUMN status TEXT NOT NULL DEFAULT '';
        ALTER TABLE settlements ADD COLUMN network TEXT NOT NULL DEFAULT '';
        ALTER TABLE settlements ADD COLUMN payer TEXT NOT NULL DEFAULT '';
        ALTER TABLE settlements ADD COLUMN tx TEXT;
        ALTER TABLE settlements ADD COLUMN handed INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE settlements ADD COLUMN due_ms INTEGER;
        UPDATE settlements SET status = json_extract(body, '$.status'), network = json_extract(body, '$.network'),
            payer = json_extract(body, '$.payer'), tx = json_extract(body, '$.transaction'), due_ms = 0,
            handed = json_extract(body, '$.status') = 'completed',
            body = json_set(body, '$.handed_over', CASE json_extract(body, '$.status') WHEN 'completed'
                THEN json_object('at', json_extract(body, '$.completed_at'), 'request_id', NULL) ELSE json('null') END),
            course = json_object('attempt', json_array_length(body, '$.attempts'),
                'reserved_at', CAST(strftime('%s', json_extract(body, '$.created_at')) AS INTEGER) * 1000,
                'signer', (SELECT signer FROM senders WHERE settlement_id = settlements.id));
        DROP TABLE senders;
        CREATE INDEX settlements_open ON settlements (due_ms) WHERE handed = 0 AND status <> 'failed';
        CREATE INDEX settlements_of_payer ON settlements (payer, id);
        CREATE INDEX settlements_of_transaction ON settlements (tx, id) WHERE tx IS NOT NULL;
        ALTER TABLE payments ADD COLUMN proof TEXT;
        ALTER TABLE payments ADD COLUMN expires_ms INTEGER;
        UPDATE payments SET fingerprint = '';
        UPDATE payments SET expires_ms = CAST(strftime('%s', 'now') AS INTEGER) * 1000 + 86400000
            WHERE settlement_id IS NULL;
        CREATE INDEX payments_unsettled ON payments (expires_ms) WHERE settlement_id IS NULL;
        CREATE TABLE payment_identifiers (payer TEXT NOT NULL, id TEXT NOT NULL, authorization TEXT NOT NULL,
            PRIMARY KEY (payer, id)) WITHOUT ROWID;
        INSERT INTO payment_identifiers (payer, id, authorization) SELECT s.payer, i.id, i.authorization
            FROM identifiers i JOIN payments p ON p.authorization = i.authorization
            JOIN settlements s ON s.id = p.settlement_id;
        DROP TABLE identifiers;
        ALTER TABLE idempotency ADD COLUMN answer_until_ms INTEGER;
        UPDATE idempotency SET answer_until_ms = created_ms + 600000
            WHERE route = 'facilitator/settle' AND json_extract(body, '$.success') = 1;
        CREATE TABLE log_claims (network TEXT NOT NULL, tx TEXT NOT NULL, recipient TEXT NOT NULL,
            ordinal INTEGER NOT NULL, id TEXT NOT NULL, reference TEXT, claimed_ms INTEGER NOT NULL,
            PRIMARY KEY (network, tx, recipient, ordinal)) WITHOUT ROWID;
    ";
    /// Binds a name; returns the value.
    pub const STATE_GET: &str = "SELECT value FROM state WHERE name = ?";
    /// Binds a name and a value.
    pub const STATE_PUT: &str =
        "INSERT INTO state (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    /// Binds network, transaction, recipient twice; returns ordinal (null for the whole), id, reference, time.
    pub const CLAIMS_GET: &str = "SELECT NULL, id, reference, claimed_ms FROM claims
        WHERE network = ? AND tx = ? AND recipient = ?
        UNION ALL SELECT ordinal, id, reference, claimed_ms FROM log_claims
        WHERE network = ? AND tx = ? AND recipient = ?";
    /// Binds network, transaction, recipient, id, reference, time, and again the first three. Fails where the
    /// whole is claimed; returns a row unless a log is.
    pub const CLAIM_PUT: &str = "INSERT INTO claims (network, tx, recipient, id, reference, claimed_ms)
        SELECT ?, ?, ?, ?, ?, ? WHERE NOT EXISTS
        (SELECT 1 FROM log_claims WHERE network = ? AND tx = ? AND recipient = ?) RETURNING 1";
    /// Binds network, transaction, recipient, ordinal, id, reference, time, and again the first three. Fails
    /// where the log is claimed; returns a row unless the whole is.
    pub const LOG_CLAIM_PUT: &str =
        "INSERT INTO log_claims (network, tx, recipient, ordinal, id, reference, claimed_ms)
        SELECT ?, ?, ?, ?, ?, ?, ? WHERE NOT EXISTS
        (SELECT 1 FROM claims WHERE network = ? AND tx = ? AND recipient = ?) RETURNING 1";
    /// Binds an id; returns the body and its revision.
    pub const RECORD_GET: &str = "SELECT body, revision FROM records WHERE id = ?";
    /// Binds id and body.
    pub const RECORD_PUT: &str = "INSERT INTO records (id, revision, body) VALUES (?, 0, ?)";
    /// Binds body and id.
    pub const RECORD_UPDATE: &str = "UPDATE records SET body = ?, revision = revision + 1 WHERE id = ?";
    /// Binds the last id shipped and a limit; returns id and bytes.
    pub const RECORD_SIZES: &str =
        "SELECT id, length(CAST(body AS BLOB)) FROM records WHERE id > ? ORDER BY id LIMIT ?";
    /// Binds the last id shipped and the newest to ship; returns id, revision, body.
    pub const RECORDS_BETWEEN: &str = "SELECT id, revision, body FROM records WHERE id > ? AND id <= ? ORDER BY id";
    /// Binds the newest id to delete and a limit. Records that are polled for finality stay.
    pub const RECORDS_PURGE: &str = "DELETE FROM records WHERE id IN (SELECT id FROM records WHERE id <= ?
        AND id NOT IN (SELECT id FROM watches) ORDER BY id LIMIT ?)";
    /// Binds route and key; returns body hash, status, body, time, until when the answer repeats.
    pub const IDEMPOTENCY_GET: &str =
        "SELECT body_hash, status, body, created_ms, answer_until_ms FROM idempotency WHERE route = ? AND key = ?";
    /// Binds route, key, body hash, status, body, time, until when the answer repeats.
    pub const IDEMPOTENCY_PUT: &str = "INSERT INTO idempotency (route, key, body_hash, status, body, created_ms,
        answer_until_ms) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (route, key) DO UPDATE SET
        body_hash = excluded.body_hash, status = excluded.status, body = excluded.body,
        created_ms = excluded.created_ms, answer_until_ms = excluded.answer_until_ms";
    /// Binds status, body, until when it repeats, route, key: the answer to what came under the key.
    pub const IDEMPOTENCY_ANSWER: &str = "UPDATE idempotency SET status = ?, body = ?, answer_until_ms = ?
        WHERE route = ? AND key = ?";
    /// Binds the newest time to delete and a limit.
    pub const IDEMPOTENCY_PURGE: &str = "DELETE FROM idempotency WHERE (route, key) IN
        (SELECT route, key FROM idempotency WHERE created_ms <= ? LIMIT ?)";
    /// Binds an address; returns 1 if the tenant was paid by it before.
    pub const PAYER_GET: &str = "SELECT 1 FROM payers WHERE address = ?";
    /// Binds an address.
    pub const PAYER_PUT: &str = "INSERT INTO payers (address) VALUES (?) ON CONFLICT (address) DO NOTHING";
    /// Binds an authorization; returns fingerprint, proof, expiry, settlement and its course.
    pub const PAYMENT_GET: &str = "SELECT p.fingerprint, p.proof, p.expires_ms, s.body, s.course FROM payments p
        LEFT JOIN settlements s ON s.id = p.settlement_id WHERE p.authorization = ?";
    /// Binds authorization, fingerprint, proof, settlement, expiry. A payment that is known takes the
    /// requirements that reserve it.
    pub const PAYMENT_PUT: &str = "INSERT INTO payments (authorization, fingerprint, proof, settlement_id, expires_ms)
        VALUES (?, ?, ?, ?, ?) ON CONFLICT (authorization) DO UPDATE SET fingerprint = excluded.fingerprint,
        proof = excluded.proof, settlement_id = COALESCE(excluded.settlement_id, settlement_id),
        expires_ms = excluded.expires_ms";
    /// Binds a time and a limit: deletes payments without a settlement that have expired.
    pub const PAYMENTS_PURGE: &str = "DELETE FROM payments WHERE authorization IN (SELECT authorization FROM payments
        WHERE settlement_id IS NULL AND expires_ms <= ? ORDER BY expires_ms LIMIT ?)";
    /// Returns the earliest end of a payment without a settlement.
    pub const PAYMENTS_NEXT: &str = "SELECT MIN(expires_ms) FROM payments WHERE settlement_id IS NULL";
    /// Binds a payer and a payment identifier; returns the authorization.
    pub const IDENTIFIER_GET: &str = "SELECT authorization FROM payment_identifiers WHERE payer = ? AND id = ?";
    /// Binds payer, payment identifier, authorization: the newest that was reserved counts.
    pub const IDENTIFIER_PUT: &str = "INSERT INTO payment_identifiers (payer, id, authorization) VALUES (?, ?, ?)
        ON CONFLICT (payer, id) DO UPDATE SET authorization = excluded.authorization";
    /// Binds an id; returns body, course and revision.
    pub const SETTLEMENT_GET: &str = "SELECT body, course, revision FROM settlements WHERE id = ?";
    /// Binds id, body, course, status, network, payer, transaction, whether it is handed over, when it is due.
    /// A due time that is set already stays: it is corrected when it has come.
    pub const SETTLEMENT_PUT: &str = "INSERT INTO settlements
        (id, body, course, status, network, payer, tx, handed, due_ms, revision) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 1)
        ON CONFLICT (id) DO UPDATE SET body = excluded.body, course = excluded.course, status = excluded.status,
        tx = excluded.tx, handed = excluded.handed, due_ms = COALESCE(settlements.due_ms, excluded.due_ms),
        revision = settlements.revision + 1";
    /// Binds when it is due, and an id.
    pub const SETTLEMENT_DUE: &str = "UPDATE settlements SET due_ms = ? WHERE id = ?";
    /// Binds a time and a limit; returns the ids due by then.
    pub const SETTLEMENTS_DUE: &str = "SELECT id FROM settlements WHERE handed = 0 AND status <> 'failed'
        AND due_ms <= ? ORDER BY due_ms LIMIT ?";
    /// Returns the earliest due time.
    pub const SETTLEMENTS_NEXT: &str =
        "SELECT MIN(due_ms) FROM settlements WHERE handed = 0 AND status <> 'failed' AND due_ms IS NOT NULL";
    /// Binds id, network, whether handed over, limit (network and handed may be null); returns older ones, the newest first.
    pub const SETTLEMENTS_BEFORE: &str = "SELECT id, body FROM settlements WHERE id < ?1
        AND (?2 IS NULL OR network = ?2) AND (?3 IS NULL OR handed = ?3) ORDER BY id DESC LIMIT ?4";
    /// The same of those that may still be handed over.
    pub const SETTLEMENTS_OPEN: &str =
        "SELECT id, body FROM settlements WHERE handed = 0 AND status <> 'failed' AND id < ?1
        AND (?2 IS NULL OR network = ?2) AND (?3 IS NULL OR handed = ?3) ORDER BY id DESC LIMIT ?4";
    /// The same of one payer, bound last; of those that are not handed over, none that has failed.
    pub const SETTLEMENTS_OF_PAYER: &str = "SELECT id, body FROM settlements WHERE payer = ?5 AND id < ?1
        AND (?2 IS NULL OR network = ?2) AND (?3 IS NULL OR handed = ?3)
        AND (?3 IS NOT 0 OR status <> 'failed') ORDER BY id DESC LIMIT ?4";
    /// The same of one transaction, bound last with a payer, who may be null.
    pub const SETTLEMENTS_OF_TRANSACTION: &str = "SELECT id, body FROM settlements WHERE tx = ?5 AND id < ?1
        AND (?6 IS NULL OR payer = ?6) AND (?2 IS NULL OR network = ?2) AND (?3 IS NULL OR handed = ?3)
        AND (?3 IS NOT 0 OR status <> 'failed') ORDER BY id DESC LIMIT ?4";
    /// The same of one authorization, bound last with a transaction, which may be null.
    pub const SETTLEMENTS_OF_AUTHORIZATION: &str = "SELECT id, body FROM settlements
        WHERE id = (SELECT settlement_id FROM payments WHERE authorization = ?5) AND id < ?1
        AND (?6 IS NULL OR tx = ?6) AND (?2 IS NULL OR network = ?2) AND (?3 IS NULL OR handed = ?3)
        AND (?3 IS NOT 0 OR status <> 'failed') ORDER BY id DESC LIMIT ?4";
    /// Binds a payer; returns 1 if one of their settlements is completed.
    pub const PAYER_HAS_PAID: &str = "SELECT 1 FROM settlements WHERE payer = ? AND status = 'completed' LIMIT 1";
    /// Binds id and time.
    pub const WATCH_PUT: &str = "INSERT INTO watches (id, next_ms) VALUES (?, ?)
        ON CONFLICT (id) DO UPDATE SET next_ms = excluded.next_ms";
    /// Binds an id.
    pub const WATCH_DELETE: &str = "DELETE FROM watches WHERE id = ?";
    /// Binds a time and a limit; returns the ids due by then. The table holds
    /// only what is not yet final, so it is scanned.
    pub const WATCHES_DUE: &str = "SELECT id FROM watches WHERE next_ms <= ? ORDER BY next_ms LIMIT ?";
    /// Returns the earliest time at which a payment is due for a poll.
    pub const WATCH_NEXT: &str = "SELECT MIN(next_ms) FROM watches";
    /// Binds kind and body.
    pub const OUTBOX_PUT: &str = "INSERT INTO outbox (kind, body) VALUES (?, ?)";
    /// Binds a limit; returns seq and bytes, the oldest first.
    pub const OUTBOX_SIZES: &str = "SELECT seq, length(CAST(body AS BLOB)) FROM outbox ORDER BY seq LIMIT ?";
    /// Binds the newest seq wanted; returns seq, kind, body, the oldest first.
    pub const OUTBOX_GET: &str = "SELECT seq, kind, body FROM outbox WHERE seq <= ? ORDER BY seq";
    /// Binds the newest seq that was shipped.
    pub const OUTBOX_DELETE: &str = "DELETE FROM outbox WHERE seq <= ?";
}

/// Statements of a Settler (SQLite of its Durable Object).
pub mod settler {
    /// The schema; harmless when repeated.
    pub const SCHEMA: &str = "
        CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
        CREATE TABLE IF NOT EXISTS flights (key TEXT PRIMARY KEY, nonce INTEGER NOT NULL, flight TEXT NOT NULL,
            sent TEXT NOT NULL, report TEXT, told INTEGER NOT NULL DEFAULT 0, changed_ms INTEGER NOT NULL) WITHOUT ROWID;
        CREATE TABLE IF NOT EXISTS watched (key TEXT PRIMARY KEY, next_ms INTEGER NOT NULL,
            since_ms INTEGER NOT NULL) WITHOUT ROWID;
        CREATE TABLE IF NOT EXISTS refused (key TEXT PRIMARY KEY, at_ms INTEGER NOT NULL) WITHOUT ROWID;
        CREATE TABLE IF NOT EXISTS penalties (payer TEXT PRIMARY KEY, count INTEGER NOT NULL,
            until_ms INTEGER NOT NULL) WITHOUT ROWID;
        CREATE INDEX IF NOT EXISTS flights_flying ON flights (nonce) WHERE report IS NULL;
        DROP INDEX IF EXISTS flights_untold;
        CREATE INDEX IF NOT EXISTS flights_ended ON flights (key) WHERE told = 0 AND report IS NOT NULL;
    ";
    /// Binds a key and a time: the attempt is never launched.
    pub const REFUSED_PUT: &str = "INSERT INTO refused (key, at_ms) VALUES (?, ?) ON CONFLICT (key) DO NOTHING";
    /// Binds a key; returns a row where the attempt is never launched.
    pub const REFUSED_GET: &str = "SELECT 1 FROM refused WHERE key = ?";
    /// Binds a time: deletes attempts that were refused before it; no launch comes that late.
    pub const REFUSED_PURGE: &str = "DELETE FROM refused WHERE at_ms < ?";
    /// Binds a payer; returns how many have reverted, and until when nothing is launched.
    pub const PENALTY_GET: &str = "SELECT count, until_ms FROM penalties WHERE payer = ?";
    /// Binds payer, count, until when.
    pub const PENALTY_PUT: &str = "INSERT INTO penalties (payer, count, until_ms) VALUES (?, ?, ?)
        ON CONFLICT (payer) DO UPDATE SET count = excluded.count, until_ms = excluded.until_ms";
    /// Binds a payer.
    pub const PENALTY_DELETE: &str = "DELETE FROM penalties WHERE payer = ?";
    /// Binds a time; returns the payers held after it and until when, the longest first. The table holds
    /// payers of the last days whose transactions we have paid for in vain.
    pub const PENALTIES_AFTER: &str =
        "SELECT payer, until_ms FROM penalties WHERE until_ms > ? ORDER BY until_ms DESC LIMIT 2000";
    /// Binds a time: deletes penalties that ended before it.
    pub const PENALTIES_PURGE: &str = "DELETE FROM penalties WHERE until_ms < ?";
    /// Binds a key, when to look, since when.
    pub const WATCHED_PUT: &str = "INSERT INTO watched (key, next_ms, since_ms) VALUES (?, ?, ?)
        ON CONFLICT (key) DO UPDATE SET next_ms = excluded.next_ms";
    /// Binds a time; returns keys and since when they are watched. The table holds what is not yet final.
    pub const WATCHED_DUE: &str = "SELECT key, since_ms FROM watched WHERE next_ms <= ? ORDER BY next_ms LIMIT 40";
    /// Returns when the next is due.
    pub const WATCHED_NEXT: &str = "SELECT MIN(next_ms) FROM watched";
    /// Binds a key.
    pub const WATCHED_DELETE: &str = "DELETE FROM watched WHERE key = ?";
    /// Binds what was sent and a key: the flight is on its way again.
    pub const FLIGHT_REOPEN: &str = "UPDATE flights SET report = NULL, told = 0, sent = ? WHERE key = ?";
    /// Binds a name; returns the value.
    pub const STATE_GET: &str = "SELECT value FROM state WHERE name = ?";
    /// Binds a name and a value.
    pub const STATE_PUT: &str =
        "INSERT INTO state (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    /// Binds key, nonce, flight, what was sent, time.
    pub const FLIGHT_PUT: &str = "INSERT INTO flights (key, nonce, flight, sent, changed_ms) VALUES (?, ?, ?, ?, ?)";
    /// Binds a key; returns nonce, flight, what was sent, report, whether the ledger holds it.
    pub const FLIGHT_GET: &str = "SELECT nonce, flight, sent, report, told FROM flights WHERE key = ?";
    /// Binds nonce, what was sent, time, key.
    pub const FLIGHT_SENT: &str = "UPDATE flights SET nonce = ?, sent = ?, changed_ms = ? WHERE key = ?";
    /// Binds report, time, key. The first report stands.
    pub const FLIGHT_END: &str = "UPDATE flights SET report = ?, changed_ms = ? WHERE key = ? AND report IS NULL";
    /// Binds a key: the ledger holds the report.
    pub const FLIGHT_REPORTED: &str = "UPDATE flights SET told = 1 WHERE key = ?";
    /// Returns the keys of all that are on their way, by nonce.
    pub const FLIGHTS_OPEN: &str = "SELECT key FROM flights WHERE report IS NULL ORDER BY nonce, key";
    /// Returns the nonces of all that are on their way, the lowest first.
    pub const FLIGHTS_NONCES: &str = "SELECT nonce FROM flights WHERE report IS NULL ORDER BY nonce";
    /// Binds a key; returns the keys after it of flights that have ended, which the ledger does not know yet.
    pub const FLIGHTS_ENDED: &str =
        "SELECT key FROM flights WHERE told = 0 AND report IS NOT NULL AND key > ? ORDER BY key LIMIT 200";
    /// Binds a key: its report is sent once more.
    pub const FLIGHT_REPORT_AGAIN: &str = "UPDATE flights SET told = 0 WHERE key = ? AND report IS NOT NULL";
    /// Returns key and flight of all that are on their way.
    pub const FLIGHTS_FLYING: &str = "SELECT key, flight FROM flights WHERE report IS NULL";
    /// Binds a time: deletes flights that were reported before it.
    pub const FLIGHTS_PURGE: &str = "DELETE FROM flights WHERE told = 1 AND changed_ms < ?";
}

/// Statements of the directory and the records (D1).
pub mod directory {
    /// A trivial question, for health.
    pub const PING: &str = "SELECT 1 AS one";
    /// Binds id, email, company name, tier, region, limits, sanctions, whether to explain, now, now.
    pub const TENANT_PUT: &str =
        "INSERT INTO tenants (id, email, company_name, tier, status, region, limits, sanctions, explain,
        version, created_ms, updated_ms) VALUES (?, ?, ?, ?, 'active', ?, ?, ?, ?, 1, ?, ?)";
    /// Binds an id; returns the row.
    pub const TENANT_GET: &str =
        "SELECT id, email, company_name, tier, status, region, limits, sanctions, explain, version,
        created_ms FROM tenants WHERE id = ?";
    /// Binds an id and a limit; returns older tenants, the newest first.
    pub const TENANTS_BEFORE: &str =
        "SELECT id, email, company_name, tier, status, region, limits, sanctions, explain, version,
        created_ms FROM tenants WHERE id < ? ORDER BY id DESC LIMIT ?";
    /// Binds email, whether to set the name, name, tier, status, limits patch, sanctions, whether to explain, now, id;
    /// `null` leaves a member as it is.
    pub const TENANT_PATCH: &str = "UPDATE tenants SET email = COALESCE(?, email),
        company_name = CASE WHEN ? = 1 THEN ? ELSE company_name END, tier = COALESCE(?, tier),
        status = COALESCE(?, status), limits = json_patch(limits, ?), sanctions = COALESCE(?, sanctions),
        explain = COALESCE(?, explain), version = version + 1, updated_ms = ? WHERE id = ?";
    /// Binds now and id: something of the tenant has changed.
    pub const TENANT_TOUCH: &str = "UPDATE tenants SET version = version + 1, updated_ms = ? WHERE id = ?";

    /// Binds id, tenant, environment, name, hash, scopes, now, end, kind.
    pub const KEY_PUT: &str =
        "INSERT INTO api_keys (id, tenant_id, environment, name, hash, scopes, created_ms, expires_ms, kind)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";
    /// Binds a tenant; returns its keys, the newest first.
    pub const KEYS_OF: &str =
        "SELECT id, environment, kind, name, hash, scopes, created_ms, expires_ms, revoked_ms, last_used_ms
        FROM api_keys WHERE tenant_id = ? ORDER BY id DESC LIMIT 1000";
    /// Binds tenant and environment; returns keys that are not revoked.
    pub const KEYS_IN_FORCE: &str = "SELECT id, name, hash, scopes, created_ms, expires_ms FROM api_keys
        WHERE tenant_id = ? AND environment = ? AND revoked_ms IS NULL LIMIT 1000";
    /// Binds now, tenant, id. A key that is revoked keeps its time.
    pub const KEY_REVOKE: &str =
        "UPDATE api_keys SET revoked_ms = COALESCE(revoked_ms, ?) WHERE tenant_id = ? AND id = ?";
    /// Binds time, tenant, id; never goes back.
    pub const KEY_USED: &str =
        "UPDATE api_keys SET last_used_ms = MAX(COALESCE(last_used_ms, 0), ?) WHERE tenant_id = ? AND id = ?";

    /// Binds tenant, environment, address; returns as `tenant_id` the tenant that holds the address by its first use
    /// alone, or held it so before it was taken, unless it is the one bound; or null.
    pub const RECIPIENT_LOSER: &str =
        "SELECT CASE WHEN first_use = 1 AND tenant_id <> ? THEN tenant_id ELSE taken_from END AS tenant_id
        FROM recipients WHERE environment = ? AND address = ?";
    /// Binds now, environment, address, tenant: the tenant that loses the address has changed.
    pub const RECIPIENT_LOSER_TOUCH: &str = "UPDATE tenants SET version = version + 1, updated_ms = ? WHERE id =
        (SELECT tenant_id FROM recipients WHERE environment = ? AND address = ? AND first_use = 1 AND tenant_id <> ?)";
    /// Binds tenant, now, environment, address, tenant: the address is taken from a tenant that holds it by its first
    /// use alone, or did before it removed it.
    pub const RECIPIENT_TAKE: &str = "UPDATE recipients SET taken_from = tenant_id, tenant_id = ?, created_ms = ?,
        first_use = 0, removed_ms = NULL WHERE environment = ? AND address = ? AND first_use = 1 AND tenant_id <> ?";
    /// Binds environment, address, tenant: a removed address of the tenant comes back, and what it held by its first
    /// use it holds for good.
    pub const RECIPIENT_RESTORE: &str = "UPDATE recipients SET removed_ms = NULL, first_use = 0
        WHERE environment = ? AND address = ? AND tenant_id = ?";
    /// Binds environment, address, tenant, now, and again environment, address, tenant. Fails where another
    /// tenant holds the address, or held it.
    pub const RECIPIENT_PUT: &str = "INSERT INTO recipients (environment, address, tenant_id, created_ms)
        SELECT ?, ?, ?, ? WHERE NOT EXISTS
        (SELECT 1 FROM recipients WHERE environment = ? AND address = ? AND tenant_id = ?)";
    /// Binds environment, address, tenant, now, again tenant and environment, and the most that a tenant may hold so:
    /// the address is the tenant's by its first use, unless anybody holds it, or held it.
    pub const RECIPIENT_FIRST_USE: &str =
        "INSERT INTO recipients (environment, address, tenant_id, created_ms, first_use)
        SELECT ?, ?, ?, ?, 1 WHERE (SELECT COUNT(*) FROM recipients
        WHERE tenant_id = ? AND environment = ? AND first_use = 1) < ? ON CONFLICT (environment, address) DO NOTHING";
    /// Binds now, tenant, environment, address, tenant: the tenant has changed if it holds the address so.
    pub const FIRST_USER_TOUCH: &str =
        "UPDATE tenants SET version = version + 1, updated_ms = ? WHERE id = ? AND EXISTS
        (SELECT 1 FROM recipients WHERE environment = ? AND address = ? AND tenant_id = ? AND first_use = 1
        AND removed_ms IS NULL)";
    /// Binds tenant, environment, now; returns the index of a child that nobody had.
    pub const DERIVED_PUT: &str =
        "INSERT INTO derived_recipients (tenant_id, environment, created_ms) VALUES (?, ?, ?) RETURNING id AS number";
    /// Binds tenant; returns its addresses, removed ones too.
    pub const RECIPIENTS_OF: &str = "SELECT environment, address, created_ms, removed_ms FROM recipients
        WHERE tenant_id = ? ORDER BY environment, created_ms LIMIT 5000";
    /// Binds tenant and environment; returns its addresses.
    pub const RECIPIENTS_IN_FORCE: &str = "SELECT address, first_use FROM recipients
        WHERE tenant_id = ? AND environment = ? AND removed_ms IS NULL ORDER BY created_ms, address LIMIT 5000";
    /// Binds now, tenant, address: in both environments, retired for good.
    pub const RECIPIENT_REMOVE: &str =
        "UPDATE recipients SET removed_ms = COALESCE(removed_ms, ?) WHERE tenant_id = ? AND address = ?";
    /// Binds tenant, chain, address.
    pub const DEFAULT_PUT: &str = "INSERT INTO default_recipients (tenant_id, chain, address) VALUES (?, ?, ?)
        ON CONFLICT (tenant_id, chain) DO UPDATE SET address = excluded.address";
    /// Binds tenant, chain, address: only where the chain has none.
    pub const DEFAULT_PUT_FIRST: &str = "INSERT INTO default_recipients (tenant_id, chain, address) VALUES (?, ?, ?)
        ON CONFLICT (tenant_id, chain) DO NOTHING";
    /// Binds tenant and address.
    pub const DEFAULTS_REMOVE: &str = "DELETE FROM default_recipients WHERE tenant_id = ? AND address = ?";
    /// Binds tenant; returns chain and address.
    pub const DEFAULTS_OF: &str = "SELECT chain, address FROM default_recipients WHERE tenant_id = ? ORDER BY chain";
    /// Binds a JSON list of tenants; returns tenant, chain, address.
    pub const DEFAULTS_OF_MANY: &str = "SELECT tenant_id, chain, address FROM default_recipients
        WHERE tenant_id IN (SELECT value FROM json_each(?)) ORDER BY tenant_id, chain";

    /// Binds tenant, environment, and a JSON list of records: id, time, chain, transaction, success, status,
    /// code, revision, body. An older revision changes nothing.
    pub const RECORDS_PUT: &str = "INSERT INTO verifications (id, tenant_id, environment, created_ms, chain, tx_hash,
        success, status, error_code, revision, body)
        SELECT value ->> 0, ?, ?, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6,
        value ->> 7, value ->> 8 FROM json_each(?) WHERE true
        ON CONFLICT (id) DO UPDATE SET success = excluded.success, status = excluded.status,
        error_code = excluded.error_code, revision = excluded.revision, body = excluded.body
        WHERE excluded.revision > verifications.revision";
    /// Binds tenant, environment, id; returns the body.
    pub const RECORD_GET: &str = "SELECT body FROM verifications WHERE tenant_id = ? AND environment = ? AND id = ?";
    /// Binds tenant, environment, id, limit; returns older records, the newest first.
    pub const RECORDS_BEFORE: &str = "SELECT id, body FROM verifications
        WHERE tenant_id = ? AND environment = ? AND id < ? ORDER BY id DESC LIMIT ?";
    /// Binds id, tenant, environment, kind, what it is about, time, body; harmless when repeated.
    pub const EVENT_PUT: &str = "INSERT INTO events (id, tenant_id, environment, kind, subject_id, created_ms, body)
        VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING";
    /// Binds id, tenant, environment, time, network, status, body, revision. An older revision changes nothing.
    pub const SETTLEMENT_PUT: &str =
        "INSERT INTO settlements (id, tenant_id, environment, created_ms, network, status, body, revision)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET status = excluded.status, body = excluded.body,
        revision = excluded.revision WHERE excluded.revision > settlements.revision";
    /// Binds tenant, environment, period, verifications, requests, now; totals never shrink.
    pub const USAGE_PUT: &str =
        "INSERT INTO period_usage (tenant_id, environment, period, verifications, requests, updated_ms)
        VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (tenant_id, environment, period) DO UPDATE SET
        verifications = MAX(verifications, excluded.verifications), requests = MAX(requests, excluded.requests),
        updated_ms = excluded.updated_ms";
    /// Binds the current period and a limit; returns tenants and environments of periods not yet closed.
    pub const USAGE_OPEN: &str = "SELECT tenant_id, environment, period FROM period_usage
        WHERE closed_ms IS NULL AND period < ? ORDER BY period, tenant_id LIMIT ?";
    /// Binds now, tenant, environment, period.
    pub const USAGE_CLOSE: &str = "UPDATE period_usage SET closed_ms = ?
        WHERE tenant_id = ? AND environment = ? AND period = ? AND closed_ms IS NULL";

    /// Binds settler, chain, number of flights, now.
    pub const STUCK_PUT: &str = "INSERT INTO stuck_flights (settler, chain, flights, reported_ms) VALUES (?, ?, ?, ?)
        ON CONFLICT (settler) DO UPDATE SET chain = excluded.chain, flights = excluded.flights,
        reported_ms = excluded.reported_ms";
    /// Binds a time; returns chain and number of flights that were reported stuck since. One row a signer.
    pub const STUCK_GET: &str =
        "SELECT chain, SUM(flights) AS number FROM stuck_flights WHERE reported_ms > ? AND flights > 0 GROUP BY chain";
    /// Returns chain, outcome and whether it ever passed.
    pub const CHECKS_GET: &str = "SELECT chain, outcome FROM chain_checks";
    /// Binds chain, outcome, report, now. An unreachable chain keeps its last definite outcome.
    pub const CHECK_PUT: &str = "INSERT INTO chain_checks (chain, outcome, report, checked_ms) VALUES (?, ?, ?, ?)
        ON CONFLICT (chain) DO UPDATE SET
        outcome = CASE WHEN excluded.outcome = 'unreachable' THEN chain_checks.outcome ELSE excluded.outcome END,
        report = excluded.report, checked_ms = excluded.checked_ms";
}

//! The migrations of a ledger's schema, in order. Each is applied once and loses no row; none is changed once a build
//! with it has run: a change is one more migration.

/// All of them; their numbers are their places.
pub const MIGRATIONS: &[&str] =
    &[TABLES, DELIVERY, PARKED_ENTRIES, RECORD_FLAGS, HASHED_REFERENCES, WEBHOOKS, CLAIMED_LOGS];

/// Number 0 takes an empty storage, and those of the builds that kept no number. One row holds what changes with every
/// request, a claim is one row, a record is one row: rows written are the bill.
pub const TABLES: &str = "
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

/// Delivery is a state of its own; identifiers are scoped by payer; payments that were never settled end;
/// a claim binds a `Transfer` log, and a row of `claims` the whole of a payment, as every row before did.
pub const DELIVERY: &str = "
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

/// Entries of the outbox that a build could not read are kept apart, for one that can.
pub const PARKED_ENTRIES: &str = "
    CREATE TABLE outbox_parked (seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, body TEXT NOT NULL,
        parked_ms INTEGER NOT NULL);
";

/// A record says itself whether it is polled for finality, and what it has counted, so that neither costs a row of its
/// own. Payments are polled in groups: `ids` are separated by spaces. Rows of `watches` are of an older build, and are
/// taken over when the object wakes.
pub const RECORD_FLAGS: &str = "
    ALTER TABLE records ADD COLUMN watched INTEGER;
    ALTER TABLE records ADD COLUMN counted INTEGER;
    CREATE TABLE watch_groups (seq INTEGER PRIMARY KEY, next_ms INTEGER NOT NULL, ids TEXT NOT NULL);
";

/// Of a claim of a tenant that was erased, `reference` is the SHA-256: `hashed` is 1 then, else null.
pub const HASHED_REFERENCES: &str = "
    ALTER TABLE claims ADD COLUMN hashed INTEGER;
    ALTER TABLE log_claims ADD COLUMN hashed INTEGER;
";

/// The logs that a record has claimed, for its copy: from that a ledger is rebuilt. Null: the whole, or nothing, or a build that
/// kept none.
pub const CLAIMED_LOGS: &str = "
    ALTER TABLE records ADD COLUMN units TEXT;
";

/// Events that a Courier has not taken, in their order. The release before leaves them where they are.
pub const WEBHOOKS: &str = "
    CREATE TABLE webhooks_waiting (seq INTEGER PRIMARY KEY AUTOINCREMENT, endpoint TEXT NOT NULL, body TEXT NOT NULL);
    CREATE INDEX webhooks_waiting_of ON webhooks_waiting (endpoint, seq);
";

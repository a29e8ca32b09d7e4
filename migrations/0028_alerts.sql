-- Alerts: what owners of tenants, and operators, are sent beside events.

-- Events of `live` that are alerts. The row is written with the event, or with its shipment: a second one changes nothing.
CREATE TABLE alerts (
    event_id TEXT PRIMARY KEY,
    tenant_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    -- What its text needs of the event's data, JSON.
    data TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    -- The notice that names it; null: it waits.
    notice_id TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX alerts_waiting ON alerts (tenant_id, kind, event_id) WHERE notice_id IS NULL;
CREATE INDEX alerts_of_tenant ON alerts (tenant_id);

-- Of the changes of the directory those that are alerts: `core::alert` has the same kinds.
CREATE TRIGGER alerts_of_changes AFTER INSERT ON directory_outbox
WHEN NEW.environment = 'live' AND NEW.kind IN ('key.expiring', 'endpoint.disabled')
BEGIN INSERT OR IGNORE INTO alerts (event_id, tenant_id, kind, subject, data, created_ms)
    VALUES (NEW.event_id, NEW.tenant_id, NEW.kind, NEW.subject, NEW.body, NEW.created_ms); END;

-- What is sent about alerts of one tenant and kind: mails, which name the notice, and a message to the tenant's URL.
CREATE TABLE notices (
    id TEXT PRIMARY KEY,
    -- Null: of operators.
    tenant_id TEXT,
    -- The kind of the alerts, or `operator`.
    kind TEXT NOT NULL,
    text TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    -- Tries to post the message so far, when the next is due (null: none is), and when it was taken.
    post_tries INTEGER NOT NULL DEFAULT 0,
    post_due_ms INTEGER,
    posted_ms INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX notices_of_tenant ON notices (tenant_id, kind, created_ms);
CREATE INDEX notices_to_post ON notices (post_due_ms) WHERE post_due_ms IS NOT NULL;

-- Whether owners get mails about alerts, and a Slack-compatible URL: sealed, and its host.
ALTER TABLE tenants ADD COLUMN alert_mails INTEGER NOT NULL DEFAULT 1;
ALTER TABLE tenants ADD COLUMN alert_url TEXT;
ALTER TABLE tenants ADD COLUMN alert_host TEXT;

-- How many days before its end a key was alerted to last.
ALTER TABLE api_keys ADD COLUMN expiry_days INTEGER;
CREATE INDEX api_keys_expiring ON api_keys (expires_ms) WHERE expires_ms IS NOT NULL AND revoked_ms IS NULL;

-- What was wrong at the last check that operators are alerted to.
CREATE TABLE operator_alerts (
    kind TEXT NOT NULL,
    -- A chain, or a chain and a signer; empty where there is but one.
    subject TEXT NOT NULL,
    detail TEXT NOT NULL,
    -- Since when each check has found it, when it began (null: too short so far), and when a line was sent last.
    first_ms INTEGER NOT NULL,
    began_ms INTEGER,
    notified_ms INTEGER,
    PRIMARY KEY (kind, subject)
) STRICT, WITHOUT ROWID;
-- One row: when checks have changed something last. Of two at the same time the second one changes nothing.
CREATE TABLE operator_checks (
    id INTEGER PRIMARY KEY,
    changed_ms INTEGER NOT NULL
) STRICT;

-- Verifications by live keys that were answered with a status of 500 or more, by hour.
CREATE TABLE verification_faults (
    hour_ms INTEGER PRIMARY KEY,
    count INTEGER NOT NULL
) STRICT;
CREATE INDEX rollups_of_hours ON rollups (start_ms, environment, count) WHERE span = 'hour';

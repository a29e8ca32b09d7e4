-- Events of changes of the directory, each written in the batch of its change. They are shipped to the Records object of
-- their month, at least once; one that was shipped is kept for a month, for questions about it.

CREATE TABLE directory_outbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id TEXT NOT NULL UNIQUE,
    tenant_id TEXT NOT NULL,
    environment TEXT NOT NULL,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    body TEXT NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0,
    created_ms INTEGER NOT NULL,
    shipped_ms INTEGER
) STRICT;
CREATE INDEX directory_outbox_unshipped ON directory_outbox (tries, seq) WHERE shipped_ms IS NULL;
CREATE INDEX directory_outbox_shipped ON directory_outbox (shipped_ms) WHERE shipped_ms IS NOT NULL;

-- Who makes a change: a person, a key of the tenant, an operator, or the service itself.
ALTER TABLE audit_log ADD COLUMN actor_kind TEXT NOT NULL DEFAULT 'person';

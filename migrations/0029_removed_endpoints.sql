-- Webhook endpoints that were removed, until their objects have erased what they hold.

CREATE TABLE removed_endpoints (
    id TEXT PRIMARY KEY,
    -- When the object was last asked to erase it, in vain.
    tried_ms INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

-- Whatever removes an endpoint: its owner, or the deletion of its tenant.
CREATE TRIGGER removed_endpoints_noted AFTER DELETE ON webhook_endpoints
BEGIN INSERT OR IGNORE INTO removed_endpoints (id) VALUES (OLD.id); END;

-- Where tenants get their events: webhook endpoints.

CREATE TABLE webhook_endpoints (
    id TEXT PRIMARY KEY,
    tenant_id TEXT NOT NULL,
    environment TEXT NOT NULL CHECK (environment IN ('live', 'test')),
    url TEXT NOT NULL,
    -- A JSON list of types of events, or `family.*`; an empty one wants all.
    events TEXT NOT NULL,
    description TEXT,
    status TEXT NOT NULL CHECK (status IN ('active', 'paused', 'disabled')),
    -- Why it was disabled: `failing` or `gone`; null where it was not.
    disabled_reason TEXT,
    -- The secret, sealed.
    secret_sealed TEXT NOT NULL,
    -- The secret before it, sealed, and until when messages are signed by it too.
    previous_sealed TEXT,
    previous_until_ms INTEGER,
    created_ms INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX webhook_endpoints_of_tenant ON webhook_endpoints (tenant_id, environment, id);

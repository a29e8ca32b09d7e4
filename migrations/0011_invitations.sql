-- Invitations of people to tenants. The token of the mail's link is derived from the id and a pepper: only its SHA-256 is
-- stored.

CREATE TABLE invitations (
    id TEXT PRIMARY KEY,
    tenant_id TEXT NOT NULL,
    email TEXT NOT NULL,
    role TEXT NOT NULL,
    token_hash TEXT NOT NULL UNIQUE,
    invited_by TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL,
    accepted_ms INTEGER,
    revoked_ms INTEGER
) STRICT;
CREATE INDEX invitations_of_tenant ON invitations (tenant_id, created_ms);

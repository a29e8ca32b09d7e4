-- Identity providers of tenants (OpenID Connect), each for the mail domain that its tenant proves by a DNS record.

CREATE TABLE oidc_connections (
    tenant_id TEXT PRIMARY KEY,
    domain TEXT NOT NULL,
    issuer TEXT NOT NULL,
    client_id TEXT NOT NULL,
    -- Encrypted under a pepper; the tenant's id is authenticated with it.
    secret_sealed TEXT NOT NULL,
    default_role TEXT NOT NULL,
    -- What the DNS record holds.
    dns_token TEXT NOT NULL,
    -- When the record was first found, and when last.
    proven_ms INTEGER,
    checked_ms INTEGER,
    created_ms INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
-- A domain is proven by one tenant at a time; several may try.
CREATE UNIQUE INDEX oidc_proven_domains ON oidc_connections (domain) WHERE proven_ms IS NOT NULL;

-- 1: the session was begun by the provider of its tenant, and holds for that tenant alone.
ALTER TABLE sessions ADD COLUMN only_tenant INTEGER NOT NULL DEFAULT 0;

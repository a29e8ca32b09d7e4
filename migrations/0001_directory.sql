-- The directory (tenants, keys, recipients), the records that ledgers ship, and
-- the registry check's results. Times are unix milliseconds.

CREATE TABLE tenants (
    id TEXT PRIMARY KEY,
    email TEXT NOT NULL UNIQUE,
    company_name TEXT,
    tier TEXT NOT NULL,
    status TEXT NOT NULL,
    region TEXT,
    limits TEXT NOT NULL,
    sanctions TEXT NOT NULL,
    version INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE api_keys (
    id TEXT PRIMARY KEY,
    tenant_id TEXT NOT NULL,
    environment TEXT NOT NULL,
    name TEXT NOT NULL,
    hash TEXT NOT NULL UNIQUE,
    scopes TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER,
    revoked_ms INTEGER,
    last_used_ms INTEGER
) STRICT;
CREATE INDEX api_keys_of_tenant ON api_keys (tenant_id, id);

-- An address belongs to one tenant in an environment, whatever the chain, and
-- for good: a removed one keeps its row.
CREATE TABLE recipients (
    environment TEXT NOT NULL,
    address TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    removed_ms INTEGER,
    PRIMARY KEY (environment, address)
) STRICT, WITHOUT ROWID;
CREATE INDEX recipients_of_tenant ON recipients (tenant_id, environment);

CREATE TABLE default_recipients (
    tenant_id TEXT NOT NULL,
    chain TEXT NOT NULL,
    address TEXT NOT NULL,
    PRIMARY KEY (tenant_id, chain)
) STRICT, WITHOUT ROWID;

CREATE TABLE verifications (
    id TEXT PRIMARY KEY,
    tenant_id TEXT NOT NULL,
    environment TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    chain TEXT NOT NULL,
    tx_hash TEXT NOT NULL,
    success INTEGER NOT NULL,
    status TEXT NOT NULL,
    error_code TEXT,
    revision INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE INDEX verifications_of_tenant ON verifications (tenant_id, environment, id);

CREATE TABLE events (
    id TEXT PRIMARY KEY,
    tenant_id TEXT NOT NULL,
    environment TEXT NOT NULL,
    kind TEXT NOT NULL,
    verification_id TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE INDEX events_of_tenant ON events (tenant_id, environment, id);

-- Usage is kept for good.
CREATE TABLE period_usage (
    tenant_id TEXT NOT NULL,
    environment TEXT NOT NULL,
    period TEXT NOT NULL,
    verifications INTEGER NOT NULL,
    requests INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL,
    closed_ms INTEGER,
    PRIMARY KEY (tenant_id, environment, period)
) STRICT, WITHOUT ROWID;
CREATE INDEX period_usage_open ON period_usage (period, tenant_id) WHERE closed_ms IS NULL;

CREATE TABLE chain_checks (
    chain TEXT PRIMARY KEY,
    outcome TEXT NOT NULL,
    report TEXT NOT NULL,
    checked_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

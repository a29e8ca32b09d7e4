-- x402 payments taken to the chain, as their ledgers tell.

CREATE TABLE settlements (
    id TEXT PRIMARY KEY,
    tenant_id TEXT NOT NULL,
    environment TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    network TEXT NOT NULL,
    status TEXT NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE INDEX settlements_of_tenant ON settlements (tenant_id, environment, id);

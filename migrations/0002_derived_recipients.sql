-- Which child of the operator's extended public key went to whom. The number is
-- the BIP-32 index; AUTOINCREMENT never gives one twice.

CREATE TABLE derived_recipients (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id TEXT NOT NULL,
    environment TEXT NOT NULL,
    created_ms INTEGER NOT NULL
) STRICT;

-- What rebuilds a tenant's ledger, and which ledgers are to be rebuilt.

-- The progress of a settlement as its ledger keeps it, JSON: its authorization, what it has claimed, what it cost. Null: the
-- release before has written the copy.
ALTER TABLE settlements ADD COLUMN course TEXT;

-- Ledgers that have found themselves empty though usage of theirs is known: they serve nobody until they are rebuilt.
CREATE TABLE lost_ledgers (
    tenant_id TEXT NOT NULL,
    environment TEXT NOT NULL,
    found_ms INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, environment)
) STRICT, WITHOUT ROWID;

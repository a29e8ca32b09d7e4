-- How an address came to its tenant. `proof`: the kind of signature, `derived`, or null: by an operator, by first use, or
-- before this migration. `only_on`: the chains of a contract that has proven itself there (a JSON list); null: all of the
-- family. `added_by`: the person or the key that registered it.

ALTER TABLE recipients ADD COLUMN proof TEXT;
ALTER TABLE recipients ADD COLUMN only_on TEXT;
ALTER TABLE recipients ADD COLUMN added_by TEXT;

-- Challenges to sign. A signature counts once: the second use of a nonce fails its batch.
CREATE TABLE recipient_challenges (
    nonce TEXT PRIMARY KEY,
    tenant_id TEXT NOT NULL,
    environment TEXT NOT NULL,
    chain TEXT NOT NULL,
    address TEXT NOT NULL,
    service TEXT NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0,
    uses INTEGER NOT NULL DEFAULT 0 CONSTRAINT recipient_challenge_is_used_once CHECK (uses <= 1),
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX recipient_challenges_of_tenant ON recipient_challenges (tenant_id, expires_ms);
CREATE INDEX recipient_challenges_by_time ON recipient_challenges (expires_ms);

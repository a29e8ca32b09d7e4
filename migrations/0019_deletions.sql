-- The deletion of a tenant by its owner. One row a tenant: asked for by a mail, confirmed (`due_ms`), then erased, or undone:
-- the row is deleted. The token of the mail's link is derived from the id and a pepper: only its SHA-256 is stored.

CREATE TABLE deletions (
    tenant_id TEXT PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    token_hash TEXT NOT NULL,
    asked_by TEXT NOT NULL,
    asked_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL,
    -- When the time ends in which it can be undone.
    due_ms INTEGER,
    -- When both ledgers had loaded that the keys are dead.
    closed_ms INTEGER,
    -- Since when personal data are erased, and when none was left.
    erasing_ms INTEGER,
    erased_ms INTEGER,
    -- Runs of the timed job.
    tries INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE INDEX deletions_open ON deletions (tries, due_ms) WHERE due_ms IS NOT NULL AND erased_ms IS NULL;

CREATE INDEX mails_by_address ON mails (address, created_ms);
CREATE INDEX sessions_of_tenant ON sessions (tenant_id);

-- Entries of the audit log stay as they are but for one change: while a tenant is erased, networks, programs and addresses
-- of people leave its entries.
DROP TRIGGER audit_log_stays;
CREATE TRIGGER audit_log_stays BEFORE UPDATE ON audit_log
WHEN NOT EXISTS (SELECT 1 FROM deletions WHERE tenant_id = OLD.tenant_id AND erasing_ms IS NOT NULL)
    OR NEW.id IS NOT OLD.id OR NEW.tenant_id IS NOT OLD.tenant_id OR NEW.actor_id IS NOT OLD.actor_id
    OR NEW.actor_kind IS NOT OLD.actor_kind OR NEW.action IS NOT OLD.action OR NEW.detail IS NOT OLD.detail
    OR NEW.created_ms IS NOT OLD.created_ms OR NEW.ip_prefix <> 'erased' OR NEW.user_agent IS NOT NULL
    OR (NEW.subject <> OLD.subject AND (instr(OLD.subject, '@') = 0 OR NEW.subject <> 'erased'))
BEGIN SELECT RAISE(ABORT, 'the audit log is not changed'); END;

-- How many codes of sign-ins were wrong, how links to other services' accounts end, and which environment an entry of the
-- audit log is about.

-- One row a day and network in which a code was compared, and one a day for all. A right code is taken back.
CREATE TABLE wrong_codes (
    -- The start of the day (UTC).
    day_ms INTEGER NOT NULL,
    -- A prefix of addresses, `unknown`, or `all`.
    ip_prefix TEXT NOT NULL,
    wrong INTEGER NOT NULL,
    PRIMARY KEY (day_ms, ip_prefix)
) STRICT, WITHOUT ROWID;

-- The account's name at the service and the network of the client, both when it was linked.
ALTER TABLE identities ADD COLUMN name TEXT;
ALTER TABLE identities ADD COLUMN ip_prefix TEXT NOT NULL DEFAULT 'unknown';
ALTER TABLE identities ADD COLUMN used_ms INTEGER;
-- Since when the account signs nobody in. The row stays, so that the account is not linked again.
ALTER TABLE identities ADD COLUMN ended_ms INTEGER;

-- Null where the change is about the tenant as a whole.
ALTER TABLE audit_log ADD COLUMN environment TEXT;

-- No entry is changed, and of a tenant that is erased only what is personal; this holds for the new column too.
DROP TRIGGER audit_log_stays;
CREATE TRIGGER audit_log_stays BEFORE UPDATE ON audit_log
WHEN NOT EXISTS (SELECT 1 FROM deletions WHERE tenant_id = OLD.tenant_id AND erasing_ms IS NOT NULL)
    OR NEW.id IS NOT OLD.id OR NEW.tenant_id IS NOT OLD.tenant_id OR NEW.actor_id IS NOT OLD.actor_id
    OR NEW.actor_kind IS NOT OLD.actor_kind OR NEW.action IS NOT OLD.action OR NEW.detail IS NOT OLD.detail
    OR NEW.created_ms IS NOT OLD.created_ms OR NEW.environment IS NOT OLD.environment OR NEW.ip_prefix <> 'erased'
    OR NEW.user_agent IS NOT NULL
    OR (NEW.subject <> OLD.subject AND (instr(OLD.subject, '@') = 0 OR NEW.subject <> 'erased'))
BEGIN SELECT RAISE(ABORT, 'the audit log is not changed'); END;

-- Who changed what in a tenant, from where and when. A row is written in the batch of the change, and never changed.

CREATE TABLE audit_log (
    id TEXT PRIMARY KEY,
    tenant_id TEXT NOT NULL,
    actor_id TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail TEXT,
    ip_prefix TEXT NOT NULL,
    user_agent TEXT,
    created_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX audit_log_of_tenant ON audit_log (tenant_id, id);
CREATE TRIGGER audit_log_stays BEFORE UPDATE ON audit_log BEGIN SELECT RAISE(ABORT, 'the audit log is not changed'); END;
CREATE TRIGGER audit_log_is_kept BEFORE DELETE ON audit_log BEGIN SELECT RAISE(ABORT, 'the audit log is kept'); END;

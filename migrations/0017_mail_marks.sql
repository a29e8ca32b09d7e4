-- When a mail is tried again, what the provider calls it, and the addresses that get none.

-- The tries so far, and the time from which the next may begin: a try reserves the mail until it must have ended.
ALTER TABLE mails ADD COLUMN tries INTEGER NOT NULL DEFAULT 0;
ALTER TABLE mails ADD COLUMN due_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE mails ADD COLUMN provider_id TEXT;
CREATE INDEX mails_due ON mails (due_ms) WHERE state = 'queued';

-- Addresses whose server has refused a mail for good, or whose reader has reported one as spam.
CREATE TABLE mail_addresses (
    address TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    marked_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- People who sign in, the tenants they belong to, their sessions, and the mails that are sent to them. Secrets are stored
-- as SHA-256 only.

CREATE TABLE people (
    id TEXT PRIMARY KEY,
    email TEXT NOT NULL UNIQUE,
    created_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE members (
    tenant_id TEXT NOT NULL,
    person_id TEXT NOT NULL,
    role TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, person_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX members_of_person ON members (person_id, created_ms);

-- Requests to sign in or to sign up. The link's token and the code are derived from the id and a pepper: nothing here lets
-- a reader sign in.
CREATE TABLE sign_ins (
    id TEXT PRIMARY KEY,
    email TEXT NOT NULL,
    intent TEXT NOT NULL,
    company_name TEXT,
    token_hash TEXT NOT NULL UNIQUE,
    browser_hash TEXT NOT NULL UNIQUE,
    ip_prefix TEXT NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0,
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL,
    used_ms INTEGER
) STRICT;
CREATE INDEX sign_ins_by_email ON sign_ins (email, created_ms);
CREATE INDEX sign_ins_by_prefix ON sign_ins (ip_prefix, created_ms);
CREATE INDEX sign_ins_by_time ON sign_ins (created_ms);

CREATE TABLE sessions (
    id TEXT PRIMARY KEY,
    hash TEXT NOT NULL UNIQUE,
    person_id TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    ip_prefix TEXT NOT NULL,
    user_agent TEXT,
    created_ms INTEGER NOT NULL,
    seen_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL,
    ended_ms INTEGER
) STRICT;
CREATE INDEX sessions_of_person ON sessions (person_id, id);

-- One row a mail. Its text is made when it is sent, of the row that `subject_id` names. `origin` is that of its links.
CREATE TABLE mails (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    address TEXT NOT NULL,
    origin TEXT NOT NULL,
    subject_id TEXT NOT NULL,
    state TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    sent_ms INTEGER
) STRICT;
CREATE INDEX mails_queued ON mails (created_ms) WHERE state = 'queued';

-- Where mails go that are not sent, on a developer's machine. These hold their links.
CREATE TABLE mailbox (
    mail_id TEXT PRIMARY KEY,
    address TEXT NOT NULL,
    subject TEXT NOT NULL,
    text TEXT NOT NULL,
    html TEXT NOT NULL,
    created_ms INTEGER NOT NULL
) STRICT;

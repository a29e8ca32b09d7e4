-- People as other services name them, and sign-ins by those services that are on their way. Secrets are stored as SHA-256
-- only.

CREATE TABLE identities (
    provider TEXT NOT NULL,
    -- The service's own id of the person, which stays when a name or an address changes.
    subject TEXT NOT NULL,
    person_id TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    PRIMARY KEY (provider, subject)
) STRICT, WITHOUT ROWID;
CREATE INDEX identities_of_person ON identities (person_id);

CREATE TABLE oauth_states (
    hash TEXT PRIMARY KEY,
    provider TEXT NOT NULL,
    browser_hash TEXT NOT NULL,
    ip_prefix TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL,
    used_ms INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX oauth_states_by_prefix ON oauth_states (ip_prefix, created_ms);
CREATE INDEX oauth_states_by_time ON oauth_states (created_ms);

-- What sellers manage of their keys: the end of a key's text by which they tell keys apart, the networks from which it may be
-- used, and its rotation. Keys made before have no known end.

ALTER TABLE api_keys ADD COLUMN last_four TEXT;
ALTER TABLE api_keys ADD COLUMN allow_list TEXT NOT NULL DEFAULT '[]';
ALTER TABLE api_keys ADD COLUMN rotated_from TEXT;
-- Until when a key that was rotated holds.
ALTER TABLE api_keys ADD COLUMN grace_until_ms INTEGER;

-- Reports of leaked keys, for the limits on them. They hold no key.
CREATE TABLE key_reports (
    ip_prefix TEXT NOT NULL,
    created_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX key_reports_by_prefix ON key_reports (ip_prefix, created_ms);
CREATE INDEX key_reports_by_time ON key_reports (created_ms);

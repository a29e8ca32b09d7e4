-- Alerts of a tenant hold up no other's: keys that end, and messages, are taken in turn.

-- When a message to the tenant's URL last took long; null: the last one did not. Those that do wait in a line of their own.
ALTER TABLE tenants ADD COLUMN alert_slow_ms INTEGER;

-- When the next alert that the key ends is due: seven days before its end, then one; not for a key that lives no longer than
-- that, was replaced or revoked, or of which it was raised. `core::alert` has the same days.
ALTER TABLE api_keys ADD COLUMN alert_due_ms INTEGER AS (CASE
    WHEN revoked_ms IS NOT NULL OR grace_until_ms IS NOT NULL THEN NULL
    WHEN expiry_days IS NULL AND expires_ms - created_ms > 604800000 THEN expires_ms - 604800000
    WHEN (expiry_days IS NULL OR expiry_days > 1) AND expires_ms - created_ms > 86400000 THEN expires_ms - 86400000
    END) VIRTUAL;
CREATE INDEX api_keys_alert_due ON api_keys (alert_due_ms) WHERE alert_due_ms IS NOT NULL;

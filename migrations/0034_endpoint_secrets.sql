-- What else is kept of a webhook endpoint: when it was disabled the time before the last, and since when its secret cannot be opened.

-- When it was disabled before, and made active again: a ledger may learn of it only when it is disabled once more.
ALTER TABLE webhook_endpoints ADD COLUMN earlier_disabled_ms INTEGER;
ALTER TABLE webhook_endpoints ADD COLUMN earlier_active_ms INTEGER;
-- Whichever release disables it.
CREATE TRIGGER webhook_endpoints_earlier AFTER UPDATE OF disabled_ms ON webhook_endpoints
WHEN OLD.disabled_ms IS NOT NULL AND NEW.disabled_ms IS NOT OLD.disabled_ms
BEGIN UPDATE webhook_endpoints SET earlier_disabled_ms = OLD.disabled_ms, earlier_active_ms = OLD.active_ms WHERE id = NEW.id; END;

-- Since when no pepper opens its secret, as its object has found. Null: one does.
ALTER TABLE webhook_endpoints ADD COLUMN secret_lost_ms INTEGER;
CREATE INDEX webhook_endpoints_secret_lost ON webhook_endpoints (secret_lost_ms) WHERE secret_lost_ms IS NOT NULL;
-- Whichever release replaces it.
CREATE TRIGGER webhook_endpoints_secret_found AFTER UPDATE OF secret_sealed ON webhook_endpoints
WHEN NEW.secret_lost_ms IS NOT NULL
BEGIN UPDATE webhook_endpoints SET secret_lost_ms = NULL WHERE id = NEW.id; END;

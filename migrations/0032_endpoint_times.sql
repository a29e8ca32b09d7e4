-- When a webhook endpoint was disabled, the last time, and made active again: what happens between is not sent to it. Every
-- change of it moves `updated_ms`.

-- Null: it never was.
ALTER TABLE webhook_endpoints ADD COLUMN disabled_ms INTEGER;
-- Null: it is disabled, or never was.
ALTER TABLE webhook_endpoints ADD COLUMN active_ms INTEGER;
UPDATE webhook_endpoints SET disabled_ms = updated_ms WHERE status = 'disabled';

-- Whoever changes the status: the release before too.
CREATE TRIGGER webhook_endpoints_disabled AFTER UPDATE OF status ON webhook_endpoints
WHEN NEW.status = 'disabled' AND OLD.status <> 'disabled'
BEGIN UPDATE webhook_endpoints SET disabled_ms = NEW.updated_ms, active_ms = NULL WHERE id = NEW.id; END;
CREATE TRIGGER webhook_endpoints_active AFTER UPDATE OF status ON webhook_endpoints
WHEN NEW.status <> 'disabled' AND OLD.status = 'disabled'
BEGIN UPDATE webhook_endpoints SET active_ms = NEW.updated_ms WHERE id = NEW.id; END;

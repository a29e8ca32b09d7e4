-- What operators watch: incidents that were, and what signers have spent.

-- Alerts about a chain, or the service, that had begun; for the public status. Triggers write it with the alert.
CREATE TABLE incidents (
    kind TEXT NOT NULL,
    -- A chain's key; empty for the service as a whole.
    chain TEXT NOT NULL,
    began_ms INTEGER NOT NULL,
    ended_ms INTEGER,
    PRIMARY KEY (began_ms, kind, chain)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER incident_begins AFTER INSERT ON operator_alerts WHEN NEW.began_ms IS NOT NULL AND NEW.kind IN ('chain_unreachable', 'error_rate') BEGIN INSERT INTO incidents (kind, chain, began_ms) VALUES (NEW.kind, NEW.subject, NEW.began_ms) ON CONFLICT DO NOTHING; END;
CREATE TRIGGER incident_has_begun AFTER UPDATE OF began_ms ON operator_alerts WHEN OLD.began_ms IS NULL AND NEW.began_ms IS NOT NULL AND NEW.kind IN ('chain_unreachable', 'error_rate') BEGIN INSERT INTO incidents (kind, chain, began_ms) VALUES (NEW.kind, NEW.subject, NEW.began_ms) ON CONFLICT DO NOTHING; END;
-- The batch that ends an alert has noted the time of the check before.
CREATE TRIGGER incident_ends AFTER DELETE ON operator_alerts WHEN OLD.began_ms IS NOT NULL AND OLD.kind IN ('chain_unreachable', 'error_rate') BEGIN UPDATE incidents SET ended_ms = (SELECT max(changed_ms, OLD.began_ms) FROM operator_checks WHERE id = 1) WHERE began_ms = OLD.began_ms AND kind = OLD.kind AND chain = OLD.subject AND ended_ms IS NULL; END;

-- What a signer held on a chain when it was checked last on a day, and by how much it had become less on that day, in the
-- coin's smallest unit (decimal text).
CREATE TABLE signer_balances (
    chain TEXT NOT NULL,
    signer TEXT NOT NULL,
    day_ms INTEGER NOT NULL,
    held TEXT NOT NULL,
    spent TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (day_ms, chain, signer)
) STRICT, WITHOUT ROWID;

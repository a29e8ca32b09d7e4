-- Whether the ledgers hold what has caused an event: apart from its shipping, so that records that are away delay no
-- revocation. An event of a build before this column counts as not loaded.

ALTER TABLE directory_outbox ADD COLUMN loaded_ms INTEGER;
ALTER TABLE directory_outbox ADD COLUMN loads INTEGER NOT NULL DEFAULT 0;
CREATE INDEX directory_outbox_unloaded ON directory_outbox (tenant_id, seq) WHERE loaded_ms IS NULL AND shipped_ms IS NULL;
CREATE INDEX directory_outbox_to_ship ON directory_outbox (tries, seq) WHERE loaded_ms IS NOT NULL AND shipped_ms IS NULL;

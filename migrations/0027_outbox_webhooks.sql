-- Events of the directory go to webhook endpoints too: since when those that want one have it; null before.
ALTER TABLE directory_outbox ADD COLUMN heard_ms INTEGER;
CREATE INDEX directory_outbox_unheard ON directory_outbox (tries, seq) WHERE heard_ms IS NULL AND shipped_ms IS NOT NULL;

-- Events are about settlements too, and a settlement's copy follows its ledger by
-- revision, so that a reorganisation reaches it.

ALTER TABLE events RENAME COLUMN verification_id TO subject_id;
ALTER TABLE settlements ADD COLUMN revision INTEGER NOT NULL DEFAULT 0;

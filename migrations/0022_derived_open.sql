-- A child of the operator's key that a seller asked for, and that is registered nowhere yet: when it was asked for last. It
-- is given to the same tenant again. Null: registered, or made for an operator.

ALTER TABLE derived_recipients ADD COLUMN open_ms INTEGER;
CREATE INDEX derived_recipients_open ON derived_recipients (tenant_id, environment, id) WHERE open_ms IS NOT NULL;

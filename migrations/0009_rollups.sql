-- Totals of records by hour and by day, as the objects of the months copy them: absolute values, of which the highest
-- revision stands. `start_ms` is the start of the hour or the day (UTC), `outcome` the refusal's code or the payment's
-- status, `amount` a sum of atomic units.

CREATE TABLE rollups (
    tenant_id TEXT NOT NULL,
    environment TEXT NOT NULL,
    span TEXT NOT NULL,
    start_ms INTEGER NOT NULL,
    chain TEXT NOT NULL,
    outcome TEXT NOT NULL,
    count INTEGER NOT NULL,
    amount TEXT NOT NULL,
    revision INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, environment, span, start_ms, chain, outcome)
) STRICT, WITHOUT ROWID;

-- Settlements that a signer's object cannot carry on, as it reports: for health.

CREATE TABLE stuck_flights (
    settler TEXT PRIMARY KEY,
    chain TEXT NOT NULL,
    flights INTEGER NOT NULL,
    reported_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

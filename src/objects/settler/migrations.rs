//! The migrations of a Settler's schema, in order. Each is applied once and loses no row; none is changed once a build
//! with it has run: a change is one more migration.

/// All of them; their numbers are their places.
pub const MIGRATIONS: &[&str] = &[TABLES];

/// Number 0 takes an empty storage, and those of the builds that kept no number.
pub const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS flights (key TEXT PRIMARY KEY, nonce INTEGER NOT NULL, flight TEXT NOT NULL,
        sent TEXT NOT NULL, report TEXT, told INTEGER NOT NULL DEFAULT 0, changed_ms INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS watched (key TEXT PRIMARY KEY, next_ms INTEGER NOT NULL,
        since_ms INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS refused (key TEXT PRIMARY KEY, at_ms INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS penalties (payer TEXT PRIMARY KEY, count INTEGER NOT NULL,
        until_ms INTEGER NOT NULL) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS flights_flying ON flights (nonce) WHERE report IS NULL;
    DROP INDEX IF EXISTS flights_untold;
    CREATE INDEX IF NOT EXISTS flights_ended ON flights (key) WHERE told = 0 AND report IS NOT NULL;
";

//! The migrations of a Records object's schema, in order. Each is applied once and loses no row; none is changed once a
//! build with it has run: a change is one more migration.

/// All of them; their numbers are their places.
pub const MIGRATIONS: &[&str] = &[TABLES, EVENT_COLUMNS, DAYS];

/// A record is one row, and no index: rows written are the bill.
pub const TABLES: &str = "
    CREATE TABLE records (id TEXT PRIMARY KEY, revision INTEGER NOT NULL, chain TEXT NOT NULL, outcome TEXT NOT NULL,
        amount TEXT NOT NULL, size INTEGER NOT NULL, body BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE events (id TEXT PRIMARY KEY, size INTEGER NOT NULL, body BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE totals (hour_ms INTEGER NOT NULL, chain TEXT NOT NULL, outcome TEXT NOT NULL, count INTEGER NOT NULL,
        amount TEXT NOT NULL, revision INTEGER NOT NULL, copied INTEGER NOT NULL,
        PRIMARY KEY (hour_ms, chain, outcome)) WITHOUT ROWID;
";

/// What events are filtered by, beside the line that holds it; null in rows of the builds before.
pub const EVENT_COLUMNS: &str = "
    ALTER TABLE events ADD COLUMN kind TEXT;
    ALTER TABLE events ADD COLUMN subject TEXT;
";

/// What is counted of each day beside the totals, as JSON, and the settlements of the month. Records that are stored
/// already are counted later, a part at a time (`src/objects/records/days.rs`).
pub const DAYS: &str = r#"
    CREATE TABLE days (day_ms INTEGER PRIMARY KEY, body TEXT NOT NULL);
    CREATE TABLE settlements (id TEXT PRIMARY KEY, revision INTEGER NOT NULL, network TEXT NOT NULL,
        status TEXT NOT NULL, amount TEXT NOT NULL) WITHOUT ROWID;
    INSERT INTO state (name, value) SELECT 'counting', '{"after":""}' WHERE EXISTS (SELECT 1 FROM records);
"#;

//! The migrations of a Meter's schema, in order. Each is applied once and loses no row; none is changed once a build with
//! it has run: a change is one more migration.

/// All of them; their numbers are their places.
pub const MIGRATIONS: &[&str] = &[TABLES];

/// `sources` holds the last addition of each source; `spans` what was counted in a span of time, as JSON; `depths` what waits
/// in objects.
pub const TABLES: &str = "
    CREATE TABLE sources (name TEXT PRIMARY KEY, sequence INTEGER NOT NULL, at_ms INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE spans (length_ms INTEGER NOT NULL, start_ms INTEGER NOT NULL, body TEXT NOT NULL,
        PRIMARY KEY (length_ms, start_ms)) WITHOUT ROWID;
    CREATE TABLE depths (queue TEXT NOT NULL, object TEXT NOT NULL, entries INTEGER NOT NULL,
        at_ms INTEGER NOT NULL, PRIMARY KEY (queue, object)) WITHOUT ROWID;
";

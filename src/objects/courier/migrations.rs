//! The migrations of a Courier's schema, in order. Each is applied once and loses no row; none is changed once a build
//! with it has run: a change is one more migration.

/// All of them; their numbers are their places.
pub const MIGRATIONS: &[&str] = &[TABLES, ENDS];

/// `seq` is the order of arrival. `due_ms` is set where the delivery is the first of its subject that waits; while it is in
/// flight it is when the attempt counts as lost. A body is the message, compressed.
pub const TABLES: &str = "
    CREATE TABLE deliveries (event_id TEXT PRIMARY KEY, seq INTEGER NOT NULL, subject TEXT NOT NULL, kind TEXT NOT NULL,
        state TEXT NOT NULL, attempts INTEGER NOT NULL, tried INTEGER NOT NULL, due_ms INTEGER, ended_ms INTEGER,
        body BLOB NOT NULL) WITHOUT ROWID;
    CREATE INDEX deliveries_due ON deliveries (due_ms) WHERE due_ms IS NOT NULL;
    CREATE INDEX deliveries_waiting ON deliveries (subject, seq) WHERE state = 'waiting';
    CREATE INDEX deliveries_ended ON deliveries (ended_ms) WHERE ended_ms IS NOT NULL;
    CREATE INDEX deliveries_exhausted ON deliveries (event_id) WHERE state = 'exhausted';
    CREATE TABLE attempts (event_id TEXT NOT NULL, n INTEGER NOT NULL, at_ms INTEGER NOT NULL, duration_ms INTEGER,
        status INTEGER, failure TEXT, head TEXT NOT NULL, PRIMARY KEY (event_id, n)) WITHOUT ROWID;
";

/// What ended is forgotten by its state. The build before reads the same rows, without an index.
pub const ENDS: &str = "
    DROP INDEX deliveries_ended;
    CREATE INDEX deliveries_ends ON deliveries (state, ended_ms) WHERE ended_ms IS NOT NULL;
";

//! Migrations apply, every statement prepares against them, and none of the hot ones scans.

use rusqlite::Connection;
use x402_edge::sql::{directory, ledger, settler};

fn directory_db() -> Connection {
    let db = Connection::open_in_memory().expect("SQLite");
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let mut files: Vec<_> =
        std::fs::read_dir(folder).expect("migrations").map(|entry| entry.expect("file").path()).collect();
    files.sort();
    for file in files {
        db.execute_batch(&std::fs::read_to_string(file).expect("text")).expect("a migration applies");
    }
    db
}

fn ledger_db() -> Connection {
    let db = Connection::open_in_memory().expect("SQLite");
    db.execute_batch(ledger::SCHEMA).expect("the schema applies");
    db.execute_batch(ledger::SCHEMA).expect("and again");
    db
}

/// Every `pub const NAME: &str = "…"` of a module of `src/sql.rs`, by its text.
fn statements(module: &str) -> Vec<(String, String)> {
    let source = include_str!("../../src/sql.rs");
    let body = source.split(&format!("pub mod {module} {{")).nth(1).expect("the module");
    let body = body.split("\n}\n").next().expect("its end");
    let mut found = Vec::new();
    for part in body.split("pub const ").skip(1) {
        let name = part.split(':').next().expect("a name").to_owned();
        let text = part.split('"').nth(1).expect("a text").to_owned();
        found.push((name, text));
    }
    found
}

#[track_caller]
fn check(db: &Connection, module: &str, scans_allowed: &[&str]) {
    let all = statements(module);
    assert!(all.len() > 8, "{}", all.len());
    for (name, text) in all {
        if name == "SCHEMA" {
            continue;
        }
        db.prepare(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut plan = db.prepare(&format!("EXPLAIN QUERY PLAN {text}")).expect("a plan");
        let unbound = plan.parameter_count();
        let rows = plan
            .query_map(rusqlite::params_from_iter(vec![rusqlite::types::Null; unbound]), |row| row.get::<_, String>(3));
        let scans: Vec<String> = rows
            .expect("a plan")
            .map(|row| row.expect("a row"))
            .filter(|step| {
                step.starts_with("SCAN")
                    && !step.contains("USING")
                    && !step.contains("CONSTANT")
                    && !step.contains("json_each")
            })
            .collect();
        assert!(scans.is_empty() || scans_allowed.contains(&name.as_str()), "{name} scans: {scans:?}");
    }
}

#[test]
fn the_settlers_statements_prepare_and_find_their_rows() {
    let db = Connection::open_in_memory().expect("SQLite");
    db.execute_batch(settler::SCHEMA).expect("the schema applies");
    // A day of one signer's flights is all there is, of those watched what is not yet final, and of
    // refusals and penalties those of a day or two.
    let flights = ["FLIGHTS_PURGE", "WATCHED_DUE", "WATCHED_NEXT"];
    let others = ["REFUSED_PURGE", "PENALTIES_AFTER", "PENALTIES_PURGE"];
    check(&db, "settler", &[flights, others].concat());
}

#[test]
fn a_settler_of_the_build_before_finds_its_flights() {
    let db = Connection::open_in_memory().expect("SQLite");
    // The schema of the build before, with a flight on its way and one that has ended.
    db.execute_batch(
        "CREATE TABLE state (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
        CREATE TABLE flights (key TEXT PRIMARY KEY, nonce INTEGER NOT NULL, flight TEXT NOT NULL, sent TEXT NOT NULL,
            report TEXT, told INTEGER NOT NULL DEFAULT 0, changed_ms INTEGER NOT NULL) WITHOUT ROWID;
        CREATE TABLE watched (key TEXT PRIMARY KEY, next_ms INTEGER NOT NULL, since_ms INTEGER NOT NULL) WITHOUT ROWID;
        INSERT INTO flights VALUES ('a/0', 4, 'flying', '{}', NULL, 0, 1), ('b/0', 3, 'ended', '{}', '{}', 1, 1);",
    )
    .expect("the old schema applies");
    db.execute_batch(settler::SCHEMA).expect("the schema applies");
    let flying: Vec<(String, String)> = db
        .prepare(settler::FLIGHTS_FLYING)
        .and_then(|mut found| found.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect())
        .expect("rows");
    assert_eq!(flying, [("a/0".to_owned(), "flying".to_owned())]);
    let count = |text: &str| -> usize {
        db.prepare(text).and_then(|mut found| Ok(found.query_map([], |_| Ok(()))?.count())).expect("rows")
    };
    assert_eq!(count(settler::FLIGHTS_OPEN), 1);
    let again = |key: &str| db.execute(settler::FLIGHT_UNTOLD, [key]).expect("runs");
    assert_eq!((again("a/0"), again("b/0"), count(settler::FLIGHTS_OPEN)), (0, 1, 2));
}

#[test]
fn the_ledgers_statements_prepare_and_find_their_rows() {
    // Small tables: what is not final yet, the outbox, and purges of a day.
    check(&ledger_db(), "ledger", &["WATCHES_DUE", "WATCH_NEXT", "OUTBOX_GET", "IDEMPOTENCY_PURGE"]);
}

#[test]
fn the_directorys_statements_prepare_and_find_their_rows() {
    check(&directory_db(), "directory", &["CHECKS_GET"]);
    assert_eq!(directory::PING, "SELECT 1 AS one");
}

#[test]
fn a_recipient_is_never_two_tenants() {
    let db = directory_db();
    let put = |tenant: &str| {
        let bind = ("live", "0xAB", tenant, 1, "live", "0xAB", tenant);
        db.execute(directory::RECIPIENT_RESTORE, ("live", "0xAB", tenant)).expect("runs");
        db.execute(directory::RECIPIENT_PUT, bind)
    };
    assert_eq!(put("ten_a"), Ok(1));
    assert_eq!(put("ten_a"), Ok(0));
    assert!(put("ten_b").is_err());
    db.execute(directory::RECIPIENT_REMOVE, (2, "ten_a", "0xAB")).expect("runs");
    assert!(put("ten_b").is_err());
    assert_eq!(put("ten_a"), Ok(0));
}

#[test]
fn an_older_revision_changes_nothing() {
    let db = directory_db();
    let put = |revision: i64, status: &str| {
        let rows = format!(r#"[["ver_1",1,"base","0x1",1,"{status}",null,{revision},"text"]]"#);
        db.execute(directory::RECORDS_PUT, ("ten_a", "live", rows)).expect("runs")
    };
    assert_eq!((put(0, "confirmed"), put(2, "reorged"), put(1, "finalized"), put(2, "again")), (1, 1, 0, 0));
    let status: String = db.query_row("SELECT status FROM verifications", [], |row| row.get(0)).expect("a row");
    assert_eq!(status, "reorged");
}

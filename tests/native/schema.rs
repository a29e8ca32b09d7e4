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
    db.execute_batch(ledger::LOG_CLAIMS_SCHEMA).expect("the schema applies");
    db.execute_batch(ledger::LOG_CLAIMS_SCHEMA).expect("and again");
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
        if name.ends_with("SCHEMA") {
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
    // A day of one signer's flights is all there is, and of those watched what is not yet final.
    let scans = ["FLIGHTS_OPEN", "FLIGHTS_COUNT", "FLIGHTS_PURGE", "WATCHED_DUE", "WATCHED_NEXT"];
    check(&db, "settler", &scans);
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

/// Claims the whole, or one log of it; whether that was written.
fn claim(db: &Connection, ordinal: Option<i64>, id: &str) -> rusqlite::Result<bool> {
    let (network, tx, to, reference) = ("eip155:8453", "0x1", "0xA", None::<String>);
    let read = |statement: &str, bind: &[&dyn rusqlite::ToSql]| db.prepare(statement)?.exists(bind);
    match ordinal {
        None => read(ledger::CLAIM_PUT, rusqlite::params![network, tx, to, id, reference, 5, network, tx, to]),
        Some(ordinal) => {
            let bind = rusqlite::params![network, tx, to, ordinal, id, reference, 5, network, tx, to];
            read(ledger::LOG_CLAIM_PUT, bind)
        }
    }
}

fn claims(db: &Connection) -> Vec<(Option<i64>, String)> {
    let mut get = db.prepare(ledger::CLAIMS_GET).expect("prepares");
    let bind = ["eip155:8453", "0x1", "0xA", "eip155:8453", "0x1", "0xA"];
    let rows = get.query_map(bind, |row| Ok((row.get(0)?, row.get(1)?))).expect("runs");
    rows.map(|row| row.expect("a row")).collect()
}

#[test]
fn the_whole_excludes_every_log_and_a_log_the_whole() {
    let db = ledger_db();
    assert_eq!((claim(&db, Some(3), "ver_a"), claim(&db, Some(5), "ver_b")), (Ok(true), Ok(true)));
    assert!(claim(&db, Some(3), "ver_c").is_err());
    assert_eq!(claim(&db, None, "ver_c"), Ok(false));
    assert_eq!(claims(&db), [(Some(3), "ver_a".to_owned()), (Some(5), "ver_b".to_owned())]);
}

#[test]
fn a_claim_of_the_build_before_is_the_whole() {
    let db = Connection::open_in_memory().expect("SQLite");
    // As that build made and filled it.
    db.execute_batch(
        "CREATE TABLE claims (network TEXT NOT NULL, tx TEXT NOT NULL, recipient TEXT NOT NULL,
            id TEXT NOT NULL, reference TEXT, claimed_ms INTEGER NOT NULL,
            PRIMARY KEY (network, tx, recipient)) WITHOUT ROWID;
        INSERT INTO claims VALUES ('eip155:8453', '0x1', '0xA', 'ver_old', NULL, 4);",
    )
    .expect("the state of then");
    db.execute_batch(ledger::SCHEMA).expect("the schema applies");
    db.execute_batch(ledger::LOG_CLAIMS_SCHEMA).expect("the schema applies");
    assert_eq!(claims(&db), [(None, "ver_old".to_owned())]);
    assert_eq!(claim(&db, Some(0), "ver_new"), Ok(false));
    assert!(claim(&db, None, "ver_new").is_err());
    assert_eq!(claims(&db), [(None, "ver_old".to_owned())]);
}

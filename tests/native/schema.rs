//! Migrations apply, every statement prepares against them, and none of the hot ones scans.

use rusqlite::Connection;
use x402_edge::sql::{directory, ledger, settler};

fn directory_db() -> Connection {
    let db = Connection::open_in_memory().expect("SQLite");
    let folder = crate::ROOT.join("migrations");
    let mut files: Vec<_> =
        std::fs::read_dir(folder).expect("migrations").map(|entry| entry.expect("file").path()).collect();
    files.sort();
    for file in files {
        db.execute_batch(&std::fs::read_to_string(file).expect("text")).expect("a migration applies");
    }
    db
}

/// What a ledger does when it wakes on a state without migrations.
fn bring_up(db: &Connection) {
    db.execute_batch(ledger::STATE_SCHEMA).expect("the schema applies");
    db.execute_batch(ledger::SCHEMA).expect("the schema applies");
    for migration in ledger::MIGRATIONS {
        db.execute_batch(migration).expect("a migration applies");
    }
}

fn ledger_db() -> Connection {
    let db = Connection::open_in_memory().expect("SQLite");
    bring_up(&db);
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
        if name == "MIGRATIONS" {
            continue;
        }
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
        if name.ends_with("SCHEMA") || name.starts_with("MIGRATION") {
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
    let keys = |text: &str, bind: &[&str]| -> Vec<String> {
        let rows = |row: &rusqlite::Row<'_>| row.get(0);
        let bind = rusqlite::params_from_iter(bind);
        db.prepare(text).and_then(|mut found| found.query_map(bind, rows)?.collect()).expect("rows")
    };
    // What flies and what has ended are listed apart.
    assert_eq!(
        (keys(settler::FLIGHTS_OPEN, &[]), keys(settler::FLIGHTS_ENDED, &[""]).len()),
        (vec!["a/0".to_owned()], 0)
    );
    let again = |key: &str| db.execute(settler::FLIGHT_REPORT_AGAIN, [key]).expect("runs");
    assert_eq!((again("a/0"), again("b/0")), (0, 1));
    assert_eq!(
        (keys(settler::FLIGHTS_OPEN, &[]).len(), keys(settler::FLIGHTS_ENDED, &[""])),
        (1, vec!["b/0".to_owned()])
    );
    assert!(keys(settler::FLIGHTS_ENDED, &["b/0"]).is_empty());
    for text in [settler::FLIGHTS_OPEN, settler::FLIGHTS_ENDED] {
        let mut plan = db.prepare(&format!("EXPLAIN QUERY PLAN {text}")).expect("a plan");
        let bind = vec![""; plan.parameter_count()];
        let steps = plan.query_map(rusqlite::params_from_iter(bind), |row| row.get::<_, String>(3)).expect("steps");
        let steps: Vec<String> = steps.map(|step| step.expect("a step")).collect();
        assert!(
            steps.len() == 1 && steps.iter().all(|step| step.contains("USING") && step.contains("INDEX flights_")),
            "{steps:?}"
        );
    }
}

#[test]
fn the_ledgers_statements_prepare_and_find_their_rows() {
    // Small tables: what is not final yet, the outbox, and purges of a day.
    check(&ledger_db(), "ledger", &["WATCHES_DUE", "WATCH_NEXT", "OUTBOX_SIZES", "IDEMPOTENCY_PURGE"]);
}

#[test]
fn statements_of_the_directory_prepare_and_find_their_rows() {
    // One row a chain, and one a signer.
    check(&directory_db(), "directory", &["CHECKS_GET", "STUCK_GET"]);
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
fn an_address_of_a_first_use_is_taken_by_whoever_is_registered_for_it() {
    let db = directory_db();
    db.execute_batch(
        "INSERT INTO tenants (id, email, tier, status, limits, sanctions, version, created_ms, updated_ms) VALUES
            ('ten_a', 'a', 'free', 'active', '{}', 'refuse', 1, 1, 1), ('ten_b', 'b', 'free', 'active', '{}', 'refuse', 1, 1, 1);",
    )
    .expect("runs");
    let first_use = |tenant: &str, address: &str, most: i64| {
        let bind = ("test", address, tenant, 1, tenant, "test", most);
        let put = db.execute(directory::RECIPIENT_FIRST_USE, bind).expect("runs");
        let touched = db.execute(directory::FIRST_USER_TOUCH, (1, tenant, "test", address, tenant)).expect("runs");
        (put, touched)
    };
    let register = |tenant: &str, address: &str| -> rusqlite::Result<Option<String>> {
        let loser = db.query_row(directory::RECIPIENT_LOSER, (tenant, "test", address), |row| row.get(0));
        let loser =
            loser.or_else(|error| if error == rusqlite::Error::QueryReturnedNoRows { Ok(None) } else { Err(error) });
        db.execute(directory::RECIPIENT_LOSER_TOUCH, (2, "test", address, tenant))?;
        db.execute(directory::RECIPIENT_TAKE, (tenant, 2, "test", address, tenant))?;
        db.execute(directory::RECIPIENT_RESTORE, ("test", address, tenant))?;
        db.execute(directory::RECIPIENT_PUT, ("test", address, tenant, 2, "test", address, tenant))?;
        loser
    };
    assert_eq!(first_use("ten_a", "0x1", 2), (1, 1));
    assert_eq!(first_use("ten_b", "0x1", 2), (0, 0));
    assert_eq!(first_use("ten_a", "0x2", 2), (1, 1));
    // So many and no more.
    assert_eq!(first_use("ten_a", "0x3", 2), (0, 0));
    assert_eq!(register("ten_b", "0x1"), Ok(Some("ten_a".to_owned())));
    // The same again names the same, whose ledger may not know yet.
    assert_eq!(register("ten_b", "0x1"), Ok(Some("ten_a".to_owned())));
    assert!(register("ten_a", "0x1").is_err());
    assert_eq!(first_use("ten_a", "0x1", 9), (0, 0));
    // What is held by first use and then registered stays.
    assert_eq!(register("ten_a", "0x2"), Ok(None));
    assert!(register("ten_b", "0x2").is_err());
    let version = |tenant: &str| -> i64 {
        db.query_row("SELECT version FROM tenants WHERE id = ?", [tenant], |row| row.get(0)).expect("a row")
    };
    assert_eq!((version("ten_a"), version("ten_b")), (4, 1));
    // A removed one does not come back by use.
    db.execute(directory::RECIPIENT_REMOVE, (3, "ten_a", "0x2")).expect("runs");
    assert_eq!(first_use("ten_a", "0x2", 9), (0, 0));
}

#[test]
fn stuck_flights_are_summed_by_chain_as_long_as_they_are_reported() {
    let db = directory_db();
    let put = |settler: &str, flights: i64, at: i64| {
        db.execute(directory::STUCK_PUT, (settler, "base", flights, at)).expect("runs");
    };
    let get = |since: i64| -> Vec<(String, i64)> {
        let mut found = db.prepare(directory::STUCK_GET).expect("prepares");
        let rows = found.query_map([since], |row| Ok((row.get(0)?, row.get(1)?))).expect("runs");
        rows.map(|row| row.expect("a row")).collect()
    };
    for (settler, flights, at) in [("a", 3, 10), ("b", 4, 20), ("a", 2, 30)] {
        put(settler, flights, at);
    }
    assert_eq!((get(5), get(25)), (vec![("base".to_owned(), 6)], vec![("base".to_owned(), 2)]));
    put("a", 0, 40);
    put("b", 0, 40);
    assert!(get(5).is_empty());
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
    bring_up(&db);
    assert_eq!(claims(&db), [(None, "ver_old".to_owned())]);
    assert_eq!(claim(&db, Some(0), "ver_new"), Ok(false));
    assert!(claim(&db, None, "ver_new").is_err());
    assert_eq!(claims(&db), [(None, "ver_old".to_owned())]);
}

/// A ledger that the build before deliveries wrote, with a settlement of each status, migrated.
fn ledger_before_delivery() -> Connection {
    let db = Connection::open_in_memory().expect("SQLite");
    db.execute_batch(ledger::STATE_SCHEMA).expect("the schema applies");
    db.execute_batch(ledger::SCHEMA).expect("the schema applies");
    let body = |id: &str, status: &str| {
        format!(
            r#"{{"id":"{id}","status":"{status}","reason":null,"network":"eip155:8453","transaction":"0x{id}","payer":"0xP",
            "pay_to":"0xR","amount":"1","asset":"0xA","created_at":"2026-11-29T00:00:00.000Z",
            "completed_at":"2026-11-29T00:00:09.000Z","attempts":[{{"transaction":"0x1","at":"2026-11-29T00:00:00.000Z"}}]}}"#
        )
    };
    for (id, status) in [("stl_1", "completed"), ("stl_2", "pending"), ("stl_3", "failed")] {
        db.execute("INSERT INTO settlements VALUES (?, ?)", (id, body(id, status))).expect("runs");
        db.execute("INSERT INTO payments VALUES (?, 'f', ?)", (format!("auth-{id}"), id)).expect("runs");
        db.execute("INSERT INTO senders VALUES (?, '0xs')", [id]).expect("runs");
        db.execute("INSERT INTO identifiers VALUES (?, ?)", (format!("order-{id}"), format!("auth-{id}")))
            .expect("runs");
    }
    db.execute_batch(
        "INSERT INTO payments VALUES ('auth-open', 'f', NULL);
        INSERT INTO idempotency VALUES ('facilitator/settle', 'k', 'h', 200, '{\"success\":true}', 1000);
        INSERT INTO idempotency VALUES ('facilitator/settle', 'l', 'h', NULL, NULL, 1000);",
    )
    .expect("the state of then");
    for migration in ledger::MIGRATIONS {
        db.execute_batch(migration).expect("a migration applies");
    }
    db
}

#[test]
fn a_failed_settlement_is_not_open_and_filters_narrow_each_other() {
    let db = ledger_before_delivery();
    let open = |statement: &str, bind: &[&dyn rusqlite::ToSql]| -> Vec<String> {
        let bind: Vec<&dyn rusqlite::ToSql> = [&"stl_a" as &dyn rusqlite::ToSql, &rusqlite::types::Null, &0, &9]
            .into_iter()
            .chain(bind.iter().copied())
            .collect();
        let mut rows = db.prepare(statement).expect("prepares");
        let found = rows.query_map(&*bind, |row| row.get(0)).expect("runs");
        found.map(|row| row.expect("a row")).collect()
    };
    let (payer, nobody) = ("0xP", rusqlite::types::Null);
    assert_eq!(open(ledger::SETTLEMENTS_OF_PAYER, &[&payer]), ["stl_2"]);
    assert_eq!(open(ledger::SETTLEMENTS_OF_TRANSACTION, &[&"0xstl_2", &payer]), ["stl_2"]);
    assert_eq!(open(ledger::SETTLEMENTS_OF_TRANSACTION, &[&"0xstl_2", &"0xQ"]), [""; 0]);
    assert_eq!(open(ledger::SETTLEMENTS_OF_TRANSACTION, &[&"0xstl_3", &nobody]), [""; 0]);
    assert_eq!(open(ledger::SETTLEMENTS_OF_AUTHORIZATION, &[&"auth-stl_2", &"0xstl_2"]), ["stl_2"]);
    assert_eq!(open(ledger::SETTLEMENTS_OF_AUTHORIZATION, &[&"auth-stl_2", &"0xstl_1"]), [""; 0]);
    assert_eq!(open(ledger::SETTLEMENTS_OF_AUTHORIZATION, &[&"auth-stl_3", &nobody]), [""; 0]);
}

#[test]
fn settlements_of_the_build_before_are_handed_over_if_completed_and_open_if_pending() {
    let db = ledger_before_delivery();
    let settlement = |id: &str| {
        let read = |row: &rusqlite::Row<'_>| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?, row.get::<_, String>(3)?))
        };
        db.query_row("SELECT body, course, handed, status FROM settlements WHERE id = ?", [id], read).expect("there")
    };
    let (body, course, handed, _) = settlement("stl_1");
    assert_eq!(handed, 1);
    assert!(body.contains(r#""handed_over":{"at":"2026-11-29T00:00:09.000Z","request_id":null}"#), "{body}");
    let course: x402_core::settlement::payment::SettlementProgress =
        serde_json::from_str(&course.replace("0xs", "0x70997970c51812dc3a010c7d01b50e0d17dc79c8")).expect("reads");
    assert_eq!((course.attempt, course.reserved_at.0), (1, 1_795_910_400_000));
    let (body, _, handed, status) = settlement("stl_2");
    assert_eq!((handed, status.as_str()), (0, "pending"));
    assert!(body.contains(r#""handed_over":null"#), "{body}");
    let listed = |statement: &str| -> Vec<String> {
        let mut rows = db.prepare(statement).expect("prepares");
        let found = rows
            .query_map(("stl_a", rusqlite::types::Null, rusqlite::types::Null, 9), |row| row.get::<_, String>(0))
            .expect("runs");
        found.map(|row| row.expect("a row")).collect()
    };
    assert_eq!(listed(ledger::SETTLEMENTS_OPEN), ["stl_2"]);
    assert_eq!(listed(ledger::SETTLEMENTS_BEFORE), ["stl_3", "stl_2", "stl_1"]);
    let known: String = db
        .query_row(ledger::IDENTIFIER_GET, ("0xP", "order-stl_1"), |row| row.get(0))
        .expect("an identifier is its payer's");
    assert_eq!(known, "auth-stl_1");
    let until = |key: &str| -> Option<i64> {
        db.query_row(ledger::IDEMPOTENCY_GET, ("facilitator/settle", key), |row| row.get(4)).expect("there")
    };
    assert_eq!((until("k"), until("l")), (Some(601_000), None));
    let open: i64 = db.query_row(ledger::PAYMENTS_NEXT, (), |row| row.get(0)).expect("there");
    assert!(open > 1_700_000_000_000);
}

#[test]
fn settlements_are_listed_by_every_filter_at_once() {
    let db = ledger_db();
    for (id, status, handed) in
        [("stl_1", "pending", 0), ("stl_2", "completed", 0), ("stl_3", "failed", 0), ("stl_4", "completed", 1)]
    {
        let put = "INSERT INTO settlements (id, body, status, network, payer, tx, handed) VALUES (?, '{}', ?, 'n', 'p', 't', ?)";
        db.execute(put, (id, status, handed)).expect("a settlement");
        let put = "INSERT INTO payments (authorization, fingerprint, settlement_id) VALUES (?, '', ?)";
        db.execute(put, (id, id)).expect("a payment");
    }
    let ids = |text: &str, handed: Option<i64>, last: &[Option<&str>]| -> Vec<String> {
        use rusqlite::types::Value;
        let bind = [Value::from("stl_a".to_owned()), Value::Null, handed.into(), Value::from(20_i64)];
        let last = last.iter().map(|text| Value::from(text.map(str::to_owned)));
        let bind = rusqlite::params_from_iter(bind.into_iter().chain(last));
        let mut found = db.prepare(text).expect("prepares");
        found.query_map(bind, |row| row.get(0)).and_then(Iterator::collect).expect("rows")
    };
    let (payer, transaction) = (ledger::SETTLEMENTS_OF_PAYER, ledger::SETTLEMENTS_OF_TRANSACTION);
    for (text, last) in
        [(payer, vec![Some("p")]), (transaction, vec![Some("t"), None]), (transaction, vec![Some("t"), Some("p")])]
    {
        assert_eq!(ids(text, None, &last), ["stl_4", "stl_3", "stl_2", "stl_1"], "{text}");
        // What has failed is no more to be handed over.
        assert_eq!(
            (ids(text, Some(0), &last), ids(text, Some(1), &last)),
            (vec!["stl_2".to_owned(), "stl_1".to_owned()], vec!["stl_4".to_owned()]),
            "{text}"
        );
    }
    assert!(ids(transaction, None, &[Some("t"), Some("other")]).is_empty());
    let authorization = ledger::SETTLEMENTS_OF_AUTHORIZATION;
    assert_eq!(ids(authorization, None, &[Some("stl_3"), None]), ["stl_3"]);
    assert!(ids(authorization, Some(0), &[Some("stl_3"), None]).is_empty());
    assert_eq!(ids(authorization, Some(0), &[Some("stl_2"), Some("t")]), ["stl_2"]);
    assert!(ids(authorization, None, &[Some("stl_2"), Some("other")]).is_empty());
}

//! Migrations lose nothing: each schema of an object is brought to the next with rows in it, and a migration of the
//! directory takes nothing away that the release before it still uses.

use crate::schema::{claim, claims, courier_db, directory_migrations, ledger_db, records_db, settler_db, wake};
use rusqlite::Connection;
use std::collections::BTreeMap;
use x402_edge::objects::courier::migrations as courier_migrations;
use x402_edge::objects::ledger::migrations as ledger_migrations;
use x402_edge::objects::ledger::sql as ledger;
use x402_edge::objects::records::migrations as records_migrations;
use x402_edge::objects::settler::migrations as settler_migrations;
use x402_edge::objects::settler::sql as settler;
use x402_edge::objects::state;

/// The number of the newest migration that a storage holds.
fn number(db: &Connection) -> Option<usize> {
    let text = db.query_row(state::STATE_GET.text, [state::SCHEMA], |row| row.get::<_, String>(0)).ok()?;
    Some(text.parse().expect("a number"))
}

/// Rows by table; a row by column.
type Rows = BTreeMap<String, Vec<BTreeMap<String, String>>>;

/// Every row of a database, as SQLite quotes it: by column, so that columns may be added.
fn rows(db: &Connection) -> Rows {
    let mut tables = db
        .prepare("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
        .expect("prepares");
    let tables: Vec<String> =
        tables.query_map([], |row| row.get(0)).and_then(Iterator::collect).expect("names of tables");
    let read = |table: &String| {
        let mut all = db.prepare(&format!("SELECT * FROM {table}")).expect("prepares");
        let names: Vec<String> = all.column_names().map(str::to_owned).collect();
        let row = |row: &rusqlite::Row<'_>| {
            let value = |(at, name): (usize, &String)| {
                Ok((name.clone(), format!("{:?}", row.get::<_, rusqlite::types::Value>(at)?)))
            };
            names.iter().enumerate().map(value).collect::<rusqlite::Result<BTreeMap<_, _>>>()
        };
        let found: Vec<_> = all.query_map([], row).and_then(Iterator::collect).expect("rows");
        (table.clone(), found)
    };
    tables.iter().map(read).collect()
}

/// Whether every row of before is there, with every column of before; the number of a schema aside.
fn assert_nothing_lost(before: &Rows, after: &Connection) {
    let after = rows(after);
    for (table, old) in before {
        let new = &after[table];
        for row in old.iter().filter(|row| table != "state" || row["name"] != r#"Text("schema")"#) {
            let is_kept = |new: &BTreeMap<String, String>| row.iter().all(|(name, value)| new.get(name) == Some(value));
            assert!(new.iter().any(is_kept), "{table} has lost {row:?}: {new:?}");
        }
        assert!(new.len() >= old.len(), "{table}");
    }
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
    wake(&db, settler_migrations::MIGRATIONS);
    let flying: Vec<(String, String)> = db
        .prepare(settler::FLIGHTS_FLYING.text)
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
        (keys(settler::FLIGHTS_OPEN.text, &[]), keys(settler::FLIGHTS_ENDED.text, &[""]).len()),
        (vec!["a/0".to_owned()], 0)
    );
    let again = |key: &str| db.execute(settler::FLIGHT_REPORT_AGAIN.text, [key]).expect("runs");
    assert_eq!((again("a/0"), again("b/0")), (0, 1));
    assert_eq!(
        (keys(settler::FLIGHTS_OPEN.text, &[]).len(), keys(settler::FLIGHTS_ENDED.text, &[""])),
        (1, vec!["b/0".to_owned()])
    );
    assert!(keys(settler::FLIGHTS_ENDED.text, &["b/0"]).is_empty());
    for text in [settler::FLIGHTS_OPEN.text, settler::FLIGHTS_ENDED.text] {
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
    wake(&db, ledger_migrations::MIGRATIONS);
    assert_eq!(claims(&db), [(None, "ver_old".to_owned())]);
    assert_eq!(claim(&db, Some(0), "ver_new"), Ok(false));
    assert!(claim(&db, None, "ver_new").is_err());
    assert_eq!(claims(&db), [(None, "ver_old".to_owned())]);
}

/// A ledger that the build before deliveries wrote, with a settlement of each status, migrated.
fn ledger_before_delivery() -> Connection {
    let db = Connection::open_in_memory().expect("SQLite");
    db.execute_batch(ledger_migrations::TABLES).expect("the schema applies");
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
    wake(&db, ledger_migrations::MIGRATIONS);
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
    assert_eq!(open(ledger::SETTLEMENTS_OF_PAYER.text, &[&payer]), ["stl_2"]);
    assert_eq!(open(ledger::SETTLEMENTS_OF_TRANSACTION.text, &[&"0xstl_2", &payer]), ["stl_2"]);
    assert_eq!(open(ledger::SETTLEMENTS_OF_TRANSACTION.text, &[&"0xstl_2", &"0xQ"]), [""; 0]);
    assert_eq!(open(ledger::SETTLEMENTS_OF_TRANSACTION.text, &[&"0xstl_3", &nobody]), [""; 0]);
    assert_eq!(open(ledger::SETTLEMENTS_OF_AUTHORIZATION.text, &[&"auth-stl_2", &"0xstl_2"]), ["stl_2"]);
    assert_eq!(open(ledger::SETTLEMENTS_OF_AUTHORIZATION.text, &[&"auth-stl_2", &"0xstl_1"]), [""; 0]);
    assert_eq!(open(ledger::SETTLEMENTS_OF_AUTHORIZATION.text, &[&"auth-stl_3", &nobody]), [""; 0]);
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
    assert_eq!(listed(ledger::SETTLEMENTS_OPEN.text), ["stl_2"]);
    assert_eq!(listed(ledger::SETTLEMENTS_BEFORE.text), ["stl_3", "stl_2", "stl_1"]);
    let known: String = db
        .query_row(ledger::IDENTIFIER_GET.text, ("0xP", "order-stl_1"), |row| row.get(0))
        .expect("an identifier is its payer's");
    assert_eq!(known, "auth-stl_1");
    let until = |key: &str| -> Option<i64> {
        db.query_row(ledger::IDEMPOTENCY_GET.text, ("facilitator/settle", key), |row| row.get(4)).expect("there")
    };
    assert_eq!((until("k"), until("l")), (Some(601_000), None));
    let open: i64 = db.query_row(ledger::PAYMENTS_NEXT.text, (), |row| row.get(0)).expect("there");
    assert!(open > 1_700_000_000_000);
}

/// One row in every table, with a value of each column's type.
fn fill(db: &Connection) {
    let mut tables = db
        .prepare("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name <> 'state'")
        .expect("prepares");
    let tables: Vec<String> = tables.query_map([], |row| row.get(0)).and_then(Iterator::collect).expect("names");
    assert!(!tables.is_empty());
    for table in tables {
        let mut columns = db.prepare("SELECT name, type FROM pragma_table_info(?)").expect("prepares");
        let columns: Vec<(String, String)> = columns
            .query_map([&table], |row| Ok((row.get(0)?, row.get(1)?)))
            .and_then(Iterator::collect)
            .expect("columns");
        let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
        let values: Vec<&str> =
            columns.iter().map(|(_, kind)| if kind == "INTEGER" { "7" } else { "'{\"a\":1}'" }).collect();
        let put = format!("INSERT INTO {table} ({}) VALUES ({})", names.join(", "), values.join(", "));
        db.execute(&put, []).unwrap_or_else(|error| panic!("{put}: {error}"));
    }
}

/// From each numbered schema to the newest. The step from 0 to 1 rewrites rows and has tests of its own.
#[test]
fn every_row_of_every_numbered_schema_is_kept() {
    let objects = [
        (ledger_migrations::MIGRATIONS, 2),
        (settler_migrations::MIGRATIONS, 1),
        (records_migrations::MIGRATIONS, 1),
        (courier_migrations::MIGRATIONS, 1),
    ];
    for (all, first) in objects {
        for older in first..=all.len() {
            let db = Connection::open_in_memory().expect("SQLite");
            wake(&db, &all[..older]);
            assert_eq!(number(&db), Some(older - 1));
            fill(&db);
            let before = rows(&db);
            wake(&db, all);
            assert_nothing_lost(&before, &db);
            assert_eq!(number(&db), Some(all.len() - 1));
        }
    }
}

#[test]
fn a_storage_that_is_up_to_date_is_left_alone() {
    for (db, all) in [
        (ledger_db(), ledger_migrations::MIGRATIONS),
        (settler_db(), settler_migrations::MIGRATIONS),
        (records_db(), records_migrations::MIGRATIONS),
        (courier_db(), courier_migrations::MIGRATIONS),
    ] {
        let before = rows(&db);
        wake(&db, all);
        assert_eq!(before, rows(&db));
    }
    // One that a newer build has brought further stays so, that the release before may run again.
    let db = ledger_db();
    db.execute(state::STATE_PUT.text, (state::SCHEMA, "99")).expect("runs");
    wake(&db, ledger_migrations::MIGRATIONS);
    assert_eq!(number(&db), Some(99));
}

/// The storages that an older build has written: `tests/fixtures/state/<folder>`.
fn recorded(folder: &str, object: &str) -> Vec<Connection> {
    let root = crate::ROOT.join("tests/fixtures/state");
    let files = std::fs::read_dir(root.join(folder).join("do").join(object)).expect("a folder");
    let files = files.map(|entry| entry.expect("a file").path());
    let of_object = files.filter(|file| !file.to_string_lossy().contains("metadata"));
    let open = |file: std::path::PathBuf| {
        let db = Connection::open_in_memory().expect("SQLite");
        db.execute_batch(&std::fs::read_to_string(file).expect("text")).expect("the state of then");
        db
    };
    of_object.map(open).collect()
}

#[test]
fn objects_of_the_build_before_migrations_were_numbered_lose_nothing() {
    for (object, migrations, before) in
        [("-TenantLedger", ledger_migrations::MIGRATIONS, Some(1)), ("-Settler", settler_migrations::MIGRATIONS, None)]
    {
        let all = recorded("before-migrations", object);
        assert!(!all.is_empty());
        assert!(all.iter().any(|db| rows(db).values().map(Vec::len).sum::<usize>() > 5), "{object}");
        for db in all {
            assert_eq!(number(&db), before);
            let old = rows(&db);
            wake(&db, migrations);
            assert_nothing_lost(&old, &db);
            assert_eq!(number(&db), Some(migrations.len() - 1));
        }
    }
}

#[test]
fn objects_of_the_build_before_deliveries_lose_no_claim() {
    for (object, migrations) in
        [("-TenantLedger", ledger_migrations::MIGRATIONS), ("-Settler", settler_migrations::MIGRATIONS)]
    {
        for db in recorded("before-delivery", object) {
            let old = rows(&db);
            wake(&db, migrations);
            let new = rows(&db);
            for table in ["payers", "outbox", "flights", "watched"] {
                assert_eq!(old.get(table), new.get(table), "{table}");
            }
            assert_nothing_lost(
                &old.iter()
                    .filter(|(table, _)| ["claims", "records"].contains(&table.as_str()))
                    .map(|(table, rows)| (table.clone(), rows.clone()))
                    .collect(),
                &db,
            );
            for table in ["claims", "settlements", "payments", "idempotency"] {
                assert_eq!(old.get(table).map(Vec::len), new.get(table).map(Vec::len), "{table}");
            }
        }
    }
}

#[test]
fn an_entry_that_was_parked_comes_back_after_those_that_wait() {
    let db = ledger_db();
    for (kind, body) in [("webhook", "{}"), ("record", "ver_1")] {
        db.execute(ledger::OUTBOX_PUT.text, (kind, body)).expect("runs");
    }
    let kinds = || -> Vec<String> {
        let mut all = db.prepare(ledger::OUTBOX_GET.text).expect("prepares");
        all.query_map([0, 99], |row| row.get(1)).and_then(Iterator::collect).expect("rows")
    };
    db.execute(ledger::OUTBOX_PARK.text, (5, 1)).expect("runs");
    db.execute(ledger::OUTBOX_DELETE.text, [0, 1]).expect("runs");
    assert_eq!(kinds(), ["record"]);
    assert!(db.prepare(ledger::PARKED_GET.text).and_then(|mut found| found.exists([])).expect("runs"));
    db.execute(ledger::PARKED_RETURN.text, []).expect("runs");
    db.execute(ledger::PARKED_DELETE.text, []).expect("runs");
    assert_eq!(kinds(), ["record", "webhook"]);
    assert!(!db.prepare(ledger::PARKED_GET.text).and_then(|mut found| found.exists([])).expect("runs"));
}

#[test]
fn what_the_build_before_polls_stays_and_is_taken_over() {
    let db = Connection::open_in_memory().expect("SQLite");
    let all = ledger_migrations::MIGRATIONS;
    let before = all.iter().position(|one| *one == ledger_migrations::RECORD_FLAGS).expect("a migration");
    wake(&db, &ledger_migrations::MIGRATIONS[..before]);
    db.execute_batch(
        "INSERT INTO records VALUES ('ver_1', 0, '{}'), ('ver_2', 3, '{}'), ('ver_3', 0, '{}');
        INSERT INTO watches VALUES ('ver_2', 5), ('ver_3', 6);",
    )
    .expect("the state of then");
    let old = rows(&db);
    wake(&db, ledger_migrations::MIGRATIONS);
    assert_nothing_lost(&old, &db);
    let ids = |statement: &str, bind: &[&dyn rusqlite::ToSql]| -> Vec<String> {
        let mut all = db.prepare(statement).expect("prepares");
        all.query_map(bind, |row| row.get(0)).and_then(Iterator::collect).expect("ids")
    };
    // As the ledger does it when it wakes, in steps.
    for expected in ["ver_2", "ver_3"] {
        assert_eq!(ids(ledger::WATCHES_GET.text, &[&1]), [expected]);
        db.execute(ledger::RECORD_WATCH.text, (1, expected)).expect("runs");
        db.execute(ledger::WATCH_DELETE.text, [expected]).expect("runs");
    }
    assert!(ids(ledger::WATCHES_GET.text, &[&1]).is_empty());
    db.execute(ledger::RECORDS_PURGE.text, ("", "ver_9")).expect("runs");
    assert_eq!(ids("SELECT id FROM records ORDER BY id", &[]), ["ver_2", "ver_3"]);
    // The release before writes and reads records in this schema too.
    db.execute("INSERT INTO records (id, revision, body) VALUES ('ver_4', 0, '{}')", []).expect("runs");
}

/// A column: its type, whether it refuses null, whether it has a default.
type Column = (String, bool, bool);

/// The tables of a database with their columns, and the unique indexes of each.
fn tables(db: &Connection) -> BTreeMap<String, (BTreeMap<String, Column>, Vec<String>)> {
    let list = |text: &str, bind: &[&str]| -> Vec<String> {
        let mut found = db.prepare(text).expect("prepares");
        let rows = found.query_map(rusqlite::params_from_iter(bind), |row| row.get(0));
        rows.and_then(Iterator::collect).expect("rows")
    };
    let names = list("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'", &[]);
    let read = |table: String| {
        let text = "SELECT name, type, \"notnull\", dflt_value IS NOT NULL FROM pragma_table_info(?)";
        let mut columns = db.prepare(text).expect("prepares");
        let column = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, (row.get(1)?, row.get(2)?, row.get(3)?)));
        let columns = columns.query_map([&table], column).and_then(Iterator::collect).expect("columns");
        let unique = list("SELECT name FROM pragma_index_list(?) WHERE \"unique\" ORDER BY name", &[&table]);
        (table, (columns, unique))
    };
    names.into_iter().map(read).collect()
}

/// What a migration takes away from, or asks of, the release that runs while it is applied.
fn contractions(db: &Connection, migration: &str) -> Vec<String> {
    let before = tables(db);
    db.execute_batch(migration).expect("a migration applies");
    let (after, mut found) = (tables(db), Vec::new());
    for (table, (columns, unique)) in before {
        let Some((new, new_unique)) = after.get(&table) else {
            found.push(format!("{table} is gone"));
            continue;
        };
        for (name, (kind, is_required, _)) in &columns {
            match new.get(name) {
                None => found.push(format!("{table}.{name} is gone")),
                Some((new_kind, ..)) if new_kind != kind => found.push(format!("{table}.{name} is {new_kind}")),
                Some((_, true, _)) if !is_required => found.push(format!("{table}.{name} refuses null")),
                Some(_) => {}
            }
        }
        let added = new.iter().filter(|(name, _)| !columns.contains_key(*name));
        let required = added.filter(|(_, (_, is_required, has_default))| *is_required && !has_default);
        found.extend(required.map(|(name, _)| format!("{table}.{name} must be given")));
        found.extend(new_unique.iter().filter(|name| !unique.contains(name)).map(|name| format!("{name} is unique")));
    }
    found
}

/// The release that stopped using what a migration takes away, by its first lines.
fn release(migration: &str) -> Option<&str> {
    let head = migration.lines().take_while(|line| line.starts_with("--"));
    head.filter_map(|line| line.strip_prefix("-- Contract: not used since ")).next().map(str::trim)
}

/// Why a migration breaks the rule of `migrations/README.md`, if it does.
fn refusal(db: &Connection, migration: &str, changelog: &str) -> Option<String> {
    let found = contractions(db, migration);
    let is_released = |version: &str| changelog.lines().any(|line| line.starts_with(&format!("## [{version}]")));
    match release(migration) {
        _ if found.is_empty() => None,
        Some(version) if version != "Unreleased" && is_released(version) => None,
        Some(version) => Some(format!("{found:?}, and CHANGELOG.md has no release {version}")),
        None => Some(format!("{found:?}")),
    }
}

/// The rule came after these; `events.verification_id` was renamed by one of them.
const BEFORE_THE_RULE: usize = 8;

#[test]
fn migrations_of_the_directory_expand_before_they_contract() {
    let db = Connection::open_in_memory().expect("SQLite");
    let changelog = include_str!("../../CHANGELOG.md");
    for (at, (name, text)) in directory_migrations().iter().enumerate() {
        assert!(name.starts_with(&format!("{:04}_", at + 1)), "{name} is not number {}", at + 1);
        if at < BEFORE_THE_RULE {
            db.execute_batch(text).expect("a migration applies");
        } else if let Some(why) = refusal(&db, text, changelog) {
            panic!("{name}: {why}");
        }
    }
}

#[test]
fn a_migration_that_contracts_is_refused_unless_it_names_a_release() {
    let changelog = "## [Unreleased]\n\n## [0.3.0] - 2026-12-24\n";
    let refused = |migration: &str| {
        let db = Connection::open_in_memory().expect("SQLite");
        db.execute_batch("CREATE TABLE a (id TEXT PRIMARY KEY, b TEXT, c INTEGER NOT NULL) STRICT").expect("runs");
        refusal(&db, migration, changelog)
    };
    let rebuilt =
        |columns: &str| format!("CREATE TABLE a2 ({columns}) STRICT; DROP TABLE a; ALTER TABLE a2 RENAME TO a;");
    for (migration, why) in [
        ("DROP TABLE a;", "a is gone"),
        ("ALTER TABLE a RENAME TO b;", "a is gone"),
        ("ALTER TABLE a DROP COLUMN b;", "a.b is gone"),
        ("ALTER TABLE a RENAME COLUMN b TO d;", "a.b is gone"),
        (&rebuilt("id TEXT PRIMARY KEY, b TEXT NOT NULL, c INTEGER NOT NULL"), "a.b refuses null"),
        (&rebuilt("id TEXT PRIMARY KEY, b INTEGER, c INTEGER NOT NULL"), "a.b is INTEGER"),
        (&rebuilt("id TEXT PRIMARY KEY, b TEXT, c INTEGER NOT NULL, d TEXT NOT NULL"), "a.d must be given"),
        ("CREATE UNIQUE INDEX once ON a (b);", "once is unique"),
    ] {
        assert!(refused(migration).is_some_and(|refused| refused.contains(why)), "{migration}: {why}");
        let named = |version: &str| format!("-- What for.\n-- Contract: not used since {version}\n\n{migration}");
        assert_eq!(refused(&named("0.3.0")), None);
        for version in ["0.2.0", "Unreleased", "", "0.3"] {
            assert!(refused(&named(version)).is_some(), "{version}");
        }
        // Only the first lines count.
        assert!(refused(&format!("{migration}\n-- Contract: not used since 0.3.0")).is_some());
    }
    for migration in [
        "ALTER TABLE a ADD COLUMN d TEXT;",
        "ALTER TABLE a ADD COLUMN d TEXT NOT NULL DEFAULT '';",
        "CREATE TABLE b (id TEXT PRIMARY KEY, c TEXT NOT NULL UNIQUE) STRICT; CREATE INDEX a_of_b ON a (b);",
        &rebuilt("id TEXT PRIMARY KEY, b TEXT, c INTEGER"),
    ] {
        assert_eq!(refused(migration), None, "{migration}");
    }
}

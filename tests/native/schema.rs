//! Migrations apply, every statement prepares against them, and none of the hot ones scans.

use rusqlite::Connection;
use x402_edge::d1::alerts::sql as alerts;
use x402_edge::d1::billing::sql as billing;
use x402_edge::d1::deletions::sql as deletions;
use x402_edge::d1::endpoints::sql as endpoints;
use x402_edge::d1::oidc::sql as oidc;
use x402_edge::d1::operation::sql as operation;
use x402_edge::d1::people::sql as people;
use x402_edge::d1::rebuild::sql as rebuild;
use x402_edge::d1::sql as directory;
use x402_edge::objects::courier::migrations::MIGRATIONS as COURIER;
use x402_edge::objects::courier::sql as courier;
use x402_edge::objects::ledger::sql as ledger;
use x402_edge::objects::meter::migrations::MIGRATIONS as METER;
use x402_edge::objects::meter::sql as meter;
use x402_edge::objects::records::migrations::MIGRATIONS as RECORDS;
use x402_edge::objects::records::sql as records;
use x402_edge::objects::settler::sql as settler;
use x402_edge::objects::state::pending;
use x402_edge::objects::{ledger::migrations::MIGRATIONS as LEDGER, settler::migrations::MIGRATIONS as SETTLER, state};
use x402_edge::storage::StatementInfo;

/// The directory's migrations, in the order in which they are applied: name and text.
pub(crate) fn directory_migrations() -> Vec<(String, String)> {
    let folder = crate::ROOT.join("migrations");
    let files = std::fs::read_dir(folder).expect("migrations").map(|entry| entry.expect("file").path());
    let mut files: Vec<_> = files.filter(|file| file.extension().is_some_and(|end| end == "sql")).collect();
    files.sort();
    let name = |file: &std::path::Path| file.file_name().expect("a name").to_string_lossy().into_owned();
    files.iter().map(|file| (name(file), std::fs::read_to_string(file).expect("text"))).collect()
}

pub(crate) fn directory_db() -> Connection {
    let db = Connection::open_in_memory().expect("SQLite");
    for (name, text) in directory_migrations() {
        db.execute_batch(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    db
}

/// What an object does when it wakes.
pub(crate) fn wake(db: &Connection, migrations: &'static [&'static str]) {
    db.execute_batch(state::STATE_TABLE).expect("the table is made");
    let applied = db.query_row(state::STATE_GET.text, [state::SCHEMA], |row| row.get::<_, String>(0));
    let applied = applied.ok().map(|text| serde_json::from_str(&text).expect("a number"));
    db.execute_batch("BEGIN").expect("runs");
    for (number, migration) in pending(migrations, applied) {
        db.execute_batch(migration).unwrap_or_else(|error| panic!("migration {number}: {error}"));
        db.execute(state::STATE_PUT.text, (state::SCHEMA, number.to_string())).expect("runs");
    }
    db.execute_batch("COMMIT").expect("runs");
}

fn object_db(migrations: &'static [&'static str]) -> Connection {
    let db = Connection::open_in_memory().expect("SQLite");
    wake(&db, migrations);
    db
}

pub(crate) fn ledger_db() -> Connection {
    object_db(LEDGER)
}

pub(crate) fn settler_db() -> Connection {
    object_db(SETTLER)
}

pub(crate) fn records_db() -> Connection {
    object_db(RECORDS)
}

fn meter_db() -> Connection {
    object_db(METER)
}

pub(crate) fn courier_db() -> Connection {
    object_db(COURIER)
}

#[track_caller]
fn check(db: &Connection, all: &[StatementInfo], scans_allowed: &[&str]) {
    assert!(all.len() > 1);
    for StatementInfo { name, text, columns } in all {
        let prepared = db.prepare(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        // A row is read by its columns' places.
        assert!(prepared.column_names().eq(columns.iter().copied()), "{name} does not return {columns:?}");
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
                    && !step.contains("VALUES CLAUSE")
            })
            .collect();
        assert!(scans.is_empty() || scans_allowed.contains(name), "{name} scans: {scans:?}");
    }
}

#[test]
fn the_settlers_statements_prepare_and_find_their_rows() {
    let db = settler_db();
    check(&db, state::ALL, &[]);
    // A day of one signer's flights is all there is, of those watched what is not yet final, and of
    // refusals and penalties those of a day or two.
    let flights = ["FLIGHTS_PURGE", "WATCHED_DUE", "WATCHED_NEXT"];
    let others = ["REFUSED_PURGE", "PENALTIES_AFTER", "PENALTIES_PURGE"];
    check(&db, settler::ALL, &[flights, others].concat());
}

#[test]
fn the_ledgers_statements_prepare_and_find_their_rows() {
    // Small tables: what is not final yet, also of an older build, and the outbox.
    let own = ["GROUPS_DUE", "GROUPS_NEXT", "OUTBOX_COUNT", "OUTBOX_SIZES", "RECORDS_PURGE", "WATCHES_GET"];
    // What was parked of the outbox: next to nothing.
    let parked = ["PARKED_GET", "PARKED_RETURN", "PARKED_DELETE"];
    // An erasure takes the first rows of a table, whatever they are.
    let erased = ["IDEMPOTENCY_ERASE", "IDENTIFIERS_ERASE", "PAYERS_ERASE", "RECORDS_ERASE"];
    let rows = ["GROUPS_ERASE", "WATCHES_ERASE", "PARKED_ERASE", "WEBHOOKS_ERASE"];
    // What waits for Couriers that are away: next to nothing.
    let waiting = ["WEBHOOKS_ANY"];
    check(&ledger_db(), state::ALL, &[]);
    check(&ledger_db(), ledger::ALL, &[own.as_slice(), &parked, &erased, &rows, &waiting].concat());
}

#[test]
fn the_couriers_statements_prepare_and_find_their_rows() {
    check(&courier_db(), courier::ALL, &["TABLES_GET"]);
}

/// Events of a subject are sent one after the other, in the order in which they came; one that is sent again comes last.
#[test]
fn of_a_subject_one_delivery_is_due() {
    let db = courier_db();
    let put = |id: &str, seq: i64, subject: &str, now: i64| {
        let new = (id, seq, subject, "payment.finalized", now, "body");
        db.prepare(courier::DELIVERY_PUT.text).expect("prepares").exists(new).expect("runs")
    };
    let due = |at: i64| -> Vec<String> {
        let mut all = db.prepare(courier::DELIVERIES_DUE.text).expect("prepares");
        let rows = all.query_map((at, 10), |row| row.get(0)).expect("runs");
        rows.map(|id| id.expect("an id")).collect()
    };
    let end = |id: &str, state: &str, now: i64| {
        let subject = db.query_row(courier::DELIVERY_END.text, (state, now, id), |row| row.get::<_, String>(0));
        db.execute(courier::SUBJECT_NEXT.text, (now, subject.expect("it has waited"))).expect("runs");
    };
    // A number is the time of arrival in microseconds.
    assert!(
        put("evt_1", 10_000, "ver_1", 10) && put("evt_2", 10_001, "ver_1", 10) && put("evt_3", 11_000, "ver_2", 11)
    );
    assert!(!put("evt_2", 12_000, "ver_1", 12), "an event is known once");
    assert!(put("evt_4", 12_001, "ver_1", 12));
    assert_eq!(due(9), Vec::<String>::new());
    assert_eq!(due(12), ["evt_1", "evt_3"]);
    // In flight it is due only when the attempt counts as lost.
    db.execute(courier::DELIVERY_BEGIN.text, (70, "evt_1")).expect("runs");
    assert_eq!(due(69), ["evt_3"]);
    end("evt_1", "delivered", 20);
    // The next one has waited since it came.
    assert_eq!(due(20), ["evt_2", "evt_3"]);
    // One that is sent again comes after those that wait.
    let subject = db.query_row(courier::DELIVERY_REOPEN.text, (20_000, "evt_1"), |row| row.get::<_, String>(0));
    db.execute(courier::SUBJECT_NEXT.text, (21, subject.expect("it has ended"))).expect("runs");
    assert_eq!(due(21), ["evt_2", "evt_3"]);
    end("evt_2", "exhausted", 30);
    assert_eq!(due(30), ["evt_3", "evt_4"]);
    end("evt_4", "delivered", 40);
    assert_eq!(due(19), ["evt_3"], "it waits since it was to be sent again");
    assert_eq!(due(40), ["evt_3", "evt_1"]);
    let tried: (i64, i64) = db
        .query_row("SELECT attempts, tried FROM deliveries WHERE event_id = 'evt_1'", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .expect("a row");
    assert_eq!(tried, (1, 0), "the schedule begins anew, and attempts are counted on");
    // What is due too late is due at once, and no other.
    db.execute(courier::DELIVERY_AGAIN.text, (900, "evt_1")).expect("runs");
    assert_eq!(db.execute(courier::DELIVERIES_SOONER.text, (40, 899)), Ok(1));
    assert_eq!(due(40), ["evt_3", "evt_1"]);
    // One that has been due for long begins to wait anew.
    db.execute(courier::DELIVERY_HASTEN.text, (50, "evt_3")).expect("runs");
    assert_eq!((due(49), due(50)), (vec!["evt_1".to_owned()], vec!["evt_1".to_owned(), "evt_3".to_owned()]));
}

/// A number is that of a clock, which may have been ahead in an earlier instance.
#[test]
fn a_delivery_comes_after_those_of_its_subject_whatever_the_clock_was() {
    let db = courier_db();
    for (id, seq, subject) in [
        ("evt_9", 500, "ver_1"),
        ("evt_1", 10, "ver_1"),
        ("evt_2", 11, "ver_1"),
        ("evt_3", 12, "ver_2"),
        ("evt_4", 13, "ver_1"),
    ] {
        let new = (id, seq, subject, "payment.finalized", 5, "body");
        assert!(db.prepare(courier::DELIVERY_PUT.text).expect("prepares").exists(new).expect("runs"));
    }
    let end = |id: &str| {
        let subject = db.query_row(courier::DELIVERY_END.text, ("exhausted", 6, id), |row| row.get::<_, String>(0));
        assert_eq!(db.execute(courier::SUBJECT_NEXT.text, (6, subject.expect("it has waited"))), Ok(1));
    };
    end("evt_9");
    let subject = db.query_row(courier::DELIVERY_REOPEN.text, (14, "evt_9"), |row| row.get::<_, String>(0));
    assert_eq!(subject, Ok("ver_1".to_owned()));
    for id in ["evt_1", "evt_2", "evt_4"] {
        let first = "SELECT event_id FROM deliveries WHERE subject = 'ver_1' AND due_ms IS NOT NULL";
        assert_eq!(db.query_row(first, [], |row| row.get::<_, String>(0)).expect("one is due"), id);
        end(id);
    }
    let numbers = "SELECT seq FROM deliveries WHERE event_id IN ('evt_3', 'evt_9') ORDER BY event_id";
    let mut numbers = db.prepare(numbers).expect("prepares");
    let numbers: Vec<i64> =
        numbers.query_map([], |row| row.get(0)).expect("runs").map(|seq| seq.expect("a number")).collect();
    assert_eq!(numbers, [12, 504], "those of other subjects are of no interest");
}

/// What ended is found by its state and its end, without those of other states.
#[test]
fn what_a_courier_forgets_is_found_by_an_index() {
    let db = courier_db();
    for (statement, index) in [
        (courier::ENDED_BEFORE.text, "deliveries_ends (state=? AND ended_ms<?)"),
        (courier::FIRST_END.text, "deliveries_ends (state=? AND ended_ms>?)"),
        (courier::LAST_END.text, "deliveries_ends (state=? AND ended_ms>?)"),
        (courier::DELIVERIES_SOONER.text, "deliveries_due (due_ms>?)"),
        (courier::DUE_BEFORE.text, "deliveries_due (due_ms<?)"),
        (courier::EXHAUSTED_FROM.text, "deliveries_exhausted (event_id>?)"),
        (courier::EXHAUSTED_COUNT.text, "deliveries_exhausted (event_id>?)"),
    ] {
        let mut plan = db.prepare(&format!("EXPLAIN QUERY PLAN {statement}")).expect("a plan");
        let unbound = vec![rusqlite::types::Null; plan.parameter_count()];
        let steps = plan.query_map(rusqlite::params_from_iter(unbound), |row| row.get::<_, String>(3)).expect("a plan");
        let steps: Vec<String> = steps.map(|step| step.expect("a row")).collect();
        assert!(steps.iter().any(|step| step.contains(index)), "{statement}: {steps:?}");
        assert!(!steps.iter().any(|step| step.contains("TEMP B-TREE")), "{statement}: {steps:?}");
    }
}

/// An endpoint that is removed is noted, whoever removes it.
#[test]
fn a_removed_endpoint_is_noted_until_its_courier_holds_nothing() {
    let db = directory_db();
    let put = "INSERT INTO webhook_endpoints (id, tenant_id, environment, url, events, status, secret_sealed, created_ms, updated_ms)
        VALUES (?, ?, 'live', 'https://shop.example/', '[]', 'active', 'x', 1, 1)";
    for (id, tenant) in [("whe_1", "ten_1"), ("whe_2", "ten_1"), ("whe_3", "ten_2")] {
        db.execute(put, (id, tenant)).expect("runs");
    }
    let noted = || -> Vec<String> {
        let mut all = db.prepare(endpoints::REMOVED_ENDPOINTS.text).expect("prepares");
        let rows = all.query_map([10], |row| row.get(0)).expect("runs");
        rows.map(|id| id.expect("an id")).collect()
    };
    assert_eq!(noted(), Vec::<String>::new());
    assert!(db.prepare(endpoints::ENDPOINT_REMOVE.text).expect("prepares").exists(("ten_1", "whe_1")).expect("runs"));
    db.execute(endpoints::ENDPOINTS_ERASE.text, ["ten_2"]).expect("runs");
    assert_eq!(noted(), ["whe_1", "whe_3"]);
    db.execute(endpoints::REMOVED_TRIED.text, (5, "whe_1")).expect("runs");
    assert_eq!(noted(), ["whe_3", "whe_1"]);
    db.execute(endpoints::REMOVED_ERASED.text, ["whe_3"]).expect("runs");
    assert_eq!(noted(), ["whe_1"]);
}

/// What else is changed of an endpoint moves neither of its times, and whoever changes its status moves them.
#[test]
fn when_an_endpoint_was_disabled_and_made_active_again_is_kept_by_the_directory() {
    let db = directory_db();
    let put = "INSERT INTO webhook_endpoints (id, tenant_id, environment, url, events, status, secret_sealed, created_ms, updated_ms)
        VALUES ('whe_1', 'ten_1', 'live', 'https://shop.example/', '[]', 'active', 'x', 1, 1)";
    db.execute(put, []).expect("runs");
    let times = || -> (Option<i64>, Option<i64>) {
        let read = |row: &rusqlite::Row<'_>| Ok((row.get(2)?, row.get(3)?));
        db.query_row(directory::ENDPOINTS_OF_TENANT.text, ("ten_1", "live"), read).expect("a row")
    };
    let patch = |status: Option<&str>, at: i64| {
        let none = None::<&str>;
        let bind = rusqlite::params![none, none, 1, at.to_string(), status, at, "ten_1", "whe_1"];
        assert!(db.prepare(endpoints::ENDPOINT_PATCH.text).expect("prepares").exists(bind).expect("runs"));
    };
    let earlier = || -> (Option<i64>, Option<i64>) {
        let read = |row: &rusqlite::Row<'_>| Ok((row.get(4)?, row.get(5)?));
        db.query_row(directory::ENDPOINTS_OF_TENANT.text, ("ten_1", "live"), read).expect("a row")
    };
    let disable_at = |at: i64, url: Option<&str>| {
        let mut disable = db.prepare(directory::ENDPOINT_DISABLE.text).expect("prepares");
        disable.exists(("gone", at, "whe_1", url)).expect("runs")
    };
    let disable = |at: i64| disable_at(at, None);
    let rotate = |at: i64| {
        let mut rotate = db.prepare(endpoints::ENDPOINT_ROTATE.text).expect("prepares");
        assert!(rotate.exists(("y", 99, at, "ten_1", "whe_1")).expect("runs"));
    };
    patch(Some("paused"), 2);
    patch(Some("active"), 3);
    assert_eq!(times(), (None, None));
    assert!(!disable_at(9, Some("https://other.example/")), "what another URL has answered says nothing of it");
    assert!(disable_at(10, Some("https://shop.example/")) && !disable(11));
    rotate(12);
    patch(None, 13);
    assert_eq!(times(), (Some(10), None));
    patch(Some("paused"), 20);
    rotate(21);
    patch(Some("active"), 22);
    patch(None, 23);
    assert_eq!((times(), earlier()), ((Some(10), Some(20)), (None, None)));
    assert!(disable(30));
    patch(None, 31);
    assert_eq!((times(), earlier()), ((Some(30), None), (Some(10), Some(20))));
    patch(Some("active"), 40);
    assert_eq!((times(), earlier()), ((Some(30), Some(40)), (Some(10), Some(20))));
    assert!(disable(50));
    assert_eq!((times(), earlier()), ((Some(50), None), (Some(30), Some(40))));
}

/// A secret that could not be opened is found again by whoever replaces it.
#[test]
fn a_lost_secret_is_noted_until_it_is_replaced() {
    let db = directory_db();
    let put = "INSERT INTO webhook_endpoints (id, tenant_id, environment, url, events, status, secret_sealed, created_ms, updated_ms)
        VALUES (?, 'ten_1', 'live', 'https://shop.example/', '[]', 'active', 'x', 1, 1)";
    for id in ["whe_1", "whe_2"] {
        db.execute(put, [id]).expect("runs");
    }
    let lost = || -> (i64, Option<String>) {
        let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        db.query_row(endpoints::SECRETS_LOST.text, [], read).expect("a row")
    };
    assert_eq!(lost(), (0, None));
    for id in ["whe_1", "whe_2"] {
        assert_eq!(db.execute(endpoints::SECRET_LOST.text, (5, id)), Ok(1));
    }
    assert_eq!(lost(), (2, Some("whe_1".to_owned())));
    let mut rotate = db.prepare(endpoints::ENDPOINT_ROTATE.text).expect("prepares");
    assert!(rotate.exists(("y", 99, 6, "ten_1", "whe_1")).expect("runs"));
    assert_eq!(lost(), (1, Some("whe_2".to_owned())));
    // The release before knows nothing of it.
    db.execute("UPDATE webhook_endpoints SET secret_sealed = 'y' WHERE id = 'whe_2'", []).expect("runs");
    assert_eq!(lost(), (0, None));
}

#[test]
fn the_records_statements_prepare_and_find_their_rows() {
    // The rows of a month are counted once, when it is archived; totals are a few for each hour.
    check(&records_db(), records::ALL, &["COUNTS_GET", "TABLES_GET", "TOTALS_CHANGED"]);
}

#[test]
fn statements_of_a_meter_prepare_and_find_their_rows() {
    // Objects in which something has waited within a day: all are read at each scrape, and purged once in five minutes.
    check(&meter_db(), meter::ALL, &["DEPTHS_GET", "DEPTHS_PURGE"]);
}

/// Isolates are forgotten after a day, ledgers never: an addition that comes again would count twice.
#[test]
fn a_meter_forgets_isolates_alone() {
    let db = meter_db();
    for (source, at) in [("isolate:00", 5), ("isolate:01", 50), ("ten_000000000001070707070707:live", 5)] {
        db.execute(meter::SEQUENCE_PUT.text, (source, 1, at)).expect("runs");
    }
    db.execute(meter::ISOLATES_PURGE.text, [10]).expect("runs");
    let mut left = db.prepare("SELECT name FROM sources ORDER BY name").expect("prepares");
    let left: Vec<String> = left.query_map([], |row| row.get(0)).and_then(Iterator::collect).expect("rows");
    assert_eq!(left, ["isolate:01", "ten_000000000001070707070707:live"]);
    // Of two reports about an object the later one holds, in whatever order they come.
    for (entries, at) in [(5, 20), (7, 10), (0, 30)] {
        db.execute(meter::DEPTH_PUT.text, ("outbox", "ten_1:live", entries, at)).expect("runs");
        let known: i64 = db.query_row("SELECT entries FROM depths", [], |row| row.get(0)).expect("a row");
        assert_eq!(known, if at == 30 { 0 } else { 5 });
    }
}

/// An alert about a chain, or all tenants, is an incident once it has begun; triggers write it, whatever build checks.
#[test]
fn an_incident_is_kept_after_its_alert_has_ended() {
    let db = directory_db();
    let put = |kind: &str, subject: &str, began: Option<i64>| {
        db.execute(alerts::OPERATOR_ALERT_PUT.text, (kind, subject, "why", 1, began, began)).expect("runs");
    };
    let incidents = || -> Vec<(String, String, i64, Option<i64>)> {
        let mut all = db.prepare(operation::INCIDENTS_SINCE.text).expect("prepares");
        let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?));
        all.query_map([0, 10], read).and_then(Iterator::collect).expect("rows")
    };
    put("chain_unreachable", "base", None);
    put("signer_low", "base 0xAb", Some(5));
    assert!(incidents().is_empty(), "it has not lasted long enough, and a signer is the operator's affair");
    put("chain_unreachable", "base", Some(10));
    put("chain_unreachable", "base", Some(10));
    put("error_rate", "", Some(11));
    db.execute("INSERT INTO operator_checks (id, changed_ms) VALUES (1, 20)", []).expect("runs");
    db.execute(alerts::OPERATOR_ALERT_END.text, ("chain_unreachable", "base")).expect("runs");
    db.execute(alerts::OPERATOR_ALERT_END.text, ("signer_low", "base 0xAb")).expect("runs");
    let (rate, chain) = ("error_rate".to_owned(), "chain_unreachable".to_owned());
    let base = "base".to_owned();
    assert_eq!(incidents(), [(rate.clone(), String::new(), 11, None), (chain, base, 10, Some(20))]);
    db.execute(operation::INCIDENTS_PURGE.text, [100]).expect("runs");
    assert_eq!(incidents(), [(rate, String::new(), 11, None)], "what lasts is kept");
}

#[test]
fn statements_of_the_directory_prepare_and_find_their_rows() {
    // One row a chain, and one a signer; of tenants whose ledgers are behind so many as are loaded at once.
    check(&directory_db(), directory::ALL, &["CHECKS_GET", "STUCK_GET", "TENANTS_TO_LOAD"]);
    check(&directory_db(), people::ALL, &[]);
    check(&directory_db(), oidc::ALL, &[]);
    // Endpoints that were removed, until their Couriers have erased what they hold: next to none.
    check(&directory_db(), endpoints::ALL, &["REMOVED_ENDPOINTS"]);
    check(&directory_db(), deletions::ALL, &[]);
    check(&directory_db(), billing::ALL, &[]);
    // Incidents of 90 days, and a row a signer and day: both few.
    check(&directory_db(), operation::ALL, &[]);
    // Ledgers that are lost: none as a rule.
    check(&directory_db(), rebuild::ALL, &["LOST_LEDGERS"]);
    // What is wrong at present, an hour of a month that is purged each night, and of what an index has found: the oldest alert of
    // each tenant and kind, messages that are due, keys that end.
    let found = ["ALERTS_WAITING", "NOTICES_TO_POST", "KEYS_EXPIRING"];
    check(&directory_db(), alerts::ALL, &[&["OPERATOR_ALERTS", "FAULTS_PURGE"][..], &found].concat());
}

#[test]
fn a_recipient_is_never_two_tenants() {
    let db = directory_db();
    let put = |tenant: &str| {
        let bind = ("live", "0xAB", tenant, 1, "live", "0xAB", tenant);
        db.execute(directory::RECIPIENT_RESTORE.text, ("live", "0xAB", tenant)).expect("runs");
        db.execute(directory::RECIPIENT_PUT.text, bind)
    };
    assert_eq!(put("ten_a"), Ok(1));
    assert_eq!(put("ten_a"), Ok(0));
    assert!(put("ten_b").is_err());
    db.execute(directory::RECIPIENT_REMOVE.text, (2, "ten_a", "0xAB")).expect("runs");
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
        let put = db.execute(directory::RECIPIENT_FIRST_USE.text, bind).expect("runs");
        let touched = db.execute(directory::FIRST_USER_TOUCH.text, (1, tenant, "test", address, tenant)).expect("runs");
        (put, touched)
    };
    let register = |tenant: &str, address: &str| -> rusqlite::Result<Option<String>> {
        let loser = db.query_row(directory::RECIPIENT_LOSER.text, (tenant, "test", address), |row| row.get(0));
        let loser =
            loser.or_else(|error| if error == rusqlite::Error::QueryReturnedNoRows { Ok(None) } else { Err(error) });
        db.execute(directory::RECIPIENT_LOSER_TOUCH.text, (2, "test", address, tenant))?;
        db.execute(directory::RECIPIENT_TAKE.text, (tenant, 2, "test", address, tenant))?;
        db.execute(directory::RECIPIENT_RESTORE.text, ("test", address, tenant))?;
        db.execute(directory::RECIPIENT_PUT.text, ("test", address, tenant, 2, "test", address, tenant))?;
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
    db.execute(directory::RECIPIENT_REMOVE.text, (3, "ten_a", "0x2")).expect("runs");
    assert_eq!(first_use("ten_a", "0x2", 9), (0, 0));
}

#[test]
fn a_proven_address_is_the_tenants_on_the_chains_that_it_was_proven_for() {
    let db = directory_db();
    let prove = |tenant: &str, environment: &str, address: &str, chain: Option<&str>| -> bool {
        let (proof, only_on) = match chain {
            Some(chain) => ("erc1271", Some(format!("[\"{chain}\"]"))),
            None => ("eip191", None),
        };
        let bind = (environment, address, tenant, 1, proof, only_on, "per_1");
        db.prepare(directory::RECIPIENT_PROVE.text).and_then(|mut put| put.exists(bind)).expect("runs")
    };
    let held = |address: &str| -> (String, Option<String>, Option<String>) {
        let sql = "SELECT tenant_id, proof, only_on FROM recipients WHERE address = ?";
        db.query_row(sql, [address], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).expect("a row")
    };
    let row = |tenant: &str, proof: Option<&str>, only_on: Option<&str>| {
        (tenant.to_owned(), proof.map(str::to_owned), only_on.map(str::to_owned))
    };
    let default = |address: &str, chain: &str, replace: i64| -> bool {
        let bind = ("ten_a", chain, address, "live", replace);
        db.prepare(directory::DEFAULT_PUT_HELD.text).and_then(|mut put| put.exists(bind)).expect("runs")
    };
    let retire = |tenant: &str, address: &str| -> bool {
        let bind = (2, tenant, address, "live");
        db.prepare(directory::RECIPIENT_RETIRE.text).and_then(|mut put| put.exists(bind)).expect("runs")
    };
    assert!(prove("ten_a", "live", "0x1", Some("base")));
    assert!(prove("ten_a", "live", "0x1", Some("polygon")) && prove("ten_a", "live", "0x1", Some("base")));
    assert_eq!(held("0x1"), row("ten_a", Some("erc1271"), Some(r#"["base","polygon"]"#)));
    assert!(!prove("ten_b", "live", "0x1", Some("base")));
    assert!(default("0x1", "base", 0) && !default("0x1", "ethereum", 1) && !default("0x1", "base", 1));
    // A key's own signature is good for all chains, and stays so.
    assert!(prove("ten_a", "live", "0x1", None) && prove("ten_a", "live", "0x1", Some("base")));
    assert_eq!(held("0x1"), row("ten_a", Some("eip191"), None));
    // What was retired comes back only as far as it is proven anew, and to its tenant.
    assert!(!retire("ten_b", "0x1") && retire("ten_a", "0x1") && !retire("ten_a", "0x1"));
    assert!(!default("0x1", "polygon", 1) && !prove("ten_b", "live", "0x1", None));
    assert!(prove("ten_a", "live", "0x1", Some("base")));
    assert_eq!(held("0x1"), row("ten_a", Some("erc1271"), Some(r#"["base"]"#)));
    // An operator's word is for all chains.
    db.execute(directory::RECIPIENT_RESTORE.text, ("live", "0x1", "ten_a")).expect("runs");
    assert_eq!(held("0x1"), row("ten_a", None, None));
    assert!(prove("ten_a", "live", "0x1", Some("base")));
    assert_eq!(held("0x1"), row("ten_a", None, None));
    // A first use gives way to a proof, of any tenant.
    for (tenant, address) in [("ten_a", "0x2"), ("ten_b", "0x3")] {
        db.execute(directory::RECIPIENT_FIRST_USE.text, ("test", address, "ten_a", 1, "ten_a", "test", 9))
            .expect("runs");
        assert!(prove(tenant, "test", address, Some("base-sepolia")));
        assert_eq!(held(address), row(tenant, Some("erc1271"), Some(r#"["base-sepolia"]"#)));
        // A contract's proof gives way to the key's own signature, which gives way to none.
        assert!(!prove("ten_c", "test", address, Some("base-sepolia")) && prove("ten_c", "test", address, None));
        assert_eq!(held(address), row("ten_c", Some("eip191"), None));
        assert!(!prove(tenant, "test", address, None) && !prove(tenant, "test", address, Some("base-sepolia")));
    }
}

#[test]
fn a_challenge_is_tried_so_often_and_used_once() {
    let db = directory_db();
    let put = |nonce: &str, now: i64| -> bool {
        let bind = (nonce, "ten_a", "live", "base", "0x1", "https://pay.example", now, now + 10, 2, 3, 5);
        db.prepare(directory::CHALLENGE_PUT.text).and_then(|mut put| put.exists(bind)).expect("runs")
    };
    let attempt = |nonce: &str, tenant: &str, chain: &str, address: &str, now: i64| -> bool {
        let bind = (nonce, tenant, "live", chain, address, 3, now);
        db.prepare(directory::CHALLENGE_TRY.text).and_then(|mut tried| tried.exists(bind)).expect("runs")
    };
    assert!(put("n1", 1) && put("n2", 1) && !put("n3", 10) && put("n4", 11), "two that hold, and no more");
    assert!(!attempt("n1", "ten_b", "base", "0x1", 2) && !attempt("n1", "ten_a", "polygon", "0x1", 2));
    assert!(!attempt("n1", "ten_a", "base", "0x2", 2) && !attempt("n0", "ten_a", "base", "0x1", 2));
    assert!((0..3).all(|_| attempt("n1", "ten_a", "base", "0x1", 2)) && !attempt("n1", "ten_a", "base", "0x1", 2));
    assert!(attempt("n2", "ten_a", "base", "0x1", 10) && !attempt("n2", "ten_a", "base", "0x1", 11));
    assert_eq!(db.execute(directory::CHALLENGE_USE.text, ["n4"]), Ok(1));
    let again = db.execute(directory::CHALLENGE_USE.text, ["n4"]).expect_err("refused");
    assert!(again.to_string().contains("recipient_challenge_is_used_once"), "{again}");
    assert!(!attempt("n4", "ten_a", "base", "0x1", 12));
    assert_eq!(db.execute(directory::CHALLENGES_PURGE.text, [12]), Ok(2));
}

#[test]
fn stuck_flights_are_summed_by_chain_as_long_as_they_are_reported() {
    let db = directory_db();
    let put = |settler: &str, flights: i64, at: i64| {
        db.execute(directory::STUCK_PUT.text, (settler, "base", flights, at)).expect("runs");
    };
    let get = |since: i64| -> Vec<(String, i64)> {
        let mut found = db.prepare(directory::STUCK_GET.text).expect("prepares");
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
fn records_are_deleted_as_far_as_they_were_looked_at_unless_they_are_polled_or_shipped_again() {
    let db = ledger_db();
    for at in 0..10 {
        let watched = (at == 1).then_some(1);
        db.execute(
            ledger::RECORD_PUT.text,
            (format!("ver_{at}"), r#"{"chain":"base"}"#, watched, None::<i64>, None::<String>),
        )
        .expect("runs");
    }
    let watched = || -> Vec<(String, String)> {
        let mut all = db.prepare(ledger::WATCHED_BETWEEN.text).expect("prepares");
        all.query_map(("", "ver_7"), |row| Ok((row.get(0)?, row.get(1)?))).and_then(Iterator::collect).expect("ids")
    };
    assert_eq!(watched(), [("ver_1".to_owned(), "base".to_owned())]);
    let end = |after: &str, upto: &str| -> Option<String> {
        db.query_row(ledger::RECORD_AT.text, (after, upto, 3), |row| row.get(0)).ok()
    };
    let left = || -> Vec<String> {
        let mut all = db.prepare("SELECT id FROM records ORDER BY id").expect("prepares");
        all.query_map([], |row| row.get(0)).and_then(Iterator::collect).expect("ids")
    };
    assert_eq!((end("", "ver_7").as_deref(), end("ver_3", "ver_7").as_deref()), (Some("ver_3"), Some("ver_7")));
    assert_eq!(end("ver_4", "ver_7"), None);
    for (after, upto) in [("", "ver_3"), ("ver_3", "ver_7")] {
        db.execute(ledger::RECORDS_PURGE.text, (after, upto)).expect("runs");
    }
    assert_eq!(left(), ["ver_1", "ver_8", "ver_9"]);
    // What is to be shipped once more stays until it is, also where its entry is kept apart.
    for (kind, body) in [("record", "ver_8"), ("change", r#"{"subject":"ver_9"}"#), ("period", "{}"), ("event", "{}")] {
        db.execute(ledger::OUTBOX_PUT.text, (kind, body)).expect("runs");
    }
    db.execute(ledger::OUTBOX_PARK.text, (5, 2)).expect("runs");
    db.execute("DELETE FROM outbox WHERE seq = 2", ()).expect("runs");
    db.execute(ledger::RECORDS_PURGE.text, ("ver_7", "ver_9")).expect("runs");
    assert_eq!(left(), ["ver_1", "ver_8", "ver_9"]);
    // It is final: what was polled is changed and deleted as any other.
    db.execute(ledger::RECORD_UPDATE.text, ("{}", None::<i64>, "ver_1")).expect("runs");
    db.execute(ledger::RECORDS_PURGE.text, ("", "ver_3")).expect("runs");
    assert_eq!((left(), watched()), (vec!["ver_8".to_owned(), "ver_9".to_owned()], Vec::new()));
}

#[test]
fn idempotency_records_are_deleted_as_far_as_they_were_looked_at_if_they_have_expired() {
    let db = ledger_db();
    for (key, at) in [("a", 5), ("b", 9), ("c", 5), ("d", 5)] {
        let bind = ("verify", key, "hash", 200, "{}", at, None::<i64>);
        db.execute(ledger::IDEMPOTENCY_PUT.text, bind).expect("runs");
    }
    let end = |key: &str| -> Option<String> {
        db.query_row(ledger::IDEMPOTENCY_AT.text, ("verify", key, 1), |row| row.get(1)).ok()
    };
    assert_eq!((end("").as_deref(), end("b").as_deref(), end("c")), (Some("b"), Some("d"), None));
    let left = || -> Vec<String> {
        let mut all = db.prepare("SELECT key FROM idempotency ORDER BY key").expect("prepares");
        all.query_map([], |row| row.get(0)).and_then(Iterator::collect).expect("keys")
    };
    db.execute(ledger::IDEMPOTENCY_PURGE.text, ("", "", "verify", "b", 5)).expect("runs");
    assert_eq!(left(), ["b", "c", "d"]);
    // The end of the table: a text is less than every blob.
    db.execute(ledger::IDEMPOTENCY_PURGE.text, ("verify", "c", [0_u8].as_slice(), None::<i64>, 5)).expect("runs");
    assert_eq!(left(), ["b", "c"]);
}

#[test]
fn an_older_revision_changes_nothing() {
    let db = records_db();
    let put = |revision: i64, outcome: &str| {
        db.execute(records::RECORD_PUT.text, ("ver_1", revision, "base", outcome, "7", 4, "text")).expect("runs")
    };
    assert_eq!((put(0, "confirmed"), put(2, "reorged"), put(1, "finalized"), put(2, "again")), (1, 1, 0, 0));
    let outcome: String = db.query_row("SELECT outcome FROM records", [], |row| row.get(0)).expect("a row");
    assert_eq!(outcome, "reorged");
    // The same of several in one statement, also where two are revisions of one record.
    for (statement, rows) in [(records::RECORDS_PUT_4, 4), (records::RECORDS_PUT_14, 14)] {
        let values = |at: i64| (format!("ver_{}", at % 3), at, format!("outcome {at}"));
        let mut prepared = db.prepare(statement.text).expect("a statement");
        assert_eq!(prepared.parameter_count(), rows * 7);
        for at in 0..rows {
            let (id, revision, outcome) = values(i64::try_from(at).expect("small"));
            let columns: [&dyn rusqlite::ToSql; 7] = [&id, &revision, &"base", &outcome, &"7", &4, &"text"];
            for (column, value) in columns.iter().enumerate() {
                prepared.raw_bind_parameter(at * 7 + column + 1, value).expect("bound");
            }
        }
        prepared.raw_execute().expect("runs");
        let mut all = db.prepare("SELECT outcome FROM records ORDER BY revision DESC").expect("a statement");
        let newest: String = all.query_row([], |row| row.get(0)).expect("a row");
        assert_eq!(newest, format!("outcome {}", rows - 1));
    }
    let db = directory_db();
    let put = |revision: i64, count: i64| {
        let rows = format!(r#"[["hour",3600000,"base","confirmed",{count},"{count}000000",{revision}]]"#);
        db.execute(directory::ROLLUPS_PUT.text, ("ten_a", "live", rows)).expect("runs")
    };
    assert_eq!((put(1, 1), put(5, 4), put(3, 2), put(5, 9)), (1, 1, 0, 0));
    let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>("count")?, row.get::<_, String>("amount")?));
    let of_day =
        |day: i64| db.query_row(directory::ROLLUPS_OF_DAY.text, ("ten_a", "live", day, day + 86_400_000), read).ok();
    assert_eq!((of_day(0), of_day(86_400_000)), (Some((4, "4000000".to_owned())), None));
}

/// Claims the whole, or one log of it; whether that was written.
pub(crate) fn claim(db: &Connection, ordinal: Option<i64>, id: &str) -> rusqlite::Result<bool> {
    let (network, tx, to, reference) = ("eip155:8453", "0x1", "0xA", None::<String>);
    let written = |statement: &str, bind: &[&dyn rusqlite::ToSql]| Ok(db.execute(statement, bind)? > 0);
    match ordinal {
        None => written(ledger::CLAIM_PUT.text, rusqlite::params![network, tx, to, id, reference, 5, network, tx, to]),
        Some(ordinal) => {
            let bind = rusqlite::params![network, tx, to, ordinal, id, reference, 5, network, tx, to];
            written(ledger::LOG_CLAIM_PUT.text, bind)
        }
    }
}

pub(crate) fn claims(db: &Connection) -> Vec<(Option<i64>, String)> {
    let mut get = db.prepare(ledger::CLAIMS_GET.text).expect("prepares");
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
    let (payer, transaction) = (ledger::SETTLEMENTS_OF_PAYER.text, ledger::SETTLEMENTS_OF_TRANSACTION.text);
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
    let authorization = ledger::SETTLEMENTS_OF_AUTHORIZATION.text;
    assert_eq!(ids(authorization, None, &[Some("stl_3"), None]), ["stl_3"]);
    assert!(ids(authorization, Some(0), &[Some("stl_3"), None]).is_empty());
    assert_eq!(ids(authorization, Some(0), &[Some("stl_2"), Some("t")]), ["stl_2"]);
    assert!(ids(authorization, None, &[Some("stl_2"), Some("other")]).is_empty());
}

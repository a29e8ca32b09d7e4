//! Alerts in the directory: what is written once whatever is repeated.

use crate::schema::directory_db;
use rusqlite::Connection;
use std::collections::BTreeSet;
use x402_core::alert::ALERTS;
use x402_core::event::EventSubject;
use x402_edge::d1::alerts::sql;
use x402_edge::d1::deletions::sql as deletions;

const DAY: i64 = 86_400_000;

fn outbox(db: &Connection, event: &str, environment: &str, kind: &str) {
    db.execute(
        "INSERT INTO directory_outbox (event_id, tenant_id, environment, kind, subject, body, created_ms)
         VALUES (?, 'ten_a', ?, ?, 's', '{}', 1)",
        (event, environment, kind),
    )
    .expect("runs");
}

fn kinds(db: &Connection) -> BTreeSet<String> {
    let mut all = db.prepare("SELECT kind FROM alerts").expect("prepares");
    all.query_map((), |row| row.get(0)).and_then(Iterator::collect).expect("kinds")
}

#[test]
fn the_trigger_has_the_kinds_of_the_table() {
    let db = directory_db();
    for (at, kind) in x402_core::event::EventKind::ALL.iter().enumerate() {
        outbox(&db, &format!("evt_{at}"), "live", kind.name());
        outbox(&db, &format!("evt_t{at}"), "test", kind.name());
    }
    let changes = ALERTS.iter().filter(|row| row.kind.subject() == EventSubject::Change);
    assert_eq!(kinds(&db), changes.map(|row| row.kind.name().to_owned()).collect());
}

#[test]
fn an_alert_is_named_by_one_notice() {
    let db = directory_db();
    let put = |event: &str| db.execute(sql::ALERT_PUT.text, (event, "ten_a", "quota.warning", "2026-11", "{}", 1));
    assert_eq!((put("evt_1"), put("evt_1"), put("evt_2")), (Ok(1), Ok(0), Ok(1)));
    let notice = |id: &str, events: &[&str]| {
        let first = events.first().copied();
        let bind = (id, "ten_a", "quota.warning", "text", 2, None::<i64>, first);
        let made = db.execute(sql::NOTICE_PUT.text, bind).expect("runs");
        let named = db.execute(sql::ALERTS_NOTICED.text, (id, serde_json::json!(events).to_string())).expect("runs");
        let mail = (format!("mail_{id}"), "a@b.c", "", id, 2);
        (made, named, db.execute(sql::NOTICE_MAIL_PUT.text, mail).expect("runs"))
    };
    assert_eq!(notice("ntc_1", &["evt_1"]), (1, 1, 1));
    // A run at the same time that has read both: the second waits for the next run.
    assert_eq!(notice("ntc_2", &["evt_1", "evt_2"]), (0, 0, 0));
    assert_eq!(notice("ntc_3", &["evt_2"]), (1, 1, 1));
    assert_eq!(put("evt_1"), Ok(0));
}

#[test]
fn a_message_is_tried_by_one_run_at_a_time() {
    let db = directory_db();
    let put = db.execute(sql::OPERATOR_NOTICE_PUT.text, ("ntc_1", "text", 1, Some(1)));
    assert_eq!(put, Ok(1));
    let begin = |next: Option<i64>, tries: i64| {
        db.query_row(sql::NOTICE_POST_BEGIN.text, (next, "ntc_1", tries), |row| row.get::<_, i64>(0)).is_ok()
    };
    assert!(begin(Some(100), 0) && !begin(Some(100), 0) && begin(None, 1));
    let due = |now: i64| -> usize {
        let mut all = db.prepare(sql::NOTICES_TO_POST.text).expect("prepares");
        all.query_map((now, 9), |_| Ok(())).expect("rows").count()
    };
    assert_eq!(due(1_000), 0);
}

#[test]
fn a_key_is_found_seven_days_and_one_before_its_end() {
    let db = directory_db();
    let put = |id: &str, created: i64, expires: Option<i64>, revoked: Option<i64>, grace: Option<i64>| {
        db.execute(
            "INSERT INTO api_keys (id, tenant_id, environment, name, hash, scopes, created_ms, expires_ms, revoked_ms,
             grace_until_ms) VALUES (?1, 'ten_a', 'live', 'n', ?1, '[]', ?2, ?3, ?4, ?5)",
            (id, created, expires, revoked, grace),
        )
        .expect("runs");
    };
    let end = 100 * DAY;
    put("key_long", 0, Some(end), None, None);
    put("key_week", end - 5 * DAY, Some(end), None, None);
    put("key_hour", end - 3_600_000, Some(end), None, None);
    put("key_never", 0, None, None, None);
    put("key_revoked", 0, Some(end), Some(1), None);
    put("key_rotated", 0, Some(end), None, Some(end));
    let found = |days: i64, now: i64| -> Vec<String> {
        let mut all = db.prepare(sql::KEYS_EXPIRING.text).expect("prepares");
        all.query_map((now, days * DAY, days, 9), |row| row.get(0)).and_then(Iterator::collect).expect("keys")
    };
    let note = |id: &str, days: i64| {
        db.query_row(sql::KEY_EXPIRING_NOTE.text, (days, id, "ten_a"), |row| row.get::<_, i64>(0)).is_ok()
    };
    assert!(found(7, end - 8 * DAY).is_empty());
    assert_eq!(found(7, end - 7 * DAY), ["key_long"]);
    assert!(note("key_long", 7) && !note("key_long", 7));
    assert!(found(7, end - 6 * DAY).is_empty() && found(1, end - 2 * DAY).is_empty());
    assert_eq!(found(1, end - DAY), ["key_long", "key_week"]);
    assert!(note("key_long", 1) && !note("key_long", 7));
    assert!(found(7, end - DAY / 2).is_empty());
    assert_eq!(found(1, end - DAY / 2), ["key_week"]);
    assert!(found(1, end).is_empty());
}

#[test]
fn of_two_checks_at_the_same_time_one_is_stored() {
    let db = directory_db();
    let change = |before: i64, now: i64| db.execute(sql::CHECKS_CHANGE.text, (before, now)).is_ok();
    assert!(change(0, 10) && !change(0, 11) && change(10, 11));
    let before: i64 = db.query_row(sql::CHECKS_CHANGED.text, (), |row| row.get(0)).expect("a row");
    assert_eq!(before, 11);
}

#[test]
fn an_erasure_takes_the_alerts_and_the_url() {
    let db = directory_db();
    db.execute_batch(
        "INSERT INTO tenants (id, email, tier, status, limits, sanctions, version, created_ms, updated_ms, alert_url,
            alert_host) VALUES ('ten_a', 'a', 'free', 'active', '{}', 'refuse', 1, 1, 1, 'v1.a.b', 'a.example');
         INSERT INTO notices (id, tenant_id, kind, text, created_ms) VALUES ('ntc_1', 'ten_a', 'k', 't', 1),
            ('ntc_2', NULL, 'operator', 't', 1);",
    )
    .expect("runs");
    let put = |tenant: &str| (format!("evt_{tenant}"), tenant.to_owned(), "quota.warning", "2026-11", "{}", 1);
    for tenant in ["ten_a", "ten_b"] {
        db.execute(sql::ALERT_PUT.text, put(tenant)).expect("runs");
    }
    db.execute(deletions::TENANT_ERASE.text, (2, "ten_a")).expect("runs");
    for erase in [deletions::ALERTS_ERASE, deletions::NOTICES_ERASE] {
        assert_eq!(db.execute(erase.text, ("ten_a", 9)), Ok(1));
        assert_eq!(db.execute(erase.text, ("ten_a", 9)), Ok(0));
    }
    let url: Option<String> = db.query_row("SELECT alert_url FROM tenants", (), |row| row.get(0)).expect("a row");
    assert_eq!(url, None);
}

//! Alerts in the directory: what is written once whatever is repeated.

use crate::schema::directory_db;
use rusqlite::Connection;
use std::collections::BTreeSet;
use x402_chain::time::UnixMillis;
use x402_core::alert::{ALERTS, DueTimes, KEY_ENDS_DAYS, NOTICES_DAY_MAX, WaitingAlerts};
use x402_core::event::{EventKind, EventSubject};
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

fn put_alert(db: &Connection, event: &str, tenant: &str, kind: &str, at: i64) -> usize {
    db.execute(sql::ALERT_PUT.text, (event, tenant, kind, "s", "{}", at)).expect("runs")
}

#[test]
fn an_alert_is_named_by_one_notice_which_counts_it() {
    let db = directory_db();
    let put = |event: &str| put_alert(&db, event, "ten_a", "quota.warning", 1);
    assert_eq!((put("evt_1"), put("evt_1"), put("evt_3")), (1, 0, 1));
    let counted = || -> (i64, String) {
        db.query_row(sql::ALERTS_COUNT.text, ("ten_a", "quota.warning"), |row| Ok((row.get(0)?, row.get(1)?)))
            .expect("a row")
    };
    let notice = |id: &str, (number, newest): (i64, &str)| {
        let bind = (id, "ten_a", "quota.warning", "text", 2, None::<i64>, newest, number);
        let made = db.execute(sql::NOTICE_PUT.text, bind).expect("runs");
        let named = db.execute(sql::ALERTS_NOTICED.text, (id, "ten_a", "quota.warning", newest)).expect("runs");
        let mail = (format!("mail_{id}"), "a@b.c", "", id, 2);
        (made, named, db.execute(sql::NOTICE_MAIL_PUT.text, mail).expect("runs"))
    };
    assert_eq!(counted(), (2, "evt_3".to_owned()));
    // One that came meanwhile and is older: no notice leaves it out of its number. A newer one waits for the next.
    assert_eq!(put("evt_2"), 1);
    assert_eq!(notice("ntc_1", (2, "evt_3")), (0, 0, 0));
    assert_eq!(put("evt_4"), 1);
    assert_eq!(notice("ntc_2", (3, "evt_3")), (1, 3, 1));
    // A run at the same time that has counted the same.
    assert_eq!(notice("ntc_3", (3, "evt_3")), (0, 0, 0));
    assert_eq!(counted(), (1, "evt_4".to_owned()));
    assert_eq!(notice("ntc_4", (1, "evt_4")), (1, 1, 1));
    assert!(db.query_row(sql::ALERTS_COUNT.text, ("ten_a", "quota.warning"), |_| Ok(())).is_err());
    assert_eq!(put("evt_1"), 0);
}

/// Which tenants and kinds the directory finds, and whether they are due by what it says of them.
fn waiting(db: &Connection, now: i64, limit: i64) -> Vec<(String, String)> {
    let now = UnixMillis(u64::try_from(now).expect("a time"));
    let DueTimes { day, gathered, paused } = DueTimes::of(now);
    let [day, gathered, paused] = [day, gathered, paused].map(|at| at.0.cast_signed());
    let kinds = serde_json::to_string(&x402_core::alert::ALERTS.iter().map(|row| row.kind.name()).collect::<Vec<_>>());
    let bind = (day, NOTICES_DAY_MAX.cast_signed(), gathered, paused, limit, kinds.expect("JSON"));
    let mut all = db.prepare(sql::ALERTS_WAITING.text).expect("prepares");
    let read = |row: &rusqlite::Row<'_>| {
        let (tenant, kind): (String, String) = (row.get(0)?, row.get(1)?);
        let at = |time: i64| UnixMillis(time.unsigned_abs());
        let waiting = WaitingAlerts {
            kind: EventKind::parse(&kind).expect("a kind"),
            oldest: at(row.get(2)?),
            last_notice: row.get::<_, Option<i64>>(3)?.map(at),
            notices_in_day: row.get::<_, i64>(4)?.unsigned_abs(),
        };
        assert!(waiting.is_due(now), "{waiting:?}");
        Ok((tenant, kind))
    };
    all.query_map(bind, read).and_then(Iterator::collect).expect("rows")
}

#[test]
fn alerts_that_are_not_due_hold_up_none_that_are() {
    let db = directory_db();
    let (now, minute) = (10 * DAY, 60_000);
    let notices = |tenant: &str, kind: &str, at: &[i64]| {
        for (number, at) in at.iter().enumerate() {
            let bind = (format!("ntc_{tenant}_{number}"), tenant, kind, "t", at);
            let put = "INSERT INTO notices (id, tenant_id, kind, text, created_ms) VALUES (?, ?, ?, ?, ?)";
            db.execute(put, bind).expect("runs");
        }
    };
    let (settled, quota) = ("settlement.undelivered", "quota.warning");
    // Older than the others: gathered so far, paused, and as many notices as a day has.
    put_alert(&db, "evt_001", "ten_gathers", settled, now - 2 * minute);
    put_alert(&db, "evt_002", "ten_pauses", settled, now - 30 * minute);
    notices("ten_pauses", settled, &[now - 59 * minute]);
    put_alert(&db, "evt_003", "ten_full", quota, 1);
    notices("ten_full", quota, &[now - minute; 10]);
    for number in 0..50 {
        put_alert(&db, &format!("evt_01{number:02}"), "ten_many", quota, now - 20 * minute + number);
    }
    put_alert(&db, "evt_020", "ten_settled", settled, now - 3 * minute);
    put_alert(&db, "evt_021", "ten_late", quota, now);
    put_alert(&db, "evt_022", "ten_settled", "key.expiring", now + 1);
    let found = |now: i64, limit: i64| -> Vec<String> {
        waiting(&db, now, limit).into_iter().map(|(tenant, _)| tenant).collect()
    };
    assert_eq!(found(now, 9), ["ten_many", "ten_settled", "ten_late", "ten_settled"]);
    assert_eq!(found(now, 2), ["ten_many", "ten_settled"]);
    assert_eq!(
        found(now + minute, 9),
        ["ten_pauses", "ten_many", "ten_settled", "ten_gathers", "ten_late", "ten_settled"]
    );
    assert_eq!(found(now + DAY, 9).first().map(String::as_str), Some("ten_full"));
    // Of each tenant and kind one alert is read, however many wait.
    let mut all = db.prepare(&format!("EXPLAIN QUERY PLAN {}", sql::ALERTS_WAITING.text)).expect("a plan");
    let plan: Vec<String> = all
        .query_map([rusqlite::types::Null; 6].map(Some), |row| row.get(3))
        .and_then(Iterator::collect)
        .expect("a plan");
    for found in ["(tenant_id=? AND kind>?)", "(tenant_id>?)"] {
        assert!(plan.iter().any(|step| step.ends_with(&format!("INDEX alerts_waiting {found}"))), "{found}: {plan:?}");
    }
    assert!(!plan.iter().any(|step| step.contains("TEMP B-TREE FOR GROUP BY")), "{plan:?}");
}

#[test]
fn messages_of_tenants_take_turns() {
    let db = directory_db();
    for tenant in ["ten_a", "ten_b", "ten_c", "ten_d"] {
        db.execute(
            "INSERT INTO tenants (id, email, tier, status, limits, sanctions, version, created_ms, updated_ms)
             VALUES (?1, ?1, 'free', 'active', '{}', 'refuse', 1, 1, 1)",
            [tenant],
        )
        .expect("runs");
    }
    let put = |id: &str, tenant: Option<&str>, due: Option<i64>| {
        let text = "INSERT INTO notices (id, tenant_id, kind, text, created_ms, post_due_ms)
            VALUES (?1, ?2, 'quota.warning', 't', 1, ?3)";
        db.execute(text, (id, tenant, due)).expect("runs");
    };
    for number in 0..9 {
        put(&format!("ntc_a{number}"), Some("ten_a"), Some(number));
    }
    put("ntc_b", Some("ten_b"), Some(50));
    put("ntc_c", Some("ten_c"), Some(40));
    put("ntc_d", Some("ten_d"), Some(101));
    put("ntc_o", None, Some(30));
    put("ntc_done", Some("ten_b"), None);
    let due = |is_slow: bool| -> Vec<String> {
        let mut all = db.prepare(sql::NOTICES_TO_POST.text).expect("prepares");
        all.query_map((100, is_slow, 9), |row| row.get(0)).and_then(Iterator::collect).expect("rows")
    };
    assert_eq!((due(false), due(true)), (["ntc_a0", "ntc_c", "ntc_b"].map(str::to_owned).to_vec(), Vec::new()));
    let slow = |tenant: &str, at: Option<i64>| db.execute(sql::ALERT_SLOW_PUT.text, (at, tenant)).expect("runs");
    // Whoever was slow waits apart, behind those whose turn was before.
    assert_eq!((slow("ten_a", Some(9)), slow("ten_b", Some(8))), (1, 1));
    assert_eq!((due(false), due(true)), (vec!["ntc_c".to_owned()], vec!["ntc_b".to_owned(), "ntc_a0".to_owned()]));
    assert_eq!(slow("ten_b", None), 1);
    assert_eq!((due(false).len(), due(true)), (2, vec!["ntc_a0".to_owned()]));
    let mut all = db.prepare(sql::OPERATOR_NOTICES_TO_POST.text).expect("prepares");
    let operators: Vec<String> = all.query_map((100, 9), |row| row.get(0)).and_then(Iterator::collect).expect("rows");
    assert_eq!(operators, ["ntc_o"]);
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
        let mut all = db.prepare(sql::OPERATOR_NOTICES_TO_POST.text).expect("prepares");
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
    let found = |now: i64| expiring(&db, now, 9);
    let note = |id: &str, days: i64| {
        db.query_row(sql::KEY_EXPIRING_NOTE.text, (days, id, "ten_a"), |row| row.get::<_, i64>(0)).is_ok()
    };
    assert!(found(end - 7 * DAY - 1).is_empty());
    assert_eq!(found(end - 7 * DAY), ["key_long"]);
    assert!(note("key_long", 7) && !note("key_long", 7));
    assert!(found(end - 6 * DAY).is_empty() && found(end - DAY - 1).is_empty());
    assert_eq!(found(end - DAY), ["key_long", "key_week"]);
    assert!(note("key_long", 1) && !note("key_long", 7));
    assert_eq!(found(end - DAY / 2), ["key_week"]);
    assert!(found(end).is_empty());
    // One of which nothing was raised until its last day gets the last alert.
    put("key_missed", 0, Some(end + DAY), None, None);
    assert_eq!(found(end + 1), ["key_missed"]);
    assert!(note("key_missed", 1) && found(end + 1).is_empty());
    // The column's days are those of the alerts.
    put("key_days", 0, Some(1_000 * DAY), None, None);
    for days in KEY_ENDS_DAYS.into_iter().rev().map(u64::cast_signed) {
        let due = "SELECT alert_due_ms FROM api_keys WHERE id = 'key_days'";
        assert_eq!(db.query_row(due, (), |row| row.get(0)), Ok(Some((1_000 - days) * DAY)));
        assert!(note("key_days", days));
    }
}

fn expiring(db: &Connection, now: i64, limit: i64) -> Vec<String> {
    let mut all = db.prepare(sql::KEYS_EXPIRING.text).expect("prepares");
    all.query_map((now, limit), |row| row.get(0)).and_then(Iterator::collect).expect("keys")
}

#[test]
fn keys_of_one_tenant_that_end_in_a_night_hold_up_no_others() {
    let db = directory_db();
    let end = 100 * DAY;
    let put = |id: &str, tenant: &str, expires: i64| {
        let text = "INSERT INTO api_keys (id, tenant_id, environment, name, hash, scopes, created_ms, expires_ms)
            VALUES (?1, ?2, 'live', 'n', ?1, '[]', 1, ?3)";
        db.execute(text, (id, tenant, expires)).expect("runs");
    };
    for number in 0..500 {
        put(&format!("key_{number:03}"), "ten_many", end + number);
    }
    put("key_b", "ten_b", end + 600);
    put("key_c", "ten_c", end + 700);
    assert_eq!(expiring(&db, end - DAY / 2, 4), ["key_000", "key_b", "key_c", "key_001"]);
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

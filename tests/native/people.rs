//! What the statements about people hold to the millisecond, and to the number.

use crate::schema::directory_db;
use rusqlite::{Connection, Params};
use x402_chain::time::UnixMillis;
use x402_core::people::session::{IDLE_MS, SESSION_MS, SessionTimes};
use x402_core::people::sign_in::{TRIES_MAX, WRONG_ALL_MAX, WRONG_PREFIX_MAX, expiry};
use x402_edge::d1::people::sql as people;

/// A number as SQLite holds it.
fn sql(number: u64) -> i64 {
    i64::try_from(number).expect("fits")
}

/// How many rows a statement returns.
#[track_caller]
fn count(db: &Connection, text: &str, bind: impl Params) -> usize {
    let mut prepared = db.prepare(text).expect("prepares");
    let rows = prepared.query_map(bind, |_| Ok(())).expect("runs");
    rows.collect::<Result<Vec<()>, _>>().expect("rows").len()
}

fn sign_in(db: &Connection, name: &str, now: u64) {
    let bind = (name, name, "login", name, name, "unknown", sql(now), sql(expiry(UnixMillis(now)).0));
    db.execute(
        "INSERT INTO sign_ins (id, email, intent, token_hash, browser_hash, ip_prefix, created_ms, expires_ms)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        bind,
    )
    .expect("written");
}

/// Tries a code as the Worker does; whether it is compared.
#[track_caller]
fn compared(db: &Connection, browser: &str, prefix: &str, now: u64, day: u64) -> bool {
    let [now, day, tries, of_prefix, of_all] = [now, day, TRIES_MAX, WRONG_PREFIX_MAX, WRONG_ALL_MAX].map(sql);
    let bind = (browser, now, tries, day, prefix, of_prefix, of_all);
    let is_compared = count(db, people::SIGN_IN_TRY.text, bind) == 1;
    db.execute(people::CODE_WRONG.text, (day, prefix)).expect("runs");
    is_compared
}

fn wrong(db: &Connection, prefix: &str, day: u64) -> (u64, u64) {
    let found = db.query_row(people::WRONG_CODES_GET.text, (sql(day), prefix), |row| Ok((row.get(0)?, row.get(1)?)));
    let (of_prefix, of_all): (i64, i64) = found.expect("a row");
    (u64::try_from(of_prefix).expect("a count"), u64::try_from(of_all).expect("a count"))
}

#[test]
fn a_link_and_a_code_hold_until_fifteen_minutes_are_over() {
    let db = directory_db();
    let begin = 1_000_000;
    sign_in(&db, "a", begin);
    let end = begin + 15 * 60 * 1_000;
    for (now, holds) in [(begin, true), (end - 1, true), (end, false), (end + 1, false)] {
        assert_eq!(count(&db, people::SIGN_IN_BY_TOKEN.text, ("a", sql(now))) == 1, holds, "link at {now}");
        assert_eq!(compared(&db, "a", "p", now, 0), holds, "code at {now}");
    }
    // What is not compared is no wrong code.
    assert_eq!(wrong(&db, "p", 0), (2, 2));
}

#[test]
fn a_session_is_listed_until_it_is_over() {
    let db = directory_db();
    let begin = 1_000_000;
    let times = SessionTimes::begin(UnixMillis(begin));
    db.execute(
        "INSERT INTO sessions (id, hash, person_id, tenant_id, ip_prefix, created_ms, seen_ms, expires_ms)
        VALUES ('ses', 'h', 'per', 'ten', 'p', ?1, ?2, ?3)",
        (sql(begin), sql(begin), sql(times.expires_at.0)),
    )
    .expect("written");
    let since = |now: u64| sql(now.saturating_sub(IDLE_MS));
    let listed = |now: u64| count(&db, people::SESSIONS_OF.text, ("per", sql(now), since(now), None::<String>)) == 1;
    for (age, holds) in [(0, true), (IDLE_MS - 1, true), (IDLE_MS, false)] {
        assert_eq!((listed(begin + age), times.is_open(UnixMillis(begin + age))), (holds, holds), "idle for {age}");
    }
    db.execute("UPDATE sessions SET seen_ms = ?", [sql(begin + SESSION_MS - IDLE_MS + 5)]).expect("runs");
    assert!(listed(begin + SESSION_MS - 1) && !listed(begin + SESSION_MS));
}

#[test]
fn invitations_and_states_hold_until_they_are_over() {
    let db = directory_db();
    db.execute_batch(
        "INSERT INTO invitations (id, tenant_id, email, role, token_hash, invited_by, created_ms, expires_ms)
            VALUES ('inv', 'ten', 'a', 'viewer', 't', 'per', 1, 100);
        INSERT INTO oauth_states (hash, provider, browser_hash, ip_prefix, created_ms, expires_ms)
            VALUES ('s', 'github', 'b', 'p', 1, 100);",
    )
    .expect("written");
    for (now, holds) in [(100, false), (99, true)] {
        assert_eq!(count(&db, people::INVITATION_BY_TOKEN.text, ("t", now)) == 1, holds, "invitation at {now}");
        assert_eq!(count(&db, people::OAUTH_USE.text, (now, "s", "b", "github")) == 1, holds, "state at {now}");
    }
}

#[test]
fn wrong_codes_are_counted_by_network_and_in_all_and_right_ones_taken_back() {
    let db = directory_db();
    let networks = WRONG_ALL_MAX / WRONG_PREFIX_MAX;
    for network in 0..networks {
        let prefix = format!("net{network}");
        for at in 0..WRONG_PREFIX_MAX / TRIES_MAX {
            let name = format!("{network}-{at}");
            sign_in(&db, &name, 0);
            assert_eq!((0..TRIES_MAX).filter(|_| compared(&db, &name, &prefix, 1, 0)).count(), 5);
            assert!(!compared(&db, &name, "other", 1, 0), "a sixth try of a mail, from anywhere");
        }
        let (of_prefix, of_all) = wrong(&db, &prefix, 0);
        assert_eq!((of_prefix, of_all), (WRONG_PREFIX_MAX, WRONG_PREFIX_MAX * (network + 1)));
        sign_in(&db, &prefix, 0);
        assert!(!compared(&db, &prefix, &prefix, 1, 0), "beyond the network's bound");
        if network + 1 < networks {
            let other = format!("other{network}");
            assert!(compared(&db, &prefix, &other, 1, 0), "another network");
            db.execute(people::CODE_RIGHT.text, (0, &other)).expect("runs");
            assert_eq!(wrong(&db, &other, 0), (0, WRONG_PREFIX_MAX * (network + 1)));
        }
    }
    sign_in(&db, "new", 0);
    assert!(!compared(&db, "new", "fresh", 1, 0), "beyond the bound of all");
    assert_eq!(wrong(&db, "fresh", 0), (0, WRONG_ALL_MAX));
    assert!(compared(&db, "new", "fresh", 1, 86_400_000), "the next day");
    // No count falls below nothing.
    for _ in 0..2 {
        db.execute(people::CODE_RIGHT.text, (86_400_000, "fresh")).expect("runs");
    }
    assert_eq!(wrong(&db, "fresh", 86_400_000), (0, 0));
    db.execute(people::WRONG_CODES_PURGE.text, [1]).expect("runs");
    assert_eq!((wrong(&db, "net0", 0), count(&db, "SELECT 1 FROM wrong_codes", ())), ((0, 0), 2));
}

#[test]
fn an_account_shut_out_or_of_another_person_begins_no_session() {
    let db = directory_db();
    db.execute_batch("INSERT INTO people (id, email, created_ms) VALUES ('per_a', 'a', 1), ('per_b', 'b', 1);")
        .expect("written");
    let put = |email: &str| db.execute(people::IDENTITY_PUT.text, ("github", "1", None::<&str>, "p", 5, email));
    assert_eq!((put("a"), put("b")), (Ok(1), Ok(0)), "the first link stays");
    let uses = |email: &str| db.execute(people::IDENTITY_USE.text, (6, "github", "1", email));
    assert_eq!(uses("a"), Ok(1));
    assert!(uses("b").expect_err("another person's").to_string().contains("identities.person_id"));
    assert_eq!(count(&db, people::IDENTITY_END.text, (7, "github", "1", "per_b")), 0);
    assert_eq!(count(&db, people::IDENTITY_END.text, (7, "github", "1", "per_a")), 1);
    assert_eq!(count(&db, people::IDENTITY_END.text, (8, "github", "1", "per_a")), 0, "it keeps its time");
    assert!(uses("a").expect_err("shut out").to_string().contains("identities.person_id"));
    assert_eq!(put("a"), Ok(0));
}

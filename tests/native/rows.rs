//! Rows are read or refused: of each row type, a column that is missing or holds another type is an error that names
//! the statement and the column.

use std::collections::BTreeSet;
use x402_chain::time::UnixMillis;
use x402_core::error::ErrorCode;
use x402_core::verification::claims::{BoundReference, ClaimUnit};
use x402_edge::d1::alerts::sql as alerts;
use x402_edge::d1::billing::sql as billing;
use x402_edge::d1::deletions::sql as deletions;
use x402_edge::d1::endpoints::sql as endpoints;
use x402_edge::d1::oidc::sql as oidc;
use x402_edge::d1::operation::sql as operation;
use x402_edge::d1::people::sql as people;
use x402_edge::d1::rebuild::sql as rebuild;
use x402_edge::d1::sql as directory;
use x402_edge::objects::courier::sql as courier;
use x402_edge::objects::ledger::sql as ledger;
use x402_edge::objects::meter::sql as meter;
use x402_edge::objects::records::sql as records;
use x402_edge::objects::settler::sql as settler;
use x402_edge::objects::state;
use x402_edge::storage::{FromRow, INTEGER_MAX, SqlValue, Statement};

const TENANT: &str = "ten_01a22830e24a3a1f7b1ccee9";
const KEY: &str = "key_01KB0000000000000000000000";
const ADDRESS: &str = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8";
const SETTLEMENT: &str = r#"{"id":"stl_01KB0000000000000000000000","status":"completed","reason":null,
    "network":"eip155:8453","transaction":"0x1","payer":"0xP","pay_to":"0xR","amount":"1","asset":"0xA",
    "created_at":"2026-11-29T00:00:00.000Z","completed_at":"2026-11-29T00:00:09.000Z","attempts":[],
    "handed_over":null}"#;

fn text(text: &str) -> SqlValue {
    SqlValue::Text(text.to_owned())
}

const fn int(number: i64) -> SqlValue {
    SqlValue::Integer(number)
}

/// The cause of a refused row. A caller learns nothing of it.
#[track_caller]
fn cause<T: FromRow>(statement: Statement<T>, values: &[SqlValue]) -> String {
    let Err(fault) = statement.read(values.to_vec()) else { panic!("{} reads {values:?}", statement.name) };
    assert_eq!(fault.code, ErrorCode::Internal);
    fault.cause().expect("a cause").to_owned()
}

/// The statements whose rows were checked.
#[derive(Default)]
struct Checked(BTreeSet<&'static str>);

impl Checked {
    /// Reads a good row, and refuses it with each column in turn missing or of another type. `optional` columns may be
    /// null each by itself; `bad` are values of the right type that say nothing.
    #[track_caller]
    fn row<T: FromRow>(
        &mut self,
        statements: &[Statement<T>],
        good: &[SqlValue],
        optional: &[&str],
        bad: &[(&str, SqlValue)],
    ) {
        assert_eq!(good.len(), T::COLUMNS.len());
        for statement in statements {
            self.0.insert(statement.name);
            assert!(
                statement.read(good.to_vec()).is_ok(),
                "{}: {:?}",
                statement.name,
                statement.read(good.to_vec()).err()
            );
            for (at, column) in T::COLUMNS.iter().enumerate() {
                let with = |value: SqlValue| {
                    let mut values = good.to_vec();
                    values[at] = value;
                    values
                };
                let others = [text("?"), int(-1), SqlValue::Real(0.5), SqlValue::Blob(vec![1])];
                let is_other =
                    |value: &&SqlValue| core::mem::discriminant(*value) != core::mem::discriminant(&good[at]);
                let null = (!optional.contains(column)).then_some(SqlValue::Null);
                let bad = bad.iter().filter(|(name, _)| name == column).map(|(_, value)| value.clone());
                let wrong = others.iter().filter(is_other).cloned().chain(null).chain(bad);
                for value in wrong.chain([SqlValue::Real(f64::NAN)]) {
                    let why = cause(*statement, &with(value.clone()));
                    assert!(why.contains(statement.name) && why.contains(column), "{column} {value:?}: {why}");
                }
                if optional.contains(column) {
                    assert!(statement.read(with(SqlValue::Null)).is_ok(), "{}: {column} may be null", statement.name);
                }
                // A row that ends before the column.
                let why = cause(*statement, &good[..at]);
                assert!(why.contains(column) && why.contains("missing"), "{why}");
            }
            let more = [good, &[int(1)]].concat();
            assert!(cause(*statement, &more).contains(statement.name));
        }
    }

    /// Whether every statement of these that returns rows was checked.
    fn assert_all(&self, lists: &[&[x402_edge::storage::StatementInfo]]) {
        let all = lists.iter().flat_map(|list| list.iter()).filter(|info| !info.columns.is_empty());
        let left: Vec<&str> = all.map(|info| info.name).filter(|name| !self.0.contains(name)).collect();
        assert_eq!(left, [""; 0]);
    }
}

#[test]
fn a_ledgers_rows_are_read_or_refused() {
    let mut all = Checked::default();
    let (ver, stl) = (text("ver_01KB0000000000000000000000"), text("stl_01KB0000000000000000000000"));
    let no_id = ("id", text("ver_1"));
    all.row(&[state::STATE_GET], &[text("1")], &[], &[]);
    let claim = [int(3), ver.clone(), text("order"), int(1), int(5)];
    let bad = [no_id.clone(), ("ordinal", int(-1))];
    all.row(&[ledger::CLAIMS_GET], &claim, &["ordinal", "reference", "hashed"], &bad);
    let claim = [text("eip155:8453"), text("0x1"), text(ADDRESS), int(3), text("order")];
    all.row(&[ledger::CLAIMS_AFTER, ledger::LOG_CLAIMS_AFTER], &claim, &["text"], &[]);
    let exists = [ledger::PAYER_GET, ledger::PAYER_HAS_PAID, ledger::PARKED_GET, ledger::WEBHOOKS_ANY];
    all.row(&exists, &[int(1)], &[], &[]);
    all.row(&[ledger::RECORD_GET, ledger::WATCHED_GET], &[text("{}"), int(1), text("3")], &["units"], &[]);
    all.row(&[ledger::RECORD_SIZES], &[ver.clone(), int(9)], &[], &[("bytes", int(-1))]);
    all.row(&[ledger::RECORDS_BETWEEN], &[ver.clone(), int(1), text("{}"), text("3")], &["units"], &[]);
    let idempotency = [text("hash"), int(200), text("{}"), int(5), int(6)];
    let bad = [("status", int(70_000)), ("created_ms", int(-1))];
    all.row(&[ledger::IDEMPOTENCY_GET], &idempotency, &["answer_until_ms"], &bad);
    let payment = [text("print"), text("proof"), int(5), text(SETTLEMENT), text("{}")];
    let bad = [("body", text("{}")), ("course", text("7"))];
    all.row(&[ledger::PAYMENT_GET], &payment, &["proof", "expires_ms"], &bad);
    let times = [ledger::PAYMENTS_NEXT, ledger::SETTLEMENTS_NEXT, ledger::GROUPS_NEXT];
    all.row(&times, &[int(5)], &["first_ms"], &[("first_ms", int(-1))]);
    all.row(&[ledger::IDEMPOTENCY_AT], &[text("verify"), text("key")], &[], &[]);
    all.row(&[ledger::IDENTIFIER_GET], &[text("eip155:1/0xA/0xP/0x1")], &[], &[]);
    all.row(&[ledger::SETTLEMENT_GET], &[text(SETTLEMENT), text("{}"), int(2)], &[], &bad);
    let stored = [stl.clone(), text(SETTLEMENT), text("{}"), int(2)];
    all.row(&[ledger::SETTLEMENTS_AFTER], &stored, &[], core::slice::from_ref(&no_id));
    all.row(&[ledger::SETTLEMENTS_DUE], core::slice::from_ref(&stl), &[], &[no_id]);
    let listed = [
        ledger::SETTLEMENTS_BEFORE,
        ledger::SETTLEMENTS_OPEN,
        ledger::SETTLEMENTS_OF_PAYER,
        ledger::SETTLEMENTS_OF_TRANSACTION,
        ledger::SETTLEMENTS_OF_AUTHORIZATION,
    ];
    all.row(&listed, &[stl.clone(), text(SETTLEMENT)], &[], &[]);
    all.row(&[ledger::WATCHES_GET, ledger::RECORD_AT, ledger::RECORD_NEWEST], core::slice::from_ref(&ver), &[], &[]);
    all.row(&[ledger::WATCHED_BETWEEN], &[ver.clone(), text("base")], &[], &[]);
    all.row(&[ledger::RECORDS_COUNTED], &[ver.clone(), int(1)], &[], &[("id", text("ver_1")), ("counted", int(-1))]);
    all.row(&[ledger::GROUPS_DUE], &[int(1), ver.clone()], &[], &[]);
    all.row(&[ledger::OUTBOX_COUNT], &[int(3)], &[], &[("count", int(-1))]);
    all.row(&[ledger::OUTBOX_SIZES, ledger::WEBHOOK_SIZES], &[int(1), int(9)], &[], &[("bytes", int(-1))]);
    all.row(&[ledger::WEBHOOKS_NEXT], &[text("whe_01KB0000000000000000000000")], &[], &[]);
    all.0.insert(ledger::WEBHOOKS_GET.name);
    // Neither is an event that waits for a Courier.
    for value in [text("{}"), text("?"), int(1), SqlValue::Null] {
        assert!(ledger::WEBHOOKS_GET.read([value]).expect("a row").event.is_err());
    }
    let event = r#"{"id":"evt_01KB0000000000000000000000","kind":"of.later","subject":"x","body":{},"at":1}"#;
    assert_eq!(ledger::WEBHOOKS_GET.read([text(event)]).expect("a row").event.expect("an event").kind, "of.later");
    // An entry that cannot be read is an error of its own, with its number: it holds no other up.
    for values in [[int(1), SqlValue::Blob(vec![1]), ver.clone()], [int(1), text("record"), SqlValue::Blob(vec![1])]] {
        let unread = ledger::OUTBOX_GET.read(values).expect("a number");
        let why = unread.entry.expect_err("no entry").cause().expect("a cause").to_owned();
        assert!(unread.seq == 1 && why.contains("OUTBOX_GET") && why.contains("a blob"), "{why}");
    }
    assert!(ledger::OUTBOX_GET.read([int(1), text("record"), ver.clone()]).expect("a row").entry.is_ok());
    assert!(cause(ledger::OUTBOX_GET, &[text("1"), text("record"), ver]).contains("seq"));
    all.0.insert(ledger::OUTBOX_GET.name);
    all.assert_all(&[ledger::ALL, state::ALL]);
}

#[test]
fn a_settlers_rows_are_read_or_refused() {
    let mut all = Checked::default();
    let key = text("stl_01KB0000000000000000000000/0");
    all.row(&[settler::REFUSED_GET], &[int(1)], &[], &[]);
    all.row(&[settler::PENALTY_GET], &[int(2), int(5)], &[], &[("count", int(1 << 40)), ("until_ms", int(-1))]);
    all.row(&[settler::PENALTIES_AFTER], &[text(ADDRESS), int(5)], &[], &[("payer", text("0x1"))]);
    all.row(&[settler::WATCHED_DUE], &[key.clone(), int(5)], &[], &[("since_ms", int(-1))]);
    all.row(&[settler::WATCHED_NEXT], &[int(5)], &["first_ms"], &[]);
    let (flight, sent) = (text(&flight()), text(r#"{"versions":[]}"#));
    let row = [key.clone(), int(4), flight.clone(), sent, SqlValue::Null, int(0)];
    let bad =
        [("nonce", int(-1)), ("flight", text("{}")), ("sent", text("[")), ("report", text("1")), ("told", int(2))];
    all.row(&[settler::FLIGHT_GET], &row, &["report"], &bad);
    all.row(&[settler::FLIGHTS_OPEN, settler::FLIGHTS_ENDED], core::slice::from_ref(&key), &[], &[]);
    all.row(&[settler::FLIGHTS_NONCES], &[int(4)], &[], &[("nonce", int(-1))]);
    // A flight that cannot be read is an error of its own, with the key: it holds no other up.
    let unread = settler::FLIGHTS_FLYING.read([key.clone(), text("?")]).expect("a key");
    let why = unread.flight.expect_err("no flight").cause().expect("a cause").to_owned();
    assert!(why.contains("FLIGHTS_FLYING") && why.contains("flight"), "{why}");
    assert!(settler::FLIGHTS_FLYING.read([key, flight]).expect("a row").flight.is_ok());
    assert!(cause(settler::FLIGHTS_FLYING, &[int(1), text("{}")]).contains("key"));
    all.0.insert(settler::FLIGHTS_FLYING.name);
    all.assert_all(&[settler::ALL]);
}

/// A flight as a Settler of the build before has stored it.
fn flight() -> String {
    let folder = crate::ROOT.join("tests/fixtures/state/before-migrations/do/-Settler");
    let mut found = Vec::new();
    for file in std::fs::read_dir(folder).expect("a folder") {
        let db = rusqlite::Connection::open_in_memory().expect("SQLite");
        let text = std::fs::read_to_string(file.expect("a file").path()).expect("text");
        db.execute_batch(&text).expect("the state of then");
        let flight = db.query_row("SELECT flight FROM flights LIMIT 1", [], |row| row.get::<_, String>(0));
        found.extend(flight);
    }
    found.pop().expect("a flight")
}

/// The rows of keys and of reports about them.
fn check_keys(all: &mut Checked) {
    let scopes = text(r#"["verify"]"#);
    let networks = text(r#"["203.0.113.0/24"]"#);
    let view = [
        text(KEY),
        text("test"),
        text("bearer"),
        text("a"),
        text("wxyz"),
        scopes.clone(),
        networks.clone(),
        int(1),
        int(2),
        text("key_0"),
        int(3),
        int(4),
        int(5),
    ];
    let bad = [
        ("id", text(TENANT)),
        ("environment", text("?")),
        ("kind", text("?")),
        ("scopes", text(r#"["?"]"#)),
        ("allow_list", text(r#"["?"]"#)),
    ];
    let optional = ["last_four", "expires_ms", "rotated_from", "grace_until_ms", "revoked_ms", "last_used_ms"];
    all.row(&[directory::KEYS_OF, directory::KEY_GET, directory::KEY_BY_HASH], &view, &optional, &bad);
    let changed = [directory::KEY_PUT, directory::KEY_ROTATE, directory::KEY_REVOKE, directory::REPORT_PUT];
    all.row(&[directory::ENDPOINT_DISABLE], &[int(1)], &[], &[]);
    all.row(&changed, &[int(1)], &[], &[]);
    all.row(&[directory::KEY_MAKER], &[int(1)], &[], &[]);
    let own = [text(KEY), text("a"), text(&"ab".repeat(32)), scopes, int(1), int(2), networks];
    let bad =
        [("id", text(TENANT)), ("hash", text("ab")), ("scopes", text("{}")), ("allow_list", text(r#"["1.2.3.4/33"]"#))];
    all.row(&[directory::KEYS_IN_FORCE], &own, &["expires_ms"], &bad);
    let own = [text("whe_01KB0000000000000000000000"), text(r#"["payment.*"]"#), int(3), int(4), int(1), int(2)];
    let bad = [("id", text(TENANT)), ("events", text("payment.*")), ("disabled_ms", int(-1)), ("active_ms", int(-1))];
    let times = ["disabled_ms", "active_ms", "earlier_disabled_ms", "earlier_active_ms"];
    all.row(&[directory::ENDPOINTS_OF_TENANT], &own, &times, &bad);
}

/// The rows about recipients and about what a tenant shows of itself.
fn check_recipients(all: &mut Checked) {
    let ten = text(TENANT);
    let holders = [directory::RECIPIENT_LOSER, directory::PROOF_LOSER, directory::OTHER_HOLDER];
    all.row(&holders, core::slice::from_ref(&ten), &["tenant_id"], &[("tenant_id", text("ten_1"))]);
    let children = [directory::DERIVED_PUT, directory::DERIVED_AGAIN, directory::DERIVED_OPEN];
    all.row(&children, &[int(7)], &[], &[("number", int(1 << 40))]);
    let recipient = [text("test"), text(ADDRESS), text(r#"["base-sepolia"]"#), text("erc1271"), int(1), int(2)];
    let bad = [("environment", text("?")), ("only_on", text("base"))];
    all.row(
        &[directory::RECIPIENTS_OF, directory::RECIPIENT_OF],
        &recipient,
        &["only_on", "proof", "removed_ms"],
        &bad,
    );
    let bad = [("address", text("0x1")), ("first_use", int(2)), ("only_on", text("{}"))];
    let in_force = [text(ADDRESS), int(1), text(r#"["base"]"#)];
    all.row(&[directory::RECIPIENTS_IN_FORCE], &in_force, &["only_on"], &bad);
    let proven =
        [directory::CHALLENGE_PUT, directory::CHALLENGE_USED, directory::RECIPIENT_PROVE, directory::DEFAULT_PUT_HELD];
    all.row(&proven, &[int(1)], &[], &[]);
    let changed =
        [directory::RECIPIENT_RETIRE, directory::TENANT_SETTINGS_PUT, directory::EVENTS_WAIT, directory::EVENTS_LEFT];
    all.row(&changed, &[int(1)], &[], &[]);
    let challenge = [text("https://pay.example"), int(1)];
    all.row(&[directory::CHALLENGE_TRY], &challenge, &[], &[("expires_ms", int(-1))]);
    let appearance = [text("help@ann.example"), text(r#"{"name":"Ann"}"#), text("pro")];
    let bad = [("branding", text(r#"{"name":"<b>"}"#)), ("tier", text("gold"))];
    all.row(&[directory::APPEARANCE_OF], &appearance, &["support_address", "branding"], &bad);
    all.row(&[directory::DEFAULTS_OF], &[text("base"), text(ADDRESS)], &[], &[]);
    let default = [ten.clone(), text("base"), text(ADDRESS)];
    all.row(&[directory::DEFAULTS_OF_MANY], &default, &[], &[("tenant_id", text("ten_1"))]);
}

/// The rows of the audit log and of events.
fn check_changes(all: &mut Checked) {
    let aud = text("aud_01KB0000000000000000000000");
    let (act, sub) = (text("member.invited"), text("a@b.c"));
    let row = [aud, text("key"), text(KEY), act, sub.clone(), text("viewer"), text("unknown"), text("curl"), int(1)];
    let bad = [("id", text("ver_1")), ("actor_kind", text("?")), ("created_ms", int(-1))];
    all.row(&[directory::AUDIT_OF], &row, &["detail", "user_agent"], &bad);
    let evt = text("evt_01KB0000000000000000000000");
    let row = [evt, text(TENANT), text("live"), text("member.invited"), sub, text("{}"), int(1)];
    all.row(&[directory::EVENTS_UNSHIPPED, directory::EVENTS_UNHEARD], &row, &[], &[("created_ms", int(-1))]);
    // An event of another form is an error of its own, with its id, and one of another kind is an event: neither holds others
    // up.
    let with = |at: usize, value: &str| {
        let mut values = row.to_vec();
        values[at] = text(value);
        directory::EVENTS_UNSHIPPED.read(values).expect("an id")
    };
    for (at, other) in [(0, "aud_1"), (1, "ten_1"), (2, "?"), (5, "{")] {
        let unread = with(at, other);
        assert!(unread.event.is_err() && (at == 0 || unread.id.starts_with("evt_")), "{other}");
    }
    for kind in ["member.invited", "sso.updated"] {
        let (_, event) = with(3, kind).event.expect("an event");
        assert_eq!(event.kind, kind);
    }
    let row = [text(TENANT), int(7), text(TENANT), int(2), text("weur")];
    let bad = [("owner", text("ten_1")), ("last", int(-1)), ("id", text("ten_1")), ("version", int(-1))];
    all.row(&[directory::TENANTS_TO_LOAD], &row, &["id", "version", "region"], &bad);
}

#[test]
fn rows_of_the_directory_are_read_or_refused() {
    let mut all = Checked::default();
    let ten = text(TENANT);
    let no_tenant = |column: &'static str| (column, text("ten_1"));
    all.row(&[directory::PING], &[int(1)], &[], &[]);
    let tenant = [
        ten.clone(),
        text("a@b.c"),
        text("A"),
        text("free"),
        text("active"),
        text("weur"),
        text("{}"),
        text("refuse"),
        int(0),
        int(1),
        int(5),
        text("billing"),
    ];
    let bad = [
        no_tenant("id"),
        ("tier_by", text("?")),
        ("tier", text("?")),
        ("status", text("?")),
        ("limits", text("?")),
        ("sanctions", text("?")),
        ("explain", int(2)),
        ("version", int(-1)),
        ("created_ms", int(-1)),
    ];
    all.row(&[directory::TENANT_GET, directory::TENANTS_BEFORE], &tenant, &["company_name", "region"], &bad);
    check_keys(&mut all);
    check_recipients(&mut all);
    all.row(&[directory::RECORD_GET], &[text("{}")], &[], &[]);
    all.row(&[directory::RECORDS_BEFORE, directory::SETTLEMENTS_BEFORE], &[text("ver_1"), text("{}")], &[], &[]);
    let total = [int(3_600_000), text("base"), text("confirmed"), int(2), text("3000000"), int(4)];
    all.row(&[directory::ROLLUPS_OF_DAY], &total, &[], &[("amount", text("1.5")), ("count", int(-1))]);
    let bad = [("tenant_id", text("ten_1")), ("environment", text("prod"))];
    all.row(&[directory::USAGE_OPEN], &[ten.clone(), text("test"), text("2026-11")], &[], &bad);
    check_changes(&mut all);
    all.row(&[directory::STUCK_GET], &[text("base"), int(1)], &[], &[("number", int(-1))]);
    all.row(&[directory::CHECKS_GET], &[text("base"), text("passed")], &[], &[("outcome", text("Passed"))]);
    all.assert_all(&[directory::ALL]);
}

/// The rows that operators read.
fn check_operators(all: &mut Checked) {
    let changed = [people::SESSIONS_END_COUNTED, people::MAIL_REPEAT, people::MARK_REMOVE];
    all.row(&changed, &[int(1)], &[], &[]);
    let per = text("per_01KB0000000000000000000000");
    all.row(&[people::PERSON_FIND], &[per, text("a@b.c")], &[], &[("id", text("per_1"))]);
    let no_tenant = ("tenant_id", text("ten_1"));
    let row = [text("a@b.c"), text(TENANT)];
    all.row(&[people::MAIL_TO_REPEAT], &row, &["tenant_id"], core::slice::from_ref(&no_tenant));
    let found = [
        people::FOUND_OWNERS,
        people::FOUND_MAILS,
        people::FOUND_RECIPIENTS,
        people::FOUND_PAYMENTS,
        people::FOUND_TRANSACTIONS,
    ];
    let row = [text("recipient"), text(ADDRESS), text(TENANT), text("live"), text("held"), int(1)];
    let bad = [no_tenant, ("kind", text("?")), ("environment", text("?")), ("created_ms", int(-1))];
    all.row(&found, &row, &["tenant_id", "environment", "state"], &bad);
}

/// The rows about accounts of other services.
fn check_identities(all: &mut Checked) {
    all.row(&[people::IDENTITY_END], &[int(1)], &[], &[]);
    all.row(&[people::IDENTITY_GET], &[text("a@b.c"), int(0)], &[], &[("is_ended", int(2))]);
    let [provider, subject, name, from] = ["github", "1", "octocat", "unknown"].map(text);
    let bad = [("provider", text("gitlab")), ("created_ms", int(-1))];
    let own = [provider, subject, name, from, int(1), int(2), int(3)];
    all.row(&[people::IDENTITIES_OF], &own, &["name", "used_ms", "ended_ms"], &bad);
    let [provider, subject, name, from, at, ..] = own;
    let mail = [text("a@b.c"), text("https://x.test"), provider, subject, name, from, at];
    all.row(&[people::IDENTITY_MAIL_GET], &mail, &["name"], &bad);
}

/// The rows about invitations.
fn check_invitations(all: &mut Checked) {
    let ten = text(TENANT);
    let (no_id, no_tenant) = (("id", text("ver_1")), ("tenant_id", text("ten_1")));
    let inv = text("inv_01KB0000000000000000000000");
    let bad = [no_id.clone(), ("role", text("?")), ("expires_ms", int(-1))];
    all.row(&[people::INVITATIONS_OF], &[inv.clone(), text("a@b.c"), text("owner"), int(1), int(2)], &[], &bad);
    let bad = [
        no_id.clone(),
        no_tenant.clone(),
        ("role", text("?")),
        ("has_account", int(2)),
        ("status", text("?")),
        ("members", int(-1)),
    ];
    let open = [inv.clone(), ten.clone(), text("a@b.c"), text("owner"), int(1), text("active"), int(2)];
    all.row(&[people::INVITATION_MAIL_AGAIN], &[int(1)], &[], &[]);
    all.row(&[people::INVITATION_BY_TOKEN], &open, &[], &bad);
    let row =
        [text("a@b.c"), text("https://x.test"), inv, text("viewer"), text("ab"), int(5), ten.clone(), text("c@d.e")];
    let bad = [no_id.clone(), ("role", text("?")), ("expires_ms", int(-1)), no_tenant.clone()];
    all.row(&[people::INVITATION_MAIL_GET], &row, &[], &bad);
}

#[test]
fn rows_of_people_are_read_or_refused() {
    let mut all = Checked::default();
    let [ten, per, ses, sgn, mail] = ["ten_01a22830e24a3a1f7b1ccee9", "per_", "ses_", "sgn_", "mail_"].map(|prefix| {
        text(&if prefix.len() > 5 { prefix.to_owned() } else { format!("{prefix}01KB0000000000000000000000") })
    });
    all.row(&[people::OAUTH_PUT, people::OAUTH_USE], &[int(1)], &[], &[]);
    all.row(&[people::WRONG_CODES_GET], &[int(1), int(2)], &[], &[("of_prefix", int(-1)), ("of_all", int(-1))]);
    check_identities(&mut all);
    all.row(&[people::SIGN_IN_PUT, people::SESSION_END_OWN, people::SESSION_SWITCH], &[int(1)], &[], &[]);
    all.row(&[people::SIGN_IN_REFUSED_BY_DAY], &[int(1)], &[], &[("created_ms", int(-1))]);
    let no_id = ("id", text("ver_1"));
    let open = [sgn.clone(), text("ab"), text("a@b.c"), text("signup"), text("A")];
    let bad = [no_id.clone(), ("intent", text("SignUp"))];
    all.row(&[people::SIGN_IN_BY_TOKEN, people::SIGN_IN_TRY], &open, &["company_name"], &bad);
    let no_tenant = |column: &'static str| (column, text("ten_1"));
    let bad = [no_tenant("tenant_id"), ("role", text("admin"))];
    all.row(&[people::MEMBERSHIPS_OF], &[ten.clone(), text("owner"), text("A")], &["company_name"], &bad);
    all.row(&[people::UNOWNED_TENANT, people::CONTACT_LEFT], core::slice::from_ref(&ten), &[], &[no_tenant("id")]);
    let changed = [people::MEMBER_ROLE, people::MEMBER_REMOVE, people::INVITATION_PUT, people::INVITATION_REVOKE];
    all.row(&changed, &[int(1)], &[], &[]);
    let bad = [("person_id", text("per_1")), ("role", text("?")), ("created_ms", int(-1))];
    all.row(&[people::MEMBERS_OF], &[per.clone(), text("a@b.c"), text("owner"), int(1)], &[], &bad);
    check_invitations(&mut all);
    let claimed = [text("invitation"), int(1), int(2), int(0)];
    let bad = [("kind", text("?")), ("tries", int(-1)), ("created_ms", int(-1)), ("is_marked", int(2))];
    all.row(&[people::MAIL_CLAIM], &claimed, &[], &bad);
    let own = [ses.clone(), ten.clone(), text("unknown"), text("curl"), int(1), int(2), int(3)];
    let bad = [no_id.clone(), no_tenant("tenant_id"), ("seen_ms", int(-1))];
    all.row(&[people::SESSIONS_OF], &own, &["user_agent"], &bad);
    let names = [ses, per, text("a@b.c"), ten, text("A")];
    let states = [text("free"), text("active"), int(9), text("viewer")];
    let session = [&names[..], &states, &[int(1), int(2), int(3), int(0)]].concat();
    let bad = [
        ("only_tenant", int(2)),
        no_id.clone(),
        ("person_id", text("per_1")),
        no_tenant("tenant_id"),
        ("tier", text("?")),
        ("status", text("?")),
        ("role", text("?")),
        ("created_ms", int(-1)),
        ("seen_ms", int(-1)),
        ("expires_ms", int(-1)),
    ];
    all.row(&[people::SESSION_GET], &session, &["company_name", "due_ms"], &bad);
    let row = [text("a@b.c"), text("https://x.test"), sgn, text("login"), text("ab"), int(5), int(1)];
    let bad = [no_id.clone(), ("intent", text("?")), ("expires_ms", int(-1)), ("is_known", int(2))];
    all.row(&[people::SIGN_IN_MAIL_GET], &row, &[], &bad);
    all.row(&[people::MAILS_LOST], core::slice::from_ref(&mail), &[], &[no_id]);
    let row = [mail, text("a@b.c"), text("S"), text("T"), text("<p>"), int(5)];
    all.row(&[people::MAILBOX_GET], &row, &[], &[("mail_id", text("mail_1")), ("created_ms", int(-1))]);
    check_operators(&mut all);
    all.assert_all(&[people::ALL]);
}

#[test]
fn rows_of_identity_providers_are_read_or_refused() {
    let mut all = Checked::default();
    let texts = ["corp.example", "https://idp.example", "c", "v1.a.b", "viewer", "token"].map(text);
    let rest = [int(1), int(2), int(3), text("enterprise"), text("active"), int(4)];
    let row = [&[text(TENANT)][..], &texts, &rest].concat();
    let bad = [
        ("tenant_id", text("ten_1")),
        ("domain", text("localhost")),
        ("default_role", text("?")),
        ("proven_ms", int(-1)),
        ("updated_ms", int(-1)),
        ("tier", text("?")),
        ("status", text("?")),
    ];
    all.row(&[oidc::OIDC_GET, oidc::OIDC_OF_DOMAIN], &row, &["proven_ms", "checked_ms", "due_ms"], &bad);
    all.row(&[oidc::OIDC_PUT, oidc::OIDC_REMOVE, oidc::OIDC_PROVE], &[int(1)], &[], &[]);
    all.assert_all(&[oidc::ALL]);
}

#[test]
fn rows_of_alerts_are_read_or_refused() {
    let mut all = Checked::default();
    let ten = text(TENANT);
    let no_tenant = ("tenant_id", text("ten_1"));
    let waiting = [ten.clone(), text("quota.warning"), int(1), int(2), int(3)];
    let bad = [no_tenant.clone(), ("oldest_ms", int(-1)), ("last_ms", int(-1)), ("in_day", int(-1))];
    all.row(&[alerts::ALERTS_WAITING], &waiting, &["last_ms"], &bad);
    // A kind of another build waits for it.
    let [ten, _, rest @ ..] = waiting;
    let other = alerts::ALERTS_WAITING.read([&[ten.clone(), text("quota.doubled")][..], &rest].concat());
    assert!(other.is_ok_and(|row| row.waiting.is_none()));
    let event = text("evt_01KB0000000000000000000000");
    all.row(&[alerts::ALERTS_COUNT], &[int(1), event], &[], &[("number", int(-1)), ("newest", text("evt_1"))]);
    all.row(&[alerts::ALERTS_OF], &[text("2026-11"), text("{}")], &[], &[]);
    let settings = [int(1), text("v1.a.b"), text("hooks.slack.com")];
    all.row(&[alerts::ALERT_SETTINGS], &settings, &["alert_url", "alert_host"], &[("alert_mails", int(2))]);
    all.row(&[alerts::ALERT_RECIPIENTS], &[text("a@b.c")], &[], &[]);
    let mail = [text("a@b.c"), text("https://x.test"), ten.clone(), text("operator"), text("one")];
    let bad = [no_tenant.clone(), ("kind", text("quota.reset"))];
    all.row(&[alerts::NOTICE_MAIL_GET], &mail, &["tenant_id"], &bad);
    let notice = [text("ntc_01KB0000000000000000000000"), ten.clone(), text("quota.warning"), text("one"), int(0)];
    let bad = [("id", text("ntc_1")), no_tenant.clone(), ("kind", text("?")), ("post_tries", int(-1))];
    all.row(&[alerts::NOTICES_TO_POST, alerts::OPERATOR_NOTICES_TO_POST], &notice, &["tenant_id"], &bad);
    let key = [text(KEY), ten, text("live"), int(1)];
    let bad = [("id", text("key_1")), no_tenant, ("environment", text("?")), ("expires_ms", int(-1))];
    all.row(&[alerts::KEYS_EXPIRING], &key, &[], &bad);
    all.row(&[alerts::NOTICE_POST_BEGIN, alerts::KEY_EXPIRING_NOTE], &[int(1)], &[], &[]);
    let kept = [text("signer_low"), text("base 0x1"), text("x"), int(1), int(2), int(3)];
    let bad = [("first_ms", int(-1)), ("began_ms", int(-1))];
    all.row(&[alerts::OPERATOR_ALERTS], &kept, &["began_ms", "notified_ms"], &bad);
    all.row(&[alerts::CHECKS_CHANGED], &[int(1)], &[], &[("changed_ms", int(-1))]);
    all.row(&[alerts::HOUR_RESULTS], &[int(1), int(2)], &[], &[("faults", int(-1)), ("answered", int(-1))]);
    all.assert_all(&[alerts::ALL]);
}

#[test]
fn rows_of_webhook_endpoints_are_read_or_refused() {
    let mut all = Checked::default();
    let row = [
        text("whe_01KB0000000000000000000000"),
        text("live"),
        text("https://shop.example/"),
        text(r#"["payment.*"]"#),
        text("shop"),
        text("disabled"),
        text("gone"),
        int(1),
        int(4),
        int(2),
        int(3),
    ];
    let bad = [
        ("id", text(TENANT)),
        ("environment", text("?")),
        ("events", text("payment.*")),
        ("status", text("?")),
        ("previous_until_ms", int(-1)),
    ];
    let null = ["description", "disabled_reason", "previous_until_ms", "secret_lost_ms"];
    all.row(&[endpoints::ENDPOINTS_OF, endpoints::ENDPOINT_GET], &row, &null, &bad);
    let row = [
        text(TENANT),
        text("test"),
        text("https://shop.example/"),
        text("active"),
        text("v1.a.b"),
        text("v1.c.d"),
        int(1),
        int(2),
        text("free"),
        text("active"),
    ];
    let bad = [
        ("tenant_id", text(KEY)),
        ("environment", text("?")),
        ("status", text("?")),
        ("previous_until_ms", int(-1)),
        ("tier", text("?")),
        ("tenant_status", text("?")),
    ];
    let null = ["previous_sealed", "previous_until_ms", "secret_lost_ms"];
    all.row(&[endpoints::ENDPOINT_TARGET], &row, &null, &bad);
    all.row(&[endpoints::SECRETS_LOST], &[int(2), text("whe_1")], &["first"], &[("count", int(-1))]);
    let target = |tier: &str, status: &str| {
        let mut row = row.clone();
        [row[8], row[9]] = [text(tier), text(status)];
        endpoints::ENDPOINT_TARGET.read(row).expect("a row").may_deliver()
    };
    assert!(target("starter", "active") && !target("starter", "suspended") && !target("free", "active"));
    let changes = [endpoints::ENDPOINT_PUT, endpoints::ENDPOINT_PATCH, endpoints::ENDPOINT_ROTATE];
    all.row(&changes, &[int(1)], &[], &[]);
    all.row(&[endpoints::ENDPOINT_REMOVE], &[int(1)], &[], &[]);
    let removed = [text("whe_01KB0000000000000000000000")];
    all.row(&[endpoints::REMOVED_ENDPOINTS], &removed, &[], &[("id", text(TENANT))]);
    all.assert_all(&[endpoints::ALL]);
}

#[test]
fn rows_of_billing_are_read_or_refused() {
    let mut all = Checked::default();
    let state = text(
        r#"{"subscription":"sub_1","status":"active","plan":"pro","price":"price_1","item":"si_1","trial_end":null,
        "period_start":1,"period_end":2,"cancel_at":null,"schedule":null,"next_plan":null}"#,
    );
    let row = [
        text(TENANT),
        text("cus_1"),
        state,
        int(1),
        int(2),
        int(3),
        int(4),
        int(5),
        text("past_due 2 0"),
        int(6),
        text("00"),
        text("sub_0"),
    ];
    let bad = [
        ("tenant_id", text("ten_1")),
        ("state", text("{}")),
        ("trial_used", int(2)),
        ("past_due_ms", int(-1)),
        ("ticket", int(-1)),
        ("due_ms", int(-1)),
    ];
    let statements = [billing::BILLING_GET, billing::BILLING_OF, billing::BILLING_TICKET];
    let absent = ["customer_id", "state", "past_due_ms", "due_ms", "due_done", "customer_told", "surplus_told"];
    all.row(&statements, &row, &absent, &bad);
    all.row(&[billing::SURPLUS_TOLD], &[int(1)], &[], &[]);
    let standing = [text("a@b.c"), text("A"), text("active"), text("billing"), int(0)];
    let bad = [("status", text("?")), ("tier_by", text("?")), ("is_deleting", int(2))];
    all.row(&[billing::STANDING], &standing, &["company_name"], &bad);
    all.row(&[billing::UNPAID_TIERS], &[text(TENANT), text("pro")], &[], &[("id", text("ten_1")), ("tier", text("?"))]);
    all.row(&[billing::CUSTOMERS_HELD], &[text("cus_1")], &[], &[]);
    all.row(&[billing::BILLING_STATE, billing::TIER_FOLLOWS, billing::STRIPE_EVENT_KNOWN], &[int(1)], &[], &[]);
    let bad = [("attempt", int(-1)), ("is_repeat", int(2))];
    all.row(&[billing::OPERATION_BEGIN], &[int(7), int(0)], &[], &bad);
    all.row(&[billing::BILLING_CUSTOMER], &[text("cus_1")], &[], &[]);
    let no_tenant = ("tenant_id", text("ten_1"));
    all.row(&[billing::BILLING_DUE], &[text(TENANT), int(1)], &[], &[no_tenant.clone(), ("due_ms", int(-1))]);
    all.row(&[billing::BILLED_AFTER, billing::BILLED_STALE], &[text(TENANT)], &[], core::slice::from_ref(&no_tenant));
    all.row(&[billing::UNKNOWN_PRICES], &[text(TENANT), text("price_1")], &[], &[no_tenant]);
    let held = [text(r#"["polygon","base","sepolia"]"#), int(2), int(1), int(0)];
    all.row(&[billing::HOLDINGS], &held, &[], &[("chains", text("{}")), ("branding", int(2)), ("oidc", int(2))]);
    // Of live alone, in order.
    let read = billing::HOLDINGS.read(held).expect("a row").0;
    assert_eq!((read.chains, read.webhook_endpoints), (vec!["base".to_owned(), "polygon".to_owned()], 2));
    all.assert_all(&[billing::ALL]);
}

#[test]
fn rows_of_operation_are_read_or_refused() {
    let mut all = Checked::default();
    let bad = [("tier", text("?")), ("tenants", int(-1)), ("used", int(-1))];
    all.row(&[operation::TIER_USAGE], &[text("pro"), int(2), int(700)], &[], &bad);
    let bad = [("kind", text("?")), ("began_ms", int(-1)), ("ended_ms", int(-1))];
    let row = [text("chain_unreachable"), text("base"), int(1), int(2)];
    all.row(&[operation::INCIDENTS_SINCE], &row, &["ended_ms"], &bad);
    let row = [
        text("base"),
        text("0xAb"),
        int(86_400_000),
        text("340282366920938463463374607431768211455"),
        text("7"),
        int(5),
    ];
    let bad = [("held", text("-1")), ("spent", text("1.5")), ("day_ms", int(-1)), ("at_ms", int(-1))];
    all.row(&[operation::SIGNER_BALANCES], &row, &[], &bad);
    all.assert_all(&[operation::ALL]);
}

#[test]
fn rows_of_a_rebuild_are_read_or_refused() {
    let mut all = Checked::default();
    all.row(&[rebuild::LEDGER_USED], &[int(1)], &[], &[]);
    let lost = [text(TENANT), text("live")];
    all.row(&[rebuild::LOST_LEDGERS], &lost, &[], &[("tenant_id", text("ten_1")), ("environment", text("?"))]);
    let kept = [text("stl_01KB0000000000000000000000"), text("{}"), text("{}"), int(1)];
    all.row(&[rebuild::SETTLEMENTS_KEPT], &kept, &["course"], &[("id", text("stl_1"))]);
    let bad = [("period", text("2026")), ("verifications", int(-1)), ("requests", int(-1))];
    all.row(&[rebuild::USAGE_OF], &[text("2026-11"), int(1), int(2)], &[], &bad);
    all.assert_all(&[rebuild::ALL]);
}

#[test]
fn the_rows_of_a_meter_are_read_or_refused() {
    let mut all = Checked::default();
    all.row(&[meter::SEQUENCE_GET], &[int(3)], &[], &[("sequence", int(-1))]);
    let counts = r#"{"counters":{"x402_errors_total":{"code=\"A\"":2}}}"#;
    let bad = [("body", text(&counts.replace('2', "-2")))];
    all.row(&[meter::SPAN_GET, meter::SPANS_FROM], &[text(counts)], &[], &bad);
    let bad = [("queue", text("?")), ("entries", int(-1)), ("at_ms", int(-1))];
    all.row(&[meter::DEPTHS_GET], &[text("outbox"), text("ten_1:live"), int(3), int(9)], &[], &bad);
    all.assert_all(&[meter::ALL]);
}

#[test]
fn rows_of_deletions_are_read_or_refused() {
    let mut all = Checked::default();
    let ends = [deletions::DELETION_ASK, deletions::DELETION_CONFIRM, deletions::DELETION_UNDO];
    all.row(&ends, &[int(1)], &[], &[]);
    all.row(&[deletions::ERASURE_BEGIN, deletions::ERASURE_END], &[int(1)], &[], &[]);
    let bad = [("expires_ms", int(-1)), ("due_ms", int(-1)), ("erasing_ms", int(-1))];
    let row = [text("ab"), int(1), int(2), int(3)];
    all.row(&[deletions::DELETION_GET], &row, &["due_ms", "erasing_ms"], &bad);
    let bad = [("tenant_id", text("ten_1")), ("due_ms", int(-1))];
    all.row(
        &[deletions::DELETIONS_OPEN, deletions::DELETIONS_LATE],
        &[text(TENANT), int(2), int(3)],
        &["erasing_ms"],
        &bad,
    );
    let per = text("per_01KB0000000000000000000000");
    all.row(&[deletions::ERASED_MEMBERS], &[per], &[], &[("person_id", text("per_1"))]);
    let del = text("del_01KB0000000000000000000000");
    let row = [text("a@b.c"), text("https://x.test"), del, text(TENANT), text("ab"), int(5)];
    let bad = [("id", text("ver_1")), ("tenant_id", text("ten_1")), ("expires_ms", int(-1))];
    all.row(&[deletions::DELETION_MAIL_GET], &row, &[], &bad);
    all.assert_all(&[deletions::ALL]);
}

#[test]
fn the_rows_of_a_courier_are_read_or_refused() {
    let mut all = Checked::default();
    let evt = text("evt_01KB0000000000000000000000");
    all.row(&[courier::TABLES_GET, courier::DELIVERY_PUT], &[int(1)], &[], &[]);
    let due = [evt.clone(), text("ver_1"), int(2), int(1)];
    all.row(&[courier::DELIVERIES_DUE], &due, &[], &[("event_id", text("ver_1")), ("attempts", int(-1))]);
    all.row(
        &[courier::NEXT_DUE, courier::FIRST_END, courier::LAST_END],
        &[int(5)],
        &["first_ms"],
        &[("first_ms", int(-1))],
    );
    all.row(&[courier::MESSAGE_GET], &[SqlValue::Blob(vec![1, 0])], &[], &[]);
    all.row(&[courier::DELIVERY_END, courier::DELIVERY_REOPEN], &[text("ver_1")], &[], &[]);
    let ids = [courier::EXHAUSTED_FROM, courier::ENDED_BEFORE, courier::DUE_BEFORE];
    all.row(&ids, core::slice::from_ref(&evt), &[], &[("event_id", text("evt_1"))]);
    let row = [evt, text("payment.finalized"), text("ver_1"), text("waiting"), int(2), int(7), int(8)];
    let bad = [("state", text("?")), ("attempts", int(-1)), ("due_ms", int(-1)), ("event_id", text("evt_1"))];
    all.row(&[courier::DELIVERIES_BEFORE, courier::DELIVERY_GET], &row, &["due_ms", "ended_ms"], &bad);
    let row = [int(1), int(2), int(200), text("timed_out"), text("ok")];
    let bad = [("at_ms", int(-1)), ("status", int(65_536))];
    all.row(&[courier::ATTEMPTS_GET], &row, &["duration_ms", "status", "failure"], &bad);
    let counts = [courier::WAITING_COUNT, courier::EXHAUSTED_COUNT, courier::TRIED_GET];
    all.row(&counts, &[int(3)], &[], &[("count", int(-1))]);
    all.assert_all(&[courier::ALL]);
}

#[test]
fn the_rows_of_a_month_are_read_or_refused() {
    let mut all = Checked::default();
    let ver = text("ver_01KB0000000000000000000000");
    all.row(&[records::TABLES_GET], &[int(1)], &[], &[]);
    let members = [records::RECORD_GET, records::RECORDS_BETWEEN, records::EVENTS_BETWEEN, records::EVENT_GET];
    all.row(&members, &[ver.clone(), SqlValue::Blob(vec![31, 139])], &[], &[]);
    let sizes = [records::SIZES_BEFORE, records::RECORD_SIZES, records::EVENT_SIZES];
    all.row(&sizes, &[ver.clone(), int(9)], &[], &[("size", int(-1))]);
    let evt = text("evt_01KB0000000000000000000000");
    let event = [evt, int(9), text("payment.finalized"), ver.clone()];
    let bad = [("id", text("ver_1")), ("size", int(-1))];
    all.row(&[records::EVENTS_BEFORE], &event, &["kind", "subject"], &bad);
    all.row(&[records::OUTCOMES_BEFORE], &[ver.clone(), int(9), text("confirmed")], &[], &bad);
    let share = [ver, int(1), text("base"), text("confirmed"), text("1500000"), SqlValue::Blob(vec![1])];
    all.row(&[records::SHARES_GET], &share, &[], &[("amount", text("1.5"))]);
    all.row(&[records::COUNTS_GET], &[int(1), int(2)], &[], &[("records", int(-1))]);
    let total = [int(3_600_000), text("base"), text("confirmed"), int(2), text("3000000"), int(4)];
    let bad = [("amount", text("-1")), ("count", int(-1)), ("hour_ms", int(-1))];
    all.row(&[records::TOTAL_GET, records::TOTALS_BETWEEN, records::TOTALS_CHANGED], &total, &[], &bad);
    let day = r#"{"latency":{"23":{"111":2}},"payers":{"0xA":{"amount":"7","count":1}}}"#;
    all.row(&[records::DAY_GET], &[text(day)], &[], &[("body", text(&day.replace("23", "x")))]);
    let stl = text("stl_01KB0000000000000000000000");
    let settlement = [stl, int(1), text("eip155:8453"), text("completed"), text("7")];
    all.row(&[records::SETTLEMENT_GET], &settlement, &[], &[("id", text("ver_1")), ("amount", text("-7"))]);
    all.assert_all(&[records::ALL]);
}

#[test]
fn columns_that_are_null_together_are_refused_alone() {
    let idempotency = |status: SqlValue, body: SqlValue| [text("hash"), status, body, int(5), SqlValue::Null];
    let read = ledger::IDEMPOTENCY_GET.read(idempotency(SqlValue::Null, SqlValue::Null)).expect("no answer yet");
    assert_eq!((read.answer, read.answer_until), (None, None));
    for (status, body) in [(int(200), SqlValue::Null), (SqlValue::Null, text("{}"))] {
        assert!(cause(ledger::IDEMPOTENCY_GET, &idempotency(status, body)).contains("column body"));
    }
    let payment = |body: SqlValue, course: SqlValue| [text("print"), SqlValue::Null, SqlValue::Null, body, course];
    let read = ledger::PAYMENT_GET.read(payment(SqlValue::Null, SqlValue::Null)).expect("no settlement");
    assert!(read.settlement_record.is_none());
    for (body, course) in [(text(SETTLEMENT), SqlValue::Null), (SqlValue::Null, text("{}"))] {
        assert!(cause(ledger::PAYMENT_GET, &payment(body, course)).contains("column course"));
    }
}

#[test]
fn rows_are_read_as_what_they_say() {
    let ver = text("ver_01KB0000000000000000000000");
    let null = SqlValue::Null;
    let claim = ledger::CLAIMS_GET.read([int(3), ver.clone(), null.clone(), null.clone(), int(5)]).expect("a claim");
    assert_eq!((claim.unit, claim.prior.reference, claim.prior.at), (ClaimUnit::Log(3), None, UnixMillis(5)));
    for (hashed, bound) in [(null.clone(), BoundReference::Text as fn(_) -> _), (int(1), BoundReference::Hash)] {
        let claim =
            ledger::CLAIMS_GET.read([null.clone(), ver.clone(), text("order"), hashed, int(5)]).expect("a claim");
        assert_eq!((claim.unit, claim.prior.reference), (ClaimUnit::Whole, Some(bound("order".to_owned()))));
    }
    // A time beyond JavaScript's integers, as an older build wrote the end of an endless `validBefore`.
    let far = ledger::PAYMENTS_NEXT.read([SqlValue::Real(9.3e18)]).expect("a time");
    assert_eq!(far.0, Some(UnixMillis(INTEGER_MAX.unsigned_abs())));
    // An entry of a kind that this build does not know leaves those beside it to be read.
    let row = ledger::OUTBOX_GET.read([int(1), text("webhook"), text("{}")]).expect("a row");
    assert!(row.entry.expect_err("unknown").cause().is_some_and(|cause| cause.contains("webhook")));
    // A statement that writes returns nothing, and its name is in the error if it does.
    assert!(cause(ledger::RECORD_PUT, &[]).contains(ledger::RECORD_PUT.name));
}

/// D1 gives a row as an object, which `serde` reads.
#[test]
fn every_type_of_value_is_read_of_an_object() {
    let row = r#"{"null":null,"zero":0,"large":9007199254740991,"less":-1,"half":0.5,"text":"7","blob":[1,255]}"#;
    let row: std::collections::BTreeMap<String, SqlValue> = serde_json::from_str(row).expect("values");
    let blob = SqlValue::Blob(vec![1, 255]);
    let values = [blob, SqlValue::Real(0.5), int(INTEGER_MAX), int(-1), SqlValue::Null, text("7"), int(0)];
    assert!(row.into_values().eq(values));
}

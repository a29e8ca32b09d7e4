//! SQL is constant, its values are bound, and what belongs to a tenant is asked for with that tenant.

use crate::schema::directory_db;
use crate::tidy::sources;
use std::collections::{BTreeMap, BTreeSet};
use syn::visit::{self, Visit};
use x402_edge::storage::StatementInfo;

/// Every statement of the directory.
fn directory_statements() -> Vec<StatementInfo> {
    use x402_edge::d1;
    let all = [
        d1::sql::ALL,
        d1::alerts::sql::ALL,
        d1::billing::sql::ALL,
        d1::deletions::sql::ALL,
        d1::endpoints::sql::ALL,
        d1::oidc::sql::ALL,
        d1::operation::sql::ALL,
        d1::people::sql::ALL,
    ];
    all.concat()
}

/// Statements about tenants' rows that bind no tenant, or may do without: why each is safe, and which.
const WITHOUT_TENANT: &[(&str, &str)] = &[
    (
        "timed jobs and queues, for all tenants: no request names what they read or change",
        "EVENTS_NOTE EVENTS_HEARD EVENTS_PURGE EVENTS_UNSHIPPED EVENTS_UNHEARD TENANTS_TO_LOAD \
         CHALLENGES_PURGE USAGE_OPEN ALERTS_WAITING NOTICES_TO_POST OPERATOR_NOTICES_TO_POST NOTICES_PURGE \
         ALERTS_PURGE KEYS_EXPIRING OPERATOR_NOTICE_PUT HOUR_RESULTS BILLING_DUE BILLED_AFTER BILLED_STALE \
         UNPAID_TIERS CUSTOMERS_HELD UNKNOWN_PRICES DELETIONS_OPEN DELETIONS_LATE SECRETS_LOST TIER_USAGE \
         SESSIONS_PURGE INVITATIONS_PURGE",
    ),
    (
        "a timed job or a queue works on the one row whose id it was given by one of those",
        "NOTICE_POST_BEGIN NOTICE_POSTED NOTICE_POST_END NOTICE_MAIL_GET DELETION_MAIL_GET \
         INVITATION_MAIL_GET SIGN_IN_MAIL_GET",
    ),
    (
        "the batch before it has found or written the row for the tenant; this one names that row",
        "NOTICE_MAIL_PUT DELETION_MAIL_PUT INVITATION_MAIL_PUT INVITATION_MAIL_AGAIN DERIVED_DONE \
         CHALLENGE_USE",
    ),
    (
        "the object of one endpoint, which the ledger of its tenant has called by its id",
        "ENDPOINT_DISABLE ENDPOINT_TARGET SECRET_LOST",
    ),
    (
        "an address is one tenant's: whose it was is asked, to take it from him, and the answer says no more than that it is taken",
        "RECIPIENT_LOSER RECIPIENT_LOSER_TOUCH PROOF_LOSER PROOF_LOSER_TOUCH OTHER_HOLDER",
    ),
    ("Stripe's customer names the tenant, in events that Stripe has signed", "BILLING_OF READ_WANTED_OF"),
    ("binds the tenant as the id of its row in `tenants`", "STANDING HOLDINGS CONTACT_MOVE"),
    (
        "a person's own rows, in whichever tenants: bound by the person, the address that was proven, or the hash of a secret",
        "MEMBERSHIPS_OF UNOWNED_TENANT CONTACT_LEFT SESSION_GET SESSION_SEEN SESSION_END SESSIONS_OF \
         SESSION_END_OWN SESSIONS_END SESSIONS_END_COUNTED SESSION_REPLACED INVITATION_BY_TOKEN \
         INVITATION_ACCEPT",
    ),
    (
        "erases people who are in no tenant any more",
        "PEOPLE_MAILBOX_ERASE PEOPLE_MAILS_ERASE PEOPLE_SIGN_INS_ERASE PEOPLE_MARKS_ERASE \
         PEOPLE_IDENTITIES_ERASE PEOPLE_SESSIONS_ERASE PEOPLE_ERASE",
    ),
    (
        "whoever signs in there is sent to the provider of a proven domain: which tenant has proven it is public",
        "OIDC_OF_DOMAIN",
    ),
    (
        "operators see all tenants",
        "DEFAULTS_OF_MANY FOUND_OWNERS FOUND_MAILS FOUND_RECIPIENTS FOUND_PAYMENTS FOUND_TRANSACTIONS \
         MAIL_TO_REPEAT MAIL_REPEAT",
    ),
];

/// The words of a statement: names, numbers and parameters; each other character by itself.
fn words(text: &str) -> Vec<String> {
    let (mut all, mut word) = (Vec::new(), String::new());
    for letter in text.chars() {
        if letter.is_alphanumeric() || letter == '_' || letter == '?' {
            word.push(letter);
            continue;
        }
        if !word.is_empty() {
            all.push(std::mem::take(&mut word));
        }
        if !letter.is_whitespace() {
            all.push(letter.to_string());
        }
    }
    all.extend((!word.is_empty()).then_some(word));
    all
}

/// The tables that hold rows of tenants, by their column `tenant_id`.
fn owned_tables() -> BTreeSet<String> {
    let db = directory_db();
    let sql = "SELECT m.name FROM sqlite_master m JOIN pragma_table_info(m.name) c WHERE m.type = 'table' AND c.name = 'tenant_id'";
    let mut found = db.prepare(sql).expect("prepares");
    let rows = found.query_map([], |row| row.get(0)).expect("runs");
    rows.map(|name| name.expect("a name")).collect()
}

/// Whether a statement binds the tenant: it is compared with a parameter that is no option, or written in a new row.
fn binds_tenant(words: &[String]) -> bool {
    let at = |place: usize| words.get(place).map_or("", String::as_str);
    let is_optional = |parameter: &str| {
        parameter != "?"
            && words.windows(3).any(|three| three[0] == parameter && three[1] == "IS" && three[2] == "NULL")
    };
    let compared = (0..words.len()).any(|place| {
        at(place) == "tenant_id"
            && at(place + 1) == "="
            && at(place + 2).starts_with('?')
            && !is_optional(at(place + 2))
    });
    let columns = words.iter().position(|word| word == "INTO").map(|into| &words[into..]);
    let written = columns.is_some_and(|rest| {
        rest.iter().take_while(|word| !["SELECT", "VALUES"].contains(&word.as_str())).any(|word| word == "tenant_id")
    });
    compared || written
}

#[test]
fn what_belongs_to_a_tenant_is_asked_for_with_that_tenant() {
    let owned = owned_tables();
    assert!(owned.len() > 10 && owned.contains("api_keys") && owned.contains("webhook_endpoints"), "{owned:?}");
    let mut allowed: BTreeMap<&str, bool> =
        WITHOUT_TENANT.iter().flat_map(|(_, names)| names.split_whitespace().map(|name| (name, false))).collect();
    let mut amiss = Vec::new();
    for StatementInfo { name, text, .. } in directory_statements() {
        let words = words(text);
        let is_about_tenants = words
            .windows(2)
            .any(|two| ["FROM", "JOIN", "INTO", "UPDATE"].contains(&two[0].as_str()) && owned.contains(&two[1]));
        if is_about_tenants && !binds_tenant(&words) {
            match allowed.get_mut(name) {
                Some(is_met) => *is_met = true,
                None => amiss.push(name),
            }
        }
    }
    let stale: Vec<_> = allowed.iter().filter(|(_, is_met)| !**is_met).map(|(name, _)| name).collect();
    assert!(amiss.is_empty(), "they bind no tenant, and no reason is given: {amiss:?}");
    assert!(stale.is_empty(), "they bind a tenant, or are gone: {stale:?}");
}

#[test]
fn a_statement_without_its_tenant_is_found() {
    let binds = |text: &str| binds_tenant(&words(text));
    assert!(binds("SELECT a FROM api_keys WHERE id = ? AND tenant_id = ?"));
    assert!(binds("INSERT INTO events (id, tenant_id) VALUES (?, ?)"));
    assert!(!binds("SELECT a FROM api_keys WHERE id = ?"));
    assert!(!binds("SELECT tenant_id FROM api_keys WHERE (?3 IS NULL OR tenant_id = ?3)"));
    assert!(!binds("DELETE FROM members WHERE tenant_id = other.tenant_id"));
}

/// Where text becomes a statement, and how often. Each takes `&'static str`, so that the compiler refuses text that is put together.
const SINKS: &[(&str, &str, usize)] = &[("d1.rs", "prepare", 1), ("objects/sqlite.rs", "exec", 4)];

/// What a file does with SQL.
#[derive(Default)]
struct Sql {
    sinks: Vec<String>,
    texts: Vec<String>,
    leaks: usize,
}

fn is_sql(text: &str) -> bool {
    ["SELECT ", "INSERT INTO ", "INSERT OR ", "DELETE FROM ", "UPDATE ", "CREATE TABLE ", "ALTER TABLE "]
        .iter()
        .any(|start| text.trim_start().starts_with(start))
}

impl<'ast> Visit<'ast> for Sql {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if item.ident != "tests" {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        let name = call.method.to_string();
        if ["prepare", "exec", "exec_raw", "dump"].contains(&name.as_str()) {
            self.sinks.push(name.clone());
        }
        self.leaks += usize::from(name == "leak");
        visit::visit_expr_method_call(self, call);
    }

    fn visit_expr_path(&mut self, path: &'ast syn::ExprPath) {
        self.leaks += usize::from(path.path.segments.last().is_some_and(|last| last.ident == "leak"));
        visit::visit_expr_path(self, path);
    }

    fn visit_lit_str(&mut self, text: &'ast syn::LitStr) {
        self.texts.extend(is_sql(&text.value()).then(|| text.value()));
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        // Any text in a macro, as `format!`, but for the one that declares statements.
        if !item.path.is_ident("statements") {
            let text = item.tokens.to_string();
            self.texts.extend(text.split('"').filter(|part| is_sql(part)).map(str::to_owned));
        }
    }
}

#[test]
fn every_statement_is_a_constant_and_its_values_are_bound() {
    let mut sinks = Vec::new();
    for (file, text) in sources(".") {
        let mut found = Sql::default();
        found.visit_file(&syn::parse_file(&text).unwrap_or_else(|error| panic!("{file}: {error}")));
        assert_eq!(found.leaks, 0, "{file} makes text that lives for ever");
        // Migrations are constants, and hold no values; the table of an object's own state is made by one.
        let declares = file.ends_with("migrations.rs") || file == "objects/state.rs";
        assert!(found.texts.is_empty() || declares, "{file} holds SQL outside of `statements!`: {:?}", found.texts);
        sinks.extend(found.sinks.into_iter().map(|sink| (file.clone(), sink)));
    }
    let wanted: Vec<(String, String)> = SINKS
        .iter()
        .flat_map(|(file, sink, times)| std::iter::repeat_n(((*file).to_owned(), (*sink).to_owned()), *times))
        .collect();
    assert_eq!(sinks, wanted, "a text becomes a statement in these places alone");
    for (file, signature) in
        [("d1.rs", "fn bound(db: &D1Database, text: &'static str,"), ("objects/sqlite.rs", "text: &'static str")]
    {
        let (_, text) = sources(".").into_iter().find(|(name, _)| name == file).expect("the file");
        assert!(text.contains(signature), "{file}: {signature}");
    }
}

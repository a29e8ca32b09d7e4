//! Secrets are compared in constant time, and nowhere else.

use crate::tidy::{CRATES, sources};
use quote::ToTokens;
use std::collections::BTreeMap;
use syn::visit::{self, Visit};

/// Words that name a secret, or what is computed from one. A type or a constant, which is written in capitals, is none.
const WORDS: &[&str] = &[
    "secret",
    "secrets",
    "token",
    "tokens",
    "tag",
    "mac",
    "hmac",
    "digest",
    "hash",
    "signature",
    "signatures",
    "verifier",
    "pepper",
    "cookie",
    "nonce",
    "password",
    "otp",
    "challenge",
    "bearer",
    "sealed",
];

/// Where two values of such names are compared otherwise, and why the time that it takes says nothing of a secret: files, or one
/// comparison.
const NO_SECRET: &[(&str, &[&str])] = &[
    (
        "hashes of transactions and blocks, addresses of tokens, signers of messages, nonces: public on the chain",
        &[
            "chain/evm.rs",
            "chain/evm/log.rs",
            "chain/evm/standing.rs",
            "chain/network/registry.rs",
            "chain/ownership.rs",
            "chain/schemes/exact/evm/onchain.rs",
            "chain/schemes/exact/evm.rs",
            "chain/svm/balances.rs",
            "chain/svm.rs",
            "chain/trace.rs",
            "chain/x402/repeatable.rs",
            "core/settlement/flight.rs",
            "core/settlement/nonces.rs",
            "core/verification/finality.rs",
            "core/verification/judge/selection.rs",
            "edge/objects/settler/gaps.rs",
        ],
    ),
    ("`Secret`, whose `==` is in constant time", &["core/people/known.rs: made==*cookie"]),
    (
        "the SHA-256 of a key of 192 random bits, whose tag was checked before: how much of it is right says nothing of another",
        &["core/tenancy/tenant.rs: key.hash==*hash"],
    ),
    (
        "what the same tenant has sent before, by its hash",
        &[
            "core/tenancy/admission.rs: stored.body_hash!=body_hash",
            "core/verification/judge/claim_status.rs: *hash==Self::hash_of(reference)",
        ],
    ),
    ("a checksum of a file of ours", &["edge/archive.rs: hash.finalize()!=written"]),
    ("a flag", &["edge/objects/courier/deliver.rs: is_lost==target.is_secret_lost"]),
    ("two values of our own: what was stored, and what is to be", &["edge/d1/endpoints.rs: row.secret_sealed==sealed"]),
];

/// Where each secret is compared: the file, the function, and what compares it in constant time.
const COMPARED: &[(&str, &str, &str)] = &[
    ("core/settings.rs", "is_admin_key", "self.admin_key.ct_eq(&given)"),
    ("core/settings.rs", "is_metrics_token", "token.ct_eq(&given)"),
    ("core/tenancy/key.rs", "read", "mac.verify_truncated_left(tag)"),
    ("core/people/sign_in.rs", "is_code", "self.code().as_bytes().ct_eq(given.as_bytes())"),
    ("core/people/sign_in.rs", "find", "made.token.has_hash(token_hash)"),
    ("core/people/secret.rs", "eq", "self.0.ct_eq(&other.0)"),
    ("core/people/secret.rs", "is_same_text", "one.as_bytes().ct_eq(other.as_bytes())"),
    ("core/people/secret.rs", "has_hash", "is_same_text(&self.hash(), stored)"),
    ("core/people/deletion.rs", "find_token", "made.has_hash(hash)"),
    ("core/people/invitation.rs", "find_token", "made.has_hash(hash)"),
    ("core/people/known.rs", "is_known", "made == *cookie"),
    ("core/webhook/signature.rs", "is_signed_by", "wanted.as_slice().ct_eq(&one)"),
    ("core/billing/signature.rs", "is_signed", "mac.clone().verify_slice(tag)"),
    ("api/oidc/id_token.rs", "person", "is_same_text(nonce, expected.nonce)"),
    ("edge/handlers/deletion.rs", "answered", "token.has_hash(&row.token_hash)"),
];

/// The words of a name, as `token` and `hash` of `token_hash`.
fn names_secret(text: &str) -> bool {
    text.split(|letter: char| !letter.is_ascii_alphabetic()).any(|word| WORDS.contains(&word))
}

/// The source of an expression, without spaces.
fn source_of(tokens: &impl ToTokens) -> String {
    tokens.to_token_stream().to_string().split_whitespace().collect()
}

/// What a file compares by names of secrets, and its functions.
#[derive(Default)]
struct Comparisons {
    found: Vec<String>,
    functions: BTreeMap<String, String>,
    derived: Vec<String>,
}

impl Comparisons {
    fn of(text: &str) -> Self {
        let mut found = Self::default();
        found.visit_file(&syn::parse_file(text).expect("Rust"));
        found
    }

    fn note(&mut self, sides: [&syn::Expr; 2], whole: &impl ToTokens) {
        let is_literal = sides.iter().any(|side| matches!(side, syn::Expr::Lit(_)));
        if !is_literal && sides.iter().any(|side| names_secret(&source_of(side))) {
            self.found.push(source_of(whole));
        }
    }
}

impl<'ast> Visit<'ast> for Comparisons {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if item.ident != "tests" {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_expr_binary(&mut self, item: &'ast syn::ExprBinary) {
        if matches!(item.op, syn::BinOp::Eq(_) | syn::BinOp::Ne(_)) {
            self.note([&item.left, &item.right], item);
        }
        visit::visit_expr_binary(self, item);
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        if ["eq", "ne", "eq_ignore_ascii_case", "cmp", "partial_cmp"].iter().any(|name| call.method == name)
            && let Some(other) = call.args.first()
        {
            self.note([&call.receiver, other], call);
        }
        visit::visit_expr_method_call(self, call);
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        let derives = item.attrs.iter().map(source_of).collect::<String>();
        if derives.contains("PartialEq") {
            self.derived.push(item.ident.to_string());
        }
        visit::visit_item_struct(self, item);
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.functions.insert(item.sig.ident.to_string(), source_of(&item.block));
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.functions.insert(item.sig.ident.to_string(), source_of(&item.block));
        visit::visit_impl_item_fn(self, item);
    }
}

/// Every source file outside of tests: its crate and its path, and its text.
fn all() -> Vec<(String, String)> {
    let short = |name: &str| if name == "." { "edge".to_owned() } else { name.replace("crates/", "") };
    let files = CRATES
        .iter()
        .flat_map(|name| sources(name).into_iter().map(|(file, text)| (format!("{}/{file}", short(name)), text)));
    files.filter(|(file, _)| !file.ends_with("tests.rs") && !file.contains("/tests/")).collect()
}

#[test]
fn no_secret_is_compared_by_how_far_it_is_right() {
    let mut allowed: BTreeMap<&str, bool> =
        NO_SECRET.iter().flat_map(|(_, all)| all.iter().map(|one| (*one, false))).collect();
    let mut amiss = Vec::new();
    for (file, text) in all() {
        for comparison in Comparisons::of(&text).found {
            let place = format!("{file}: {comparison}");
            match allowed.iter_mut().find(|(one, _)| **one == file || **one == place) {
                Some((_, is_met)) => *is_met = true,
                None => amiss.push(place),
            }
        }
    }
    let stale: Vec<_> = allowed.iter().filter(|(_, is_met)| !**is_met).map(|(one, _)| one).collect();
    assert!(amiss.is_empty(), "use `Secret`, `is_same_text` or `subtle`, or say why not:\n{}", amiss.join("\n"));
    assert!(stale.is_empty(), "they are gone: {stale:?}");
}

#[test]
fn each_secret_is_compared_in_constant_time() {
    let files: BTreeMap<String, String> = all().into_iter().collect();
    for (file, function, comparison) in COMPARED {
        let text = files.get(*file).unwrap_or_else(|| panic!("{file} is gone"));
        let found = Comparisons::of(text);
        let body = found.functions.get(*function).unwrap_or_else(|| panic!("{file} has no {function}"));
        assert!(body.contains(&comparison.replace(' ', "")), "{file}: {function} does not hold {comparison}: {body}");
    }
    let secret = Comparisons::of(&files["core/people/secret.rs"]);
    assert_eq!(secret.derived, Vec::<String>::new(), "a derived `==` ends at the first byte that differs");
}

#[test]
fn a_comparison_of_a_secret_is_found() {
    let found = |text: &str| Comparisons::of(&format!("fn f() {{ {text}; }}")).found;
    for wrong in [
        "given == token",
        "row.token_hash != hash(&given)",
        "all.find(|one| one.secret == given)",
        "admin_key_tag.eq(&given)",
    ] {
        assert_eq!(found(wrong).len(), 1, "{wrong}");
    }
    for fine in ["token.is_some()", "name == \"token\"", "stately == codes"] {
        assert_eq!(found(fine), Vec::<String>::new(), "{fine}");
    }
}

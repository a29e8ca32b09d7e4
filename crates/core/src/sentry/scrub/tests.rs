use super::*;
use serde_json::json;

#[track_caller]
fn check(text: &str, want: &str) {
    assert_eq!(scrub_text(text, &[]), want, "{text}");
}

#[test]
fn credentials_go_whatever_form_their_text_has() {
    let token = "ab".repeat(32);
    check("GET /facilitator/k/x402_url_live_2NEpo7TZRRrLZSi2U/verify", "GET /facilitator/k/[removed]/verify");
    check("key=x402_live_2NEpo7TZRRrLZSi2U, x", "key=[removed], x");
    check("Authorization: Bearer abc.def\r\nhost: x", "Authorization: [removed]\r\nhost: x");
    check("{\"cookie\":\"a=b; c=d\",\"x\":1}", "{\"cookie\":[removed],\"x\":1}");
    check("set-cookie: a=b; Path=/, c=d\nnext", "set-cookie: [removed]\nnext");
    check("sent Bearer abcdef", "sent Bearer [removed]");
    check("ADMIN_KEY=hello&x=1", "ADMIN_KEY=[removed]&x=1");
    check("?token=t0&x=1", "?token=[removed]&x=1");
    check("your code: 123456", "your code: [removed]");
    check(&format!("a link with {token}."), "a link with [removed].");
    check("https://0a1b@o1.ingest.sentry.io/42", "https://[removed]@o1.ingest.sentry.io/42");
    check("https://user:pass@node.example/v2", "https://[removed]@node.example/v2");
    check("-----BEGIN PRIVATE KEY-----\nMII\n-----END PRIVATE KEY----- x", "[removed] x");
    check("whsec_BwcHBwcHBwcHBwcH+/==", "[removed]");
    check("(sk_live_51abcdefgh)", "([removed])");
    check("__Host-session=abc; y", "__Host-session=[removed]; y");
}

#[test]
fn people_and_their_networks_go() {
    check("to ann.b+c@pay.example.", "to [mail]");
    check("to=ann%40pay.example&x", "to=[mail]&x");
    check("<ann@pay.example>", "<[mail]>");
    check("from 203.0.113.7: refused", "from [ip]: refused");
    check("ip:203.0.113.7:443", "ip:[ip]:443");
    check("[2001:db8::1]:443", "[[ip]]:443");
    check("ip:2001:db8:0:1:2:3:4:5 x", "ip:[ip] x");
    check("::1 and ::ffff:203.0.113.7", "[ip] and [ip]");
}

#[test]
fn what_operators_need_stays() {
    for text in [
        "0x88df016429689c079f3b2f6ad39fa052532c56795b733da78a91ebe6a713944b",
        "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913",
        "5VERv8NMvzbJMEkV8xnrLkEaWRtSz9CosKDYjCJjBRnbJLgp8uirBgmQpjKhoR4tjF3ZpRzrFmBV6UjKdiSZkQUW",
        "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v",
        "ten_0193f2a40b1c0203040506ff of req_01JDZV9K5N6Y7Z8A9B0C1D2E3F",
        "4bf92f3577b34da6a3ce929d0e0e4736 00f067aa0ba902b7",
        "x402-edge@0.1.0+8be51e13aa02",
        "x402_edge::handlers::verify::{{closure}}",
        "<x402_core::error::Fault as core::fmt::Display>::fmt",
        "serde::de::Error at line 1, column 12:34",
        "code: INTERNAL, code=LEDGER_UNAVAILABLE",
        "2026-12-01T02:03:04.567Z",
        "mainnet.base.org: timeout after 1500 ms",
        "/facilitator/k/{key}/verify and /v1/verifications/{id}",
        "base:0x88df016429689c079f3b2f6ad39fa052532c56795b733da78a91ebe6a713944b:3",
    ] {
        check(text, text);
    }
}

#[test]
fn a_deployments_own_secrets_go_by_their_values() {
    let secrets = ["correct horse battery staple".to_owned(), "ab".repeat(32)];
    let text = format!("0x{} of correct horse battery staple", "ab".repeat(32));
    assert_eq!(scrub_text(&text, &secrets), "0x[removed] of [removed]");
}

#[test]
fn members_go_by_their_names_and_names_are_scrubbed_too() {
    let mut value =
        json!({"Authorization": "x", "a": [{"client_secret": {"b": 1}}], "ann@pay.example": true, "code": "INTERNAL"});
    scrub(&mut value, &[]);
    assert_eq!(
        value,
        json!({"Authorization": REMOVED, "a": [{"client_secret": REMOVED}], "[mail]": true, "code": "INTERNAL"})
    );
}

proptest::proptest! {
    #[test]
    fn no_text_is_too_strange(text in "\\PC{0,80}|[0-9a-f:.@%=\" -]{0,60}|(code|token|Bearer|0x|://|@|eyJ|=|:|é){0,12}") {
        let once = scrub_text(&text, &[]);
        proptest::prop_assert!(once.len() <= text.len().saturating_mul(10));
    }
}

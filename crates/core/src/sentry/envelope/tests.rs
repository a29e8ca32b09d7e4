use super::*;
use crate::sentry::event::{
    Breadcrumb, ErrorSurroundings, EventIdentity, ReportedError, SentryLevel, sentry_event, sentry_time,
};
use crate::sentry::outbox::LossReason;
use crate::sentry::stack::read_stack;
use serde_json::Map;
use std::collections::BTreeMap;

const NOW: UnixMillis = UnixMillis(1_795_910_400_000);
const TX: &str = "0x88df016429689c079f3b2f6ad39fa052532c56795b733da78a91ebe6a713944b";

/// An event with every member that there is.
fn whole_event() -> Value {
    let error = ReportedError {
        kind: "fault".to_owned(),
        code: Some("INTERNAL".to_owned()),
        cause: format!("no answer about {TX}"),
        level: SentryLevel::Fatal,
        fingerprint: vec!["fault".to_owned(), "INTERNAL".to_owned()],
        frames: read_stack("Error\n at x402_edge::f (wasm://wasm/1:wasm-function[1]:0x1)\n at g (index.js:1:1)"),
        culprit: Some("x402_edge::f".to_owned()),
        facts: Map::from_iter([("words".to_owned(), "a node's".into()), ("done".to_owned(), 3.into())]),
    };
    let around = ErrorSurroundings {
        route: Some("/v1/verify".to_owned()),
        chain: Some("base".to_owned()),
        tenant: Some("ten_0193f2a40b1c0203040506ff".to_owned()),
        request_id: Some("req_01JDZV9K5N6Y7Z8A9B0C1D2E3F".to_owned()),
        trace: Some(("4bf92f3577b34da6a3ce929d0e0e4736".to_owned(), "00f067aa0ba902b7".to_owned())),
        breadcrumbs: vec![Breadcrumb {
            timestamp: sentry_time(NOW),
            category: "provider",
            message: "mainnet.base.org: timeout".to_owned(),
            level: "error",
            data: BTreeMap::from([("provider", "mainnet.base.org".into())]),
        }],
    };
    sentry_event(
        &error,
        &around,
        &EventIdentity { id: [7; 16], at: NOW, release: "x402-edge@0.1.0+8be51e13aa02".to_owned() },
    )
}

/// Where texts stand in a value: its members' values, and, with `true`, their names.
fn places(value: &Value, at: &str, found: &mut Vec<(String, bool)>) {
    match value {
        Value::String(_) => found.push((at.to_owned(), false)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, item)| places(item, &format!("{at}/{index}"), found))
        }
        Value::Object(members) => {
            found.push((at.to_owned(), true));
            members.iter().for_each(|(name, item)| places(item, &format!("{at}/{name}"), found));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Each kind of secret: the text that holds it, and what must not be in the bytes.
fn secrets() -> Vec<(String, String)> {
    let hex = "c7".repeat(32);
    let base64 = "q8Zr0Lm+T5yVb2Xn/wKd9Gf3HjPs1UeRaCiOtY7zE4o=";
    let (key, url_key) = ("2NEpo7TZRRrLZSi2UkPQ9", "9QPkU2iSZLrRRZT7opEN2");
    [
        (format!("key x402_live_{key}"), key),
        (format!("x402_test_{key}"), key),
        (format!("/facilitator/k/x402_url_live_{url_key}/verify"), url_key),
        (format!("https://h.example/k/x402_url_test_{url_key}?x"), url_key),
        ("Authorization: Bearer opaque-1".to_owned(), "opaque-1"),
        ("authorization: Basic b3BhcXVlLTI=".to_owned(), "b3BhcXVlLTI"),
        ("{\"X-Admin-Key\": \"opaque 3\"}".to_owned(), "opaque 3"),
        ("Cookie: a=opaque-4; b=opaque-5".to_owned(), "opaque-5"),
        ("Set-Cookie: __Host-session=opaque-6; Path=/".to_owned(), "opaque-6"),
        ("x-api-key: opaque-7".to_owned(), "opaque-7"),
        ("X-Secret-Key=opaque-8".to_owned(), "opaque-8"),
        ("stripe-signature: t=1,v1=opaque".to_owned(), "t=1"),
        (format!("whsec_{base64}"), "q8Zr0Lm"),
        ("sk_live_51HqLyjWDarjtT1".to_owned(), "51HqLyjWDarjtT1"),
        ("sk_test_51HqLyjWDarjtT2".to_owned(), "51HqLyjWDarjtT2"),
        ("rk_live_51HqLyjWDarjtT3".to_owned(), "51HqLyjWDarjtT3"),
        ("re_AbCdEfGh_12345678".to_owned(), "AbCdEfGh"),
        ("https://0a1b2c3d@o1.ingest.sentry.io/42".to_owned(), "0a1b2c3d"),
        ("https://user:pass-9@node.example/".to_owned(), "pass-9"),
        (format!("a pepper {hex}"), hex.as_str()),
        (format!("https://pay.example/login#token={hex}"), hex.as_str()),
        ("token=opaque-10".to_owned(), "opaque-10"),
        ("client_secret=opaque-11".to_owned(), "opaque-11"),
        ("METRICS_TOKEN opaque: of-this-deployment-12".to_owned(), "of-this-deployment-12"),
        (format!("0x{}", "d4".repeat(32)), "d4d4d4d4"),
        (format!("a signature 0x{}", "e5".repeat(65)), "e5e5e5e5"),
        ("the code 654321 was wrong; code=654321".replace("the code 654321 was wrong; ", ""), "654321"),
        ("-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE\n-----END EC PRIVATE KEY-----".to_owned(), "MHcCAQEE"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln".to_owned(), "eyJ"),
        (base64.to_owned(), "q8Zr0Lm"),
        ("mail to Ann.Doe+x@pay.example now".to_owned(), "Ann.Doe"),
        ("to=ann%40pay.example".to_owned(), "pay.example"),
        ("from 203.0.113.77".to_owned(), "203.0.113.77"),
        ("[2001:db8:5::77]:443".to_owned(), "2001:db8"),
        ("ip:::ffff:203.0.113.78".to_owned(), "203.0.113.78"),
    ]
    .into_iter()
    .map(|(text, secret)| (text, secret.to_owned()))
    .collect()
}

#[test]
fn no_field_of_an_event_lets_a_secret_out() {
    let own = ["of-this-deployment-12".to_owned(), "d4".repeat(32)];
    let (event, mut all) = (whole_event(), Vec::new());
    places(&event, "", &mut all);
    assert!(all.len() > 45, "{}", all.len());
    for (place, is_name) in all {
        for (text, secret) in secrets() {
            let mut event = event.clone();
            let found = event.pointer_mut(&place).expect("a place");
            if is_name {
                let members = found.as_object_mut().expect("members");
                members.insert(text.clone(), text.clone().into());
            } else {
                *found = text.clone().into();
            }
            let bytes = write_envelope(event, "staging", &own, (&LostEvents::new(), NOW));
            assert!(!bytes.contains(&secret), "{place} lets {secret} out: {bytes}");
        }
    }
}

#[test]
fn an_event_without_secrets_leaves_as_it_is() {
    let mut want = whole_event();
    let bytes = write_envelope(want.clone(), "staging", &[], (&LostEvents::new(), NOW));
    let lines: Vec<&str> = bytes.lines().collect();
    let [head, item, body] = lines.as_slice() else { panic!("{bytes}") };
    want["environment"] = "staging".into();
    assert_eq!(serde_json::from_str::<Value>(body).expect("JSON"), want);
    assert!(body.contains(TX));
    let item: Value = serde_json::from_str(item).expect("JSON");
    assert_eq!((item["type"].as_str(), item["length"].as_u64()), (Some("event"), u64::try_from(body.len()).ok()));
    let head: Value = serde_json::from_str(head).expect("JSON");
    assert_eq!(head["event_id"], "07".repeat(16));
}

#[test]
fn an_envelope_is_bounded() {
    let mut event = whole_event();
    event["exception"]["values"][0]["value"] = "é".repeat(100_000).into();
    event["extra"] =
        (0..2_000).map(|number| (number.to_string(), Value::from("x".repeat(1_000)))).collect::<Map<_, _>>().into();
    event["breadcrumbs"]["values"] =
        (0..1_000).map(|number| Value::from(format!("{number}{}", "y".repeat(900)))).collect();
    let bytes = write_envelope(event, "staging", &[], (&LostEvents::new(), NOW));
    assert!(bytes.len() < EVENT_MAX + 1_024, "{}", bytes.len());
    assert!(bytes.contains("\"fault (INTERNAL)\""));
}

#[test]
fn what_was_left_out_is_reported() {
    let lost = LostEvents::from([(LossReason::QueueOverflow, 3), (LossReason::SampleRate, 1)]);
    let bytes = write_envelope(whole_event(), "staging", &[], (&lost, NOW));
    let [.., item, report] = bytes.lines().collect::<Vec<_>>()[..] else { panic!("{bytes}") };
    assert!(item.contains("client_report"));
    let report: Value = serde_json::from_str(report).expect("JSON");
    let want = json!([
        {"reason": "queue_overflow", "category": "error", "quantity": 3},
        {"reason": "sample_rate", "category": "error", "quantity": 1},
    ]);
    assert_eq!(report["discarded_events"], want);
}

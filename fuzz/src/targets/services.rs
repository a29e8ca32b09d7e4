//! Answers and webhooks of other services.

use crate::properties::{NOW_MS, bounded, judged, stable_json, text};
use serde::Deserialize;
use serde_json::Value;
use std::net::IpAddr;
use x402_api::dns as dns_api;
use x402_api::dns::RecordKind;
use x402_api::github as github_api;
use x402_api::oidc as oidc_api;
use x402_api::oidc::discovery::Discovery;
use x402_api::oidc::id_token::{ExpectedToken, UncheckedToken};
use x402_api::webhooks;
use x402_api::webhooks::SignatureHeaders;
use x402_chain::time::UnixMillis;
use x402_core::billing::answer as stripe_answer;
use x402_core::billing::answer::{
    OfId, OfLatestInvoice, OfStatus, OfUrl, PortalUse, StripeError, StripeEvent, StripePage,
};
use x402_core::billing::{form, schedule, signature as stripe_signature_rule, subscription};
use x402_core::people::oidc::MailDomain;
use x402_core::webhook::delivery;
use x402_core::webhook::signature as standard;
use x402_core::webhook::signature::SignedMessage;

/// The issuer of the corpus.
const ISSUER: &str = "https://idp.example";
/// The keys of the corpus.
const SECRET: &str = "whsec_corpus_secret";
const KEY: [u8; 24] = [7; 24];
const BODY: &[u8] = br#"{"id":"evt_1"}"#;

pub(crate) fn stripe_signature(input: &[u8]) -> bool {
    let Some(header) = text(input) else { return false };
    let of = |body: &[u8], secret: &str| {
        stripe_signature_rule::is_signed(header, body, &[secret.to_owned()], UnixMillis(NOW_MS))
    };
    let accepted = of(BODY, SECRET);
    assert!(!of(b"{}", SECRET) && !of(BODY, "whsec_other"), "signed for something else");
    assert!(
        !accepted
            || !stripe_signature_rule::is_signed(header, BODY, &[SECRET.to_owned()], UnixMillis(NOW_MS + 700_000))
    );
    accepted
}

pub(crate) fn standard_signature(input: &[u8]) -> bool {
    let Some(signatures) = text(input) else { return false };
    let timestamp = (NOW_MS / 1_000).to_string();
    let message = SignedMessage { id: "msg_1", timestamp: &timestamp, signatures, body: BODY };
    let accepted = message.is_signed_by(&KEY, UnixMillis(NOW_MS));
    assert!(!SignedMessage { body: b"{}", ..message }.is_signed_by(&KEY, UnixMillis(NOW_MS)));
    assert!(!message.is_signed_by(&[8; 24], UnixMillis(NOW_MS)));
    assert!(
        !accepted || signatures.contains(&standard::sign([KEY.as_slice()].into_iter(), "msg_1", NOW_MS / 1_000, BODY))
    );
    // Each header from outside, in its place.
    for (id, timestamp) in [(signatures, timestamp.as_str()), ("msg_1", signatures)] {
        let headers =
            SignatureHeaders { id: id.to_owned(), timestamp: timestamp.to_owned(), signatures: signatures.to_owned() };
        assert!(SignatureHeaders::check(&headers, BODY, &KEY, UnixMillis(NOW_MS)).is_err());
    }
    accepted
}

pub(crate) fn resend(input: &[u8]) -> bool {
    let read = webhooks::resend_event(input);
    let is_mark = matches!(&read, Ok(Some(_)));
    if let Ok(Some((_, addresses))) = &read {
        assert!(!addresses.is_empty() && addresses.iter().all(|address| address.is_ascii() && address.contains('@')));
    }
    judged(read, input) && is_mark
}

pub(crate) fn stripe_event(input: &[u8]) -> bool {
    let Ok(event) = serde_json::from_slice::<StripeEvent>(input) else { return false };
    event.customer.is_some_and(|customer| form::is_stripe_id(&customer, "cus_"))
}

pub(crate) fn stripe(input: &[u8]) -> bool {
    let found = [
        judged(subscription::read_page(input), input),
        judged(schedule::read_schedule(input), input),
        judged(stripe_answer::read_portal(input, PortalUse::Portal), input),
        judged(stripe_answer::read_portal(input, PortalUse::Confirm), input),
        judged(stripe_answer::read_customer(input), input),
        judged(stripe_answer::read_subscription_card(input), input),
        judged(stripe_answer::read_open_invoice(input), input),
        judged(stripe_answer::read_payment_intents(input), input),
        judged(stripe_answer::read::<OfId>(input, "an object"), input),
        judged(stripe_answer::read::<OfStatus>(input, "an object"), input),
        judged(stripe_answer::read::<OfUrl>(input, "an object"), input),
        judged(stripe_answer::read::<OfLatestInvoice>(input, "an object"), input),
        judged(stripe_answer::read::<StripePage<OfId>>(input, "a list"), input),
    ];
    let error = StripeError::read(input, "/v1/customers/cus_1");
    let words = error.words();
    assert!(words.len() < 500 && !words.chars().any(char::is_control));
    assert_eq!(error.resource(), "customers");
    found.contains(&true)
}

pub(crate) fn dns(input: &[u8]) -> bool {
    let kinds = [RecordKind::Txt, RecordKind::A, RecordKind::Aaaa];
    let found = kinds.map(|kind| dns_api::read_records(input, kind));
    for records in found.iter().flatten() {
        bounded(records.iter().map(String::len).sum(), input, 1, 0);
    }
    for kind in [RecordKind::A, RecordKind::Aaaa] {
        if let Some(addresses) = dns_api::read_addresses(input, kind) {
            let all = dns_api::read_records(input, kind).expect("read before");
            assert_eq!(
                all.iter().map(|text| text.parse::<IpAddr>().expect("an address")).collect::<Vec<_>>(),
                addresses
            );
        }
    }
    assert!(!dns_api::is_name_failing(input) || found.iter().all(Option::is_none));
    found.iter().flatten().any(|records| !records.is_empty())
}

pub(crate) fn discovery(input: &[u8]) -> bool {
    let Ok(read) = Discovery::read(input, ISSUER) else { return false };
    for endpoint in [&read.authorization_endpoint, &read.token_endpoint, &read.jwks_uri] {
        assert!(endpoint.as_str().starts_with("https://") && endpoint.host().contains('.'));
    }
    assert!(Discovery::read(input, "https://other.example").is_err(), "a document of two issuers");
    true
}

pub(crate) fn oidc_token(input: &[u8]) -> bool {
    let read = oidc_api::TokenAnswer::read(200, input);
    for status in [400, 401, 500] {
        assert!(!matches!(oidc_api::TokenAnswer::read(status, input), oidc_api::TokenAnswer::IdToken(_)));
    }
    matches!(read, oidc_api::TokenAnswer::IdToken(_))
}

fn expected(domain: &MailDomain) -> ExpectedToken<'_> {
    ExpectedToken { issuer: ISSUER, client_id: "client-1", nonce: "nonce-1", domain, now_s: NOW_MS / 1_000 }
}

fn corp() -> MailDomain {
    MailDomain::parse("corp.example").expect("a domain")
}

pub(crate) fn id_token(input: &[u8]) -> bool {
    let Some(token) = text(input) else { return false };
    let Ok(read) = UncheckedToken::parse(token) else { return false };
    assert!(token.starts_with(&read.signed) && token.len() > read.signed.len());
    let _ = read.person(expected(&corp()));
    assert!(UncheckedToken::key(&read, br#"{"keys":[]}"#).is_err());
    true
}

/// Claims, as a token that was signed holds them; with `keys`, a provider's list.
pub(crate) fn claims(input: &[u8]) -> bool {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    #[derive(Deserialize)]
    struct Signed {
        header: Value,
        claims: Value,
        keys: Value,
    }
    let Ok(signed) = serde_json::from_slice::<Signed>(input) else { return false };
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let token = format!("{}.{}.c2ln", part(&signed.header), part(&signed.claims));
    let Ok(read) = UncheckedToken::parse(&token) else { return false };
    if let Ok(key) = UncheckedToken::key(&read, signed.keys.to_string().as_bytes()) {
        let members = key.as_object().expect("a key");
        assert!(members.keys().all(|name| ["kty", "n", "e", "crv", "x", "y"].contains(&name.as_str())), "{members:?}");
    }
    let Ok(person) = read.person(expected(&corp())) else { return false };
    assert!((1..=255).contains(&person.subject.len()) && person.email.ends_with("@corp.example"));
    let of = |name: &str| signed.claims.get(name).and_then(Value::as_str);
    assert_eq!((of("iss"), of("nonce")), (Some(ISSUER), Some("nonce-1")));
    true
}

pub(crate) fn github(input: &[u8]) -> bool {
    let token = github_api::TokenAnswer::read(input);
    if let github_api::TokenAnswer::Token(token) = &token {
        assert!(token.bytes().all(|byte| byte.is_ascii_graphic()), "no header takes it");
    }
    let subject = github_api::subject(input);
    assert!(subject.as_ref().is_none_or(|id| id.parse::<u64>().is_ok()));
    let name = github_api::account_name(input);
    assert!(name.as_ref().is_none_or(|name| name.len() <= 64 && name.is_ascii()));
    let address = github_api::verified_primary(input);
    assert!(address.as_ref().is_none_or(|address| address.is_ascii() && address.contains('@')));
    matches!(token, github_api::TokenAnswer::Token(_)) || subject.is_some() || address.is_some()
}

/// Any bytes that a webhook's receiver answers.
pub(crate) fn receiver(input: &[u8]) -> bool {
    let head = delivery::head_of(input);
    assert!(head.chars().count() <= 1_024 && !head.chars().any(char::is_control));
    let _ = stable_json::<x402_core::webhook::delivery::AttemptRecord>(input);
    !head.is_empty()
}

//! Query strings, of lists and of pages that others lead back to.

use crate::properties::{bounded, judged, text};
use x402_api::github::GithubCallback;
use x402_api::oidc::OidcCallback;
use x402_api::{
    analytics, audit as audit_api, billing as billing_api, deliveries as deliveries_api, docs, event_stream,
    events as events_api, export as export_api, oidc as oidc_api, operators, records, settlements as settlements_api,
};
use x402_chain::id::VerificationId;
use x402_chain::network::Environment;

fn members(query: &str, name: &str) -> Vec<String> {
    form_urlencoded::parse(query.as_bytes())
        .filter(|(given, _)| given == name)
        .map(|(_, value)| value.into_owned())
        .collect()
}

pub(crate) fn page(input: &[u8]) -> bool {
    let Some(query) = text(input) else { return false };
    let read = records::read_page_query(query, |id| VerificationId::parse(id).is_some());
    if let Ok(page) = &read {
        assert!((1..=100).contains(&page.limit));
        assert!(page.before.as_ref().is_none_or(|id| VerificationId::parse(id).is_some()));
    }
    judged(read, input)
}

pub(crate) fn audit(input: &[u8]) -> bool {
    let Some(query) = text(input) else { return false };
    let next = audit_api::next_query(query, "aud_1&cursor=2");
    assert_eq!(members(&next, "cursor"), ["aud_1&cursor=2"], "another cursor");
    for name in ["actor", "action", "since", "until", "format"] {
        assert_eq!(members(&next, name), members(query, name));
    }
    bounded(next.len(), input, 9, 40);
    judged(audit_api::read_audit_query(query), input)
}

pub(crate) fn events(input: &[u8]) -> bool {
    let Some(query) = text(input) else { return false };
    let own = events_api::read_environment(query, Some(Environment::Test));
    assert!(own.is_err() || own == Ok(Environment::Test), "the environment of another key");
    let read = events_api::read_event_filter(query);
    if let Ok(filter) = &read {
        assert!(filter.kinds.windows(2).all(|two| two[0] < two[1]), "a kind twice");
        assert!(filter.from.zip(filter.to).is_none_or(|(from, to)| from <= to));
        let _ = filter.least_id();
    }
    judged(events_api::read_environment(query, None), input) && judged(read, input)
}

pub(crate) fn stream(input: &[u8]) -> bool {
    let Some(query) = text(input) else { return false };
    let read = event_stream::read_stream_filter(query);
    if read.is_ok() {
        assert!(["from", "to", "limit", "cursor"].iter().all(|name| members(query, name).is_empty()));
    }
    judged(read, input)
}

pub(crate) fn export(input: &[u8]) -> bool {
    let Some(query) = text(input) else { return false };
    let (of_key, of_session) =
        (export_api::read_export_query(query, true), export_api::read_export_query(query, false));
    assert!(of_key.is_ok() || of_session.is_err(), "a session may choose what a key may not");
    let accepted = judged(of_session, input);
    if of_key.is_ok() {
        for (name, _) in form_urlencoded::parse(query.as_bytes()) {
            assert_eq!(members(query, &name).len(), 1, "a parameter twice");
        }
    }
    judged(of_key, input) && accepted
}

pub(crate) fn analytics(input: &[u8]) -> bool {
    let Some(query) = text(input) else { return false };
    judged(analytics::read_days(query), input)
}

pub(crate) fn settlements(input: &[u8]) -> bool {
    let Some(query) = text(input) else { return false };
    judged(settlements_api::read_filter(query), input)
}

pub(crate) fn deliveries(input: &[u8]) -> bool {
    let Some(query) = text(input) else { return false };
    let read = deliveries_api::read_state(query);
    let is_named = matches!(read, Ok(Some(_)));
    judged(read, input) && is_named
}

pub(crate) fn billing(input: &[u8]) -> bool {
    let Some(query) = text(input) else { return false };
    let page = docs::billing(query);
    assert!(page.len() < 8_192 && !page.contains("<script"));
    let invoices = billing_api::invoice::invoice_page(query);
    if let Ok((limit, after)) = &invoices {
        assert!((1..=100).contains(limit));
        assert!(after.as_ref().is_none_or(|id| id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')));
    }
    judged(billing_api::previewed_plan(query), input) && judged(invoices, input)
}

pub(crate) fn search(input: &[u8]) -> bool {
    let Some(query) = text(input) else { return false };
    judged(operators::read_search(query), input)
}

pub(crate) fn oidc(input: &[u8]) -> bool {
    let Some(query) = text(input) else { return false };
    let read = oidc_api::email_of_query(query);
    if let Ok(email) = &read {
        assert!(email.is_ascii() && email.matches('@').count() == 1 && email.len() <= 320);
        assert!(!email.bytes().any(|byte| byte.is_ascii_uppercase() || byte.is_ascii_control() || byte == b' '));
    }
    judged(read, input)
}

pub(crate) fn callbacks(input: &[u8]) -> bool {
    let Some(query) = text(input) else { return false };
    let github = GithubCallback::read(query).map(|it| (it.code, it.state));
    let oidc = OidcCallback::read(query).map(|it| (it.code, it.state));
    let is_read = github.is_some() || oidc.is_some();
    for (code, state) in [github, oidc].into_iter().flatten() {
        assert!((1..=8_192).contains(&code.len()));
        // Of two parameters of one name the first counts, in both.
        assert_eq!(members(query, "code").first(), Some(&code));
        assert_eq!(members(query, "state").first(), Some(&state.text()));
    }
    is_read
}

pub(crate) fn mail_address_in_path(input: &[u8]) -> bool {
    let Some(part) = text(input) else { return false };
    let read = operators::address_in_path(part);
    if let Ok(address) = &read {
        assert!(address.is_ascii() && !address.contains(['\\', '"', ' ', '<', '>']));
        assert!(address.split('@').count() == 2);
    }
    judged(read, input)
}

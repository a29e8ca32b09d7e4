//! The request itself: target, path and headers.

use crate::properties::{ORIGIN, bounded, judged, text};
use percent_encoding::percent_decode;
use std::sync::LazyLock;
use x402_api::body;
use x402_api::cookies::{CookieName, Cookies};
use x402_api::credentials::Credentials;
use x402_api::endpoint::{Method, Route, Routes};
use x402_api::event_stream;
use x402_api::explain;
use x402_api::place::RequestPath;
use x402_api::target::UrlTarget;
use x402_core::people::client;
use x402_core::people::origin::RequestSource;
use x402_core::tenancy::key;

static ROUTES: LazyLock<Routes> = LazyLock::new(|| Routes::build().expect("the route table"));

/// Keys of the corpus are signed with this.
pub(crate) const PEPPERS: [[u8; 32]; 2] = [[1; 32], [2; 32]];

/// Longer paths are not decoded here: each round takes one level, and there are as many levels as bytes.
const DECODED_MAX: usize = 512;

/// A path as whoever decodes it until nothing is left to decode.
fn decoded(path: &str) -> Vec<u8> {
    let mut plain = path.to_ascii_lowercase().into_bytes();
    loop {
        let next = percent_decode(&plain).collect::<Vec<u8>>().to_ascii_lowercase();
        if next.len() == plain.len() {
            return plain;
        }
        plain = next;
    }
}

pub(crate) fn request_path(input: &[u8]) -> bool {
    let Some(path) = text(input) else { return false };
    let place = RequestPath::of(path);
    bounded(place.shown.len().max(place.route.len()), input, 1, 40);
    assert!(!place.route.contains("//") && !place.shown.contains("//"), "empty parts");
    if place.shown.len() <= DECODED_MAX {
        let shown = decoded(&place.shown);
        assert!(!shown.windows(5).any(|part| part == b"x402_"), "a key is shown");
    }
    let mut is_found = false;
    for method in ["GET", "HEAD", "POST", "PATCH", "DELETE"] {
        assert!(Method::parse(method).is_some());
        match ROUTES.find(method, &place.route, place.key.is_some()) {
            Route::Found(row, params) => {
                is_found = true;
                assert!(params.iter().all(|param| !param.contains('/')), "a parameter of two parts");
                assert_eq!(params.len(), row.path.matches('{').count() - usize::from(row.path.contains("/k/{")));
            }
            Route::OtherMethods(rows) => assert!(!rows.is_empty()),
            Route::Nowhere => {}
        }
    }
    let _ = ROUTES.cross_origin(&place.route);
    assert_eq!(Method::parse(path).is_some(), ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"].contains(&path));
    is_found
}

pub(crate) fn request_target(input: &[u8]) -> bool {
    let Some(url) = text(input) else { return false };
    let parts = UrlTarget::of(url);
    assert!(parts.path.starts_with('/') && !parts.path.contains(['?', '#']) && !parts.query.contains('#'));
    let query = if parts.query.is_empty() { String::new() } else { format!("?{}", parts.query) };
    let again = format!("{}{}{query}", parts.origin, parts.path);
    assert_eq!(UrlTarget::of(&again), parts, "the parts make another target");
    parts.origin.starts_with("https://")
}

pub(crate) fn media_type(input: &[u8]) -> bool {
    let Some(header) = text(input) else { return false };
    let coded = judged(body::check_media_type(Some("application/json"), Some(header)), input);
    let name = header.trim();
    assert!(!coded || name.is_empty() || name.eq_ignore_ascii_case("identity"));
    judged(body::check_media_type(Some(header), None), input)
}

pub(crate) fn body_text(input: &[u8]) -> bool {
    let accepted = judged(body::text(input), input);
    let begins = input.starts_with(b"\xef\xbb\xbf");
    assert_eq!(accepted, !begins && text(input).is_some());
    accepted
}

pub(crate) fn authorization(input: &[u8]) -> bool {
    let Some(header) = text(input) else { return false };
    let given = Credentials { authorization: Some(header), ..Credentials::default() };
    assert!(!given.is_none());
    let Ok(caller) = Credentials::caller(&given, &PEPPERS).map_err(|fault| {
        let shown = format!("{}{}", fault.detail, fault.cause().unwrap_or_default());
        assert!(header.len() < 20 || !shown.contains(header), "the header is repeated");
    }) else {
        return false;
    };
    // What names the key is the key, without what may stand around it.
    let (_, rest) = header.split_once(' ').expect("a scheme");
    assert_eq!(key::read_any(rest.trim(), &PEPPERS), Some(caller));
    assert!(given.caller(&[]).is_err(), "genuine without a pepper");
    true
}

pub(crate) fn cookie(input: &[u8]) -> bool {
    let Some(header) = text(input) else { return false };
    let read = Cookies::read(header);
    let found = [
        (CookieName::Session, read.session),
        (CookieName::SignIn, read.sign_in),
        (CookieName::Oauth, read.oauth),
        (CookieName::Known, read.known),
    ];
    let mut is_found = false;
    for (name, secret) in found {
        let Some(secret) = secret else { continue };
        let pair = format!("{}={}", name.as_str(), secret.text());
        let sent = header.split(';').filter(|sent| sent.trim_matches([' ', '\t']) == pair).count();
        assert_eq!(sent, 1, "a cookie that was not sent once");
        // Whoever sends it twice has two readings.
        assert!(Cookies::read(&format!("{header};{pair}")).has_any);
        is_found = true;
    }
    assert!(read.has_any || !is_found);
    is_found
}

pub(crate) fn prefer(input: &[u8]) -> bool {
    let Some(header) = text(input) else { return false };
    let is_preferred = explain::is_preferred(header);
    assert!(!is_preferred || header.to_ascii_lowercase().contains("explain"));
    is_preferred
}

pub(crate) fn last_event_id(input: &[u8]) -> bool {
    let Some(header) = text(input) else { return false };
    match event_stream::read_last_event_id(Some(header)) {
        Ok(id) => {
            assert_eq!(id.map(|id| id.to_string()).unwrap_or_default(), header);
            true
        }
        Err(fault) => judged::<()>(Err(fault), input),
    }
}

pub(crate) fn client_address(input: &[u8]) -> bool {
    let Some(header) = text(input) else { return false };
    let prefix = client::ip_prefix(Some(header));
    assert!(prefix.len() <= 43 && prefix.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".:/".contains(&byte)));
    let around = client::network_around(&prefix);
    assert!(around == prefix || around.ends_with('*'));
    prefix != "unknown"
}

pub(crate) fn request_source(input: &[u8]) -> bool {
    let Some(header) = text(input) else { return false };
    let of = |fetch_site, origin| {
        RequestSource::check(&RequestSource { fetch_site, origin, has_cookie: true }, ORIGIN).is_ok()
    };
    let (by_site, by_origin) = (of(Some(header), Some(ORIGIN)), of(None, Some(header)));
    assert_eq!((by_site, by_origin), (header == "same-origin", header == ORIGIN));
    by_site || by_origin
}

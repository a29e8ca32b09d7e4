//! Headers of every answer, and headers of the rate windows.

use super::ApiReply;
use std::collections::BTreeMap;
use x402_chain::collect::map_of;
use x402_chain::time::UnixMillis;
use x402_core::tenancy::access::Access;
use x402_core::tenancy::admission::RateWindows;
use x402_core::tenancy::rate::{HOUR, MINUTE, RateSpan, RateState};

/// Response headers that pages of other origins may read.
const EXPOSED: &str = "X-Request-Id, RateLimit, RateLimit-Policy, X-RateLimit-Limit, X-RateLimit-Remaining, \
X-RateLimit-Reset, Retry-After, Idempotent-Replayed, X402-Settlement-Id, X402-Externally-Settled, X402-Checks, \
Preference-Applied, PAYMENT-REQUIRED, PAYMENT-RESPONSE, X-PAYMENT-RESPONSE";

/// Request headers that pages of other origins may send.
const ALLOWED: &str =
    "Authorization, X-API-Key, X-Secret-Key, Content-Type, Idempotency-Key, Prefer, X-PAYMENT, PAYMENT-SIGNATURE";

/// Headers of every answer: security. A browser runs nothing of ours but one style sheet, which the policy names by its hash.
/// `preload` is left out: whoever owns the domain decides for all its hosts, and for years.
const ALWAYS_HEADERS: [(&str, &str); 8] = [
    ("Strict-Transport-Security", "max-age=63072000; includeSubDomains"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Permissions-Policy", "geolocation=(), camera=(), microphone=()"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Embedder-Policy", "require-corp"),
    (
        "Content-Security-Policy",
        "default-src 'none'; style-src 'sha256-xy5dH/z6R6wntfh+M7923KkbG9if6HcuvuzQUT+4RTE='; form-action 'none'; frame-ancestors 'none'; base-uri 'none'",
    ),
];

/// Headers of an answer that pages of any origin may read.
const SHARED_HEADERS: [(&str, &str); 3] = [
    ("Cross-Origin-Resource-Policy", "cross-origin"),
    ("Access-Control-Allow-Origin", "*"),
    ("Access-Control-Expose-Headers", EXPOSED),
];

/// Headers of an answer that only pages of our own origin may read.
const OWN_ORIGIN_HEADERS: [(&str, &str); 1] = [("Cross-Origin-Resource-Policy", "same-origin")];

/// Whether pages of other origins may read an answer. Of a route only [`cross_origin`] decides it, so that no answer to
/// a cookie is readable by them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrossOrigin {
    /// Any page may read it (`Access-Control-Allow-Origin: *`).
    Allowed,
    /// Only pages of our own origin may.
    Refused,
}

/// Whether pages of other origins may read what a route answers: never where a cookie is the credential.
#[must_use]
pub const fn cross_origin(access: Access) -> CrossOrigin {
    if access.reads_cookie() { CrossOrigin::Refused } else { CrossOrigin::Allowed }
}

/// The headers that let other origins read an answer, or keep them from it.
const fn origin_headers(cross_origin: CrossOrigin) -> &'static [(&'static str, &'static str)] {
    match cross_origin {
        CrossOrigin::Allowed => &SHARED_HEADERS,
        CrossOrigin::Refused => &OWN_ORIGIN_HEADERS,
    }
}

/// What makes an answer that any page may read one that only pages of our own origin may read: each header with its
/// value, or `None` where it is removed. A ledger of an older build does not know the access of a route, and lets every
/// origin read its replies.
pub fn own_origin_changes() -> impl Iterator<Item = (&'static str, Option<&'static str>)> {
    let own = |name: &str| OWN_ORIGIN_HEADERS.iter().find(|(own, _)| *own == name).map(|(_, value)| *value);
    SHARED_HEADERS.iter().map(move |(name, _)| (*name, own(name)))
}

/// Headers that state the rate windows: limit, what is left, when it resets.
pub const RATE_HEADERS: [&str; 5] =
    ["RateLimit-Policy", "RateLimit", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"];

/// Further headers of the answer to a preflight, where other origins are allowed.
const PREFLIGHT_HEADERS: [(&str, &str); 3] = [
    ("Access-Control-Allow-Methods", "GET, POST, PUT, PATCH, DELETE, OPTIONS"),
    ("Access-Control-Allow-Headers", ALLOWED),
    ("Access-Control-Max-Age", "86400"),
];

/// The answer to a preflight of a path (Fetch Standard, section "CORS-preflight request").
#[must_use]
pub fn preflight_reply(cross_origin: CrossOrigin) -> ApiReply {
    let headers = match cross_origin {
        CrossOrigin::Allowed => PREFLIGHT_HEADERS.map(|(name, value)| (name, value.to_owned())).to_vec(),
        CrossOrigin::Refused => Vec::new(),
    };
    ApiReply { status: 204, content_type: "", body: String::new(), headers }
}

/// All headers of an answer by name but cookies: those of every answer, those for other origins, then its own.
#[must_use]
pub fn all_headers<'a>(
    reply: &'a ApiReply,
    request_id: &'a str,
    cross_origin: CrossOrigin,
) -> BTreeMap<&'a str, &'a str> {
    let mut headers = map_of(ALWAYS_HEADERS);
    headers.extend(origin_headers(cross_origin).iter().copied());
    headers.insert("X-Request-Id", request_id);
    headers.insert("Cache-Control", "no-store");
    if !reply.content_type.is_empty() {
        headers.insert("Content-Type", reply.content_type);
    }
    headers.extend(own_headers(reply).filter(|(name, _)| *name != SET_COOKIE));
    headers
}

/// The only header that an answer may have several of.
pub const SET_COOKIE: &str = "Set-Cookie";

fn own_headers(reply: &ApiReply) -> impl Iterator<Item = (&str, &str)> {
    reply.headers.iter().map(|(name, value)| (*name, value.as_str()))
}

/// All headers of an answer, with each cookie that it sets.
pub fn sent_headers<'a>(
    reply: &'a ApiReply,
    request_id: &'a str,
    cross_origin: CrossOrigin,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    let cookies = own_headers(reply).filter(|(name, _)| *name == SET_COOKIE);
    all_headers(reply, request_id, cross_origin).into_iter().chain(cookies)
}

/// The rate windows as headers: `RateLimit` and `RateLimit-Policy` (IETF
/// draft, structured fields) and the customary `X-RateLimit-*` of the minute.
#[must_use]
pub fn rate_headers(rates: &RateWindows, now: UnixMillis) -> Vec<(&'static str, String)> {
    let policy = |rate: &RateState, span: RateSpan| format!("\"{}\";q={};w={}", span.name, rate.limit, span.seconds);
    let state = |rate: &RateState, span: RateSpan| {
        let wait = rate.resets_at.since(now).div_ceil(1_000);
        format!("\"{}\";r={};t={wait}", span.name, rate.remaining())
    };
    let both = |format_window: &dyn Fn(&RateState, RateSpan) -> String| {
        format!("{}, {}", format_window(&rates.minute, MINUTE), format_window(&rates.hour, HOUR))
    };
    let values = [
        both(&policy),
        both(&state),
        rates.minute.limit.to_string(),
        rates.minute.remaining().to_string(),
        rates.minute.resets_at.0.div_ceil(1_000).to_string(),
    ];
    RATE_HEADERS.into_iter().zip(values).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use sha2::{Digest, Sha256};

    #[test]
    fn an_answers_own_headers_come_last() {
        let reply = ApiReply::json(200, &()).with("Cache-Control", "private, max-age=3600");
        let headers = all_headers(&reply, "req_1", CrossOrigin::Allowed);
        assert_eq!(headers["Cache-Control"], "private, max-age=3600");
        assert_eq!(headers["X-Request-Id"], "req_1");
        assert_eq!(headers["X-Content-Type-Options"], "nosniff");
        assert_eq!(all_headers(&ApiReply::json(200, &()), "req_1", CrossOrigin::Allowed)["Cache-Control"], "no-store");
    }

    #[test]
    fn the_policy_lets_in_the_style_sheet_of_the_pages_and_no_other() {
        let hash = STANDARD.encode(Sha256::digest(crate::docs::STYLE));
        let reply = ApiReply::html(crate::docs::errors());
        let policy = all_headers(&reply, "req_1", CrossOrigin::Allowed)["Content-Security-Policy"].to_owned();
        assert!(policy.contains(&format!("style-src 'sha256-{hash}';")), "{hash}");
        assert!(!policy.contains("unsafe"));
    }

    #[test]
    fn no_answer_to_a_cookie_is_for_other_origins() {
        for access in Access::ALL {
            let reply = ApiReply::json(200, &());
            let headers = all_headers(&reply, "req_1", cross_origin(access));
            let preflight = preflight_reply(cross_origin(access));
            let preflight = all_headers(&preflight, "req_1", cross_origin(access));
            for headers in [headers, preflight] {
                let allowed = headers.keys().any(|name| name.starts_with("Access-Control-"));
                assert_eq!(allowed, !access.reads_cookie(), "{access:?}: {headers:?}");
                let policy = if access.reads_cookie() { "same-origin" } else { "cross-origin" };
                assert_eq!(headers["Cross-Origin-Resource-Policy"], policy, "{access:?}");
                assert_eq!(headers["X-Frame-Options"], "DENY", "{access:?}");
            }
        }
    }

    #[test]
    fn an_answer_for_every_origin_becomes_one_for_our_own() {
        let reply = ApiReply::json(200, &());
        let mut headers = all_headers(&reply, "req_1", CrossOrigin::Allowed);
        for (name, value) in own_origin_changes() {
            match value {
                Some(value) => drop(headers.insert(name, value)),
                None => drop(headers.remove(name)),
            }
        }
        assert_eq!(headers, all_headers(&reply, "req_1", CrossOrigin::Refused));
    }

    #[test]
    fn pages_of_other_origins_may_read_what_a_settlement_adds() {
        for name in crate::explain::HEADERS {
            assert!(EXPOSED.split(", ").any(|exposed| exposed == name), "{name}");
        }
    }

    #[test]
    fn the_windows_are_told_as_the_draft_writes_them() {
        let rate_of = |limit, used, at| RateState { limit, used, resets_at: UnixMillis(at) };
        let rates = RateWindows { minute: rate_of(50, 1, 13_000), hour: rate_of(1_000, 7, 61_500) };
        let headers = rate_headers(&rates, UnixMillis(1_000));
        assert_eq!(headers[0].1, "\"minute\";q=50;w=60, \"hour\";q=1000;w=3600");
        assert_eq!(headers[1].1, "\"minute\";r=49;t=12, \"hour\";r=993;t=61");
        assert_eq!(headers[4].1, "13");
    }
}

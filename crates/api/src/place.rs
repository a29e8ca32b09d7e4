//! The path of a request: as the route table reads it, and as messages, envelopes and logs may show it. A key in the
//! path is taken out here.

use std::borrow::Cow;

/// Replaces a key in a shown path.
const MASK: &str = "…";
/// The base paths of the x402 routes, under which a key may stand: `{base}/k/{key}/verify`.
const BASES: [&str; 2] = ["/facilitator", "/v1/facilitator"];
/// The prefix of all our keys.
const KEY_PREFIX: &str = "x402_";

/// A request's path, without the key that it held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestPath<'a> {
    /// For the route table: single slashes, no key (`/facilitator/verify`).
    pub route: Cow<'a, str>,
    /// For messages and logs: a mask where a key stood (`/facilitator/k/…/verify`).
    pub shown: Cow<'a, str>,
    /// The key in the path; empty where `k/` is followed by nothing.
    pub key: Option<String>,
}

impl<'a> RequestPath<'a> {
    /// Reads the path of a URL, as the client sent it.
    #[must_use]
    pub fn of(path: &'a str) -> Self {
        let path = single_slashes(path);
        let keyed = BASES.iter().find_map(|base| {
            let rest = path.strip_prefix(base)?.strip_prefix("/k")?;
            let rest = if rest.is_empty() { rest } else { rest.strip_prefix('/')? };
            let (key, after) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
            Some((*base, key.to_owned(), after.to_owned()))
        });
        match keyed {
            Some((base, key, after)) => {
                let shown = format!("{base}/k/{MASK}{}", mask_keys(&after));
                Self { route: format!("{base}{after}").into(), shown: shown.into(), key: Some(key) }
            }
            None if holds_key(&path) => Self { shown: mask_keys(&path).into(), route: path, key: None },
            None => Self { route: path.clone(), shown: path, key: None },
        }
    }
}

/// The path without empty parts: clients join a base that ends in a slash with a path that begins with one.
fn single_slashes(path: &str) -> Cow<'_, str> {
    if !path.contains("//") {
        return path.into();
    }
    let mut single = String::with_capacity(path.len());
    for letter in path.chars() {
        if letter != '/' || !single.ends_with('/') {
            single.push(letter);
        }
    }
    single.into()
}

/// A path with a mask in place of every part that looks like a key, wherever it stands.
fn mask_keys(path: &str) -> String {
    let parts = path.split('/').map(|part| if holds_key(part) { MASK } else { part });
    parts.collect::<Vec<_>>().join("/")
}

/// The byte of an escape `%HH`; `None` where the text ends in none.
fn escaped(text: &[u8]) -> Option<u8> {
    let [b'%', high, low] = text.last_chunk::<3>()? else { return None };
    let digit = |letter: u8| char::from(letter).to_digit(16);
    let byte = digit(*high)?.checked_mul(16)?.checked_add(digit(*low)?)?;
    u8::try_from(byte).ok()
}

/// A text in lower case with every escape decoded, however deep they are nested (`%2541` is `a`): in one pass, since each escape
/// that is complete shortens what was read. Invalid escapes stay.
fn decoded_whole(text: &str) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    for letter in text.bytes() {
        plain.push(letter.to_ascii_lowercase());
        while let Some(byte) = escaped(&plain) {
            plain.truncate(plain.len().saturating_sub(3));
            plain.push(byte.to_ascii_lowercase());
        }
    }
    plain
}

/// Whether a text holds a key's prefix, in either case and percent-encoded or not: a reader could decode it.
fn holds_key(text: &str) -> bool {
    decoded_whole(text).windows(KEY_PREFIX.len()).any(|part| part == KEY_PREFIX.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(path: &str, route: &str, shown: &str, key: Option<&str>) {
        let place = RequestPath::of(path);
        assert_eq!((&*place.route, &*place.shown, place.key.as_deref()), (route, shown, key), "{path}");
    }

    #[test]
    fn a_key_in_the_path_is_taken_out_of_it() {
        let route = "/facilitator/verify";
        check("/facilitator/k/x402_url_test_1/verify", route, "/facilitator/k/…/verify", Some("x402_url_test_1"));
        check(
            "/facilitator/k/x402_live_1/verify/",
            "/facilitator/verify/",
            "/facilitator/k/…/verify/",
            Some("x402_live_1"),
        );
        check("/v1/facilitator/k/abc/settle", "/v1/facilitator/settle", "/v1/facilitator/k/…/settle", Some("abc"));
        check("/facilitator/k/abc", "/facilitator", "/facilitator/k/…", Some("abc"));
        check("/facilitator/k", "/facilitator", "/facilitator/k/…", Some(""));
        check("/facilitator/k/", "/facilitator", "/facilitator/k/…", Some(""));
        check("/facilitator/k/a/b/c", "/facilitator/b/c", "/facilitator/k/…/b/c", Some("a"));
    }

    #[test]
    fn what_only_looks_like_it_holds_no_key() {
        for path in ["/", "/facilitator/verify", "/facilitator/kept/verify", "/v1/verify", "/k/abc/verify"] {
            check(path, path, path, None);
        }
    }

    #[test]
    fn a_key_in_the_wrong_place_is_not_shown() {
        let path = "/facilitator/x402_url_live_1/verify";
        check(path, path, "/facilitator/…/verify", None);
        let path = "/facilitator/k/abc/x402_url_live_1/verify";
        check(path, "/facilitator/x402_url_live_1/verify", "/facilitator/k/…/…/verify", Some("abc"));
    }

    #[test]
    fn a_key_is_not_shown_however_it_is_spelled() {
        for key in ["x402%5Furl_live_1", "%78402_live_1", "X402_URL_LIVE_1", "x402%255furl_live_1", "a%2Fx402_test_1%"]
        {
            check(&format!("/facilitator/{key}/x"), &format!("/facilitator/{key}/x"), "/facilitator/…/x", None);
            check(&format!("/facilitator/k/b/{key}"), &format!("/facilitator/{key}"), "/facilitator/k/…/…", Some("b"));
        }
        for path in ["/v1/verifications/x402%", "/%zz%5", "/x402%2D", "/%25"] {
            check(path, path, path, None);
        }
    }

    #[test]
    fn doubled_slashes_are_one() {
        check("//facilitator//verify", "/facilitator/verify", "/facilitator/verify", None);
        check("/facilitator//k///abc//settle", "/facilitator/settle", "/facilitator/k/…/settle", Some("abc"));
        check("///", "/", "/", None);
    }

    /// Decoding again and again, until nothing is left to decode.
    fn decoded_in_rounds(text: &str) -> Vec<u8> {
        let mut plain = text.to_ascii_lowercase().into_bytes();
        loop {
            let decoded = percent_encoding::percent_decode(&plain).collect::<Vec<u8>>().to_ascii_lowercase();
            if decoded.len() == plain.len() {
                return plain;
            }
            plain = decoded;
        }
    }

    /// Each round of decoding takes one level: rounds over a path of levels alone would take the square of its length.
    #[test]
    fn nested_escapes_are_decoded_in_one_pass() {
        let nested = format!("/v1/%{}78402_live_1", "25".repeat(500_000));
        assert_eq!(decoded_whole(&nested), b"/v1/x402_live_1");
        assert_eq!(RequestPath::of(&nested).shown, "/v1/…");
    }

    proptest! {
        #[test]
        fn one_pass_decodes_what_rounds_do(text in "[%2-7a-fA-F_x]{0,40}") {
            prop_assert_eq!(decoded_whole(&text), decoded_in_rounds(&text));
        }

        #[test]
        fn no_key_is_ever_shown(before in "(/|//|/v1/|/facilitator/|/facilitator/k/|/v1/facilitator//k/)", after in "(/[a-z/]{0,12})?") {
            let key = "x402_url_live_3HXMrnTdAa29dYnmNV26FHDN";
            let path = format!("{before}{key}{after}");
            let shown = RequestPath::of(&path).shown.into_owned();
            prop_assert!(!shown.contains("x402_"), "{}", shown);
            let bare = format!("/facilitator/k/anything{after}");
            prop_assert!(!RequestPath::of(&bare).shown.contains("anything"));
        }
    }
}

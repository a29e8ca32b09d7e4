//! The URL of a provider and its credentials. `fetch` refuses a URL with a user and a password, so they are taken out
//! and sent as Basic authentication (RFC 7617).
//!
//! An address is read as `fetch` reads it (WHATWG), and is sent as it was written: no part of its path is normalised.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr};
use url::{Host, Position, Url};

/// The URL and the `Authorization` header of requests to a provider.
#[derive(Clone, PartialEq, Eq)]
pub struct ProviderAccess<'a> {
    /// Its address, without user and password.
    pub url: Cow<'a, str>,
    /// The `Authorization` header, where the address named a user or a password.
    pub authorization: Option<String>,
}

/// Reads an address that [`is_address`] has accepted.
#[must_use]
pub fn provider_access(address: &str) -> ProviderAccess<'_> {
    let plain = || ProviderAccess { url: Cow::Borrowed(address), authorization: None };
    // An accepted address holds an `@` only before its host.
    let Some((_, after)) = address.rsplit_once('@') else { return plain() };
    let Ok(url) = Url::parse(address) else { return plain() };
    match basic_authorization(&url) {
        Some(authorization) => ProviderAccess { url: format!("{}://{after}", url.scheme()).into(), authorization },
        None => plain(),
    }
}

/// Whether a text is an `https` address (`http` on loopback), whose user and password, if it names any,
/// can be sent as Basic authentication: percent-encoded UTF-8 without control characters.
#[must_use]
pub(crate) fn is_address(text: &str) -> bool {
    // The parser drops or mends these, so that what a person reads is not what is called.
    if text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '\\') {
        return false;
    }
    let after_scheme = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    if after_scheme.is_none_or(|after| after.starts_with('/')) {
        return false;
    }
    let Ok(url) = Url::parse(text) else { return false };
    let is_loopback = || match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address == Ipv4Addr::LOCALHOST,
        Some(Host::Ipv6(address)) => address == Ipv6Addr::LOCALHOST,
        None => false,
    };
    let is_secure = url.scheme() == "https" || is_loopback();
    // A `/`, `?` or `#` in a password would end the host's part before the `@`.
    let is_whole = !url[Position::BeforePath..].contains('@');
    is_secure && is_whole && basic_authorization(&url).is_some()
}

/// An address's host, with its port unless that is the scheme's own: the only part of it that a log may hold.
#[must_use]
pub fn host(address: &str) -> String {
    let url = Url::parse(address).ok().filter(Url::has_host);
    url.map(|url| url[Position::BeforeHost..Position::AfterPort].to_owned()).unwrap_or_default()
}

/// The header for a user and a password: the inner `None` where both are empty, the outer where they cannot be sent.
fn basic_authorization(url: &Url) -> Option<Option<String>> {
    let (user, password) = (percent_decoded(url.username())?, percent_decoded(url.password().unwrap_or_default())?);
    // The first colon ends the user.
    if user.contains(':') {
        return None;
    }
    let is_named = !user.is_empty() || !password.is_empty();
    Some(is_named.then(|| format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))))
}

/// Percent-decodes text that must be UTF-8 without control characters.
fn percent_decoded(text: &str) -> Option<String> {
    let decoded = percent_decode_str(text).decode_utf8().ok()?;
    // An escape is three bytes for one; a `%` that begins none stays.
    let escapes = text.matches('%').count();
    let is_decoded = decoded.len().checked_add(escapes.checked_mul(2)?)? == text.len();
    (is_decoded && !decoded.chars().any(char::is_control)).then(|| decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(address: &str, url: &str, user: Option<&str>) {
        assert!(is_address(address), "{address}");
        let access = provider_access(address);
        let sent = user.map(|user| format!("Basic {}", STANDARD.encode(user)));
        assert_eq!((access.url.as_ref(), access.authorization), (url, sent), "{address}");
    }

    #[test]
    fn a_user_and_a_password_become_basic_authentication() {
        check("https://a.example/v1?k=1", "https://a.example/v1?k=1", None);
        check("https://me:pass@a.example:8545/v1#x", "https://a.example:8545/v1#x", Some("me:pass"));
        check("http://me:pass@127.0.0.1:8545", "http://127.0.0.1:8545", Some("me:pass"));
        check("http://me:pass@[::1]:8545/", "http://[::1]:8545/", Some("me:pass"));
        // Infura's secret has no user; others' token has no password.
        check("https://:secret@a.example", "https://a.example", Some(":secret"));
        check("https://token@a.example", "https://a.example", Some("token:"));
        check("https://:@a.example/", "https://a.example/", None);
        check("https://m%40e:p%3A%2f%C3%A9%25:@a.example", "https://a.example", Some("m@e:p:/é%:"));
        // Nothing is normalised.
        let path = "/v1/../a%2Fb//c?x=%zz|y";
        check(&format!("https://A.example:443{path}"), &format!("https://A.example:443{path}"), None);
        check(&format!("https://me:é@A.example:443{path}"), &format!("https://A.example:443{path}"), Some("me:é"));
        check("https://xn--bcher-kva.example", "https://xn--bcher-kva.example", None);
        // The last `@` ends them, as browsers read it.
        check("https://me:p@ss@a.example", "https://a.example", Some("me:p@ss"));
    }

    #[test]
    fn a_host_holds_neither_user_nor_path() {
        for address in ["https://a.example:1/v1/key", "https://me:p@ss@a.example:1?key", "https://a.example:1"] {
            assert_eq!(host(address), "a.example:1", "{address}");
        }
        assert_eq!(host("me:pass@a.example"), "");
    }

    #[test]
    fn what_cannot_be_sent_is_no_address() {
        for wrong in [
            "https://me:p/ss@a.example",
            "https://me:1/ss@a.example",
            "https://me:p?ss@a.example",
            "https://me:p#ss@a.example",
            "https://me:%zz@a.example",
            "https://me:%2@a.example",
            "https://me:%ff@a.example",
            "https://me:%0a@a.example",
            "https://m%3Ae:pass@a.example",
            "https://me:pass@",
            "https://me:pass@:80",
            "https://a.example:port",
            "https://a.example:70000",
            "https://a.example\\@b.example",
            "http://127.0.0.1@a.example",
            "http://127.0.0.1:1@a.example/",
            "http://a.example",
            "https://",
            "https:///x",
            "https:a.example",
            "https://a.exa\tmple",
            "https://256.1.1.1",
            "https://bücher.example",
            "ftp://a.example",
            "a b",
        ] {
            assert!(!is_address(wrong), "{wrong}");
        }
    }
}

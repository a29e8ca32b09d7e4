//! The URL of a provider and its credentials. `fetch` refuses a URL with a user and a password, so they are taken out
//! and sent as Basic authentication (RFC 7617).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::borrow::Cow;

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
    let Some(UrlParts { scheme, user: Some(user), host, rest }) = url_parts(address) else { return plain() };
    let url = Cow::Owned(format!("{scheme}://{host}{rest}"));
    match basic_authorization(user) {
        Some(authorization) => ProviderAccess { url, authorization },
        None => plain(),
    }
}

/// Whether a text is an `https` address (`http` on loopback), whose user and password, if it names any,
/// can be sent as Basic authentication: percent-encoded UTF-8 without control characters.
#[must_use]
pub fn is_address(text: &str) -> bool {
    let is_plain = !text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '\\');
    let Some(UrlParts { scheme, user, host, rest }) = url_parts(text).filter(|_| is_plain) else { return false };
    let (name, port) = match host.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) {
        Some((name, port)) => (name, Some(port)),
        None => (host, None),
    };
    let is_port = port.is_none_or(|port| !port.starts_with('+') && port.parse::<u16>().is_ok());
    let is_name = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || "-._".contains(c));
    let is_v6 = |name: &str| name.chars().all(|c| c.is_ascii_hexdigit() || ":.".contains(c));
    let is_host = match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        Some(name) => is_v6(name),
        None => is_name(name),
    };
    let is_secure = match scheme {
        "https" => true,
        "http" => ["127.0.0.1", "localhost", "[::1]"].contains(&name),
        _ => false,
    };
    // A `/`, `?` or `#` in a password would end the host's part before the `@`.
    is_secure
        && is_host
        && is_port
        && !rest.contains('@')
        && user.is_none_or(|user| basic_authorization(user).is_some())
}

/// An address's host with its port: the only part of it that a log may hold.
#[must_use]
pub fn host(address: &str) -> &str {
    url_parts(address).map_or("", |parts| parts.host)
}

/// Whether an address names a user or a password.
#[must_use]
pub fn has_user(address: &str) -> bool {
    url_parts(address).is_some_and(|parts| parts.user.is_some())
}

/// An address, cut where its parts end. No part is decoded.
struct UrlParts<'a> {
    scheme: &'a str,
    user: Option<&'a str>,
    /// Host name or address, with the port if there is one.
    host: &'a str,
    rest: &'a str,
}

fn url_parts(address: &str) -> Option<UrlParts<'_>> {
    let (scheme, after) = address.split_once("://")?;
    let end = after.find(['/', '?', '#']).unwrap_or(after.len());
    let (authority, rest) = after.split_at_checked(end)?;
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    Some(UrlParts { scheme, user, host, rest })
}

/// The header for `user:password`: the inner `None` where both are empty, the outer where they cannot be sent.
fn basic_authorization(user: &str) -> Option<Option<String>> {
    let (user, password) = user.split_once(':').unwrap_or((user, ""));
    let (user, password) = (percent_decoded(user)?, percent_decoded(password)?);
    // The first colon ends the user.
    if user.contains(':') {
        return None;
    }
    let is_named = !user.is_empty() || !password.is_empty();
    Some(is_named.then(|| format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))))
}

/// Percent-decodes text that must be UTF-8 without control characters.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut pieces = text.split('%');
    bytes.extend(pieces.next().unwrap_or_default().bytes());
    for piece in pieces {
        let (digits, plain) = piece.split_at_checked(2)?;
        let mut byte = [0_u8];
        hex::decode_to_slice(digits, &mut byte).ok()?;
        bytes.extend(byte);
        bytes.extend(plain.bytes());
    }
    String::from_utf8(bytes).ok().filter(|text| !text.chars().any(char::is_control))
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
            "ftp://a.example",
            "a b",
        ] {
            assert!(!is_address(wrong), "{wrong}");
        }
    }
}

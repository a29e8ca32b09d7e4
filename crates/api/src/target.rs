//! The parts of a request's URL. The platform writes it as scheme, `Host` header and request target, and leaves the
//! target as the client sent it.
//!
//! It is cut, not parsed: a WHATWG parser would resolve `..` and `%2e`, and answer another route than the one that was
//! asked for.

/// Origin, path and query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UrlTarget<'a> {
    /// `https://api.example.com`.
    pub origin: &'a str,
    /// `/v1/verify`, as it came: neither decoded nor normalised.
    pub path: &'a str,
    /// Without the question mark; empty where there is none.
    pub query: &'a str,
}

impl<'a> UrlTarget<'a> {
    /// Splits a URL; what is none is all origin. The path of one without a slash after its host is `/`. The fragment is
    /// dropped.
    #[must_use]
    pub fn of(url: &'a str) -> Self {
        let (rest, _fragment) = url.split_once('#').unwrap_or((url, ""));
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let host = rest.find("://").map_or(0, |at| at.saturating_add(3));
        let path = rest.get(host..).and_then(|after| after.find('/')).map(|at| host.saturating_add(at));
        let (origin, path) = path.and_then(|at| rest.split_at_checked(at)).unwrap_or((rest, "/"));
        Self { origin, path, query }
    }
}

/// Whether the header `Host` is a host, with a port or without (RFC 9110, section 7.2). The platform writes a URL from it unread: one
/// that holds a slash or a question mark would put another path into the place of the request's own.
#[must_use]
pub fn is_host(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_holds_no_path() {
        for host in ["x.test", "X.test:8787", "127.0.0.1:80", "[::1]:1", "a_b.test", "xn--bcher-kva.test"] {
            assert!(is_host(host), "{host}");
        }
        for other in [
            "",
            "x.test/v1/admin",
            "x.test?",
            "x.test#",
            "a@x.test",
            "x.test\\v1",
            "x test",
            "x.test,y.test",
            "é.test",
            "%2f",
        ] {
            assert!(!is_host(other), "{other}");
        }
    }

    #[test]
    fn a_url_falls_into_its_parts() {
        let parts = |url| {
            let UrlTarget { origin, path, query } = UrlTarget::of(url);
            (origin, path, query)
        };
        assert_eq!(parts("https://x.test/v1/a%2Fb?c=d&e"), ("https://x.test", "/v1/a%2Fb", "c=d&e"));
        assert_eq!(parts("https://x.test:80/v1/../%2e%2e/x\\y"), ("https://x.test:80", "/v1/../%2e%2e/x\\y", ""));
        assert_eq!(parts("http://127.0.0.1:8787/"), ("http://127.0.0.1:8787", "/", ""));
        assert_eq!(parts("http://[::1]:1/a?b?c#d"), ("http://[::1]:1", "/a", "b?c"));
        assert_eq!(parts("https://x.test?q"), ("https://x.test", "/", "q"));
        assert_eq!(parts(""), ("", "/", ""));
        assert_eq!(parts("é"), ("é", "/", ""));
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

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

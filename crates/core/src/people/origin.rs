//! Cross-site request forgery: which pages may make a request to which the browser adds a cookie of ours.
//!
//! The rule of Go's `net/http.CrossOriginProtection` (Go 1.25), stricter: a request with one of our cookies and with neither
//! header is refused. Browsers send `Sec-Fetch-Site` to every https origin (Fetch Metadata Request Headers, W3C) and
//! `Origin` with every unsafe method (Fetch Standard).

use crate::error::{ErrorCode, Fault};

/// What a request says of the page that makes it.
#[derive(Clone, Copy, Debug)]
pub struct RequestSource<'a> {
    /// The header `Sec-Fetch-Site`.
    pub fetch_site: Option<&'a str>,
    /// The header `Origin`.
    pub origin: Option<&'a str>,
    /// Whether the request carries a cookie of ours.
    pub has_cookie: bool,
}

impl RequestSource<'_> {
    /// Checks an unsafe request; `own` is our origin. A page of a sibling domain (`same-site`) is another page.
    ///
    /// # Errors
    /// `CROSS_ORIGIN`.
    pub fn check(&self, own: &str) -> Result<(), Fault> {
        let is_own = match (self.fetch_site, self.origin) {
            (Some(site), _) => site == "same-origin",
            (None, Some(origin)) => origin == own,
            (None, None) => !self.has_cookie,
        };
        let detail = "the request comes from a page of another origin, or does not say from which: send `Origin`";
        if is_own { Ok(()) } else { Err(Fault::new(ErrorCode::CrossOrigin, detail)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(fetch_site: Option<&str>, origin: Option<&str>, has_cookie: bool, want: bool) {
        let found = RequestSource { fetch_site, origin, has_cookie }.check("https://api.example");
        assert_eq!(found.map_err(|fault| fault.code), if want { Ok(()) } else { Err(ErrorCode::CrossOrigin) });
    }

    #[test]
    fn only_our_own_pages_use_our_cookies() {
        for has_cookie in [true, false] {
            check(Some("same-origin"), None, has_cookie, true);
            check(Some("same-origin"), Some("https://api.example"), has_cookie, true);
            check(None, Some("https://api.example"), has_cookie, true);
            for site in ["same-site", "cross-site", "none", "", "Same-Origin"] {
                check(Some(site), None, has_cookie, false);
                check(Some(site), Some("https://api.example"), has_cookie, false);
            }
            for origin in ["null", "", "https://api.example.evil", "http://api.example", "https://sub.api.example"] {
                check(None, Some(origin), has_cookie, false);
            }
        }
        // A program that is no browser has no cookies of somebody else.
        check(None, None, false, true);
        check(None, None, true, false);
    }
}

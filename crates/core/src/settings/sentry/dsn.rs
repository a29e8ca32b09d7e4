//! The address of a Sentry project.

use crate::settings::provider::is_address;
use url::{Position, Url};

/// A DSN: `https://<public key>@<host>[/<path>]/<project>`. It has no `Debug`: its key lets anybody send events.
#[derive(Clone, PartialEq, Eq)]
pub struct SentryDsn {
    url: String,
    public_key: String,
}

impl SentryDsn {
    /// Reads a DSN, `https` or on loopback `http`. The password of older ones is no longer used.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if !is_address(text) {
            return None;
        }
        let url = Url::parse(text).ok()?;
        let (path, project) = url.path().rsplit_once('/')?;
        let is_name = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !is_name(url.username()) || !is_name(project) || url.query().is_some() || url.fragment().is_some() {
            return None;
        }
        let host = &url[Position::BeforeHost..Position::AfterPort];
        let endpoint = format!("{}://{host}{path}/api/{project}/envelope/", url.scheme());
        Some(Self { url: endpoint, public_key: url.username().to_owned() })
    }

    /// Where envelopes are posted.
    #[must_use]
    pub fn envelope_url(&self) -> &str {
        &self.url
    }

    /// The header `X-Sentry-Auth`.
    #[must_use]
    pub fn authorization(&self) -> String {
        format!("Sentry sentry_version=7, sentry_client=x402-edge/{}, sentry_key={}", VERSION, self.public_key)
    }
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dsn_names_the_endpoint_of_its_project() {
        for (text, url) in [
            ("https://0a1b@o1.ingest.sentry.io/42", "https://o1.ingest.sentry.io/api/42/envelope/"),
            ("https://0a1b:old@sentry.example:8443/42", "https://sentry.example:8443/api/42/envelope/"),
            ("https://0a1b@sentry.example/under/here/42", "https://sentry.example/under/here/api/42/envelope/"),
            ("http://spotlight@localhost:8969/1", "http://localhost:8969/api/1/envelope/"),
        ] {
            let dsn = SentryDsn::parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(dsn.envelope_url(), url, "{text}");
        }
        let dsn = SentryDsn::parse("https://0a1b@sentry.example/42").expect("a DSN");
        assert!(dsn.authorization().ends_with("sentry_key=0a1b"));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "0a1b@sentry.example/42",
            "http://0a1b@sentry.example/42",
            "https://sentry.example/42",
            "https://0a1b@sentry.example",
            "https://0a1b@sentry.example/",
            "https://0a1b@sentry.example/42/",
            "https://0a1b@sentry.example/42?x=1",
            "https://0a1b@sentry.example/42#x",
            "https://0a 1b@sentry.example/42",
            "https://0a%2C1b@sentry.example/42",
        ] {
            assert!(SentryDsn::parse(text).is_none(), "{text}");
        }
    }
}

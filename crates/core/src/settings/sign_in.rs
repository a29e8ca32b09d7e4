//! Other services that take part in a sign-in: Turnstile, which tells people from programs, and GitHub.

use super::provider::is_address;
use super::{PUBLIC_URL, Setting};

const TURNSTILE: &str = "TURNSTILE_SECRET";
const GITHUB_ID: &str = "GITHUB_CLIENT_ID";
const GITHUB_SECRET: &str = "GITHUB_CLIENT_SECRET";
const DOH_URL: &str = "DOH_URL";
const DOH_DEFAULT: &str = "https://cloudflare-dns.com/dns-query";

/// The row of `TURNSTILE_SECRET`.
pub(super) const TURNSTILE_ROW: Setting = Setting {
    name: TURNSTILE,
    secret: true,
    required: false,
    default: "none: no token is asked for",
    meaning: "The secret key of a Cloudflare Turnstile widget. With it `POST /v1/signup` and `/v1/login` need the widget's \
              token in `turnstile_token`; while Turnstile does not answer, nobody gets a mail. Set it where mails are sent: \
              without it programs can ask for mails to any address.",
};
/// The row of `GITHUB_CLIENT_ID`.
pub(super) const GITHUB_ID_ROW: Setting = Setting {
    name: GITHUB_ID,
    secret: false,
    required: false,
    default: "none: nobody signs in by GitHub",
    meaning: "The client id of a GitHub OAuth app whose callback URL is `PUBLIC_URL` and `/v1/session/github/callback`. It \
              needs `GITHUB_CLIENT_SECRET` and `PUBLIC_URL`.",
};
/// The row of `GITHUB_CLIENT_SECRET`.
pub(super) const GITHUB_SECRET_ROW: Setting = Setting {
    name: GITHUB_SECRET,
    secret: true,
    required: false,
    default: "none; required with `GITHUB_CLIENT_ID`",
    meaning: "The OAuth app's client secret.",
};

/// The row of `DOH_URL`.
pub(super) const DOH_ROW: Setting = Setting {
    name: DOH_URL,
    secret: false,
    required: false,
    default: DOH_DEFAULT,
    meaning: "The DNS resolver over HTTPS, with answers in JSON, that looks for the records by which tenants prove their mail \
              domains, and for the addresses of webhook endpoints. It needs `PUBLIC_URL` for people to sign in by their \
              company's identity provider.",
};

/// What another service knows us by (OAuth 2.0, RFC 6749, section 2.3.1).
#[derive(Clone, PartialEq, Eq)]
pub struct OauthClient {
    /// The client id.
    pub id: String,
    /// The client secret.
    pub secret: String,
}

/// The settings of other services.
#[derive(Default)]
pub(super) struct SignInSettings {
    pub(super) turnstile: Option<String>,
    pub(super) github: Option<OauthClient>,
    pub(super) resolver: String,
}

impl SignInSettings {
    /// Reads them. `has_url`: `PUBLIC_URL` is set.
    pub(super) fn read(
        get: &impl Fn(&str) -> Option<String>,
        has_url: bool,
        wrong: &mut impl FnMut(&str, &'static str),
    ) -> Self {
        let github = match (get(GITHUB_ID), get(GITHUB_SECRET)) {
            (Some(id), Some(secret)) => Some(OauthClient { id, secret }),
            (Some(_), None) => {
                wrong(GITHUB_SECRET, "must be set with `GITHUB_CLIENT_ID`");
                None
            }
            (None, Some(_)) => {
                wrong(GITHUB_ID, "must be set with `GITHUB_CLIENT_SECRET`");
                None
            }
            (None, None) => None,
        };
        if github.is_some() && !has_url {
            wrong(PUBLIC_URL, "must be set where people sign in by GitHub: it sends them back there");
        }
        let resolver = get(DOH_URL).unwrap_or_else(|| DOH_DEFAULT.to_owned());
        if !is_address(&resolver) || resolver.contains(['@', '#']) {
            wrong(DOH_URL, "must be an https URL (http on loopback), without user, password and fragment");
        }
        Self { turnstile: get(TURNSTILE), github, resolver }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pairs: &[(&str, &str)], wrong: &[&str]) -> SignInSettings {
        let get = |name: &str| pairs.iter().find(|(each, _)| *each == name).map(|(_, value)| (*value).to_owned());
        let mut found = Vec::new();
        let has_url = pairs.iter().any(|(name, _)| *name == PUBLIC_URL);
        let read = SignInSettings::read(&get, has_url, &mut |name: &str, _| found.push(name.to_owned()));
        assert_eq!(found, wrong, "{pairs:?}");
        read
    }

    #[test]
    fn a_service_has_all_that_it_needs() {
        let (id, secret, url) = ((GITHUB_ID, "Iv1"), (GITHUB_SECRET, "s"), (PUBLIC_URL, "https://x.test"));
        assert!(check(&[], &[]).github.is_none());
        let client = OauthClient { id: "Iv1".to_owned(), secret: "s".to_owned() };
        assert!(check(&[id, secret, url], &[]).github == Some(client));
        check(&[id, url], &[GITHUB_SECRET]);
        check(&[secret, url], &[GITHUB_ID]);
        check(&[id, secret], &[PUBLIC_URL]);
        assert_eq!(check(&[(TURNSTILE, "0x4")], &[]).turnstile.as_deref(), Some("0x4"));
        assert_eq!(check(&[], &[]).resolver, DOH_DEFAULT);
        assert_eq!(check(&[(DOH_URL, "https://dns.x.test/q")], &[]).resolver, "https://dns.x.test/q");
        for wrong in ["http://dns.x.test/", "dns.x.test", "https://a:b@dns.x.test/", "https://dns.x.test/#a"] {
            check(&[(DOH_URL, wrong)], &[DOH_URL]);
        }
    }
}

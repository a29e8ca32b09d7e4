//! Signing in by another service: OAuth 2.0 with a state (RFC 6749, section 10.12) and PKCE (RFC 7636).
//!
//! A browser gets a cookie of its own and a state in the address that it is sent to. The directory holds the hashes of both,
//! so a state counts in the browser that it was made for. The verifier is derived from the cookie and stored nowhere.

use super::secret::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use x402_chain::id::TenantId;
use x402_chain::time::UnixMillis;

/// How long a person may take at the other service.
pub const OAUTH_MS: u64 = 10 * 60 * 1_000;

/// The other services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityProvider {
    /// github.com.
    Github,
    /// The provider of a tenant's own.
    Oidc(TenantId),
}

impl IdentityProvider {
    /// The name in the directory.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Github => "github".to_owned(),
            Self::Oidc(tenant) => format!("oidc {tenant}"),
        }
    }

    /// The name that people know.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Github => "GitHub",
            Self::Oidc(_) => "your company's identity provider",
        }
    }

    /// The service with this name in the directory, whose accounts their people link and end themselves; `None` for any
    /// other text, and for a company's own provider.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        (text == "github").then_some(Self::Github)
    }
}

/// A person as another service names him: its own id stays when a name or an address changes.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    /// The service.
    pub provider: IdentityProvider,
    /// The service's id of the person.
    pub subject: &'a str,
}

impl<'a> Identity<'a> {
    /// The most characters of a service's id of a person; GitHub's has 20 at most.
    const SUBJECT_MAX: usize = 64;

    /// The id under which a person finds the account among those linked: `github-583231`.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}-{}", self.provider.name(), self.subject)
    }

    /// Reads such an id; `None` for any other text.
    #[must_use]
    pub fn parse(text: &'a str) -> Option<Self> {
        let (provider, subject) = text.split_once('-')?;
        let is_subject = !subject.is_empty() && subject.len() <= Self::SUBJECT_MAX;
        Some(Self { provider: IdentityProvider::parse(provider)?, subject: is_subject.then_some(subject)? })
    }
}

/// The verifier of a browser's sign-in: 64 characters of hex. `None` only where the platform's HMAC takes no key of 32 bytes.
#[must_use]
pub fn verifier(browser: &Secret) -> Option<String> {
    Some(browser.child("x402 oauth verifier")?.text())
}

/// The challenge of a verifier, by the method `S256`.
#[must_use]
pub fn challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()))
}

/// When a state of this time ends.
#[must_use]
pub const fn expiry(now: UnixMillis) -> UnixMillis {
    UnixMillis(now.0.saturating_add(OAUTH_MS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_that_of_the_specification() {
        // RFC 7636, appendix B.
        assert_eq!(
            challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
        );
    }

    #[test]
    fn an_account_has_one_id_here() {
        let read = Identity::parse("github-583231").expect("an id");
        assert_eq!(
            (read.provider, read.subject, read.id().as_str()),
            (IdentityProvider::Github, "583231", "github-583231")
        );
        let long = format!("github-{}", "1".repeat(65));
        for wrong in ["", "x", "github", "github-", "gitlab-1", "GitHub-1", &long] {
            assert!(Identity::parse(wrong).is_none(), "{wrong}");
        }
        assert!(expiry(UnixMillis(5)) == UnixMillis(5 + OAUTH_MS));
    }

    #[test]
    fn a_verifier_is_the_browsers_own_and_not_its_cookie() {
        let [one, two] = [1, 2].map(|byte| Secret::new([byte; 32]));
        let verifier_of = |secret: &Secret| verifier(secret).expect("made");
        assert_eq!(verifier_of(&one), verifier_of(&one));
        assert_ne!(verifier_of(&one), verifier_of(&two));
        assert_ne!(verifier_of(&one), one.text());
        assert_eq!(verifier_of(&one).len(), 64);
    }
}

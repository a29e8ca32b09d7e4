//! Signing in by a company's own identity provider (OpenID Connect), for the addresses of a mail domain that the company has
//! proven by a record in the DNS.

use super::secret::Secret;
use crate::error::{ErrorCode, Fault};
use crate::people::deletion::Deletion;
use crate::public_url::{HOST_MAX, is_public_host};
use crate::tenancy::tenant::TenantStatus;
use crate::tenancy::tier::Tier;
use core::fmt;
use x402_chain::time::UnixMillis;

/// How long a proof counts before the record is looked up again.
pub const PROOF_MS: u64 = 24 * 60 * 60 * 1_000;
/// The first label of the record's name.
const RECORD_LABEL: &str = "_x402-edge.";
/// What the record's text begins with.
const RECORD_KEY: &str = "x402-edge-domain=";

/// The domain of a company's mail addresses: a public name in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailDomain(String);

impl MailDomain {
    /// Reads a domain in any case; an international one is in Punycode.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let name = text.to_ascii_lowercase();
        let fits = name.len().saturating_add(RECORD_LABEL.len()) <= HOST_MAX;
        (fits && is_public_host(&name)).then_some(Self(name))
    }

    /// The domain of an address in lower case.
    #[must_use]
    pub fn of(email: &str) -> Option<Self> {
        email.split_once('@').and_then(|(_, domain)| Self::parse(domain))
    }

    /// Whether an address in lower case is of this very domain, and not of one below it.
    #[must_use]
    pub fn has(&self, email: &str) -> bool {
        email.split_once('@').is_some_and(|(_, domain)| domain == self.0)
    }

    /// The domain.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the TXT record that proves the domain.
    #[must_use]
    pub fn record_name(&self) -> String {
        format!("{RECORD_LABEL}{}", self.0)
    }
}

impl fmt::Display for MailDomain {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// The text of the record that proves a domain to be the tenant's of this token.
#[must_use]
pub fn record_text(token: &str) -> String {
    format!("{RECORD_KEY}{token}")
}

/// Whether the texts of a record hold the token.
#[must_use]
pub fn is_recorded(texts: &[String], token: &str) -> bool {
    let wanted = record_text(token);
    texts.iter().any(|text| text.trim() == wanted)
}

/// Whether a proof that was checked at a time still counts.
#[must_use]
pub const fn is_fresh(checked_at: UnixMillis, now: UnixMillis) -> bool {
    now.since(checked_at) < PROOF_MS
}

/// The nonce of a browser's sign-in: 64 characters of hex. It is derived from the browser's cookie and stored nowhere.
/// `None` only where the platform's HMAC takes no key of 32 bytes.
#[must_use]
pub fn nonce(browser: &Secret) -> Option<String> {
    Some(browser.child("x402 oidc nonce")?.text())
}

/// Checks whether a tier includes signing in by a provider of the tenant's own.
///
/// # Errors
/// `NOT_IN_TIER`, which another tier would allow.
pub fn check_oidc_tier(tier: Tier) -> Result<(), Fault> {
    if tier.plan().oidc {
        return Ok(());
    }
    let detail = format!("the tier '{}' does not include sign-in by your own provider", tier.plan().name);
    Err(Fault::new(ErrorCode::NotInTier, detail).upgradable())
}

/// Whether people sign in by the provider of a tenant: its tier includes that, it is served, and it is not being deleted.
#[must_use]
pub fn is_open(tier: Tier, status: TenantStatus, deletion: Deletion) -> bool {
    tier.plan().oidc && status == TenantStatus::Active && deletion.check_none().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_has_its_own_addresses_only() {
        let domain = MailDomain::parse("Corp.Example").expect("a domain");
        assert_eq!(domain.record_name(), "_x402-edge.corp.example");
        assert!(domain.has("ann@corp.example"));
        for other in ["ann@a.corp.example", "ann@xcorp.example", "ann@example", "ann@corp.example.", "corp.example", ""]
        {
            assert!(!domain.has(other), "{other}");
        }
        assert_eq!(MailDomain::of("ann@corp.example"), Some(domain));
        for wrong in ["", "example", "a.local", "1.2.3.4", "a b.example", "bücher.example", "a.example.", "*.example"]
        {
            assert_eq!(MailDomain::parse(wrong), None, "{wrong}");
        }
        assert_eq!(MailDomain::parse(&format!("{}example", "a.".repeat(120))), None, "no room for the label");
    }

    #[test]
    fn a_record_is_the_whole_text() {
        let texts = ["v=spf1 -all".to_owned(), record_text("ab")];
        assert!(is_recorded(&texts, "ab"));
        assert!(!is_recorded(&texts, "a") && !is_recorded(&texts, "abc") && !is_recorded(&[], "ab"));
    }

    #[test]
    fn a_proof_counts_for_a_day() {
        assert!(is_fresh(UnixMillis(5), UnixMillis(4 + PROOF_MS)));
        assert!(!is_fresh(UnixMillis(5), UnixMillis(5 + PROOF_MS)));
    }

    #[test]
    fn only_an_active_tenant_of_the_largest_tier_has_it() {
        let open = |tier, status, deletion| is_open(tier, status, deletion);
        assert!(open(Tier::Enterprise, TenantStatus::Active, Deletion::None));
        assert!(!open(Tier::Pro, TenantStatus::Active, Deletion::None));
        assert!(!open(Tier::Enterprise, TenantStatus::Suspended, Deletion::None));
        let confirmed = Deletion::Confirmed { due_at: UnixMillis(1) };
        assert!(!open(Tier::Enterprise, TenantStatus::Active, confirmed));
        assert!(check_oidc_tier(Tier::Enterprise).is_ok() && check_oidc_tier(Tier::Free).is_err());
    }

    #[test]
    fn a_nonce_is_not_the_verifier() {
        let browser = Secret::new([1; 32]);
        assert_ne!(nonce(&browser), super::super::oauth::verifier(&browser));
        assert_eq!(nonce(&browser), nonce(&browser));
    }
}

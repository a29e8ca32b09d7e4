//! The secret by which an endpoint's messages are signed (Standard Webhooks 1.0.0, section "Signature scheme").

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use core::fmt;

/// What a secret's text begins with.
const PREFIX: &str = "whsec_";

/// A secret of 32 random bytes. It has no `Debug` that shows them.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSecret([u8; 32]);

impl WebhookSecret {
    /// A secret of random bytes.
    #[must_use]
    pub const fn new(random: [u8; 32]) -> Self {
        Self(random)
    }

    /// Its text: `whsec_` and base64.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{PREFIX}{}", STANDARD.encode(self.0))
    }

    /// Reads a text; `None` for what [`WebhookSecret::text`] does not write.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Some(Self(STANDARD.decode(text.strip_prefix(PREFIX)?).ok()?.try_into().ok()?))
    }

    /// The key of the signatures.
    #[must_use]
    pub const fn key(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("WebhookSecret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_as_it_was_written_and_never_shown() {
        let secret = WebhookSecret::new([7; 32]);
        assert_eq!(secret.text(), "whsec_BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=");
        assert_eq!(WebhookSecret::parse(&secret.text()), Some(secret.clone()));
        assert_eq!(secret.key(), &[7; 32]);
        assert_eq!(format!("{secret:?}"), "WebhookSecret(…)");
        for wrong in ["", "whsec_", "whsec_BwcH", "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=", "whsec_!"] {
            assert_eq!(WebhookSecret::parse(wrong), None, "{wrong}");
        }
    }
}

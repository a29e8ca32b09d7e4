//! Secrets of 32 bytes: session cookies, the cookie that binds a code to a browser, and tokens in links.

use core::fmt;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// A secret of 32 bytes, written as 64 lower-case hex digits. It is stored only as its hash.
#[derive(Clone, Copy)]
pub struct Secret([u8; 32]);

/// Compared in constant time.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Secret {}

/// Whether two texts are the same, of which one is a secret or was derived from one; compared in constant time.
#[must_use]
pub fn is_same_text(one: &str, other: &str) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

impl Secret {
    /// A secret of random bytes.
    #[must_use]
    pub const fn new(random: [u8; 32]) -> Self {
        Self(random)
    }

    /// The secret that a pepper gives to an id: HMAC-SHA256 over the purpose and the id. `None` only where the platform's
    /// HMAC takes no key of 32 bytes.
    #[must_use]
    pub(crate) fn derived(pepper: &[u8; 32], purpose: &str, id: &str) -> Option<Self> {
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(pepper).ok()?;
        mac.update(purpose.as_bytes());
        mac.update(&[0]);
        mac.update(id.as_bytes());
        Some(Self(mac.finalize().into_bytes().into()))
    }

    /// A secret that this one gives to a purpose; nobody finds this one by it.
    #[must_use]
    pub(crate) fn child(&self, purpose: &str) -> Option<Self> {
        Self::derived(&self.0, purpose, "")
    }

    /// Reads 64 lower-case hex digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0_u8; 32];
        let lower = !text.bytes().any(|letter| letter.is_ascii_uppercase());
        (lower && hex::decode_to_slice(text, &mut bytes).is_ok()).then_some(Self(bytes))
    }

    /// The secret's text, for a cookie or a link.
    #[must_use]
    pub fn text(&self) -> String {
        hex::encode(self.0)
    }

    /// SHA-256 of the bytes as hex: what is stored. A secret has 256 bits, so the hash needs no salt.
    #[must_use]
    pub fn hash(&self) -> String {
        hex::encode(Sha256::digest(self.0))
    }

    /// The bytes.
    pub(crate) const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether this is the secret that was stored as a hash; compared in constant time.
    #[must_use]
    pub fn has_hash(&self, stored: &str) -> bool {
        is_same_text(&self.hash(), stored)
    }

    /// The first eight bytes as a number.
    pub(crate) const fn number(&self) -> u64 {
        let [b0, b1, b2, b3, b4, b5, b6, b7, ..] = self.0;
        u64::from_be_bytes([b0, b1, b2, b3, b4, b5, b6, b7])
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_written_in_one_way_and_never_printed() {
        let secret = Secret::new([0xab; 32]);
        assert_eq!(Secret::parse(&secret.text()), Some(secret));
        for wrong in [&secret.text().to_uppercase(), &secret.text()[1..], "", &"g".repeat(64)] {
            assert_eq!(Secret::parse(wrong), None, "{wrong}");
        }
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        assert_ne!(secret.hash(), secret.text());
    }

    #[test]
    fn a_secret_is_found_by_its_whole_hash() {
        let (secret, hash) = (Secret::new([0xab; 32]), Secret::new([0xab; 32]).hash());
        assert!(secret.has_hash(&hash));
        for wrong in [&Secret::new([0xac; 32]).hash(), &hash[1..], &format!("{hash}0"), ""] {
            assert!(!secret.has_hash(wrong), "{wrong}");
        }
    }
}

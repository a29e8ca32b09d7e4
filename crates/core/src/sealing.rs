//! Secrets of others that the service must read again, such as the client secret of an identity provider. They are stored
//! encrypted (AES-256-GCM, NIST SP 800-38D) under a key that a pepper of `KEY_PEPPERS` gives, so the directory alone opens
//! none. The name of the row is authenticated with each: a text that was moved to another row does not open.
//!
//! This half says how keys are derived and what is stored; the platform's WebCrypto does the encryption.

use crate::people::secret::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The bytes of a nonce. It is random: one key may seal 2^32 texts (NIST SP 800-38D, section 8.3).
pub const NONCE_BYTES: usize = 12;
/// The first part of what is stored: the form of the rest.
const FORM: &str = "v1";

/// The key of 32 bytes that a pepper gives. `None` only where the platform's HMAC takes no key of 32 bytes.
#[must_use]
pub fn sealing_key(pepper: &[u8; 32]) -> Option<[u8; 32]> {
    Some(*Secret::derived(pepper, "x402 sealed secrets", FORM)?.bytes())
}

/// The row whose secret is sealed: a table's name and the row's id.
#[derive(Clone, Copy, Debug)]
pub struct SealedRow<'a> {
    /// The table.
    pub table: &'static str,
    /// The id of the row within it.
    pub id: &'a str,
}

impl SealedRow<'_> {
    /// What is authenticated with the text.
    #[must_use]
    pub fn associated_data(self) -> String {
        format!("{}\0{}", self.table, self.id)
    }
}

/// A sealed text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The nonce.
    pub nonce: [u8; NONCE_BYTES],
    /// The ciphertext with its tag of 16 bytes.
    pub ciphertext: Vec<u8>,
}

impl Sealed {
    /// The text that is stored: `v1.`, the nonce, `.` and the ciphertext, in base64 for URLs.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{FORM}.{}.{}", URL_SAFE_NO_PAD.encode(self.nonce), URL_SAFE_NO_PAD.encode(&self.ciphertext))
    }

    /// Reads it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (nonce, ciphertext) = text.strip_prefix(FORM)?.strip_prefix('.')?.split_once('.')?;
        let nonce = URL_SAFE_NO_PAD.decode(nonce).ok()?.try_into().ok()?;
        Some(Self { nonce, ciphertext: URL_SAFE_NO_PAD.decode(ciphertext).ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_text_is_read_as_it_was_written() {
        let sealed = Sealed { nonce: [7; NONCE_BYTES], ciphertext: vec![1, 2, 3] };
        assert_eq!(sealed.text(), "v1.BwcHBwcHBwcHBwcH.AQID");
        assert_eq!(Sealed::parse(&sealed.text()), Some(sealed));
        for wrong in ["", "v1", "v1.", "v1.BwcH.AQID", "v2.BwcHBwcHBwcHBwcH.AQID", "v1.BwcHBwcHBwcHBwcH.A=", "plain"] {
            assert_eq!(Sealed::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn keys_differ_by_pepper_and_rows_by_both_parts() {
        let key = |byte| sealing_key(&[byte; 32]).expect("a key");
        assert_ne!(key(1), key(2));
        assert_ne!(key(1), [1; 32]);
        let data = |table, id| SealedRow { table, id }.associated_data();
        assert_ne!(data("a", "b"), data("ab", ""));
        assert_ne!(data("a", "b"), data("a", "c"));
    }
}

//! A key that pays gas. It is a Worker secret: nothing here tells it.

use alloy_primitives::{Address, B256, Signature};
use core::fmt;
use k256::ecdsa::SigningKey;

/// A secp256k1 key with its address.
#[derive(Clone)]
pub struct Signer {
    key: SigningKey,
    address: Address,
}

impl Signer {
    /// Reads 32 bytes of hex, with or without `0x`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0_u8; 32];
        hex::decode_to_slice(text.strip_prefix("0x").unwrap_or(text), &mut bytes).ok()?;
        let key = SigningKey::from_slice(&bytes).ok()?;
        let address = Address::from_private_key(&key);
        Some(Self { key, address })
    }

    /// Its address.
    #[must_use]
    pub const fn address(&self) -> Address {
        self.address
    }

    /// Signs a digest, deterministically (RFC 6979).
    #[must_use]
    pub fn sign(&self, digest: B256) -> Option<Signature> {
        let (signature, parity) = self.key.sign_prehash_recoverable(digest.as_slice()).ok()?;
        Some(Signature::from((signature, parity)))
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Signer({})", self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";

    #[test]
    fn a_key_is_read_and_never_told() {
        for text in [KEY, &format!("0x{KEY}")] {
            let signer = Signer::parse(text).expect("a key");
            assert_eq!(signer.address().to_string(), "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266");
            assert_eq!(format!("{signer:?}"), "Signer(0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266)");
            let digest = B256::repeat_byte(7);
            let signature = signer.sign(digest).expect("signs");
            assert_eq!(signature.recover_address_from_prehash(&digest).expect("recovers"), signer.address());
        }
        for wrong in ["", "0x", &KEY[1..], &"0".repeat(64), &"f".repeat(64)] {
            assert!(Signer::parse(wrong).is_none(), "{wrong}");
        }
    }
}

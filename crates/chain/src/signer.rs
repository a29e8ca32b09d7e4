//! A key that pays for transactions. It is a Worker secret: nothing here prints or serializes it.

use crate::address::{Address, Family, address_of_key};
use alloy_primitives::{Address as Address20, B256, Signature};
use core::fmt;
use ed25519_dalek::Signer as _;
use k256::ecdsa::{RecoveryId, SigningKey, VerifyingKey};

/// A key of either family with its address.
#[derive(Clone)]
pub enum Signer {
    /// Pays gas on EVM chains.
    Evm(EvmSigner),
    /// Signs as fee payer on Solana.
    Svm(SvmSigner),
}

impl Signer {
    /// Reads a private key: [`EvmSigner::parse`], [`SvmSigner::parse`].
    #[must_use]
    pub fn parse(family: Family, text: &str) -> Option<Self> {
        match family {
            Family::Evm => EvmSigner::parse(text).map(Self::Evm),
            Family::Svm => SvmSigner::parse(text).map(Self::Svm),
        }
    }

    /// The address that pays for transactions.
    #[must_use]
    pub fn address(&self) -> Address {
        match self {
            Self::Evm(signer) => Address::Evm(signer.address()),
            Self::Svm(signer) => Address::Svm(signer.address()),
        }
    }

    /// The EVM key; `None` for a Solana signer.
    #[must_use]
    pub const fn evm(&self) -> Option<&EvmSigner> {
        match self {
            Self::Evm(signer) => Some(signer),
            Self::Svm(_) => None,
        }
    }

    /// The Solana key; `None` for an EVM signer.
    #[must_use]
    pub const fn svm(&self) -> Option<&SvmSigner> {
        match self {
            Self::Svm(signer) => Some(signer),
            Self::Evm(_) => None,
        }
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Signer({})", self.address())
    }
}

/// A secp256k1 key with its address.
#[derive(Clone)]
pub struct EvmSigner {
    key: SigningKey,
    address: Address20,
}

impl EvmSigner {
    /// Reads 32 bytes of hex, with or without `0x`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0_u8; 32];
        hex::decode_to_slice(text.strip_prefix("0x").unwrap_or(text), &mut bytes).ok()?;
        let key = SigningKey::from_slice(&bytes).ok()?;
        let address = address_of_key(key.verifying_key());
        Some(Self { key, address })
    }

    /// The address that belongs to the key.
    #[must_use]
    pub const fn address(&self) -> Address20 {
        self.address
    }

    /// Signs a digest, deterministically (RFC 6979).
    #[must_use]
    pub(crate) fn sign(&self, digest: B256) -> Option<Signature> {
        let (signature, id) = self.key.sign_prehash_recoverable(digest.as_slice());
        let (r, s) = signature.split_bytes();
        Some(Signature::from_scalars_and_parity(B256::from_slice(&r), B256::from_slice(&s), id.is_y_odd()))
    }
}

/// The signer of a digest, recovered from the signature's r, s and the parity of its y (`odd`); `None` for an invalid
/// signature.
#[must_use]
pub(crate) fn recover(digest: B256, r: B256, s: B256, odd: bool) -> Option<Address20> {
    let signature = k256::ecdsa::Signature::from_scalars(r.0, s.0).ok()?;
    let key = VerifyingKey::recover_from_prehash(digest.as_slice(), &signature, RecoveryId::new(odd, false)).ok()?;
    Some(address_of_key(&key))
}

/// An ed25519 key pair, whose public half is the address.
#[derive(Clone)]
pub struct SvmSigner(ed25519_dalek::SigningKey);

impl SvmSigner {
    /// Reads a key pair as Solana's tools write it: base58 of 64 bytes, the
    /// seed and then the public key, which must be the seed's.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        // 64 bytes are at most 88 base58 characters.
        if text.len() > 88 {
            return None;
        }
        let pair: [u8; 64] = bs58::decode(text).into_vec().ok()?.try_into().ok()?;
        ed25519_dalek::SigningKey::from_keypair_bytes(&pair).ok().map(Self)
    }

    /// Its address: the public key.
    #[must_use]
    pub(crate) fn address(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    /// Signs a message; the same message gets the same signature (RFC 8032).
    #[must_use]
    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";

    #[test]
    fn a_key_is_read_and_never_shown() {
        for text in [KEY, &format!("0x{KEY}")] {
            let signer = Signer::parse(Family::Evm, text).expect("a key");
            assert_eq!(signer.address().to_string(), "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266");
            assert_eq!(format!("{signer:?}"), "Signer(0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266)");
            let signer = signer.evm().expect("of EVM");
            let digest = B256::repeat_byte(7);
            let signature = signer.sign(digest).expect("signs");
            assert_eq!(signature.recover_address_from_prehash(&digest).expect("recovers"), signer.address());
        }
        for wrong in ["", "0x", &KEY[1..], &"0".repeat(64), &"f".repeat(64)] {
            assert!(Signer::parse(Family::Evm, wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_key_pair_is_read_and_never_shown() {
        let pair = ed25519_dalek::SigningKey::from_bytes(&[9; 32]).to_keypair_bytes();
        let signer = Signer::parse(Family::Svm, &bs58::encode(pair).into_string()).expect("a key pair");
        // The fee payer of tests/fixtures/vectors/svm.json, whose seed is 0x09 × 32.
        assert_eq!(format!("{signer:?}"), "Signer(J2xccRtuG43drESLYznHhLhQkLTdfepcKYbiQ9BsJVaf)");
        let mut other = pair;
        other[63] ^= 1;
        for wrong in [bs58::encode(other).into_string(), bs58::encode([9; 32]).into_string(), "0".repeat(88)] {
            assert!(Signer::parse(Family::Svm, &wrong).is_none(), "{wrong}");
        }
    }
}

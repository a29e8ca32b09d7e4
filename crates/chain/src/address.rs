//! Addresses and transaction ids of both chain families, parsed once from outside text and then compared as bytes.

mod xpub;

use alloy_primitives::{Address as Address20, B256};
use core::fmt;
use k256::ecdsa::VerifyingKey;
use serde::{Deserialize, Serialize};
pub use xpub::Xpub;

/// A family of chains that share address, transaction and node formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// Ethereum and the chains that use its JSON-RPC.
    Evm,
    /// Solana: base58 addresses of 32 bytes.
    Svm,
}

/// An account that can hold or receive an asset: 20 bytes on EVM, 32 on Solana.
///
/// Written with the EIP-55 checksum on EVM and as base58 on Solana.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// 20 bytes, written with an EIP-55 checksum.
    Evm(Address20),
    /// 32 bytes; any are valid, on the curve or off it.
    Svm([u8; 32]),
}

impl Address {
    /// Reads an address of the family: EVM with `0x` or `0X`, in lower case, upper case or with
    /// a valid EIP-55 checksum; Solana as base58 of exactly 32 bytes.
    #[must_use]
    pub fn parse(family: Family, text: &str) -> Option<Self> {
        match family {
            Family::Evm => parse_evm(text).map(Self::Evm),
            Family::Svm => {
                // 32 bytes are at most 44 base58 characters.
                let bytes: [u8; 32] = base58(text, 44)?;
                Some(Self::Svm(bytes))
            }
        }
    }

    /// The family it belongs to.
    #[must_use]
    pub const fn family(&self) -> Family {
        match self {
            Self::Evm(_) => Family::Evm,
            Self::Svm(_) => Family::Svm,
        }
    }

    /// The text for use between our own parts: on EVM without the checksum, which costs a hash.
    #[must_use]
    pub fn unchecksummed(&self) -> String {
        match self {
            Self::Evm(address) => format!("{address:#x}"),
            Self::Svm(bytes) => bs58::encode(bytes).into_string(),
        }
    }

    /// Whether it is the EVM zero address, from which tokens are minted.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        matches!(self, Self::Evm(address) if address.is_zero())
    }
}

/// Hex as callers write it, without `0x` or `0X`: addresses, hashes, nonces and signatures may begin with either. The
/// digits are not checked.
#[must_use]
pub(crate) fn hex_digits(text: &str) -> Option<&str> {
    text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"))
}

/// Exactly `N` bytes of such hex, in any case.
#[must_use]
pub fn hex_bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0_u8; N];
    hex::decode_to_slice(hex_digits(text)?, &mut bytes).ok()?;
    Some(bytes)
}

fn parse_evm(text: &str) -> Option<Address20> {
    let digits = hex_digits(text)?;
    let address = Address20::from(hex_bytes(text)?);
    let one_case = !digits.bytes().any(|c| c.is_ascii_uppercase()) || !digits.bytes().any(|c| c.is_ascii_lowercase());
    // The checksum costs a hash, and one case has none.
    (one_case || address.to_checksum(None).strip_prefix("0x") == Some(digits)).then_some(address)
}

pub(crate) fn base58<const N: usize>(text: &str, chars_max: usize) -> Option<[u8; N]> {
    if text.is_empty() || text.len() > chars_max {
        return None;
    }
    let bytes = bs58::decode(text).into_vec().ok()?;
    bytes.try_into().ok()
}

/// The EVM address of a public key: the last 20 bytes of its hash.
#[must_use]
pub(crate) fn address_of_key(key: &VerifyingKey) -> Address20 {
    let point = key.to_sec1_point(false);
    // The first byte says that the point is uncompressed.
    let (_, coordinates) = point.as_bytes().split_at(1);
    Address20::from_raw_public_key(coordinates)
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Evm(address) => out.write_str(&address.to_checksum(None)),
            Self::Svm(bytes) => out.write_str(&bs58::encode(bytes).into_string()),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

/// The internal form: without the EIP-55 checksum, which costs a hash. Responses use [`fmt::Display`], with the
/// checksum.
impl Serialize for Address {
    fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(&self.unchecksummed())
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let family = if text.starts_with("0x") { Family::Evm } else { Family::Svm };
        Self::parse(family, &text).ok_or_else(|| serde::de::Error::custom("not an address"))
    }
}

/// A transaction's id on its chain: a 32-byte hash on EVM, the first 64-byte signature on Solana. Written as lower-case
/// `0x` hex, or base58.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TxId {
    /// A transaction hash of 32 bytes.
    Evm(B256),
    /// A signature of 64 bytes, the first of the transaction.
    Svm([u8; 64]),
}

impl TxId {
    /// Reads a hash (`0x` or `0X`, and 64 hex digits of any case) or a signature (base58
    /// of exactly 64 bytes, case-sensitive).
    #[must_use]
    pub fn parse(family: Family, text: &str) -> Option<Self> {
        match family {
            Family::Evm => hex_bytes(text).map(|bytes: [u8; 32]| Self::Evm(bytes.into())),
            // 64 bytes are at most 88 base58 characters.
            Family::Svm => base58(text, 88).map(Self::Svm),
        }
    }
}

impl fmt::Display for TxId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Evm(hash) => write!(out, "0x{}", hex::encode(hash)),
            Self::Svm(bytes) => out.write_str(&bs58::encode(bytes).into_string()),
        }
    }
}

impl fmt::Debug for TxId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl Serialize for TxId {
    fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TxId {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let family = if text.starts_with("0x") { Family::Evm } else { Family::Svm };
        Self::parse(family, &text).ok_or_else(|| serde::de::Error::custom("not a transaction id"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BASE_USDC: &str = "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913";

    #[test]
    fn an_evm_address_is_one_case_or_checksummed() {
        let want = Address::parse(Family::Evm, BASE_USDC);
        assert!(want.is_some());
        assert_eq!(Address::parse(Family::Evm, &BASE_USDC.to_lowercase()), want);
        assert_eq!(Address::parse(Family::Evm, &BASE_USDC.to_uppercase()), want);
        assert_eq!(want.map(|address| address.to_string()).as_deref(), Some(BASE_USDC));
        let flipped = BASE_USDC.replace("fCD6", "FCD6");
        assert_eq!(Address::parse(Family::Evm, &flipped), None);
    }

    #[test]
    fn what_is_not_an_address_is_refused() {
        for wrong in ["", "0x", "833589fCD6eDb6E08f4c7C32D4f71b54bdA02913", "0x833589fcd6edb6e08f4c7c32d4f71b54bda0291"]
        {
            assert_eq!(Address::parse(Family::Evm, wrong), None, "{wrong}");
            assert_eq!(Address::parse(Family::Svm, wrong), None, "{wrong}");
        }
    }

    #[test]
    fn hex_begins_with_either_prefix_whatever_it_names() {
        let capital = |text: &str| text.replacen("0x", "0X", 1);
        let hash = format!("0x{}", "aB".repeat(32));
        assert_eq!(TxId::parse(Family::Evm, &capital(&hash)), TxId::parse(Family::Evm, &hash));
        assert!(TxId::parse(Family::Evm, &hash).is_some());
        assert_eq!(Address::parse(Family::Evm, &capital(BASE_USDC)), Address::parse(Family::Evm, BASE_USDC));
        assert_eq!(hex_bytes::<32>(&capital(&hash)), hex_bytes(&hash));
        for wrong in ["", "0", "x", "0x", "00ab", "0xab0", "0xabcdef", "0x0Xab"] {
            assert_eq!(hex_bytes::<2>(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn decode_after_encode_is_identity(evm in any::<[u8; 20]>(), svm in any::<[u8; 32]>(), sig in proptest::array::uniform32(any::<u8>())) {
            for address in [Address::Evm(evm.into()), Address::Svm(svm)] {
                prop_assert_eq!(Address::parse(address.family(), &address.to_string()), Some(address));
            }
            let hash = TxId::Evm(sig.into());
            prop_assert_eq!(TxId::parse(Family::Evm, &hash.to_string()), Some(hash));
        }

        #[test]
        fn no_text_panics(text in ".*") {
            for family in [Family::Evm, Family::Svm] {
                let _ = Address::parse(family, &text);
                let _ = TxId::parse(family, &text);
            }
        }
    }
}

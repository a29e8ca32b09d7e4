//! API keys: the key carries its tenant, and its tag is checked in process.
//!
//! A prefix that names the kind and the environment (`x402_live_`, `x402_test_`,
//! `x402_url_live_`, `x402_url_test_`), then base58 of exactly 44 bytes: tenant (12) ‖
//! secret (24) ‖ tag (8). The tag is the first 8 bytes of HMAC-SHA256 under the
//! service's pepper over the prefix, the tenant and the secret.

use core::fmt;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use x402_chain::id::TenantId;
use x402_chain::network::Environment;

const TENANT_BYTES: usize = 12;
const SECRET_BYTES: usize = 24;
const TAG_BYTES: usize = 8;
/// 44 bytes: tenant (12), secret (24), tag (8).
const KEY_BYTES: usize = TENANT_BYTES + SECRET_BYTES + TAG_BYTES;
/// 44 bytes are at most 61 base58 characters (44 × 8 ÷ log2 58).
const TEXT_MAX: usize = 61;

/// The SHA-256 of a key's text: the text itself is never stored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyHash(pub [u8; 32]);

impl KeyHash {
    /// The hash of a key's text.
    #[must_use]
    pub fn of(text: &str) -> Self {
        Self(Sha256::digest(text.as_bytes()).into())
    }

    /// Reads 64 hex digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0_u8; 32];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes))
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl Serialize for KeyHash {
    fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for KeyHash {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not a key hash"))
    }
}

/// What a genuine key names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The tenant that the key names.
    pub tenant: TenantId,
    /// The environment that the key's prefix names.
    pub environment: Environment,
    /// The key's hash, by which the ledger knows it.
    pub hash: KeyHash,
}

/// Where a key is sent. A key of one kind is not accepted in the other's place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum KeyKind {
    /// In a header, on every route that takes keys.
    #[default]
    Bearer,
    /// In the path, under `/facilitator/k/` only: for packages that can name a URL and no header.
    Url,
}

impl KeyKind {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::Bearer, Self::Url];

    /// The name in JSON: `bearer` or `url`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bearer => "bearer",
            Self::Url => "url",
        }
    }

    /// The kind with this name; `None` for any other text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == text)
    }
}

/// What the texts of keys of a kind and an environment begin with.
#[must_use]
pub const fn prefix(kind: KeyKind, environment: Environment) -> &'static str {
    match (kind, environment) {
        (KeyKind::Bearer, Environment::Live) => "x402_live_",
        (KeyKind::Bearer, Environment::Test) => "x402_test_",
        (KeyKind::Url, Environment::Live) => "x402_url_live_",
        (KeyKind::Url, Environment::Test) => "x402_url_test_",
    }
}

fn mac(pepper: &[u8; 32], prefix: &str, named: &[u8]) -> Option<Hmac<Sha256>> {
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(pepper).ok()?;
    mac.update(prefix.as_bytes());
    mac.update(named);
    Some(mac)
}

/// Makes a key of 24 random bytes, signed with the first pepper. `None` without a pepper.
#[must_use]
pub fn issue(
    tenant: TenantId,
    (kind, environment): (KeyKind, Environment),
    secret: [u8; SECRET_BYTES],
    peppers: &[[u8; 32]],
) -> Option<String> {
    let prefix = prefix(kind, environment);
    let mut bytes = Vec::with_capacity(KEY_BYTES);
    bytes.extend_from_slice(&tenant.0);
    bytes.extend_from_slice(&secret);
    let tag = mac(peppers.first()?, prefix, &bytes)?.finalize().into_bytes();
    bytes.extend(tag.iter().take(TAG_BYTES));
    Some(format!("{prefix}{}", bs58::encode(bytes).into_string()))
}

/// The last four characters of a key's text, by which its owner tells keys apart.
#[must_use]
pub fn last_four(text: &str) -> &str {
    text.len().checked_sub(4).and_then(|at| text.get(at..)).unwrap_or(text)
}

/// Reads a key of either kind.
#[must_use]
pub fn read_any(text: &str, peppers: &[[u8; 32]]) -> Option<Caller> {
    KeyKind::ALL.into_iter().find_map(|kind| read(text, kind, peppers))
}

/// Reads a key and checks its tag under every pepper, in constant time. `None` for text that is no key of this kind
/// issued by this service.
#[must_use]
pub fn read(text: &str, kind: KeyKind, peppers: &[[u8; 32]]) -> Option<Caller> {
    let (environment, encoded) =
        Environment::ALL.into_iter().find_map(|each| text.strip_prefix(prefix(kind, each)).map(|rest| (each, rest)))?;
    if encoded.len() > TEXT_MAX {
        return None;
    }
    let bytes: [u8; KEY_BYTES] = bs58::decode(encoded).into_vec().ok()?.try_into().ok()?;
    let (named, tag) = bytes.split_at(TENANT_BYTES + SECRET_BYTES);
    let genuine = peppers
        .iter()
        .filter_map(|pepper| mac(pepper, prefix(kind, environment), named))
        .any(|mac| mac.verify_truncated_left(tag).is_ok());
    let canonical = bs58::encode(bytes).into_string() == encoded;
    let tenant = named.first_chunk::<TENANT_BYTES>().copied()?;
    (genuine && canonical).then(|| Caller { tenant: TenantId(tenant), environment, hash: KeyHash::of(text) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OLD: [u8; 32] = [1; 32];
    const NEW: [u8; 32] = [2; 32];

    fn key_of(kind: KeyKind, environment: Environment) -> String {
        issue(TenantId([7; 12]), (kind, environment), [9; 24], &[OLD]).expect("a pepper is given")
    }

    fn key(environment: Environment) -> String {
        key_of(KeyKind::Bearer, environment)
    }

    fn read(text: &str, peppers: &[[u8; 32]]) -> Option<Caller> {
        super::read(text, KeyKind::Bearer, peppers)
    }

    #[test]
    fn a_key_names_its_tenant_and_environment() {
        for environment in Environment::ALL {
            let text = key(environment);
            let caller = read(&text, &[OLD]).expect("a genuine key");
            assert_eq!((caller.tenant, caller.environment), (TenantId([7; 12]), environment));
            assert_eq!(caller.hash, KeyHash::of(&text));
        }
    }

    #[test]
    fn the_format_is_pinned() {
        assert_eq!(
            key(Environment::Live),
            "x402_live_3HXMrnTdAa29dYnmNV26FHDNWCtTEEzxa8r9wQzq3Hu4Qpx38ZQFZh3fq6js".to_owned()
        );
    }

    #[test]
    fn a_key_of_an_older_pepper_is_genuine_while_the_pepper_is_kept() {
        let text = key(Environment::Live);
        assert!(read(&text, &[NEW, OLD]).is_some());
        assert!(read(&text, &[NEW]).is_none());
        assert!(read(&text, &[]).is_none());
    }

    #[test]
    fn another_prefix_makes_another_key() {
        let text = key(Environment::Live);
        assert_eq!(read(&text.replace("live", "test"), &[OLD]), None);
        assert_eq!(super::read(&text.replace("x402_", "x402_url_"), KeyKind::Url, &[OLD]), None);
    }

    #[test]
    fn a_key_of_one_kind_is_none_of_the_other() {
        for environment in Environment::ALL {
            let (bearer, url) = (key(environment), key_of(KeyKind::Url, environment));
            assert!(url.starts_with("x402_url_"), "{url}");
            assert_eq!(super::read(&url, KeyKind::Url, &[OLD]).map(|caller| caller.environment), Some(environment));
            assert_eq!(super::read(&url, KeyKind::Bearer, &[OLD]), None);
            assert_eq!(super::read(&bearer, KeyKind::Url, &[OLD]), None);
        }
    }

    #[test]
    fn a_reported_key_is_read_whatever_its_kind() {
        for kind in KeyKind::ALL {
            let text = key_of(kind, Environment::Live);
            assert!(read_any(&text, &[OLD]).is_some() && read_any(&text, &[NEW]).is_none(), "{text}");
            assert!(text.ends_with(last_four(&text)) && last_four(&text).len() == 4);
        }
        assert_eq!((last_four("abc"), last_four("")), ("abc", ""));
    }

    #[test]
    fn every_mistyped_or_truncated_key_is_refused() {
        let text = key(Environment::Test);
        for at in 0..text.len() {
            assert_eq!(read(&text[..at], &[OLD]), None);
            for other in ["1", "z", "A", " ", "0"] {
                let mut wrong = text.clone();
                wrong.replace_range(at..=at, other);
                assert!(wrong == text || read(&wrong, &[OLD]).is_none(), "{wrong}");
            }
        }
        for wrong in [format!("{text}1"), format!(" {text}"), format!("1{text}"), text.to_uppercase()] {
            assert_eq!(read(&wrong, &[OLD]), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_was_issued_reads_back(tenant in any::<[u8; 12]>(), secret in any::<[u8; 24]>(), pepper in any::<[u8; 32]>()) {
            let of = (KeyKind::Bearer, Environment::Test);
            let text = issue(TenantId(tenant), of, secret, &[pepper]).expect("a pepper is given");
            prop_assert_eq!(read(&text, &[pepper]).map(|caller| caller.tenant), Some(TenantId(tenant)));
        }

        #[test]
        fn no_text_is_a_key_by_chance(text in "(x402_(url_)?(live|test)_)?.{0,80}") {
            prop_assert_eq!(read(&text, &[OLD]), None);
            prop_assert_eq!(super::read(&text, KeyKind::Url, &[OLD]), None);
        }
    }
}

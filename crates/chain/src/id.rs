//! Identifiers: their form, and how they are read. Randomness is an argument.

use crate::time::UnixMillis;
use core::fmt;
use serde::{Deserialize, Serialize};
use ulid::Ulid;

/// A tenant: 12 bytes, the first six its creation in unix milliseconds, so that tenants sort by age. Written `ten_` and
/// 24 lower-case hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(pub [u8; 12]);

impl TenantId {
    const PREFIX: &'static str = "ten_";

    /// A new id from its creation time and six random bytes.
    #[must_use]
    pub fn new(now: UnixMillis, random: [u8; 6]) -> Self {
        let [_, _, t0, t1, t2, t3, t4, t5] = now.0.to_be_bytes();
        let [r0, r1, r2, r3, r4, r5] = random;
        Self([t0, t1, t2, t3, t4, t5, r0, r1, r2, r3, r4, r5])
    }

    /// The time of its creation.
    #[must_use]
    pub const fn created_at(self) -> UnixMillis {
        let [t0, t1, t2, t3, t4, t5, ..] = self.0;
        UnixMillis(u64::from_be_bytes([0, 0, t0, t1, t2, t3, t4, t5]))
    }

    /// Reads the written form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(Self::PREFIX)?;
        let mut bytes = [0_u8; 12];
        let lower = !digits.bytes().any(|c| c.is_ascii_uppercase());
        (lower && hex::decode_to_slice(digits, &mut bytes).is_ok()).then_some(Self(bytes))
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}{}", Self::PREFIX, hex::encode(self.0))
    }
}

impl Serialize for TenantId {
    fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TenantId {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not a tenant id"))
    }
}

/// Random bytes as the lower 80 bits of a number.
const fn bits(random: [u8; 10]) -> u128 {
    let [r0, r1, r2, r3, r4, r5, r6, r7, r8, r9] = random;
    u128::from_be_bytes([0, 0, 0, 0, 0, 0, r0, r1, r2, r3, r4, r5, r6, r7, r8, r9])
}

/// Random bytes in a message between the Worker and an object: the decimal digits of their number, a form that every
/// build reads.
pub mod random_digits {
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes the digits.
    ///
    /// # Errors
    /// Those of the format.
    pub fn serialize<S: Serializer>(random: &[u8; 10], out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(&super::bits(*random))
    }

    /// Reads digits, of which the lower 80 bits count. An empty text reads as zeros: a request that creates no id sends
    /// it.
    ///
    /// # Errors
    /// Where the text is neither empty nor a number of 128 bits.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<[u8; 10], D::Error> {
        let text = String::deserialize(from)?;
        let number: u128 = if text.is_empty() { 0 } else { text.parse().map_err(serde::de::Error::custom)? };
        let [_, _, _, _, _, _, random @ ..] = number.to_be_bytes();
        Ok(random)
    }
}

/// Declares an id that is a ULID behind a prefix: sorted by time, 26 characters.
macro_rules! ulid_id {
    ($name:ident $prefix:literal $doc:literal) => {
        #[doc = $doc]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Ulid);

        impl $name {
            /// A new id from its creation time and random bytes.
            #[must_use]
            pub fn new(now: UnixMillis, random: [u8; 10]) -> Self {
                Self(Ulid::from_parts(now.0, bits(random)))
            }

            /// The time of its creation.
            #[must_use]
            pub fn created_at(self) -> UnixMillis {
                UnixMillis(self.0.timestamp_ms())
            }

            /// Its 128 bits: the time, then the random ones.
            #[must_use]
            pub const fn bits(self) -> u128 {
                self.0.0
            }

            /// The next id after this one; itself at the end of all ids.
            #[must_use]
            pub fn next(self) -> Self {
                Self(Ulid(self.0.0.saturating_add(1)))
            }

            /// Reads the written form, in upper case only.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                let id = Self(Ulid::from_string(text.strip_prefix($prefix)?).ok()?);
                (id.to_string() == text).then_some(id)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(out, "{}{}", $prefix, self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
                out.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = String::deserialize(from)?;
                Self::parse(&text)
                    .ok_or_else(|| serde::de::Error::custom(concat!("not an id of the form ", $prefix, "…")))
            }
        }
    };
}

ulid_id!(KeyId "key_" "An API key's public name; not the key.");
ulid_id!(VerificationId "ver_" "One answered verification.");
ulid_id!(SettlementId "stl_" "One x402 payment taken to the chain.");
ulid_id!(RequestId "req_" "One HTTP request, for support and logs.");
ulid_id!(PersonId "per_" "A person who signs in.");
ulid_id!(SignInId "sgn_" "One request to sign in or to sign up, by a mail.");
ulid_id!(SessionId "ses_" "A session's public name; not its secret.");
ulid_id!(AuditId "aud_" "An entry of the audit log.");
ulid_id!(InvitationId "inv_" "An invitation to a tenant; not its token.");
ulid_id!(DeletionId "del_" "A request to delete a tenant; not its token.");
ulid_id!(MailId "mail_" "One mail.");
ulid_id!(EndpointId "whe_" "A webhook endpoint.");
ulid_id!(NoticeId "ntc_" "What is sent about alerts of one kind, or to operators: mails and a message.");
ulid_id!(EventId "evt_" "Something that happened to a record after it was answered, or to a tenant.");

impl VerificationId {
    /// The id of the event that the verification was answered: of the same bits.
    #[must_use]
    pub const fn event(self) -> EventId {
        EventId(self.0)
    }
}

impl EventId {
    /// The id of the verification whose event it may be: of the same bits.
    #[must_use]
    pub const fn verification(self) -> VerificationId {
        VerificationId(self.0)
    }

    /// The id so far after this one, by the numbers that ids are; the last of all ids where there is none.
    #[must_use]
    pub const fn plus(self, distance: u128) -> Self {
        Self(Ulid(self.0.0.saturating_add(distance)))
    }

    /// How far this id is after an earlier one.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u128 {
        self.0.0.saturating_sub(earlier.0.0)
    }
}

impl AuditId {
    /// The id of the event that the same change causes: of the same time and random bits.
    #[must_use]
    pub const fn event(self) -> EventId {
        EventId(self.0)
    }
}

/// The verification or the settlement that made a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ClaimId {
    /// A verification of `POST /v1/verify`.
    Verification(VerificationId),
    /// A settlement of `/facilitator/settle`.
    Settlement(SettlementId),
}

impl ClaimId {
    /// Reads an id of either kind, by its prefix.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let settlement = || SettlementId::parse(text).map(Self::Settlement);
        VerificationId::parse(text).map(Self::Verification).or_else(settlement)
    }

    /// The verification, if it is one.
    #[must_use]
    pub const fn verification(self) -> Option<VerificationId> {
        match self {
            Self::Verification(id) => Some(id),
            Self::Settlement(_) => None,
        }
    }
}

impl fmt::Display for ClaimId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Verification(id) => id.fmt(out),
            Self::Settlement(id) => id.fmt(out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ids_read_back_what_they_write(at in 0_u64..1 << 47, random in any::<[u8; 10]>(), tail in any::<[u8; 6]>()) {
            let now = UnixMillis(at);
            let tenant = TenantId::new(now, tail);
            prop_assert_eq!(TenantId::parse(&tenant.to_string()), Some(tenant));
            prop_assert_eq!(tenant.created_at(), now);
            let id = VerificationId::new(now, random);
            prop_assert_eq!(id.created_at(), now);
            prop_assert_eq!(VerificationId::parse(&id.to_string()), Some(id));
            prop_assert!(id.next() > id);
            prop_assert_ne!(VerificationId::new(now, random), VerificationId::new(now, random.map(|byte| !byte)));
            prop_assert!(id.next().to_string() > id.to_string());
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = (TenantId::parse(&text), KeyId::parse(&text), RequestId::parse(&text));
        }
    }

    #[derive(Debug, PartialEq, Deserialize, Serialize)]
    struct Message {
        #[serde(with = "random_digits")]
        random: [u8; 10],
    }

    #[test]
    fn random_bytes_are_written_as_every_build_writes_them() {
        let read = |text: &str| serde_json::from_str::<Message>(text).map(|message| message.random);
        let (text, random) = (r#"{"random":"1208925819614629174706175"}"#, [0xff; 10]);
        assert_eq!(serde_json::to_string(&Message { random }).expect("JSON"), text);
        assert_eq!(read(text).expect("read"), random);
        // An older build sends 128 bits, or none where nothing gets an id.
        assert_eq!(read(r#"{"random":"340282366920938463463374607431768211455"}"#).expect("read"), random);
        assert_eq!(read(r#"{"random":""}"#).expect("read"), [0; 10]);
        assert_eq!(read(r#"{"random":"7"}"#).expect("read"), [0, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
        for text in [r#"{"random":"x"}"#, r#"{"random":"-1"}"#, r#"{"random":7}"#, "{}"] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn another_kind_of_id_is_not_this_kind() {
        let key = KeyId::new(UnixMillis(1), [0xab; 10]);
        assert_eq!(VerificationId::parse(&key.to_string()), None);
        assert_eq!(KeyId::parse(&key.to_string().to_lowercase()), None);
    }
}

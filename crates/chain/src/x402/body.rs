//! The members of a request's body, borrowed from its text and parsed when they are needed. A member of another type
//! than the protocol's counts as missing. An object that names a member twice is refused, since another parser may read
//! it otherwise.

use serde::Deserialize;
use serde_json::value::RawValue;

/// A member as written; `null` counts as missing.
pub(super) type RawMember<'a> = Option<&'a RawValue>;

/// The body of `/verify` and `/settle`.
#[derive(Clone, Copy, Debug)]
pub struct X402Body<'a> {
    pub(super) members: BodyMembers<'a>,
    /// How many objects and arrays are nested.
    pub(super) depth: usize,
}

impl<'a> X402Body<'a> {
    /// Finds the members of a JSON object.
    ///
    /// # Errors
    /// Where the text is no JSON object.
    pub fn parse(text: &'a [u8]) -> Result<Self, serde_json::Error> {
        // A list would be read as the members in their order.
        if !text.trim_ascii_start().starts_with(b"{") {
            return Err(serde::de::Error::custom("not an object"));
        }
        Ok(Self { members: serde_json::from_slice(text)?, depth: nesting_depth(text) })
    }
}

/// The members of the body.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BodyMembers<'a> {
    #[serde(borrow, rename = "x402Version")]
    pub(super) version: RawMember<'a>,
    #[serde(borrow)]
    pub(super) payment_payload: RawMember<'a>,
    #[serde(borrow)]
    pub(super) payment_requirements: RawMember<'a>,
}

/// The members of the payload.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct PaymentPayload<'a> {
    #[serde(borrow, rename = "x402Version")]
    pub(super) version: RawMember<'a>,
    #[serde(borrow)]
    pub(super) scheme: RawMember<'a>,
    #[serde(borrow)]
    pub(super) network: RawMember<'a>,
    #[serde(borrow)]
    pub(super) accepted: RawMember<'a>,
    #[serde(borrow)]
    pub(super) resource: RawMember<'a>,
    #[serde(borrow)]
    pub(super) payload: RawMember<'a>,
    #[serde(borrow)]
    pub(super) extensions: RawMember<'a>,
}

/// The members of the requirements.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RequirementsMembers<'a> {
    #[serde(borrow)]
    pub(super) scheme: RawMember<'a>,
    #[serde(borrow)]
    pub(super) network: RawMember<'a>,
    #[serde(borrow)]
    pub(super) amount: RawMember<'a>,
    #[serde(borrow)]
    pub(super) max_amount_required: RawMember<'a>,
    #[serde(borrow)]
    pub(super) asset: RawMember<'a>,
    #[serde(borrow)]
    pub(super) pay_to: RawMember<'a>,
    #[serde(borrow)]
    pub(super) resource: RawMember<'a>,
    #[serde(borrow)]
    pub(super) extra: RawMember<'a>,
}

/// The members of the requirements' `extra`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ExtraMembers<'a> {
    #[serde(borrow)]
    pub(super) name: RawMember<'a>,
    #[serde(borrow)]
    pub(super) version: RawMember<'a>,
    #[serde(borrow)]
    pub(super) fee_payer: RawMember<'a>,
    #[serde(borrow)]
    pub(super) memo: RawMember<'a>,
    #[serde(borrow)]
    pub(super) verifying_contract: RawMember<'a>,
}

/// The members of what was signed.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct PayloadMembers<'a> {
    #[serde(borrow)]
    pub(super) authorization: RawMember<'a>,
    #[serde(borrow)]
    pub(super) signature: RawMember<'a>,
    #[serde(borrow)]
    pub(super) transaction: RawMember<'a>,
}

/// The members of an EIP-3009 authorization.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AuthorizationMembers<'a> {
    #[serde(borrow)]
    pub(super) from: RawMember<'a>,
    #[serde(borrow)]
    pub(super) to: RawMember<'a>,
    #[serde(borrow)]
    pub(super) value: RawMember<'a>,
    #[serde(borrow)]
    pub(super) valid_after: RawMember<'a>,
    #[serde(borrow)]
    pub(super) valid_before: RawMember<'a>,
    #[serde(borrow)]
    pub(super) nonce: RawMember<'a>,
}

/// The member of a version 2 resource.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct ResourceMembers<'a> {
    #[serde(borrow)]
    pub(super) url: RawMember<'a>,
}

/// The extensions that are read.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct ExtensionsMembers<'a> {
    #[serde(borrow, rename = "payment-identifier")]
    pub(super) payment_identifier: RawMember<'a>,
}

/// The member of one extension.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct ExtensionMembers<'a> {
    #[serde(borrow)]
    pub(super) info: RawMember<'a>,
}

/// The members of `payment-identifier`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct IdentifierMembers<'a> {
    #[serde(borrow)]
    pub(super) id: RawMember<'a>,
    #[serde(borrow)]
    pub(super) required: RawMember<'a>,
}

/// Reads a member as an object; `None` for any other type.
pub(super) fn read_object<'a, T: Deserialize<'a>>(raw: RawMember<'a>) -> Option<T> {
    raw.filter(|raw| raw.get().starts_with('{')).and_then(|raw| serde_json::from_str(raw.get()).ok())
}

/// Reads a member as a string that is not empty; `None` for anything else.
pub(super) fn read_text(raw: RawMember<'_>) -> Option<String> {
    raw.and_then(|raw| serde_json::from_str::<String>(raw.get()).ok()).filter(|text| !text.is_empty())
}

/// How many objects and lists a JSON text opens inside one another.
fn nesting_depth(text: &[u8]) -> usize {
    let (mut depth, mut deepest, mut quoted, mut escaped) = (0_usize, 0_usize, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'{' | b'[' if !quoted => {
                depth = depth.saturating_add(1);
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_brackets_outside_of_texts_nest() {
        assert_eq!(nesting_depth(br#"{"a":[{"b":"[[[\"[["},[]],"c":{}}"#), 3);
        assert_eq!(nesting_depth(b"1"), 0);
    }

    #[test]
    fn a_name_that_comes_twice_makes_no_object() {
        let parse = |text: &'static str| X402Body::parse(text.as_bytes()).map(|body| body.members.version.is_some());
        assert!(matches!(parse(r#"{"x402Version":2,"x":1,"x":2}"#), Ok(true)));
        assert!(parse(r#"{"x402Version":2,"x402Version":1}"#).is_err());
        for text in ["", "7", "[]", "[2, {}, {}]", "{\"x402Version\":2", "{} {}", "{\"a\":\"\u{1}\"}"] {
            assert!(parse(text.to_owned().leak()).is_err(), "{text}");
        }
    }
}

//! The members of a request's body, borrowed from its text and read when they
//! are wanted. One of another type than the protocol's reads as missing; an
//! object that names a member twice cannot be read, because others might read
//! it otherwise.

use serde::Deserialize;
use serde_json::value::RawValue;

/// A member as written; `null` is none.
pub(super) type Raw<'a> = Option<&'a RawValue>;

/// The body of `/verify` and `/settle`.
#[derive(Clone, Copy, Debug)]
pub struct Body<'a> {
    pub(super) members: Members<'a>,
    /// How deep it nests.
    pub(super) depth: usize,
}

impl<'a> Body<'a> {
    /// Finds the members of a JSON object.
    ///
    /// # Errors
    /// Where the text is no JSON object.
    pub fn parse(text: &'a [u8]) -> Result<Self, serde_json::Error> {
        // A list would be read as the members in their order.
        if !text.trim_ascii_start().starts_with(b"{") {
            return Err(serde::de::Error::custom("not an object"));
        }
        Ok(Self { members: serde_json::from_slice(text)?, depth: depth(text) })
    }
}

/// The members of the body.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Members<'a> {
    #[serde(borrow, rename = "x402Version")]
    pub(super) version: Raw<'a>,
    #[serde(borrow)]
    pub(super) payment_payload: Raw<'a>,
    #[serde(borrow)]
    pub(super) payment_requirements: Raw<'a>,
}

/// The members of the payload.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct PaymentPayload<'a> {
    #[serde(borrow, rename = "x402Version")]
    pub(super) version: Raw<'a>,
    #[serde(borrow)]
    pub(super) scheme: Raw<'a>,
    #[serde(borrow)]
    pub(super) network: Raw<'a>,
    #[serde(borrow)]
    pub(super) accepted: Raw<'a>,
    #[serde(borrow)]
    pub(super) resource: Raw<'a>,
    #[serde(borrow)]
    pub(super) payload: Raw<'a>,
    #[serde(borrow)]
    pub(super) extensions: Raw<'a>,
}

/// The members of the requirements.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Wanted<'a> {
    #[serde(borrow)]
    pub(super) scheme: Raw<'a>,
    #[serde(borrow)]
    pub(super) network: Raw<'a>,
    #[serde(borrow)]
    pub(super) amount: Raw<'a>,
    #[serde(borrow)]
    pub(super) max_amount_required: Raw<'a>,
    #[serde(borrow)]
    pub(super) asset: Raw<'a>,
    #[serde(borrow)]
    pub(super) pay_to: Raw<'a>,
    #[serde(borrow)]
    pub(super) resource: Raw<'a>,
    #[serde(borrow)]
    pub(super) extra: Raw<'a>,
}

/// The members of the requirements' `extra`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Extra<'a> {
    #[serde(borrow)]
    pub(super) name: Raw<'a>,
    #[serde(borrow)]
    pub(super) version: Raw<'a>,
    #[serde(borrow)]
    pub(super) fee_payer: Raw<'a>,
    #[serde(borrow)]
    pub(super) memo: Raw<'a>,
    #[serde(borrow)]
    pub(super) verifying_contract: Raw<'a>,
}

/// The members of what was signed.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Signed<'a> {
    #[serde(borrow)]
    pub(super) authorization: Raw<'a>,
    #[serde(borrow)]
    pub(super) signature: Raw<'a>,
    #[serde(borrow)]
    pub(super) transaction: Raw<'a>,
}

/// The members of an EIP-3009 authorization.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Authorization<'a> {
    #[serde(borrow)]
    pub(super) from: Raw<'a>,
    #[serde(borrow)]
    pub(super) to: Raw<'a>,
    #[serde(borrow)]
    pub(super) value: Raw<'a>,
    #[serde(borrow)]
    pub(super) valid_after: Raw<'a>,
    #[serde(borrow)]
    pub(super) valid_before: Raw<'a>,
    #[serde(borrow)]
    pub(super) nonce: Raw<'a>,
}

/// The member of a version 2 resource.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Resource<'a> {
    #[serde(borrow)]
    pub(super) url: Raw<'a>,
}

/// The extensions that are read.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Extensions<'a> {
    #[serde(borrow, rename = "payment-identifier")]
    pub(super) payment_identifier: Raw<'a>,
}

/// An extension.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Extension<'a> {
    #[serde(borrow)]
    pub(super) info: Raw<'a>,
}

/// The members of `payment-identifier`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct Identifier<'a> {
    #[serde(borrow)]
    pub(super) id: Raw<'a>,
    #[serde(borrow)]
    pub(super) required: Raw<'a>,
}

/// A member as an object.
pub(super) fn object<'a, T: Deserialize<'a>>(raw: Raw<'a>) -> Option<T> {
    raw.filter(|raw| raw.get().starts_with('{')).and_then(|raw| serde_json::from_str(raw.get()).ok())
}

/// A member as a text that is not empty.
pub(super) fn text(raw: Raw<'_>) -> Option<String> {
    raw.and_then(|raw| serde_json::from_str::<String>(raw.get()).ok()).filter(|text| !text.is_empty())
}

/// How many objects and lists a JSON text opens inside one another.
fn depth(text: &[u8]) -> usize {
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
        assert_eq!(depth(br#"{"a":[{"b":"[[[\"[["},[]],"c":{}}"#), 3);
        assert_eq!(depth(b"1"), 0);
    }

    #[test]
    fn a_name_that_comes_twice_makes_no_object() {
        let parse = |text: &'static str| Body::parse(text.as_bytes()).map(|body| body.members.version.is_some());
        assert!(matches!(parse(r#"{"x402Version":2,"x":1,"x":2}"#), Ok(true)));
        assert!(parse(r#"{"x402Version":2,"x402Version":1}"#).is_err());
        for text in ["", "7", "[]", "[2, {}, {}]", "{\"x402Version\":2", "{} {}", "{\"a\":\"\u{1}\"}"] {
            assert!(parse(text.to_owned().leak()).is_err(), "{text}");
        }
    }
}

//! A JSON object of a request: members are taken one by one, and each wrong one is named. Unknown and repeated members
//! are refused, since ignoring a mistyped `expected_amount` would cost money.

use core::fmt;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use x402_core::error::{ErrorCode, Fault};

/// Checks how a body is sent: JSON by its media type, without content coding.
///
/// # Errors
/// `UNSUPPORTED_MEDIA_TYPE`; for a coding (gzip, br, deflate) `param` is `Content-Encoding`.
pub fn check_media_type(content_type: Option<&str>, content_encoding: Option<&str>) -> Result<(), Fault> {
    let coding = content_encoding.unwrap_or("").trim();
    if !coding.is_empty() && !coding.eq_ignore_ascii_case("identity") {
        let detail = "the body must not be compressed: send it without a Content-Encoding";
        return Err(Fault::new(ErrorCode::UnsupportedMediaType, detail).at(CONTENT_ENCODING));
    }
    let media = content_type.unwrap_or("").split(';').next().unwrap_or("");
    if media.trim().eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(Fault::new(ErrorCode::UnsupportedMediaType, "the body must be application/json"))
}

/// The header that names a body's content coding.
pub const CONTENT_ENCODING: &str = "Content-Encoding";

/// Checks that a body is text as RFC 8259 requires: UTF-8, without a byte order mark. Bytes that are not UTF-8 would be
/// read as U+FFFD, so that two bodies could become one text.
///
/// # Errors
/// `INVALID_JSON`.
pub fn text(body: &[u8]) -> Result<(), Fault> {
    if body.starts_with("\u{feff}".as_bytes()) {
        return Err(Fault::new(
            ErrorCode::InvalidJson,
            "the body begins with a byte order mark; JSON is sent without one",
        ));
    }
    match core::str::from_utf8(body) {
        Ok(_) => Ok(()),
        Err(error) => Err(Fault::new(ErrorCode::InvalidJson, "the body is not UTF-8").because(error)),
    }
}

/// Members of a request body that are not taken yet.
#[derive(Debug)]
pub struct RequestMembers {
    known: BTreeMap<String, Box<RawValue>>,
}

struct UniqueMembers(BTreeMap<String, Box<RawValue>>, Option<String>);

impl<'de> Deserialize<'de> for UniqueMembers {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = UniqueMembers;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<UniqueMembers, A::Error> {
                let mut object = UniqueMembers(BTreeMap::new(), None);
                while let Some((name, value)) = map.next_entry::<String, Box<RawValue>>()? {
                    if object.0.insert(name.clone(), value).is_some() {
                        object.1 = Some(name);
                    }
                }
                Ok(object)
            }
        }
        from.deserialize_map(Collect)
    }
}

impl RequestMembers {
    /// Reads a body.
    ///
    /// # Errors
    /// `INVALID_JSON` for what is no JSON object, `INVALID_REQUEST` for a
    /// member that comes twice.
    pub fn read(body: &[u8]) -> Result<Self, Fault> {
        let object: UniqueMembers = serde_json::from_slice(body)
            .map_err(|error| Fault::new(ErrorCode::InvalidJson, "the body is not a JSON object").because(error))?;
        match object.1 {
            Some(twice) => Err(invalid(&twice, "comes twice")),
            None => Ok(Self { known: object.0 }),
        }
    }

    /// Takes a member's JSON text; `null` counts as absent.
    pub fn raw(&mut self, name: &str) -> Option<Box<RawValue>> {
        self.known.remove(name).filter(|value| value.get() != "null")
    }

    /// Whether the member is there as `null`.
    #[must_use]
    pub fn is_null(&self, name: &str) -> bool {
        self.known.get(name).is_some_and(|value| value.get() == "null")
    }

    /// Takes a member of a type.
    ///
    /// # Errors
    /// `INVALID_REQUEST` with the sentence `must`.
    pub fn typed<T: DeserializeOwned>(&mut self, name: &str, must: &str) -> Result<Option<T>, Fault> {
        self.raw(name).map(|raw| serde_json::from_str(raw.get()).map_err(|_| invalid(name, must))).transpose()
    }

    /// Takes text of 1 to `bytes_max` bytes without control characters.
    ///
    /// # Errors
    /// `INVALID_REQUEST`.
    pub fn text(&mut self, name: &str, bytes_max: usize) -> Result<Option<String>, Fault> {
        let text: Option<String> = self.typed(name, "must be a string")?;
        match text {
            Some(text) if text.is_empty() => Err(invalid(name, "must not be empty")),
            Some(text) if text.len() > bytes_max => Err(invalid(name, &format!("must be at most {bytes_max} bytes"))),
            Some(text) if text.chars().any(char::is_control) => Err(invalid(name, "must not hold control characters")),
            text => Ok(text),
        }
    }

    /// Ends the reading: every member must have been taken.
    ///
    /// # Errors
    /// `INVALID_REQUEST` for a member that nobody took.
    pub fn done(self) -> Result<(), Fault> {
        // The error repeats at most 64 characters of a name from outside.
        match self.known.into_keys().next() {
            Some(name) => Err(invalid(&name.chars().take(64).collect::<String>(), "is not a member of this request")),
            None => Ok(()),
        }
    }
}

/// `INVALID_REQUEST` about a member.
#[must_use]
pub fn invalid(name: &str, rule: &str) -> Fault {
    Fault::new(ErrorCode::InvalidRequest, format!("'{name}' {rule}")).at(name.to_owned())
}

/// `INVALID_REQUEST` about a member that must be there.
#[must_use]
pub fn missing(name: &str) -> Fault {
    invalid(name, "is required")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_body_is_json_in_no_coding() {
        let json = Some("application/json");
        for coding in [None, Some(""), Some("identity"), Some(" Identity ")] {
            assert_eq!(check_media_type(json, coding), Ok(()), "{coding:?}");
        }
        for coding in ["gzip", "br", "deflate", "zstd", "identity, gzip", "x"] {
            let fault = check_media_type(json, Some(coding)).expect_err(coding);
            assert_eq!((fault.code, fault.param.as_deref()), (ErrorCode::UnsupportedMediaType, Some(CONTENT_ENCODING)));
        }
        assert_eq!(check_media_type(Some("Application/JSON; charset=utf-8"), None), Ok(()));
        for wrong in [None, Some(""), Some("text/plain"), Some("application/jsonp")] {
            let fault = check_media_type(wrong, None).expect_err("no JSON");
            assert_eq!((fault.code, fault.param), (ErrorCode::UnsupportedMediaType, None), "{wrong:?}");
        }
    }

    #[test]
    fn a_body_is_utf_8_without_a_byte_order_mark() {
        for good in ["", "{}", "{\"reference\":\"\u{fffd}\u{feff}\"}", " \u{feff}{}"] {
            assert_eq!(text(good.as_bytes()), Ok(()), "{good}");
        }
        let surrogate = b"\"\xed\xa0\x80\"";
        let wrongs: [&[u8]; 5] = [b"\xef\xbb\xbf{}", b"{\"a\":\"\xff\"}", b"\xc0\xaf", surrogate, b"\xff\xfe{\0}\0"];
        for wrong in wrongs {
            assert_eq!(text(wrong).map_err(|fault| fault.code), Err(ErrorCode::InvalidJson), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_no_object_is_invalid_json() {
        for wrong in ["", "[]", "1", "\"x\"", "{", "{\"a\":}", "{\"a\":1}x", "\u{feff}{}"] {
            let code = RequestMembers::read(wrong.as_bytes()).map(|_| ()).map_err(|fault| fault.code);
            assert_eq!(code, Err(ErrorCode::InvalidJson), "{wrong}");
        }
        let deep = "[".repeat(100_000);
        assert!(RequestMembers::read(deep.as_bytes()).is_err());
        let inside = format!("{{\"a\":{}", "[".repeat(100_000));
        assert!(RequestMembers::read(inside.as_bytes()).is_err());
    }

    #[test]
    fn members_that_are_unknown_or_come_twice_are_named() {
        let members = RequestMembers::read(br#"{"a":1,"b":2}"#).expect("an object");
        assert_eq!(members.done().map_err(|fault| fault.param), Err(Some("a".into())));
        let twice = RequestMembers::read(br#"{"a":1,"a":2}"#).map(|_| ());
        assert_eq!(twice.map_err(|fault| fault.param), Err(Some("a".into())));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = RequestMembers::read(&bytes);
        }
    }
}

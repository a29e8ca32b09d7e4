//! A JSON object as a request carries it: members taken one by one, each wrong
//! one named. Unknown and repeated members are refused: a mistyped
//! `expected_amount` that is quietly dropped would cost somebody money.

use crate::error::{Code, Fault};
use core::fmt;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// Members of a request body that are not read yet.
#[derive(Debug)]
pub struct Members {
    known: BTreeMap<String, Box<RawValue>>,
}

struct Object(BTreeMap<String, Box<RawValue>>, Option<String>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Object;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut object = Object(BTreeMap::new(), None);
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

impl Members {
    /// Reads a body.
    ///
    /// # Errors
    /// `INVALID_JSON` for what is no JSON object, `INVALID_REQUEST` for a
    /// member that comes twice.
    pub fn read(body: &[u8]) -> Result<Self, Fault> {
        let object: Object = serde_json::from_slice(body)
            .map_err(|error| Fault::new(Code::InvalidJson, "the body is not a JSON object").because(error))?;
        match object.1 {
            Some(twice) => Err(invalid(&twice, "comes twice")),
            None => Ok(Self { known: object.0 }),
        }
    }

    /// Takes a member's JSON text; `null` is as good as absent.
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

    /// Ends the reading.
    ///
    /// # Errors
    /// `INVALID_REQUEST` for a member that nobody took.
    pub fn done(self) -> Result<(), Fault> {
        // A name from outside is told back only as far as it is short.
        match self.known.into_keys().next() {
            Some(name) => Err(invalid(&name.chars().take(64).collect::<String>(), "is not a member of this request")),
            None => Ok(()),
        }
    }
}

/// `INVALID_REQUEST` about a member.
#[must_use]
pub fn invalid(name: &str, rule: &str) -> Fault {
    Fault::new(Code::InvalidRequest, format!("'{name}' {rule}")).at(name.to_owned())
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
    fn what_is_no_object_is_invalid_json() {
        for wrong in ["", "[]", "1", "\"x\"", "{", "{\"a\":}", "{\"a\":1}x", "\u{feff}{}"] {
            let code = Members::read(wrong.as_bytes()).map(|_| ()).map_err(|fault| fault.code);
            assert_eq!(code, Err(Code::InvalidJson), "{wrong}");
        }
        let deep = "[".repeat(100_000);
        assert!(Members::read(deep.as_bytes()).is_err());
        let inside = format!("{{\"a\":{}", "[".repeat(100_000));
        assert!(Members::read(inside.as_bytes()).is_err());
    }

    #[test]
    fn members_that_are_unknown_or_come_twice_are_named() {
        let members = Members::read(br#"{"a":1,"b":2}"#).expect("an object");
        assert_eq!(members.done().map_err(|fault| fault.param), Err(Some("a".into())));
        let twice = Members::read(br#"{"a":1,"a":2}"#).map(|_| ());
        assert_eq!(twice.map_err(|fault| fault.param), Err(Some("a".into())));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Members::read(&bytes);
        }
    }
}

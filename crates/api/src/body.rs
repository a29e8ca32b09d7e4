//! A request body: a JSON object that is read into one type. Unknown and repeated members are refused, since ignoring
//! a mistyped `expected_amount` would cost money.

use core::fmt;
use core::marker::PhantomData;
use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{DeserializeOwned, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
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
pub(crate) const CONTENT_ENCODING: &str = "Content-Encoding";

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

/// A JSON object read as `T`. A struct's own reading takes a JSON array of its members too; this does not.
#[derive(Debug)]
pub(crate) struct JsonObject<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for JsonObject<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = JsonObject<T>;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<JsonObject<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(JsonObject)
            }
        }
        from.deserialize_map(Members(PhantomData))
    }
}

/// Reads a member that is a JSON object, or `null`.
///
/// # Errors
/// The deserializer's.
pub(crate) fn optional_object<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Option<T>, D::Error> {
    Ok(Option::<JsonObject<T>>::deserialize(from)?.map(|object| object.0))
}

/// A text that names a variant of `T`. An enum's own reading takes an object with that name as its only member too;
/// this does not.
struct VariantName<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for VariantName<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Name<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Name<T> {
            type Value = VariantName<T>;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a string")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<VariantName<T>, E> {
                T::deserialize(StrDeserializer::new(name)).map(VariantName)
            }
        }
        from.deserialize_str(Name(PhantomData))
    }
}

/// Reads a member that is the name of a variant.
///
/// # Errors
/// The deserializer's.
pub(crate) fn variant<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    VariantName::deserialize(from).map(|name| name.0)
}

/// Reads a member that is the name of a variant, or `null`.
///
/// # Errors
/// The deserializer's.
pub(crate) fn optional_variant<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Option<T>, D::Error> {
    Ok(Option::<VariantName<T>>::deserialize(from)?.map(|name| name.0))
}

/// Reads a member that is a list of names of variants, or `null`.
///
/// # Errors
/// The deserializer's.
pub(crate) fn optional_variants<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Vec<T>>, D::Error> {
    let names = Option::<Vec<VariantName<T>>>::deserialize(from)?;
    Ok(names.map(|names| names.into_iter().map(|name| name.0).collect()))
}

/// Reads a member that is an object with names of the caller's, or `null`. A map's own reading keeps the last of two
/// members with one name; this refuses them.
///
/// # Errors
/// The deserializer's.
pub(crate) fn optional_map<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<BTreeMap<String, T>>, D::Error> {
    Ok(Option::<UniqueMembers<T>>::deserialize(from)?.map(|members| members.0))
}

/// The members of a JSON object, each named once.
struct UniqueMembers<T>(BTreeMap<String, T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for UniqueMembers<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = UniqueMembers<T>;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<UniqueMembers<T>, A::Error> {
                let mut members = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, T>()? {
                    if members.contains_key(&name) {
                        return Err(A::Error::custom(format_args!("duplicate field `{name}`")));
                    }
                    members.insert(name, value);
                }
                Ok(UniqueMembers(members))
            }
        }
        from.deserialize_map(Members(PhantomData))
    }
}

/// Reads a member whose `null` means something else than its absence: `Some(None)`.
///
/// # Errors
/// The deserializer's.
pub(crate) fn null_or_value<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(from).map(Some)
}

/// Reads a member that is a JSON object, or `null` with a meaning of its own: `Some(None)`.
///
/// # Errors
/// The deserializer's.
pub(crate) fn null_or_object<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Option<T>>, D::Error> {
    optional_object(from).map(Some)
}

/// Reads a body into its type.
///
/// # Errors
/// `INVALID_JSON` for what is no JSON object; `INVALID_REQUEST` for a member that is missing, unknown, of another type
/// or there twice. `param` is the member's path, as `limits.per_minute`.
pub(crate) fn parse_body<T: DeserializeOwned>(body: &[u8]) -> Result<T, Fault> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let no_json = |error| Fault::new(ErrorCode::InvalidJson, "the body is not a JSON object").because_json(&error);
    match serde_path_to_error::deserialize::<_, JsonObject<T>>(&mut json) {
        Ok(JsonObject(value)) => json.end().map(|()| value).map_err(no_json),
        Err(error) => {
            // A body that is no JSON behind the member at fault is no JSON at all.
            serde_json::from_slice::<JsonObject<IgnoredAny>>(body).map_err(no_json)?;
            Err(member_fault(&error))
        }
    }
}

/// A name or a value from outside is repeated in an error as far as this, in characters.
const QUOTED_MAX: usize = 80;

fn member_fault(error: &serde_path_to_error::Error<serde_json::Error>) -> Fault {
    let (path, message) = (error.path().to_string(), error.inner().to_string());
    let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(message, _place)| message);
    // What is wrong with an object as a whole names the member in the message alone.
    let named = message.split('`').nth(1).unwrap_or_default();
    let inside = |rule| {
        let param = if path == "." { named.to_owned() } else { format!("{path}.{named}") };
        invalid(&param, rule)
    };
    match message.split(" field ").next() {
        Some("missing") => inside("is required"),
        Some("duplicate") => inside("comes twice"),
        Some("unknown") => invalid(&path, "is not a member of this request"),
        Some(_) | None => invalid(&path, &value_rule(message)),
    }
}

/// What a member's value must be, from the deserializer's message. What came in its place is not repeated: the caller
/// has it.
fn value_rule(message: &str) -> String {
    let rule = match message.rsplit_once(", expected ").map(|(_found, expected)| expected) {
        Some("a string") => "must be a string",
        Some("a boolean") => "must be true or false",
        Some("a sequence") => "must be a list",
        Some("a map" | "a JSON object") => "must be an object",
        Some("i64") => "must be a whole number",
        Some("u64") => "must be a whole number that is not negative",
        Some(names) => return format!("must be {}", names.replace('`', "'")),
        // An escape that is half of a surrogate pair.
        None if message.contains("hex escape") => "must be Unicode text",
        None if message.starts_with("number out of range") => "is a number out of range",
        None => return format!("is not valid: {}", quoted(message)),
    };
    rule.to_owned()
}

fn quoted(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(QUOTED_MAX).collect()
}

/// Checks that a member's text is 1 to `bytes_max` bytes without control characters.
///
/// # Errors
/// `INVALID_REQUEST`.
pub(crate) fn check_text(name: &str, text: &str, bytes_max: usize) -> Result<(), Fault> {
    if text.is_empty() {
        Err(invalid(name, "must not be empty"))
    } else if text.len() > bytes_max {
        Err(invalid(name, &format!("must be at most {bytes_max} bytes")))
    } else if text.chars().any(char::is_control) {
        Err(invalid(name, "must not hold control characters"))
    } else {
        Ok(())
    }
}

/// `INVALID_REQUEST` about a member or a parameter. A name that the caller chose is repeated without control characters, and
/// cut.
#[must_use]
pub fn invalid(name: &str, rule: &str) -> Fault {
    let name = quoted(name);
    Fault::new(ErrorCode::InvalidRequest, format!("'{name}' {rule}")).at(name)
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

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        a: u32,
        #[serde(default, deserialize_with = "optional_object")]
        inner: Option<Inner>,
        list: Option<Vec<bool>>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[serde(default, deserialize_with = "null_or_value")]
        b: Option<Option<u32>>,
    }

    fn parse(body: &str) -> Result<Outer, (ErrorCode, Option<String>)> {
        parse_body(body.as_bytes()).map_err(|fault| (fault.code, fault.param.map(Into::into)))
    }

    #[test]
    fn what_is_no_object_is_invalid_json() {
        let behind = [r#"{"a":"x","#, r#"{"c":1,}"#, r#"{"a":1}x"#, r#"{"a":true"#];
        for wrong in ["", "[]", "[1]", "1", "\"x\"", "{", "{\"a\":}", "\u{feff}{}"].into_iter().chain(behind) {
            assert_eq!(parse(wrong), Err((ErrorCode::InvalidJson, None)), "{wrong}");
        }
        for deep in ["[".repeat(100_000), format!("{{\"a\":{}", "[".repeat(100_000))] {
            assert_eq!(parse(&deep), Err((ErrorCode::InvalidJson, None)));
        }
    }

    #[test]
    fn a_member_at_fault_is_named_by_its_path() {
        for (wrong, param) in [
            ("{}", "a"),
            (r#"{"a":null}"#, "a"),
            (r#"{"a":"1"}"#, "a"),
            (r#"{"a":1,"a":2}"#, "a"),
            (r#"{"a":1,"c":2}"#, "c"),
            (r#"{"a":1,"inner":[3]}"#, "inner"),
            (r#"{"a":1,"inner":{"b":-1}}"#, "inner.b"),
            (r#"{"a":1,"inner":{"c":1}}"#, "inner.c"),
            (r#"{"a":1,"inner":{"b":1,"b":1}}"#, "inner.b"),
            (r#"{"a":1,"list":[true,1]}"#, "list[1]"),
        ] {
            assert_eq!(parse(wrong), Err((ErrorCode::InvalidRequest, Some(param.to_owned()))), "{wrong}");
        }
        let (long, control) = ("x".repeat(500), "\\u0007");
        let fault = parse_body::<Outer>(format!(r#"{{"a":1,"{long}{control}":1}}"#).as_bytes()).expect_err("unknown");
        assert!(fault.detail.len() < 150 && fault.param.is_some_and(|param| param.len() <= QUOTED_MAX));
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Colour {
        Red,
        Blue,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Values {
        #[serde(deserialize_with = "variant")]
        colour: Colour,
        #[serde(default, deserialize_with = "optional_variant")]
        other: Option<Colour>,
        #[serde(default, deserialize_with = "optional_variants")]
        more: Option<Vec<Colour>>,
        #[serde(default, deserialize_with = "optional_map")]
        named: Option<BTreeMap<String, i64>>,
        count: Option<u64>,
        flag: Option<bool>,
        text: Option<String>,
    }

    #[test]
    fn the_rule_of_a_value_is_said_in_terms_of_json() {
        let parse = |body: &str| parse_body::<Values>(body.as_bytes()).map_err(|fault| fault.detail.into_owned());
        let good = parse(r#"{"colour":"red","other":null,"more":["blue"],"named":{"a":1,"b":2},"text":"at line 3"}"#);
        let Values { colour, other, more, named, count, flag, text } = good.expect("reads");
        assert!(matches!((colour, other, more.as_deref()), (Colour::Red, None, Some([Colour::Blue]))));
        assert_eq!(
            (named.map(|all| all.len()), count, flag, text.as_deref()),
            (Some(2), None, None, Some("at line 3"))
        );
        for (member, rule) in [
            (r#""other":3"#, "'other' must be a string"),
            (r#""other":{"red":null}"#, "'other' must be a string"),
            (r#""other":"green at line 3 field, expected x""#, "'other' must be 'red' or 'blue'"),
            (r#""more":"red""#, "'more' must be a list"),
            (r#""more":[{"red":null}]"#, "'more[0]' must be a string"),
            (r#""named":[]"#, "'named' must be an object"),
            (r#""named":{"a":1,"a":2}"#, "'named.a' comes twice"),
            (r#""named":{"a":1.5}"#, "'named.a' must be a whole number"),
            (r#""count":-1"#, "'count' must be a whole number that is not negative"),
            (r#""count":1e400"#, "'count' is a number out of range"),
            (r#""flag":"yes""#, "'flag' must be true or false"),
            (r#""text":["x"]"#, "'text' must be a string"),
            (r#""text":"\ud800""#, "'text' must be Unicode text"),
        ] {
            let refused = parse(&format!(r#"{{"colour":"red",{member}}}"#)).map(|_| ());
            assert_eq!(refused, Err(rule.to_owned()), "{member}");
        }
        let refused = parse(r#"{"colour":{"red":null}}"#).map(|_| ());
        assert_eq!(refused, Err("'colour' must be a string".to_owned()));
    }

    #[test]
    fn null_differs_from_absence_where_it_matters() {
        let inner = |text: &str| parse(&format!(r#"{{"a":1,"inner":{text}}}"#)).map(|outer| outer.inner);
        assert_eq!(inner("null"), Ok(None));
        assert_eq!(inner("{}"), Ok(Some(Inner { b: None })));
        assert_eq!(inner(r#"{"b":null}"#), Ok(Some(Inner { b: Some(None) })));
        assert_eq!(inner(r#"{"b":3}"#), Ok(Some(Inner { b: Some(Some(3)) })));
    }

    #[test]
    fn a_name_of_the_callers_is_cut_and_holds_no_control_character() {
        let fault = invalid(&format!("a\r\n\0{}", "b".repeat(10_000)), "is no parameter");
        let name = format!("a{}", "b".repeat(QUOTED_MAX - 1));
        assert_eq!(fault.param.as_deref(), Some(name.as_str()));
        assert_eq!(fault.detail, format!("'{name}' is no parameter"));
    }

    #[test]
    fn a_text_has_bounds() {
        for (text, is_good) in [("x", true), ("12345", true), ("", false), ("123456", false), ("a\nb", false)] {
            assert_eq!(check_text("name", text, 5).is_ok(), is_good, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_body::<Outer>(&bytes);
        }
    }
}

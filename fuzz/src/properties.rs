//! What holds of every parser of a kind.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fmt::{Debug, Display};
use x402_api::body;
use x402_core::error::Fault;

/// An instant within the time of the corpora.
pub(crate) const NOW_MS: u64 = 1_795_910_400_000;
/// Our own origin.
pub(crate) const ORIGIN: &str = "https://pay.example";
/// The most bytes of a text for the caller.
const DETAIL_MAX: usize = 1_000;
/// Texts of a body that are long enough to be secrets.
const SECRET_MIN: usize = 16;

/// The input as text; what comes as a header, a path or a column always is.
pub(crate) fn text(input: &[u8]) -> Option<&str> {
    std::str::from_utf8(input).ok()
}

/// A value has one spelling: what is read is what would be written.
#[track_caller]
pub(crate) fn canonical<T: Display>(input: &str, read: Option<T>) -> bool {
    let Some(value) = read else { return false };
    assert_eq!(value.to_string(), input, "two spellings of one value");
    true
}

/// A value of several spellings is written as one, which reads as the same value.
#[track_caller]
pub(crate) fn stable<T: Display + Debug + PartialEq>(read: impl Fn(&str) -> Option<T>, input: &str) -> bool {
    let Some(value) = read(input) else { return false };
    let written = value.to_string();
    assert_eq!(read(&written).as_ref(), Some(&value), "{written} reads otherwise than it was written");
    assert_eq!(read(&written).map(|value| value.to_string()), Some(written));
    true
}

/// A type that is stored or sent as JSON: what is read and written again is read as the same.
#[track_caller]
pub(crate) fn stable_json<T: Serialize + DeserializeOwned>(input: &[u8]) -> bool {
    let Ok(value) = serde_json::from_slice::<T>(input) else { return false };
    let written = serde_json::to_string(&value).expect("JSON");
    let again: T = serde_json::from_str(&written).unwrap_or_else(|error| panic!("{error}: {written}"));
    assert_eq!(serde_json::to_string(&again).expect("JSON"), written);
    true
}

/// The texts of a JSON value, but not the names of members, which a fault may repeat.
fn texts<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => found.push(text),
        Value::Array(all) => all.iter().for_each(|one| texts(one, found)),
        Value::Object(members) => members.values().for_each(|one| texts(one, found)),
        _ => {}
    }
}

/// A fault can be shown and logged: it is short, holds no control character, and its cause, which is logged, none of the texts
/// of the input.
#[track_caller]
pub(crate) fn quiet(fault: &Fault, input: &[u8]) {
    assert!(fault.detail.len() <= DETAIL_MAX, "{} bytes of detail", fault.detail.len());
    let param = fault.param.as_deref().unwrap_or_default();
    assert!(param.len() <= DETAIL_MAX, "{} bytes of param", param.len());
    for shown in [fault.detail.as_ref(), param] {
        assert!(!shown.chars().any(char::is_control), "a control character is repeated: {shown:?}");
    }
    hushed(fault.cause().unwrap_or_default(), input);
}

/// A text for the log holds none of the texts of an input that is JSON.
#[track_caller]
pub(crate) fn hushed(logged: &str, input: &[u8]) {
    assert!(logged.len() <= DETAIL_MAX, "{} bytes for the log", logged.len());
    let Ok(value) = serde_json::from_slice::<Value>(input) else { return };
    let mut found = Vec::new();
    texts(&value, &mut found);
    let shown = found.iter().find(|text| text.len() >= SECRET_MIN && logged.contains(**text));
    assert_eq!(shown, None, "a value of the input is logged: {logged}");
}

/// Whether a result is a value; a fault must be quiet.
#[track_caller]
pub(crate) fn judged<T>(result: Result<T, Fault>, input: &[u8]) -> bool {
    match result {
        Ok(_) => true,
        Err(fault) => {
            quiet(&fault, input);
            false
        }
    }
}

/// A request's body, read as `src/entry/http.rs` does. One that is accepted has one reading: with a member twice, with a member
/// more, as a list or with something behind it, it is refused.
#[track_caller]
pub(crate) fn strict_body<T>(input: &[u8], read: impl Fn(&[u8]) -> Result<T, Fault>) -> bool {
    if !lax_body(input, &read) {
        return false;
    }
    // Some routes take no body at all for an empty object.
    if input.is_empty() {
        return true;
    }
    let whole = text(input).expect("checked");
    let (_, members) = whole.split_once('{').expect("an object");
    let Ok(Value::Object(object)) = serde_json::from_slice(input) else { panic!("no object was accepted") };
    let separator = if object.is_empty() { "" } else { "," };
    let more = format!("{{\"x402-unknown\":1{separator}{members}");
    let mut wrong = vec![more, format!("[{whole}]"), format!("{whole}{{}}"), format!("\u{feff}{whole}")];
    if let Some((name, value)) = object.iter().next() {
        wrong.push(format!("{{{}:{value},{members}", Value::from(name.as_str())));
    }
    for wrong in wrong {
        assert!(!lax_body(wrong.as_bytes(), &read), "accepted: {wrong}");
    }
    true
}

/// A request's body, of which unknown members are ignored.
#[track_caller]
pub(crate) fn lax_body<T>(input: &[u8], read: impl Fn(&[u8]) -> Result<T, Fault>) -> bool {
    judged(body::text(input), input) && judged(read(input), input)
}

/// An output is bounded by its input.
#[track_caller]
pub(crate) fn bounded(output: usize, input: &[u8], times: usize, more: usize) {
    let most = input.len().saturating_mul(times).saturating_add(more);
    assert!(output <= most, "{output} bytes of {} bytes", input.len());
}

//! Status and headers of a response as one JSON text.
//!
//! Reason: a text that passes from wasm to JavaScript is copied and decoded, some 20 headers a response one by one. As one
//! text they pass once.
//! Test: tests/workerd/routes.test.mjs
//! Upstream: <https://github.com/wasm-bindgen/wasm-bindgen/issues/1205>

use serde::Serialize;
use wasm_bindgen::{JsCast, JsValue};
use worker::js_sys;
use worker::web_sys::{Headers, ResponseInit};

/// The second argument of `new Response`.
#[derive(Serialize)]
struct ResponseInitJson<'a> {
    status: u16,
    headers: Vec<(&'a str, &'a str)>,
}

fn parse_js(value: &impl Serialize) -> worker::Result<JsValue> {
    Ok(js_sys::JSON::parse(&serde_json::to_string(value)?)?)
}

/// The second argument of `new Response`: status and headers.
///
/// # Errors
/// Where the platform refuses it.
pub(crate) fn response_init<'a>(
    status: u16,
    headers: impl Iterator<Item = (&'a str, &'a str)>,
) -> worker::Result<ResponseInit> {
    Ok(parse_js(&ResponseInitJson { status, headers: headers.collect() })?.unchecked_into())
}

/// The headers as the platform's object.
///
/// # Errors
/// Where the platform refuses a name or a value.
pub(crate) fn headers_object<'a>(headers: impl Iterator<Item = (&'a str, &'a str)>) -> worker::Result<Headers> {
    let headers: Vec<(&str, &str)> = headers.collect();
    Ok(Headers::new_with_str_sequence_sequence(&parse_js(&headers)?)?)
}

//! What tenants do with their own keys besides making them ([`crate::admin::new_key`]): rotation, and reports of leaks.

use crate::body::{check_text, invalid, parse_body};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use x402_core::error::Fault;

/// The longest time in which a key and the one that replaces it both hold: a week.
pub const GRACE_SECONDS_MAX: u64 = 604_800;
/// The time where the request names none: a day.
const GRACE_SECONDS: u64 = 86_400;
/// The longest text that is read as a key: keys have some 75 characters.
const KEY_BYTES_MAX: usize = 200;
/// The longest address of a place where a key was found.
const URL_BYTES_MAX: usize = 500;

/// The body of `POST /v1/api-keys/{key_id}/rotate`.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RotateBody {
    /// How long the old key holds beside the new one, in seconds; default: a day. 0: it is refused at once.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(max = 604_800)))]
    pub grace_seconds: Option<u64>,
}

/// The body of `POST /v1/api-keys/revoke-leaked`.
#[derive(Debug, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct LeakedBody {
    /// The text of the key that was found.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 200)))]
    pub key: String,
    /// Where it was found: an address that begins with `https://`, for the audit log of the key's owner. Anything else counts
    /// as no place, and the key is revoked all the same.
    pub url: Option<Value>,
}

/// A report of a leaked key.
#[derive(Debug, PartialEq, Eq)]
pub struct LeakReport {
    /// The text that was found; it may be no key.
    pub key: String,
    /// Where it was found; `None` where the report names no address of the form that is stored.
    pub url: Option<String>,
}

/// The answer to `POST /v1/api-keys/revoke-leaked`, whatever the text was.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct LeakReceived {
    /// Always `true`: if the text is a key of this service, it is revoked, and refused from the next request on, or within
    /// minutes where a ledger of its tenant is not reached.
    pub received: bool,
}

/// Reads how long a key holds after its rotation, in milliseconds. An empty body names nothing.
///
/// # Errors
/// `INVALID_JSON`, `INVALID_REQUEST`.
pub fn grace_ms(body: &[u8]) -> Result<u64, Fault> {
    let body: RotateBody = if body.is_empty() { RotateBody::default() } else { parse_body(body)? };
    let seconds = body.grace_seconds.unwrap_or(GRACE_SECONDS);
    if seconds > GRACE_SECONDS_MAX {
        return Err(invalid("grace_seconds", &format!("must be at most {GRACE_SECONDS_MAX}, a week")));
    }
    Ok(seconds.saturating_mul(1_000))
}

/// Reads a report of a leaked key. Whoever reports does not read a refusal: the place never keeps a key in force.
///
/// # Errors
/// `INVALID_JSON`, `INVALID_REQUEST`.
pub fn leak_report(body: &[u8]) -> Result<LeakReport, Fault> {
    let LeakedBody { key, url } = parse_body(body)?;
    check_text("key", &key, KEY_BYTES_MAX)?;
    let is_place = |url: &&str| {
        url.len() <= URL_BYTES_MAX && url.starts_with("https://") && url.bytes().all(|byte| byte.is_ascii_graphic())
    };
    let url = url.as_ref().and_then(Value::as_str).filter(is_place).map(str::to_owned);
    Ok(LeakReport { key: key.trim().to_owned(), url })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotation_has_a_grace_time_of_a_week_at_most() {
        for (body, want) in [
            ("", Ok(86_400_000)),
            ("{}", Ok(86_400_000)),
            (r#"{"grace_seconds":0}"#, Ok(0)),
            (r#"{"grace_seconds":604800}"#, Ok(604_800_000)),
            (r#"{"grace_seconds":604801}"#, Err(Some("grace_seconds".into()))),
            (r#"{"grace_seconds":-1}"#, Err(Some("grace_seconds".into()))),
        ] {
            assert_eq!(grace_ms(body.as_bytes()).map_err(|fault| fault.param), want, "{body}");
        }
    }

    #[test]
    fn a_report_names_a_key_and_may_say_where_it_was() {
        let read = |body: &str| leak_report(body.as_bytes()).map_err(|fault| fault.param);
        let report = |key: &str, url: Option<&str>| Ok(LeakReport { key: key.into(), url: url.map(Into::into) });
        assert_eq!(read(r#"{"key":" x402_live_1 "}"#), report("x402_live_1", None));
        assert_eq!(read(r#"{"key":"x","url":"https://a.b/c"}"#), report("x", Some("https://a.b/c")));
        let long = format!("\"https://a.b/{}\"", "c".repeat(500));
        let others = [r#""=1+1""#, r#""javascript:x""#, r#""http://a.b""#, r#""https://a b""#, r#""https://a.b/é""#];
        for url in others.into_iter().chain(["\"\"", "null", "1", "[]", "{}", &long]) {
            assert_eq!(read(&format!(r#"{{"key":"x","url":{url}}}"#)), report("x", None), "{url}");
        }
        for (wrong, param) in [("{}", "key"), (r#"{"key":""}"#, "key"), (r#"{"key":"x","where":"y"}"#, "where")] {
            assert_eq!(read(wrong), Err(Some(param.into())), "{wrong}");
        }
    }
}

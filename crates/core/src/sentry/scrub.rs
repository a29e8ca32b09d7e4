//! What never leaves: a last pass over every text of an event, names of members too. It removes the deployment's own secrets by
//! their values, and what has the form of a credential, a mail address or an IP address. Hashes of transactions, addresses on
//! chains and our ids stay: operators need them. In doubt a text goes.

mod tokens;

use serde_json::{Map, Value};

/// What stands in the place of a credential.
pub const REMOVED: &str = "[removed]";
/// What stands in the place of a mail address.
pub const MAIL: &str = "[mail]";
/// What stands in the place of an IP address.
pub const IP: &str = "[ip]";

/// Names whose values are credentials or name a person, in lower case with `-` for `_`.
const NAMES: &[&str] = &[
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
    "password",
    "passwd",
    "secret",
    "token",
    "pepper",
    "peppers",
    "session",
    "signature",
    "stripe-signature",
    "x-payment",
    "payment-signature",
    "cf-connecting-ip",
    "x-forwarded-for",
    "x-real-ip",
    "true-client-ip",
    "forwarded",
    "email",
    "dsn",
    "apikey",
    "mnemonic",
    "seed",
];
/// Endings of such names: `ADMIN_KEY`, `client_secret`, `KEY_PEPPERS`, `SENTRY_DSN`, `EVM_SIGNERS_LIVE`.
const NAME_ENDS: &[&str] = &[
    "-key",
    "-secret",
    "-token",
    "-password",
    "-peppers",
    "-dsn",
    "-signature",
    "-signers-live",
    "-signers-test",
    "-cookie",
];

/// Removes from every text of a value what must not leave.
pub fn scrub(value: &mut Value, secrets: &[String]) {
    match value {
        Value::String(text) => *text = scrub_text(text, secrets),
        Value::Array(items) => items.iter_mut().for_each(|item| scrub(item, secrets)),
        Value::Object(members) => {
            let old = core::mem::take(members);
            *members = old.into_iter().map(|(name, value)| scrub_member(&name, value, secrets)).collect::<Map<_, _>>();
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn scrub_member(name: &str, mut value: Value, secrets: &[String]) -> (String, Value) {
    if is_secret_name(name) {
        value = REMOVED.into();
    }
    scrub(&mut value, secrets);
    (scrub_text(name, secrets), value)
}

/// Whether what is called so is a credential, or names a person.
fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('_', "-");
    NAMES.contains(&name.as_str()) || NAME_ENDS.iter().any(|end| name.ends_with(end)) || name.starts_with("--host-")
}

/// A text without what must not leave.
#[must_use]
pub fn scrub_text(text: &str, secrets: &[String]) -> String {
    let mut text = text.to_owned();
    for secret in secrets {
        if text.contains(secret.as_str()) {
            text = text.replace(secret.as_str(), REMOVED);
        }
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    let mut before: Option<char> = None;
    while let Some(first) = rest.chars().next() {
        let found = find_name(rest, before).or_else(|| tokens::find(rest, before));
        let (shown, length) = match found {
            Some(found) => found,
            None => (String::from(first), first.len_utf8()),
        };
        out.push_str(&shown);
        let (taken, left) = rest.split_at_checked(length.max(1)).unwrap_or((rest, ""));
        before = taken.chars().next_back();
        rest = left;
    }
    out
}

const fn is_name_char(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-')
}

/// At a name: the name and its value's stand-in, and the length of both. A header's value ends with its line, one in quotes with
/// them, one of a query or a word with it.
fn find_name(rest: &str, before: Option<char>) -> Option<(String, usize)> {
    if before.is_some_and(is_name_char) {
        return None;
    }
    let end = rest.find(|letter| !is_name_char(letter))?;
    let (name, after) = rest.split_at_checked(end)?;
    let opening = after.trim_start_matches(['"', '\'', '\\', ' ', ']']);
    let value = opening.strip_prefix("%3D").or_else(|| opening.strip_prefix(['=', ':']));
    let (is_scheme, value) = match value {
        Some(value) => (false, value),
        None if is_scheme(name) && after.starts_with(' ') => (true, after),
        None => return None,
    };
    let value = value.trim_start_matches([' ', '\t', '\\']);
    let length = if is_scheme {
        word_length(value)
    } else if is_secret_name(name) {
        value_length(name, value)
    } else if is_code_name(name) {
        code_length(value)?
    } else {
        return None;
    };
    if length == 0 {
        return None;
    }
    let start = rest.len().checked_sub(value.len())?;
    Some((format!("{}{REMOVED}", rest.get(..start)?), start.checked_add(length)?))
}

/// Whether a credential follows the word.
fn is_scheme(name: &str) -> bool {
    ["bearer", "basic"].iter().any(|scheme| name.eq_ignore_ascii_case(scheme))
}

fn is_code_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name == "code" || name.ends_with("_code") || name.ends_with("-code") || name == "otp" || name == "state"
}

/// The length of a code of a sign-in, six digits, or of another service's; `None` for an error's, which has `_` or is short.
fn code_length(value: &str) -> Option<usize> {
    let length = word_length(value.trim_start_matches(['"', '\'']));
    let word = value.trim_start_matches(['"', '\'']).get(..length)?;
    let quotes = value.len().checked_sub(value.trim_start_matches(['"', '\'']).len())?;
    let has_digits = word.bytes().any(|byte| byte.is_ascii_digit());
    let is_digits = word.bytes().all(|byte| byte.is_ascii_digit());
    let is_secret = (is_digits && length == 6) || (has_digits && length >= 16);
    is_secret.then(|| length.saturating_add(quotes))
}

fn word_length(value: &str) -> usize {
    let ends =
        |letter: char| letter.is_whitespace() || matches!(letter, '"' | '\'' | ',' | ';' | '&' | ')' | '}' | '<' | '>');
    value.find(ends).unwrap_or(value.len())
}

/// The length of a value: up to its closing quote, or of a header to the end of its line, else of the word.
fn value_length(name: &str, value: &str) -> usize {
    if let Some(quote) = value.chars().next().filter(|letter| matches!(letter, '"' | '\'')) {
        let inner = value.get(1..).unwrap_or_default();
        return inner.find(quote).map_or(value.len(), |at| at.saturating_add(2));
    }
    let name = name.to_ascii_lowercase();
    let is_line = name.ends_with("authorization") || name.ends_with("cookie") || name.ends_with("forwarded-for");
    if is_line { value.find(['\r', '\n', '"']).unwrap_or(value.len()) } else { word_length(value) }
}

#[cfg(test)]
mod tests;

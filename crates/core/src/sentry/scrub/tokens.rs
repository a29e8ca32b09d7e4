//! What has the form of a secret, whatever stands before it.

use super::{IP, MAIL, REMOVED};
use core::net::{Ipv4Addr, Ipv6Addr};

/// What begins our keys and those of services that we use: the beginning, and how long the rest is at least. Those that are
/// ordinary words too count at the beginning of a word alone.
const PREFIXES: &[(&str, usize, bool)] = &[
    ("x402_live_", 1, false),
    ("x402_test_", 1, false),
    ("x402_url_live_", 1, false),
    ("x402_url_test_", 1, false),
    ("whsec_", 1, false),
    ("sk_live_", 1, false),
    ("sk_test_", 1, false),
    ("rk_live_", 1, false),
    ("rk_test_", 1, false),
    ("github_pat_", 1, false),
    ("xprv", 20, false),
    ("sk_", 8, true),
    ("rk_", 8, true),
    ("re_", 12, true),
    ("ghp_", 12, true),
    ("gho_", 12, true),
    ("ghs_", 12, true),
    ("xoxb-", 8, true),
    ("eyJ", 16, true),
];
/// Hex without `0x` of this length and more is a secret: a pepper, a session, a login's token, a private key. Our ids and
/// those of traces are shorter.
const HEX_MIN: usize = 48;
/// The hex digits of a transaction's hash, behind `0x`.
const HASH_DIGITS: usize = 64;
/// Words of letters, digits, `+` and `/` of this length are keys in base64; Solana's signatures have 88 characters of base58.
const BASE64_MIN: usize = 40;

/// What stands at the beginning of a text: its stand-in and its length.
pub(super) fn find(rest: &str, before: Option<char>) -> Option<(String, usize)> {
    let is_word_start = !before.is_some_and(char::is_alphanumeric);
    prefixed(rest, is_word_start)
        .or_else(|| user_of_url(rest))
        .or_else(|| is_word_start.then(|| pem(rest).or_else(|| hex(rest))).flatten())
        .or_else(|| mail(rest, before))
        .or_else(|| is_word_start.then(|| ipv4(rest, before).or_else(|| base64(rest, before))).flatten())
        .or_else(|| ipv6(rest, before))
}

fn run(text: &str, is_part: impl Fn(char) -> bool) -> usize {
    text.find(|letter| !is_part(letter)).unwrap_or(text.len())
}

fn prefixed(rest: &str, is_word_start: bool) -> Option<(String, usize)> {
    PREFIXES.iter().find_map(|(prefix, min, needs_start)| {
        let after = rest.strip_prefix(prefix).filter(|_| is_word_start || !needs_start)?;
        // A key of ours stands in paths, and has letters and digits alone.
        let more = if prefix.starts_with("x402_") { "_" } else { "_-+/=.%" };
        let length = run(after, |letter| letter.is_ascii_alphanumeric() || more.contains(letter));
        (length >= *min).then(|| (REMOVED.to_owned(), prefix.len().saturating_add(length)))
    })
}

/// A private key in the form of PEM.
fn pem(rest: &str) -> Option<(String, usize)> {
    let after = rest.strip_prefix("-----BEGIN ")?;
    let end = after.find("-----END ").and_then(|at| {
        let tail = after.get(at..)?.get(9..)?;
        at.checked_add(9)?.checked_add(tail.find("-----")?)?.checked_add(5)
    });
    let length = end.map_or(rest.len(), |end| end.saturating_add("-----BEGIN ".len()));
    Some((REMOVED.to_owned(), length))
}

/// The user and the password of a URL: `://user:password@`.
fn user_of_url(rest: &str) -> Option<(String, usize)> {
    let after = rest.strip_prefix("://")?;
    let authority = after.get(..run(after, |letter| !letter.is_whitespace() && !"/?#\"'<>".contains(letter)))?;
    let (user, _) = authority.rsplit_once('@')?;
    Some((format!("://{REMOVED}@"), user.len().saturating_add(4)))
}

fn hex(rest: &str) -> Option<(String, usize)> {
    let (digits, zero) = rest.strip_prefix("0x").map_or((rest, 0), |digits| (digits, 2));
    let length = run(digits, |letter| letter.is_ascii_hexdigit());
    let is_secret = if zero == 0 { length >= HEX_MIN } else { length > HASH_DIGITS };
    if length == 0 {
        return None;
    }
    let end = length.saturating_add(zero);
    // A hash or an address is passed over in one piece, so that no part of it is taken for something else.
    let is_passed = zero == 2 && !rest.get(end..)?.starts_with(is_address_char);
    if is_secret {
        Some((REMOVED.to_owned(), end))
    } else {
        is_passed.then(|| (rest.get(..end).unwrap_or_default().to_owned(), end))
    }
}

fn is_address_char(letter: char) -> bool {
    letter.is_alphanumeric() || "._%+-@".contains(letter)
}

/// A mail address, its `@` also as `%40`.
fn mail(rest: &str, before: Option<char>) -> Option<(String, usize)> {
    let is_local = |letter: char| letter.is_alphanumeric() || "._+-!#$*^`{|}~".contains(letter);
    if before.is_some_and(|letter| letter.is_alphanumeric() || "._+-".contains(letter)) {
        return None;
    }
    // A name with punctuation of the text before it begins after that.
    if !rest.chars().next().is_some_and(|letter| letter.is_alphanumeric() || "_+-".contains(letter)) {
        return None;
    }
    let local = run(rest, is_local);
    let after = rest.get(local..)?;
    let domain = after.strip_prefix('@').or_else(|| after.strip_prefix("%40"))?;
    let length = run(domain, |letter| letter.is_alphanumeric() || ".-[]:".contains(letter));
    // A release, `name@1.2.3`, ends in digits.
    let last = domain.get(..length)?.trim_end_matches(['.', '-', ':']).rsplit('.').next()?;
    if !last.starts_with(|letter: char| letter.is_alphabetic() || letter == '[') && !domain.starts_with('[') {
        return None;
    }
    let at = after.len().checked_sub(domain.len())?;
    Some((MAIL.to_owned(), local.checked_add(at)?.checked_add(length)?))
}

fn ipv4(rest: &str, before: Option<char>) -> Option<(String, usize)> {
    if before == Some('.') {
        return None;
    }
    let length = run(rest, |letter| letter.is_ascii_digit() || letter == '.');
    let (found, after) = rest.split_at_checked(length)?;
    let text = found.trim_end_matches('.');
    let is_end =
        !after.starts_with(|letter: char| letter.is_alphanumeric() || letter == '_') || text.len() < found.len();
    (is_end && text.parse::<Ipv4Addr>().is_ok()).then(|| (IP.to_owned(), text.len()))
}

/// An IPv6 address. What precedes it may be a colon, but no word that goes on in it.
fn ipv6(rest: &str, before: Option<char>) -> Option<(String, usize)> {
    let is_part = |letter: char| letter.is_ascii_hexdigit() || letter == ':' || letter == '.';
    if before.is_some_and(|letter| letter.is_alphanumeric() || letter == '_') || !rest.starts_with(is_part) {
        return None;
    }
    let found = rest.get(..run(rest, is_part))?;
    if found.matches(':').count() < 2 {
        return None;
    }
    // The longest part that is an address, at whose end the word ends too.
    let ends = (2..=found.len()).rev();
    let mut fits = ends.filter(|end| {
        let after = rest.get(*end..).unwrap_or_default();
        !after.starts_with(|letter: char| letter.is_alphanumeric() || letter == '_')
            && found.get(..*end).is_some_and(|text| text.len() > 2 && text.parse::<Ipv6Addr>().is_ok())
    });
    fits.next().map(|end| (IP.to_owned(), end))
}

/// Keys in base64: capitals, small letters and digits, and what base58 and hex do not have. A path or a name of a function is
/// none.
fn base64(rest: &str, before: Option<char>) -> Option<(String, usize)> {
    if before.is_some_and(|letter| "_-+/=".contains(letter)) {
        return None;
    }
    let length = run(rest, |letter| letter.is_ascii_alphanumeric() || "+/=".contains(letter));
    let text = rest.get(..length).filter(|text| text.len() >= BASE64_MIN)?;
    let has = |is: fn(char) -> bool| text.contains(is);
    let is_mixed = has(|letter| letter.is_ascii_uppercase())
        && has(|letter| letter.is_ascii_lowercase())
        && has(|letter| letter.is_ascii_digit());
    let is_base64 = is_mixed && text.contains(['+', '/', '=', '0', 'O', 'I', 'l']);
    is_base64.then(|| (REMOVED.to_owned(), length))
}

//! Hex as nodes write it (docs/spec/chains.md#evm-32): quantities without leading zeros, data of whole bytes. Anything
//! else is a malformed answer.

use crate::facts::Undecided;
use alloy_primitives::{Address, B256};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// Hex digits of 32 bytes, the widest quantity there is.
const DIGITS_MAX: usize = 64;

/// The most characters of a node's text that a log line quotes.
const WORDS_MAX: usize = 100;

/// A quantity that fits 64 bits: `0x0`, or `0x` and lower-case digits of which
/// the first is not zero.
///
/// # Errors
/// `malformed_quantity` for anything else, larger numbers included.
pub(super) fn number(text: &str) -> Result<u64, Undecided> {
    text.strip_prefix("0x")
        .filter(|digits| is_canonical(digits))
        .and_then(|digits| u64::from_str_radix(digits, 16).ok())
        .ok_or_else(|| Undecided::malformed_with("malformed_quantity", excerpt(text)))
}

fn is_canonical(digits: &str) -> bool {
    let lower_hex = digits.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
    let led_by_zero = digits.starts_with('0') && digits != "0";
    lower_hex && !digits.is_empty() && !led_by_zero && digits.len() <= DIGITS_MAX
}

/// Reads data of exactly 32 bytes.
pub(super) fn hash(text: &str) -> Option<B256> {
    exact_bytes(text).map(B256::new)
}

/// Reads data of exactly 20 bytes, in any case: nodes differ in case, and it carries no checksum here.
pub(super) fn address(text: &str) -> Option<Address> {
    exact_bytes(text).map(Address::new)
}

/// Reads whole bytes; there may be none.
pub(super) fn bytes(text: &str) -> Option<Vec<u8>> {
    hex::decode(text.strip_prefix("0x")?).ok()
}

fn exact_bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0_u8; N];
    hex::decode_to_slice(text.strip_prefix("0x")?, &mut bytes).ok()?;
    Some(bytes)
}

/// A result that is a JSON string.
///
/// # Errors
/// `malformed_quantity` where it is something else.
pub(super) fn text(value: &RawValue) -> Result<Cow<'_, str>, Undecided> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    serde_json::from_str(value.get())
        .map(|Text(text)| text)
        .map_err(|_| Undecided::malformed_with("malformed_quantity", excerpt(value.get())))
}

/// The beginning of a node's text, for the log.
pub(super) fn excerpt(text: &str) -> String {
    text.chars().take(WORDS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(text: &str, want: Option<u64>) {
        assert_eq!(number(text).ok(), want, "{text}");
    }

    #[test]
    fn a_quantity_has_one_spelling() {
        check("0x0", Some(0));
        check("0x1", Some(1));
        check("0x23d63eb", Some(0x23d_63eb));
        check("0xffffffffffffffff", Some(u64::MAX));
        for wrong in ["", "0", "0x", "0x00", "0x01", "0xA", "0X1", "1", "0x+1", "0x-1", "0x 1", "0x1 ", "0x1g", "0x_1"]
        {
            check(wrong, None);
        }
        check("0x10000000000000000", None);
        check(&format!("0x1{}", "0".repeat(64)), None);
    }

    #[test]
    fn hashes_and_addresses_have_their_length() {
        assert_eq!(hash(&format!("0x{}", "ab".repeat(32))), Some(B256::repeat_byte(0xab)));
        assert_eq!(address(&format!("0x{}", "AB".repeat(20))), Some(Address::repeat_byte(0xab)));
        for wrong in
            ["", "0x", "ab", &"ab".repeat(32), &format!("0x{}", "ab".repeat(31)), &format!("0x{}g", "a".repeat(63))]
        {
            assert_eq!(hash(wrong), None, "{wrong}");
            assert_eq!(address(wrong), None, "{wrong}");
        }
        assert_eq!(bytes("0x"), Some(vec![]));
        assert_eq!(bytes("0x0"), None);
    }

    proptest! {
        #[test]
        fn a_quantity_reads_back(n in any::<u64>()) {
            prop_assert_eq!(number(&format!("{n:#x}")), Ok(n));
        }

        #[test]
        fn no_text_panics(text in ".*", digits in "0x[0-9a-fA-F]{0,70}") {
            for text in [&text, &digits] {
                let _ = (number(text), hash(text), address(text), bytes(text), excerpt(text));
            }
        }
    }
}

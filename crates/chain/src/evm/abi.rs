//! The parts of the contract ABI that are read: one word of 32 bytes, and a string in the two forms in which tokens
//! answer `name()`.

use super::quantity;
use alloy_primitives::U256;

/// The most bytes of a string that are read; a token's name is far shorter.
const STRING_BYTES_MAX: usize = 256;

/// Reads hex of exactly one 32-byte word.
#[must_use]
pub(crate) fn word(text: &str) -> Option<[u8; 32]> {
    quantity::hash(text).map(Into::into)
}

/// Reads a word that is 0 or 1; `None` for any other.
#[must_use]
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match U256::from_be_bytes(word(text)?) {
        U256::ZERO => Some(false),
        one if one == U256::ONE => Some(true),
        _ => None,
    }
}

/// Reads a 32-byte word whose value fits 64 bits.
#[must_use]
pub(crate) fn number(text: &str) -> Option<u64> {
    U256::from_be_bytes(word(text)?).try_into().ok()
}

/// Reads a string: dynamic (offset, length, bytes), or 32 bytes padded with zeros as old tokens answer. At most 256
/// bytes of UTF-8.
#[must_use]
pub(crate) fn string(text: &str) -> Option<String> {
    let bytes = quantity::bytes(text)?;
    let found = match <[u8; 32]>::try_from(bytes.as_slice()) {
        Ok(word) => {
            let length = word.iter().rposition(|byte| *byte != 0).map_or(0, |last| last.saturating_add(1));
            word.get(..length)?.to_vec()
        }
        Err(_) => dynamic_bytes(&bytes)?.to_vec(),
    };
    String::from_utf8(found).ok()
}

fn dynamic_bytes(bytes: &[u8]) -> Option<&[u8]> {
    let (offset, _) = bytes.split_first_chunk::<32>()?;
    let tail = bytes.get(word_to_usize(*offset)?..)?;
    let (length, content) = tail.split_first_chunk::<32>()?;
    let length = word_to_usize(*length).filter(|length| *length <= STRING_BYTES_MAX)?;
    content.get(..length)
}

fn word_to_usize(word: [u8; 32]) -> Option<usize> {
    U256::from_be_bytes(word).try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn dynamic_of(text: &str) -> String {
        let mut padded = text.as_bytes().to_vec();
        padded.resize(text.len().next_multiple_of(32), 0);
        format!("0x{:064x}{:064x}{}", 32, text.len(), hex::encode(padded))
    }

    #[test]
    fn both_forms_of_a_string_are_read() {
        assert_eq!(string(&dynamic_of("USD Coin")).as_deref(), Some("USD Coin"));
        assert_eq!(string(&dynamic_of("")).as_deref(), Some(""));
        assert_eq!(string(&format!("0x{}{}", hex::encode("Maker"), "00".repeat(27))).as_deref(), Some("Maker"));
    }

    #[test]
    fn a_string_that_points_beyond_itself_is_not_read() {
        let word = |n: u64| format!("{n:064x}");
        for wrong in [
            "0x".to_owned(),
            "0x0".to_owned(),
            format!("0x{}{}", word(32), word(1)),
            format!("0x{}{}", word(64), word(0)),
            format!("0x{}{}{}", word(32), "f".repeat(64), word(0)),
            format!("0x{}{}{}", "f".repeat(64), word(1), word(0)),
            format!("0x{}{}", "ff".repeat(32), ""),
        ] {
            assert_eq!(string(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_boolean_is_one_word_of_zero_or_one() {
        assert_eq!(boolean(&format!("0x{:064x}", 0)), Some(false));
        assert_eq!(boolean(&format!("0x{:064x}", 1)), Some(true));
        for wrong in ["0x", "0x1", "0x01", &format!("0x{:064x}", 2), &format!("0x{:0128x}", 1), "true"] {
            assert_eq!(boolean(wrong), None, "{wrong}");
        }
        assert_eq!(number(&format!("0x{:064x}", 6)), Some(6));
        assert_eq!(number(&format!("0x{}", "f".repeat(64))), None);
    }

    proptest! {
        #[test]
        fn a_string_reads_back(text in ".{0,60}") {
            prop_assert_eq!(string(&dynamic_of(&text)), Some(text));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), offset in 0_u64..200, length in any::<u64>()) {
            let raw = hex::encode(&bytes);
            let _ = string(&format!("0x{raw}"));
            let _ = string(&format!("0x{offset:064x}{length:064x}{raw}"));
        }
    }
}

//! How a row holds a line: compressed (LZ4 block format) with a dictionary of what records have in common. Of a usual
//! record of 2.7 kB that leaves 0.5 kB; without the dictionary it would be more than a row without a rowid
//! keeps in its page, and each row would take a page of 4 KiB beside it.

use crate::error::Fault;
use lz4_flex::block::{compress_prepend_size_with_dict, decompress_with_dict, uncompressed_size};

/// The dictionary, some lines of each kind. It never changes: rows are read with the dictionary that they name.
const DICTIONARY: &[u8] = include_bytes!("../../data/record-dictionary.txt");
/// The first byte of a row's body: which dictionary it was compressed with.
const DICTIONARY_NUMBER: u8 = 1;
/// More bytes than any line has. A row that says more of itself is damaged.
const LINE_BYTES_MAX: usize = 16_777_216;
/// LZ4 makes at most so many bytes of one.
const TIMES_MAX: usize = 255;

/// What a row holds of a line: the number of the dictionary, the line's length (4 bytes, little-endian), an LZ4 block.
#[must_use]
pub fn pack(line: &str) -> Vec<u8> {
    let mut body = compress_prepend_size_with_dict(line.as_bytes(), DICTIONARY);
    body.insert(0, DICTIONARY_NUMBER);
    body
}

/// The line that a row holds.
///
/// # Errors
/// `INTERNAL` where the body is none that this build reads.
pub fn unpack(body: &[u8]) -> Result<String, Fault> {
    let packed = match body {
        [DICTIONARY_NUMBER, packed @ ..] => packed,
        _ => return Err(Fault::internal("a row with an unknown dictionary")),
    };
    let (length, block) = uncompressed_size(packed).map_err(Fault::internal)?;
    // Checked before the memory for the line is taken.
    if length > LINE_BYTES_MAX.min(block.len().saturating_mul(TIMES_MAX)) {
        return Err(Fault::internal("a row names a length that no line has"));
    }
    let line = decompress_with_dict(block, length, DICTIONARY).map_err(Fault::internal)?;
    if line.len() != length {
        return Err(Fault::internal("a row does not hold the whole line"));
    }
    String::from_utf8(line).map_err(Fault::internal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sha2::{Digest, Sha256};

    #[test]
    fn the_dictionary_stays() {
        // Rows that are stored are read with it: another one is a second constant, with another number.
        let hash = hex::encode(Sha256::digest(DICTIONARY));
        assert_eq!(hash, "3319670434e17dcf4c5879bdf820f597c2d719c7a57eef542a59f88ad6f39fac");
        assert!(DICTIONARY.len() < 65_536, "the window of LZ4");
    }

    #[test]
    fn a_row_of_the_first_build_is_read() {
        // Written by the reference implementation of LZ4, with the dictionary.
        let body = hex::decode("014e00000009d1083f4b42300100020f0e090706b708507365227d7d").expect("hex");
        assert_eq!(
            unpack(&body),
            Ok("{\"id\":\"ver_01KB0000000000000000000000\",\"revision\":0,\"record\":{\"chain\":\"base\"}}".to_owned())
        );
    }

    #[test]
    fn a_usual_record_takes_little_room() {
        let text = String::from_utf8(DICTIONARY.to_vec()).expect("text");
        let line = text.lines().last().expect("a line");
        let body = pack(line);
        assert!(body.len() < 60, "{}", body.len());
        assert_eq!(unpack(&body).expect("a line"), line);
    }

    /// Six bytes that say sixteen megabytes take no memory.
    #[test]
    fn a_length_that_no_block_can_have_is_refused() {
        let refused = Err(Fault::internal("a row names a length that no line has"));
        assert_eq!(unpack(b"\x01\x00\x00\x00\x01\x00"), refused);
        assert_eq!(unpack(b"\x01\xff\xff\xff\xff\x00"), refused);
        let zeros = "0".repeat(1_000_000);
        assert_eq!(unpack(&pack(&zeros)), Ok(zeros));
    }

    #[test]
    fn what_is_no_row_is_an_error() {
        let body = pack("a line");
        for wrong in
            [&b""[..], b"\x01", b"\x02\x03\x00", b"\x01\xff\xff\xff\xff\x00", &body[1..], &body[..body.len() - 1]]
        {
            assert!(unpack(wrong).is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn every_line_is_read_as_it_was_written(lines in prop::collection::vec(".{0,60}", 1..4), times in 1_usize..500) {
            for line in lines {
                let line = line.repeat(times);
                prop_assert_eq!(unpack(&pack(&line)).expect("a line"), line);
            }
        }

        #[test]
        fn what_cannot_be_compressed_is_stored_too(bytes in prop::collection::vec(any::<u8>(), 0..40_000)) {
            let line: String = bytes.into_iter().map(|byte| char::from(byte % 128)).collect();
            prop_assert_eq!(unpack(&pack(&line)).expect("a line"), line);
        }
    }
}

//! How a row holds a line: compressed (RFC 1951) with a dictionary of what records have in common. Of a usual record of
//! 2.7 kB that leaves 0.3 kB; without the dictionary it would be 1.1 kB, more than a row without a rowid keeps in its
//! page, and each row would take a page of 4 KiB beside it.

use crate::error::Fault;
use flate2::bufread::DeflateDecoder;
use flate2::{Compress, Compression, FlushCompress, Status};
use std::io::Read;

/// The dictionary, some lines of each kind. It never changes: rows are read with the dictionary that they name.
const DICTIONARY: &[u8] = include_bytes!("../../data/record-dictionary.txt");
/// The first byte of a row's body: which dictionary it was compressed with.
const DICTIONARY_NUMBER: u8 = 1;
/// More than deflate adds to what it cannot compress, for a line of any size below 1 MB; and the end of a flush.
const OVERHEAD: usize = 1_024;

fn failed(why: impl core::fmt::Display) -> Fault {
    Fault::internal(format!("a line could not be compressed: {why}"))
}

/// Compresses lines, one after the other, each by itself.
pub struct Packer {
    deflate: Compress,
}

impl Default for Packer {
    fn default() -> Self {
        Self { deflate: Compress::new(Compression::default(), false) }
    }
}

impl Packer {
    /// What a row holds of a line.
    ///
    /// # Errors
    /// `INTERNAL`; none is known where memory suffices.
    pub fn pack(&mut self, line: &str) -> Result<Vec<u8>, Fault> {
        self.deflate.reset();
        // The line follows the dictionary, whose own bytes are dropped: a flush ends them with a whole byte.
        self.feed(DICTIONARY, FlushCompress::Sync)?;
        let packed = self.feed(line.as_bytes(), FlushCompress::Finish)?;
        let mut body = Vec::with_capacity(packed.len().saturating_add(1));
        body.push(DICTIONARY_NUMBER);
        body.extend_from_slice(&packed);
        Ok(body)
    }

    fn feed(&mut self, input: &[u8], flush: FlushCompress) -> Result<Vec<u8>, Fault> {
        let before = self.deflate.total_in();
        let mut output = Vec::with_capacity(input.len().saturating_add(OVERHEAD));
        let status = self.deflate.compress_vec(input, &mut output, flush).map_err(failed)?;
        let taken = self.deflate.total_in().saturating_sub(before);
        let is_whole = u64::try_from(input.len()).is_ok_and(|length| length == taken)
            && output.len() < output.capacity()
            && (status == Status::StreamEnd) == matches!(flush, FlushCompress::Finish);
        if is_whole { Ok(output) } else { Err(failed("it takes more room than is known")) }
    }
}

/// The header of a block that is stored as it is: not the last one, its length, and the complement of that.
fn stored_block(length: usize) -> Result<[u8; 5], Fault> {
    let [low, high] = u16::try_from(length).map_err(Fault::internal)?.to_le_bytes();
    Ok([0, low, high, !low, !high])
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
    // The dictionary goes before the line as a block of its own.
    let header = stored_block(DICTIONARY.len())?;
    let mut text = Vec::new();
    DeflateDecoder::new(header.chain(DICTIONARY).chain(packed)).read_to_end(&mut text).map_err(Fault::internal)?;
    let line = text.split_off(DICTIONARY.len().min(text.len()));
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
        assert!(DICTIONARY.len() < 32_768, "the window of deflate");
    }

    #[test]
    fn a_row_of_the_first_build_is_read() {
        // Written by zlib, with the dictionary set.
        let body = hex::decode("014369d0783b196005b85b4328cd96da5a00").expect("hex");
        assert_eq!(
            unpack(&body),
            Ok("{\"id\":\"ver_01KB0000000000000000000000\",\"revision\":0,\"record\":{\"chain\":\"base\"}}".to_owned())
        );
    }

    #[test]
    fn a_usual_record_takes_little_room() {
        let text = String::from_utf8(DICTIONARY.to_vec()).expect("text");
        let line = text.lines().last().expect("a line");
        let mut packer = Packer::default();
        for _ in 0..3 {
            let body = packer.pack(line).expect("packed");
            assert!(body.len() < 60, "{}", body.len());
            assert_eq!(unpack(&body).expect("a line"), line);
        }
    }

    #[test]
    fn what_is_no_row_is_an_error() {
        let body = Packer::default().pack("a line").expect("packed");
        for wrong in [&b""[..], b"\x01", b"\x02\x03\x00", &body[1..], &body[..body.len() - 1]] {
            assert!(unpack(wrong).is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn every_line_is_read_as_it_was_written(lines in prop::collection::vec(".{0,60}", 1..4), times in 1_usize..500) {
            let mut packer = Packer::default();
            for line in lines {
                let line = line.repeat(times);
                prop_assert_eq!(unpack(&packer.pack(&line).expect("packed")).expect("a line"), line);
            }
        }

        #[test]
        fn what_cannot_be_compressed_is_stored_too(bytes in prop::collection::vec(any::<u8>(), 0..40_000)) {
            let line: String = bytes.into_iter().map(|byte| char::from(byte % 128)).collect();
            prop_assert_eq!(unpack(&Packer::default().pack(&line).expect("packed")).expect("a line"), line);
        }
    }
}

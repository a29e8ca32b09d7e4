//! Lines of text as gzip members (RFC 1952). Members one after the other are a gzip file of all their lines.

use crate::error::Fault;
use flate2::Compression;
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;
use std::io::{BufRead, BufReader, Write};

/// A line as one member; the line break is added.
///
/// # Errors
/// `INTERNAL`; none is known where memory suffices.
pub fn compress_line(line: &str) -> Result<Vec<u8>, Fault> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(line.as_bytes()).and_then(|()| encoder.write_all(b"\n")).map_err(Fault::internal)?;
    encoder.finish().map_err(Fault::internal)
}

/// The lines of a gzip file, one at a time, without their line breaks.
pub fn lines(file: &[u8]) -> impl Iterator<Item = Result<String, Fault>> {
    BufReader::new(MultiGzDecoder::new(file)).lines().map(|line| line.map_err(Fault::internal))
}

/// The line of a member.
///
/// # Errors
/// `INTERNAL` where it is no gzip, or holds no line.
pub fn decompress_line(member: &[u8]) -> Result<String, Fault> {
    lines(member).next().ok_or_else(|| Fault::internal("a gzip member without a line"))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_one_after_the_other_are_a_file_of_their_lines() {
        let texts = ["{\"a\":1}".to_owned(), String::new(), "ü".repeat(100_000)];
        let members: Vec<Vec<u8>> = texts.iter().map(|text| compress_line(text).expect("gzip")).collect();
        for (text, member) in texts.iter().zip(&members) {
            assert_eq!(&decompress_line(member).expect("a line"), text);
        }
        let read: Result<Vec<String>, Fault> = lines(&members.concat()).collect();
        assert_eq!(read.expect("lines"), texts);
    }

    #[test]
    fn a_file_that_is_cut_or_changed_is_an_error() {
        let mut file = compress_line("some text, and more text").expect("gzip");
        let cut = file.len() - 3;
        assert!(lines(&file[..cut]).any(|line| line.is_err()));
        file[14] ^= 0x55;
        assert!(lines(&file).any(|line| line.is_err()));
        assert!(decompress_line(b"").is_err() && decompress_line(b"text").is_err());
    }
}

//! Gzip files (RFC 1952) of lines: what the archive holds.

use crate::error::Fault;
use flate2::Compression;
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;
use std::io::{BufRead, BufReader, Write};

/// A file that lines are added to.
pub struct LineFile {
    encoder: GzEncoder<Vec<u8>>,
}

impl Default for LineFile {
    fn default() -> Self {
        Self { encoder: GzEncoder::new(Vec::new(), Compression::default()) }
    }
}

impl LineFile {
    /// Adds a line and a line break.
    ///
    /// # Errors
    /// `INTERNAL`; none is known where memory suffices.
    pub fn add(&mut self, line: &str) -> Result<(), Fault> {
        let written = self.encoder.write_all(line.as_bytes()).and_then(|()| self.encoder.write_all(b"\n"));
        written.map_err(Fault::internal)
    }

    /// The bytes of the file.
    ///
    /// # Errors
    /// `INTERNAL`; none is known where memory suffices.
    pub fn finish(self) -> Result<Vec<u8>, Fault> {
        self.encoder.finish().map_err(Fault::internal)
    }
}

/// The lines of a file, one at a time, without their line breaks.
pub fn lines(file: &[u8]) -> impl Iterator<Item = Result<String, Fault>> {
    BufReader::new(MultiGzDecoder::new(file)).lines().map(|line| line.map_err(Fault::internal))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(texts: &[&str]) -> Vec<u8> {
        let mut file = LineFile::default();
        for text in texts {
            file.add(text).expect("added");
        }
        file.finish().expect("a file")
    }

    #[test]
    fn a_file_holds_its_lines() {
        let long = "ü".repeat(100_000);
        let texts = ["{\"a\":1}", "", &long];
        let read: Result<Vec<String>, Fault> = lines(&file(&texts)).collect();
        assert_eq!(read.expect("lines"), texts);
        assert_eq!(lines(&file(&[])).count(), 0);
    }

    #[test]
    fn a_file_that_is_cut_or_changed_is_an_error() {
        let mut file = file(&["some text, and more text"]);
        let cut = file.len() - 3;
        assert!(lines(&file[..cut]).any(|line| line.is_err()));
        file[14] ^= 0x55;
        assert!(lines(&file).any(|line| line.is_err()));
        assert!(lines(b"text").any(|line| line.is_err()));
    }
}

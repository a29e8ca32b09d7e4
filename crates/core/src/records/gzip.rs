//! Gzip files (RFC 1952) of lines: what the archive holds.

use super::archive::BYTES_MAX;
use crate::error::Fault;
use core::ops::ControlFlow;
use flate2::Compression;
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;
use flate2::write::MultiGzDecoder as WriteDecoder;
use std::io::{Read, Write};

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

/// How many bytes the text of a file has, as its end says. A line that stands alone for its size may be longer, and is rare.
#[must_use]
pub fn size(file: &[u8]) -> usize {
    let size = file.last_chunk::<4>().map_or(0, |size| u32::from_le_bytes(*size));
    usize::try_from(size).unwrap_or(BYTES_MAX).min(BYTES_MAX.saturating_mul(2))
}

/// More bytes than the text of a file has, or a line: a file holds [`BYTES_MAX`], or one line that is longer. What says more is
/// damaged, or made to fill the memory: gzip makes a thousand bytes of one.
pub const TEXT_MAX: usize = 33_554_432;

/// The text of a file, in no more memory than its bytes. Each line has its line break.
///
/// # Errors
/// `INTERNAL` where it is no whole file of text, or has more than [`TEXT_MAX`] bytes.
pub fn text(file: &[u8]) -> Result<String, Fault> {
    let mut text = Vec::with_capacity(size(file));
    let most = u64::try_from(TEXT_MAX).unwrap_or(u64::MAX).saturating_add(1);
    MultiGzDecoder::new(file).take(most).read_to_end(&mut text).map_err(Fault::internal)?;
    if text.len() > TEXT_MAX {
        return Err(too_long());
    }
    String::from_utf8(text).map_err(Fault::internal)
}

fn too_long() -> Fault {
    Fault::internal("a file of the archive holds more text than any has")
}

/// The most bytes of a file that are decompressed at once: to a thousand times as many at most.
const STEP: usize = 4_096;

/// Reads the lines of a file that comes chunk by chunk. It holds little more than a line.
pub struct LineReader {
    decoder: WriteDecoder<Vec<u8>>,
    /// Bytes of the text that are known to hold no line break: a long line is not searched again with each chunk.
    searched: usize,
}

impl Default for LineReader {
    fn default() -> Self {
        Self { decoder: WriteDecoder::new(Vec::new()), searched: 0 }
    }
}

impl LineReader {
    /// Takes a chunk; `take` gets each line, without its line break, until it breaks.
    ///
    /// # Errors
    /// `INTERNAL` where the file is none of lines; those of `take`.
    pub fn push(
        &mut self,
        chunk: &[u8],
        mut take: impl FnMut(&str) -> Result<ControlFlow<()>, Fault>,
    ) -> Result<ControlFlow<()>, Fault> {
        for part in chunk.chunks(STEP) {
            self.decoder.write_all(part).map_err(Fault::internal)?;
            let text = self.decoder.get_mut();
            let new = text.get(self.searched..).unwrap_or_default();
            let Some(end) = new.iter().rposition(|byte| *byte == b'\n') else {
                if text.len() > TEXT_MAX {
                    return Err(too_long());
                }
                self.searched = text.len();
                continue;
            };
            let rest = text.split_off(self.searched.saturating_add(end).saturating_add(1));
            self.searched = rest.len();
            let lines = core::mem::replace(text, rest);
            if each(&lines, &mut take)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Takes the end of the file; `take` gets the lines that are left.
    ///
    /// # Errors
    /// As [`LineReader::push`], and where the file is cut.
    pub fn finish(self, mut take: impl FnMut(&str) -> Result<ControlFlow<()>, Fault>) -> Result<(), Fault> {
        let lines = self.decoder.finish().map_err(Fault::internal)?;
        each(&lines, &mut take).map(|_| ())
    }
}

fn each(lines: &[u8], take: &mut impl FnMut(&str) -> Result<ControlFlow<()>, Fault>) -> Result<ControlFlow<()>, Fault> {
    for line in str::from_utf8(lines).map_err(Fault::internal)?.lines() {
        if take(line)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
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

    /// The lines of a file that comes in chunks of so many bytes.
    fn read(file: &[u8], size: usize) -> Result<Vec<String>, Fault> {
        let (mut reader, mut found) = (LineReader::default(), Vec::new());
        let mut take = |line: &str| {
            found.push(line.to_owned());
            Ok(ControlFlow::Continue(()))
        };
        for chunk in file.chunks(size) {
            assert!(reader.push(chunk, &mut take)?.is_continue());
        }
        reader.finish(&mut take)?;
        Ok(found)
    }

    #[test]
    fn a_file_holds_its_lines() {
        let long = "ü".repeat(100_000);
        let texts = ["{\"a\":1}", "", &long];
        let whole = file(&texts);
        for size in [1, 7, 100_000] {
            assert_eq!(read(&whole, size).expect("lines"), texts);
        }
        let text = text(&whole).expect("a text");
        assert_eq!(text.lines().collect::<Vec<_>>(), texts);
        assert!(text.capacity() < text.len() + 64, "{} bytes for {}", text.capacity(), text.len());
        assert_eq!(read(&file(&[]), 9).expect("no line"), Vec::<String>::new());
    }

    #[test]
    fn reading_ends_with_the_line_that_is_looked_for() {
        let (mut reader, mut seen) = (LineReader::default(), 0);
        let lines: Vec<String> = (0..9_000).map(|n| format!("line {n} {}", n * 7_919)).collect();
        let whole = file(&lines.iter().map(String::as_str).collect::<Vec<_>>());
        let found = reader.push(&whole, |line| {
            seen += 1;
            Ok(if line.starts_with("line 3 ") { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        });
        assert_eq!((found, seen), (Ok(ControlFlow::Break(())), 4));
    }

    /// A file of 40 kB that says nothing: 40 MB of one line.
    #[test]
    fn a_file_that_fills_the_memory_is_refused() {
        let mut file = GzEncoder::new(Vec::new(), Compression::best());
        for _ in 0..40 {
            file.write_all(&vec![b'0'; 1_048_576]).expect("memory");
        }
        let file = file.finish().expect("memory");
        assert!(file.len() < 65_536, "{}", file.len());
        assert_eq!(text(&file), Err(too_long()));
        assert_eq!(read(&file, file.len()), Err(too_long()));
        // The end of a file, which says how long it is, takes no more memory than two usual files.
        assert_eq!(size(b"\xff\xff\xff\xff"), BYTES_MAX * 2);
    }

    #[test]
    fn a_file_that_is_cut_or_changed_is_an_error() {
        let mut file = file(&["some text, and more text"]);
        let cut = file.len() - 3;
        assert!(read(&file[..cut], 5).is_err() && text(&file[..cut]).is_err());
        file[14] ^= 0x55;
        assert!(read(&file, 5).is_err() && text(&file).is_err());
        assert!(read(b"text", 4).is_err() && text(b"text").is_err());
    }
}

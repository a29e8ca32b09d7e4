//! Inputs made of a corpus: random bytes that name a file of it and a few edits. Random bytes alone hardly ever pass the first
//! line of a parser.

use std::fmt;

/// What stands for itself in texts of all kinds, and what parsers disagree about.
const TOKENS: &[&str] = &[
    "\"",
    "\\",
    "{",
    "}",
    "[",
    "]",
    "[]",
    "{}",
    ":",
    ",",
    ".",
    "/",
    "//",
    "..",
    "%",
    "%00",
    "%25",
    "%2525",
    "%2F",
    "%5f",
    "&",
    "=",
    "&&",
    "+",
    "-",
    ";",
    " ",
    "\t",
    "\r\n",
    "\n",
    "\r",
    "\0",
    "null",
    "true",
    "false",
    "0",
    "-0",
    "00",
    "01",
    "0x",
    "0X",
    "0x0",
    "1e3",
    "1e999",
    "-1",
    "1.0",
    "255",
    "256",
    "65536",
    "2147483648",
    "4294967296",
    "9007199254740993",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "340282366920938463463374607431768211456",
    "115792089237316195423570985008687907853269984665640564039457584007913129639935",
    "115792089237316195423570985008687907853269984665640564039457584007913129639936",
    "NaN",
    "Infinity",
    "\\u0000",
    "\\ud800",
    "\\udc00",
    "\\u202e",
    "\u{feff}",
    "\u{2028}",
    "\u{200b}",
    "\u{0130}",
    "\u{017f}",
    "\u{212a}",
    "\u{ff0e}",
    "\u{ff11}",
    "\u{0660}",
    "\u{fffd}",
    "x402_",
    "xn--",
    "__proto__",
    "eip155:1",
    "solana:",
    "http://",
    "https://",
    "@",
    "#",
    "?",
    "*",
    "'",
    "<",
    ">",
];

/// Bytes that are no UTF-8.
const RAW: &[&[u8]] =
    &[b"\xff", b"\xc0\x80", b"\xc0\xaf", b"\xe0\x80\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\x80", b"\xfe\xff"];

/// The most bytes that edits make.
const BYTES_MAX: usize = 16_384;

/// An input, shown as a literal of bytes by which it can be committed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Input(pub(crate) Vec<u8>);

impl fmt::Debug for Input {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "b\"{}\"", self.0.escape_ascii())
    }
}

/// The bytes of a script, zeros behind its end.
struct Script<'a>(std::slice::Iter<'a, u8>);

impl Script<'_> {
    fn byte(&mut self) -> u8 {
        self.0.next().copied().unwrap_or_default()
    }

    /// A number below `below`, which is not zero.
    fn below(&mut self, below: usize) -> usize {
        let number = u16::from_be_bytes([self.byte(), self.byte()]);
        usize::from(number) % below.max(1)
    }
}

/// Carries a script out over the files of a corpus.
pub(crate) fn edited(files: &[&[u8]], script: &[u8]) -> Input {
    let mut rest = Script(script.iter());
    let first = rest.byte();
    if files.is_empty() || first < 8 {
        return Input(rest.0.copied().collect());
    }
    let mut bytes = files[rest.below(files.len())].to_vec();
    for _ in 0..=first % 6 {
        edit(&mut bytes, files, &mut rest);
        bytes.truncate(BYTES_MAX);
    }
    Input(bytes)
}

fn edit(bytes: &mut Vec<u8>, files: &[&[u8]], script: &mut Script<'_>) {
    let kind = script.byte() % 12;
    let at = script.below(bytes.len() + 1);
    let length = script.below(if kind.is_multiple_of(2) { 4 } else { 64 });
    let end = (at + length).min(bytes.len());
    match kind {
        0 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << (script.byte() % 8);
            }
        }
        1 | 2 => {
            bytes.drain(at..end);
        }
        3 => {
            let part = bytes[at..end].to_vec();
            bytes.splice(end..end, part);
        }
        4..=6 => {
            let token = TOKENS[script.below(TOKENS.len())].as_bytes();
            let until = if kind == 6 { at } else { end };
            bytes.splice(at..until, token.iter().copied());
        }
        7 => {
            let raw = RAW[script.below(RAW.len())];
            bytes.splice(at..at, raw.iter().copied());
        }
        8 => {
            let other = files[script.below(files.len())];
            let from = script.below(other.len() + 1);
            bytes.splice(at.., other[from..].iter().copied());
        }
        9 => bytes.truncate(at),
        10 => {
            let letter = script.byte();
            bytes.splice(at..at, std::iter::repeat_n(letter, length * length));
        }
        _ => {
            let digit = b"0123456789aAfFzZ"[script.below(16)];
            if let Some(byte) = bytes.get_mut(at) {
                *byte = digit;
            }
        }
    }
}

#[test]
fn a_script_gives_one_input_and_all_files_are_met() {
    let files: [&[u8]; 3] = [b"{\"a\":1}", b"x", b""];
    let mut made = std::collections::BTreeSet::new();
    for first in 0..=u8::MAX {
        for second in 0..=u8::MAX {
            let script = [first, 0, second, first ^ second, second, 0, 3, first, 1, second, 7, first];
            let input = edited(&files, &script);
            assert_eq!(input, edited(&files, &script));
            made.insert(input.0);
        }
    }
    assert!(made.len() > 3_000, "{}", made.len());
    assert_eq!(edited(&[], b"abc"), Input(b"bc".to_vec()));
    assert_eq!(format!("{:?}", Input(b"\xff\"".to_vec())), "b\"\\xff\\\"\"");
}

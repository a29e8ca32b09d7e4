//! Time grows with an input's size, not with its square: nested, repeated, long and numerous parts, and every seed made longer.

use crate::corpus;
use crate::table::{Kind, TARGETS, Target};
use std::time::{Duration, Instant};

/// What an input of a kind repeats: before, the part, between which numbers may stand (`#`), after.
const PATTERNS: &[(Kind, &str, &str, &str)] = &[
    (Kind::Json, "", "[", ""),
    (Kind::Json, "", "{\"a\":", ""),
    (Kind::Json, "[", "0,", "0]"),
    (Kind::Json, "{", "\"#\":0,", "\"a\":0}"),
    (Kind::Json, "{", "\"a\":0,", "\"a\":0}"),
    (Kind::Json, "\"", "a", "\""),
    (Kind::Json, "\"", "\\u0041", "\""),
    (Kind::Json, "\"", "\\ud800", "\""),
    (Kind::Json, "", "9", ""),
    (Kind::Json, "0.", "0", "1"),
    (Kind::Json, "{\"a\":1e", "9", "}"),
    (Kind::Json, "", " ", "{}"),
    (Kind::Path, "/", "/", ""),
    (Kind::Path, "/v1/", "%25", "41"),
    (Kind::Path, "/v1/%", "25", "41"),
    (Kind::Path, "/facilitator", "/k/a", ""),
    (Kind::Path, "/", "../", ""),
    (Kind::Query, "", "&", ""),
    (Kind::Query, "", "a=b&", ""),
    (Kind::Query, "", "#=b&", ""),
    (Kind::Query, "type=", "payment.*,", "payment.*"),
    (Kind::Query, "q=", "%2", ""),
    (Kind::Query, "cursor=", "+", ""),
    (Kind::Word, "", "a", ""),
    (Kind::Word, "", "1", ""),
    (Kind::Word, "", "z", ""),
    (Kind::Word, "0x", "0", ""),
    (Kind::Word, "", "a.", "a"),
    (Kind::Word, "", ",", ""),
    (Kind::Word, "", "a=b;", ""),
    (Kind::Word, "", "v1=00,", ""),
    (Kind::Word, "", " ", ""),
    (Kind::Word, "", "\u{e9}", ""),
    (Kind::Bytes, "", "\0", ""),
    (Kind::Bytes, "", "\u{ff}", ""),
];

/// Bytes of the smaller and of the larger input.
const SMALL: usize = 1_024;
const TIMES: usize = 16;
/// What the larger may take without a second look: a square of it takes longer by far.
const QUICK: Duration = Duration::from_millis(25);
/// The larger takes no more than so many times the smaller: four times what is proportional, a quarter of the square.
const RATIO_MAX: u32 = 64;
/// How often both are measured. The least counts, so that a busy machine changes nothing.
const TRIES: usize = 12;
/// Seeds of a target that are made longer.
const SEEDS: usize = 3;

/// An input of about so many bytes.
fn sized((before, part, after): (&[u8], &str, &[u8]), bytes: usize) -> Vec<u8> {
    let mut made = before.to_vec();
    let mut number = 0_u32;
    while made.len() < bytes {
        made.extend_from_slice(part.replace('#', &number.to_string()).as_bytes());
        number += 1;
    }
    made.extend_from_slice(after);
    made
}

fn time(target: &Target, input: &[u8]) -> Duration {
    let begin = Instant::now();
    target.run("an input of the test of growth", input);
    begin.elapsed()
}

fn check(target: &Target, form: (&[u8], &str, &[u8])) {
    let large = sized(form, SMALL * TIMES);
    let mut of_large = time(target, &large);
    if of_large < QUICK {
        return;
    }
    let small = sized(form, SMALL);
    let mut of_small = time(target, &small);
    for _ in 0..TRIES {
        // A clock may not see what is very short.
        if of_large < QUICK || of_large <= of_small.max(Duration::from_micros(50)) * RATIO_MAX {
            return;
        }
        (of_large, of_small) = (of_large.min(time(target, &large)), of_small.min(time(target, &small)));
    }
    let shown = String::from_utf8_lossy(&small[..60.min(small.len())]).into_owned();
    panic!("{}: {of_small:?} for {SMALL} bytes, {of_large:?} for {TIMES} times as many: {shown}…", target.name);
}

#[test]
fn no_time_grows_with_the_square() {
    for target in TARGETS {
        for (kind, before, part, after) in PATTERNS {
            if *kind == target.kind {
                check(target, (before.as_bytes(), part, after.as_bytes()));
            }
        }
        let seeds = corpus::own(target).iter().filter(|(name, _)| name.starts_with("seed-")).take(SEEDS);
        for (_, seed) in seeds {
            let (head, tail) = seed.split_at(seed.len() / 2);
            for part in ["1", "z"] {
                check(target, (seed, part, b""));
                check(target, (head, part, tail));
            }
        }
    }
}

/// The test sees a square: of four bytes one is compared with all before it.
#[test]
#[should_panic(expected = "for 16 times as many")]
fn a_square_is_seen() {
    fn square(input: &[u8]) -> bool {
        let equal = |at: usize| input[..at].iter().filter(|byte| **byte == input[at]).count();
        std::hint::black_box((0..input.len()).step_by(4).map(equal).sum::<usize>()) > 0
    }
    check(&Target { name: "square", kind: Kind::Bytes, check: square }, (b"", "a", b""));
}

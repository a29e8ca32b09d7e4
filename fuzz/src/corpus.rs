//! The committed inputs: `fuzz/corpus/<target>/` of one target, `fuzz/corpus/shared/<kind>/` of all targets of a kind.
//!
//! `seed-…` is accepted by its target, `hostile-…` is made to break parsers, `found-…` once broke one.

use crate::table::{Kind, TARGETS, Target};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

/// The least files of its own that a target has.
const OWN_MIN: usize = 2;
/// The least files that all targets of a kind share.
const SHARED_MIN: usize = 8;
/// The most bytes of a file, and of all.
const FILE_MAX: usize = 16_384;
const ALL_MAX: usize = 1_500_000;

/// The folder of a corpus. Cargo runs tests in the package's folder.
fn folder(name: &str) -> PathBuf {
    std::env::current_dir().expect("a folder").join("corpus").join(name)
}

/// The files of a folder, by their names.
type Files = BTreeMap<String, Vec<u8>>;

fn files(name: &str) -> Files {
    let path = folder(name);
    let listed = fs::read_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let one = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.expect("an entry");
        (entry.file_name().into_string().expect("UTF-8"), fs::read(entry.path()).expect("a file"))
    };
    listed.map(one).collect()
}

static OWN: LazyLock<BTreeMap<&str, Files>> =
    LazyLock::new(|| TARGETS.iter().map(|target| (target.name, files(target.name))).collect());

static SHARED: LazyLock<Vec<(Kind, Files)>> =
    LazyLock::new(|| Kind::ALL.into_iter().map(|kind| (kind, files(&format!("shared/{}", kind.name())))).collect());

/// The files of a target alone.
pub(crate) fn own(target: &Target) -> &'static Files {
    &OWN[target.name]
}

/// The files of a target's kind.
pub(crate) fn shared(kind: Kind) -> &'static Files {
    &SHARED.iter().find(|(of, _)| *of == kind).expect("a corpus").1
}

#[test]
fn every_file_runs_in_every_target_of_its_kind() {
    let (mut ran, mut refused) = (0_usize, Vec::new());
    for target in TARGETS {
        for (name, input) in own(target).iter().chain(shared(target.kind)) {
            let accepted = target.run(name, input);
            if !accepted && name.starts_with("seed-") {
                refused.push(format!("{}/{name}", target.name));
            }
            ran += 1;
        }
    }
    assert!(refused.is_empty(), "seeds that their targets do not accept: {refused:#?}");
    assert!(ran > 1_000, "{ran} runs");
}

#[test]
fn every_target_has_a_corpus_and_every_corpus_a_target() {
    for target in TARGETS {
        let names: Vec<&String> = own(target).keys().collect();
        assert!(names.len() >= OWN_MIN, "{} has {} files", target.name, names.len());
        assert!(names.iter().any(|name| name.starts_with("seed-")), "{} has no seed", target.name);
    }
    for kind in Kind::ALL {
        assert!(shared(kind).len() >= SHARED_MIN, "{}", kind.name());
        assert!(TARGETS.iter().any(|target| target.kind == kind), "{}", kind.name());
    }
    let entries = |name: &str| -> BTreeSet<String> {
        let listed = fs::read_dir(folder(name)).expect("the corpora");
        listed.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect()
    };
    let mut wanted: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(wanted.len(), TARGETS.len(), "two targets of one name");
    wanted.insert("shared".to_owned());
    assert_eq!(entries(""), wanted);
    assert_eq!(entries("shared"), Kind::ALL.iter().map(|kind| kind.name().to_owned()).collect());
}

#[test]
fn corpora_are_small_and_say_what_they_are() {
    let all = TARGETS.iter().map(own).chain(Kind::ALL.into_iter().map(shared)).flatten();
    let mut bytes = 0;
    for (name, input) in all {
        assert!(["seed-", "hostile-", "found-"].iter().any(|begin| name.starts_with(begin)), "{name}");
        assert!(input.len() < FILE_MAX, "{name} has {} bytes", input.len());
        bytes += input.len();
    }
    assert!(bytes < ALL_MAX, "{bytes} bytes");
}

//! The repository's own text: files stay small and say what they are for.

use std::fs;
use std::path::{Path, PathBuf};

/// The folders of the workspace's crates; `.` is the Worker.
pub(crate) const CRATES: &[&str] = &[".", "crates/api", "crates/chain", "crates/core"];

const FILE_LINES_MAX: usize = 500;

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Every source file of a crate: its path below `src`, and its text.
pub(crate) fn sources(name: &str) -> Vec<(String, String)> {
    let root = crate::ROOT.join(name).join("src");
    let below = |path: &Path| path.strip_prefix(&root).expect("below src").to_string_lossy().into_owned();
    files(&root).iter().map(|path| (below(path), fs::read_to_string(path).expect("text"))).collect()
}

/// Every source file of every crate.
pub(crate) fn all_sources() -> Vec<(String, String)> {
    CRATES.iter().flat_map(|name| sources(name)).collect()
}

#[test]
fn every_crate_is_listed() {
    let folder = crate::ROOT.join("crates");
    let mut found: Vec<String> = fs::read_dir(folder)
        .expect("crates")
        .map(|entry| format!("crates/{}", entry.expect("an entry").file_name().to_string_lossy()))
        .collect();
    found.sort();
    assert_eq!(found, CRATES[1..]);
}

#[test]
fn files_are_small_and_say_what_they_are_for() {
    for (file, text) in all_sources() {
        let lines = text.lines().count();
        assert!(lines <= FILE_LINES_MAX, "{file} has {lines} lines");
        assert!(text.starts_with("//!") || file.ends_with("tests.rs"), "{file} does not say what it is for");
        for marker in ["FIXME", "TODO", "HACK", "XXX"] {
            assert!(!text.contains(marker), "{file} holds {marker}");
        }
    }
}

//! The repository's own text: imports point down, files stay small, only the shell names the platform.

use std::fs;
use std::path::{Path, PathBuf};

/// A module imports only from lower levels; equals never import each other,
/// but for the pairs named below.
const LEVELS: &[(&str, u8)] = &[
    ("address", 0),
    ("amount", 0),
    ("error", 0),
    ("id", 0),
    ("sql", 0),
    ("time", 0),
    ("config", 1),
    ("network", 1),
    ("sanctions", 1),
    ("reason", 1),
    ("settle", 4),
    ("signer", 0),
    ("tier", 1),
    ("verdict", 1),
    ("payment", 2),
    ("chain", 3),
    ("judge", 4),
    ("tenant", 4),
    ("ledger", 5),
    ("api", 6),
    ("shell", 7),
];

/// Equals that may import each other: settings and tiers speak of networks, and
/// words of words.
const EQUALS: &[(&str, &str)] = &[("config", "network"), ("tier", "network"), ("id", "time"), ("signer", "address")];

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

/// Every source file: its path below `src`, and its text.
pub(crate) fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let name = |path: &Path| path.strip_prefix(&root).expect("below src").to_string_lossy().into_owned();
    files(&root).iter().map(|path| (name(path), fs::read_to_string(path).expect("text"))).collect()
}

fn module(file: &str) -> String {
    file.split('/').next().expect("a name").trim_end_matches(".rs").to_owned()
}

fn level(module: &str) -> u8 {
    LEVELS.iter().find(|(name, _)| *name == module).unwrap_or_else(|| panic!("{module} has no level")).1
}

#[test]
fn imports_point_down() {
    for (file, text) in sources() {
        let own = module(&file);
        if own == "lib" {
            continue;
        }
        // Tests of a module may reach wherever they must.
        let code = text.split("#[cfg(test)]").next().expect("code");
        if file.ends_with("tests.rs") {
            continue;
        }
        let code: String =
            code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
        for part in code.split("crate::").skip(1) {
            let other: String = part.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
            if other.is_empty() || other == own || !LEVELS.iter().any(|(name, _)| *name == other) {
                continue;
            }
            let allowed = level(&other) < level(&own) || EQUALS.contains(&(own.as_str(), other.as_str()));
            assert!(allowed, "{file} (level {}) imports {other} (level {})", level(&own), level(&other));
        }
    }
}

#[test]
fn only_the_shell_names_the_platform() {
    for (file, text) in sources() {
        let named = ["worker::", "web_sys", "js_sys", "wasm_bindgen"]
            .iter()
            .find(|name| text.lines().any(|line| !line.trim_start().starts_with("//") && line.contains(*name)));
        assert!(module(&file) == "shell" || named.is_none(), "{file} names {named:?}");
    }
}

#[test]
fn files_are_small_and_say_what_they_are_for() {
    for (file, text) in sources() {
        let lines = text.lines().count();
        assert!(lines <= FILE_LINES_MAX, "{file} has {lines} lines");
        assert!(text.starts_with("//!") || file.ends_with("tests.rs"), "{file} does not say what it is for");
        for marker in ["FIXME", "TODO", "HACK", "XXX"] {
            assert!(!text.contains(marker), "{file} holds {marker}");
        }
    }
}

//! Citations lead somewhere: each link of a document, and each `docs/….md#anchor` in a source, names a file and an
//! anchor of this repository. A citation of a page that no clone has, or of a row by its number alone, fails.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

/// Folders that are built or installed, and recordings, whose bytes are others'.
const SKIPPED: &[&str] =
    &["target", "node_modules", "build", "build-bench", "build-kept", "dist", "fixtures", "__pycache__"];

/// How a line comment begins, by the file's ending; documents and data are read whole.
const COMMENTS: &[(&str, &str)] = &[
    ("rs", "//"),
    ("mjs", "//"),
    ("js", "//"),
    ("ts", "//"),
    ("sol", "//"),
    ("sql", "--"),
    ("toml", "#"),
    ("py", "#"),
    ("yml", "#"),
    ("md", ""),
];

/// Pages that code once cited and that are not in this repository.
const ABSENT_PAGES: &[&str] = &["PROTOCOL", "CHAINS", "DESIGN", "HOUSE", "SAAS", "PLATFORM"];

/// Pages whose anchors may be cited without the path, as `#evm-7`, beside a citation with it.
const SPEC_ANCHORS: &[&str] = &["#p-", "#evm-", "#svm-", "#m-", "#w-"];

/// The checkout, as an absolute path: a link that leaves it is found.
fn root() -> &'static Path {
    crate::ROOT.as_path()
}

/// Every source and document with its text, by its path below the root.
fn texts() -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root().to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            if path.is_dir() {
                let is_ours = !(SKIPPED.contains(&name.as_str()) || name.starts_with('.') && name != ".github");
                folders.extend(is_ours.then_some(path));
                continue;
            }
            let end = path.extension().unwrap_or_default().to_string_lossy().into_owned();
            let is_data = end == "json" && folder.ends_with("data");
            if is_data || COMMENTS.iter().any(|(known, _)| *known == end) {
                let text = fs::read_to_string(&path).expect("UTF-8");
                found.insert(path.strip_prefix(root()).expect("below the root").to_path_buf(), text);
            }
        }
    }
    let readme = Path::new("tests/fixtures/README.md");
    found.insert(readme.to_path_buf(), fs::read_to_string(root().join(readme)).expect("text"));
    found
}

/// The parts of a file that people read, with their line numbers.
fn prose<'a>(path: &Path, text: &'a str) -> Vec<(usize, &'a str)> {
    let end = path.extension().unwrap_or_default().to_string_lossy().into_owned();
    let mark = COMMENTS.iter().find(|(known, _)| *known == end).map_or("", |(_, mark)| *mark);
    let lines = (1..).zip(text.lines());
    lines.filter_map(|(at, line)| line.find(mark).map(|from| (at, &line[from..]))).collect()
}

/// The anchors of a document: its headings' as GitHub names them, and `<a id="…">`.
fn anchors(path: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut anchors = BTreeSet::new();
    for line in text.lines() {
        if let Some(heading) = line.starts_with('#').then(|| line.trim_start_matches('#').trim()) {
            let kept = heading.to_lowercase().replace(' ', "-");
            anchors.insert(kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect());
        }
        for part in line.split("<a id=\"").skip(1) {
            let id = part.split('"').next().expect("an id").to_owned();
            assert!(anchors.insert(id.clone()), "{}: two anchors '{id}'", path.display());
        }
    }
    anchors
}

/// A path without `..` and `.`.
fn normal(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut sum, part| {
        match part {
            Component::ParentDir => drop(sum.pop()),
            Component::CurDir => {}
            Component::Normal(_) | Component::RootDir | Component::Prefix(_) => sum.push(part),
        }
        sum
    })
}

/// What is wrong with a link to `target`, seen from a folder; `None`: it leads somewhere.
fn broken(folder: &Path, own: &Path, target: &str) -> Option<String> {
    let (file, anchor) = target.split_once('#').map_or((target, None), |(file, anchor)| (file, Some(anchor)));
    let path = if file.is_empty() { root().join(own) } else { normal(&folder.join(file)) };
    if !path.starts_with(root()) || !path.exists() {
        return Some(format!("there is no {file}"));
    }
    let anchor = anchor?;
    (!anchors(&path).contains(anchor)).then(|| format!("{} has no anchor '{anchor}'", path.display()))
}

/// The targets of a document's links, with their line numbers; code is passed over.
fn targets(text: &str) -> Vec<(usize, String)> {
    let (mut found, mut is_code) = (Vec::new(), false);
    for (at, line) in (1..).zip(text.lines()) {
        is_code ^= line.trim_start().starts_with("```");
        // Every other part stands between back ticks.
        let plain: Vec<&str> = line.split('`').step_by(2).collect();
        let plain = if is_code { String::new() } else { plain.join("") };
        for part in plain.split("](").skip(1) {
            found.push((at, part.split(')').next().expect("a part").to_owned()));
        }
    }
    found
}

/// The citations of documents in a piece of prose: `docs/….md`, with or without an anchor.
fn citations(prose: &str) -> Vec<&str> {
    let is_path = |c: char| c.is_ascii_alphanumeric() || "/._-#".contains(c);
    let starts = ["docs/", "tests/fixtures/"].iter().flat_map(|start| prose.match_indices(start));
    let starts = starts.filter(|(at, _)| !prose[..*at].ends_with(is_path));
    let paths = starts.map(|(at, _)| prose[at..].split(|c| !is_path(c)).next().expect("a part"));
    paths.map(|path| path.trim_end_matches(['.', '-'])).filter(|path| path.contains(".md")).collect()
}

/// What of a piece of prose is a citation that no reader can follow.
fn bare(prose: &str) -> Option<String> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    for page in ABSENT_PAGES {
        for (at, _) in prose.match_indices(page) {
            let rest = &prose[at + page.len()..];
            let is_alone = !prose[..at].ends_with(is_word) && !rest.starts_with(is_word);
            let after = rest.trim_start();
            let is_cited = after.starts_with(|c: char| c.is_ascii_digit() || c == ',' || c == ')')
                || ["section", "row", "appendix", ".md"].iter().any(|word| after.starts_with(word));
            if is_alone && is_cited {
                return Some(format!("{page}{}", rest.chars().take(12).collect::<String>()));
            }
        }
    }
    let lower = prose.to_lowercase();
    let mut words = lower.split_whitespace().map(|word| word.trim_start_matches(['(', '*']));
    while let Some(word) = words.next() {
        let number = matches!(word, "row" | "rows").then(|| words.clone().next()).flatten();
        if let Some(number) = number.filter(|number| number.starts_with(|c: char| c.is_ascii_digit())) {
            return Some(format!("{word} {number}"));
        }
    }
    None
}

#[test]
fn every_link_of_a_document_leads_somewhere() {
    let mut wrong = Vec::new();
    for (path, text) in texts().iter().filter(|(path, _)| path.extension().is_some_and(|end| end == "md")) {
        let folder = root().join(path.parent().expect("a folder"));
        for (at, target) in targets(text).iter().filter(|(_, target)| !target.contains(":")) {
            wrong.extend(broken(&folder, path, target).map(|why| format!("{}:{at}: {why}", path.display())));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_citation_of_a_source_leads_somewhere() {
    let spec = ["protocol", "chains", "money", "platform"].map(|page| root().join(format!("docs/spec/{page}.md")));
    let known: BTreeSet<String> = spec.iter().flat_map(|page| anchors(page)).collect();
    let (mut wrong, mut cited) = (Vec::new(), 0);
    for (path, text) in &texts() {
        for (at, line) in prose(path, text) {
            let place = format!("{}:{at}", path.display());
            wrong.extend(bare(line).map(|cites| format!("{place}: cite docs/spec instead of '{cites}'")));
            for citation in citations(line) {
                cited += 1;
                wrong.extend(broken(root(), path, citation).map(|why| format!("{place}: {why}")));
            }
            let is_end = |c: char| !(c.is_ascii_alphanumeric() || c == '-');
            for (from, prefix) in SPEC_ANCHORS.iter().flat_map(|prefix| line.match_indices(prefix)) {
                let anchor = line[from + 1..].split(is_end).next().expect("a part");
                let is_open = prefix.len() == anchor.len() + 1;
                wrong.extend((!is_open && !known.contains(anchor)).then(|| format!("{place}: no anchor '{anchor}'")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(cited > 50, "only {cited} citations were found");
}

#[test]
fn a_citation_that_nobody_can_follow_is_found() {
    for cites in
        ["(PROTOCOL 3.4): a", "of CHAINS section 4.", "(DESIGN, failure rules)", "Row 5: reverted", "(rows 7 to 12)"]
    {
        assert!(bare(cites).is_some(), "{cites}");
    }
    for fine in ["one row a claim", "const PLATFORM = 1;", "at most 76 rows a minute", "(docs/spec/chains.md#evm-5)"] {
        assert_eq!(bare(fine), None, "{fine}");
    }
    assert_eq!(
        citations("see docs/spec/chains.md#evm-5, /docs/errors and docs/reference."),
        ["docs/spec/chains.md#evm-5"]
    );
    let folder = root().join("docs/spec");
    assert_eq!(broken(&folder, Path::new("docs/spec/README.md"), "chains.md#evm-5"), None);
    for wrong in ["chains.md#evm-999", "absent.md", "../../../README.md"] {
        assert!(broken(&folder, Path::new("docs/spec/README.md"), wrong).is_some(), "{wrong}");
    }
}

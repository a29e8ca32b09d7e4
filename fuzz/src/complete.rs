//! Every public parser of the pure crates is run by a target, or stands here with the reason why not.
//!
//! A parser is a public function that takes text, bytes, JSON or a node's answers, and returns what may be absent or wrong. What
//! a macro declares (ids, tables of names) is not seen here.

use quote_free::tokens;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Parsers without a target of their own, as `Type::function` or `module::function`.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("AskChain::judge", "the rules of `exact::verify_onchain`, which the target of payments runs"),
    ("deletion::token", "derives a token from a pepper of ours; nothing from outside is read"),
    ("delivery::message_body", "writes a message"),
    ("due::due_by", "the text is a mark that this function has written"),
    ("due::next_due", "the text is a mark that this function has written"),
    ("invitation::token", "derives a token from a pepper of ours; nothing from outside is read"),
    ("key::issue", "makes a key"),
    ("known::known_browser", "derives a secret from a pepper of ours; the address was read before"),
    ("random_digits::serialize", "writes digits; the messages' targets read them"),
    ("sealing::sealing_key", "derives a key from a pepper of ours"),
];

/// A type as text, without spaces.
mod quote_free {
    use syn::{GenericArgument, PathArguments, ReturnType, Type};

    /// The names in a type, in order.
    pub(super) fn tokens(of: &Type, names: &mut Vec<String>) {
        match of {
            Type::Reference(inner) => tokens(&inner.elem, names),
            Type::Slice(inner) => tokens(&inner.elem, names),
            Type::Array(inner) => tokens(&inner.elem, names),
            Type::Tuple(all) => all.elems.iter().for_each(|one| tokens(one, names)),
            Type::Path(path) => {
                for segment in &path.path.segments {
                    names.push(segment.ident.to_string());
                    if let PathArguments::AngleBracketed(all) = &segment.arguments {
                        for one in &all.args {
                            if let GenericArgument::Type(inner) = one {
                                tokens(inner, names);
                            }
                        }
                    }
                }
            }
            _ => {}
        }
    }

    /// Whether a function may answer that there is nothing, or that something is wrong.
    pub(super) fn may_fail(output: &ReturnType) -> bool {
        let ReturnType::Type(_, of) = output else { return false };
        let mut names = Vec::new();
        tokens(of, &mut names);
        matches!(names.first().map(String::as_str), Some("Option" | "Result"))
    }
}

/// What a parser takes.
const INPUTS: [&str; 4] = ["str", "u8", "RawValue", "Facts"];

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg") && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
    })
}

fn is_parser(visibility: &syn::Visibility, signature: &syn::Signature) -> bool {
    let takes = |input: &syn::FnArg| match input {
        syn::FnArg::Typed(input) => {
            let mut names = Vec::new();
            tokens(&input.ty, &mut names);
            names.iter().any(|name| INPUTS.contains(&name.as_str()))
        }
        syn::FnArg::Receiver(_) => false,
    };
    matches!(visibility, syn::Visibility::Public(_))
        && signature.inputs.iter().any(takes)
        && quote_free::may_fail(&signature.output)
}

/// The public parsers of items, by their names.
fn parsers(items: &[syn::Item], module: &str, found: &mut BTreeSet<String>) {
    for item in items {
        match item {
            syn::Item::Fn(function) if !is_test(&function.attrs) && is_parser(&function.vis, &function.sig) => {
                found.insert(format!("{module}::{}", function.sig.ident));
            }
            syn::Item::Impl(block) if !is_test(&block.attrs) => {
                let mut names = Vec::new();
                tokens(&block.self_ty, &mut names);
                let of = names.first().cloned().unwrap_or_default();
                for part in &block.items {
                    if let syn::ImplItem::Fn(function) = part
                        && is_parser(&function.vis, &function.sig)
                    {
                        found.insert(format!("{of}::{}", function.sig.ident));
                    }
                }
            }
            syn::Item::Mod(inner) if !is_test(&inner.attrs) => {
                if let Some((_, items)) = &inner.content {
                    parsers(items, &inner.ident.to_string(), found);
                }
            }
            _ => {}
        }
    }
}

/// The Rust files below a folder.
pub(crate) fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Modules under other names than their own: two of one name stand in one file of targets.
fn renamed(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut names: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for part in text.split([',', '{', '}', ';', '\n']) {
        if let Some((name, other)) = part.trim().trim_start_matches("use ").split_once(" as ") {
            let name = name.rsplit("::").next().unwrap_or(name);
            names.entry(name.to_owned()).or_default().insert(other.trim().to_owned());
        }
    }
    names
}

/// Whether targets name a function by its type or module.
fn is_named(files: &[String], function: &str) -> bool {
    let (of, name) = function.split_once("::").expect("a path");
    files.iter().any(|text| {
        let others = renamed(text).remove(of).unwrap_or_default();
        others.iter().map(String::as_str).chain([of]).any(|of| {
            let path = format!("{of}::{name}");
            text.match_indices(&path).any(|(at, _)| {
                let before =
                    text[..at].chars().next_back().is_none_or(|letter| !letter.is_alphanumeric() && letter != '_');
                let after = text[at + path.len()..]
                    .chars()
                    .next()
                    .is_none_or(|letter| !letter.is_alphanumeric() && letter != '_');
                before && after
            })
        })
    })
}

#[test]
fn every_public_parser_has_a_target() {
    let own = std::env::current_dir().expect("a folder");
    let mut found = BTreeSet::new();
    for folder in ["api", "chain", "core"] {
        let mut files = Vec::new();
        sources(&own.join("../crates").join(folder).join("src"), &mut files);
        for path in files {
            let stem = path.file_stem().expect("a name").to_string_lossy().into_owned();
            if stem.ends_with("tests") || path.components().any(|part| part.as_os_str() == "tests") {
                continue;
            }
            let text = fs::read_to_string(&path).expect("a source");
            parsers(&syn::parse_file(&text).expect("Rust").items, &stem, &mut found);
        }
    }
    assert!(found.len() > 100, "{} parsers", found.len());
    let mut files = Vec::new();
    sources(&own.join("src/targets"), &mut files);
    let texts: Vec<String> = files.iter().map(|path| fs::read_to_string(path).expect("a source")).collect();
    let excepted: BTreeSet<&str> = EXCEPTIONS.iter().map(|(name, _)| *name).collect();
    let missing: Vec<&String> =
        found.iter().filter(|name| !excepted.contains(name.as_str()) && !is_named(&texts, name)).collect();
    assert!(missing.is_empty(), "no target runs them, and no exception names them: {missing:#?}");
    let stale: Vec<&&str> = excepted.iter().filter(|name| !found.contains(**name) || is_named(&texts, name)).collect();
    assert!(stale.is_empty(), "exceptions that are none: {stale:?}");
    assert!(EXCEPTIONS.iter().all(|(_, reason)| reason.len() > 10));
}

//! The structure that the compiler does not hold: no module of a crate depends on itself by way of others, no folder
//! does so either, and only the Worker names the platform. Test code is left out, wherever it stands. A submodule may
//! name the module that declares it.

use crate::tidy::{CRATES, sources};
use std::collections::{BTreeMap, BTreeSet};
use syn::visit::{self, Visit};

/// A module's path within its crate; the crate itself is empty.
type Module = Vec<String>;

/// Modules by the modules that they name.
type Graph = BTreeMap<Module, BTreeSet<Module>>;

fn module(file: &str) -> Module {
    let path = file.trim_end_matches(".rs");
    if path == "lib" { Module::new() } else { path.split('/').map(str::to_owned).collect() }
}

/// Whether an item exists in tests only.
fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg") && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
    })
}

/// The paths that a file names, from the root of its crate.
struct Paths<'a> {
    here: Module,
    modules: &'a BTreeSet<Module>,
    named: BTreeSet<Module>,
}

impl Paths<'_> {
    /// Takes a path as it is written, `crate`, `super` or a module below in front.
    fn name(&mut self, segments: &[String]) {
        let (mut from, mut rest) = (self.here.clone(), segments);
        match rest.first().map(String::as_str) {
            Some("crate") => (from, rest) = (Module::new(), &rest[1..]),
            Some("self") => rest = &rest[1..],
            Some("super") => {
                while rest.first().is_some_and(|segment| segment == "super") {
                    from.pop();
                    rest = &rest[1..];
                }
            }
            Some(first) => {
                from.push(first.to_owned());
                if !self.modules.contains(&from) {
                    return;
                }
                rest = &rest[1..];
            }
            None => return,
        }
        from.extend(rest.iter().cloned());
        while !self.modules.contains(&from) {
            from.pop();
        }
        self.named.insert(from);
    }

    fn name_tree(&mut self, before: &[String], tree: &syn::UseTree) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.name_tree(&with(&path.ident), &path.tree),
            syn::UseTree::Name(name) => self.name(&with(&name.ident)),
            syn::UseTree::Rename(rename) => self.name(&with(&rename.ident)),
            syn::UseTree::Glob(_) => self.name(before),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.name_tree(before, tree)),
        }
    }
}

impl<'ast> Visit<'ast> for Paths<'_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        let attributes: &[syn::Attribute] = match item {
            syn::Item::Mod(item) => &item.attrs,
            syn::Item::Fn(item) => &item.attrs,
            syn::Item::Use(item) => &item.attrs,
            syn::Item::Impl(item) => &item.attrs,
            syn::Item::Const(item) => &item.attrs,
            syn::Item::Struct(item) => &item.attrs,
            syn::Item::Enum(item) => &item.attrs,
            syn::Item::Static(item) => &item.attrs,
            syn::Item::Trait(item) => &item.attrs,
            syn::Item::Type(item) => &item.attrs,
            _ => &[],
        };
        if !is_test(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if item.content.is_some() {
            self.here.push(item.ident.to_string());
            visit::visit_item_mod(self, item);
            self.here.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.name_tree(&[], &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if segments.len() > 1 {
            self.name(&segments);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        let text = item.tokens.to_string().replace(' ', "");
        for part in text.split("crate::").skip(1) {
            let path = part.split(|letter: char| !letter.is_ascii_alphanumeric() && !"_:".contains(letter)).next();
            let segments = path.unwrap_or_default().split("::").map(str::to_owned);
            let segments: Vec<String> = ["crate".to_owned()].into_iter().chain(segments).collect();
            self.name(&segments);
        }
    }
}

fn graph(files: &[(String, String)]) -> Graph {
    let files: Vec<(Module, &String)> = files
        .iter()
        .filter(|(file, _)| !file.ends_with("tests.rs") && !file.contains("/tests/"))
        .map(|(file, text)| (module(file), text))
        .collect();
    let modules: BTreeSet<Module> = files.iter().map(|(module, _)| module.clone()).collect();
    let mut graph = Graph::new();
    for (module, text) in &files {
        let file = syn::parse_file(text).unwrap_or_else(|error| panic!("{module:?}: {error}"));
        let mut paths = Paths { here: module.clone(), modules: &modules, named: BTreeSet::new() };
        paths.visit_file(&file);
        // A module and the modules below it are written together: those below may name what they extend.
        paths.named.retain(|other| !module.starts_with(other));
        graph.insert(module.clone(), paths.named);
    }
    graph
}

/// The circles of a graph, each as the modules in it.
fn circles(graph: &Graph) -> Vec<Vec<String>> {
    let reach = |from: &Module| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
        while let Some(module) = next.pop() {
            for other in graph.get(module).into_iter().flatten() {
                if seen.insert(other) {
                    next.push(other);
                }
            }
        }
        seen
    };
    let reached: BTreeMap<&Module, BTreeSet<&Module>> = graph.keys().map(|module| (module, reach(module))).collect();
    let mut found = BTreeSet::new();
    for (module, others) in &reached {
        let back = others.iter().filter(|other| reached.get(*other).is_some_and(|back| back.contains(module)));
        let circle: Vec<String> = back.map(|other| other.join("/")).collect();
        if !circle.is_empty() {
            found.insert(circle);
        }
    }
    found.into_iter().collect()
}

/// The graph of the folders and files at a crate's top.
fn folders(graph: &Graph) -> Graph {
    let top = |module: &Module| module.iter().take(1).cloned().collect::<Module>();
    let mut folders = Graph::new();
    for (module, others) in graph {
        let others = others.iter().map(top).filter(|other| *other != top(module) && !other.is_empty());
        folders.entry(top(module)).or_default().extend(others);
    }
    folders
}

#[test]
fn no_module_depends_on_itself() {
    let mut found = Vec::new();
    for name in CRATES {
        let graph = graph(&sources(name));
        found.extend(circles(&graph).into_iter().map(|circle| (*name, circle)));
        found.extend(circles(&folders(&graph)).into_iter().map(|circle| (*name, circle)));
    }
    assert_eq!(found, []);
}

#[test]
fn circles_are_found_wherever_they_stand() {
    let files = |texts: &[(&str, &str)]| -> Vec<(String, String)> {
        texts.iter().map(|(file, text)| ((*file).to_owned(), (*text).to_owned())).collect()
    };
    let all = [
        ("lib.rs", "mod a; mod b; mod c; mod d;"),
        ("a.rs", "use crate::b::{B, self as other}; #[cfg(test)] mod tests { use crate::d::D; } fn late() -> c::C {}"),
        ("b.rs", "mod inner { fn f() { println!(\"{}\", crate::c::one()) } }"),
        ("c.rs", "fn g(_: super::a::A) {}"),
        ("d.rs", "use crate::a::A;"),
    ];
    assert_eq!(circles(&graph(&files(&all))), [["a", "b", "c"]]);
    assert_eq!(circles(&graph(&files(&all[..3]))), Vec::<Vec<String>>::new());
}

#[test]
fn only_the_worker_names_the_platform() {
    for name in CRATES {
        let manifest = if *name == "." { continue } else { format!("{name}/Cargo.toml") };
        let path = crate::ROOT.join(manifest);
        let manifest = std::fs::read_to_string(path).expect("a manifest");
        for platform in ["worker", "web-sys", "js-sys", "wasm-bindgen", "getrandom"] {
            assert!(!manifest.contains(platform), "{name} names {platform}");
        }
    }
}

#[test]
fn every_workaround_has_a_reason_a_test_and_a_place_upstream() {
    let pieces = sources(".").into_iter().filter(|(file, _)| file.starts_with("platform/"));
    let mut seen = 0;
    for (file, text) in pieces {
        let said = |word: &str| {
            let found = text.lines().find_map(|line| line.strip_prefix(&format!("//! {word}: ")));
            found.unwrap_or_else(|| panic!("{file} has no line '{word}:'")).to_owned()
        };
        assert!(!said("Reason").is_empty());
        assert!(crate::ROOT.join(said("Test")).exists(), "{file}: {}", said("Test"));
        assert!(said("Upstream").starts_with("<https://github.com/"), "{file}");
        seen += 1;
    }
    assert!(seen > 0);
}

#[test]
fn only_workarounds_bind_javascript() {
    for (file, text) in sources(".") {
        // The entry exports what the shim calls; it takes nothing from JavaScript.
        let is_entry = file == "entry.rs" && !text.contains("extern \"C\"");
        let binds = text.contains("#[wasm_bindgen") && !is_entry;
        assert!(file.starts_with("platform/") || !binds, "{file} binds JavaScript by hand");
    }
}

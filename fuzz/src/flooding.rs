//! No map of ours can be flooded: names from outside are kept in trees. The maps of `std` are seeded with constants on
//! wasm32-unknown-unknown, which has no randomness, so that whoever knows the hash could choose names that collide.

use crate::complete::sources;
use serde_json::{Map, Value};
use std::fs;

#[test]
fn no_source_of_the_worker_names_a_hash_map() {
    let own = std::env::current_dir().expect("a folder");
    let mut files = Vec::new();
    for folder in ["../crates/api/src", "../crates/chain/src", "../crates/core/src", "../src"] {
        sources(&own.join(folder), &mut files);
    }
    assert!(files.len() > 300, "{} files", files.len());
    let words = ["HashMap", "HashSet", "RandomState", "DefaultHasher", "IndexMap", "regex::", "Regex"];
    for path in files {
        let text = fs::read_to_string(&path).expect("a source");
        let found = words.iter().find(|word| text.contains(**word));
        assert_eq!(found, None, "{}", path.display());
    }
}

/// With its feature `preserve_order`, which any crate could turn on, it would be a hash map.
#[test]
fn an_object_of_serde_json_is_a_tree() {
    let object: Map<String, Value> = serde_json::from_str(r#"{"b":1,"c":2,"a":3}"#).expect("JSON");
    assert_eq!(object.keys().collect::<Vec<_>>(), ["a", "b", "c"]);
}

//! The recorded fixtures are whole: what a manifest names is there, and nothing else is.

use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;

/// The manifest's rows, and the names of all files beside it.
fn folder(name: &str) -> (Vec<Value>, BTreeSet<String>) {
    let folder = crate::ROOT.join("tests/fixtures").join(name);
    let listed = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let names = listed.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"));
    let names = names.filter(|name| name != "manifest.json").collect();
    let manifest = fs::read(folder.join("manifest.json")).expect("a manifest");
    (serde_json::from_slice(&manifest).expect("a list of cases"), names)
}

#[test]
fn every_recording_is_in_the_manifest_and_on_disk() {
    let (evm, on_disk) = folder("evm");
    let files = evm.iter().flat_map(|row| row["files"].as_object().expect("files").values());
    // A case without a receipt or a block says so with `null`.
    let named: BTreeSet<String> = files.filter_map(Value::as_str).map(str::to_owned).collect();
    assert_eq!((evm.len(), named), (54, on_disk));

    let (solana, on_disk) = folder("solana");
    let named: BTreeSet<String> = solana.iter().map(|row| row["file"].as_str().expect("a file").to_owned()).collect();
    assert_eq!((solana.len(), named), (45, on_disk));
}

//! Laws about the repository as a whole: generated files, levels, schema.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking, and `syn` may add kinds of items"
)]

use std::path::PathBuf;
use std::sync::LazyLock;

mod alerts;
mod fixtures;
mod generated;
mod links;
mod migrations;
mod people;
mod raised;
mod rows;
mod schema;
mod secrets;
mod settings;
mod statements;
mod structure;
mod telemetry;
mod tidy;
mod vectors;

/// The repository: cargo runs tests in the package's folder. A path compiled in would be that of the checkout that
/// compiled the tests, also in a copy of it.
pub(crate) static ROOT: LazyLock<PathBuf> = LazyLock::new(|| std::env::current_dir().expect("a folder"));

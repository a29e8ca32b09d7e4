//! Fuzz targets: one for every parser of bytes from outside, in one table ([`table`]). docs/security/fuzzing.md says how they
//! run and how one is added.
//!
//! `cargo test` gives each target the files of its corpus and some hundred inputs made of them; `cargo bolero test` gives it
//! what libFuzzer finds, guided by coverage.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::disallowed_methods,
    clippy::wildcard_enum_match_arm,
    reason = "there is nothing but tests here, and the test of growth takes time"
)]

#[cfg(test)]
mod complete;
#[cfg(test)]
mod corpus;
#[cfg(test)]
mod edit;
#[cfg(test)]
mod flooding;
#[cfg(test)]
mod growth;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod table;
#[cfg(test)]
mod targets;

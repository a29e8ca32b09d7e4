//! x402-edge: payment verification for the HTTP 402 economy, at the edge.
//!
//! One crate, two targets: everything outside [`shell`](crate) compiles and is
//! tested natively; the platform (`worker`) is named only in `src/shell`.
//!
//! A module imports only from lower levels, siblings never import each other:
//!
//! | level | modules |
//! |---|---|
//! | 0 words | `address` `amount` `error` `id` `signer` `sql` `time` |
//! | 1 tables | `config` `network` `reason` `sanctions` `tier` `verdict` |
//! | 2 the one internal form | `payment` |
//! | 3 chains, pure | `chain` |
//! | 4 the business, pure | `judge` `ledger` `settle` `tenant` |
//! | 5 the HTTP contract, pure | `api` |
//! | 7 the only I/O | `shell` |
//!
//! `tests/native/tidy.rs` holds the table against the code.

pub mod address;
pub mod amount;
pub mod api;
pub mod chain;
pub mod config;
pub mod error;
pub mod id;
pub mod judge;
pub mod ledger;
pub mod network;
pub mod payment;
pub mod reason;
pub mod sanctions;
pub mod settle;
pub mod signer;
pub mod sql;
pub mod tenant;
pub mod tier;
pub mod time;
pub mod verdict;

#[cfg(target_arch = "wasm32")]
mod shell;

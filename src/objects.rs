//! The Durable Objects. Each loads, steps, stores, and awaits nothing in between.

mod ledger;
mod records;
mod settler;
mod sqlite;
pub mod state;

//! The Durable Objects. Each loads, steps, stores, and awaits nothing in between.

mod alarm;
mod courier;
mod ledger;
mod meter;
mod records;
mod settler;
mod sqlite;
#[allow(unreachable_pub, reason = "public natively, for tests")]
pub mod state;
mod turns;

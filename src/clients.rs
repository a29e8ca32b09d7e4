//! The calls to the Durable Objects, each with its deadline.

pub(crate) mod holds;
pub(crate) mod ledger;
pub(crate) mod settler;

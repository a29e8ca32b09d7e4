//! The calls to the Durable Objects, each with its deadline.

pub(crate) mod courier;
pub(crate) mod ledger;
pub(crate) mod meter;
pub(crate) mod penalized;
pub(crate) mod records;
pub(crate) mod settler;
pub(crate) mod stream;

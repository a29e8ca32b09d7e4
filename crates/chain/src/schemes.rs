//! The payment schemes of x402: a folder and a variant each.

pub mod exact;

//! The payment schemes of x402, a folder for each.

pub mod exact;

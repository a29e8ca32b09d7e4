//! The payment schemes of x402 that are served: a folder, and a row of [`Scheme`], each.

pub mod exact;

pub use crate::x402::Scheme;

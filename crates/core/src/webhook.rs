//! Webhooks: how a message is signed, and when and in which order an endpoint gets it.

pub mod breaker;
pub mod outcome;
pub mod schedule;
pub mod signature;
pub mod subscription;

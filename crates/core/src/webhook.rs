//! Webhooks: how a message is signed, and when and in which order an endpoint gets it.

pub mod backlog;
pub mod breaker;
pub mod cause;
pub mod changes;
pub mod delivery;
pub mod endpoint;
pub mod missed;
pub mod outcome;
pub mod redelivery;
pub mod retention;
pub mod schedule;
pub mod secret;
pub mod select;
pub mod signature;
pub mod subscription;
pub mod trial;

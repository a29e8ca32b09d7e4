//! Who may ask, what a verification answers, and how a settlement reaches its end.
//!
//! Laws of this crate:
//! 1. No I/O, clock or randomness: rows, a chain's trace, time and random bytes are arguments.
//! 2. A step takes rows and an event, and returns an answer and the rows to write; nothing can interleave it.
//! 3. A refused payment is a value ([`verdict`]); a request that is not answered is a typed error ([`error`]).
//! 4. Money, quotas and claims are exact under any order of calls.
//! 5. It knows no HTTP; it compiles natively and does not see the platform.

pub mod alarm;
pub mod alert;
pub mod audit;
pub mod billing;
pub mod error;
pub mod event;
pub mod messages;
pub mod metrics;
pub mod net;
pub mod outbox;
pub mod people;
pub mod public_url;
pub mod records;
pub mod sanctions;
pub mod sealing;
pub mod sentry;
pub mod settings;
pub mod settlement;
pub mod tenancy;
pub mod traceparent;
pub mod verdict;
pub mod verification;
pub mod webhook;

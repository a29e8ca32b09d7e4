//! Errors as Sentry receives them (<https://develop.sentry.dev/sdk/foundations/transport/envelopes/>): what
//! an event holds, what must never leave, and how many are sent. The Worker only carries the bytes.

pub mod envelope;
pub mod event;
pub mod limits;
pub mod outbox;
pub mod scrub;
pub mod stack;

//! What a caller who was refused may expect of the same request.

use serde::{Deserialize, Serialize};

/// What sending the same request again could achieve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Retry {
    /// Nothing: change the request first.
    Never,
    /// Another answer, once time has passed.
    Later,
    /// The answer: it may have happened already; send the same with the same `Idempotency-Key`.
    Same,
}

/// What the same request gets when it comes again under its `Idempotency-Key`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepeatRule {
    /// The recorded answer: only another request can bring another one.
    Recorded,
    /// An answer of its own: time, the seller or the operator can change the cause.
    Judged,
}

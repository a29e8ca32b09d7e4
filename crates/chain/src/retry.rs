//! Whether a refused caller may repeat a request, and what a repeat gets.

use core::fmt;
use serde::{Deserialize, Serialize};

/// Whether a repeat of the same request can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Retry {
    /// No: the request must change first.
    Never,
    /// Yes, after some time.
    Later,
    /// The answer: it may have happened already; send the same with the same `Idempotency-Key`.
    Same,
}

impl fmt::Display for Retry {
    /// The word on the wire.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Never => "never",
            Self::Later => "later",
            Self::Same => "same",
        })
    }
}

/// Which answer the same request gets under the same `Idempotency-Key`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepeatRule {
    /// The recorded answer: only another request can get another one.
    Recorded,
    /// A new judgement: time, the seller or the operator can remove the cause.
    Judged,
}

//! `GET /v1/health`: what is known of the service's parts.

use serde::Serialize;
use std::collections::BTreeMap;

/// How one part, or the whole, does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Condition {
    /// Well.
    Ok,
    /// Not asked yet.
    Unknown,
    /// Works, with something amiss.
    Degraded,
    /// Does not work.
    Down,
}

/// One part.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Part {
    /// How it does.
    pub status: Condition,
    /// How long its last answer took.
    pub latency_ms: Option<u64>,
    /// More about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The newest block that was seen (chains).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head: Option<u64>,
    /// When it was last looked at, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checked_at: Option<String>,
}

/// All parts.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Checks {
    /// The directory (D1).
    pub database: Part,
    /// The ledgers (Durable Objects).
    pub ledger: Part,
    /// The chains, by key.
    pub chains: BTreeMap<&'static str, Part>,
    /// The sanctions list.
    pub sanctions: Part,
}

/// The answer to `GET /v1/health`.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Health {
    /// The whole: `down` without directory or ledgers, `degraded` with anything else amiss.
    pub status: Condition,
    /// The Worker's version.
    pub version: &'static str,
    /// Now, RFC 3339.
    pub timestamp: String,
    /// Each part.
    pub checks: Checks,
}

impl Checks {
    /// How the whole does.
    #[must_use]
    pub fn condition(&self) -> Condition {
        let down = |part: &Part| part.status == Condition::Down;
        let amiss = |part: &Part| matches!(part.status, Condition::Down | Condition::Degraded);
        if down(&self.database) || down(&self.ledger) {
            Condition::Down
        } else if amiss(&self.database)
            || amiss(&self.ledger)
            || amiss(&self.sanctions)
            || self.chains.values().any(amiss)
        {
            Condition::Degraded
        } else {
            Condition::Ok
        }
    }
}

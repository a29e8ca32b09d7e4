//! `GET /v1/health`: the condition of the service's components.

use serde::Serialize;
use std::collections::BTreeMap;

/// The condition of a component, or of the whole service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Condition {
    /// The last check passed.
    Ok,
    /// Not checked yet by this isolate.
    Unknown,
    /// Works with a restriction, which `detail` names.
    Degraded,
    /// The last check failed.
    Down,
}

/// The condition of one component.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct ComponentHealth {
    /// The component's condition.
    pub status: Condition,
    /// Milliseconds that the last check took; `null` before the first.
    pub latency_ms: Option<u64>,
    /// What is wrong, in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The newest block that a node reported (chains).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head: Option<u64>,
    /// When it was last checked, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checked_at: Option<String>,
}

/// The condition of every component.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct ServiceChecks {
    /// The directory: a D1 database.
    pub database: ComponentHealth,
    /// The ledgers (Durable Objects).
    pub ledger: ComponentHealth,
    /// The chains of the registry, by their keys.
    pub chains: BTreeMap<&'static str, ComponentHealth>,
    /// The list against which payers are screened.
    pub sanctions: ComponentHealth,
}

/// The answer to `GET /v1/health`.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct ServiceHealth {
    /// `down` without directory or ledgers, `degraded` if any other component is not `ok`.
    pub status: Condition,
    /// The version of the build that answers.
    pub version: &'static str,
    /// When this was answered, RFC 3339.
    pub timestamp: String,
    /// The condition of each component.
    pub checks: ServiceChecks,
}

impl ServiceChecks {
    /// The condition of the whole service, by the rule of [`ServiceHealth::status`].
    #[must_use]
    pub fn condition(&self) -> Condition {
        let down = |part: &ComponentHealth| part.status == Condition::Down;
        let amiss = |part: &ComponentHealth| matches!(part.status, Condition::Down | Condition::Degraded);
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

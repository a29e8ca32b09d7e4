//! The rules that a payment was checked against, with their results.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// One rule with its result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Check {
    /// The rule's stable name.
    pub name: String,
    /// Whether the payment keeps the rule.
    pub passed: bool,
    /// What was found, in one sentence.
    pub detail: String,
}

/// Rules with their results, serialized once and then passed on unread.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Checks(#[cfg_attr(not(target_arch = "wasm32"), schemars(with = "Vec<Check>"))] Box<RawValue>);

impl Checks {
    /// Writes the list as JSON.
    #[must_use]
    pub fn new(checks: &[Check]) -> Self {
        Self(serde_json::value::to_raw_value(checks).unwrap_or_default())
    }

    /// The empty list.
    #[must_use]
    pub fn none() -> Self {
        Self::new(&[])
    }

    /// The list as JSON text.
    #[must_use]
    pub fn json(&self) -> &str {
        self.0.get()
    }
}

impl PartialEq for Checks {
    fn eq(&self, other: &Self) -> bool {
        self.0.get() == other.0.get()
    }
}

impl Eq for Checks {}

//! Webhook endpoints: where a tenant's events go.

use serde::{Deserialize, Serialize};

/// For how long messages are signed by the secret before too, after a rotation.
pub const PREVIOUS_SECRET_MS: u64 = 24 * 60 * 60 * 1_000;

/// Whether an endpoint gets messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum EndpointStatus {
    /// It gets them.
    Active,
    /// Its tenant has paused it: messages wait.
    Paused,
    /// The service has disabled it, since nothing reached it: it gets none until its tenant makes it active again.
    Disabled,
}

impl EndpointStatus {
    /// Every status.
    pub const ALL: [Self; 3] = [Self::Active, Self::Paused, Self::Disabled];

    /// The name in JSON: `active`, `paused` or `disabled`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Disabled => "disabled",
        }
    }

    /// The status with this name; `None` for any other text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_have_names() {
        for status in EndpointStatus::ALL {
            assert_eq!(EndpointStatus::parse(status.name()), Some(status));
            assert_eq!(serde_json::to_value(status).expect("JSON"), status.name());
        }
        assert_eq!(EndpointStatus::parse("Active"), None);
    }
}

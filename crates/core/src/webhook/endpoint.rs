//! Webhook endpoints: where a tenant's events go.

use crate::error::{ErrorCode, Fault};
use crate::tenancy::tier::Tier;
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

/// Checks whether a tier includes webhook endpoints.
///
/// # Errors
/// `NOT_IN_TIER`, which another tier would allow.
pub fn check_webhooks_tier(tier: Tier) -> Result<(), Fault> {
    if tier.plan().webhooks {
        return Ok(());
    }
    let detail = format!("the tier '{}' does not include webhook endpoints", tier.plan().name);
    Err(Fault::new(ErrorCode::NotInTier, detail).upgradable())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenancy::tier::PLANS;

    #[test]
    fn statuses_have_names() {
        for status in EndpointStatus::ALL {
            assert_eq!(EndpointStatus::parse(status.name()), Some(status));
            assert_eq!(serde_json::to_value(status).expect("JSON"), status.name());
        }
        assert_eq!(EndpointStatus::parse("Active"), None);
    }

    #[test]
    fn a_tier_without_webhooks_proposes_another() {
        for plan in PLANS {
            match check_webhooks_tier(plan.tier) {
                Ok(()) => assert!(plan.webhooks),
                Err(fault) => assert!(!plan.webhooks && fault.upgrade && fault.code == ErrorCode::NotInTier),
            }
        }
    }
}

//! A tenant as its ledger knows it: the directory's copy for one environment.

use crate::tenancy::allow_list::AllowedNetwork;
use crate::tenancy::key::KeyHash;
use crate::tenancy::tier::{Limits, Tier};
use crate::verdict::SanctionsPolicy;
use crate::webhook::subscription::WebhookSubscription;
use serde::{Deserialize, Serialize};
use x402_chain::address::Address;
use x402_chain::id::{KeyId, TenantId};
use x402_chain::network::{Environment, Network};
use x402_chain::time::UnixMillis;

/// Regions in which a tenant's ledgers can be created: the platform's location hints. The choice is final, since a
/// ledger never moves.
pub const REGIONS: [&str; 9] = ["wnam", "enam", "sam", "weur", "eeur", "apac", "oc", "afr", "me"];

/// Whether a tenant is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum TenantStatus {
    /// Its requests are served.
    Active,
    /// Its requests are refused until an operator makes it active.
    Suspended,
    /// Its requests are refused.
    Cancelled,
}

impl TenantStatus {
    /// The status with this name; `None` for any other text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Active, Self::Suspended, Self::Cancelled].into_iter().find(|status| status.name() == text)
    }

    /// The name in JSON: `active`, `suspended` or `cancelled`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What a key may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Verify payments and read the records.
    Verify,
    /// Settle x402 payments.
    Settle,
    /// Read what has happened: events.
    Analytics,
    /// Manage keys, recipients and the tenant itself.
    Manage,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 4] = [Self::Verify, Self::Settle, Self::Analytics, Self::Manage];
    /// The scopes of a tenant's first keys: all but `manage`.
    pub const FIRST: [Self; 3] = [Self::Verify, Self::Settle, Self::Analytics];
    /// The scopes that a key in a URL may have: URLs are logged in many places.
    pub const IN_URL: [Self; 2] = [Self::Verify, Self::Settle];

    /// The name in JSON, such as `verify`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Verify => "verify",
            Self::Settle => "settle",
            Self::Analytics => "analytics",
            Self::Manage => "manage",
        }
    }

    /// The scope with this name; `None` for any other text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.name() == text)
    }
}

/// A tenant's own limits, in place of its tier's; `None` leaves the tier's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct OwnLimits {
    /// Requests in any 60 seconds.
    pub per_minute: Option<u64>,
    /// Requests in any 60 minutes.
    pub per_hour: Option<u64>,
    /// Final verdicts in a calendar month (UTC); −1 is unlimited.
    pub per_month: Option<i64>,
}

impl OwnLimits {
    /// The tier's limits with these in place of them.
    #[must_use]
    pub fn over(&self, tier: Limits) -> Limits {
        let per_month = match self.per_month {
            None => tier.per_month,
            // Below zero is unlimited.
            Some(own) => u64::try_from(own).ok(),
        };
        Limits {
            per_minute: self.per_minute.unwrap_or(tier.per_minute),
            per_hour: self.per_hour.unwrap_or(tier.per_hour),
            per_month,
        }
    }
}

/// An address that is paid for the tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipient {
    /// An EVM address or a Solana wallet.
    pub address: Address,
    /// The chains, by key, for which it is the default.
    pub default_for: Vec<String>,
    /// Whether the tenant holds it only by its first use in test: a tenant that is registered for it takes it over.
    #[serde(default)]
    pub first_use: bool,
    /// The chains, by key, on which it is the tenant's; `None`: all of its family. A contract proves an address for one
    /// chain: on another, the address may be somebody else's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only_on: Option<Vec<String>>,
}

impl Recipient {
    /// Whether the address is the tenant's on a chain.
    fn is_paid_on(&self, network: &Network) -> bool {
        self.only_on.as_ref().is_none_or(|chains| chains.iter().any(|key| key == network.key))
    }
}

/// The most addresses that a tenant may hold by their first use in test: enough to try things out, too few to take many
/// from others. An operator can register more.
pub const FIRST_USES_MAX: usize = 100;

/// A key as the ledger stores it: its SHA-256, never its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// The key's public id, which is no secret.
    pub id: KeyId,
    /// The name that its owner gave it.
    pub name: String,
    /// The SHA-256 of its text.
    pub hash: KeyHash,
    /// The scopes that the key was given.
    pub scopes: Vec<Scope>,
    /// When the key was created.
    pub created_at: UnixMillis,
    /// When it expires, or after a rotation stops to hold; `None`: never.
    pub expires_at: Option<UnixMillis>,
    /// The networks from which it may be used; none: from everywhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_list: Vec<AllowedNetwork>,
}

/// The directory's copy of a tenant for one environment. Revoked keys and
/// removed recipients are not in it. Replaced only by a higher version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenant {
    /// The tenant's id, `ten_…`.
    pub id: TenantId,
    /// The environment of this copy.
    pub environment: Environment,
    /// Grows with every change in the directory.
    pub version: u64,
    /// The company's name, as an operator entered it.
    pub company_name: Option<String>,
    /// Whether its requests are served: `active`, `suspended` or `cancelled`.
    pub status: TenantStatus,
    /// The tier, which sets limits and chains.
    pub tier: Tier,
    /// The location hint of its ledgers.
    pub region: Option<String>,
    /// Limits of this tenant, in place of its tier's.
    pub limits: OwnLimits,
    /// Whether a payment by a payer on the sanctions list is refused or only reported.
    pub sanctions: SanctionsPolicy,
    /// Whether the body of a successful settle holds `extra` for every request.
    #[serde(default)]
    pub explain: bool,
    /// The addresses at which the tenant is paid.
    pub recipients: Vec<Recipient>,
    /// The keys that are not revoked.
    pub keys: Vec<ApiKey>,
    /// The webhook endpoints, those that are disabled too. `None`: a build that knows none, or not those that are disabled, has
    /// stored the copy, and they are to be loaded.
    #[serde(rename = "endpoints", default, skip_serializing_if = "Option::is_none")]
    pub webhooks: Option<Vec<WebhookSubscription>>,
}

/// A copy of a tenant as a ledger stores it.
#[derive(Debug, Serialize)]
pub struct StoredTenant<'a> {
    #[serde(flatten)]
    tenant: &'a Tenant,
    /// For a build that sends events to each endpoint that it finds here: those that are not disabled.
    #[serde(skip_serializing_if = "Option::is_none")]
    webhooks: Option<Vec<&'a WebhookSubscription>>,
}

impl Tenant {
    /// The webhook endpoints, as far as they are loaded.
    #[must_use]
    pub fn endpoints(&self) -> &[WebhookSubscription] {
        self.webhooks.as_deref().unwrap_or_default()
    }

    /// The copy as it is stored.
    #[must_use]
    pub fn stored(&self) -> StoredTenant<'_> {
        let webhooks = self.webhooks.as_deref();
        StoredTenant {
            tenant: self,
            webhooks: webhooks.map(|all| all.iter().filter(|one| !one.is_disabled()).collect()),
        }
    }

    /// Whether another copy takes the place of this one: a newer one does, and one that holds endpoints that this one lacks.
    #[must_use]
    pub fn is_older_than(&self, other: &Self) -> bool {
        self.version < other.version
            || (self.version == other.version && self.webhooks.is_none() && other.webhooks.is_some())
    }

    /// Its limits in this environment: no monthly quota in test.
    #[must_use]
    pub fn limits(&self) -> Limits {
        let limits = self.limits.over(self.tier.plan().limits);
        match self.environment {
            Environment::Live => limits,
            Environment::Test => Limits { per_month: None, ..limits },
        }
    }

    /// The key with this hash, unless it has expired.
    #[must_use]
    pub(crate) fn key(&self, hash: &KeyHash, now: UnixMillis) -> Option<&ApiKey> {
        self.keys.iter().find(|key| key.hash == *hash && key.expires_at.is_none_or(|end| now < end))
    }

    /// Whether the address is registered to the tenant for a chain.
    #[must_use]
    pub(crate) fn holds(&self, address: &Address, network: &Network) -> bool {
        self.recipients.iter().any(|recipient| recipient.address == *address && recipient.is_paid_on(network))
    }

    /// The chains for which alone an address is registered to the tenant; `None` where it is not, or is for all.
    #[must_use]
    pub(crate) fn only_on(&self, address: &Address) -> Option<&[String]> {
        self.recipients.iter().find(|recipient| recipient.address == *address)?.only_on.as_deref()
    }

    /// How many addresses the tenant holds by their first use in test.
    #[must_use]
    pub(crate) fn first_uses(&self) -> usize {
        self.recipients.iter().filter(|recipient| recipient.first_use).count()
    }

    /// The address that is paid on the chain where a request names none: the
    /// chain's default, else the only one of the chain's family.
    #[must_use]
    pub fn default_recipient(&self, network: &Network) -> Option<Address> {
        let named = |recipient: &&Recipient| recipient.default_for.iter().any(|key| key == network.key);
        self.recipients.iter().find(named).or_else(|| self.only_one(network)).map(|recipient| recipient.address)
    }

    fn only_one(&self, network: &Network) -> Option<&Recipient> {
        let is_paid =
            |recipient: &&Recipient| recipient.address.family() == network.family && recipient.is_paid_on(network);
        let mut paid = self.recipients.iter().filter(is_paid);
        let first = paid.next()?;
        paid.next().is_none().then_some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use x402_chain::id::EndpointId;

    /// A build that looks for endpoints in `webhooks` sends them everything, and stores no `endpoints`.
    #[test]
    fn a_stored_copy_has_all_endpoints_and_for_another_build_those_that_are_not_disabled() {
        let endpoint = |at: u64, disabled_at: Option<u64>, active_at: Option<u64>| WebhookSubscription {
            id: EndpointId::new(UnixMillis(at), [0; 10]),
            events: Vec::new(),
            disabled_at: disabled_at.map(UnixMillis),
            active_at: active_at.map(UnixMillis),
            earlier: None,
            made_at: None,
        };
        let all = vec![endpoint(1, None, None), endpoint(2, Some(5), None), endpoint(3, Some(5), Some(6))];
        let mut tenant = Tenant {
            id: TenantId([1; 12]),
            environment: Environment::Live,
            version: 1,
            company_name: None,
            status: TenantStatus::Active,
            tier: Tier::Free,
            region: None,
            limits: OwnLimits::default(),
            sanctions: SanctionsPolicy::Refuse,
            explain: false,
            recipients: Vec::new(),
            keys: Vec::new(),
            webhooks: Some(all.clone()),
        };
        let mut stored = serde_json::to_value(tenant.stored()).expect("JSON");
        assert_eq!(stored["webhooks"], json!([all[0], all[2]]));
        assert_eq!(serde_json::from_value::<Tenant>(stored.clone()).expect("a tenant"), tenant);
        stored.as_object_mut().and_then(|members| members.remove("endpoints")).expect("endpoints");
        tenant.webhooks = None;
        assert_eq!(serde_json::from_value::<Tenant>(stored).expect("a tenant"), tenant);
        assert_eq!(serde_json::to_value(tenant.stored()).expect("JSON").get("webhooks"), None::<&Value>);
    }
}

//! The bodies of the operators' routes' answers.

use crate::billing::TierBy;
use serde::Serialize;
use std::collections::BTreeMap;
use x402_chain::network::Environment;
use x402_core::tenancy::allow_list::AllowedNetwork;
use x402_core::tenancy::key::KeyKind;
use x402_core::tenancy::tenant::{OwnLimits, Scope, TenantStatus};
use x402_core::tenancy::tier::Tier;
use x402_core::verdict::SanctionsPolicy;

/// Effective limits as operators see them; −1 is unlimited.
#[derive(Clone, Copy, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct LimitsView {
    /// Requests in any 60 seconds.
    pub per_minute: u64,
    /// Requests in any 60 minutes.
    pub per_hour: u64,
    /// Final verdicts in a calendar month (UTC).
    pub per_month: i64,
}

impl LimitsView {
    /// A tier's limits with a tenant's own in place of them.
    #[must_use]
    pub fn of(tier: Tier, own: &OwnLimits) -> Self {
        let limits = own.over(tier.plan().limits);
        let per_month = limits.per_month.map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
        Self { per_minute: limits.per_minute, per_hour: limits.per_hour, per_month }
    }
}

/// A tenant as operators see it.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct TenantView {
    /// The tenant's id, `ten_…`.
    pub id: String,
    /// The contact address, as an operator entered it.
    pub email: String,
    /// The company's name; `null` where none was given.
    pub company_name: Option<String>,
    /// The tier, which sets limits and chains.
    pub tier: Tier,
    /// Who sets the tier: what is paid, or an operator.
    pub tier_by: TierBy,
    /// Whether its requests are served: `active`, `suspended` or `cancelled`.
    pub status: TenantStatus,
    /// The location hint with which its ledgers are created; `null`: near the first request.
    pub region: Option<String>,
    /// Its default recipients by chain.
    pub recipients: BTreeMap<String, String>,
    /// The limits that apply: the tenant's own, else its tier's.
    pub limits: LimitsView,
    /// Whether a payment by a payer on the sanctions list is refused or only reported.
    pub sanctions: SanctionsPolicy,
    /// Whether the body of a successful settle holds `extra` for every request.
    pub explain: bool,
    /// When it was created, RFC 3339.
    pub created_at: String,
}

/// Both keys of a new tenant, shown this once.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct FirstKeys {
    /// The key for live chains.
    pub live: String,
    /// The key for test networks.
    pub test: String,
}

/// The answer to `POST /v1/admin/tenants`.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct TenantCreated {
    /// The tenant as it is stored.
    pub tenant: TenantView,
    /// Its first keys, shown this once.
    pub api_keys: FirstKeys,
}

/// The answer that holds one tenant.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct TenantAlone {
    /// The tenant as it is stored.
    pub tenant: TenantView,
}

/// A key as its tenant and operators see it.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct KeyView {
    /// The key's id, `key_…`; not the key.
    pub id: String,
    /// The name that its owner gave it.
    pub name: String,
    /// The environment that the key belongs to.
    pub environment: Environment,
    /// Where it is sent: in a header, or in the path under `/facilitator/k/`.
    pub kind: KeyKind,
    /// What its text begins with, such as `x402_live_`.
    pub prefix: &'static str,
    /// The last four characters of its text; `null` for a key that was made before these were stored.
    pub last_four: Option<String>,
    /// The scopes that the key has.
    pub scopes: Vec<Scope>,
    /// The networks from which it may be used; empty: from everywhere.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(with = "Vec<String>"))]
    pub allow_list: Vec<AllowedNetwork>,
    /// When it was created, RFC 3339.
    pub created_at: String,
    /// When it expires, RFC 3339; `null`: never.
    pub expires_at: Option<String>,
    /// The key that it has replaced; `null`: none.
    pub rotated_from: Option<String>,
    /// Until when it holds after another has replaced it, RFC 3339; `null`: it was not rotated.
    pub grace_until: Option<String>,
    /// When it was revoked, RFC 3339; `null`: it is in force.
    pub revoked_at: Option<String>,
    /// When it was last used, RFC 3339, to the minute. The ledgers report it some seconds later; `null`: never.
    pub last_used_at: Option<String>,
}

/// The answer to `POST …/api-keys`: the key is shown this once.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct KeyCreated {
    /// The key without its text, as later requests show it.
    pub api_key: KeyView,
    /// The key's text: shown this once, and stored only as a hash.
    pub key: String,
    /// Whether the key, and the end of one that it replaces, holds for the very next request. `false`: a ledger of the
    /// tenant was not reached, and it holds within minutes.
    pub in_force: bool,
}

/// The answer that holds one key.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct KeyAlone {
    /// The key without its text.
    pub api_key: KeyView,
}

/// A recipient as operators see it.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct RecipientView {
    /// An EVM address or a Solana wallet.
    pub address: String,
    /// The environment for which the address is registered.
    pub environment: Environment,
    /// The chains on which alone it is the tenant's; `null`: all of its family. A contract is asked on one chain.
    pub only_on: Option<Vec<String>>,
    /// How it was proven: `eip191`, `ed25519`, `erc1271`, `derived`; `null`: an operator registered it, or its first use.
    pub proof: Option<String>,
    /// The chains for which it is the default.
    pub default_for: Vec<String>,
    /// When it was registered, RFC 3339.
    pub created_at: String,
    /// When it was removed, RFC 3339; `null`: it is registered.
    pub removed_at: Option<String>,
}

/// The answer that holds one recipient.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct RecipientAlone {
    /// The recipient as it is stored.
    pub recipient: RecipientView,
}

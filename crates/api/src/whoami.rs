//! `GET /v1/whoami`: the key that asks, and its tenant.

use serde::Serialize;
use std::collections::BTreeMap;
use x402_chain::collect::map_of;
use x402_chain::network::Environment;
use x402_chain::time::UnixMillis;
use x402_core::tenancy::tenant::{ApiKey, Scope, Tenant, TenantStatus};
use x402_core::tenancy::tier::Tier;

/// The tenant that a key names.
#[derive(Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct WhoamiTenant {
    /// The tenant's id, `ten_…`.
    pub id: String,
    /// The company's name; `null` where none was given.
    pub company_name: Option<String>,
    /// The tier, which sets limits and chains.
    pub tier: Tier,
    /// Whether its requests are served: `active`, `suspended` or `cancelled`.
    pub status: TenantStatus,
    /// The location hint with which its ledgers are created; `null`: near the first request.
    pub region: Option<String>,
    /// Its default recipients by chain, in the key's environment.
    pub recipients: BTreeMap<String, String>,
}

/// The key that asks, without its text.
#[derive(Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct WhoamiKey {
    /// The key's id, `key_…`; not the key.
    pub id: String,
    /// The name that its owner gave it.
    pub name: String,
    /// The scopes that the key has.
    pub scopes: Vec<Scope>,
    /// When it was created, RFC 3339.
    pub created_at: String,
    /// When it expires, RFC 3339; `null`: never.
    pub expires_at: Option<String>,
    /// When it was last used, RFC 3339, to the minute; `null`: never.
    pub last_used_at: Option<String>,
}

/// The answer to `GET /v1/whoami`.
#[derive(Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Whoami {
    /// The tenant that the key belongs to.
    pub tenant: WhoamiTenant,
    /// The environment that the key belongs to.
    pub environment: Environment,
    /// The key that asks, without its text.
    pub api_key: WhoamiKey,
}

/// The answer about a key and its tenant.
#[must_use]
pub fn whoami(tenant: &Tenant, key: &ApiKey, last_used: Option<UnixMillis>) -> Whoami {
    let defaults = tenant
        .recipients
        .iter()
        .flat_map(|recipient| recipient.default_for.iter().map(|chain| (chain.clone(), recipient.address.to_string())));
    Whoami {
        tenant: WhoamiTenant {
            id: tenant.id.to_string(),
            company_name: tenant.company_name.clone(),
            tier: tenant.tier,
            status: tenant.status,
            region: tenant.region.clone(),
            recipients: map_of(defaults),
        },
        environment: tenant.environment,
        api_key: WhoamiKey {
            id: key.id.to_string(),
            name: key.name.clone(),
            scopes: key.scopes.clone(),
            created_at: key.created_at.rfc3339(),
            expires_at: key.expires_at.map(UnixMillis::rfc3339),
            last_used_at: last_used.map(UnixMillis::rfc3339),
        },
    }
}

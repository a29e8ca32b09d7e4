//! The request bodies of the operators' routes, member for member as in JSON; [`super`] checks and parses the values.

use crate::billing::TierBy;
use crate::body::{null_or_value, optional_map, optional_object, optional_variant, optional_variants, variant};
use serde::Deserialize;
use std::collections::BTreeMap;
use x402_chain::network::Environment;
use x402_core::tenancy::key::KeyKind;
use x402_core::tenancy::tenant::{Scope, TenantStatus};
use x402_core::tenancy::tier::Tier;
use x402_core::verdict::SanctionsPolicy;
#[cfg(not(target_arch = "wasm32"))]
use {schemars::Schema, schemars::SchemaGenerator, schemars::json_schema, x402_core::tenancy::tenant::REGIONS};

/// The body of `POST /v1/admin/tenants`.
#[derive(Debug, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TenantBody {
    /// Its e-mail address; no other tenant has it.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(email, length(min = 1, max = 254)))]
    pub email: String,
    /// The company's name.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 200)))]
    pub company_name: Option<String>,
    /// Its tier; default `free`.
    #[serde(default, deserialize_with = "optional_variant", skip_serializing_if = "Option::is_none")]
    pub tier: Option<Tier>,
    /// Where its ledgers live; default: near the first request. It cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(not(target_arch = "wasm32"), schemars(schema_with = "region_schema"))]
    pub region: Option<String>,
    /// Default recipients by chain. `derive` in an address's place: the next child of the operator's `EVM_XPUB`.
    #[serde(default, deserialize_with = "optional_map", skip_serializing_if = "Option::is_none")]
    pub recipients: Option<BTreeMap<String, String>>,
    /// Its own limits, in place of its tier's.
    #[serde(default, deserialize_with = "optional_object")]
    pub limits: Option<LimitsBody>,
    /// Whether a payment by a payer on the sanctions list is refused or only reported; default `refuse`.
    #[serde(default, deserialize_with = "optional_variant", skip_serializing_if = "Option::is_none")]
    pub sanctions: Option<SanctionsPolicy>,
    /// Whether a settle's success holds `extra` in its body too, for every request; default: only for those that send
    /// `Prefer: explain`.
    pub explain: Option<bool>,
}

/// The body of `PATCH /v1/admin/tenants/{id}`: an absent member stays unchanged. `null` counts as absent, unless the
/// member says otherwise.
#[derive(Debug, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TenantPatchBody {
    /// Its e-mail address; no other tenant has it.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(email, length(min = 1, max = 254)))]
    pub email: Option<String>,
    /// The company's name; `null` removes it.
    #[serde(default, deserialize_with = "null_or_value", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 200)))]
    pub company_name: Option<Option<String>>,
    /// Its tier. From then on Stripe does not change it: `tier_by` is `operator`.
    #[serde(default, deserialize_with = "optional_variant", skip_serializing_if = "Option::is_none")]
    pub tier: Option<Tier>,
    /// `billing`: the tier follows what is paid from now on; without `tier`. `operator`: it stays as it is.
    #[serde(default, deserialize_with = "optional_variant", skip_serializing_if = "Option::is_none")]
    pub tier_by: Option<TierBy>,
    /// Whether its requests are served.
    #[serde(default, deserialize_with = "optional_variant", skip_serializing_if = "Option::is_none")]
    pub status: Option<TenantStatus>,
    /// Default recipients by chain; `null` removes the address, which only the tenant itself can register
    /// again. `derive` in an address's
    /// place: the next child of the operator's `EVM_XPUB`.
    #[serde(default, deserialize_with = "optional_map", skip_serializing_if = "Option::is_none")]
    pub recipients: Option<BTreeMap<String, Option<String>>>,
    /// Its own limits, in place of its tier's; `null` gives the tier's back.
    #[serde(default, deserialize_with = "optional_object")]
    pub limits: Option<LimitsBody>,
    /// Whether a payment by a payer on the sanctions list is refused or only reported.
    #[serde(default, deserialize_with = "optional_variant", skip_serializing_if = "Option::is_none")]
    pub sanctions: Option<SanctionsPolicy>,
    /// Whether a settle's success holds `extra` in its body too, for every request.
    pub explain: Option<bool>,
}

/// A tenant's own limits, as a JSON merge patch (RFC 7396): an absent member stays unchanged, `null` gives the tier's
/// limit back.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct LimitsBody {
    /// Requests in any 60 seconds.
    #[serde(default, deserialize_with = "null_or_value", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 0, max = 1_000_000_000)))]
    pub per_minute: Option<Option<i64>>,
    /// Requests in any 60 minutes.
    #[serde(default, deserialize_with = "null_or_value", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 0, max = 1_000_000_000)))]
    pub per_hour: Option<Option<i64>>,
    /// Final verdicts in a calendar month (UTC); −1 is unlimited.
    #[serde(default, deserialize_with = "null_or_value", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = -1, max = 1_000_000_000)))]
    pub per_month: Option<Option<i64>>,
}

/// The body of `POST …/api-keys`.
#[derive(Debug, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct KeyBody {
    /// The name that its owner gives it.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 200)))]
    pub name: String,
    /// `live`: real money; `test`: test networks.
    #[serde(deserialize_with = "variant")]
    pub environment: Environment,
    /// `bearer` (default): sent in a header. `url`: stands in the path, `/facilitator/k/{key}/…`, and may only verify
    /// and settle.
    #[serde(default, deserialize_with = "optional_variant", skip_serializing_if = "Option::is_none")]
    pub kind: Option<KeyKind>,
    /// Its scopes; default: all that its kind may have, without `manage`.
    #[serde(default, deserialize_with = "optional_variants", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1)))]
    pub scopes: Option<Vec<Scope>>,
    /// When it expires, RFC 3339, in the future; default: never.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 40), extend("format" = "date-time")))]
    pub expires_at: Option<String>,
    /// The networks from which it may be used, of IPv4 or IPv6: CIDR (`203.0.113.0/24`), or one address; default: from
    /// everywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(max = 50), inner(length(min = 1, max = 50))))]
    pub allow_list: Option<Vec<String>>,
}

/// The body of `POST …/recipients`.
#[derive(Debug, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RecipientBody {
    /// The chain: our key (`base`) or its CAIP-2 id (`eip155:8453`).
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 64)))]
    pub chain: String,
    /// An EVM address or a Solana wallet. `derive`: the next child of the operator's `EVM_XPUB`.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 64)))]
    pub address: String,
    /// Whether it becomes the chain's default; where absent: if the chain has none.
    pub default: Option<bool>,
}

/// The body of `POST /v1/admin/chains/check`.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ChainsCheckBody {
    /// The chains to compare with the registry, by key or CAIP-2 id; default: all.
    pub chains: Option<Vec<String>>,
}

#[cfg(not(target_arch = "wasm32"))]
fn region_schema(_: &mut SchemaGenerator) -> Schema {
    let names: Vec<Option<&str>> = REGIONS.into_iter().map(Some).chain([None]).collect();
    json_schema!({ "enum": names })
}

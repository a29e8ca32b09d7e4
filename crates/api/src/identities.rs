//! Accounts of other services by which a person signs in.

use serde::Serialize;

/// An account of another service that was linked to the person's.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct IdentityView {
    /// The account's id here: the service and its own id of the account, as `github-583231`.
    pub id: String,
    /// The service: `github`.
    pub provider: String,
    /// The account's name there, when it was linked; `null` where it is not known.
    pub name: Option<String>,
    /// The network from which it was linked: a prefix of its addresses, or `unknown`.
    pub ip_prefix: String,
    /// When it was linked, RFC 3339.
    pub linked_at: String,
    /// When it signed the person in last, RFC 3339; `null` where that is not known.
    pub last_used_at: Option<String>,
    /// Since when it signs nobody in, RFC 3339; `null` where it does.
    pub ended_at: Option<String>,
}

/// The answer that holds one account.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct IdentityAlone {
    /// The account as it is stored.
    pub identity: IdentityView,
}

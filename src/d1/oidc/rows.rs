//! The rows about identity providers of tenants.

use crate::storage::{FromRow, RowReader};
use x402_chain::id::TenantId;
use x402_chain::time::UnixMillis;
use x402_core::error::Fault;
use x402_core::people::deletion::Deletion;
use x402_core::people::oidc::{MailDomain, is_open};
use x402_core::tenancy::role::Role;
use x402_core::tenancy::tenant::TenantStatus;
use x402_core::tenancy::tier::Tier;

/// The identity provider of a tenant.
pub struct OidcRow {
    /// The tenant.
    pub tenant: TenantId,
    /// The domain of its mail addresses.
    pub domain: MailDomain,
    /// The issuer.
    pub issuer: String,
    /// What the provider knows this service by.
    pub client_id: String,
    /// The client secret, encrypted.
    pub secret_sealed: String,
    /// The role of people who join.
    pub default_role: Role,
    /// What the DNS record holds.
    pub dns_token: String,
    /// When the record was first found; `None`: nobody signs in.
    pub proven_at: Option<UnixMillis>,
    /// When it was last found.
    pub checked_at: Option<UnixMillis>,
    /// When the settings were last changed.
    pub updated_at: UnixMillis,
    tier: Tier,
    status: TenantStatus,
    deletion_due_at: Option<UnixMillis>,
}

impl FromRow for OidcRow {
    const COLUMNS: &'static [&'static str] = &[
        "tenant_id",
        "domain",
        "issuer",
        "client_id",
        "secret_sealed",
        "default_role",
        "dns_token",
        "proven_ms",
        "checked_ms",
        "updated_ms",
        "tier",
        "status",
        "due_ms",
    ];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self {
            tenant: row.parse(TenantId::parse)?,
            domain: row.parse(MailDomain::parse)?,
            issuer: row.get()?,
            client_id: row.get()?,
            secret_sealed: row.get()?,
            default_role: row.parse(Role::parse)?,
            dns_token: row.get()?,
            proven_at: row.get()?,
            checked_at: row.get()?,
            updated_at: row.get()?,
            tier: row.parse(Tier::parse)?,
            status: row.parse(TenantStatus::parse)?,
            deletion_due_at: row.get()?,
        })
    }
}

impl OidcRow {
    /// Whether people sign in by it, as far as the tenant goes: the proof is another matter.
    #[must_use]
    pub fn is_open(&self) -> bool {
        let deletion = self.deletion_due_at.map_or(Deletion::None, |due_at| Deletion::Confirmed { due_at });
        is_open(self.tier, self.status, deletion)
    }
}

//! The rows about accounts of other services.

use crate::storage::{FromRow, RowReader};
use x402_api::identities::IdentityView;
use x402_chain::time::UnixMillis;
use x402_core::error::Fault;
use x402_core::people::mail::LinkedAccount;
use x402_core::people::oauth::{Identity, IdentityProvider};

/// A person whom another service names.
pub struct IdentityRow {
    /// The address by which the person signs in here.
    pub email: String,
    /// Whether the account was shut out.
    pub is_ended: bool,
}

impl FromRow for IdentityRow {
    const COLUMNS: &'static [&'static str] = &["email", "is_ended"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { email: row.get()?, is_ended: row.get()? })
    }
}

/// An account that was linked to a person's.
pub struct OwnIdentityRow {
    /// What the person reads.
    pub identity: IdentityView,
}

impl FromRow for OwnIdentityRow {
    const COLUMNS: &'static [&'static str] =
        &["provider", "subject", "name", "ip_prefix", "created_ms", "used_ms", "ended_ms"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        let (provider, subject) = (row.parse(IdentityProvider::parse)?, row.get::<String>()?);
        let identity = IdentityView {
            id: Identity { provider, subject: &subject }.id(),
            provider: provider.name(),
            name: row.get()?,
            ip_prefix: row.get()?,
            linked_at: row.get::<UnixMillis>()?.rfc3339(),
            last_used_at: row.get::<Option<UnixMillis>>()?.map(UnixMillis::rfc3339),
            ended_at: row.get::<Option<UnixMillis>>()?.map(UnixMillis::rfc3339),
        };
        Ok(Self { identity })
    }
}

/// What the mail about a linked account is made of.
pub struct IdentityMail {
    /// The address that it goes to.
    pub address: String,
    /// The origin of its link.
    pub origin: String,
    provider: IdentityProvider,
    subject: String,
    name: Option<String>,
    ip_prefix: String,
    created_at: UnixMillis,
}

impl FromRow for IdentityMail {
    const COLUMNS: &'static [&'static str] =
        &["address", "origin", "provider", "subject", "name", "ip_prefix", "created_ms"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self {
            address: row.get()?,
            origin: row.get()?,
            provider: row.parse(IdentityProvider::parse)?,
            subject: row.get()?,
            name: row.get()?,
            ip_prefix: row.get()?,
            created_at: row.get()?,
        })
    }
}

impl IdentityMail {
    /// What the mail says of the account.
    #[must_use]
    pub fn account(&self) -> LinkedAccount<'_> {
        LinkedAccount {
            identity: Identity { provider: self.provider, subject: &self.subject },
            name: self.name.as_deref(),
            at: self.created_at,
            ip_prefix: &self.ip_prefix,
        }
    }
}

//! The rows about deletions of tenants.

use crate::storage::{FromRow, RowReader};
use x402_chain::id::{DeletionId, PersonId, TenantId};
use x402_chain::time::UnixMillis;
use x402_core::error::Fault;
use x402_core::people::deletion::Deletion;

/// How far a deletion is that was confirmed.
fn confirmed(due_at: UnixMillis, erasing_since: Option<UnixMillis>) -> Deletion {
    if erasing_since.is_some() { Deletion::Erased { due_at } } else { Deletion::Confirmed { due_at } }
}

/// The deletion of a tenant.
pub struct DeletionRow {
    /// The hash of the newest mail's token.
    pub token_hash: String,
    /// How far it is.
    pub deletion: Deletion,
}

impl FromRow for DeletionRow {
    const COLUMNS: &'static [&'static str] = &["token_hash", "expires_ms", "due_ms", "erasing_ms"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        let (token_hash, expires_at) = (row.get()?, row.get()?);
        let (due_at, erasing_since) = (row.get::<Option<UnixMillis>>()?, row.get()?);
        let deletion = due_at.map_or(Deletion::Asked { expires_at }, |due_at| confirmed(due_at, erasing_since));
        Ok(Self { token_hash, deletion })
    }
}

/// A deletion about which something is to be done.
pub struct DueDeletion {
    /// The tenant.
    pub tenant: TenantId,
    /// How far it is.
    pub deletion: Deletion,
}

impl FromRow for DueDeletion {
    const COLUMNS: &'static [&'static str] = &["tenant_id", "due_ms", "erasing_ms"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { tenant: row.parse(TenantId::parse)?, deletion: confirmed(row.get()?, row.get()?) })
    }
}

/// A member of a tenant that is erased.
pub struct ErasedMember {
    /// The person.
    pub person: PersonId,
}

impl FromRow for ErasedMember {
    const COLUMNS: &'static [&'static str] = &["person_id"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { person: row.parse(PersonId::parse)? })
    }
}

/// What the mail that asks an owner is made of.
pub struct DeletionMail {
    /// The address that it goes to.
    pub address: String,
    /// The origin of its link.
    pub origin: String,
    /// The deletion.
    pub id: DeletionId,
    /// The tenant.
    pub tenant: TenantId,
    /// The hash of its token.
    pub token_hash: String,
    /// Until when it holds.
    pub expires_at: UnixMillis,
}

impl FromRow for DeletionMail {
    const COLUMNS: &'static [&'static str] = &["address", "origin", "id", "tenant_id", "token_hash", "expires_ms"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self {
            address: row.get()?,
            origin: row.get()?,
            id: row.parse(DeletionId::parse)?,
            tenant: row.parse(TenantId::parse)?,
            token_hash: row.get()?,
            expires_at: row.get()?,
        })
    }
}

//! The rows that operators read.

use crate::storage::{FromRow, RowReader};
use x402_api::operators::{FoundKind, FoundView};
use x402_chain::id::{PersonId, TenantId};
use x402_chain::network::Environment;
use x402_chain::time::UnixMillis;
use x402_core::error::Fault;

/// The next column: null, or text that `parse` understands.
fn optional<T>(row: &mut RowReader, parse: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>, Fault> {
    let read = row.get::<Option<String>>()?.map(|text| parse(&text).ok_or(()));
    read.transpose().map_err(|()| row.unreadable("is text of another form"))
}

/// Something that was found.
pub struct FoundRow {
    /// What operators read.
    pub found: FoundView,
}

impl FromRow for FoundRow {
    const COLUMNS: &'static [&'static str] = &["kind", "id", "tenant_id", "environment", "state", "created_ms"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        let found = FoundView {
            kind: row.parse(FoundKind::parse)?,
            id: row.get()?,
            tenant: optional(row, TenantId::parse)?.map(|tenant| tenant.to_string()),
            environment: optional(row, Environment::parse)?,
            state: row.get()?,
            created_at: row.get::<UnixMillis>()?.rfc3339(),
        };
        Ok(Self { found })
    }
}

/// A person who signs in.
pub struct PersonRow {
    /// `per_…`.
    pub id: PersonId,
    /// The address by which the person signs in.
    pub email: String,
}

impl FromRow for PersonRow {
    const COLUMNS: &'static [&'static str] = &["id", "email"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { id: row.parse(PersonId::parse)?, email: row.get()? })
    }
}

/// A mail that an operator repeats.
pub struct MailToRepeat {
    /// The address that it goes to.
    pub address: String,
    /// The tenant of an invitation; `None` of a request to sign in.
    pub tenant: Option<TenantId>,
}

impl FromRow for MailToRepeat {
    const COLUMNS: &'static [&'static str] = &["address", "tenant_id"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { address: row.get()?, tenant: optional(row, TenantId::parse)? })
    }
}

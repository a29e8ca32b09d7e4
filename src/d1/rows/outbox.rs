//! The rows of the directory's outbox.

use crate::storage::{FromRow, RowReader};
use serde_json::value::RawValue;
use x402_chain::id::{EventId, TenantId};
use x402_chain::network::Environment;
use x402_chain::time::UnixMillis;
use x402_core::error::Fault;
use x402_core::records::archive::ArchiveOwner;
use x402_core::records::events::EventCopy;

/// An event that its month's object does not hold yet, as far as is known.
pub struct UnshippedEvent {
    /// The event's id as it is stored.
    pub id: String,
    /// Whose records get the event, and the event; an error where this build does not know its form. Such a row waits, and
    /// holds no other up.
    pub event: Result<(ArchiveOwner, EventCopy), Fault>,
}

impl FromRow for UnshippedEvent {
    const COLUMNS: &'static [&'static str] =
        &["event_id", "tenant_id", "environment", "kind", "subject", "body", "created_ms"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        let [id, tenant, environment, kind, subject, body] =
            [row.get()?, row.get()?, row.get()?, row.get()?, row.get()?, row.get::<String>()?];
        let at: UnixMillis = row.get()?;
        let owner = TenantId::parse(&tenant).zip(Environment::parse(&environment));
        let read = owner.zip(EventId::parse(&id)).zip(RawValue::from_string(body).ok());
        let event = read.map(|(((tenant, environment), id), body)| {
            (ArchiveOwner { tenant, environment }, EventCopy { id, kind, subject, body, at, derived: false })
        });
        Ok(Self { id, event: event.ok_or_else(|| Fault::internal("an event of the directory has an unknown form")) })
    }
}

/// A tenant with events whose change ledgers may not hold, and one whose ledgers must load it.
pub struct TenantToLoad {
    /// The tenant with the events.
    pub owner: TenantId,
    /// The number of the last of these.
    pub last: u64,
    /// The tenant whose ledgers must load; `None` where the directory has none.
    pub id: Option<TenantId>,
    /// The version that its ledgers must hold at least.
    pub version: Option<u64>,
    /// Where its ledgers are made.
    pub region: Option<String>,
}

impl FromRow for TenantToLoad {
    const COLUMNS: &'static [&'static str] = &["owner", "last", "id", "version", "region"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        let (owner, last) = (row.parse(TenantId::parse)?, row.get()?);
        let id = row.get::<Option<String>>()?.map(|text| TenantId::parse(&text).ok_or(text)).transpose();
        let id = id.map_err(|_| row.unreadable("is text of another form"))?;
        Ok(Self { owner, last, id, version: row.get()?, region: row.get()? })
    }
}

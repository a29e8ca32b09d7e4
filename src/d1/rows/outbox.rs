//! The rows of the directory's outbox.

use crate::storage::{FromRow, RowReader};
use serde_json::value::RawValue;
use x402_chain::id::{EventId, TenantId};
use x402_chain::network::Environment;
use x402_core::error::Fault;
use x402_core::event::EventKind;
use x402_core::outbox::OutboxEvent;

/// An event that its month's object does not hold yet, as far as is known.
pub struct UnshippedEvent {
    /// The tenant to which it happened.
    pub tenant: TenantId,
    /// The environment whose records get it.
    pub environment: Environment,
    /// The event.
    pub event: OutboxEvent,
}

impl FromRow for UnshippedEvent {
    const COLUMNS: &'static [&'static str] =
        &["event_id", "tenant_id", "environment", "kind", "subject", "body", "created_ms"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        let (id, tenant) = (row.parse(EventId::parse)?, row.parse(TenantId::parse)?);
        let environment = row.parse(Environment::parse)?;
        let kind = row.parse(EventKind::parse)?;
        let (subject, body) = (row.get()?, row.parse(|text| RawValue::from_string(text.to_owned()).ok())?);
        Ok(Self { tenant, environment, event: OutboxEvent { id, kind, subject, body, at: row.get()? } })
    }
}

/// A tenant whose ledgers must hold a change.
pub struct TenantToLoad {
    /// The tenant.
    pub id: TenantId,
    /// The version that its ledgers must hold at least.
    pub version: u64,
    /// Where its ledgers are made.
    pub region: Option<String>,
    /// The address that it has lost to the tenant of the change; `None` where it is that tenant itself.
    pub lost: Option<String>,
}

impl FromRow for TenantToLoad {
    const COLUMNS: &'static [&'static str] = &["id", "version", "region", "lost"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { id: row.parse(TenantId::parse)?, version: row.get()?, region: row.get()?, lost: row.get()? })
    }
}

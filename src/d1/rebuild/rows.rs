//! The rows of what rebuilds a tenant.

use crate::storage::{FromRow, RowReader};
use x402_chain::id::{SettlementId, TenantId};
use x402_chain::network::Environment;
use x402_chain::time::Period;
use x402_core::error::Fault;
use x402_core::settlement::restored::KeptSettlement;
use x402_core::tenancy::admission::ClosedPeriod;

/// A ledger that is to be rebuilt.
pub struct LostLedgerRow {
    /// Whose it is.
    pub tenant: TenantId,
    /// Of which environment.
    pub environment: Environment,
}

impl FromRow for LostLedgerRow {
    const COLUMNS: &'static [&'static str] = &["tenant_id", "environment"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { tenant: row.parse(TenantId::parse)?, environment: row.parse(Environment::parse)? })
    }
}

/// A settlement as the directory holds it.
pub struct KeptSettlementRow {
    /// `stl_…`.
    pub id: SettlementId,
    /// What a ledger takes over of it.
    pub kept: KeptSettlement,
}

impl FromRow for KeptSettlementRow {
    const COLUMNS: &'static [&'static str] = &["id", "body", "course", "revision"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        let id = row.parse(SettlementId::parse)?;
        Ok(Self { id, kept: KeptSettlement { body: row.get()?, course: row.get()?, revision: row.get()? } })
    }
}

/// What a ledger has counted in a period.
pub struct UsageRow(pub ClosedPeriod);

impl FromRow for UsageRow {
    const COLUMNS: &'static [&'static str] = &["period", "verifications", "requests"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self(ClosedPeriod { period: row.parse(Period::parse)?, used: row.get()?, requests: row.get()? }))
    }
}

//! The rows of what operators watch.

use crate::storage::{FromRow, RowReader};
use x402_chain::time::UnixMillis;
use x402_core::alert::operator::OperatorAlert;
use x402_core::error::Fault;
use x402_core::tenancy::tier::Tier;

/// What the tenants of a tier have used.
pub struct TierUsageRow {
    /// The tier.
    pub tier: Tier,
    /// Tenants with verifications.
    pub tenants: u64,
    /// Their verifications.
    pub used: u64,
}

impl FromRow for TierUsageRow {
    const COLUMNS: &'static [&'static str] = &["tier", "tenants", "used"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { tier: row.parse(Tier::parse)?, tenants: row.get()?, used: row.get()? })
    }
}

/// Something that went wrong for all tenants.
pub struct IncidentRow {
    /// What kind.
    pub kind: OperatorAlert,
    /// The chain's key; empty for the service as a whole.
    pub chain: String,
    /// When it began.
    pub began: UnixMillis,
    /// When it had ended; `None` while it lasts.
    pub ended: Option<UnixMillis>,
}

impl FromRow for IncidentRow {
    const COLUMNS: &'static [&'static str] = &["kind", "chain", "began_ms", "ended_ms"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { kind: row.parse(OperatorAlert::parse)?, chain: row.get()?, began: row.get()?, ended: row.get()? })
    }
}

/// What a signer held at the last check of a day, and has spent on that day.
pub struct SignerBalanceRow {
    /// The chain's key.
    pub chain: String,
    /// The signer's address.
    pub signer: String,
    /// The start of the day.
    pub day: UnixMillis,
    /// In the coin's smallest unit.
    pub held: u128,
    /// By how much it has become less.
    pub spent: u128,
    /// When it was checked.
    pub at: UnixMillis,
}

impl FromRow for SignerBalanceRow {
    const COLUMNS: &'static [&'static str] = &["chain", "signer", "day_ms", "held", "spent", "at_ms"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        let number = |text: &str| text.parse().ok();
        Ok(Self {
            chain: row.get()?,
            signer: row.get()?,
            day: row.get()?,
            held: row.parse(number)?,
            spent: row.parse(number)?,
            at: row.get()?,
        })
    }
}

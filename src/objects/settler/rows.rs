//! The rows that a Settler's statements return.

use crate::storage::{FromRow, RowReader};
use x402_chain::address::{Address, Family};
use x402_chain::time::UnixMillis;
use x402_core::error::Fault;
use x402_core::messages::settler::HeldPayer;
use x402_core::settlement::flight::FlightVersions;
use x402_core::settlement::penalty::Penalty;
use x402_core::settlement::{Flight, SettlementReport};

/// A flight with every version that was signed.
pub struct FlightRow {
    /// Settlement and attempt, as [`Flight::key`] writes them.
    pub key: String,
    /// The nonce that it holds; on Solana 0.
    pub nonce: u64,
    /// The payment that is settled, and how.
    pub flight: Flight,
    /// Every version that was signed, and what nodes answered to it.
    pub sent: FlightVersions,
    /// How it ended; `None` while it is on its way.
    pub report: Option<SettlementReport>,
    /// Whether the ledger holds the report.
    pub is_reported: bool,
}

impl FromRow for FlightRow {
    const COLUMNS: &'static [&'static str] = &["key", "nonce", "flight", "sent", "report", "told"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self {
            key: row.get()?,
            nonce: row.get()?,
            flight: row.json()?,
            sent: row.json()?,
            report: row.optional_json()?,
            is_reported: row.get()?,
        })
    }
}

/// A flight that is on its way.
pub struct FlyingFlight {
    /// Settlement and attempt, as [`Flight::key`] writes them.
    pub key: String,
    /// The flight. One that cannot be read must not keep others from being launched.
    pub flight: Result<Flight, Fault>,
}

impl FromRow for FlyingFlight {
    const COLUMNS: &'static [&'static str] = &["key", "flight"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { key: row.get()?, flight: row.json() })
    }
}

/// The key of a flight.
pub struct FlightKey {
    /// Settlement and attempt, as [`Flight::key`] writes them.
    pub key: String,
}

impl FromRow for FlightKey {
    const COLUMNS: &'static [&'static str] = &["key"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { key: row.get()? })
    }
}

/// The nonce of a flight that is on its way.
pub struct FlightNonce {
    /// The signer's nonce.
    pub nonce: u64,
}

impl FromRow for FlightNonce {
    const COLUMNS: &'static [&'static str] = &["nonce"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { nonce: row.get()? })
    }
}

/// A completed flight that is polled for finality.
pub struct TrackedFlight {
    /// Settlement and attempt, as [`Flight::key`] writes them.
    pub key: String,
    /// When it was completed: in a block after six hours it counts as final.
    pub since: UnixMillis,
}

impl FromRow for TrackedFlight {
    const COLUMNS: &'static [&'static str] = &["key", "since_ms"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { key: row.get()?, since: row.get()? })
    }
}

impl FromRow for Penalty {
    const COLUMNS: &'static [&'static str] = &["count", "until_ms"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { count: row.get()?, until: row.get()? })
    }
}

impl FromRow for HeldPayer {
    const COLUMNS: &'static [&'static str] = &["payer", "until_ms"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        let payer = |text: &str| [Family::Evm, Family::Svm].iter().find_map(|family| Address::parse(*family, text));
        Ok(Self { payer: row.parse(payer)?, until: row.get()? })
    }
}

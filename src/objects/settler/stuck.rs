//! Flights that cannot be carried on: each is logged, and their number is reported to the directory for `/v1/health`,
//! also of a signer that is not configured. None of them delays another.

use super::Settler;
use crate::app;
use crate::app::db;
use crate::d1;
use crate::telemetry::{TelemetryField, TelemetryKind, event};
use x402_chain::network::by_key;
use x402_core::error::Fault;

/// The name of the stored network key: a flight that cannot be read does not name its network.
const CHAIN: &str = "chain";

impl Settler {
    /// Counts a flight that is skipped because of a fault, and logs it once a minute.
    pub(super) fn note_stuck(&self, key: &str, fault: &Fault) {
        if self.stuck_flights.borrow_mut().note_failure(key, app::now()) {
            event(TelemetryKind::FlightStuck, &[TelemetryField::Flight(key), TelemetryField::Cause(fault)]);
        }
    }

    /// Stores which network this settler is for, once.
    pub(super) fn note_chain(&self, chain: &str) -> Result<(), Fault> {
        if self.stored_value::<String>(CHAIN)? == chain { Ok(()) } else { self.put_stored_value(CHAIN, &chain) }
    }

    /// Reports the number of flights that cannot be carried on, if a report is due.
    pub(super) async fn report_stuck(&self) -> Result<(), Fault> {
        let due = self.stuck_flights.borrow_mut().due_count(app::now());
        let Some(count) = due else { return Ok(()) };
        let chain = by_key(&self.stored_value::<String>(CHAIN)?)
            .ok_or_else(|| Fault::internal("a settler's network is not in the registry"))?;
        let id = self.state.id().to_string();
        d1::put_stuck(&db(&self.env)?, &id, chain.key, count, app::now()).await?;
        self.stuck_flights.borrow_mut().note_reported(count, app::now());
        Ok(())
    }
}

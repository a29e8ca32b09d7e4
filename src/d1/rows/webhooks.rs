//! The rows of webhook endpoints.

use crate::storage::{FromRow, RowReader};
use x402_chain::id::EndpointId;
use x402_chain::time::UnixMillis;
use x402_core::error::Fault;
use x402_core::webhook::subscription::WebhookSubscription;

impl FromRow for WebhookSubscription {
    const COLUMNS: &'static [&'static str] =
        &["id", "events", "disabled_ms", "active_ms", "earlier_disabled_ms", "earlier_active_ms"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        let (id, events) = (row.parse(EndpointId::parse)?, row.json()?);
        let (disabled_at, active_at) = (row.get()?, row.get()?);
        let (from, until): (Option<UnixMillis>, Option<UnixMillis>) = (row.get()?, row.get()?);
        Ok(Self { id, events, disabled_at, active_at, earlier: from.zip(until), made_at: None })
    }
}

//! The rows of webhook endpoints.

use crate::storage::{FromRow, RowReader};
use x402_chain::id::EndpointId;
use x402_core::error::Fault;
use x402_core::webhook::subscription::WebhookSubscription;

impl FromRow for WebhookSubscription {
    const COLUMNS: &'static [&'static str] = &["id", "events"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { id: row.parse(EndpointId::parse)?, events: row.json()? })
    }
}

//! What waits for Couriers that have not taken it.

use super::LedgerStore;
use crate::objects::ledger::rows::{OutboxSize, WaitingWebhook};
use crate::objects::ledger::sql;
use crate::objects::sqlite::storage_failed;
use x402_chain::id::EndpointId;
use x402_core::error::Fault;

impl LedgerStore {
    /// Whether anything waits.
    pub(in crate::objects::ledger) fn has_webhooks(&self) -> Result<bool, Fault> {
        Ok(self.first(sql::WEBHOOKS_ANY, Vec::new())?.is_some())
    }

    /// Has an event wait for a Courier.
    pub(in crate::objects::ledger) fn put_webhook(&self, endpoint: EndpointId, event: &str) -> Result<(), Fault> {
        self.run(sql::WEBHOOK_PUT, vec![endpoint.to_string().into(), event.into()])
    }

    /// The oldest events that wait for a Courier, with their sizes in bytes.
    pub(in crate::objects::ledger) fn webhook_sizes(
        &self,
        endpoint: EndpointId,
        limit: i64,
    ) -> Result<Vec<OutboxSize>, Fault> {
        self.rows(sql::WEBHOOK_SIZES, vec![endpoint.to_string().into(), limit.into()])
    }

    /// The oldest events that wait for a Courier, up to one.
    pub(in crate::objects::ledger) fn webhooks(
        &self,
        endpoint: EndpointId,
        upto: i64,
    ) -> Result<Vec<WaitingWebhook>, Fault> {
        self.rows(sql::WEBHOOKS_GET, vec![endpoint.to_string().into(), upto.into()])
    }

    /// Deletes events that a Courier has taken, up to one.
    pub(in crate::objects::ledger) fn delete_webhooks(&self, endpoint: EndpointId, upto: i64) -> Result<(), Fault> {
        self.run(sql::WEBHOOKS_DELETE, vec![endpoint.to_string().into(), upto.into()])
    }

    /// Deletes what waits for other endpoints: they are gone, or disabled.
    pub(in crate::objects::ledger) fn forget_webhooks_but(&self, endpoints: &[EndpointId]) -> Result<(), Fault> {
        let endpoints = serde_json::to_string(endpoints).map_err(storage_failed)?;
        self.run(sql::WEBHOOKS_FORGET, vec![endpoints.into()])
    }
}

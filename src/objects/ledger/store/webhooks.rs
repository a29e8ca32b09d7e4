//! What waits for Couriers that have not taken it, and from when on endpoints have missed events.

use super::LedgerStore;
use crate::objects::ledger::rows::{OutboxSize, WaitingWebhook};
use crate::objects::ledger::sql;
use x402_chain::id::EndpointId;
use x402_core::error::Fault;
use x402_core::webhook::backlog::Backlog;
use x402_core::webhook::missed::Missed;

/// The name of the stored [`Backlog`].
const BACKLOG: &str = "webhooks_backlog";
/// The name of what endpoints have missed.
const MISSED: &str = "webhooks_missed";

impl LedgerStore {
    /// Whether anything waits.
    pub(in crate::objects::ledger) fn has_webhooks(&self) -> Result<bool, Fault> {
        Ok(self.first(sql::WEBHOOKS_ANY, Vec::new())?.is_some())
    }

    /// The endpoints for which something waits, as they are stored.
    pub(in crate::objects::ledger) fn waiting_endpoints(&self) -> Result<Vec<String>, Fault> {
        let (mut all, mut after) = (Vec::new(), String::new());
        while let Some(next) = self.first(sql::WEBHOOKS_NEXT, vec![after.into()])? {
            after = next.endpoint.clone();
            all.push(next.endpoint);
        }
        Ok(all)
    }

    /// How much waits for each endpoint.
    pub(in crate::objects::ledger) fn backlog(&self) -> Result<Backlog, Fault> {
        Ok(self.state(BACKLOG)?.unwrap_or_default())
    }

    pub(in crate::objects::ledger) fn put_backlog(&self, backlog: &Backlog) -> Result<(), Fault> {
        self.put_state(BACKLOG, backlog)
    }

    /// What endpoints have missed.
    pub(in crate::objects::ledger) fn missed(&self) -> Result<Missed, Fault> {
        Ok(self.state(MISSED)?.unwrap_or_default())
    }

    pub(in crate::objects::ledger) fn put_missed(&self, missed: &Missed) -> Result<(), Fault> {
        self.put_state(MISSED, missed)
    }

    /// Has an event wait for a Courier.
    pub(in crate::objects::ledger) fn put_webhook(&self, endpoint: EndpointId, event: &str) -> Result<(), Fault> {
        self.run(sql::WEBHOOK_PUT, vec![endpoint.to_string().into(), event.into()])
    }

    /// The oldest events that wait for a Courier, with their sizes in bytes.
    pub(in crate::objects::ledger) fn webhook_sizes(
        &self,
        endpoint: &str,
        limit: i64,
    ) -> Result<Vec<OutboxSize>, Fault> {
        self.rows(sql::WEBHOOK_SIZES, vec![endpoint.into(), limit.into()])
    }

    /// The oldest events that wait for a Courier, up to one.
    pub(in crate::objects::ledger) fn webhooks(
        &self,
        endpoint: EndpointId,
        upto: i64,
    ) -> Result<Vec<WaitingWebhook>, Fault> {
        self.rows(sql::WEBHOOKS_GET, vec![endpoint.to_string().into(), upto.into()])
    }

    /// Deletes events up to one: a Courier has taken them, or its endpoint is gone. Runs in a transaction, with its count.
    pub(in crate::objects::ledger) fn delete_webhooks(
        &self,
        endpoint: &str,
        (upto, bytes): (i64, usize),
    ) -> Result<(), Fault> {
        self.run(sql::WEBHOOKS_DELETE, vec![endpoint.into(), upto.into()])?;
        let Some(id) = EndpointId::parse(endpoint) else { return Ok(()) };
        let (mut backlog, is_last) = (self.backlog()?, self.webhook_sizes(endpoint, 1)?.is_empty());
        backlog.remove(id, bytes, is_last);
        self.put_backlog(&backlog)
    }
}

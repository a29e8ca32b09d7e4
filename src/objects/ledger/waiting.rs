//! Sends Couriers what waits for them: first what an endpoint has missed before the ledger knew it, or that it was active again,
//! which is read from the months, then what its Courier had not taken, the oldest first. What waits and is older than what was missed
//! comes before both. Each endpoint's is a piece of work of its own, which an alarm
//! begins, or the loading of an endpoint, and does not wait for: a Courier that hangs delays no alarm, no list and no other endpoint. What is cut off is sent
//! again: a Courier stores an event once.

use super::TenantLedger;
use super::hear::HandingOver;
use super::store::LedgerStore;
use crate::app::{couriers, records};
use crate::clients::courier::hand_over;
use crate::clients::records::RecordsClient;
use crate::objects::alarm::Working;
use crate::telemetry::{TelemetryField, TelemetryKind, event};
use std::rc::Rc;
use worker::ObjectNamespace;
use x402_chain::id::{EndpointId, EventId};
use x402_chain::time::{Period, UnixMillis};
use x402_core::error::Fault;
use x402_core::messages::courier::CourierItem;
use x402_core::outbox::load::ShipmentLoad;
use x402_core::records::archive::ArchiveOwner;
use x402_core::records::events::{EventCopy, EventsQuery};
use x402_core::webhook::missed::Span;
use x402_core::webhook::subscription::WebhookSubscription;

/// The most rows that are read for one message to a Courier.
const ROWS_MAX: i64 = 100;
/// The most messages to a Courier of what has waited, in one piece of work.
const MESSAGES_MAX: usize = 200;
/// The most rows of an endpoint that is gone that one alarm deletes.
const GONE_ROWS_MAX: i64 = 500;
/// Events that are read at once.
const MISSED_ROWS: usize = 2_000;
/// The most bytes of them, or one event.
const MISSED_BYTES: usize = 8_388_608;

impl TenantLedger {
    /// Begins to send what waits for Couriers, unless that goes on already; deletes what waits for endpoints that are gone.
    /// Nothing is deleted as long as the endpoints are not known.
    pub(super) fn send_waiting(&self) -> Result<(), Fault> {
        let store = self.store();
        let known = self.with_state(|memory| {
            Ok(memory.tenant.webhooks.clone().map(|endpoints| (memory.tenant.id, memory.tenant.environment, endpoints)))
        })?;
        let Some((tenant, environment, endpoints)) = known else { return Ok(()) };
        let waiting = store.waiting_endpoints()?;
        let gone = waiting.iter().filter(|text| !endpoints.iter().any(|one| one.id.to_string() == **text));
        for text in gone {
            let sizes = store.webhook_sizes(text, GONE_ROWS_MAX)?;
            let bytes = sizes.iter().fold(0_usize, |sum, size| sum.saturating_add(size.bytes));
            if let Some(last) = sizes.last() {
                store.atomically(|| store.delete_webhooks(text, (last.seq, bytes)))?;
            }
        }
        if endpoints.is_empty() {
            return Ok(());
        }
        let missed = store.missed()?;
        for endpoint in endpoints {
            let is_wanted = missed.get(endpoint.id).is_some() || waiting.contains(&endpoint.id.to_string());
            if is_wanted && self.handing_over.sending.borrow_mut().insert(endpoint.id) {
                let work = WaitingWork {
                    store: self.store(),
                    couriers: couriers(&self.env)?,
                    months: RecordsClient {
                        namespace: records(&self.env)?,
                        owner: ArchiveOwner { tenant, environment },
                    },
                    endpoint,
                    handing_over: Rc::clone(&self.handing_over),
                    working: Rc::clone(&self.working),
                };
                self.state.wait_until(work.run());
            }
        }
        Ok(())
    }
}

/// What sends one endpoint's Courier what waits for it.
struct WaitingWork {
    store: LedgerStore,
    couriers: ObjectNamespace,
    months: RecordsClient,
    endpoint: WebhookSubscription,
    handing_over: Rc<HandingOver>,
    working: Rc<Working>,
}

impl WaitingWork {
    async fn run(self) {
        let _working = self.working.begin();
        if let Err(fault) = self.send().await {
            event(TelemetryKind::CouriersBehind, &[TelemetryField::Cause(&fault)]);
        }
        self.handing_over.sending.borrow_mut().remove(&self.endpoint.id);
    }

    async fn send(&self) -> Result<(), Fault> {
        for _ in 0..MESSAGES_MAX {
            let missed = self.store.missed()?.get(self.endpoint.id);
            if self.send_oldest(missed.map(|(from, _)| from)).await? {
                continue;
            }
            let Some(missed) = missed else { break };
            // What was changed meanwhile is for a piece of work that knows the endpoint as it is now.
            if !self.send_missed(missed).await? {
                break;
            }
        }
        Ok(())
    }

    /// Sends the oldest of what waits, as far as it has happened before a time; whether there was any. One that cannot be read
    /// is left out.
    async fn send_oldest(&self, before: Option<UnixMillis>) -> Result<bool, Fault> {
        let (id, text, mut load) = (self.endpoint.id, self.endpoint.id.to_string(), ShipmentLoad::default());
        let mut sizes = self.store.webhook_sizes(&text, ROWS_MAX)?;
        let fitting = sizes.iter().take_while(|size| load.accept(size.bytes)).count();
        sizes.truncate(fitting);
        let Some(upto) = sizes.last().map(|size| size.seq) else { return Ok(false) };
        let (mut items, mut bytes, mut last) = (Vec::new(), 0_usize, None);
        for (row, size) in self.store.webhooks(id, upto)?.into_iter().zip(sizes) {
            match row.event {
                Ok(event) if before.is_some_and(|before| event.id.created_at() >= before) => break,
                Ok(event) => items.push(CourierItem::from(event)),
                Err(fault) => event(TelemetryKind::WebhookUnread, &[TelemetryField::Cause(&fault)]),
            }
            (bytes, last) = (bytes.saturating_add(size.bytes), Some(size.seq));
        }
        let Some(last) = last else { return Ok(false) };
        self.hand_over(id, items).await?;
        self.store.atomically(|| self.store.delete_webhooks(&text, (last, bytes)))?;
        Ok(true)
    }

    async fn hand_over(&self, id: EndpointId, items: Vec<CourierItem>) -> Result<(), Fault> {
        if items.is_empty() { Ok(()) } else { hand_over(&self.couriers, id, items).await }
    }

    /// Sends what has happened from a time on, and before another, as far as its month has it: all that was shipped before the
    /// ledger knew the endpoint. What was not waits behind it, or in the outbox. All of it is one page of the month, as a rule:
    /// so it holds no event without those of the same payment that come before it. More is read in parts. Returns `false`, and
    /// stops, where the endpoint is gone or has missed more meanwhile.
    async fn send_missed(&self, (mut from, to): Span) -> Result<bool, Fault> {
        let mut span = to.since(from);
        while from < to {
            let month = Period::of(from);
            let before = from.plus(span).min(to).min(month.end());
            let query = EventsQuery {
                before: Some(EventId::new(before, [0; 10])),
                from: Some(EventId::new(from, [0; 10])),
                kinds: Vec::new(),
                subject: None,
                rows: MISSED_ROWS,
                bytes: MISSED_BYTES,
            };
            let page = self.months.page_events(month, query).await?;
            if page.floor.is_some() && before.since(from) > 1 {
                span = before.since(from) / 2;
                continue;
            }
            self.send_events(page.events.into_iter().rev()).await?;
            let noted = (from, to);
            (from, span) = (before, span.saturating_mul(2));
            if !self.note_missed(noted, (from < to).then_some((from, to)))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn send_events(&self, events: impl Iterator<Item = EventCopy>) -> Result<(), Fault> {
        let (id, mut load, mut items) = (self.endpoint.id, ShipmentLoad::default(), Vec::new());
        for event in events.filter(|event| self.endpoint.hears(event.id, &event.kind)) {
            let bytes = event.body.get().len();
            if !load.accept(bytes) {
                self.hand_over(id, core::mem::take(&mut items)).await?;
                load = ShipmentLoad::default();
                load.accept(bytes);
            }
            items.push(CourierItem::from(event));
        }
        self.hand_over(id, items).await
    }

    /// Notes what the endpoint has still missed of this, unless that has changed; whether it has not.
    fn note_missed(&self, before: Span, left: Option<Span>) -> Result<bool, Fault> {
        let mut missed = self.store.missed()?;
        let is_noted = missed.note(self.endpoint.id, before, left);
        if is_noted {
            self.store.put_missed(&missed)?;
        }
        Ok(is_noted)
    }
}

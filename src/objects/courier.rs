//! `Courier`: one Durable Object for each webhook endpoint. It delivers events at least once, those of one payment in their
//! order, by a schedule of some 28 hours. An endpoint that is slow or away delays its own events alone.

mod alarm;
mod deliver;
#[allow(unreachable_pub, reason = "public natively, for tests")]
pub mod migrations;
#[allow(unreachable_pub, reason = "public natively, for tests")]
pub mod rows;
#[allow(unreachable_pub, reason = "public natively, for tests")]
pub mod sql;
mod store;

use crate::app;
use crate::objects::alarm::PacedWork;
use crate::telemetry::{TelemetryField, TelemetryKind, event};
use futures_channel::oneshot;
use std::cell::{Cell, RefCell};
use store::CourierStore;
use worker::{DurableObject, Env, Request, Response, State, durable_object};
use x402_chain::id::{EndpointId, EventId};
use x402_chain::time::UnixMillis;
use x402_core::error::{Fault, json_place};
use x402_core::messages::courier::{
    CourierEnvelope, CourierItem, CourierMessage, CourierReply, DeliveriesPage, DeliveriesQuery,
};
use x402_core::webhook::breaker::EndpointBreaker;
use x402_core::webhook::delivery::{WAITING_MAX, is_acceptable};

/// The name of the stored endpoint's id.
const ENDPOINT: &str = "endpoint";
/// The name of the stored [`EndpointBreaker`].
const BREAKER: &str = "breaker";
/// The name of the stored [`deliver::DisableReason`], while the directory does not have it.
const DISABLE: &str = "disable";
/// The most rows that one page looks at.
const PAGE_ROWS_MAX: usize = 1_000;
/// Deliveries that are opened again in one transaction.
const REOPENED_MAX: usize = 200;

/// The deliveries of one webhook endpoint.
#[durable_object]
pub struct Courier {
    state: State,
    env: Env,
    /// Whether the schema is up to date, as far as this instance knows.
    opened: Cell<bool>,
    /// The time of the next alarm, as far as this instance knows.
    alarm_at: Cell<Option<UnixMillis>>,
    /// Whether an alarm delivers.
    is_running: Cell<bool>,
    /// Whether the endpoint was changed since an alarm has read it.
    is_stale: Cell<bool>,
    /// Wakes the alarm that delivers.
    nudge: RefCell<Option<oneshot::Sender<()>>>,
    /// The last number of a delivery.
    seq: Cell<i64>,
    /// How many deliveries wait; `None` until they are counted.
    waiting: Cell<Option<u64>>,
}

impl DurableObject for Courier {
    fn new(state: State, env: Env) -> Self {
        let (opened, alarm_at, is_running, is_stale) =
            (Cell::new(false), Cell::new(None), Cell::new(false), Cell::new(false));
        let (nudge, seq, waiting) = (RefCell::new(None), Cell::new(0), Cell::new(None));
        Self { state, env, opened, alarm_at, is_running, is_stale, nudge, seq, waiting }
    }

    async fn fetch(&self, mut request: Request) -> worker::Result<Response> {
        let body = request.text().await?;
        let reply = match serde_json::from_str(&body) {
            Ok(envelope) => self.answer(envelope, app::now()).await,
            Err(error) => Err(Fault::internal(format!("a courier could not read its message: {}", json_place(&error)))),
        };
        let reply = reply.unwrap_or_else(|fault| {
            event(TelemetryKind::CourierFailed, &[TelemetryField::Cause(&fault)]);
            CourierReply::Failed(fault.code.as_str().to_owned())
        });
        Response::ok(reply.encode()?)
    }

    async fn alarm(&self) -> worker::Result<Response> {
        self.run_alarm().await;
        Response::empty()
    }
}

impl Courier {
    fn store(&self) -> CourierStore {
        CourierStore::new(&self.state.storage())
    }

    async fn answer(&self, envelope: CourierEnvelope, now: UnixMillis) -> Result<CourierReply, Fault> {
        match envelope.message {
            CourierMessage::Accept(items) => self.accept(envelope.endpoint, &items, now).await,
            CourierMessage::List(query) => self.page(&query).map(CourierReply::Page),
            CourierMessage::Read { event } => {
                let found = if self.open_stored()? { self.store().delivery(event)? } else { None };
                Ok(CourierReply::Delivery(found))
            }
            CourierMessage::Redeliver { event } => self.redeliver(event, now).await,
            CourierMessage::RedeliverSince { since } => self.redeliver_since(since, now).await,
            CourierMessage::Wake => self.read_endpoint_again(now).await,
            CourierMessage::Erase => self.erase().await,
        }
    }

    /// Brings what is stored up to date; whether anything is stored. An object that stores nothing stays so.
    fn open_stored(&self) -> Result<bool, Fault> {
        if self.opened.get() {
            return Ok(true);
        }
        let store = self.store();
        if !store.is_made()? {
            return Ok(false);
        }
        store.make_schema()?;
        self.opened.set(true);
        Ok(true)
    }

    /// A number greater than all before: the time in microseconds, or the next one.
    fn next_seq(&self, now: UnixMillis) -> i64 {
        let at = i64::try_from(now.0.saturating_mul(1_000)).unwrap_or(i64::MAX);
        let seq = at.max(self.seq.get().saturating_add(1));
        self.seq.set(seq);
        seq
    }

    /// How many deliveries wait.
    fn count_waiting(&self, store: &CourierStore) -> Result<u64, Fault> {
        match self.waiting.get() {
            Some(count) => Ok(count),
            None => store.waiting(),
        }
    }

    /// Stores events that are new, in one transaction.
    async fn accept(
        &self,
        endpoint: EndpointId,
        items: &[CourierItem],
        now: UnixMillis,
    ) -> Result<CourierReply, Fault> {
        let store = self.store();
        if !self.open_stored()? {
            store.make_schema()?;
            self.opened.set(true);
        }
        let counted = self.count_waiting(&store)?;
        let accepted = store.atomically(|| {
            if store.state::<EndpointId>(ENDPOINT)?.is_none() {
                store.put_state(ENDPOINT, &endpoint)?;
            }
            let mut waiting = counted;
            for item in items.iter().filter(|item| is_acceptable(item.event.id, now)) {
                let seq = self.next_seq(now);
                if waiting >= WAITING_MAX {
                    store.put_ended(item, seq, now)?;
                } else if store.put(item, seq, now)? {
                    waiting = waiting.saturating_add(1);
                }
            }
            Ok(waiting)
        });
        // Without a commit they are counted again.
        self.waiting.set(accepted.as_ref().ok().copied());
        accepted?;
        self.wake_to_deliver(app::now()).await;
        Ok(CourierReply::Taken)
    }

    fn page(&self, query: &DeliveriesQuery) -> Result<DeliveriesPage, Fault> {
        let mut page = DeliveriesPage::default();
        if !self.open_stored()? {
            return Ok(page);
        }
        // Greater than every id, for the first page.
        let before = query.before.map_or_else(|| "evt_~".to_owned(), |id| id.to_string());
        let rows = self.store().before(&before, PAGE_ROWS_MAX)?;
        let (is_cut, mut last) = (rows.len() >= PAGE_ROWS_MAX, None);
        for row in rows {
            if page.deliveries.len() >= query.rows {
                page.floor = last;
                return Ok(page);
            }
            last = Some(row.event);
            if query.state.is_none_or(|state| state == row.state) {
                page.deliveries.push(row);
            }
        }
        page.floor = last.filter(|_| is_cut);
        Ok(page)
    }

    async fn redeliver(&self, event: EventId, now: UnixMillis) -> Result<CourierReply, Fault> {
        if !self.open_stored()? {
            return Ok(CourierReply::Redelivered(0));
        }
        let (store, seq) = (self.store(), self.next_seq(now));
        let is_known = store.atomically(|| {
            if store.reopen(event, seq, now)? {
                return Ok(true);
            }
            store.hasten(event, now)?;
            Ok(store.delivery(event)?.is_some())
        })?;
        self.waiting.set(None);
        self.wake_to_deliver(app::now()).await;
        Ok(CourierReply::Redelivered(u64::from(is_known)))
    }

    async fn redeliver_since(&self, since: UnixMillis, now: UnixMillis) -> Result<CourierReply, Fault> {
        if !self.open_stored()? {
            return Ok(CourierReply::Redelivered(0));
        }
        let (store, mut work, mut after, mut count) = (self.store(), PacedWork::begin(), String::new(), 0_u64);
        let from = EventId::new(since, [0; 10]);
        let left = WAITING_MAX.saturating_sub(self.count_waiting(&store)?);
        loop {
            let found = store.exhausted(&after, from, REOPENED_MAX)?;
            let is_last = found.len() < REOPENED_MAX;
            let room = usize::try_from(left.saturating_sub(count)).unwrap_or(usize::MAX);
            let opened = store.atomically(|| {
                let mut opened = 0_u64;
                for event in found.iter().take(room) {
                    opened = opened.saturating_add(u64::from(store.reopen(*event, self.next_seq(now), now)?));
                }
                Ok(opened)
            })?;
            self.waiting.set(None);
            count = count.saturating_add(opened);
            match found.last() {
                Some(last) if !is_last && count < left => after = last.to_string(),
                Some(_) | None => break,
            }
            work.pause().await;
        }
        self.wake_to_deliver(app::now()).await;
        Ok(CourierReply::Redelivered(count))
    }

    /// The endpoint was changed: it is read before anything is sent, and is asked again if it had failed.
    async fn read_endpoint_again(&self, now: UnixMillis) -> Result<CourierReply, Fault> {
        if self.open_stored()? {
            let store = self.store();
            if store.state::<EndpointBreaker>(BREAKER)?.unwrap_or_default() != EndpointBreaker::default() {
                store.put_state(BREAKER, &EndpointBreaker::default())?;
            }
            self.is_stale.set(true);
            self.wake_to_deliver(now).await;
        }
        Ok(CourierReply::Taken)
    }

    /// Deletes all that is stored. An alarm that delivers does so itself, once it finds that the endpoint is gone.
    async fn erase(&self) -> Result<CourierReply, Fault> {
        if self.is_running.get() {
            self.is_stale.set(true);
            self.nudge_alarm();
            return Ok(CourierReply::Taken);
        }
        self.delete_stored().await?;
        Ok(CourierReply::Erased)
    }

    async fn delete_stored(&self) -> Result<(), Fault> {
        self.opened.set(false);
        self.waiting.set(None);
        self.alarm_at.set(None);
        self.state.storage().delete_alarm().await.map_err(Fault::internal)?;
        self.state.storage().delete_all().await.map_err(Fault::internal)
    }
}

//! `Courier`: one Durable Object for each webhook endpoint. It delivers events at least once, those of one payment in their
//! order, by a schedule of some 28 hours. An endpoint that is slow or away delays its own events alone.

mod alarm;
mod attempt;
mod deliver;
#[allow(unreachable_pub, reason = "public natively, for tests")]
pub mod migrations;
mod redeliver;
#[allow(unreachable_pub, reason = "public natively, for tests")]
pub mod rows;
#[allow(unreachable_pub, reason = "public natively, for tests")]
pub mod sql;
mod store;

use crate::app;
use crate::reporting;
use crate::telemetry::{TelemetryField, TelemetryKind, event};
use futures_channel::oneshot;
use std::cell::{Cell, RefCell};
use store::CourierStore;
use worker::{DurableObject, Env, Request, Response, State, durable_object};
use x402_chain::id::EndpointId;
use x402_chain::time::UnixMillis;
use x402_core::error::{Fault, json_place};
use x402_core::messages::courier::{
    CourierEnvelope, CourierItem, CourierMessage, CourierReply, DeliveriesPage, DeliveriesQuery,
};
use x402_core::webhook::breaker::EndpointBreaker;
use x402_core::webhook::changes::ReportedChanges;
use x402_core::webhook::delivery::is_acceptable;
use x402_core::webhook::retention::has_room;
use x402_core::webhook::trial::TestCount;

/// The name of the stored endpoint's id.
const ENDPOINT: &str = "endpoint";
/// The name of the stored [`EndpointBreaker`].
const BREAKER: &str = "breaker";
/// The name of the stored [`deliver::DisableReason`], while the directory does not have it.
const DISABLE: &str = "disable";
/// The name of the stored URL at which that was found.
const DISABLE_URL: &str = "disable_url";
/// The name of the stored [`x402_core::webhook::redelivery::Redelivery`], while something is left of it.
const REDELIVERY: &str = "redelivery";
/// The most rows that one page looks at.
const PAGE_ROWS_MAX: usize = 1_000;

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
    changes: ReportedChanges,
    /// Wakes the alarm that delivers.
    nudge: RefCell<Option<oneshot::Sender<()>>>,
    /// Whether it was to be woken since it has looked at what is due.
    is_nudged: Cell<bool>,
    /// The last number of a delivery.
    seq: Cell<i64>,
    /// How many deliveries wait, or are to be sent again; `None` until they are counted.
    waiting: Cell<Option<u64>>,
    /// The test events of a minute.
    tests: Cell<TestCount>,
}

impl DurableObject for Courier {
    fn new(state: State, env: Env) -> Self {
        Self {
            state,
            env,
            opened: Cell::new(false),
            alarm_at: Cell::new(None),
            is_running: Cell::new(false),
            changes: ReportedChanges::default(),
            nudge: RefCell::new(None),
            is_nudged: Cell::new(false),
            seq: Cell::new(0),
            waiting: Cell::new(None),
            tests: Cell::new(TestCount::default()),
        }
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
        reporting::send_from_object(&self.state, &self.env);
        Response::ok(reply.encode()?)
    }

    /// An alarm that has set no other fails, so that the platform runs it again.
    async fn alarm(&self) -> worker::Result<Response> {
        let outcome = self.run_alarm().await;
        reporting::send_from_object(&self.state, &self.env);
        outcome.map_err(|fault| worker::Error::RustError(fault.code.as_str().to_owned()))?;
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
            CourierMessage::List(query) => {
                let page = self.page(&query)?;
                self.keep_alarm(now).await;
                Ok(CourierReply::Page(page))
            }
            CourierMessage::Read { event } => {
                let found = if self.open_stored()? { self.store().delivery(event)? } else { None };
                self.keep_alarm(now).await;
                Ok(CourierReply::Delivery(found))
            }
            CourierMessage::Redeliver { event } => self.redeliver(event, now).await,
            CourierMessage::RedeliverSince { since } => self.redeliver_since(since, now).await,
            CourierMessage::Wake => self.read_endpoint_again(now).await,
            CourierMessage::Resume => {
                if self.open_stored()? {
                    // What is in flight counts as lost later.
                    self.store().hasten_later_than(now.plus(deliver::LOST_MS), now)?;
                }
                self.read_endpoint_again(now).await
            }
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

    /// A number greater than all before that this instance has given: the time in microseconds, or the next one. Where the clock
    /// of an earlier instance was ahead, the statement that stores it takes a greater one ([`sql::DELIVERY_PUT`]).
    fn next_seq(&self, now: UnixMillis) -> i64 {
        let at = i64::try_from(now.0.saturating_mul(1_000)).unwrap_or(i64::MAX);
        let seq = at.max(self.seq.get().saturating_add(1));
        self.seq.set(seq);
        seq
    }

    /// How many deliveries wait, with those that are promised to.
    fn count_waiting(&self, store: &CourierStore) -> Result<u64, Fault> {
        if let Some(count) = self.waiting.get() {
            return Ok(count);
        }
        let left = self.redelivery()?.map_or(0, |job| job.left);
        Ok(store.waiting()?.saturating_add(left))
    }

    /// Counts a test event.
    ///
    /// # Errors
    /// After how many seconds there may be one.
    fn take_test(&self, now: UnixMillis) -> Result<(), u64> {
        let mut tests = self.tests.get();
        let taken = tests.take(now);
        self.tests.set(tests);
        taken
    }

    /// Stores events that are new, in one transaction.
    async fn accept(
        &self,
        endpoint: EndpointId,
        items: &[CourierItem],
        now: UnixMillis,
    ) -> Result<CourierReply, Fault> {
        let store = self.store();
        if items.iter().any(|item| item.test)
            && let Err(after_s) = self.take_test(now)
        {
            return Ok(CourierReply::TooMany { after_s });
        }
        if !self.open_stored()? {
            store.make_schema()?;
            self.opened.set(true);
        }
        let stored = store.bytes();
        let counted = self.count_waiting(&store)?;
        let accepted = store.atomically(|| {
            if store.state::<EndpointId>(ENDPOINT)?.is_none() {
                store.put_state(ENDPOINT, &endpoint)?;
            }
            let mut waiting = counted;
            for item in items.iter().filter(|item| is_acceptable(item.event.id, now)) {
                let seq = self.next_seq(now);
                if !has_room(waiting, stored) {
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
        // Without an alarm nothing would be sent: whoever hands events over does so again.
        self.wake_to_deliver(app::now()).await?;
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

    /// The endpoint was changed: it is read before anything is sent, and is asked again if it had failed.
    async fn read_endpoint_again(&self, now: UnixMillis) -> Result<CourierReply, Fault> {
        if self.open_stored()? {
            let store = self.store();
            if store.state::<EndpointBreaker>(BREAKER)?.unwrap_or_default() != EndpointBreaker::default() {
                store.put_state(BREAKER, &EndpointBreaker::default())?;
            }
            self.changes.note();
            self.wake_to_deliver(now).await?;
        }
        Ok(CourierReply::Taken)
    }

    /// Deletes all that is stored. An alarm that delivers does so itself, once it finds that the endpoint is gone.
    async fn erase(&self) -> Result<CourierReply, Fault> {
        if self.is_running.get() {
            self.changes.note();
            self.nudge_alarm();
            return Ok(CourierReply::Taken);
        }
        self.delete_stored().await?;
        Ok(CourierReply::Erased)
    }

    async fn delete_stored(&self) -> Result<(), Fault> {
        self.waiting.set(None);
        self.alarm_at.set(None);
        self.state.storage().delete_alarm().await.map_err(Fault::internal)?;
        let deleted = self.state.storage().delete_all().await.map_err(Fault::internal);
        self.opened.set(false);
        if deleted.is_err() {
            // What is left would have no alarm.
            self.set_alarm(app::now()).await?;
        }
        deleted
    }
}

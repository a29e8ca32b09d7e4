//! `Meter`: Durable Objects that add up what isolates and ledgers have counted
//! ([`x402_core::messages::meter::METER_SHARDS`] of them; a source writes to one, whoever reads asks all). An addition counts
//! once, however often it is sent.

#[allow(unreachable_pub, reason = "public natively, for tests")]
pub mod migrations;
#[allow(unreachable_pub, reason = "public natively, for tests")]
pub mod rows;
#[allow(unreachable_pub, reason = "public natively, for tests")]
pub mod sql;
mod store;

use crate::app;
use crate::reporting;
use crate::telemetry::{TelemetryField, TelemetryKind, event};
use std::cell::{Cell, RefCell};
use store::MeterStore;
use worker::{DurableObject, Env, Request, Response, State, durable_object};
use x402_chain::time::{DAY_MS, UnixMillis};
use x402_core::error::{Fault, json_place};
use x402_core::messages::meter::{MeterAddition, MeterMessage, MeterReply};
use x402_core::metrics::series::MetricCounts;
use x402_core::metrics::status::STATUS_FAMILIES;

/// The spans of the last hour and of the last day: each with how long what is older is kept.
const SPANS: [(u64, u64); 2] = [(MINUTES_5_MS, HOUR_MS), (HOUR_MS, DAY_MS)];
const MINUTES_5_MS: u64 = 300_000;
const HOUR_MS: u64 = 3_600_000;

/// Adds up counts.
#[durable_object]
pub struct Meter {
    state: State,
    env: Env,
    /// Whether the schema is up to date, as far as this instance knows.
    opened: Cell<bool>,
    /// The stored totals, once they were read.
    totals: RefCell<Option<MetricCounts>>,
}

impl DurableObject for Meter {
    fn new(state: State, env: Env) -> Self {
        Self { state, env, opened: Cell::new(false), totals: RefCell::new(None) }
    }

    async fn fetch(&self, mut request: Request) -> worker::Result<Response> {
        let body = request.text().await?;
        let reply = match serde_json::from_str(&body) {
            Ok(message) => self.answer(message, app::now()),
            Err(error) => Err(Fault::internal(format!("a meter could not read its message: {}", json_place(&error)))),
        };
        let reply = reply.unwrap_or_else(|fault| {
            event(TelemetryKind::MeterFailed, &[TelemetryField::Cause(&fault)]);
            MeterReply::Failed(fault.code.as_str().to_owned())
        });
        reporting::send_from_object(&self.state, &self.env);
        Response::ok(reply.encode()?)
    }
}

/// The start of the span that holds an instant.
fn span_start(length_ms: u64, at: UnixMillis) -> UnixMillis {
    UnixMillis(at.0.saturating_sub(at.0.checked_rem(length_ms).unwrap_or_default()))
}

/// The start of the first span that belongs to the time of `kept_ms` before an instant.
fn first_span(length_ms: u64, kept_ms: u64, at: UnixMillis) -> UnixMillis {
    let last = span_start(length_ms, at);
    UnixMillis(last.0.saturating_sub(kept_ms.saturating_sub(length_ms)))
}

impl Meter {
    fn open(&self) -> Result<MeterStore, Fault> {
        let store = MeterStore::new(&self.state.storage());
        if !self.opened.get() {
            store.make_schema()?;
            self.opened.set(true);
        }
        Ok(store)
    }

    fn answer(&self, message: MeterMessage, now: UnixMillis) -> Result<MeterReply, Fault> {
        let store = self.open()?;
        match message {
            MeterMessage::Add(addition) => self.add(&store, &addition, now).map(|()| MeterReply::Added),
            MeterMessage::Totals => {
                Ok(MeterReply::Totals { counts: self.read_totals(&store)?, depths: store.depths()? })
            }
            MeterMessage::Spans => {
                let sum = |(length, kept): (u64, u64)| store.sum_spans(length, first_span(length, kept, now));
                let [hour, day] = SPANS.map(sum);
                Ok(MeterReply::Spans { hour: hour?, day: day? })
            }
        }
    }

    fn read_totals(&self, store: &MeterStore) -> Result<MetricCounts, Fault> {
        if let Some(totals) = &*self.totals.borrow() {
            return Ok(totals.clone());
        }
        let totals = store.totals()?;
        self.totals.replace(Some(totals.clone()));
        Ok(totals)
    }

    /// Stores an addition, in one transaction with its number.
    fn add(&self, store: &MeterStore, addition: &MeterAddition, now: UnixMillis) -> Result<(), Fault> {
        let known = store.sequence(&addition.source)?;
        if known.is_some_and(|known| known >= addition.sequence) {
            return Ok(());
        }
        let mut totals = self.read_totals(store)?;
        totals.add(&addition.counts);
        let recent = addition.counts.only(STATUS_FAMILIES);
        store.atomically(|| {
            store.put_sequence(&addition.source, addition.sequence, now)?;
            if !addition.counts.is_empty() {
                store.put_totals(&totals)?;
            }
            for depth in &addition.depths {
                store.put_depth(depth)?;
            }
            if recent.is_empty() {
                return Ok(());
            }
            for (length, kept) in SPANS {
                let start = span_start(length, now);
                let span = store.span(length, start)?;
                if span.is_none() {
                    store.purge_spans(length, first_span(length, kept, now))?;
                    store.purge(UnixMillis(now.0.saturating_sub(DAY_MS)))?;
                }
                let mut counts = span.unwrap_or_default();
                counts.add(&recent);
                store.put_span(length, start, &counts)?;
            }
            Ok(())
        })?;
        self.totals.replace(Some(totals));
        Ok(())
    }
}

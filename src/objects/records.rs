//! `Records`: one Durable Object for each tenant, environment and month. It stores the verification records and events
//! that the ledger ships, with the totals of each hour; and archives the month in R2 90 days after its end.

mod alarm;
mod archive;
mod days;
mod events;
#[allow(unreachable_pub, reason = "public natively, for tests")]
pub mod migrations;
#[allow(unreachable_pub, reason = "public natively, for tests")]
pub mod rows;
#[allow(unreachable_pub, reason = "public natively, for tests")]
pub mod sql;
mod store;
mod take;

use crate::app;
use crate::objects::alarm::Working;
use crate::reporting;
use crate::telemetry::{TelemetryField, TelemetryKind, event};
use serde::{Deserialize, Serialize};
use std::cell::Cell;
use store::RecordsStore;
use worker::{DurableObject, Env, Request, Response, State, durable_object};
use x402_chain::id::VerificationId;
use x402_chain::time::{Period, UnixMillis};
use x402_core::error::{Fault, json_place};
use x402_core::messages::records::{RecordsEnvelope, RecordsMessage, RecordsPage, RecordsQuery, RecordsReply};
use x402_core::records::RecordCopy;
use x402_core::records::archive::{ArchiveOwner, ArchivedKind};
use x402_core::records::pack::{pack, unpack};
use x402_core::records::rollup::RecordShare;

/// One month of one tenant's records.
#[durable_object]
pub struct Records {
    state: State,
    env: Env,
    /// Whether the schema is up to date, as far as this instance knows.
    opened: Cell<bool>,
    /// Alarms and erasures that are not over.
    working: Working,
    /// The time of the next alarm, as far as this instance knows.
    alarm_at: Cell<Option<UnixMillis>>,
}

/// Whose month an object holds; stored with the first rows.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct RecordsOwner {
    #[serde(flatten)]
    owner: ArchiveOwner,
    month: Period,
    /// Whether the first row came when the month was to be archived already: what the object holds then are late
    /// revisions, and it keeps them for good.
    is_late: bool,
}

/// The name of the stored [`RecordsOwner`].
const OWNER: &str = "owner";

impl DurableObject for Records {
    fn new(state: State, env: Env) -> Self {
        Self { state, env, opened: Cell::new(false), working: Working::default(), alarm_at: Cell::new(None) }
    }

    async fn fetch(&self, mut request: Request) -> worker::Result<Response> {
        let body = request.text().await?;
        let reply = match serde_json::from_str(&body) {
            Ok(envelope) => self.answer(envelope, app::now()).await,
            Err(error) => {
                Err(Fault::internal(format!("a records object could not read its message: {}", json_place(&error))))
            }
        };
        let reply = reply.unwrap_or_else(|fault| {
            event(TelemetryKind::RecordsFailed, &[TelemetryField::Cause(&fault)]);
            RecordsReply::Failed(fault.code.as_str().to_owned())
        });
        reporting::send_from_object(&self.state, &self.env);
        Response::ok(reply.encode()?)
    }

    async fn alarm(&self) -> worker::Result<Response> {
        self.run_alarm().await;
        reporting::send_from_object(&self.state, &self.env);
        Response::empty()
    }
}

impl Records {
    fn store(&self) -> RecordsStore {
        RecordsStore::new(&self.state.storage())
    }

    async fn answer(&self, envelope: RecordsEnvelope, now: UnixMillis) -> Result<RecordsReply, Fault> {
        match &envelope.message {
            RecordsMessage::Take(batch) => self.take(&envelope, batch, now).await,
            RecordsMessage::Read { id } => self.read(*id).map(RecordsReply::Record),
            RecordsMessage::Page(query) => self.page(query).map(RecordsReply::Page),
            RecordsMessage::ReadEvent { id } => self.read_event(*id).map(RecordsReply::Event),
            RecordsMessage::PageEvents(query) => self.page_events(query).map(RecordsReply::Events),
            RecordsMessage::Days(span) => self.read_days(*span),
            RecordsMessage::Erase => self.erase().await,
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

    /// Deletes all that is stored, once the directory has its totals.
    async fn erase(&self) -> Result<RecordsReply, Fault> {
        if !self.open_stored()? {
            return Ok(RecordsReply::Erased);
        }
        if self.working.is_busy() {
            // An alarm that archives would write what it has read.
            return Ok(RecordsReply::Archiving);
        }
        let _working = self.working.begin();
        if let Some(month) = self.store().state::<RecordsOwner>(OWNER)? {
            self.copy_totals(&month).await?;
        }
        self.opened.set(false);
        self.state.storage().delete_all().await.map_err(Fault::internal)?;
        Ok(RecordsReply::Erased)
    }

    fn read(&self, id: VerificationId) -> Result<Option<RecordCopy>, Fault> {
        if !self.open_stored()? {
            return Ok(None);
        }
        self.store().record(&id.to_string())?.map(|row| record_of(&row.body)).transpose()
    }

    fn page(&self, query: &RecordsQuery) -> Result<RecordsPage, Fault> {
        let mut page = RecordsPage::default();
        if !self.open_stored()? {
            return Ok(page);
        }
        let store = self.store();
        // Greater than every id, for the first page.
        let before = query.before.map_or_else(|| "ver_a".to_owned(), |id| id.to_string());
        let mut bytes = 0_usize;
        for row in store.sizes_before(&before, query.rows)? {
            bytes = bytes.saturating_add(row.size);
            if bytes > query.bytes && !page.records.is_empty() {
                page.is_cut = true;
                break;
            }
            let Some(row) = store.record(&row.id)? else { continue };
            page.records.push(record_of(&row.body)?);
        }
        Ok(page)
    }
}

/// Reads a stored record.
fn record_of(body: &[u8]) -> Result<RecordCopy, Fault> {
    serde_json::from_str(&unpack(body)?).map_err(Fault::internal_json)
}

/// A line's size with its line break, and the line compressed: what is stored of a record or an event.
fn packed(line: &impl Serialize) -> Result<(usize, Vec<u8>), Fault> {
    let line = serde_json::to_string(line).map_err(Fault::internal)?;
    Ok((line.len().saturating_add(1), pack(&line)))
}

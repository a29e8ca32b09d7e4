//! Calls to a month's records, with their deadline.

use crate::app;
use futures_util::future::{Either, select};
use std::pin::pin;
use std::time::Duration;
use wasm_bindgen::JsValue;
use worker::{Delay, Method, ObjectNamespace, Request, RequestInit};
use x402_chain::id::{EventId, VerificationId};
use x402_chain::time::Period;
use x402_core::error::{ErrorCode, Fault, json_place};
use x402_core::messages::MessageHead;
use x402_core::messages::records::{
    RecordsBatch, RecordsEnvelope, RecordsMessage, RecordsPage, RecordsQuery, RecordsReply,
};
use x402_core::records::RecordCopy;
use x402_core::records::archive::ArchiveOwner;
use x402_core::records::days::{DaySpan, MonthDays};
use x402_core::records::events::{EventCopy, EventsPage, EventsQuery};

/// The deadline of a call. A batch is stored in some 100 ms.
const DEADLINE_MS: u64 = 8_000;
/// How long one request lets a month count records of an older build.
const COUNTING_MS: u64 = 8_000;

fn records_unavailable(cause: impl core::fmt::Display) -> Fault {
    Fault::new(ErrorCode::LedgerUnavailable, "the records did not answer").after(1).because(cause)
}

fn unexpected_reply(reply: &RecordsReply) -> Fault {
    match reply {
        RecordsReply::Failed(code) => records_unavailable(format!("the records failed: {code}")),
        RecordsReply::Archiving => records_unavailable("the month is being archived"),
        RecordsReply::Counting => records_unavailable("records of an older build are being counted"),
        RecordsReply::Taken
        | RecordsReply::Record(_)
        | RecordsReply::Page(_)
        | RecordsReply::Event(_)
        | RecordsReply::Events(_)
        | RecordsReply::Days(_)
        | RecordsReply::Erased => records_unavailable("the records replied to another message"),
    }
}

/// The records of a tenant in an environment.
pub(crate) struct RecordsClient {
    pub(crate) namespace: ObjectNamespace,
    pub(crate) owner: ArchiveOwner,
}

impl RecordsClient {
    /// Stores records and events of a month.
    ///
    /// # Errors
    /// `LEDGER_UNAVAILABLE`: they may be stored, or not; the same may be sent again.
    pub(crate) async fn take(&self, month: Period, batch: RecordsBatch) -> Result<(), Fault> {
        let reply = self.call(month, RecordsMessage::Take(batch)).await?;
        if matches!(reply, RecordsReply::Taken) { Ok(()) } else { Err(unexpected_reply(&reply)) }
    }

    /// Reads a record; `None` where its month does not hold it.
    ///
    /// # Errors
    /// `LEDGER_UNAVAILABLE`.
    pub(crate) async fn read(&self, id: VerificationId) -> Result<Option<RecordCopy>, Fault> {
        let reply = self.call(Period::of(id.created_at()), RecordsMessage::Read { id }).await?;
        if let RecordsReply::Record(record) = reply { Ok(record) } else { Err(unexpected_reply(&reply)) }
    }

    /// Lists records of a month, the newest first.
    ///
    /// # Errors
    /// `LEDGER_UNAVAILABLE`.
    pub(crate) async fn page(&self, month: Period, query: RecordsQuery) -> Result<RecordsPage, Fault> {
        let reply = self.call(month, RecordsMessage::Page(query)).await?;
        if let RecordsReply::Page(page) = reply { Ok(page) } else { Err(unexpected_reply(&reply)) }
    }

    /// Reads an event; `None` where its month does not hold it.
    ///
    /// # Errors
    /// `LEDGER_UNAVAILABLE`.
    pub(crate) async fn read_event(&self, id: EventId) -> Result<Option<EventCopy>, Fault> {
        let reply = self.call(Period::of(id.created_at()), RecordsMessage::ReadEvent { id }).await?;
        if let RecordsReply::Event(event) = reply { Ok(event) } else { Err(unexpected_reply(&reply)) }
    }

    /// Lists events of a month, the newest first.
    ///
    /// # Errors
    /// `LEDGER_UNAVAILABLE`.
    pub(crate) async fn page_events(&self, month: Period, query: EventsQuery) -> Result<EventsPage, Fault> {
        let reply = self.call(month, RecordsMessage::PageEvents(query)).await?;
        if let RecordsReply::Events(page) = reply { Ok(page) } else { Err(unexpected_reply(&reply)) }
    }

    /// Reads what is counted of some days of a month. A month that an older build has filled counts its records first, a
    /// part with each call.
    ///
    /// # Errors
    /// `LEDGER_UNAVAILABLE`; a repeat goes on with counting.
    pub(crate) async fn days(&self, month: Period, days: DaySpan) -> Result<MonthDays, Fault> {
        let begun = app::now();
        loop {
            let reply = self.call(month, RecordsMessage::Days(days)).await?;
            if let RecordsReply::Days(found) = reply {
                return Ok(found);
            }
            if !matches!(reply, RecordsReply::Counting) || app::now().since(begun) >= COUNTING_MS {
                return Err(unexpected_reply(&reply));
            }
        }
    }

    /// Has a month copy all its totals to the directory.
    ///
    /// # Errors
    /// `LEDGER_UNAVAILABLE`; the same may be sent again.
    pub(crate) async fn copy_totals(&self, month: Period) -> Result<(), Fault> {
        let reply = self.call(month, RecordsMessage::CopyTotals).await?;
        if matches!(reply, RecordsReply::Taken) { Ok(()) } else { Err(unexpected_reply(&reply)) }
    }

    /// Deletes a month.
    ///
    /// # Errors
    /// `LEDGER_UNAVAILABLE`: it may be deleted, or not; the same may be sent again.
    pub(crate) async fn erase(&self, month: Period) -> Result<(), Fault> {
        let reply = self.call(month, RecordsMessage::Erase).await?;
        if matches!(reply, RecordsReply::Erased) { Ok(()) } else { Err(unexpected_reply(&reply)) }
    }

    async fn call(&self, month: Period, message: RecordsMessage) -> Result<RecordsReply, Fault> {
        let ArchiveOwner { tenant, environment } = self.owner;
        let envelope = RecordsEnvelope { tenant, environment, month, message };
        let stub = self.namespace.get_by_name(&envelope.object_name()).map_err(records_unavailable)?;
        let body = serde_json::to_string(&envelope).map_err(Fault::internal)?;
        let mut init = RequestInit::new();
        init.with_method(Method::Post).with_body(Some(JsValue::from_str(&body)));
        let request =
            Request::new_with_init(&MessageHead::own(None).address("records"), &init).map_err(records_unavailable)?;
        let asked = async { stub.fetch_with_request(request).await?.text().await };
        let deadline = Delay::from(Duration::from_millis(DEADLINE_MS));
        match select(pin!(asked), pin!(deadline)).await {
            Either::Left((Ok(text), _)) => {
                RecordsReply::read(&text).map_err(|error| records_unavailable(json_place(&error)))
            }
            Either::Left((Err(error), _)) => Err(records_unavailable(error)),
            Either::Right(_) => Err(records_unavailable(format!("no answer in {DEADLINE_MS} ms"))),
        }
    }
}

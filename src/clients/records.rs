//! Calls to a month's records, with their deadline.

use futures_util::future::{Either, select};
use std::pin::pin;
use std::time::Duration;
use wasm_bindgen::JsValue;
use worker::{Delay, Method, ObjectNamespace, Request, RequestInit};
use x402_chain::id::VerificationId;
use x402_chain::time::Period;
use x402_core::error::{ErrorCode, Fault, json_place};
use x402_core::messages::MessageHead;
use x402_core::messages::records::{
    RecordsBatch, RecordsEnvelope, RecordsMessage, RecordsPage, RecordsQuery, RecordsReply,
};
use x402_core::records::RecordCopy;
use x402_core::records::archive::ArchiveOwner;

/// The deadline of a call. A batch is stored in some 100 ms.
const DEADLINE_MS: u64 = 8_000;

fn records_unavailable(cause: impl core::fmt::Display) -> Fault {
    Fault::new(ErrorCode::LedgerUnavailable, "the records did not answer").after(1).because(cause)
}

fn unexpected_reply(reply: &RecordsReply) -> Fault {
    match reply {
        RecordsReply::Failed(code) => records_unavailable(format!("the records failed: {code}")),
        RecordsReply::Archiving => records_unavailable("the month is being archived"),
        RecordsReply::Taken | RecordsReply::Record(_) | RecordsReply::Page(_) | RecordsReply::Erased => {
            records_unavailable("the records replied to another message")
        }
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
        match self.call(month, RecordsMessage::Take(batch)).await? {
            RecordsReply::Taken => Ok(()),
            other @ (RecordsReply::Archiving
            | RecordsReply::Record(_)
            | RecordsReply::Page(_)
            | RecordsReply::Erased
            | RecordsReply::Failed(_)) => Err(unexpected_reply(&other)),
        }
    }

    /// Reads a record; `None` where its month does not hold it.
    ///
    /// # Errors
    /// `LEDGER_UNAVAILABLE`.
    pub(crate) async fn read(&self, id: VerificationId) -> Result<Option<RecordCopy>, Fault> {
        match self.call(Period::of(id.created_at()), RecordsMessage::Read { id }).await? {
            RecordsReply::Record(record) => Ok(record),
            other @ (RecordsReply::Archiving
            | RecordsReply::Taken
            | RecordsReply::Page(_)
            | RecordsReply::Erased
            | RecordsReply::Failed(_)) => Err(unexpected_reply(&other)),
        }
    }

    /// Lists records of a month, the newest first.
    ///
    /// # Errors
    /// `LEDGER_UNAVAILABLE`.
    pub(crate) async fn page(&self, month: Period, query: RecordsQuery) -> Result<RecordsPage, Fault> {
        match self.call(month, RecordsMessage::Page(query)).await? {
            RecordsReply::Page(page) => Ok(page),
            other @ (RecordsReply::Archiving
            | RecordsReply::Taken
            | RecordsReply::Record(_)
            | RecordsReply::Erased
            | RecordsReply::Failed(_)) => Err(unexpected_reply(&other)),
        }
    }

    /// Deletes a month.
    ///
    /// # Errors
    /// `LEDGER_UNAVAILABLE`: it may be deleted, or not; the same may be sent again.
    pub(crate) async fn erase(&self, month: Period) -> Result<(), Fault> {
        match self.call(month, RecordsMessage::Erase).await? {
            RecordsReply::Erased => Ok(()),
            other @ (RecordsReply::Archiving
            | RecordsReply::Taken
            | RecordsReply::Record(_)
            | RecordsReply::Page(_)
            | RecordsReply::Failed(_)) => Err(unexpected_reply(&other)),
        }
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

//! Rows that a ledger has recorded and the directory does not hold yet: shipped at least once, with ids and revisions
//! that make a repeat harmless.

pub mod load;

use crate::error::Fault;
use crate::verification::finality::EventKind;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use x402_chain::id::EventId;
use x402_chain::time::UnixMillis;

/// A verification's record as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecord {
    /// The verification's id, `ver_…`; ids sort by time.
    pub id: String,
    /// Counts its changes, from 1; a copy is replaced only by a higher one.
    pub revision: i64,
    /// The answer as it was sent, JSON.
    pub body: String,
}

/// Something that happened to a payment after it was answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OutboxEvent {
    /// The event's id, `evt_…`; a second delivery of it changes nothing.
    pub id: EventId,
    /// What happened to the payment.
    pub kind: EventKind,
    /// The id of the verification or settlement; empty in entries of older builds, whose body has it.
    #[serde(default)]
    pub subject: String,
    /// The record at that time, JSON.
    #[serde(alias = "record")]
    pub body: Box<RawValue>,
    /// When the ledger recorded the event.
    pub at: UnixMillis,
}

impl OutboxEvent {
    /// Reads an entry of any build.
    ///
    /// # Errors
    /// `INTERNAL` where it is no event.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        #[derive(Deserialize)]
        struct Subject {
            id: String,
        }
        let mut event: Self = serde_json::from_str(text).map_err(Fault::internal)?;
        if event.subject.is_empty() {
            event.subject = serde_json::from_str::<Subject>(event.body.get()).map_err(Fault::internal)?.id;
        }
        Ok(event)
    }
}

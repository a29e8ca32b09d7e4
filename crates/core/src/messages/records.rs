//! What a Records object is asked, and what it replies. The messages are new in version 2: no build of version 1 sends
//! or reads them.

use super::VersionedReply;
use crate::records::RecordCopy;
use crate::records::days::{DaySpan, MonthDays};
use crate::records::detail::SettlementState;
use crate::records::events::{EventCopy, EventsPage, EventsQuery};
use serde::{Deserialize, Serialize};
use x402_chain::id::{EventId, TenantId, VerificationId};
use x402_chain::network::Environment;
use x402_chain::time::Period;

/// A message with the object that it is for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RecordsEnvelope {
    /// Whose records.
    pub tenant: TenantId,
    /// Of which environment.
    pub environment: Environment,
    /// Of which month.
    pub month: Period,
    /// The message.
    pub message: RecordsMessage,
}

impl RecordsEnvelope {
    /// The name of the object: `ten_…:live:2026-11`.
    #[must_use]
    pub fn object_name(&self) -> String {
        format!("{}:{}:{}", self.tenant, self.environment.name(), self.month)
    }
}

/// A message to a Records object.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordsMessage {
    /// Store records and events of this month. [`RecordsReply::Taken`], or [`RecordsReply::Archiving`].
    Take(RecordsBatch),
    /// Read one record. [`RecordsReply::Record`].
    Read {
        /// The verification.
        id: VerificationId,
    },
    /// List records, the newest first. [`RecordsReply::Page`].
    Page(RecordsQuery),
    /// Read one event. [`RecordsReply::Event`]; [`RecordsReply::Failed`] of an object that does not know the message.
    ReadEvent {
        /// The event.
        id: EventId,
    },
    /// List events, the newest first. [`RecordsReply::Events`]; [`RecordsReply::Failed`] as above.
    PageEvents(EventsQuery),
    /// Say what is counted of some days of the month. [`RecordsReply::Days`], or [`RecordsReply::Counting`];
    /// [`RecordsReply::Failed`] as above.
    Days(DaySpan),
    /// Copy all totals to the directory once more, which may have lost them. [`RecordsReply::Taken`];
    /// [`RecordsReply::Failed`] as above.
    CopyTotals,
    /// Delete all that is stored. [`RecordsReply::Erased`], or [`RecordsReply::Archiving`].
    Erase,
}

/// Records and events of one month.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RecordsBatch {
    /// Records; an older revision than the stored one changes nothing.
    pub records: Vec<RecordCopy>,
    /// Events, also of kinds that the object does not know; one that is stored changes nothing.
    pub events: Vec<EventCopy>,
    /// Settlements whose ids are of this month; an older revision changes nothing. An object of the build before counts
    /// none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub settlements: Vec<SettlementState>,
}

/// Which records of a month to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordsQuery {
    /// Only records with a smaller id.
    pub before: Option<VerificationId>,
    /// At most so many.
    pub rows: usize,
    /// At most so many bytes, or one record.
    pub bytes: usize,
}

/// Records of a month, the newest first.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RecordsPage {
    /// The records.
    pub records: Vec<RecordCopy>,
    /// Whether the page ended at its bytes: older records of the month may be missing.
    pub is_cut: bool,
}

/// What a Records object replies.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordsReply {
    /// All is stored.
    Taken,
    /// Nothing was done: the month is being archived. The same may be sent again.
    Archiving,
    /// The record; `None` where the object does not hold it.
    Record(Option<RecordCopy>),
    /// A page.
    Page(RecordsPage),
    /// The event; `None` where the object does not hold it.
    Event(Option<EventCopy>),
    /// A page of events.
    Events(EventsPage),
    /// What is counted of the days.
    Days(MonthDays),
    /// Records of an older build are being counted: some were. The same may be sent again.
    Counting,
    /// Nothing is stored any more.
    Erased,
    /// The message was not carried out; the code of the fault ([`crate::error::ErrorCode`]), for the log.
    Failed(String),
}

impl RecordsReply {
    /// The reply as JSON.
    ///
    /// # Errors
    /// None that our own types can raise.
    pub fn encode(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(&VersionedReply::own(self))
    }

    /// Reads a reply.
    ///
    /// # Errors
    /// Where it is none that this build knows.
    pub fn read(body: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(body).map(|versioned: VersionedReply<Self>| versioned.reply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENVELOPE: &str =
        r#"{"tenant":"ten_000000000001070707070707","environment":"live","month":"2026-11","message":"#;

    #[test]
    fn messages_and_replies_keep_their_text() {
        let record = r#"{"id":"ver_01KB0000000000000000000000","revision":2,"record":{"b":1,"a":"1.50"}}"#;
        let event =
            r#"{"id":"evt_01KB0000000000000000000000","kind":"payment.finalized","subject":"ver_1","body":{},"at":1}"#;
        let change = event.replace("payment.finalized", "key.revoked").replace("ver_1", "key_1");
        let settlement = r#"{"id":"stl_01KB0000000000000000000000","revision":2,"network":"eip155:8453","status":"completed","amount":"1500000"}"#;
        let later = event.replace("payment.finalized", "of.later");
        for message in [
            r#""erase""#.to_owned(),
            r#""copy_totals""#.to_owned(),
            format!(r#"{{"take":{{"records":[{record}],"events":[{event},{change},{later}]}}}}"#),
            format!(r#"{{"take":{{"records":[],"events":[],"settlements":[{settlement}]}}}}"#),
            r#"{"read":{"id":"ver_01KB0000000000000000000000"}}"#.to_owned(),
            r#"{"page":{"before":null,"rows":20,"bytes":1000}}"#.to_owned(),
            r#"{"read_event":{"id":"evt_01KB0000000000000000000000"}}"#.to_owned(),
            r#"{"days":{"from":0,"to":86400000}}"#.to_owned(),
            r#"{"page_events":{"before":null,"from":"evt_01KB0000000000000000000000","kinds":["key.revoked"],"subject":"key_1","rows":20,"bytes":1000}}"#.to_owned(),
        ] {
            let text = format!("{ENVELOPE}{message}}}");
            let envelope: RecordsEnvelope = serde_json::from_str(&text).expect("a message");
            assert_eq!(envelope.object_name(), "ten_000000000001070707070707:live:2026-11");
            assert_eq!(serde_json::to_string(&envelope).expect("JSON"), text);
        }
        for reply in [
            "\"taken\"".to_owned(),
            "\"archiving\"".to_owned(),
            "\"erased\"".to_owned(),
            "{\"record\":null}".to_owned(),
            format!("{{\"record\":{record}}}"),
            format!("{{\"page\":{{\"records\":[{record}],\"is_cut\":true}}}}"),
            "{\"event\":null}".to_owned(),
            format!("{{\"event\":{event}}}"),
            format!("{{\"events\":{{\"events\":[{event}],\"floor\":null}}}}"),
            "\"counting\"".to_owned(),
            r#"{"days":{"verifications":[{"day":0,"chain":"base","state":"confirmed","sum":{"amount":"7","count":1}}],"settlements":[],"latency":[{"hour":0,"count":1,"p50_ms":7,"p95_ms":7}],"payers":{"0xA":{"amount":"7","count":1}},"is_cut":false}}"#.to_owned(),
            "{\"failed\":\"INTERNAL\"}".to_owned(),
        ] {
            let text = format!("{{\"version\":2,\"reply\":{reply}}}");
            assert_eq!(RecordsReply::read(&text).and_then(|reply| reply.encode()).expect("a reply"), text);
        }
        assert!(RecordsReply::read(r#"{"version":3,"reply":{"unheard_of":1}}"#).is_err());
    }
}

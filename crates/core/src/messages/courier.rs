//! What a Courier object is asked, and what it replies. No build of version 1 sends or reads these messages.

use super::VersionedReply;
use crate::records::events::EventCopy;
use crate::webhook::delivery::{DeliveryRecord, DeliveryState, DeliverySummary};
use serde::{Deserialize, Serialize};
use x402_chain::id::{EndpointId, EventId};
use x402_chain::time::UnixMillis;

/// A message with the object that it is for, which is named by the endpoint's id.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CourierEnvelope {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// The message.
    pub message: CourierMessage,
}

/// A message to a Courier.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CourierMessage {
    /// Deliver these events, in their order. One that is known changes nothing. [`CourierReply::Taken`]; of a test event
    /// [`CourierReply::TooMany`] too.
    Accept(Vec<CourierItem>),
    /// List deliveries, the newest first. [`CourierReply::Page`].
    List(DeliveriesQuery),
    /// Read one delivery with its attempts. [`CourierReply::Delivery`].
    Read {
        /// The event.
        event: EventId,
    },
    /// Send an event again, whatever became of it. [`CourierReply::Redelivered`].
    Redeliver {
        /// The event.
        event: EventId,
    },
    /// Send all events again that were not delivered, from a time on: the alarm does so. [`CourierReply::Redelivered`].
    RedeliverSince {
        /// Events of this time and later.
        since: UnixMillis,
    },
    /// The endpoint was changed: read it again, and go on. [`CourierReply::Taken`].
    Wake,
    /// The endpoint was made active, or has another URL: read it again, and send now what waits for its next attempt.
    /// [`CourierReply::Taken`].
    Resume,
    /// The endpoint is deleted: deliver nothing, and delete all that is stored. [`CourierReply::Erased`]; or
    /// [`CourierReply::Taken`] of an object that is at work: it does so once it finds that the endpoint is deleted.
    Erase,
}

/// An event that is to be delivered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CourierItem {
    /// The event.
    pub event: EventCopy,
    /// Whether it is a test event, whose data are an example.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub test: bool,
}

impl From<EventCopy> for CourierItem {
    fn from(event: EventCopy) -> Self {
        Self { event, test: false }
    }
}

/// Which deliveries to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveriesQuery {
    /// Only events with a smaller id.
    pub before: Option<EventId>,
    /// Only deliveries in this state.
    pub state: Option<DeliveryState>,
    /// At most so many.
    pub rows: usize,
}

/// Deliveries, the newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveriesPage {
    /// The deliveries.
    pub deliveries: Vec<DeliverySummary>,
    /// From this event on none is missing; `None`: none is missing at all.
    pub floor: Option<EventId>,
}

/// What a Courier replies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CourierReply {
    /// All is stored.
    Taken,
    /// A page.
    Page(DeliveriesPage),
    /// The delivery; `None` where the object does not hold it.
    Delivery(Option<DeliveryRecord>),
    /// So many events are sent again.
    Redelivered(u64),
    /// Nothing is stored: there were too many test events.
    TooMany {
        /// After how many seconds there may be more.
        after_s: u64,
    },
    /// Nothing is stored any more.
    Erased,
    /// The message was not carried out; the code of the fault ([`crate::error::ErrorCode`]), for the log.
    Failed(String),
}

impl CourierReply {
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

    #[test]
    fn messages_and_replies_keep_their_text() {
        let evt = "evt_01KB0000000000000000000000";
        let event =
            format!(r#"{{"id":"{evt}","kind":"of.later","subject":"ver_1","body":{{"b":1,"a":"1.50"}},"at":1}}"#);
        for message in [
            format!(r#"{{"accept":[{{"event":{event}}},{{"event":{event},"test":true}}]}}"#),
            r#"{"list":{"before":null,"state":"exhausted","rows":20}}"#.to_owned(),
            format!(r#"{{"read":{{"event":"{evt}"}}}}"#),
            format!(r#"{{"redeliver":{{"event":"{evt}"}}}}"#),
            r#"{"redeliver_since":{"since":1}}"#.to_owned(),
            r#""wake""#.to_owned(),
            r#""erase""#.to_owned(),
        ] {
            let text = format!(r#"{{"endpoint":"whe_01KB0000000000000000000000","message":{message}}}"#);
            let envelope: CourierEnvelope = serde_json::from_str(&text).expect("a message");
            assert_eq!(serde_json::to_string(&envelope).expect("JSON"), text);
        }
        let summary = format!(
            r#"{{"event":"{evt}","kind":"of.later","subject":"ver_1","state":"waiting","attempts":2,"next_at":7,"ended_at":null}}"#
        );
        let attempt = r#"{"at":1,"duration_ms":2,"status":500,"failure":null,"head":"no"}"#;
        for reply in [
            "\"taken\"".to_owned(),
            "\"erased\"".to_owned(),
            "{\"redelivered\":3}".to_owned(),
            "{\"too_many\":{\"after_s\":60}}".to_owned(),
            "{\"failed\":\"INTERNAL\"}".to_owned(),
            "{\"delivery\":null}".to_owned(),
            format!("{{\"delivery\":{{\"summary\":{summary},\"attempts\":[{attempt}]}}}}"),
            format!("{{\"page\":{{\"deliveries\":[{summary}],\"floor\":\"{evt}\"}}}}"),
        ] {
            let text = format!("{{\"version\":2,\"reply\":{reply}}}");
            assert_eq!(CourierReply::read(&text).and_then(|reply| reply.encode()).expect("a reply"), text);
        }
    }
}

//! What a Meter object is asked, and what it replies. No build of version 1 sends or reads these messages.

use super::VersionedReply;
use crate::metrics::series::MetricCounts;
use serde::{Deserialize, Serialize};
use x402_chain::time::UnixMillis;

/// How many Meter objects there are. Each source writes to one of them; whoever reads asks all. More of them is possible, fewer
/// is not: what the others hold would be missing.
pub const METER_SHARDS: u8 = 4;

/// The name of a Meter object.
#[must_use]
pub fn meter_name(shard: u8) -> String {
    format!("meter:{}", shard % METER_SHARDS)
}

/// The Meter of a source: always the same.
#[must_use]
pub fn shard_of(source: &str) -> u8 {
    let sum: u32 = source.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    u8::try_from(sum.checked_rem(METER_SHARDS.into()).unwrap_or_default()).unwrap_or_default()
}

/// A message to a Meter.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MeterMessage {
    /// Add counts. [`MeterReply::Added`].
    Add(MeterAddition),
    /// Say what was counted so far, and what waits. [`MeterReply::Totals`].
    Totals,
    /// Say what was counted within the last hour and the last day, of the families of
    /// [`crate::metrics::status::STATUS_FAMILIES`]. [`MeterReply::Spans`].
    Spans,
}

/// What a source has counted since its last addition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeterAddition {
    /// Who counts: `isolate:<16 hex>`, or a ledger as `ten_…:live`.
    pub source: String,
    /// Grows with each addition of the source. One that is not greater than the last changes nothing: the same addition may
    /// be sent again.
    pub sequence: u64,
    /// The counts.
    #[serde(default)]
    pub counts: MetricCounts,
    /// What waits now, of the queues that the source has looked at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depths: Vec<QueueDepth>,
}

/// Which queue of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectQueue {
    /// A ledger's outbox.
    Outbox,
    /// A Courier's deliveries.
    Courier,
}

impl ObjectQueue {
    /// The name in storage.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Outbox => "outbox",
            Self::Courier => "courier",
        }
    }

    /// The queue with this name; `None` for any other text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Outbox, Self::Courier].into_iter().find(|queue| queue.name() == text)
    }
}

/// What waits in an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueDepth {
    /// Which queue.
    pub queue: ObjectQueue,
    /// The object's name.
    pub object: String,
    /// How many entries wait.
    pub entries: u64,
    /// When this was so. Of two about one object the later holds.
    pub at: UnixMillis,
}

/// What a Meter replies.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MeterReply {
    /// The counts are stored, or were.
    Added,
    /// What was counted, and what waits.
    Totals {
        /// All counts.
        counts: MetricCounts,
        /// What was reported within a day, of each object the newest. Another Meter may know a newer one.
        depths: Vec<QueueDepth>,
    },
    /// What was counted of late.
    Spans {
        /// In the last hour.
        hour: MetricCounts,
        /// In the last day.
        day: MetricCounts,
    },
    /// The message was not carried out; the code of the fault ([`crate::error::ErrorCode`]), for the log.
    Failed(String),
}

impl MeterReply {
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
        let addition = r#"{"add":{"source":"isolate:00","sequence":1,"counts":{"counters":{"x402_errors_total":{"code=\"A\"":2}}},"depths":[{"queue":"outbox","object":"ten_1:live","entries":3,"at":9}]}}"#;
        for text in [addition, r#""totals""#, r#""spans""#] {
            let message: MeterMessage = serde_json::from_str(text).expect("a message");
            assert_eq!(serde_json::to_string(&message).expect("JSON"), text);
        }
        let replies = [
            r#"{"version":2,"reply":"added"}"#,
            r#"{"version":2,"reply":{"totals":{"counts":{},"depths":[]}}}"#,
            r#"{"version":2,"reply":{"spans":{"hour":{},"day":{}}}}"#,
            r#"{"version":2,"reply":{"failed":"INTERNAL"}}"#,
        ];
        for text in replies {
            assert_eq!(MeterReply::read(text).expect("a reply").encode().expect("JSON"), text);
        }
        for queue in [ObjectQueue::Outbox, ObjectQueue::Courier] {
            assert_eq!(ObjectQueue::parse(queue.name()), Some(queue));
        }
        assert_eq!(meter_name(5), "meter:1");
        let shards: std::collections::BTreeSet<u8> =
            (0..99).map(|number| shard_of(&format!("isolate:{number:04}"))).collect();
        assert_eq!(shards.len(), usize::from(METER_SHARDS));
    }
}

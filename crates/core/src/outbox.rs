//! Rows that a ledger has recorded and the directory does not hold yet: shipped at least once, with ids and revisions
//! that make a repeat harmless.

pub mod load;
pub mod walk;

use crate::error::Fault;
use crate::event::EventKind;
use crate::tenancy::admission::ClosedPeriod;
use crate::verification::answer::VerificationStatus;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use x402_chain::id::{EventId, SettlementId, VerificationId};
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
    /// The logs that it has claimed ([`crate::verification::claims::units_text`]).
    pub units: Option<String>,
}

/// An entry of the outbox: what is to be shipped. It is stored as a kind and a body, which every later build reads.
#[derive(Clone, Debug)]
pub enum OutboxEntry {
    /// The totals of a period that is over. The body is JSON.
    Period(ClosedPeriod),
    /// An event about a payment. The body is JSON.
    Event(OutboxEvent),
    /// A verification's record has changed, with an event: the event and the record's newest text are shipped.
    Change(RecordChange),
    /// A settlement has changed: its newest text is shipped. The body is its id.
    Settlement(SettlementId),
    /// A settlement has reached a status: its newest text is shipped, and the event. The body is the event as JSON.
    SettlementEvent(SettlementId, OutboxEvent),
    /// A verification's record has changed: its newest text is shipped. The body is its id.
    Record(VerificationId),
}

impl OutboxEntry {
    /// The kind as stored.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Period(_) => "period",
            Self::Event(_) => "event",
            Self::Change(_) => "change",
            Self::Settlement(_) => "settlement",
            Self::SettlementEvent(..) => "settlement_event",
            Self::Record(_) => "record",
        }
    }

    /// The body as stored.
    ///
    /// # Errors
    /// `INTERNAL` where the entry cannot be written as JSON.
    pub fn body(&self) -> Result<String, Fault> {
        match self {
            Self::Period(closed) => serde_json::to_string(closed).map_err(Fault::internal),
            Self::Event(event) | Self::SettlementEvent(_, event) => {
                serde_json::to_string(event).map_err(Fault::internal)
            }
            Self::Change(change) => change.body(),
            Self::Settlement(id) => Ok(id.to_string()),
            Self::Record(id) => Ok(id.to_string()),
        }
    }

    /// Reads an entry of any build.
    ///
    /// # Errors
    /// `INTERNAL` where this build does not know the kind, or the body does not have its form.
    pub fn parse(kind: &str, body: &str) -> Result<Self, Fault> {
        let no_id = || Fault::internal(format!("an outbox entry of kind {kind} without an id"));
        match kind {
            "period" => serde_json::from_str(body).map(Self::Period).map_err(Fault::internal_json),
            "event" => OutboxEvent::parse(body).map(Self::Event),
            "change" => RecordChange::parse(body).map(Self::Change),
            "settlement" => SettlementId::parse(body).map(Self::Settlement).ok_or_else(no_id),
            "settlement_event" => {
                let event = OutboxEvent::parse(body)?;
                Ok(Self::SettlementEvent(SettlementId::parse(&event.subject).ok_or_else(no_id)?, event))
            }
            "record" => VerificationId::parse(body).map(Self::Record).ok_or_else(no_id),
            _ => Err(Fault::internal(format!("an outbox entry of the unknown kind {kind}"))),
        }
    }
}

/// What has happened to a verification's record. The body is the event as JSON, with one member more: a build that does
/// not know that reads the event.
#[derive(Clone, Debug)]
pub struct RecordChange {
    /// What has happened.
    pub event: OutboxEvent,
    /// With the record's first change, the event that the verification was answered: it holds the record of then.
    pub answered: Option<OutboxEvent>,
}

impl RecordChange {
    fn body(&self) -> Result<String, Fault> {
        #[derive(Serialize)]
        struct Body<'a> {
            id: EventId,
            kind: &'a OutboxEventKind,
            subject: &'a str,
            body: &'a RawValue,
            at: UnixMillis,
            #[serde(skip_serializing_if = "Option::is_none")]
            answered: Option<&'a OutboxEvent>,
        }
        let OutboxEvent { id, kind, subject, body, at } = &self.event;
        let (id, at, answered) = (*id, *at, self.answered.as_ref());
        serde_json::to_string(&Body { id, kind, subject, body, at, answered }).map_err(Fault::internal)
    }

    fn parse(text: &str) -> Result<Self, Fault> {
        #[derive(Deserialize)]
        struct Answered {
            #[serde(default)]
            answered: Option<OutboxEvent>,
        }
        let Answered { answered } = serde_json::from_str(text).map_err(Fault::internal_json)?;
        Ok(Self { event: OutboxEvent::parse(text)?, answered })
    }
}

/// What has happened, by its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OutboxEventKind {
    /// An event that this build knows.
    Known(EventKind),
    /// An event of another build, which is carried as it is: during a deployment, or after one was taken back.
    Other(String),
}

impl From<EventKind> for OutboxEventKind {
    fn from(kind: EventKind) -> Self {
        Self::Known(kind)
    }
}

impl OutboxEventKind {
    /// The name, such as `payment.finalized`.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Known(kind) => kind.name(),
            Self::Other(name) => name,
        }
    }
}

/// Something that happened to a payment after it was answered, or to the tenant.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OutboxEvent {
    /// The event's id, `evt_…`; a second delivery of it changes nothing.
    pub id: EventId,
    /// What has happened.
    pub kind: OutboxEventKind,
    /// The id of the verification or settlement, or what was changed in the directory; empty in entries of older builds,
    /// whose body has it.
    #[serde(default)]
    pub subject: String,
    /// The record at that time, or the change, JSON.
    #[serde(alias = "record")]
    pub body: Box<RawValue>,
    /// When the event was recorded.
    pub at: UnixMillis,
}

impl OutboxEvent {
    /// The event that a verification was answered, with its record as it was answered.
    ///
    /// # Errors
    /// `INTERNAL` where the text is no record.
    pub fn answered(id: VerificationId, record: Box<RawValue>) -> Result<Self, Fault> {
        #[derive(Deserialize)]
        struct Columns {
            status: VerificationStatus,
        }
        let Columns { status } = serde_json::from_str(record.get()).map_err(Fault::internal_json)?;
        let (subject, at) = (id.to_string(), id.created_at());
        Ok(Self { id: id.event(), kind: status.event().into(), subject, body: record, at })
    }

    /// Reads an entry of any build.
    ///
    /// # Errors
    /// `INTERNAL` where the text is not an event.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        #[derive(Deserialize)]
        struct Subject {
            id: String,
        }
        let mut event: Self = serde_json::from_str(text).map_err(Fault::internal_json)?;
        if event.subject.is_empty() {
            event.subject = serde_json::from_str::<Subject>(event.body.get()).map_err(Fault::internal_json)?.id;
        }
        Ok(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use x402_chain::time::Period;

    /// Every kind as every build has stored it.
    fn stored() -> [(&'static str, &'static str); 7] {
        [
            ("period", r#"{"period":"2026-11","used":7,"requests":9}"#),
            (
                "event",
                r#"{"id":"evt_01KB0000000000000000000000","kind":"settlement.undelivered","subject":"stl_01KB0000000000000000000000","body":{"id":"stl_01KB0000000000000000000000"},"at":1795910400000}"#,
            ),
            (
                "change",
                r#"{"id":"evt_01KB0000000000000000000000","kind":"payment.finalized","subject":"ver_01KB0000000000000000000000","body":{"id":"ver_01KB0000000000000000000000"},"at":1795910400000}"#,
            ),
            (
                "change",
                r#"{"id":"evt_01KB0000000000000000000001","kind":"payment.reorged","subject":"ver_01KB0000000000000000000000","body":{"id":"ver_01KB0000000000000000000000"},"at":1795910400000,"answered":{"id":"evt_01KB0000000000000000000000","kind":"verification.succeeded","subject":"ver_01KB0000000000000000000000","body":{"id":"ver_01KB0000000000000000000000"},"at":1795910400000}}"#,
            ),
            ("settlement", "stl_01KB0000000000000000000000"),
            (
                "settlement_event",
                r#"{"id":"evt_01KB0000000000000000000000","kind":"settlement.failed","subject":"stl_01KB0000000000000000000000","body":{"id":"stl_01KB0000000000000000000000"},"at":1795910400000}"#,
            ),
            ("record", "ver_01KB0000000000000000000000"),
        ]
    }

    #[test]
    fn the_stored_text_of_every_kind_stays() {
        for (kind, body) in stored() {
            let entry = OutboxEntry::parse(kind, body).expect(kind);
            assert_eq!((entry.kind(), entry.body().expect(kind).as_str()), (kind, body));
            match (kind, entry) {
                ("period", OutboxEntry::Period(ClosedPeriod { period, used: 7, requests: 9 })) => {
                    assert_eq!(period, Period::of(UnixMillis(1_795_910_400_000)));
                }
                ("event", OutboxEntry::Event(event)) => {
                    assert_eq!(event.kind, EventKind::SettlementUndelivered.into())
                }
                ("change", OutboxEntry::Change(RecordChange { event, answered: None })) => {
                    assert_eq!(event.kind, EventKind::PaymentFinalized.into());
                }
                ("change", OutboxEntry::Change(RecordChange { event, answered: Some(answered) })) => {
                    assert_eq!(event.kind, EventKind::PaymentReorged.into());
                    assert_eq!(answered.kind, EventKind::VerificationSucceeded.into());
                    // A build that does not know the member reads the event.
                    assert_eq!(OutboxEvent::parse(body).expect("an event").kind, EventKind::PaymentReorged.into());
                }
                ("settlement_event", OutboxEntry::SettlementEvent(id, event)) => {
                    assert_eq!((id.to_string(), event.kind), (event.subject, EventKind::SettlementFailed.into()));
                }
                ("settlement", OutboxEntry::Settlement(_)) | ("record", OutboxEntry::Record(_)) => {}
                (kind, entry) => panic!("{kind} is read as {entry:?}"),
            }
        }
    }

    #[test]
    fn an_event_of_the_build_before_subjects_is_read() {
        let body = r#"{"id":"evt_01KB0000000000000000000000","kind":"payment.finalized","record":{"id":"ver_01KB0000000000000000000000"},"at":1}"#;
        let entry = OutboxEntry::parse("event", body);
        let Ok(OutboxEntry::Event(event)) = entry else { panic!("{entry:?}") };
        assert_eq!(event.subject, "ver_01KB0000000000000000000000");
    }

    #[test]
    fn what_is_not_understood_is_an_error_that_names_the_kind() {
        let cause = |kind: &str, body: &str| {
            OutboxEntry::parse(kind, body).expect_err(kind).cause().unwrap_or_default().to_owned()
        };
        assert!(cause("webhook", "{}").contains("webhook"));
        assert!(cause("", "").contains("unknown kind"));
        assert!(cause("settlement", "ver_01KB0000000000000000000000").contains("settlement"));
        assert!(cause("record", "").contains("record"));
        for kind in ["period", "event", "change", "settlement_event"] {
            assert!(!cause(kind, "{}").is_empty());
        }
    }
}

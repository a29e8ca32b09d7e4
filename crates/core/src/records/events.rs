//! Events of a month: those that are stored, and those that its records say themselves. A verification's record is its
//! event, so that a verification costs no row more; a stored event of the same bits stands for it once the record has
//! changed.

use crate::error::Fault;
use crate::event::EventKind;
use crate::outbox::OutboxEvent;
use crate::records::RecordCopy;
use crate::verification::answer::VerificationStatus;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use x402_chain::id::{EventId, VerificationId};
use x402_chain::time::UnixMillis;

/// An event as it is read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EventCopy {
    /// The event's id, `evt_…`.
    pub id: EventId,
    /// The name of its kind ([`EventKind::name`]), which a later build may have given it.
    pub kind: String,
    /// What it is about: an id, or what was changed; empty in a line of an older build, whose body has it.
    #[serde(default)]
    pub subject: String,
    /// The record at that time, or the change, JSON.
    #[serde(alias = "record")]
    pub body: Box<RawValue>,
    /// When it was recorded.
    pub at: UnixMillis,
    /// Whether a record says it: a stored event of the same id counts before it.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub derived: bool,
}

impl From<OutboxEvent> for EventCopy {
    fn from(event: OutboxEvent) -> Self {
        let OutboxEvent { id, kind, subject, body, at } = event;
        Self { id, kind: kind.name().to_owned(), subject, body, at, derived: false }
    }
}

impl EventCopy {
    /// Reads a line of a month or of the archive.
    ///
    /// # Errors
    /// `INTERNAL` where it is no event.
    pub fn read(line: &str) -> Result<Self, Fault> {
        #[derive(Deserialize)]
        struct Subject {
            id: String,
        }
        let mut event: Self = serde_json::from_str(line).map_err(Fault::internal_json)?;
        if event.subject.is_empty() {
            event.subject = serde_json::from_str::<Subject>(event.body.get()).map_err(Fault::internal_json)?.id;
        }
        Ok(event)
    }

    /// The event that a record says: its verification was answered.
    ///
    /// # Errors
    /// `INTERNAL` where the text is no record.
    pub fn of_record(copy: RecordCopy) -> Result<Self, Fault> {
        Ok(Self { derived: true, ..OutboxEvent::answered(copy.id, copy.record)?.into() })
    }
}

/// The event that a record says, by its outcome as a month stores it: a refusal's code, or the payment's status.
#[must_use]
pub fn kind_of_outcome(outcome: &str) -> EventKind {
    let of = [VerificationStatus::Confirmed, VerificationStatus::Finalized, VerificationStatus::Reorged];
    let found = of.into_iter().find(|status| status.name() == outcome);
    found.unwrap_or(VerificationStatus::Rejected).event()
}

/// Which events of a month to list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventsQuery {
    /// Only events with a smaller id.
    pub before: Option<EventId>,
    /// Only events from this id on.
    pub from: Option<EventId>,
    /// Only events of kinds with these names; none: of all kinds. A name that the reader does not know finds nothing.
    pub kinds: Vec<String>,
    /// Only events about this.
    pub subject: Option<String>,
    /// At most so many.
    pub rows: usize,
    /// At most so many bytes, or one event.
    pub bytes: usize,
}

/// Which records may say an event that is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DerivingRecords {
    /// None.
    None,
    /// This one.
    One(VerificationId),
    /// Any.
    All,
}

impl EventsQuery {
    /// Whether an event is listed, by its kind and its subject. Its id is not looked at.
    #[must_use]
    pub fn is_wanted(&self, kind: &str, subject: &str) -> bool {
        self.takes_kind(kind) && self.subject.as_ref().is_none_or(|wanted| wanted == subject)
    }

    fn takes_kind(&self, kind: &str) -> bool {
        self.kinds.is_empty() || self.kinds.iter().any(|wanted| wanted == kind)
    }

    /// Whether an id is within the bounds.
    #[must_use]
    pub fn holds(&self, id: EventId) -> bool {
        self.before.is_none_or(|before| id < before) && self.from.is_none_or(|from| id >= from)
    }

    /// Whether every event within the bounds is listed.
    #[must_use]
    pub const fn takes_all(&self) -> bool {
        self.kinds.is_empty() && self.subject.is_none()
    }

    /// Which records may say an event that is listed.
    #[must_use]
    pub fn deriving_records(&self) -> DerivingRecords {
        let kinds = [EventKind::VerificationSucceeded, EventKind::VerificationFailed];
        if !kinds.into_iter().any(|kind| self.takes_kind(kind.name())) {
            return DerivingRecords::None;
        }
        match self.subject.as_deref().map(VerificationId::parse) {
            None => DerivingRecords::All,
            Some(Some(id)) if self.holds(id.event()) => DerivingRecords::One(id),
            Some(_) => DerivingRecords::None,
        }
    }
}

/// Events of a month, the newest first.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct EventsPage {
    /// The events.
    pub events: Vec<EventCopy>,
    /// From this id on no event is missing; below it, events may be. `None`: none is missing at all.
    pub floor: Option<EventId>,
}

/// What of some events is listed, the newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selected<T> {
    /// The events.
    pub events: Vec<T>,
    /// As in [`EventsPage`].
    pub floor: Option<EventId>,
}

/// Selects the newest of some events, within the rows and bytes of a query. `all` holds each with the bytes of its line;
/// from `floor` on none is missing in it.
#[must_use]
pub fn select<T>(all: BTreeMap<EventId, (usize, T)>, floor: Option<EventId>, query: &EventsQuery) -> Selected<T> {
    let (mut events, mut bytes) = (Vec::new(), 0_usize);
    for (id, (size, event)) in all.into_iter().rev() {
        if floor.is_some_and(|floor| id < floor) {
            break;
        }
        bytes = bytes.saturating_add(size);
        if events.len() >= query.rows || (bytes > query.bytes && !events.is_empty()) {
            return Selected { events, floor: Some(id.next()) };
        }
        events.push(event);
    }
    Selected { events, floor }
}

/// Puts the events of a month's object and of the archive together: of the same id a stored event counts before one that
/// a record says, and the object's before the archive's.
#[must_use]
pub fn merge(pages: impl IntoIterator<Item = EventsPage>) -> (BTreeMap<EventId, EventCopy>, Option<EventId>) {
    let (mut all, mut floor) = (BTreeMap::<EventId, EventCopy>::new(), None);
    for page in pages {
        floor = floor.max(page.floor);
        for event in page.events {
            if all.get(&event.id).is_none_or(|held| held.derived && !event.derived) {
                all.insert(event.id, event);
            }
        }
    }
    if let Some(floor) = floor {
        all.retain(|id, _| *id >= floor);
    }
    (all, floor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(at: u64) -> EventId {
        EventId::new(UnixMillis(at), [0; 10])
    }

    fn query(rows: usize, bytes: usize) -> EventsQuery {
        EventsQuery { before: None, from: None, kinds: Vec::new(), subject: None, rows, bytes }
    }

    fn event(at: u64, derived: bool) -> EventCopy {
        let body = RawValue::from_string("{\"id\":\"x\"}".to_owned()).expect("JSON");
        EventCopy { id: id(at), kind: String::new(), subject: String::new(), body, at: UnixMillis(at), derived }
    }

    #[test]
    fn a_record_says_how_it_was_answered() {
        let ver = VerificationId::new(UnixMillis(1_795_910_400_000), [7; 10]);
        for (status, kind) in [
            ("confirmed", "verification.succeeded"),
            ("finalized", "verification.succeeded"),
            ("reorged", "verification.succeeded"),
            ("pending", "verification.failed"),
            ("rejected", "verification.failed"),
        ] {
            let text = format!("{{\"id\":\"{ver}\",\"status\":\"{status}\",\"b\":1,\"a\":\"1.50\"}}");
            let record = RawValue::from_string(text.clone()).expect("JSON");
            let event =
                EventCopy::of_record(RecordCopy { id: ver, revision: 0, record, units: None }).expect("a record");
            assert_eq!((event.kind.as_str(), event.subject, event.body.get()), (kind, ver.to_string(), text.as_str()));
            assert_eq!((event.id, event.at, event.derived), (ver.event(), ver.created_at(), true));
            assert_eq!(event.id.to_string().split_once('_').map(|(_, bits)| bits), ver.to_string().get(4..));
        }
        for (outcome, kind) in [("confirmed", "verification.succeeded"), ("TX_NOT_FOUND", "verification.failed")] {
            assert_eq!(kind_of_outcome(outcome).name(), kind);
        }
        let record = RawValue::from_string("{}".to_owned()).expect("JSON");
        assert!(EventCopy::of_record(RecordCopy { id: ver, revision: 0, record, units: None }).is_err());
    }

    #[test]
    fn lines_of_older_builds_and_of_later_ones_are_read() {
        let line =
            r#"{"id":"evt_01KB0000000000000000000000","kind":"payment.finalized","record":{"id":"ver_1"},"at":1}"#;
        let old = EventCopy::read(line).expect("an event");
        assert_eq!((old.subject.as_str(), old.derived), ("ver_1", false));
        let line =
            r#"{"id":"evt_01KB0000000000000000000000","kind":"of.later","subject":"s","body":{},"at":1,"more":1}"#;
        assert_eq!(EventCopy::read(line).expect("an event").kind, "of.later");
        assert!(EventCopy::read("{}").is_err());
    }

    #[test]
    fn a_page_ends_at_its_rows_its_bytes_or_where_the_scan_was_cut() {
        let all: BTreeMap<EventId, (usize, u64)> = (1..=9).map(|at| (id(at), (10, at))).collect();
        let of = |floor: Option<u64>, rows, bytes| select(all.clone(), floor.map(id), &query(rows, bytes));
        assert_eq!(of(None, 3, 99), Selected { events: vec![9, 8, 7], floor: Some(id(6).next()) });
        assert_eq!(of(None, 9, 20), Selected { events: vec![9, 8], floor: Some(id(7).next()) });
        assert_eq!(of(None, 9, 5), Selected { events: vec![9], floor: Some(id(8).next()) });
        assert_eq!(of(Some(8), 9, 99), Selected { events: vec![9, 8], floor: Some(id(8)) });
        assert_eq!(of(None, 9, 99), Selected { events: (1..=9).rev().collect(), floor: None });
    }

    #[test]
    fn a_stored_event_counts_before_a_record() {
        let page = |events: Vec<EventCopy>, floor: Option<u64>| EventsPage { events, floor: floor.map(id) };
        let (all, floor) = merge([
            page(vec![event(3, true), event(2, false), event(1, true)], None),
            page(vec![event(3, false), event(2, true), event(1, true)], Some(2)),
        ]);
        let found: Vec<(EventId, bool)> = all.values().map(|event| (event.id, event.derived)).collect();
        assert_eq!((found, floor), (vec![(id(2), false), (id(3), false)], Some(id(2))));
    }

    #[test]
    fn a_filter_says_which_records_are_looked_at() {
        let ver = VerificationId::new(UnixMillis(5), [0; 10]);
        let of = |kinds: &[&str], subject: Option<&str>, from: u64| {
            let kinds = kinds.iter().map(|kind| (*kind).to_owned()).collect();
            let subject = subject.map(str::to_owned);
            EventsQuery { kinds, subject, from: Some(id(from)), ..query(1, 1) }.deriving_records()
        };
        let text = ver.to_string();
        assert_eq!(of(&[], None, 0), DerivingRecords::All);
        assert_eq!(of(&["quota.reset"], None, 0), DerivingRecords::None);
        assert_eq!(of(&["quota.reset", "verification.failed"], None, 0), DerivingRecords::All);
        assert_eq!(of(&[], Some(&text), 0), DerivingRecords::One(ver));
        assert_eq!(of(&[], Some(&text), 6), DerivingRecords::None);
        assert_eq!(of(&[], Some("key_1"), 0), DerivingRecords::None);
        assert!(query(1, 1).is_wanted("any", "thing") && query(1, 1).takes_all());
    }
}

//! Reads a month's events: those that are stored, and those that its records say.

use super::{Records, record_of};
use std::collections::BTreeMap;
use x402_chain::id::{EventId, VerificationId};
use x402_core::error::Fault;
use x402_core::records::events::{
    DerivingRecords, EventCopy, EventsPage, EventsQuery, Selected, kind_of_outcome, select,
};
use x402_core::records::pack::unpack;

/// The most rows of each table that one call looks at. Where a filter leaves little of them, the page says how far it came.
const SCAN_MAX: usize = 2_000;

/// Where the line of a listed event stands.
enum Place {
    Stored(EventId),
    Record(VerificationId),
}

/// An id as a bound, and what stands for the bound where there is none.
fn bound(id: Option<EventId>, none: &str) -> String {
    id.map_or_else(|| none.to_owned(), |id| id.to_string())
}

impl Records {
    pub(super) fn read_event(&self, id: EventId) -> Result<Option<EventCopy>, Fault> {
        if !self.open_stored()? {
            return Ok(None);
        }
        let stored = self.stored_event(id)?;
        if stored.is_some() { Ok(stored) } else { self.derived_event(id.verification()) }
    }

    fn stored_event(&self, id: EventId) -> Result<Option<EventCopy>, Fault> {
        self.store().event(id)?.map(|row| EventCopy::read(&unpack(&row.body)?)).transpose()
    }

    fn derived_event(&self, id: VerificationId) -> Result<Option<EventCopy>, Fault> {
        let row = self.store().record(&id.to_string())?;
        row.map(|row| EventCopy::of_record(record_of(&row.body)?)).transpose()
    }

    pub(super) fn page_events(&self, query: &EventsQuery) -> Result<EventsPage, Fault> {
        if !self.open_stored()? {
            return Ok(EventsPage::default());
        }
        let limit = if query.takes_all() { query.rows.saturating_add(1) } else { SCAN_MAX };
        let (mut all, records) = self.scan_records(query, limit)?;
        // A stored event takes the place of one that a record says.
        let events = self.scan_events(query, limit, &mut all)?;
        let Selected { events, floor } = select(all, records.max(events), query);
        let mut page = EventsPage { events: Vec::with_capacity(events.len()), floor };
        for place in events {
            let event = match place {
                Place::Stored(id) => self.stored_event(id)?,
                Place::Record(id) => self.derived_event(id)?,
            };
            page.events.extend(event);
        }
        Ok(page)
    }

    /// The wanted events that records say, and from which id on these are all.
    fn scan_records(&self, query: &EventsQuery, limit: usize) -> Result<(Found, Option<EventId>), Fault> {
        let mut found = Found::new();
        let (before, from, limit) = match query.deriving_records() {
            DerivingRecords::None => return Ok((found, None)),
            DerivingRecords::One(id) => (id.next().to_string(), id.to_string(), 1),
            DerivingRecords::All => {
                let [before, from] = [query.before, query.from].map(|id| id.map(EventId::verification));
                // Greater than every id, for the first page.
                let before = before.map_or_else(|| "ver_a".to_owned(), |id| id.to_string());
                (before, from.map_or_else(String::new, |id| id.to_string()), limit)
            }
        };
        let rows = self.store().outcomes_before((&before, &from), limit)?;
        let last = rows.last().map(|row| row.id.event());
        let floor = last.filter(|_| rows.len() >= limit && query.subject.is_none());
        for row in rows {
            let kind = kind_of_outcome(&row.outcome).name();
            if query.is_wanted(kind, &row.id.to_string()) {
                found.insert(row.id.event(), (row.size, Place::Record(row.id)));
            }
        }
        Ok((found, floor))
    }

    /// Adds the wanted events that are stored; returns from which id on these are all.
    fn scan_events(&self, query: &EventsQuery, limit: usize, all: &mut Found) -> Result<Option<EventId>, Fault> {
        let range = (bound(query.before, "evt_a"), bound(query.from, ""));
        let rows = self.store().events_before((&range.0, &range.1), limit)?;
        let floor = rows.last().map(|row| row.id).filter(|_| rows.len() >= limit);
        for row in rows {
            let is_wanted = match (row.kind, row.subject) {
                _ if query.takes_all() => true,
                (Some(kind), Some(subject)) => query.is_wanted(&kind, &subject),
                (None, _) | (_, None) => {
                    let event = self.stored_event(row.id)?;
                    event.is_some_and(|event| query.is_wanted(&event.kind, &event.subject))
                }
            };
            if is_wanted {
                all.insert(row.id, (row.size, Place::Stored(row.id)));
            } else {
                all.remove(&row.id);
            }
        }
        Ok(floor)
    }
}

/// Events by their ids, with the bytes of their lines.
type Found = BTreeMap<EventId, (usize, Place)>;

//! Where a stream of events stands: what it reads next, and what of it was sent. It is read by parts of the ids, so that it
//! goes on within a millisecond, and over what its filter leaves out.
//!
//! What was read is complete up to the time at which the ledger had shipped all that it held, but for events that were on
//! their way then: an event's id has the time at which it was begun to be written. So each pass begins [`LATE_MS`] before the
//! one before, and what was sent is left out; and a stream that goes on after an event begins so long before it.

use super::events::{EventCopy, EventsPage};
use std::collections::BTreeSet;
use x402_chain::id::EventId;
use x402_chain::time::UnixMillis;

/// How long after its id's time an event may become visible, beside the time in which the ledger cannot ship it.
const LATE_MS: u64 = 60_000;
/// How far the clocks of two machines may be apart.
const CLOCKS_MS: u64 = 60_000;
/// A millisecond as a distance of ids.
const MS: u128 = 1 << 80;
/// The first part of a longer time that is read at once: an hour.
const SPAN: u128 = 3_600_000 * MS;
/// The longest part: some 50 days.
const SPAN_MAX: u128 = (1 << 32) * MS;

/// After so many parts that held nothing, they grow faster: a filter may have left out what they held.
const EMPTY_MIN: u32 = 4;

/// The first id of a time.
fn first_of(at: UnixMillis) -> EventId {
    EventId::new(at, [0; 10])
}

/// Events that are read at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TailRange {
    /// From this id on.
    pub from: EventId,
    /// With smaller ids only.
    pub before: EventId,
}

/// One reading from what is complete up to the time at which the ledger had shipped what it held.
#[derive(Clone, Copy, Debug)]
struct TailPass {
    /// When that was.
    shipped_at: UnixMillis,
    /// From which id on it is still to be read.
    next: EventId,
}

/// A stream's place among the events.
#[derive(Debug)]
pub struct EventTail {
    /// All events with smaller ids were sent, or are not wanted.
    complete: EventId,
    /// Events from then on that were sent.
    sent: BTreeSet<EventId>,
    /// Whether the first pass sends nothing: what it reads happened before the stream began.
    skips: bool,
    pass: Option<TailPass>,
    /// The part that is read at once, as a distance of ids.
    span: u128,
    /// How much could be read where a part held more than is read at once; 0 where that is not known.
    known: u128,
    /// How many parts in a row held more than is read at once.
    too_long: u32,
    /// How many parts in a row held nothing that is wanted.
    empty: u32,
}

impl EventTail {
    /// A stream that goes on after an event of this time, or with `skips` begins with what happens from then on; no event is
    /// older than `made`.
    #[must_use]
    pub fn new(from: UnixMillis, made: UnixMillis, skips: bool) -> Self {
        let from = UnixMillis(from.0.saturating_sub(LATE_MS)).max(made);
        Self {
            complete: first_of(from),
            sent: BTreeSet::new(),
            skips,
            pass: None,
            span: SPAN,
            known: 0,
            too_long: 0,
            empty: 0,
        }
    }

    /// Whether the stream has not begun yet: its first pass is still to be read.
    #[must_use]
    pub const fn skips(&self) -> bool {
        self.skips
    }

    /// Whether a pass is on its way.
    #[must_use]
    pub const fn is_reading(&self) -> bool {
        self.pass.is_some()
    }

    /// Begins a pass: the ledger has shipped what it held then.
    pub fn begin(&mut self, shipped_at: UnixMillis) {
        self.pass = Some(TailPass { shipped_at, next: self.complete });
    }

    /// Gives a pass up: what it has read stays read.
    pub fn give_up(&mut self) {
        self.pass = None;
    }

    /// The end of a pass: the clock that gave the newest id may be ahead of this one.
    fn end(pass: TailPass) -> EventId {
        first_of(pass.shipped_at.plus(CLOCKS_MS))
    }

    /// What is read next; `None` between passes.
    #[must_use]
    pub fn range(&self) -> Option<TailRange> {
        let pass = self.pass?;
        Some(TailRange { from: pass.next, before: pass.next.plus(self.span).min(Self::end(pass)) })
    }

    /// Takes what was read of the range; returns what of it is to be sent, the oldest first. Where the range holds more than
    /// `rows`, or than was looked at, a shorter one is read next.
    #[must_use]
    pub fn take(&mut self, page: EventsPage, rows: usize) -> Vec<EventCopy> {
        let (Some(pass), Some(TailRange { from, before })) = (self.pass, self.range()) else { return Vec::new() };
        let last = page.events.last().filter(|_| page.events.len() >= rows).map(|event| event.id);
        if let Some(floor) = page.floor.max(last).filter(|floor| *floor > from) {
            // Half of what was read at its end, or less where several in a row were too long.
            (self.too_long, self.empty) = (self.too_long.saturating_add(1), 0);
            let shorter = before.since(from).checked_shr(self.too_long.saturating_mul(2)).unwrap_or(0);
            self.known = before.since(floor);
            self.span = shorter.min(self.known.div_euclid(2)).max(1);
            return Vec::new();
        }
        self.empty = if page.events.is_empty() { self.empty.saturating_add(1).min(12) } else { 0 };
        self.too_long = 0;
        self.span = self.longer().min(SPAN_MAX);
        let mut new: Vec<EventCopy> = page.events.into_iter().filter(|event| self.sent.insert(event.id)).collect();
        new.reverse();
        if self.skips {
            new.clear();
        }
        let is_over = before >= Self::end(pass);
        self.pass = (!is_over).then_some(TailPass { next: before, ..pass });
        self.skips &= !is_over;
        let late = first_of(UnixMillis(pass.shipped_at.0.saturating_sub(LATE_MS)));
        self.complete = self.complete.max(before.min(late));
        self.sent = self.sent.split_off(&self.complete);
        new
    }

    /// How much is read after a part that was read whole: soon as much as could be read where one was too long, then slowly
    /// more. Where nothing is for long, parts grow ever faster.
    fn longer(&self) -> u128 {
        let twice = self.span.saturating_mul(2);
        match self.empty.checked_sub(EMPTY_MIN) {
            Some(more @ 1..) => self.span.saturating_mul(4_u128.saturating_pow(more)),
            _ if twice < self.known || self.known == 0 => twice,
            _ => self.known.max(self.span.saturating_add(self.span.div_ceil(4))),
        }
    }

    /// After which id a client may go on, and misses nothing: a stream that goes on after it begins with what is not complete.
    #[must_use]
    pub fn position(&self) -> EventId {
        first_of(self.complete.created_at().plus(LATE_MS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::events::{EventsQuery, select};
    use proptest::prelude::*;
    use serde_json::value::RawValue;
    use std::collections::BTreeMap;

    const ROWS: usize = 5;
    /// The most rows of the model that a reading looks at.
    const SCAN: usize = 12;
    const NOW: u64 = 1_795_910_400_000;

    fn event(id: EventId, kind: &str) -> EventCopy {
        let body = RawValue::from_string("{}".to_owned()).expect("JSON");
        EventCopy { id, kind: kind.to_owned(), subject: String::new(), body, at: id.created_at(), derived: false }
    }

    /// What a month's object answers: the newest rows of the range, of so many that it looks at.
    fn page(all: &BTreeMap<EventId, bool>, range: TailRange) -> EventsPage {
        let query = EventsQuery {
            before: Some(range.before),
            from: Some(range.from),
            kinds: Vec::new(),
            subject: None,
            rows: ROWS,
            bytes: 99,
        };
        let seen: Vec<(EventId, bool)> =
            all.range(range.from..range.before).rev().take(SCAN).map(|(id, is)| (*id, *is)).collect();
        let floor = seen.last().filter(|_| seen.len() >= SCAN).map(|(id, _)| *id);
        let found = seen.into_iter().filter(|(_, is_wanted)| *is_wanted).map(|(id, _)| (id, (1, event(id, "k"))));
        let selected = select(found.collect(), floor, &query);
        EventsPage { events: selected.events, floor: selected.floor }
    }

    /// Reads a pass; what it sent, and in how many readings.
    fn pass(tail: &mut EventTail, all: &BTreeMap<EventId, bool>, shipped_at: UnixMillis) -> (Vec<EventId>, usize) {
        let (mut sent, mut ranges) = (Vec::new(), Vec::new());
        tail.begin(shipped_at);
        while let Some(range) = tail.range() {
            ranges.push(range);
            assert!(ranges.len() < 9_000, "{range:?}");
            sent.extend(tail.take(page(all, range), ROWS).into_iter().map(|event| event.id));
        }
        (sent, ranges.len())
    }

    #[test]
    fn a_millisecond_holds_any_number_of_events() {
        let at = UnixMillis(NOW);
        let mut all = BTreeMap::new();
        let mut next = EventId::new(at, [7; 10]);
        for n in 0..3_000_u32 {
            // One after the other, as a burst gives them; and spread over the millisecond.
            all.insert(next, true);
            next = next.next();
            let [a, b, c, d] = n.wrapping_mul(2_654_435_761).to_be_bytes();
            all.insert(EventId::new(at, [a, b, c, d, 0, 0, 0, 0, 0, 0]), true);
        }
        let mut tail = EventTail::new(at, UnixMillis(0), false);
        let (sent, reads) = pass(&mut tail, &all, at.plus(600_000));
        assert_eq!(sent, all.keys().copied().collect::<Vec<_>>());
        assert!(reads < 6_000 * 4 / ROWS, "{reads} readings");
        assert_eq!(pass(&mut tail, &all, at.plus(700_000)).0, []);
    }

    #[test]
    fn what_is_not_wanted_is_passed_over_and_a_client_goes_on_after_it() {
        let at = UnixMillis(NOW);
        let all: BTreeMap<EventId, bool> =
            (0..900).map(|n| (EventId::new(at.plus(n * 777), [n.to_le_bytes()[0]; 10]), n == 899)).collect();
        let mut tail = EventTail::new(at, UnixMillis(0), false);
        tail.begin(at.plus(3_600_000));
        let (mut reads, mut sent) = (0, Vec::new());
        // A connection that ends at any time is followed by one that begins where it was.
        while let Some(range) = tail.range() {
            let before = tail.position();
            sent.extend(tail.take(page(&all, range), ROWS).into_iter().map(|event| event.id));
            assert!(tail.position() >= before);
            reads += 1;
            if reads % 50 == 49 {
                tail = EventTail::new(tail.position().created_at(), UnixMillis(0), false);
                tail.begin(at.plus(3_600_000));
            }
            assert!(reads < 400);
        }
        assert_eq!(tail.position(), first_of(at.plus(3_600_000)));
        sent.dedup();
        assert_eq!(sent, all.last_key_value().map(|(id, _)| *id).into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn a_stream_begins_with_what_happens_next() {
        let old = EventId::new(UnixMillis(NOW - 1_000), [1; 10]);
        let mut all: BTreeMap<EventId, bool> = [(old, true)].into();
        let mut tail = EventTail::new(UnixMillis(NOW), UnixMillis(0), true);
        assert_eq!(pass(&mut tail, &all, UnixMillis(NOW)), (vec![], 1));
        assert!(!tail.skips() && !tail.is_reading());
        // On its way when the pass was read.
        let late = EventId::new(UnixMillis(NOW - 59_000), [1; 10]);
        all.insert(late, true);
        assert_eq!(pass(&mut tail, &all, UnixMillis(NOW + 500)), (vec![late], 1));
        assert_eq!(EventTail::new(UnixMillis(5), UnixMillis(9), false).position(), first_of(UnixMillis(60_009)));
    }

    proptest! {
        /// Whatever ids there are, and wherever a pass is given up, each wanted event is sent once and in order of its pass.
        #[test]
        fn every_event_is_sent_once(
            ids in prop::collection::btree_map((0_u64..4_000, any::<[u8; 2]>()), any::<bool>(), 0..200),
            stops in prop::collection::vec(1_usize..9, 0..4),
        ) {
            let all: BTreeMap<EventId, bool> = ids.into_iter()
                .map(|((at, [a, b]), is)| (EventId::new(UnixMillis(NOW).plus(at.saturating_mul(97)), [a, 0, 0, 0, 0, 0, 0, 0, 0, b]), is)).collect();
            let mut tail = EventTail::new(UnixMillis(NOW), UnixMillis(0), false);
            let mut sent = Vec::new();
            for stop in stops {
                tail.begin(UnixMillis(NOW + 900_000));
                for _ in 0..stop {
                    if let Some(range) = tail.range() {
                        sent.extend(tail.take(page(&all, range), ROWS).into_iter().map(|event| event.id));
                    }
                }
                tail.give_up();
            }
            sent.extend(pass(&mut tail, &all, UnixMillis(NOW + 900_000)).0);
            let wanted: Vec<EventId> = all.iter().filter(|(_, is)| **is).map(|(id, _)| *id).collect();
            prop_assert_eq!(sent, wanted);
        }
    }
}

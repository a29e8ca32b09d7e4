//! Which calls of several callers go to one provider in one HTTP request, as one isolate decides it.
//!
//! A caller that finds no request in flight sends its own at once. Those that come meanwhile wait, until the flight has
//! ended or for some milliseconds, and whoever acts first then sends the calls of all that wait.

use crate::time::UnixMillis;
use std::collections::VecDeque;

/// The most calls in one request: four to eight payments, and few enough for providers that limit batches.
const CALLS_MAX: usize = 24;
/// The most bytes of parameters in one request; a single caller's may be more.
const BYTES_MAX: usize = 65_536;
/// The most callers that wait; further ones ask for themselves.
const WAITING_MAX: usize = 256;
/// A request that has been in flight for longer is taken for lost: its sender was cancelled.
const FLIGHT_MS: u64 = 3_000;
/// The shortest and the longest pause until a caller looks for its answer again.
const PAUSE_MS: (u64, u64) = (2, 100);
/// How long callers ask for themselves after a shared request that did not serve all of them.
const APART_MS: u64 = 60_000;

/// What a caller's calls add to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallsSize {
    /// How many calls.
    pub calls: usize,
    /// The bytes of their parameters.
    pub bytes: usize,
}

/// A caller's place among those that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(u64);

/// A request that is in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlightId(u64);

/// How a caller goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It asks for itself, and nobody waits for its request.
    Apart,
    /// It asks for itself at once; its request is in flight until [`Lane::land`].
    First(FlightId),
    /// It waits.
    Wait(Ticket),
}

struct Waiting<T> {
    ticket: Ticket,
    size: CallsSize,
    caller: T,
}

/// The requests to one provider of one network.
pub struct Lane<T> {
    waiting: VecDeque<Waiting<T>>,
    in_flight: Vec<(FlightId, UnixMillis)>,
    next: u64,
    apart_until: UnixMillis,
    /// How long the last request took.
    took_ms: u64,
}

impl<T> Default for Lane<T> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), in_flight: Vec::new(), next: 0, apart_until: UnixMillis(0), took_ms: 0 }
    }
}

impl<T> Lane<T> {
    /// Takes a caller.
    pub fn join(&mut self, caller: T, size: CallsSize, now: UnixMillis) -> Turn {
        if now < self.apart_until || size.calls > CALLS_MAX || self.waiting.len() >= WAITING_MAX {
            return Turn::Apart;
        }
        if self.waiting.is_empty() && self.is_idle(now) {
            return Turn::First(self.depart(now));
        }
        let ticket = Ticket(self.number());
        self.waiting.push_back(Waiting { ticket, size, caller });
        Turn::Wait(ticket)
    }

    /// Whether no request is in flight.
    #[must_use]
    pub fn is_idle(&self, now: UnixMillis) -> bool {
        self.in_flight.iter().all(|(_, sent_at)| is_lost(*sent_at, now))
    }

    /// Whether the caller waits still.
    #[must_use]
    pub fn is_waiting(&self, ticket: Ticket) -> bool {
        self.waiting.iter().any(|one| one.ticket == ticket)
    }

    /// The caller that has waited longest.
    #[must_use]
    pub fn front(&self) -> Option<&T> {
        self.waiting.front().map(|one| &one.caller)
    }

    /// The callers of the next request, in their order, as many as fit and at least one of those that wait. The request
    /// is in flight until [`Self::land`].
    pub fn take(&mut self, now: UnixMillis) -> (Vec<T>, FlightId) {
        let mut taken = Vec::new();
        let (mut calls, mut bytes) = (0_usize, 0_usize);
        while let Some(next) = self.waiting.front() {
            calls = calls.saturating_add(next.size.calls);
            bytes = bytes.saturating_add(next.size.bytes);
            if !taken.is_empty() && (calls > CALLS_MAX || bytes > BYTES_MAX) {
                break;
            }
            taken.extend(self.waiting.pop_front().map(|one| one.caller));
        }
        (taken, self.depart(now))
    }

    /// Removes a caller that waits no more.
    pub fn leave(&mut self, ticket: Ticket) {
        self.waiting.retain(|one| one.ticket != ticket);
    }

    const fn number(&mut self) -> u64 {
        let number = self.next;
        self.next = number.wrapping_add(1);
        number
    }

    fn depart(&mut self, now: UnixMillis) -> FlightId {
        let flight = FlightId(self.number());
        self.in_flight.retain(|(_, sent_at)| !is_lost(*sent_at, now));
        self.in_flight.push((flight, now));
        flight
    }

    /// How long a caller whose calls were sent `waited` ms ago pauses until it looks for its answer: until seven eighths of
    /// the time that the last request took, then a thirty-second of what it has waited.
    #[must_use]
    pub fn pause_ms(&self, waited: u64) -> u64 {
        let (least, most) = PAUSE_MS;
        let likely = self.took_ms.saturating_sub(self.took_ms.wrapping_div(8));
        likely.saturating_sub(waited).max(waited.wrapping_div(32)).clamp(least, most)
    }

    /// Notes that a request has ended.
    pub fn land(&mut self, flight: FlightId, now: UnixMillis) {
        if let Some((_, sent_at)) = self.in_flight.iter().find(|(other, _)| *other == flight) {
            self.took_ms = now.since(*sent_at);
        }
        self.in_flight.retain(|(other, _)| *other != flight);
    }

    /// Notes a shared request that did not serve all its callers: for a while each asks for itself.
    pub const fn note_failure(&mut self, now: UnixMillis) {
        self.apart_until = now.plus(APART_MS);
    }
}

const fn is_lost(sent_at: UnixMillis, now: UnixMillis) -> bool {
    now.since(sent_at) > FLIGHT_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_000_000);
    const SMALL: CallsSize = CallsSize { calls: 3, bytes: 1_000 };

    fn ticket(turn: Turn) -> Ticket {
        match turn {
            Turn::Wait(ticket) => ticket,
            Turn::Apart | Turn::First(_) => panic!("{turn:?}"),
        }
    }

    fn flight(turn: Turn) -> FlightId {
        match turn {
            Turn::First(flight) => flight,
            Turn::Apart | Turn::Wait(_) => panic!("{turn:?}"),
        }
    }

    fn joined(lane: &mut Lane<u32>, callers: impl IntoIterator<Item = u32>) -> Vec<Turn> {
        callers.into_iter().map(|caller| lane.join(caller, SMALL, NOW)).collect()
    }

    #[test]
    fn a_caller_sends_at_once_where_nothing_is_in_flight_and_the_others_wait_for_it() {
        let mut lane = Lane::default();
        let turns = joined(&mut lane, [1, 2, 3]);
        let (first, second) = (flight(turns[0]), ticket(turns[1]));
        assert!(!lane.is_idle(NOW) && lane.is_waiting(second) && lane.front() == Some(&2));
        lane.land(first, NOW);
        assert!(lane.is_idle(NOW));
        // Who comes now goes with those that wait.
        let last = ticket(joined(&mut lane, [4])[0]);
        let (taken, next) = lane.take(NOW);
        assert_eq!(taken, [2, 3, 4]);
        assert!(!lane.is_idle(NOW) && !lane.is_waiting(last) && lane.front().is_none());
        lane.land(first, NOW);
        assert!(!lane.is_idle(NOW));
        lane.land(next, NOW);
        assert!(lane.is_idle(NOW));
    }

    #[test]
    fn a_request_holds_so_many_calls_and_bytes_and_at_least_one_caller() {
        let mut lane = Lane::default();
        joined(&mut lane, 0..20);
        let sizes: Vec<usize> = (0..3).map(|_| lane.take(NOW).0.len()).collect();
        assert_eq!(sizes, [8, 8, 3]);
        for (caller, bytes) in [(1, BYTES_MAX * 2), (2, BYTES_MAX), (3, 1)] {
            lane.join(caller, CallsSize { calls: 1, bytes }, NOW);
        }
        for caller in 1..=3 {
            assert_eq!(lane.take(NOW).0, [caller]);
        }
        let large = CallsSize { calls: CALLS_MAX + 1, bytes: 0 };
        assert_eq!(lane.join(4, large, NOW), Turn::Apart);
    }

    #[test]
    fn so_many_wait_and_further_ones_ask_for_themselves() {
        let mut lane = Lane::default();
        joined(&mut lane, [0]);
        let turns = joined(&mut lane, 0..300);
        assert_eq!(turns.iter().filter(|turn| **turn == Turn::Apart).count(), 300 - WAITING_MAX);
    }

    #[test]
    fn a_caller_that_leaves_is_sent_by_nobody() {
        let mut lane = Lane::default();
        let turns = joined(&mut lane, [1, 2, 3]);
        lane.leave(ticket(turns[1]));
        assert_eq!(lane.take(NOW).0, [3]);
    }

    #[test]
    fn a_flight_whose_sender_was_cancelled_holds_nobody_up_for_long() {
        let mut lane = Lane::default();
        joined(&mut lane, [1, 2]);
        let late = NOW.plus(FLIGHT_MS + 1);
        assert!(!lane.is_idle(NOW.plus(FLIGHT_MS)) && lane.is_idle(late));
        // However many requests follow it.
        let (taken, next) = lane.take(late);
        assert_eq!((taken, lane.in_flight.len()), (vec![2], 1));
        lane.land(next, NOW);
        assert!(lane.is_idle(late));
    }

    #[test]
    fn a_caller_looks_when_the_last_request_had_nearly_ended_and_then_ever_more_seldom() {
        let mut lane = Lane::default();
        assert_eq!(lane.pause_ms(0), 2);
        let first = flight(joined(&mut lane, [1])[0]);
        lane.land(first, NOW.plus(60));
        let pauses: Vec<u64> = [0, 40, 60, 640, 1_600, u64::MAX].map(|waited| lane.pause_ms(waited)).to_vec();
        assert_eq!(pauses, [53, 13, 2, 20, 50, 100]);
    }

    #[test]
    fn after_a_request_that_did_not_serve_all_each_asks_for_itself_for_a_while() {
        let mut lane = Lane::default();
        lane.note_failure(NOW);
        assert_eq!(joined(&mut lane, [1]), [Turn::Apart]);
        flight(lane.join(1, SMALL, NOW.plus(APART_MS)));
    }
}

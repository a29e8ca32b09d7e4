//! One HTTP request to a provider for several payments that are in flight in this isolate.
//!
//! No request wakes another (docs/spec/platform.md#w-wakers): each looks for its answer, which is plain data, by timers of
//! its own. The shared request is sent, read and timed in the `wait_until` of whichever of them sends it, so that it goes
//! on when that one's client has gone. A waiting request whose sender is cancelled all the same asks for itself. What goes
//! together, and when to look, is decided by `x402_chain::sharing`.

use super::now;
use super::post::post_json_within;
use crate::app::after_answer;
use crate::telemetry::{TelemetryField, TelemetryKind, event};
use core::cell::RefCell;
use futures_util::future::LocalBoxFuture;
use std::rc::Rc;
use std::time::Duration;
use worker::{Context, Delay};
use x402_chain::facts::Call;
use x402_chain::jsonrpc;
use x402_chain::network::Network;
use x402_chain::sharing::{CallsSize, FlightId, Lane, Ticket, Turn};
use x402_core::settings::provider::host;

/// The longest that a payment waits for others.
const GATHER_MS: u64 = 5;
/// The deadline of a shared request: a call that takes long may not hold others up for long.
const SHARED_MS: u32 = 800;
/// How long after it gathered a payment trusts that its sender lives: the deadline, and some delay.
const TRUST_MS: u64 = 1_000;

/// A provider of a network, by its whole URL, which may hold a key.
type LaneKey = (&'static str, Rc<str>);

thread_local! {
    /// As many as the settings name providers.
    static LANES: RefCell<Vec<(LaneKey, Lane<Rc<Slot>>)>> = const { RefCell::new(Vec::new()) };
}

fn with_lane<T>(key: &LaneKey, act: impl FnOnce(&mut Lane<Rc<Slot>>) -> T) -> T {
    LANES.with_borrow_mut(|lanes| {
        if let Some((_, lane)) = lanes.iter_mut().find(|(own, _)| own == key) {
            return act(lane);
        }
        let mut lane = Lane::default();
        let result = act(&mut lane);
        lanes.push((key.clone(), lane));
        result
    })
}

/// One payment's calls, and their answer once it is there.
struct Slot {
    calls: Vec<Call>,
    answer: RefCell<Option<SharedAnswer>>,
}

/// What a payment's request hears of its calls.
pub(super) enum SharedAnswer {
    /// The replies.
    Replies(jsonrpc::Replies),
    /// The provider refused the request with HTTP 429; with `Retry-After` in seconds, if it was sent.
    RateLimited(Option<u64>),
    /// It asks for itself; others wait for its request while the flight lasts.
    Apart(Option<Flight>),
}

/// A request in flight, until it is dropped.
pub(super) struct Flight(LaneKey, FlightId);

impl Drop for Flight {
    fn drop(&mut self) {
        with_lane(&self.0, |lane| lane.land(self.1, now()));
    }
}

/// Takes a caller that is dropped from those that wait.
struct Place<'a>(&'a LaneKey, Ticket);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        with_lane(self.0, |lane| lane.leave(self.1));
    }
}

/// Asks a provider for a payment, together with other payments where a request is in flight. Boxed, as
/// [`super::post::PendingAnswer`] is.
pub(super) fn ask<'a>(
    context: &'a Context,
    network: &'static Network,
    url: &'a str,
    calls: &'a [Call],
) -> LocalBoxFuture<'a, SharedAnswer> {
    Box::pin(wait_for_answer(context, network, url, calls))
}

async fn wait_for_answer(context: &Context, network: &'static Network, url: &str, calls: &[Call]) -> SharedAnswer {
    let key = (network.key, Rc::from(url));
    let size = CallsSize { calls: calls.len(), bytes: calls.iter().map(|call| call.params.len()).sum() };
    let slot = Rc::new(Slot { calls: calls.to_vec(), answer: RefCell::default() });
    let joined_at = now();
    let ticket = match with_lane(&key, |lane| lane.join(Rc::clone(&slot), size, joined_at)) {
        Turn::Apart => return SharedAnswer::Apart(None),
        Turn::First(flight) => return SharedAnswer::Apart(Some(Flight(key, flight))),
        Turn::Wait(ticket) => ticket,
    };
    let _place = Place(&key, ticket);
    let sent_by = joined_at.plus(GATHER_MS);
    // Whoever has waited longest sends; the others look when its request is likely over.
    let mut pause = with_lane(&key, |lane| match lane.front() {
        Some(front) if Rc::ptr_eq(front, &slot) => GATHER_MS,
        Some(_) | None => lane.pause_ms(0).saturating_add(GATHER_MS),
    });
    loop {
        if let Some(answer) = slot.answer.borrow_mut().take() {
            return answer;
        }
        let at = now();
        if at.since(sent_by) > TRUST_MS {
            return SharedAnswer::Apart(None);
        }
        let (is_waiting, is_idle) = with_lane(&key, |lane| (lane.is_waiting(ticket), lane.is_idle(at)));
        if is_waiting && (is_idle || at >= sent_by) {
            let (callers, flight) = with_lane(&key, |lane| lane.take(at));
            let flight = Flight(key.clone(), flight);
            match &*callers {
                // It asks for itself, as if nobody else did.
                [only] => drop(only.answer.replace(Some(SharedAnswer::Apart(Some(flight))))),
                _ => after_answer(context, send(network, callers, flight)),
            }
            continue;
        }
        Delay::from(Duration::from_millis(pause)).await;
        pause = with_lane(&key, |lane| lane.pause_ms(now().since(sent_by)));
    }
}

/// Sends the calls of several callers in one request, and hands each its replies.
async fn send(network: &'static Network, callers: Vec<Rc<Slot>>, flight: Flight) {
    let calls: Vec<Call> = callers.iter().flat_map(|caller| caller.calls.iter().cloned()).collect();
    let sizes: Vec<usize> = callers.iter().map(|caller| caller.calls.len()).collect();
    let Flight((_, url), _) = &flight;
    let outcome = post_json_within(network, url, &jsonrpc::encode(&calls), SHARED_MS).await;
    match outcome {
        Ok(answer) if answer.status == 429 => {
            // A request of many calls may be what is refused: each asks for itself next.
            with_lane(&flight.0, |lane| lane.note_failure(now()));
            for caller in &callers {
                caller.answer.replace(Some(SharedAnswer::RateLimited(answer.retry_after_s)));
            }
        }
        Ok(answer) => match jsonrpc::decode_shared(network.family, &sizes, answer.status, &answer.body) {
            Ok(replies) => {
                for (caller, replies) in callers.iter().zip(replies) {
                    caller.answer.replace(Some(SharedAnswer::Replies(replies)));
                }
            }
            Err(jsonrpc::InexactAnswer) => part(&flight, network, &callers, "not one reply to each call"),
        },
        Err(failure) => part(&flight, network, &callers, &failure.to_string()),
    }
}

/// Lets each caller ask for itself, and those that come for a while.
fn part(flight: &Flight, network: &'static Network, callers: &[Rc<Slot>], why: &str) {
    let Flight(key, _) = flight;
    with_lane(key, |lane| lane.note_failure(now()));
    let failures = format!("{}: for {} payments at once: {why}", host(&key.1), callers.len());
    event(TelemetryKind::ProviderFailed, &[TelemetryField::Chain(network), TelemetryField::Failures(failures)]);
    for caller in callers {
        caller.answer.replace(Some(SharedAnswer::Apart(None)));
    }
}

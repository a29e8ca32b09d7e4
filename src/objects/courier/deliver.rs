//! Delivers what is due: at most six messages at once, one of a payment, and none that the endpoint's breaker holds back. The
//! directory is read once an alarm, and again where the endpoint was changed. An attempt is stored before it is made: if the
//! object dies meanwhile, the message is sent again a minute later. Whatever else is awaited, what is in flight goes on.

use super::rows::DueRow;
use super::store::EndedAttempt;
use super::{BREAKER, Courier, DISABLE};
use crate::app;
use crate::app::App;
use crate::d1::couriers::disable_endpoint;
use crate::d1::endpoints::{EndpointTarget, read_target};
use crate::dns::AddressesUnknown;
use crate::outbound::{OutboundRequest, USER_AGENT, deadline, request_headers, send_message};
use crate::telemetry::{TelemetryField, TelemetryKind, counts, event};
use crate::webhook_target::{TargetRefused, check_target};
use futures_channel::oneshot;
use futures_util::StreamExt;
use futures_util::future::{Either, LocalBoxFuture, select};
use futures_util::stream::FuturesUnordered;
use serde::{Deserialize, Serialize};
use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use x402_chain::id::{EndpointId, EventId};
use x402_chain::time::UnixMillis;
use x402_core::error::Fault;
use x402_core::metrics::MetricFamily;
use x402_core::webhook::breaker::{EndpointBreaker, Passage};
use x402_core::webhook::delivery::{DeliveryState, head_of};
use x402_core::webhook::endpoint::EndpointStatus;
use x402_core::webhook::outcome::{AttemptEnd, AttemptOutcome};
use x402_core::webhook::schedule::next_attempt;
use x402_core::webhook::select::{DueDelivery, IN_FLIGHT_MAX, room, select as select_due};
use x402_core::webhook::signature::sign;

/// For how long one alarm begins with more.
const RUN_MS: u64 = 20_000;
/// The most attempts of one alarm: the platform bounds the requests of one.
const ATTEMPTS_MAX: usize = 3_000;
/// The deadline of an attempt.
const ATTEMPT_MS: u32 = 10_000;
/// For how long a check of the DNS counts: `fetch` asks it again anyway, and the platform remembers its answers as long.
const CHECKED_MS: u64 = 5_000;
/// The most bytes that are read of an answer.
const ANSWER_MAX: usize = 4 * 1_024;
/// An attempt of which nothing is known after this long was cut off.
const LOST_MS: u64 = 60_000;
/// An endpoint that is to be sent nothing is looked at again after this long, unless it is changed.
const LOOK_AGAIN_MS: u64 = 600_000;
/// The directory is asked again after this long, and the DNS where it is away.
const RETRY_MS: u64 = 30_000;
/// Rows that are looked at for each message in flight.
const DUE_ROWS: usize = IN_FLIGHT_MAX * 2;

/// Why an endpoint is disabled.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum DisableReason {
    /// Nothing has reached it for days.
    Failing,
    /// It has answered that it is gone.
    Gone,
}

impl DisableReason {
    const fn name(self) -> &'static str {
        match self {
            Self::Failing => "failing",
            Self::Gone => "gone",
        }
    }
}

/// A message that is being sent.
struct Flight {
    event: EventId,
    subject: String,
    /// The number of the attempt.
    number: u64,
    /// The attempts of the schedule so far, this one included.
    tried: u64,
}

/// How an attempt ended.
struct Landed {
    flight: Flight,
    end: AttemptEnd,
    duration_ms: u64,
    retry_after_ms: Option<u64>,
    head: String,
}

/// What the directory says of the endpoint.
enum Wanted {
    /// Messages go there.
    Send(Rc<ReadTarget>),
    /// Messages wait.
    Wait,
    /// The endpoint is deleted.
    Deleted,
    /// The directory did not answer, or the DNS.
    Unknown,
}

/// What an alarm has sent, and is sending.
#[derive(Default)]
struct Sending {
    flights: FuturesUnordered<LocalBoxFuture<'static, Landed>>,
    /// The subjects of those in flight.
    busy: Vec<String>,
    /// How many attempts have begun.
    begun: usize,
    /// Why none begins any more.
    ended: Option<Wanted>,
    /// Whether the endpoint is to be disabled.
    is_disabled: bool,
}

/// What follows when nothing more is sent for now.
#[derive(Clone, Copy, Debug)]
pub(super) enum Afterwards {
    /// The endpoint is deleted: all that is stored is.
    Erase,
    /// It goes on when something is due.
    Due,
    /// When something is due, and not before this time.
    NotBefore(UnixMillis),
    /// At this time, whether anything is due or not.
    Again(UnixMillis),
}

/// Counts an attempt, and how long after the event it came where it has delivered it.
fn count_attempt(outcome: AttemptOutcome, event: EventId, now: UnixMillis) {
    let name = match outcome {
        AttemptOutcome::Delivered => "delivered",
        AttemptOutcome::Failed => "failed",
        AttemptOutcome::Gone => "gone",
    };
    counts::count(MetricFamily::WebhookDeliveries, &[name]);
    if outcome == AttemptOutcome::Delivered {
        counts::observe(MetricFamily::WebhookLag, &[], now.since(event.created_at()));
    }
}

impl Courier {
    /// Delivers what is due.
    pub(super) async fn deliver_due(&self, app: &App, endpoint: EndpointId) -> Result<Afterwards, Fault> {
        let (store, now) = (self.store(), app::now());
        // A change is read also where nothing waits: it may be that the endpoint is deleted.
        if !self.changes.is_stale() {
            if let Some(reason) = self.disable_reason()? {
                return self.disable(app, endpoint, reason).await;
            }
            let Some(due) = store.next_due()? else { return Ok(Afterwards::Due) };
            if let Passage::Closed(until) = self.passage(now)? {
                return Ok(Afterwards::NotBefore(until));
            }
            if due > now {
                return Ok(Afterwards::Due);
            }
        }
        let wanted = match self.read_wanted(app, endpoint).await? {
            Wanted::Send(target) => self.deliver_to(app, endpoint, target).await?,
            none @ (Wanted::Wait | Wanted::Deleted | Wanted::Unknown) => none,
        };
        if matches!(wanted, Wanted::Deleted) {
            return Ok(Afterwards::Erase);
        }
        if let Some(reason) = self.disable_reason()? {
            return self.disable(app, endpoint, reason).await;
        }
        let now = app::now();
        Ok(match wanted {
            Wanted::Deleted => Afterwards::Erase,
            Wanted::Wait => Afterwards::NotBefore(now.plus(LOOK_AGAIN_MS)),
            Wanted::Unknown => Afterwards::Again(now.plus(RETRY_MS)),
            Wanted::Send(_) => match self.passage(now)? {
                Passage::Closed(until) => Afterwards::NotBefore(until),
                Passage::Free | Passage::Probe => Afterwards::Due,
            },
        })
    }

    /// Why the endpoint is to be disabled, while the directory does not have it.
    fn disable_reason(&self) -> Result<Option<DisableReason>, Fault> {
        Ok(self.store().state::<Option<DisableReason>>(DISABLE)?.flatten())
    }

    /// What the breaker lets through.
    fn passage(&self, now: UnixMillis) -> Result<Passage, Fault> {
        Ok(self.store().state::<EndpointBreaker>(BREAKER)?.unwrap_or_default().passage(now))
    }

    /// Reads the endpoint.
    async fn read_wanted(&self, app: &App, endpoint: EndpointId) -> Result<Wanted, Fault> {
        let (asked, was_to_be_disabled) = (self.changes.ask(), self.disable_reason()?.is_some());
        let target = match read_target(app, endpoint).await {
            Ok(target) => target,
            Err(fault) => {
                event(TelemetryKind::CourierAlarmFailed, &[TelemetryField::Cause(&fault)]);
                return Ok(Wanted::Unknown);
            }
        };
        self.changes.note_read(&asked);
        let Some(target) = target else { return Ok(Wanted::Deleted) };
        match target.status {
            EndpointStatus::Active if target.may_deliver => {
                // Its tenant has made it active again before the directory had it as disabled. What has landed while it was read
                // is newer.
                if was_to_be_disabled {
                    self.store().put_state(DISABLE, &None::<DisableReason>)?;
                }
                Ok(Wanted::Send(Rc::new(ReadTarget { target, checked_at: Cell::new(None) })))
            }
            EndpointStatus::Active | EndpointStatus::Paused | EndpointStatus::Disabled => Ok(Wanted::Wait),
        }
    }

    /// Sends messages until nothing is due, or the time is over, or the endpoint is to get nothing more; returns what is
    /// wanted then. It ends when nothing is in flight: what is, is stored however it ends.
    async fn deliver_to(&self, app: &App, endpoint: EndpointId, target: Rc<ReadTarget>) -> Result<Wanted, Fault> {
        let (began, mut target, mut sending) = (app::now(), target, Sending::default());
        loop {
            self.is_nudged.set(false);
            // Also one that was paused may be active again.
            if self.changes.is_unasked() && !sending.is_disabled {
                let read = self.beside(&mut sending, self.read_wanted(app, endpoint)).await??;
                if !sending.is_disabled {
                    sending.ended = match read {
                        Wanted::Send(changed) => {
                            target = changed;
                            None
                        }
                        none @ (Wanted::Wait | Wanted::Deleted | Wanted::Unknown) => Some(none),
                    };
                }
            }
            let has_room = app::now().since(began) < RUN_MS && sending.begun < ATTEMPTS_MAX;
            if sending.ended.is_none() && has_room {
                self.begin_more(app, &target, &mut sending).await?;
            }
            if sending.flights.is_empty() {
                return Ok(sending.ended.unwrap_or(Wanted::Send(target)));
            }
            // A change that was reported while something was awaited has nudged nobody.
            if self.is_nudged.get() {
                continue;
            }
            let (nudge, nudged) = oneshot::channel();
            self.nudge.replace(Some(nudge));
            let landed = match select(sending.flights.next(), nudged).await {
                Either::Left((landed, _)) => landed,
                Either::Right(_) => None,
            };
            if let Some(landed) = landed {
                self.note_landed(&mut sending, &landed)?;
            }
        }
    }

    /// Awaits something while what is in flight goes on: an answer that has come in time counts, whatever else is slow.
    async fn beside<T>(&self, sending: &mut Sending, other: impl Future<Output = T>) -> Result<T, Fault> {
        let mut other = pin!(other);
        loop {
            let landed = match select(other.as_mut(), sending.flights.next()).await {
                Either::Left((done, _)) => return Ok(done),
                Either::Right((landed, _)) => landed,
            };
            let Some(landed) = landed else { return Ok(other.await) };
            self.note_landed(sending, &landed)?;
        }
    }

    fn note_landed(&self, sending: &mut Sending, landed: &Landed) -> Result<(), Fault> {
        sending.busy.retain(|subject| *subject != landed.flight.subject);
        if self.land(landed, app::now())? {
            (sending.ended, sending.is_disabled) = (Some(Wanted::Wait), true);
        }
        Ok(())
    }

    /// Begins with what is due, once the DNS was asked. Where the resolver is away nothing is known of the endpoint: nothing is
    /// sent, and no attempt is lost.
    async fn begin_more(&self, app: &App, target: &Rc<ReadTarget>, sending: &mut Sending) -> Result<(), Fault> {
        let mut refused = None;
        if !target.is_checked() {
            if self.select_due(&sending.busy, app::now())?.is_empty() {
                return Ok(());
            }
            let checked = self.beside(sending, target.check(app)).await?;
            if sending.is_disabled {
                return Ok(());
            }
            // One check is for all that begin with it.
            match checked {
                Ok(end) => refused = end,
                Err(fault) => {
                    event(TelemetryKind::CourierAlarmFailed, &[TelemetryField::Cause(&fault)]);
                    sending.ended = Some(Wanted::Unknown);
                    return Ok(());
                }
            }
        }
        // Selected after it: something else may be due by now, or the breaker open.
        for (flight, message) in self.begin_due(&sending.busy, app::now())? {
            sending.begun = sending.begun.saturating_add(1);
            sending.busy.push(flight.subject.clone());
            sending.flights.push(Box::pin(attempt(Rc::clone(target), refused, flight, message)));
        }
        Ok(())
    }

    /// What is sent next.
    fn select_due(&self, busy: &[String], now: UnixMillis) -> Result<Vec<Flight>, Fault> {
        let passage = self.passage(now)?;
        if room(passage, busy.len()) == 0 {
            return Ok(Vec::new());
        }
        let due: Vec<DueDelivery<Flight>> = self.store().due(now, DUE_ROWS)?.into_iter().map(due_delivery).collect();
        Ok(select_due(passage, busy, due))
    }

    /// Selects what is sent next, and stores that its attempts begin. A message that cannot be read is exhausted without one: it
    /// would hold up all others.
    fn begin_due(&self, busy: &[String], now: UnixMillis) -> Result<Vec<(Flight, String)>, Fault> {
        let (store, mut begun, mut unread) = (self.store(), Vec::new(), Vec::new());
        for flight in self.select_due(busy, now)? {
            match store.message(flight.event)? {
                Ok(message) => begun.push((flight, message)),
                Err(fault) => {
                    event(TelemetryKind::MessageUnread, &[TelemetryField::Cause(&fault)]);
                    unread.push(flight.event);
                }
            }
        }
        if begun.is_empty() && unread.is_empty() {
            return Ok(begun);
        }
        store.atomically(|| {
            for (flight, _) in &begun {
                store.begin((flight.event, flight.number), (now, now.plus(LOST_MS)))?;
            }
            for event in &unread {
                store.end(*event, DeliveryState::Exhausted, now)?;
            }
            Ok(())
        })?;
        let ended = u64::try_from(unread.len()).unwrap_or(u64::MAX);
        self.waiting.set(self.waiting.get().map(|count| count.saturating_sub(ended)));
        Ok(begun)
    }

    /// Stores how an attempt ended, and what follows; whether the endpoint is to be disabled.
    fn land(&self, landed: &Landed, now: UnixMillis) -> Result<bool, Fault> {
        let Landed { flight, end, duration_ms, retry_after_ms, head } = landed;
        let (store, event, number) = (self.store(), flight.event, flight.number);
        let before: EndpointBreaker = store.state(BREAKER)?.unwrap_or_default();
        let (mut breaker, outcome) = (before.clone(), end.outcome());
        let disable = match outcome {
            AttemptOutcome::Delivered => {
                breaker.note_success();
                None
            }
            AttemptOutcome::Failed => {
                breaker.note_failure(now);
                breaker.is_given_up(now).then_some(DisableReason::Failing)
            }
            AttemptOutcome::Gone => {
                breaker.note_failure(now);
                Some(DisableReason::Gone)
            }
        };
        let ended = match outcome {
            AttemptOutcome::Delivered => Err(DeliveryState::Delivered),
            // It was asked for again while it was in flight: its schedule has begun anew.
            AttemptOutcome::Failed | AttemptOutcome::Gone if self.is_begun_anew(flight)? => Ok(now),
            AttemptOutcome::Failed | AttemptOutcome::Gone => {
                next_attempt(event, flight.tried, *retry_after_ms, now).ok_or(DeliveryState::Exhausted)
            }
        };
        let has_ended = store.atomically(|| {
            store.end_attempt(&EndedAttempt { event, number, duration_ms: *duration_ms, end: *end, head })?;
            if breaker != before {
                store.put_state(BREAKER, &breaker)?;
            }
            if let Some(reason) = disable {
                store.put_state(DISABLE, &Some(reason))?;
            }
            match ended {
                Ok(again) => store.send_again(event, again).map(|()| false),
                Err(state) => store.end(event, state, now),
            }
        })?;
        count_attempt(outcome, event, now);
        if has_ended {
            self.waiting.set(self.waiting.get().map(|count| count.saturating_sub(1)));
        }
        Ok(disable.is_some())
    }

    /// Whether a redelivery has reset the schedule since an attempt began.
    fn is_begun_anew(&self, flight: &Flight) -> Result<bool, Fault> {
        Ok(self.store().tried(flight.event)?.is_some_and(|tried| tried < flight.tried))
    }

    /// Has the directory disable the endpoint.
    async fn disable(&self, app: &App, endpoint: EndpointId, reason: DisableReason) -> Result<Afterwards, Fault> {
        let now = app::now();
        if let Err(fault) = disable_endpoint(app, endpoint, reason.name(), now).await {
            event(TelemetryKind::CourierAlarmFailed, &[TelemetryField::Cause(&fault)]);
            return Ok(Afterwards::Again(now.plus(RETRY_MS)));
        }
        let store = self.store();
        store.atomically(|| {
            store.put_state(BREAKER, &EndpointBreaker::default())?;
            store.put_state(DISABLE, &None::<DisableReason>)
        })?;
        Ok(Afterwards::NotBefore(now.plus(LOOK_AGAIN_MS)))
    }
}

fn due_delivery(row: DueRow) -> DueDelivery<Flight> {
    let DueRow { event, subject, attempts, tried } = row;
    let (number, tried) = (attempts.saturating_add(1), tried.saturating_add(1));
    DueDelivery { subject: subject.clone(), item: Flight { event, subject, number, tried } }
}

/// An endpoint as an alarm has read it.
struct ReadTarget {
    target: EndpointTarget,
    /// When the DNS was last found to lead to public addresses alone.
    checked_at: Cell<Option<UnixMillis>>,
}

impl ReadTarget {
    /// Whether the URL was found to be allowed a moment ago.
    fn is_checked(&self) -> bool {
        self.checked_at.get().is_some_and(|at| app::now().since(at) < CHECKED_MS)
    }

    /// Checks the URL. How an attempt ends where nothing may be sent.
    ///
    /// # Errors
    /// Where the resolver is away, so that nothing is known.
    async fn check(&self, app: &App) -> Result<Option<AttemptEnd>, Fault> {
        match check_target(app, &self.target.url).await {
            Ok(()) => {
                self.checked_at.set(Some(app::now()));
                Ok(None)
            }
            Err(TargetRefused::Forbidden(_)) => Ok(Some(AttemptEnd::Refused)),
            Err(TargetRefused::Unresolved(AddressesUnknown::NameFailing(_))) => Ok(Some(AttemptEnd::Unreachable)),
            Err(TargetRefused::Unresolved(AddressesUnknown::ResolverAway(fault))) => Err(fault),
        }
    }
}

/// Sends a message once, unless nothing may be sent there.
async fn attempt(read: Rc<ReadTarget>, refused: Option<AttemptEnd>, flight: Flight, message: String) -> Landed {
    let target = &read.target;
    let (began, ends) = (app::now(), deadline(ATTEMPT_MS));
    let id = flight.event.to_string();
    let (end, retry_after_ms, head) = match refused {
        Some(end) => (end, None, String::new()),
        None => {
            let sent_s = app::now().0 / 1_000;
            let keys = target.secrets.iter().map(|secret| secret.key().as_slice());
            let (signature, timestamp) = (sign(keys, &id, sent_s, message.as_bytes()), sent_s.to_string());
            let headers = request_headers(&[
                ("content-type", "application/json"),
                ("user-agent", USER_AGENT),
                ("webhook-id", &id),
                ("webhook-timestamp", &timestamp),
                ("webhook-signature", &signature),
            ]);
            let sent = OutboundRequest {
                url: &target.url,
                headers: &headers,
                body: Some(&message),
                deadline: ends.clone(),
                answer_max: ANSWER_MAX,
            };
            match send_message(sent).await {
                Ok(answer) => (AttemptEnd::Status(answer.status), answer.retry_after_ms, head_of(&answer.body)),
                Err(_) if ends.aborted() => (AttemptEnd::TimedOut, None, String::new()),
                Err(_) => (AttemptEnd::Unreachable, None, String::new()),
            }
        }
    };
    Landed { flight, end, duration_ms: app::now().since(began), retry_after_ms, head }
}

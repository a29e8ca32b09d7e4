//! Delivers what is due: at most six messages at once, one of a payment, and none that the endpoint's breaker holds back. The
//! directory is read once an alarm, and again where the endpoint was changed. An attempt is stored before it is made: if the
//! object dies meanwhile, the message is sent again a minute later. Whatever else is awaited, what is in flight goes on.

use super::attempt::{Flight, Landed, ReadTarget, attempt};
use super::rows::DueRow;
use super::store::EndedAttempt;
use super::{BREAKER, Courier, DISABLE, DISABLE_URL};
use crate::app;
use crate::app::App;
use crate::d1::couriers::disable_endpoint;
use crate::d1::endpoints::{EndpointTarget, note_secret_lost, read_target};
use crate::telemetry::{TelemetryField, TelemetryKind, counts, event};
use futures_channel::oneshot;
use futures_util::StreamExt;
use futures_util::future::{Either, LocalBoxFuture, select};
use futures_util::stream::FuturesUnordered;
use serde::{Deserialize, Serialize};
use std::pin::pin;
use std::rc::Rc;
use x402_chain::id::{EndpointId, EventId};
use x402_chain::time::UnixMillis;
use x402_core::error::Fault;
use x402_core::metrics::MetricFamily;
use x402_core::webhook::breaker::{EndpointBreaker, Passage};
use x402_core::webhook::delivery::DeliveryState;
use x402_core::webhook::endpoint::EndpointStatus;
use x402_core::webhook::outcome::AttemptOutcome;
use x402_core::webhook::schedule::next_attempt;
use x402_core::webhook::select::{DueDelivery, IN_FLIGHT_MAX, room, select as select_due};

/// For how long one alarm begins with more.
const RUN_MS: u64 = 20_000;
/// The most attempts of one alarm: the platform bounds the requests of one.
const ATTEMPTS_MAX: usize = 3_000;
/// An attempt of which nothing is known after this long was cut off.
pub(super) const LOST_MS: u64 = 60_000;
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
struct Sending {
    /// The endpoint as it was read last.
    target: Rc<ReadTarget>,
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

impl Sending {
    fn to(target: Rc<ReadTarget>) -> Self {
        let flights = FuturesUnordered::new();
        Self { target, flights, busy: Vec::new(), begun: 0, ended: None, is_disabled: false }
    }
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
            if let Passage::Closed(until) = self.breaker()?.passage(now) {
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
            Wanted::Send(target) => match self.breaker()?.of(target.url()).passage(now) {
                Passage::Closed(until) => Afterwards::NotBefore(until),
                Passage::Free | Passage::Probe => Afterwards::Due,
            },
        })
    }

    /// Why the endpoint is to be disabled, while the directory does not have it.
    fn disable_reason(&self) -> Result<Option<DisableReason>, Fault> {
        Ok(self.store().state::<Option<DisableReason>>(DISABLE)?.flatten())
    }

    /// What has failed, at whichever URL.
    fn breaker(&self) -> Result<EndpointBreaker, Fault> {
        Ok(self.store().state::<EndpointBreaker>(BREAKER)?.unwrap_or_default())
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
        note_secret(app, endpoint, &target).await;
        match target.status {
            EndpointStatus::Active if target.may_deliver => {
                // Its tenant has made it active again before the directory had it as disabled. What has landed while it was read
                // is newer.
                if was_to_be_disabled {
                    self.store().put_state(DISABLE, &None::<DisableReason>)?;
                }
                // Without its secret nothing can be signed: its messages wait, and lose no attempt.
                if target.secrets.is_empty() {
                    Ok(Wanted::Wait)
                } else {
                    Ok(Wanted::Send(Rc::new(ReadTarget::new(target))))
                }
            }
            EndpointStatus::Active | EndpointStatus::Paused | EndpointStatus::Disabled => Ok(Wanted::Wait),
        }
    }

    /// Sends messages until nothing is due, or the time is over, or the endpoint is to get nothing more; returns what is
    /// wanted then. It ends when nothing is in flight: what is, is stored however it ends.
    async fn deliver_to(&self, app: &App, endpoint: EndpointId, target: Rc<ReadTarget>) -> Result<Wanted, Fault> {
        let (began, mut sending) = (app::now(), Sending::to(target));
        loop {
            self.is_nudged.set(false);
            // Also one that was paused may be active again.
            if self.changes.is_unasked() && !sending.is_disabled {
                let read = self.beside(&mut sending, self.read_wanted(app, endpoint)).await??;
                if !sending.is_disabled {
                    sending.ended = match read {
                        Wanted::Send(changed) => {
                            sending.target = changed;
                            None
                        }
                        none @ (Wanted::Wait | Wanted::Deleted | Wanted::Unknown) => Some(none),
                    };
                }
            }
            let has_room = app::now().since(began) < RUN_MS && sending.begun < ATTEMPTS_MAX;
            if sending.ended.is_none() && has_room {
                self.begin_more(app, &mut sending).await?;
            }
            if sending.flights.is_empty() {
                return Ok(sending.ended.unwrap_or(Wanted::Send(sending.target)));
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
        // Where a change is reported and not read yet, the URL may be another one.
        let is_current = !self.changes.is_stale() && landed.to.url() == sending.target.url();
        if self.land(landed, is_current, app::now())? {
            (sending.ended, sending.is_disabled) = (Some(Wanted::Wait), true);
        }
        Ok(())
    }

    /// Begins with what is due, once the DNS was asked. Where the resolver is away nothing is known of the endpoint: nothing is
    /// sent, and no attempt is lost.
    async fn begin_more(&self, app: &App, sending: &mut Sending) -> Result<(), Fault> {
        let (mut refused, target) = (None, Rc::clone(&sending.target));
        if !target.is_checked() {
            if self.select_due(target.url(), &sending.busy, app::now())?.is_empty() {
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
        for (flight, message) in self.begin_due(target.url(), &sending.busy, app::now())? {
            sending.begun = sending.begun.saturating_add(1);
            sending.busy.push(flight.subject.clone());
            sending.flights.push(Box::pin(attempt(Rc::clone(&target), refused, flight, message)));
        }
        Ok(())
    }

    /// What is sent next to a URL.
    fn select_due(&self, url: &str, busy: &[String], now: UnixMillis) -> Result<Vec<Flight>, Fault> {
        let passage = self.breaker()?.of(url).passage(now);
        if room(passage, busy.len()) == 0 {
            return Ok(Vec::new());
        }
        let due: Vec<DueDelivery<Flight>> = self.store().due(now, DUE_ROWS)?.into_iter().map(due_delivery).collect();
        Ok(select_due(passage, busy, due))
    }

    /// Selects what is sent next, and stores that its attempts begin. A message that cannot be read is exhausted without one: it
    /// would hold up all others.
    fn begin_due(&self, url: &str, busy: &[String], now: UnixMillis) -> Result<Vec<(Flight, String)>, Fault> {
        let (store, mut begun, mut unread) = (self.store(), Vec::new(), Vec::new());
        for flight in self.select_due(url, busy, now)? {
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

    /// Stores how an attempt ended, and what follows; whether the endpoint is to be disabled. What has failed at a URL that is not
    /// the endpoint's any more says nothing of it, and is sent to the new one at once.
    fn land(&self, landed: &Landed, is_current: bool, now: UnixMillis) -> Result<bool, Fault> {
        let Landed { flight, to, end, duration_ms, retry_after_ms, head } = landed;
        let (store, event, number) = (self.store(), flight.event, flight.number);
        let (before, outcome) = (self.breaker()?, end.outcome());
        let mut breaker = if is_current { before.clone().of(to.url()) } else { before.clone() };
        let disable = match outcome {
            _ if !is_current => None,
            AttemptOutcome::Delivered => {
                breaker.note_success();
                None
            }
            AttemptOutcome::Failed => {
                breaker.note_failure(to.url(), now);
                breaker.is_given_up().then_some(DisableReason::Failing)
            }
            AttemptOutcome::Gone => {
                breaker.note_failure(to.url(), now);
                Some(DisableReason::Gone)
            }
        };
        let ended = match outcome {
            AttemptOutcome::Delivered => Err(DeliveryState::Delivered),
            // It was asked for again while it was in flight: its schedule has begun anew.
            AttemptOutcome::Failed | AttemptOutcome::Gone if !is_current || self.is_begun_anew(flight)? => Ok(now),
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
                store.put_state(DISABLE_URL, &Some(to.url()))?;
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

    /// Has the directory disable the endpoint, unless it has another URL by now.
    async fn disable(&self, app: &App, endpoint: EndpointId, reason: DisableReason) -> Result<Afterwards, Fault> {
        let (store, now) = (self.store(), app::now());
        let url = store.state::<Option<String>>(DISABLE_URL)?.flatten();
        let is_disabled = match disable_endpoint(app, endpoint, (reason.name(), url.as_deref()), now).await {
            Ok(is_disabled) => is_disabled,
            Err(fault) => {
                event(TelemetryKind::CourierAlarmFailed, &[TelemetryField::Cause(&fault)]);
                return Ok(Afterwards::Again(now.plus(RETRY_MS)));
            }
        };
        store.atomically(|| {
            store.put_state(BREAKER, &EndpointBreaker::default())?;
            store.put_state(DISABLE_URL, &None::<String>)?;
            store.put_state(DISABLE, &None::<DisableReason>)
        })?;
        Ok(if is_disabled { Afterwards::NotBefore(now.plus(LOOK_AGAIN_MS)) } else { Afterwards::Due })
    }
}

/// Has the directory know whether a pepper opens the endpoint's secret: its owner and operators are shown it there.
async fn note_secret(app: &App, endpoint: EndpointId, target: &EndpointTarget) {
    let is_lost = target.secrets.is_empty();
    if is_lost {
        let fault = Fault::internal(format!("no pepper opens the secret of {endpoint}: its owner must replace it"));
        event(TelemetryKind::SecretLost, &[TelemetryField::Cause(&fault)]);
    }
    if is_lost == target.is_secret_lost {
        return;
    }
    let noted = match app.db() {
        Ok(db) => note_secret_lost(&db, endpoint, is_lost.then(app::now)).await,
        Err(fault) => Err(fault),
    };
    // It is noted when the endpoint is read again.
    if let Err(fault) = noted {
        event(TelemetryKind::CourierAlarmFailed, &[TelemetryField::Cause(&fault)]);
    }
}

fn due_delivery(row: DueRow) -> DueDelivery<Flight> {
    let DueRow { event, subject, attempts, tried } = row;
    let (number, tried) = (attempts.saturating_add(1), tried.saturating_add(1));
    DueDelivery { subject: subject.clone(), item: Flight { event, subject, number, tried } }
}

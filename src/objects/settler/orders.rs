//! The messages to a settler: settle a flight, never launch an attempt, list the penalized payers. Two callers of one
//! attempt share one launch.

use super::sql;
use super::{ALARM_MS, Settler, network_of};
use crate::app;
use crate::app::App;
use crate::clients::settler::SETTLE_MS;
use crate::objects::sqlite::millis_value;
use crate::rpc;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;
use worker::Delay;
use x402_chain::address::Family;
use x402_chain::id::SettlementId;
use x402_chain::time::UnixMillis;
use x402_core::error::Fault;
use x402_core::messages::settler::{HeldPayer, RefuseOutcome, SettlerMessage, SettlerReply};
use x402_core::settlement;
use x402_core::settlement::launch::LaunchDenial;
use x402_core::settlement::{Flight, FlightPayload, SettlementReport};

/// How long a caller waits for the receipt, including the launch.
const WAIT_MS: u64 = 18_000;
/// A poll that began within [`WAIT_MS`] may hang for the deadline of all requests of a question.
const _: () = assert!(WAIT_MS + rpc::DEADLINE_MS <= SETTLE_MS, "the Worker gives a settler up before it replies");
/// How often a caller checks whether another caller's launch has ended.
const LAUNCH_PAUSE_MS: u64 = 50;
/// No launch takes this long: eight providers that all hang are given up after 20 s.
const LAUNCH_MAX_MS: u64 = 120_000;

/// The result of a launch.
#[derive(Clone)]
enum LaunchOutcome {
    /// The flight is stored: its row holds its status.
    Began,
    /// Nothing is launched for this attempt, now or later, and its ledger has the report.
    Denied(SettlementReport),
}

/// The result of a launch for a caller that waits for it.
enum LaunchWait {
    /// It has ended.
    Over(LaunchOutcome),
    /// It goes on for longer than a caller waits.
    UnderWay,
}

/// A launch that is running.
pub(super) struct LaunchState {
    began: UnixMillis,
    outcome: RefCell<Option<Result<LaunchOutcome, Fault>>>,
}

/// Counts a caller's wait for a flight, until it is dropped.
struct WaitGuard<'a> {
    all: &'a RefCell<BTreeMap<String, u32>>,
    key: String,
}

impl<'a> WaitGuard<'a> {
    fn begin(all: &'a RefCell<BTreeMap<String, u32>>, key: &str) -> Self {
        let key = key.to_owned();
        all.borrow_mut().entry(key.clone()).and_modify(|count| *count = count.saturating_add(1)).or_insert(1);
        Self { all, key }
    }
}

impl Drop for WaitGuard<'_> {
    fn drop(&mut self) {
        let mut all = self.all.borrow_mut();
        match all.get_mut(&self.key) {
            Some(count) if *count > 1 => *count = count.saturating_sub(1),
            _ => drop(all.remove(&self.key)),
        }
    }
}

impl Settler {
    /// Carries out a message.
    pub(super) async fn run_order(&self, message: SettlerMessage) -> Result<SettlerReply, Fault> {
        self.open_storage()?;
        Ok(match message {
            SettlerMessage::Settle(flight) => SettlerReply::Report(Box::new(self.settle_flight(*flight).await?)),
            SettlerMessage::Refuse { settlement, attempt } => {
                SettlerReply::Attempt(self.refuse_attempt(settlement, attempt).await?)
            }
            SettlerMessage::Held => SettlerReply::Held(self.penalized_payers()?),
        })
    }

    /// Launches a flight, or waits for one that exists.
    async fn settle_flight(&self, flight: Flight) -> Result<SettlementReport, Fault> {
        let app = App::new(self.env.clone(), "")?;
        let (key, began) = (flight.key(), app::now());
        if self.flight_row(&key)?.is_none() {
            // A running launch reports its own denial.
            if self.running_launch(&key).is_none() && self.is_refused(&key)? {
                return Ok(self.report_given_up(&app, &flight).await);
            }
            match self.launch_or_wait(&app, &flight, began).await? {
                LaunchWait::Over(LaunchOutcome::Began) => {}
                LaunchWait::Over(LaunchOutcome::Denied(report)) => return Ok(report),
                LaunchWait::UnderWay => {
                    return Ok(SettlementReport::pending(&flight, &settlement::flight::FlightVersions::default()));
                }
            }
        }
        let network = network_of(&flight)?;
        let _waiting = WaitGuard::begin(&self.awaited, &key);
        // A few polls for each block.
        let pause_ms = (network.block_time_ms / 8).clamp(if network.family == Family::Evm { 50 } else { 200 }, 1_000);
        loop {
            let Some(row) = self.flight_row(&key)? else {
                // Another launch of it was denied meanwhile.
                return match self.is_refused(&key)? {
                    true => Ok(self.report_given_up(&app, &flight).await),
                    false => Err(Fault::internal("a flight has no row")),
                };
            };
            let pending = SettlementReport::pending(&row.flight, &row.sent);
            if let Some(report) = row.report.clone() {
                return Ok(if self.ensure_reported(&app, &row, &report).await { report } else { pending });
            }
            if app::now().since(began) >= WAIT_MS {
                self.report_to_ledger(&app, &row.flight, &pending).await;
                return Ok(pending);
            }
            let polled = self.polled_at.get();
            if polled.is_none_or(|at| app::now().since(at) >= pause_ms) {
                self.polled_at.set(Some(app::now()));
                self.poll_all(&app).await?;
                if network.family == Family::Svm {
                    self.resend_all_svm(&app).await?;
                }
                if self.flight_row(&key)?.is_some_and(|row| row.report.is_some()) {
                    continue;
                }
            }
            Delay::from(Duration::from_millis(pause_ms)).await;
        }
    }

    /// Launches a flight, or waits for another launch of it. Nothing is awaited between the check for a running launch
    /// and the note of this one.
    async fn launch_or_wait(&self, app: &App, flight: &Flight, began: UnixMillis) -> Result<LaunchWait, Fault> {
        let key = flight.key();
        let Some(other) = self.running_launch(&key) else {
            let launch = Rc::new(LaunchState { began: app::now(), outcome: RefCell::new(None) });
            self.launching.borrow_mut().insert(key.clone(), Rc::clone(&launch));
            let outcome = self.launch_flight(app, flight, &launch).await;
            launch.outcome.replace(Some(outcome.clone()));
            if self.is_current_launch(&key, &launch) {
                self.launching.borrow_mut().remove(&key);
            }
            return outcome.map(LaunchWait::Over);
        };
        loop {
            if let Some(outcome) = other.outcome.borrow().clone() {
                return outcome.map(LaunchWait::Over);
            }
            if self.flight_row(&key)?.is_some() {
                return Ok(LaunchWait::Over(LaunchOutcome::Began));
            }
            if app::now().since(began) >= WAIT_MS {
                return Ok(LaunchWait::UnderWay);
            }
            Delay::from(Duration::from_millis(LAUNCH_PAUSE_MS)).await;
        }
    }

    /// Launches a flight, unless it may not be: then no later order launches it, and its ledger gets the report too.
    async fn launch_flight(
        &self,
        app: &App,
        flight: &Flight,
        launch: &Rc<LaunchState>,
    ) -> Result<LaunchOutcome, Fault> {
        let denied = |denied: LaunchDenial| denied.report(flight);
        let outcome = match (&flight.held, &flight.cargo) {
            (Some((reason, message)), _) => Err(SettlementReport::unsent(flight, *reason, message.as_str())),
            (None, FlightPayload::Evm(message)) => self.launch_evm(app, flight, message, launch).await?.map_err(denied),
            (None, FlightPayload::Svm(text)) => self.launch_svm(app, flight, text, launch).await?.map_err(denied),
        };
        let Err(report) = outcome else { return Ok(LaunchOutcome::Began) };
        // Nothing is awaited between the denial and its note. A launch that replaced this one may have been faster.
        if self.flight_row(&flight.key())?.is_some() {
            return Ok(LaunchOutcome::Began);
        }
        if !self.is_current_launch(&flight.key(), launch) {
            self.launching.borrow_mut().remove(&flight.key());
        }
        self.note_refused(&flight.key())?;
        self.report_to_ledger(app, flight, &report).await;
        Ok(LaunchOutcome::Denied(report))
    }

    /// A denied or given-up attempt stays so: the ledger has recorded it as failed, or gets the report now.
    async fn report_given_up(&self, app: &App, flight: &Flight) -> SettlementReport {
        let report = LaunchDenial::GivenUp.report(flight);
        self.report_to_ledger(app, flight, &report).await;
        report
    }

    /// After this no order launches the attempt.
    fn note_refused(&self, key: &str) -> Result<(), Fault> {
        self.sqlite().run(sql::REFUSED_PUT, vec![key.into(), millis_value(app::now())])
    }

    fn running_launch(&self, key: &str) -> Option<Rc<LaunchState>> {
        let launching = self.launching.borrow();
        let alive = |launch: &&Rc<LaunchState>| app::now().since(launch.began) < LAUNCH_MAX_MS;
        launching.get(key).filter(alive).cloned()
    }

    /// Whether a launch is still the current one of its flight.
    pub(super) fn is_current_launch(&self, key: &str, launch: &Rc<LaunchState>) -> bool {
        self.launching.borrow().get(key).is_some_and(|current| Rc::ptr_eq(current, launch))
    }

    fn is_refused(&self, key: &str) -> Result<bool, Fault> {
        Ok(self.sqlite().first(sql::REFUSED_GET, vec![key.into()])?.is_some())
    }

    /// Marks an attempt that was never launched as refused; nothing is awaited in between. A known attempt's report is
    /// sent once more, if it has ended.
    async fn refuse_attempt(&self, settlement: SettlementId, attempt: usize) -> Result<RefuseOutcome, Fault> {
        let key = settlement::attempt_key(settlement, attempt);
        if self.flight_row(&key)?.is_none() && self.running_launch(&key).is_none() {
            self.launching.borrow_mut().remove(&key);
            self.note_refused(&key)?;
            return Ok(RefuseOutcome::Refused);
        }
        self.sqlite().run(sql::FLIGHT_REPORT_AGAIN, vec![key.into()])?;
        self.wake_by(app::now().plus(ALARM_MS)).await;
        Ok(RefuseOutcome::Known)
    }

    fn penalized_payers(&self) -> Result<Vec<HeldPayer>, Fault> {
        self.sqlite().rows(sql::PENALTIES_AFTER, vec![millis_value(app::now())])
    }
}

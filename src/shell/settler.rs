//! `Settler`: one Durable Object per network and signer, because only a single
//! thread can give out nonces without a gap. It stores the signed bytes before
//! it sends them; whoever asked may leave, the alarm carries on to the end.

mod evm;
mod store;
mod svm;
mod watch;

use super::app::{self, App};
use super::ledgers::{self, Ask, Envelope};
use super::sqlite::{ms, text};
use super::{external, log, rpc};
use crate::address::{Family, TxId};
use crate::error::Fault;
use crate::network::{Network, by_key};
use crate::payment::settlement::SettlementStatus;
use crate::reason::Reason;
use crate::settle::{self, Cargo, Flight, Report};
use crate::signer::Signer;
use crate::sql::settler as sql;
use crate::time::UnixMillis;
use std::cell::Cell;
use std::time::Duration;
use store::Row;
use worker::{Delay, DurableObject, Env, Request, Response, ScheduledTime, State, durable_object};

/// How long a caller waits for the receipt; stock clients wait 90 s.
const WAIT_MS: u64 = 20_000;
/// The alarm comes back this often while something is on its way.
const ALARM_MS: u64 = 5_000;
/// Flights that are looked for in one request; with a few versions each, a batch that every provider takes.
const LOOK_MAX: usize = 40;
/// What has ended is remembered for a day, for callers that come late.
const KEEP_MS: u64 = 86_400_000;

/// One signer on one network.
#[durable_object]
pub struct Settler {
    state: State,
    env: Env,
    opened: Cell<bool>,
    alarm_at: Cell<Option<UnixMillis>>,
    /// When receipts were last looked for.
    looked_at: Cell<Option<UnixMillis>>,
    /// When transactions were last sent again (Solana).
    pushed_at: Cell<Option<UnixMillis>>,
}

impl DurableObject for Settler {
    fn new(state: State, env: Env) -> Self {
        Self {
            state,
            env,
            opened: Cell::new(false),
            alarm_at: Cell::new(None),
            looked_at: Cell::new(None),
            pushed_at: Cell::new(None),
        }
    }

    async fn fetch(&self, mut request: Request) -> worker::Result<Response> {
        let body = request.text().await?;
        let flight: Flight = serde_json::from_str(&body)?;
        match self.settle(flight).await {
            Ok(report) => Response::from_json(&report),
            Err(fault) => {
                log::error("a settlement failed", &[("cause", fault.cause().unwrap_or(&fault.detail).into())]);
                Response::error(fault.code.wire(), 503)
            }
        }
    }

    async fn alarm(&self) -> worker::Result<Response> {
        self.alarm_at.set(None);
        if let Err(fault) = self.carry_on().await {
            log::error("a settler's alarm failed", &[("cause", fault.cause().unwrap_or(&fault.detail).into())]);
        }
        Response::empty()
    }
}

impl Settler {
    async fn wake_by(&self, at: UnixMillis) {
        if self.alarm_at.get().is_some_and(|set| set <= at) {
            return;
        }
        self.alarm_at.set(Some(at));
        let date = worker::js_sys::Date::new(&wasm_bindgen::JsValue::from_str(&at.rfc3339()));
        if let Err(error) = self.state.storage().set_alarm(ScheduledTime::new(date)).await {
            self.alarm_at.set(None);
            log::error("an alarm could not be set", &[("cause", error.to_string().into())]);
        }
    }

    /// Settles, or goes on waiting for what is on its way.
    async fn settle(&self, flight: Flight) -> Result<Report, Fault> {
        self.open()?;
        let app = App::new(self.env.clone(), "")?;
        let key = flight.key();
        let began = app::now();
        if self.row(&key)?.is_none() {
            if let Some((reason, told)) = flight.held.clone() {
                return Ok(self.hold(&app, &flight, reason, told).await);
            }
            let report = match &flight.cargo {
                Cargo::Evm(message) => self.launch_evm(&app, &flight, message).await?,
                Cargo::Svm(text) => self.launch_svm(&app, &flight, text).await?,
            };
            if let Some(report) = report {
                return Ok(report);
            }
        }
        let network = network_of(&flight)?;
        // A few looks a block.
        let pause_ms = (network.block_time_ms / 8).clamp(if network.family == Family::Evm { 50 } else { 200 }, 1_000);
        loop {
            let row = self.row(&key)?.ok_or_else(|| Fault::internal("a flight is gone"))?;
            if let Some(report) = row.report.clone() {
                return Ok(if self.tell(&app, &row, &report).await { report } else { pending(&row) });
            }
            let looked = self.looked_at.get();
            if looked.is_none_or(|at| app::now().since(at) >= pause_ms) {
                self.looked_at.set(Some(app::now()));
                self.look_for_all(&app).await?;
                if network.family == Family::Svm {
                    self.push_all_svm(&app).await?;
                }
                if self.row(&key)?.is_some_and(|row| row.report.is_some()) {
                    continue;
                }
            }
            if app::now().since(began) >= WAIT_MS {
                let report = pending(&row);
                self.report(&app, &row.flight, &report).await;
                return Ok(report);
            }
            Delay::from(Duration::from_millis(pause_ms)).await;
        }
    }

    /// Ends a reservation for which nothing was sent, and nothing may be.
    async fn hold(&self, app: &App, flight: &Flight, reason: Reason, told: String) -> Report {
        let report = Report {
            settlement: flight.settlement,
            attempt: Some(flight.attempt),
            status: SettlementStatus::Failed,
            reason: Some(reason),
            told,
            transaction: None,
            attempts: Vec::new(),
            external: false,
            reorged: false,
            units: Vec::new(),
            spent: None,
            handed: false,
        };
        self.report(app, flight, &report).await;
        report
    }

    /// Looks for all that is on its way, in one request for everybody who waits:
    /// public providers count requests.
    async fn look_for_all(&self, app: &App) -> Result<(), Fault> {
        let mut rows = Vec::new();
        for key in self.db().rows(sql::FLIGHTS_OPEN, Vec::new())? {
            if let Some(row) = self.row(&text(key.first()))?
                && row.report.is_none()
                && rows.len() < LOOK_MAX
            {
                rows.push(row);
            }
        }
        self.look(app, &rows).await
    }

    /// Looks for any version of these flights, and ends them by their story.
    async fn look(&self, app: &App, rows: &[Row]) -> Result<(), Fault> {
        let Some(first) = rows.first() else { return Ok(()) };
        let network = network_of(&first.flight)?;
        let landed = match network.family {
            Family::Evm => self.landed_evm(app, rows).await?,
            Family::Svm => self.landed_svm(app, rows).await?,
        };
        for row in rows {
            let Some(found) = landed.iter().find(|found| row.sent.versions.iter().any(|sent| sent.id == found.id))
            else {
                continue;
            };
            match &found.outcome {
                // A large amount is believed to two providers only.
                Some(outcome) if row.flight.amount < app.settings.quorum() => {
                    let (status, reason, told) = match outcome {
                        Ok(()) => (SettlementStatus::Completed, None, String::new()),
                        Err(error) => {
                            let told = format!("the transaction failed: {error}");
                            (SettlementStatus::Failed, Some(Reason::SvmFailed), told)
                        }
                    };
                    self.end(&row.key, &report_of(row, &found.id, status, reason, told))?;
                }
                Some(_) | None => self.conclude(app, network, row, found.id).await?,
            }
        }
        Ok(())
    }

    /// Reads the story of a version that is in a block.
    async fn conclude(&self, app: &App, network: &'static Network, row: &Row, id: TxId) -> Result<(), Fault> {
        let Some(trace) = rpc::trace(&app.settings, network, &id).await else { return Ok(()) };
        if let Some((status, reason, told)) = settle::ending(&row.flight, &trace) {
            let mut report = report_of(row, &id, status, reason, told);
            if status == SettlementStatus::Failed
                && let Some(other) = somebody_elses(app, network, &row.flight).await
            {
                report.status = SettlementStatus::Completed;
                report.reason = None;
                report.told = String::new();
                report.transaction = Some(other.to_string());
                report.external = true;
            }
            self.end(&row.key, &report)?;
        }
        Ok(())
    }

    /// Makes sure that the ledger holds the end; only then is it told to a caller.
    async fn tell(&self, app: &App, row: &Row, report: &Report) -> bool {
        if row.told {
            return true;
        }
        let told = self.report(app, &row.flight, report).await;
        if told && let Err(fault) = self.db().run(sql::FLIGHT_TOLD, vec![row.key.as_str().into()]) {
            log::error("a flight could not be noted", &[("cause", fault.cause().unwrap_or(&fault.detail).into())]);
        }
        told
    }

    async fn report(&self, app: &App, flight: &Flight, report: &Report) -> bool {
        let envelope = Envelope {
            tenant: flight.tenant,
            environment: flight.environment,
            request_id: app::request_id(app::now()),
            origin: String::new(),
            path: String::new(),
            ask: Ask::Settled(Box::new(report.clone())),
        };
        ledgers::ask(app, &envelope, None).await.is_ok_and(|told| told.status() == 204)
    }

    /// Whatever is open: looked at, sent again, offered more, told. The next
    /// alarm is set before any of it.
    async fn carry_on(&self) -> Result<(), Fault> {
        self.open()?;
        let keys = self.db().rows(sql::FLIGHTS_OPEN, Vec::new())?;
        let (now, watch) = (app::now(), self.next_watch()?);
        if keys.is_empty() && watch.is_none() {
            let old = UnixMillis(now.0.saturating_sub(KEEP_MS));
            return self.db().run(sql::FLIGHTS_PURGE, vec![ms(old)]);
        }
        let soon = now.plus(ALARM_MS);
        let next = watch.filter(|_| keys.is_empty()).map_or(soon, |due| due.max(soon));
        self.wake_by(next).await;
        let app = App::new(self.env.clone(), "")?;
        self.follow(&app).await?;
        for key in keys {
            let key = text(key.first());
            let Some(mut row) = self.row(&key)? else { continue };
            if row.report.is_none() {
                self.look(&app, core::slice::from_ref(&row)).await?;
                match self.row(&key)? {
                    Some(newer) => row = newer,
                    None => continue,
                }
            }
            match row.report.clone() {
                Some(report) => drop(self.tell(&app, &row, &report).await),
                None => match row.flight.cargo {
                    Cargo::Evm(_) => self.push_evm(&app, &row).await?,
                    Cargo::Svm(_) => self.push_all_svm(&app).await?,
                },
            }
        }
        self.fill_gaps(&app).await
    }
}

/// A transaction that is in a block.
struct Landed {
    id: TxId,
    /// How it came out, where the chain's own word on it says all.
    outcome: Option<Result<(), String>>,
}

fn report_of(row: &Row, id: &TxId, status: SettlementStatus, reason: Option<Reason>, told: String) -> Report {
    Report {
        settlement: row.flight.settlement,
        attempt: Some(row.flight.attempt),
        status,
        reason,
        told,
        transaction: Some(id.to_string()),
        attempts: row.sent.attempts(),
        external: false,
        reorged: row.sent.reopened,
        units: Vec::new(),
        spent: None,
        handed: false,
    }
}

fn pending(row: &Row) -> Report {
    Report {
        settlement: row.flight.settlement,
        attempt: Some(row.flight.attempt),
        status: SettlementStatus::Pending,
        reason: None,
        told: String::new(),
        transaction: row.sent.newest().map(|version| version.id.to_string()),
        attempts: row.sent.attempts(),
        external: false,
        reorged: row.sent.reopened,
        units: Vec::new(),
        spent: None,
        handed: false,
    }
}

/// The transaction by which somebody else was quicker: the money has moved all the same.
async fn somebody_elses(app: &App, network: &'static Network, flight: &Flight) -> Option<TxId> {
    let signed =
        external::Signed { payer: flight.payer, pay_to: flight.pay_to, amount: flight.amount, nonce: flight.nonce? };
    external::find(app, network, &signed).await
}

fn network_of(flight: &Flight) -> Result<&'static Network, Fault> {
    by_key(&flight.network).ok_or_else(|| Fault::internal("a flight on no network"))
}

fn signer_of<'a>(app: &'a App, flight: &Flight) -> Result<&'a Signer, Fault> {
    let signers = app.settings.signers(network_of(flight)?.family, flight.environment);
    let own = signers.iter().find(|signer| signer.address() == flight.signer);
    own.ok_or_else(|| Fault::internal("a flight whose signer is no longer configured"))
}

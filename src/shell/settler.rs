//! `Settler`: one Durable Object per network and signer, because only a single
//! thread can give out nonces without a gap. It stores the signed bytes before
//! it sends them; whoever asked may leave, the alarm carries on to the end.

mod store;

use super::app::{self, App};
use super::ledgers::{self, Ask, Envelope};
use super::sqlite::{broken, integer, ms, text};
use super::{log, rpc};
use crate::address::TxId;
use crate::chain::evm::tx::{self, Price};
use crate::chain::facts::{Call, Facts, Reply as Said};
use crate::chain::trace::Party;
use crate::error::{Code, Fault};
use crate::network::{Network, by_key};
use crate::payment::settlement::SettlementStatus;
use crate::reason::Reason;
use crate::settle::{self, Flight, Refused, Report};
use crate::signer::Signer;
use crate::sql::settler as sql;
use crate::time::UnixMillis;
use alloy_primitives::B256;
use serde_json::json;
use std::cell::Cell;
use std::time::Duration;
use store::{Row, Sent, Version, number};
use worker::{Delay, DurableObject, Env, Request, Response, ScheduledTime, State, durable_object};

/// How long a caller waits for the receipt; stock clients wait 90 s.
const WAIT_MS: u64 = 20_000;
/// The alarm comes back this often while something is on its way.
const ALARM_MS: u64 = 5_000;
/// The same bytes are sent again after this long without a receipt.
const RESEND_MS: u64 = 10_000;
/// A higher price is offered after this long, and again.
const BUMP_MS: u64 = 30_000;
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
}

impl DurableObject for Settler {
    fn new(state: State, env: Env) -> Self {
        Self { state, env, opened: Cell::new(false), alarm_at: Cell::new(None), looked_at: Cell::new(None) }
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
            if let Some(report) = self.launch(&app, &flight).await? {
                return Ok(report);
            }
        }
        let network = network_of(&flight)?;
        // A few looks a block.
        let pause_ms = (network.block_time_ms / 8).clamp(50, 1_000);
        loop {
            let row = self.row(&key)?.ok_or_else(|| Fault::internal("a flight is gone"))?;
            if let Some(report) = row.report.clone() {
                return Ok(if self.tell(&app, &row, &report).await { report } else { pending(&row) });
            }
            let looked = self.looked_at.get();
            if looked.is_none_or(|at| app::now().since(at) >= pause_ms) {
                self.looked_at.set(Some(app::now()));
                self.look_for_all(&app).await?;
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
            status: SettlementStatus::Failed,
            reason: Some(reason),
            told,
            transaction: None,
            attempts: Vec::new(),
        };
        self.report(app, flight, &report).await;
        report
    }

    /// Takes a nonce, signs, stores and sends. A report where nothing could be sent.
    async fn launch(&self, app: &App, flight: &Flight) -> Result<Option<Report>, Fault> {
        let network = network_of(flight)?;
        let signer = signer_of(app, flight)?;
        let providers = app.settings.providers(network);
        let count = tx::count_call(signer.address());
        let mut calls = tx::price_calls();
        calls.push(count.clone());
        let facts = rpc::call_all(network, &providers, &calls).await;
        let known = (tx::price(network, &facts), tx::number(&facts, &count));
        let (Some(price), Some(chain)) = known else {
            let detail = "the chain tells no price within the cap, or no nonce";
            return Err(Fault::new(Code::ChainUnavailable, detail).after(5));
        };
        self.wake_by(app::now().plus(ALARM_MS)).await;
        // From here to the stored bytes nothing is awaited: one nonce, one flight.
        if self.row(&flight.key())?.is_some() {
            return Ok(None);
        }
        let db = self.db();
        let now = app::now();
        let version = db.atomically(|| {
            let flying = db.rows(sql::FLIGHTS_COUNT, Vec::new())?;
            let idle = flying.first().is_none_or(|row| integer(row.first()) == 0);
            let mut nonces = self.nonces()?;
            let nonce = nonces.take(chain, idle);
            let version = sign(app, flight, nonce, price, now)?;
            self.put_nonces(&nonces)?;
            let bind = vec![
                flight.key().into(),
                number(nonce),
                serde_json::to_string(flight).map_err(broken)?.into(),
                serde_json::to_string(&Sent { versions: vec![version.clone()] }).map_err(broken)?.into(),
                ms(now),
            ];
            db.run(sql::FLIGHT_PUT, bind)?;
            Ok(version)
        })?;
        self.send(app, &flight.key(), &version).await
    }

    /// Hands a version to the chain; a report where it is refused for good.
    async fn send(&self, app: &App, key: &str, version: &Version) -> Result<Option<Report>, Fault> {
        let Some(row) = self.row(key)? else { return Ok(None) };
        let network = network_of(&row.flight)?;
        let call = tx::send_call(&version.raw);
        let facts = rpc::call_all(network, &app.settings.providers(network), core::slice::from_ref(&call)).await;
        let Some(Said::Error(error)) = facts.get(&call) else { return Ok(None) };
        let fields = [("chain", network.key.into()), ("words", error.message.as_str().into())];
        log::line("a transaction was refused", &fields);
        match settle::refusal(&error.message) {
            Refused::Known | Refused::Unclear | Refused::Underpriced => Ok(None),
            Refused::NonceUsed => self.renumber(app, &row).await.map(|()| None),
            Refused::Poor => {
                let db = self.db();
                let report = Report {
                    settlement: row.flight.settlement,
                    status: SettlementStatus::Failed,
                    reason: Some(Reason::UnexpectedSettle),
                    told: "the facilitator cannot pay for gas on this network now".to_owned(),
                    transaction: None,
                    attempts: row.sent.attempts(),
                };
                db.atomically(|| {
                    let mut nonces = self.nonces()?;
                    nonces.give_back(row.nonce);
                    self.put_nonces(&nonces)?;
                    self.end(key, &report)
                })?;
                Ok(None)
            }
        }
    }

    /// Somebody else has used the nonce: none of our versions can be mined any
    /// more, unless one already was.
    async fn renumber(&self, app: &App, row: &Row) -> Result<(), Fault> {
        self.look(app, core::slice::from_ref(row)).await?;
        let network = network_of(&row.flight)?;
        let signer = signer_of(app, &row.flight)?;
        let count = tx::count_call(signer.address());
        let mut calls = tx::price_calls();
        calls.push(count.clone());
        let facts = rpc::call_all(network, &app.settings.providers(network), &calls).await;
        let (Some(price), Some(chain)) = (tx::price(network, &facts), tx::number(&facts, &count)) else {
            return Ok(());
        };
        let Some(row) = self.row(&row.key)?.filter(|row| row.report.is_none() && chain > row.nonce) else {
            return Ok(());
        };
        let db = self.db();
        let version = db.atomically(|| {
            let mut nonces = self.nonces()?;
            let nonce = nonces.take(chain, false);
            let version = sign(app, &row.flight, nonce, price, app::now())?;
            self.put_nonces(&nonces)?;
            self.put_sent(&row, nonce, &version)?;
            Ok(version)
        })?;
        let call = tx::send_call(&version.raw);
        rpc::call_all(network, &app.settings.providers(network), core::slice::from_ref(&call)).await;
        Ok(())
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

    /// Looks for receipts of any version of these flights, and ends them by their story.
    async fn look(&self, app: &App, rows: &[Row]) -> Result<(), Fault> {
        let Some(first) = rows.first() else { return Ok(()) };
        let network = network_of(&first.flight)?;
        let versions = rows.iter().flat_map(|row| &row.sent.versions);
        let calls: Vec<Call> = versions.map(|version| receipt_call(version.hash)).collect();
        let facts = rpc::call_all(network, &app.settings.providers(network), &calls).await;
        for row in rows {
            if let Some(version) = row.sent.versions.iter().find(|version| has_receipt(&facts, version.hash)) {
                self.conclude(app, network, row, version).await?;
            }
        }
        Ok(())
    }

    /// Reads the story of a version that is in a block.
    async fn conclude(&self, app: &App, network: &'static Network, row: &Row, version: &Version) -> Result<(), Fault> {
        let providers = app.settings.providers(network);
        let id = TxId::Evm(version.hash);
        let is_known = |_: &Party| true;
        let question = rpc::Question {
            network,
            tx: &id,
            providers: &providers,
            threshold: app.settings.quorum(),
            first: None,
            is_known: &is_known,
        };
        let Some(trace) = rpc::ask(&question).await.trace else { return Ok(()) };
        if let Some((status, reason, told)) = settle::ending(&row.flight, &trace) {
            let report = Report {
                settlement: row.flight.settlement,
                status,
                reason,
                told,
                transaction: Some(id.to_string()),
                attempts: row.sent.attempts(),
            };
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
        if keys.is_empty() {
            let old = UnixMillis(app::now().0.saturating_sub(KEEP_MS));
            return self.db().run(sql::FLIGHTS_PURGE, vec![ms(old)]);
        }
        self.wake_by(app::now().plus(ALARM_MS)).await;
        let app = App::new(self.env.clone(), "")?;
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
                None => self.push(&app, &row).await?,
            }
        }
        Ok(())
    }

    /// A flight without receipt: the same bytes again, later a higher price.
    async fn push(&self, app: &App, row: &Row) -> Result<(), Fault> {
        let Some(newest) = row.sent.newest() else { return Ok(()) };
        let waited = app::now().since(newest.at);
        let network = network_of(&row.flight)?;
        let cap = network.settle.map_or(0, |settle| settle.max_fee_wei);
        if waited >= BUMP_MS
            && let Some(price) = newest.price.bumped(cap)
        {
            let version = sign(app, &row.flight, row.nonce, price, app::now())?;
            self.put_sent(row, row.nonce, &version)?;
            return self.send(app, &row.key, &version).await.map(|_| ());
        }
        if waited >= RESEND_MS {
            return self.send(app, &row.key, newest).await.map(|_| ());
        }
        Ok(())
    }
}

fn pending(row: &Row) -> Report {
    Report {
        settlement: row.flight.settlement,
        status: SettlementStatus::Pending,
        reason: None,
        told: String::new(),
        transaction: row.sent.newest().map(|version| version.hash.to_string()),
        attempts: row.sent.attempts(),
    }
}

fn network_of(flight: &Flight) -> Result<&'static Network, Fault> {
    by_key(&flight.network).ok_or_else(|| Fault::internal("a flight on no network"))
}

fn signer_of<'a>(app: &'a App, flight: &Flight) -> Result<&'a Signer, Fault> {
    let signers = app.settings.evm_signers(flight.environment);
    signers.get(flight.signer).ok_or_else(|| Fault::internal("a flight without a signer"))
}

fn sign(app: &App, flight: &Flight, nonce: u64, price: Price, at: UnixMillis) -> Result<Version, Fault> {
    let signed = tx::sign(network_of(flight)?, signer_of(app, flight)?, nonce, &flight.message, price);
    let signed = signed.ok_or_else(|| Fault::internal("the transaction could not be signed"))?;
    Ok(Version { raw: signed.raw, hash: signed.hash, price, at })
}

fn receipt_call(hash: B256) -> Call {
    Call::new("eth_getTransactionReceipt", &json!([hash.to_string()]))
}

fn has_receipt(facts: &Facts, hash: B256) -> bool {
    match facts.get(&receipt_call(hash)) {
        Some(Said::Value(value)) => value.get() != "null",
        Some(Said::Error(_)) | None => false,
    }
}

//! `Settler`: one Durable Object for each signer on each network, since only a single thread can give out nonces
//! without a gap. It stores the signed bytes before it sends them. If the caller disconnects, the alarm carries on.

mod evm;
mod finality;
mod flight_end;
mod gaps;
#[allow(unreachable_pub, reason = "public natively, for tests")]
pub mod migrations;
mod orders;
mod quote;
#[allow(unreachable_pub, reason = "public natively, for tests")]
pub mod rows;
#[allow(unreachable_pub, reason = "public natively, for tests")]
pub mod sql;
mod store;
mod stuck;
mod svm;
mod turn;

use crate::app;
use crate::app::App;
use crate::metering;
use crate::reporting;
use crate::request_trace::{RequestTrace, scope};
use crate::rpc;
use crate::rpc::third_party;
use crate::telemetry::{TelemetryField, TelemetryKind, event};
use orders::LaunchState;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use store::FlightRow;
use worker::{DurableObject, Env, Request, Response, ScheduledTime, State, durable_object};
use x402_chain::address::{Family, TxId};
use x402_chain::network::{Network, by_key};
use x402_chain::signer::Signer;
use x402_chain::time::UnixMillis;
use x402_core::error::{Fault, json_place};
use x402_core::messages::MessageHead;
use x402_core::messages::settler::SettlerReply;
use x402_core::settlement::flight;
use x402_core::settlement::flight::{FlightEnding, VersionKind};
use x402_core::settlement::refusal::PendingSends;
use x402_core::settlement::round_robin::{RoundRobin, VersionRoundRobin};
use x402_core::settlement::status::SettlementStatus;
use x402_core::settlement::stuck::StuckFlights;
use x402_core::settlement::{Flight, SettlementReport};
use x402_core::tenancy::budget::TransactionCost;

/// With open flights the alarm runs this often.
const ALARM_MS: u64 = 5_000;
/// The most flights polled in one request.
const POLL_MAX: usize = 40;
/// The most calls in such a request, a size that every provider accepts as a batch. Twice the number of flights, so
/// that the newest version and an older one of each are polled.
const POLL_CALLS_MAX: usize = 100;
/// The most flights advanced in one alarm.
const ADVANCE_MAX: usize = 200;
/// Reports sent to ledgers at the same time.
const REPORT_AT_ONCE: usize = 8;
/// One alarm sends reports for at most this long, since ledgers may hang.
const REPORT_MS: u64 = 20_000;
/// Without open flights the alarm runs this often, to delete old rows.
const IDLE_MS: u64 = 86_400_000;
/// Where no node reported how a flight ended, nodes are asked again after this long.
const DEFERRED_MS: u64 = 5_000;

/// One signer on one network.
#[durable_object]
pub struct Settler {
    state: State,
    env: Env,
    opened: Cell<bool>,
    alarm_at: Cell<Option<UnixMillis>>,
    /// When receipts were last polled.
    polled_at: Cell<Option<UnixMillis>>,
    /// When transactions were last sent again (Solana).
    resent_at: Cell<Option<UnixMillis>>,
    /// When old rows were last deleted.
    purged_at: Cell<Option<UnixMillis>>,
    /// How many flights this object has launched.
    launched: Cell<u64>,
    /// Launches that are running, by key; noted before anything is awaited.
    launching: RefCell<BTreeMap<String, Rc<LaunchState>>>,
    /// Versions that are being sent to nodes.
    sending: RefCell<BTreeMap<TxId, PendingSends>>,
    /// Flights in a block whose result no node reports, with the time of the next try.
    deferred: RefCell<BTreeMap<String, UnixMillis>>,
    /// Flights that callers wait for, with the number of callers.
    awaited: RefCell<BTreeMap<String, u32>>,
    /// Which flights come next: to be polled for callers, to be advanced by the alarm, to be sent again (Solana).
    turns: RefCell<TurnOrders>,
    /// Flights that could not be carried on.
    stuck_flights: RefCell<StuckFlights>,
    /// The key of the flight that was reported last.
    reported_last: RefCell<String>,
    /// A nonce that the chain waits for and that no row knows, and since when it was observed.
    missing_nonce: Cell<Option<(u64, UnixMillis)>>,
}

/// The round-robin order of each kind of work.
#[derive(Default)]
struct TurnOrders {
    poll: RoundRobin,
    advance: RoundRobin,
    resend: RoundRobin,
    versions: VersionRoundRobin,
}

impl DurableObject for Settler {
    fn new(state: State, env: Env) -> Self {
        Self {
            state,
            env,
            opened: Cell::new(false),
            alarm_at: Cell::new(None),
            polled_at: Cell::new(None),
            resent_at: Cell::new(None),
            purged_at: Cell::new(None),
            launched: Cell::new(0),
            launching: RefCell::new(BTreeMap::new()),
            sending: RefCell::new(BTreeMap::new()),
            deferred: RefCell::new(BTreeMap::new()),
            awaited: RefCell::new(BTreeMap::new()),
            turns: RefCell::new(TurnOrders::default()),
            stuck_flights: RefCell::new(StuckFlights::default()),
            reported_last: RefCell::new(String::new()),
            missing_nonce: Cell::new(None),
        }
    }

    async fn fetch(&self, mut request: Request) -> worker::Result<Response> {
        let head = MessageHead::read(request.inner().url().as_str());
        let (now, traceparent) = (app::now(), request.headers().get("traceparent")?);
        let body = request.text().await?;
        let reply = match serde_json::from_str(&body) {
            // Providers are asked in the trace of the request that has the Settler act.
            Ok(message) if traceparent.is_some() => {
                let trace = RequestTrace::begin(app::request_id(now), now, traceparent.as_deref());
                scope(&trace, self.run_order(message)).await
            }
            Ok(message) => self.run_order(message).await,
            Err(error) => Err(Fault::internal(format!("a settler could not read its message: {}", json_place(&error)))),
        };
        let reply = reply.unwrap_or_else(|fault| {
            event(TelemetryKind::SettlerFailed, &[TelemetryField::Cause(&fault)]);
            SettlerReply::Failed(fault.code.as_str().to_owned())
        });
        metering::send_from_object(&self.state, &self.env);
        reporting::send_from_object(&self.state, &self.env);
        let (status, body) = reply.encode(head.version)?;
        Ok(Response::ok(body)?.with_status(status))
    }

    async fn alarm(&self) -> worker::Result<Response> {
        self.alarm_at.set(None);
        if let Err(fault) = self.run_turn().await {
            event(TelemetryKind::SettlerAlarmFailed, &[TelemetryField::Cause(&fault)]);
        }
        metering::send_from_object(&self.state, &self.env);
        reporting::send_from_object(&self.state, &self.env);
        Response::empty()
    }
}

impl Settler {
    async fn wake_by(&self, at: UnixMillis) {
        if self.alarm_at.get().is_some_and(|set| set <= at) {
            return;
        }
        self.set_alarm(at).await;
    }

    async fn set_alarm(&self, at: UnixMillis) {
        self.alarm_at.set(Some(at));
        let date = worker::js_sys::Date::new(&wasm_bindgen::JsValue::from_str(&at.rfc3339()));
        if let Err(error) = self.state.storage().set_alarm(ScheduledTime::new(date)).await {
            self.alarm_at.set(None);
            event(TelemetryKind::AlarmNotSet, &[TelemetryField::Cause(&Fault::internal(error))]);
        }
    }

    /// Polls the flights that callers wait for, and others in turn, in one request for all callers: public providers
    /// count requests.
    async fn poll_all(&self, app: &App) -> Result<(), Fault> {
        let keys = self.open_keys()?;
        let turn = self.turns.borrow_mut().poll.next_turn(keys, |key| self.is_awaited(key), POLL_MAX);
        self.poll_flights(app, &self.open_rows(&turn)).await
    }

    /// Polls for every version of these flights, and ends the flights whose version is in a block.
    async fn poll_flights(&self, app: &App, rows: &[FlightRow]) -> Result<(), Fault> {
        let Some(first) = rows.first() else { return Ok(()) };
        let network = network_of(&first.flight)?;
        let landed = match network.family {
            Family::Evm => self.landed_evm(app, rows).await?,
            Family::Svm => self.landed_svm(app, rows).await?,
        };
        for row in rows {
            // A flight that cannot be ended delays no other.
            if let Err(fault) = self.poll_flight(app, row, &landed).await {
                self.note_stuck(&row.key, &fault);
            }
        }
        Ok(())
    }

    async fn poll_flight(&self, app: &App, row: &FlightRow, landed: &[LandedTransaction]) -> Result<(), Fault> {
        let own: Vec<&LandedTransaction> =
            landed.iter().filter(|found| row.sent.version(&found.id).is_some()).collect();
        if own.is_empty() {
            self.deferred.borrow_mut().remove(&row.key);
        }
        if own.is_empty() || self.is_deferred(&row.key) {
            return Ok(());
        }
        // If a nonce seemed lost, transactions of both nonces may have been mined.
        let spent = own.iter().filter_map(|found| found.spent).reduce(TransactionCost::plus);
        for found in own {
            if self.end_landed(app, row, found, spent).await? {
                break;
            }
        }
        Ok(())
    }

    /// Ends a flight by a version that is in a block; returns whether it has ended.
    async fn end_landed(
        &self,
        app: &App,
        row: &FlightRow,
        found: &LandedTransaction,
        spent: Option<TransactionCost>,
    ) -> Result<bool, Fault> {
        let network = network_of(&row.flight)?;
        let is_large = row.flight.amount >= app.settings.quorum();
        let is_done = matches!(found.outcome, Some(Ok(())));
        if is_done && !is_large {
            let ending = FlightEnding::completed(Vec::new());
            let report = SettlementReport::of(&row.flight, &row.sent, Some(found.id), ending).with_cost(spent);
            return self.end_flight(&row.key, &report).map(|()| true);
        }
        // Two providers are asked about a large amount, and before a Solana payment fails for good: a failed
        // transaction shows no transfer, and no third party can have sent it.
        let trace = if is_large || found.outcome.is_some() {
            rpc::fetch_trace_by_two(&app.settings, network, &found.id).await
        } else {
            rpc::fetch_trace(&app.settings, network, &found.id).await
        };
        let Some(trace) = trace else {
            if found.outcome.is_some() {
                self.deferred.borrow_mut().insert(row.key.clone(), app::now().plus(DEFERRED_MS));
            }
            return Ok(false);
        };
        let kind = row.sent.version(&found.id).map_or(VersionKind::Transfer, |version| version.kind);
        let Some(ending) = flight::flight_ending(&row.flight, kind, &trace) else { return Ok(false) };
        let block = trace.mined().map(|mined| mined.block.number);
        // A transaction that only took the nonce is no settlement.
        let id =
            if kind == VersionKind::Cancel { row.sent.transfer().map_or(found.id, |sent| sent.id) } else { found.id };
        self.conclude_flight(app, row, (id, ending), (block, spent)).await
    }

    /// Ends a flight, once it is known that no third party has settled it where we have not; returns whether it has
    /// ended. `at` is the deciding block, and the cost.
    async fn conclude_flight(
        &self,
        app: &App,
        row: &FlightRow,
        own: (TxId, FlightEnding),
        at: (Option<u64>, Option<TransactionCost>),
    ) -> Result<bool, Fault> {
        let network = network_of(&row.flight)?;
        let ended = if own.1.status == SettlementStatus::Completed || network.family == Family::Svm {
            Some((own.0, own.1, false))
        } else {
            let lookup = third_party::find_settlement(app, network, &row.flight.expected_transfer(), at.0).await;
            flight::failed_or_third_party(&row.sent, own, lookup)
        };
        let Some((id, ending, external)) = ended else {
            event(TelemetryKind::ThirdPartyUnknown, &[TelemetryField::Chain(network)]);
            self.deferred.borrow_mut().insert(row.key.clone(), app::now().plus(DEFERRED_MS));
            return Ok(false);
        };
        let report = SettlementReport::of(&row.flight, &row.sent, Some(id), ending).with_cost(at.1);
        self.end_flight(&row.key, &SettlementReport { external, ..report })?;
        Ok(true)
    }

    fn is_deferred(&self, key: &str) -> bool {
        self.deferred.borrow().get(key).is_some_and(|until| app::now() < *until)
    }
}

/// A transaction that is in a block.
struct LandedTransaction {
    id: TxId,
    /// Whether it succeeded, where the receipt alone shows that.
    outcome: Option<Result<(), String>>,
    /// What it cost the signer.
    spent: Option<TransactionCost>,
}

fn network_of(flight: &Flight) -> Result<&'static Network, Fault> {
    by_key(&flight.network).ok_or_else(|| Fault::internal("a flight's network is not in the registry"))
}

fn signer_of<'a>(app: &'a App, flight: &Flight) -> Result<&'a Signer, Fault> {
    let signers = app.settings.signers(network_of(flight)?.family, flight.environment);
    let own = signers.iter().find(|signer| signer.address() == flight.signer);
    own.ok_or_else(|| Fault::internal("a flight's signer is not configured"))
}

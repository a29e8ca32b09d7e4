//! `Settler`: one Durable Object per network and signer, because only a single
//! thread can give out nonces without a gap. It stores the signed bytes before
//! it sends them; whoever asked may leave, the alarm carries on to the end.

mod evm;
mod finality;
mod flight_end;
mod gaps;
mod orders;
mod quote;
mod store;
mod stuck;
mod svm;
mod turn;

use crate::app;
use crate::app::App;
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
use x402_core::error::Fault;
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

/// The alarm comes back this often while something is on its way.
const ALARM_MS: u64 = 5_000;
/// Flights that are looked for in one request.
const POLL_MAX: usize = 40;
/// Calls of one such request: a batch that every provider takes. Twice as many as flights, so that each has its newest
/// version and one older one looked for.
const POLL_CALLS_MAX: usize = 100;
/// Flights that are carried on in one turn of the alarm.
const ADVANCE_MAX: usize = 200;
/// Reports that are sent to ledgers at once.
const REPORT_AT_ONCE: usize = 8;
/// One turn of the alarm sends reports for so long, and then goes on with other work: ledgers may hang.
const REPORT_MS: u64 = 20_000;
/// With nothing on its way the alarm comes back this often, to let go what is over.
const IDLE_MS: u64 = 86_400_000;
/// How a flight ended is asked again after this long, where no node answered.
const DEFERRED_MS: u64 = 5_000;

/// One signer on one network.
#[durable_object]
pub struct Settler {
    state: State,
    env: Env,
    opened: Cell<bool>,
    alarm_at: Cell<Option<UnixMillis>>,
    /// When receipts were last looked for.
    polled_at: Cell<Option<UnixMillis>>,
    /// When transactions were last sent again (Solana).
    resent_at: Cell<Option<UnixMillis>>,
    /// When what is over was last let go.
    purged_at: Cell<Option<UnixMillis>>,
    /// How many flights this object has launched.
    launched: Cell<u64>,
    /// Launches that are under way, by key: noted before anything is awaited.
    launching: RefCell<BTreeMap<String, Rc<LaunchState>>>,
    /// Versions that are being handed out.
    sending: RefCell<BTreeMap<TxId, PendingSends>>,
    /// Flights that are in a block and whose end no node answers, with when to ask again.
    deferred: RefCell<BTreeMap<String, UnixMillis>>,
    /// Flights that callers wait for, with how many do.
    awaited: RefCell<BTreeMap<String, u32>>,
    /// Whose turn it is to be looked for by callers, to be carried on by the alarm, to be sent again (Solana).
    turns: RefCell<TurnOrders>,
    /// Flights that could not be carried on.
    stuck_flights: RefCell<StuckFlights>,
    /// The key of the flight that was reported last.
    reported_last: RefCell<String>,
    /// A nonce that the chain waits for and of which nobody knows, and since when it has been seen so.
    missing_nonce: Cell<Option<(u64, UnixMillis)>>,
}

/// Whose turn it is, for each kind of work.
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
        let body = request.text().await?;
        let reply = match serde_json::from_str(&body) {
            Ok(message) => self.run_order(message).await,
            Err(error) => Err(Fault::internal(format!("a settler could not read its message: {error}"))),
        };
        let reply = reply.unwrap_or_else(|fault| {
            event(TelemetryKind::SettlerFailed, &[TelemetryField::Cause(&fault)]);
            SettlerReply::Failed(fault.code.as_str().to_owned())
        });
        let (status, body) = reply.encode(head.version)?;
        Ok(Response::ok(body)?.with_status(status))
    }

    async fn alarm(&self) -> worker::Result<Response> {
        self.alarm_at.set(None);
        if let Err(fault) = self.run_turn().await {
            event(TelemetryKind::SettlerAlarmFailed, &[TelemetryField::Cause(&fault)]);
        }
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

    /// Looks for what callers wait for, and for others in turn, in one request for everybody
    /// who waits: public providers count requests.
    async fn poll_all(&self, app: &App) -> Result<(), Fault> {
        let keys = self.open_keys()?;
        let turn = self.turns.borrow_mut().poll.next_turn(keys, |key| self.is_awaited(key), POLL_MAX);
        self.poll_flights(app, &self.open_rows(&turn)).await
    }

    /// Looks for any version of these flights, and ends them by their story.
    async fn poll_flights(&self, app: &App, rows: &[FlightRow]) -> Result<(), Fault> {
        let Some(first) = rows.first() else { return Ok(()) };
        let network = network_of(&first.flight)?;
        let landed = match network.family {
            Family::Evm => self.landed_evm(app, rows).await?,
            Family::Svm => self.landed_svm(app, rows).await?,
        };
        for row in rows {
            // One that cannot be ended holds no other up.
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
        // Of two nonces, where one seemed lost, both may have been mined.
        let spent = own.iter().filter_map(|found| found.spent).reduce(TransactionCost::plus);
        for found in own {
            if self.end_landed(app, row, found, spent).await? {
                break;
            }
        }
        Ok(())
    }

    /// Ends a flight by a version that is in a block; whether it has ended.
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
        // Two providers are asked about a large amount, and before a payment on Solana ends for good: what failed there
        // shows nothing to have moved, and nobody else can have sent it.
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
        // What only took the nonce is no settlement.
        let id =
            if kind == VersionKind::Cancel { row.sent.transfer().map_or(found.id, |sent| sent.id) } else { found.id };
        self.conclude_flight(app, row, (id, ending), (block, spent)).await
    }

    /// Ends a flight, once it is known that nobody else has settled it where we have not;
    /// whether it has ended. `at` is the block that decided, and what was spent.
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
    /// How it came out, where the chain's own word on it says all.
    outcome: Option<Result<(), String>>,
    /// What it took from the signer.
    spent: Option<TransactionCost>,
}

fn network_of(flight: &Flight) -> Result<&'static Network, Fault> {
    by_key(&flight.network).ok_or_else(|| Fault::internal("a flight on no network"))
}

fn signer_of<'a>(app: &'a App, flight: &Flight) -> Result<&'a Signer, Fault> {
    let signers = app.settings.signers(network_of(flight)?.family, flight.environment);
    let own = signers.iter().find(|signer| signer.address() == flight.signer);
    own.ok_or_else(|| Fault::internal("a flight whose signer is no longer configured"))
}

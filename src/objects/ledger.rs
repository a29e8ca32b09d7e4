//! `TenantLedger`: one Durable Object for each tenant and environment. Its single thread and its own SQLite make rates,
//! quota and claims exact without locks. A step loads, decides and stores, with no `await` in between.

mod account;
mod alarm;
mod endpoints;
mod erase;
mod finality;
mod finality_blocks;
mod hear;
#[allow(unreachable_pub, reason = "public natively, for tests")]
pub mod migrations;
mod payment;
mod purge;
mod remembered_refusal;
mod reply;
#[allow(unreachable_pub, reason = "public natively, for tests")]
pub mod rows;
mod settlement;
mod ship;
mod shipment;
#[allow(unreachable_pub, reason = "public natively, for tests")]
pub mod sql;
mod store;
mod streams;
mod verify;
mod waiting;

use crate::app;
use crate::app::db;
use crate::d1;
use crate::objects::alarm::Working;
use crate::reporting;
use crate::request::fault_reply;
use crate::request_trace::{RequestTrace, scope};
use crate::response::object_response;
use hear::HandingOver;
use reply::LedgerOutput;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use store::LedgerStore;
use worker::{DurableObject, Env, Request, Response, State, WebSocket, WebSocketIncomingMessage, durable_object};
use x402_api::headers;
use x402_api::headers::CrossOrigin;
use x402_api::problem::ProblemContext;
use x402_chain::address::Address;
use x402_chain::id::TenantId;
use x402_chain::network::Environment;
use x402_chain::time::UnixMillis;
use x402_core::error::{ErrorCode, Fault, json_place};
use x402_core::messages::MessageHead;
use x402_core::messages::ledger::{LedgerEnvelope, LedgerMessage, LedgerReply};
use x402_core::outbox::walk::FRONT;
use x402_core::settlement::payment::{PaymentDecision, PaymentRecord};
use x402_core::tenancy::admission::{Admission, invalid_key};
use x402_core::tenancy::saved::SavedAdmission;
use x402_core::tenancy::tenant::Tenant;

/// The ledger's name among the sources of a Meter.
fn ledger_name(memory: &LedgerState) -> String {
    format!("{}:{}", memory.tenant.id, memory.tenant.environment.name())
}

/// What the object keeps in memory; storage holds all of it too.
struct LedgerState {
    tenant: Tenant,
    admission: Admission,
    /// Which part of `admission` is in storage.
    saved: SavedAdmission,
    /// Some of the payers that have paid before, which saves reading their rows.
    payers: BTreeSet<Address>,
    /// Some of the payments without a settlement that were asked about before.
    payments: BTreeMap<String, PaymentRecord>,
}

/// What the log says of an answer that was given before.
const REPEATED: &str = "repeated";

/// The most payers kept in memory; then all are dropped.
const PAYERS_MAX: usize = 4_096;
/// Payments kept in memory, some 400 bytes each.
const PAYMENTS_MAX: usize = 4_096;

impl LedgerState {
    /// The state as storage holds it.
    const fn new(tenant: Tenant, admission: Admission) -> Self {
        let saved = SavedAdmission::all_saved(&admission, UnixMillis(0));
        Self { tenant, admission, saved, payers: BTreeSet::new(), payments: BTreeMap::new() }
    }

    /// Notes that an admission was stored.
    fn note_written(&mut self, admission: Admission, now: UnixMillis) {
        self.saved = SavedAdmission::all_saved(&admission, now);
        self.admission = admission;
    }

    fn remember_payers(&mut self, known: Vec<Address>) {
        if self.payers.len() > PAYERS_MAX {
            self.payers.clear();
        }
        self.payers.extend(known);
    }

    /// Keeps a payment's row in memory until it has a settlement; from then on only storage counts.
    fn note_payment(&mut self, authorization: &str, decision: Option<&PaymentDecision>, known: Option<PaymentRecord>) {
        let written = decision.and_then(|decision| decision.row.as_ref());
        let is_settled = decision.is_some_and(|decision| decision.settlement_record.is_some());
        let row = written.map(|row| PaymentRecord {
            fingerprint: row.fingerprint.clone(),
            proof: Some(row.proof.clone()),
            expires_at: Some(row.expires_at),
            settlement_record: None,
        });
        match row.or(known).filter(|row| row.settlement_record.is_none() && !is_settled) {
            Some(row) => {
                if self.payments.len() >= PAYMENTS_MAX && !self.payments.contains_key(authorization) {
                    self.payments.clear();
                }
                self.payments.insert(authorization.to_owned(), row);
            }
            None => drop(self.payments.remove(authorization)),
        }
    }
}

/// One tenant's ledger in one environment.
#[durable_object]
pub struct TenantLedger {
    state: State,
    env: Env,
    memory: RefCell<Option<LedgerState>>,
    /// The time of the next alarm, as far as this instance knows.
    alarm_at: Cell<Option<UnixMillis>>,
    opened: Cell<bool>,
    /// Work that has awaited something, and may store what it had read before.
    working: Rc<Working>,
    /// What Couriers are being sent.
    handing_over: Rc<HandingOver>,
    /// Whether this life of the object has tried again to read what was parked of the outbox.
    parked_returned: Cell<bool>,
    /// The last entry of the outbox that was looked at, or its front.
    outbox_after: Cell<i64>,
    /// The number of the last counts that a Meter has, as far as this instance knows.
    counts_taken: Cell<u64>,
    /// How many entries of the outbox waited when that was last reported.
    depth: Cell<u64>,
    /// How far tables were walked to delete what has expired.
    purge: RefCell<purge::PurgeWalks>,
    /// Whether streams were woken since one of them has read.
    streams_woken: Cell<bool>,
}

impl DurableObject for TenantLedger {
    fn new(state: State, env: Env) -> Self {
        let (memory, alarm_at) = (RefCell::new(None), Cell::new(None));
        let (opened, parked_returned, purge) = (Cell::new(false), Cell::new(false), RefCell::default());
        let outbox_after = Cell::new(FRONT);
        let (working, handing_over) = (Rc::default(), Rc::default());
        let streams_woken = Cell::new(false);
        Self {
            state,
            env,
            memory,
            alarm_at,
            opened,
            working,
            handing_over,
            parked_returned,
            outbox_after,
            counts_taken: Cell::new(0),
            depth: Cell::new(0),
            purge,
            streams_woken,
        }
    }

    async fn fetch(&self, mut request: Request) -> worker::Result<Response> {
        let now = app::now();
        if request.headers().get("upgrade")?.is_some() {
            return self.accept_stream();
        }
        let head = MessageHead::read(request.inner().url().as_str());
        let body = request.text().await?;
        match serde_json::from_str::<LedgerEnvelope>(&body) {
            Ok(envelope) => {
                let asked =
                    ProblemContext { origin: &envelope.origin, path: &envelope.path, request_id: envelope.request_id };
                let trace = RequestTrace::begin(envelope.request_id, now, None);
                trace.note_tenant(envelope.tenant);
                let output = scope(&trace, self.handle_message(&envelope, (now, head.deadline))).await;
                if envelope.message.makes_news() {
                    self.wake_streams();
                }
                let failed = output.as_ref().err().map(|fault| fault.code.as_str().to_owned());
                let compose = async {
                    let output = output.unwrap_or_else(|fault| fault_reply(&fault, asked).into());
                    output.encode(head.version).unwrap_or_else(|fault| fault_reply(&fault, asked))
                };
                let mut reply = scope(&trace, compose).await;
                reporting::send_from_object(&self.state, &self.env);
                let found = if reply.status >= 400 { failed.or_else(|| trace.code()) } else { trace.outcome() };
                if let Some(found) = found.filter(|_| envelope.logs_outcome) {
                    reply.headers.push((LedgerReply::OUTCOME, found));
                }
                // A message without its route's access is a key's.
                let cross_origin = envelope.access.map_or(CrossOrigin::Allowed, headers::cross_origin);
                object_response(reply, envelope.request_id, cross_origin)
            }
            Err(error) => {
                let asked = ProblemContext { origin: "", path: "", request_id: app::request_id(now) };
                let fault =
                    Fault::other_version(format!("a ledger could not read its message: {}", json_place(&error)));
                object_response(fault_reply(&fault, asked), asked.request_id, CrossOrigin::Refused)
            }
        }
    }

    async fn alarm(&self) -> worker::Result<Response> {
        self.run_alarm().await;
        self.wake_streams();
        reporting::send_from_object(&self.state, &self.env);
        Response::empty()
    }

    /// A Worker that streams sends nothing.
    async fn websocket_message(&self, _: WebSocket, _: WebSocketIncomingMessage) -> worker::Result<()> {
        Ok(())
    }

    async fn websocket_close(&self, socket: WebSocket, _: usize, _: String, _: bool) -> worker::Result<()> {
        // The platform may have closed it by itself.
        let _ = socket.close(Some(1000), Some(""));
        Ok(())
    }

    async fn websocket_error(&self, _: WebSocket, _: worker::Error) -> worker::Result<()> {
        Ok(())
    }
}

impl TenantLedger {
    fn store(&self) -> LedgerStore {
        LedgerStore::new(&self.state.storage())
    }

    async fn handle_message(
        &self,
        envelope: &LedgerEnvelope,
        (now, until): (UnixMillis, Option<UnixMillis>),
    ) -> Result<LedgerOutput, Fault> {
        self.open_storage()?;
        if envelope.message.needs_tenant() && !self.load_tenant(envelope.tenant, envelope.environment, now).await? {
            return match envelope.message == LedgerMessage::Flush {
                true => Ok(LedgerOutput::empty(LedgerReply::NoTenant)),
                false => Err(invalid_key()),
            };
        }
        if envelope.counted {
            self.count_export(envelope, now)?;
        }
        match &envelope.message {
            LedgerMessage::Verify(request) => self.answer_verification(request, envelope, now).await,
            LedgerMessage::Payment(asked) => self.answer_payment(asked, envelope, (now, until)).await,
            LedgerMessage::Settled(report) => self.apply_settlement_report(report, now).await,
            LedgerMessage::Deliver(deliver) => self.deliver_settlement(deliver, envelope, now).await,
            LedgerMessage::Reopen(reopen) => self.reopen_settlement(reopen, envelope, now).await,
            LedgerMessage::HandOver { key, id } => {
                check_deadline(until)?;
                self.hand_over_settlement(envelope.present(key), *id, envelope, now).await.map(LedgerOutput::from)
            }
            LedgerMessage::Settlement { key, id } => {
                self.answer_settlement(envelope.present(key), *id, now).map(LedgerOutput::from)
            }
            LedgerMessage::Settlements { key, filter, page } => {
                self.answer_settlements(envelope.present(key), filter, page, now).map(LedgerOutput::from)
            }
            LedgerMessage::Account { key, view, off } => {
                self.answer_account(envelope.present(key), *view, off, now).map(LedgerOutput::from)
            }
            LedgerMessage::Payees { key, wanted, off } => self.answer_payees(envelope.present(key), wanted, off, now),
            LedgerMessage::Record { key, id } => self.answer_record(envelope.present(key), *id, now),
            LedgerMessage::List { key } => {
                self.note_read();
                self.answer_list(envelope.present(key), now).await
            }
            // A request of a session reads the months next, and a timed job closes a period.
            LedgerMessage::Flush => {
                self.note_read();
                let wanted = if envelope.access.is_some() { ship::Flushed::Records } else { ship::Flushed::Usage };
                self.flush(now, wanted).await
            }
            LedgerMessage::Reload { version } => self.reload_tenant(envelope, *version).await,
            LedgerMessage::Erase => self.erase_texts().await,
            LedgerMessage::Ping => Ok(LedgerOutput::done()),
            #[cfg(x402_bench)]
            LedgerMessage::BenchRow { id } => self.bench_row(id).map(|()| LedgerOutput::done()),
        }
    }

    /// Applies the schema once an instance, and reads the stored state.
    fn open_storage(&self) -> Result<(), Fault> {
        if self.opened.get() {
            return Ok(());
        }
        let store = self.store();
        store.make_schema()?;
        match (store.tenant()?, store.admission()?) {
            (Some(tenant), Some((admission, is_newer))) => {
                if is_newer {
                    store.atomically(|| store.put_admission(&admission))?;
                }
                self.memory.replace(Some(LedgerState::new(tenant, admission)));
            }
            (None, None) => {}
            // Both are written in one transaction.
            (Some(_), None) | (None, Some(_)) => {
                return Err(Fault::internal(
                    "a ledger holds one of its tenant and its admission state, and not the other",
                ));
            }
        }
        self.opened.set(true);
        Ok(())
    }

    /// An empty ledger loads the directory's copy before its first step, while no other request enters. Returns whether
    /// the ledger has a tenant.
    async fn load_tenant(&self, tenant: TenantId, environment: Environment, now: UnixMillis) -> Result<bool, Fault> {
        if self.memory.borrow().is_some() {
            return Ok(true);
        }
        let env = self.env.clone();
        let loading = async move {
            let loaded = match db(&env) {
                Ok(db) => d1::load_tenant(&db, tenant, environment).await,
                Err(fault) => Err(fault),
            };
            Ok(loaded)
        };
        let loaded = self.state.block_concurrency_while(loading).await.map_err(tenant_unavailable)?;
        match loaded.map_err(tenant_unavailable_because)? {
            Some(tenant) => self.take_tenant_copy(tenant, now).map(|_| true),
            None => Ok(false),
        }
    }

    /// Replaces its copy by a newer one. Returns whether webhook endpoints have missed events until then.
    fn take_tenant_copy(&self, tenant: Tenant, now: UnixMillis) -> Result<bool, Fault> {
        let mut memory = self.memory.borrow_mut();
        let store = self.store();
        match memory.as_mut() {
            Some(memory) if !memory.tenant.is_older_than(&tenant) => {}
            Some(memory) => {
                let (tenant, has_missed) = endpoints::put_copy(&store, &memory.tenant, tenant, now)?;
                memory.tenant = tenant;
                return Ok(has_missed);
            }
            None => {
                let admission = Admission::new(now);
                store.atomically(|| {
                    store.put_tenant(&tenant)?;
                    store.put_admission(&admission)
                })?;
                *memory = Some(LedgerState::new(tenant, admission));
            }
        }
        Ok(false)
    }

    async fn reload_tenant(&self, envelope: &LedgerEnvelope, version: u64) -> Result<LedgerOutput, Fault> {
        let is_loaded = |tenant: &Tenant| tenant.version >= version && tenant.webhooks.is_some();
        if self.memory.borrow().as_ref().is_some_and(|memory| is_loaded(&memory.tenant)) {
            return Ok(LedgerOutput::done());
        }
        let loaded = d1::load_tenant(&db(&self.env)?, envelope.tenant, envelope.environment).await;
        let tenant = loaded
            .map_err(tenant_unavailable_because)?
            .ok_or_else(|| tenant_unavailable("the tenant is not in the directory"))?;
        if tenant.version < version {
            return Err(tenant_unavailable("the directory holds an older version of the tenant"));
        }
        self.take_newer_copy(tenant, app::now()).await?;
        Ok(LedgerOutput::done())
    }

    /// Runs `work` on the state in memory.
    fn with_state<T>(&self, work: impl FnOnce(&mut LedgerState) -> Result<T, Fault>) -> Result<T, Fault> {
        match self.memory.borrow_mut().as_mut() {
            Some(memory) => work(memory),
            None => Err(tenant_unavailable("the ledger has not loaded its tenant")),
        }
    }

    #[cfg(x402_bench)]
    fn bench_row(&self, id: &str) -> Result<(), Fault> {
        let store = self.store();
        store.atomically(|| store.bench_row(id))
    }
}

/// Whether the caller still waits. What is given to a caller that has given up is lost.
///
/// # Errors
/// `LEDGER_UNAVAILABLE`.
fn check_deadline(until: Option<UnixMillis>) -> Result<(), Fault> {
    let is_late = until.is_some_and(|until| app::now() >= until);
    if is_late { Err(Fault::new(ErrorCode::LedgerUnavailable, "the call came too late").after(1)) } else { Ok(()) }
}

fn tenant_unavailable(cause: impl core::fmt::Display) -> Fault {
    Fault::new(ErrorCode::LedgerUnavailable, "the tenant's ledger could not load its tenant").after(1).because(cause)
}

fn tenant_unavailable_because(fault: Fault) -> Fault {
    tenant_unavailable(fault.cause().unwrap_or(&fault.detail))
}

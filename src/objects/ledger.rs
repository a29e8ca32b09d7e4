//! `TenantLedger`: one Durable Object per tenant and environment, because its
//! single thread and its own SQLite make rates, quota and claims exact without
//! any lock. It loads, steps, stores, and awaits nothing in between.

mod account;
mod alarm;
mod payment;
mod remember;
mod settlement;
mod ship;
mod store;
mod verify;
mod watch;

use crate::app;
use crate::app::db;
use crate::clients;
use crate::clients::ledger::{Ask, Envelope};
use crate::d1;
use crate::platform::response::respond;
use crate::request::refuse;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use store::Store;
use worker::{DurableObject, Env, Request, Response, State, durable_object};
use x402_api::Reply;
use x402_api::problem::Asked;
use x402_chain::address::Address;
use x402_chain::id::TenantId;
use x402_chain::network::Environment;
use x402_chain::time::UnixMillis;
use x402_core::error::{Code, Fault};
use x402_core::settlement::payment::{Booked, Row};
use x402_core::tenancy::admission::{Admission, invalid_key};
use x402_core::tenancy::saved::Saved;
use x402_core::tenancy::tenant::Tenant;

/// What the object holds while it lives: all of it is in its storage too.
struct Memory {
    tenant: Tenant,
    admission: Admission,
    /// How much of `admission` is in storage.
    saved: Saved,
    /// Some of those who have paid before, to spare reading their rows.
    payers: BTreeSet<Address>,
    /// Some of the payments that were asked for before and have no settlement.
    payments: BTreeMap<String, Row>,
}

/// Payers kept in memory.
const PAYERS_MAX: usize = 4_096;
/// Payments kept in memory, some 400 bytes each.
const PAYMENTS_MAX: usize = 4_096;

impl Memory {
    /// What storage holds.
    const fn new(tenant: Tenant, admission: Admission) -> Self {
        let saved = Saved::all(&admission, UnixMillis(0));
        Self { tenant, admission, saved, payers: BTreeSet::new(), payments: BTreeMap::new() }
    }

    /// Takes an admission that was written.
    fn wrote(&mut self, admission: Admission, now: UnixMillis) {
        self.saved = Saved::all(&admission, now);
        self.admission = admission;
    }

    fn remember_payers(&mut self, known: Vec<Address>) {
        if self.payers.len() > PAYERS_MAX {
            self.payers.clear();
        }
        self.payers.extend(known);
    }

    /// Keeps a payment's row in mind until it has a settlement: from then on its own row counts.
    fn note_payment(&mut self, authorization: &str, booked: Option<&Booked>, known: Option<Row>) {
        let written = booked.and_then(|booked| booked.row.as_ref());
        let is_settled = booked.is_some_and(|booked| booked.kept.is_some());
        let row = written.map(|row| Row {
            fingerprint: row.fingerprint.clone(),
            proof: Some(row.proof.clone()),
            expires_at: Some(row.expires_at),
            kept: None,
        });
        match row.or(known).filter(|row| row.kept.is_none() && !is_settled) {
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
    memory: RefCell<Option<Memory>>,
    /// When the next alarm is set for, as far as this life of the object knows.
    alarm_at: Cell<Option<UnixMillis>>,
    opened: Cell<bool>,
}

impl DurableObject for TenantLedger {
    fn new(state: State, env: Env) -> Self {
        Self { state, env, memory: RefCell::new(None), alarm_at: Cell::new(None), opened: Cell::new(false) }
    }

    async fn fetch(&self, mut request: Request) -> worker::Result<Response> {
        let now = app::now();
        let until = clients::ledger::deadline(request.inner().url().as_str());
        let body = request.text().await?;
        match serde_json::from_str::<Envelope>(&body) {
            Ok(envelope) => {
                let asked = Asked { origin: &envelope.origin, path: &envelope.path, request_id: envelope.request_id };
                let reply = self.answer(&envelope, (now, until)).await.unwrap_or_else(|fault| refuse(&fault, asked));
                respond(reply, envelope.request_id)
            }
            Err(error) => {
                let asked = Asked { origin: "", path: "", request_id: app::request_id(now) };
                let fault = Fault::internal(format!("a ledger could not read what it was asked: {error}"));
                respond(refuse(&fault, asked), asked.request_id)
            }
        }
    }

    async fn alarm(&self) -> worker::Result<Response> {
        self.wake().await;
        Response::empty()
    }
}

impl TenantLedger {
    fn store(&self) -> Store {
        Store::new(&self.state.storage())
    }

    async fn answer(
        &self,
        envelope: &Envelope,
        (now, until): (UnixMillis, Option<UnixMillis>),
    ) -> Result<Reply, Fault> {
        self.open()?;
        match &envelope.ask {
            Ask::Ping => return Ok(nothing()),
            #[cfg(x402_bench)]
            Ask::BenchRow { id } => return self.bench_row(id).map(|()| nothing()),
            Ask::Reload { version } => return self.reload(envelope, *version).await,
            Ask::Verify(_)
            | Ask::Payment(_)
            | Ask::Settled(_)
            | Ask::Deliver(_)
            | Ask::Reopen(_)
            | Ask::HandOver { .. }
            | Ask::Settlement { .. }
            | Ask::Settlements { .. }
            | Ask::Account { .. }
            | Ask::Payees { .. }
            | Ask::Record { .. }
            | Ask::List { .. }
            | Ask::Flush => {}
        }
        self.load(envelope.tenant, envelope.environment, now).await?;
        match &envelope.ask {
            Ask::Verify(request) => self.verify(request, envelope, now).await,
            Ask::Payment(asked) => self.payment(asked, envelope, (now, until)).await,
            Ask::Settled(report) => self.settled(report, now).await,
            Ask::Deliver(deliver) => self.deliver(deliver, envelope, now).await,
            Ask::Reopen(reopen) => self.reopen(reopen, envelope, now).await,
            Ask::HandOver { key, id } => {
                in_time(until)?;
                self.hand_over(key, *id, envelope, now).await
            }
            Ask::Settlement { key, id } => self.settlement(key, *id, now),
            Ask::Settlements { key, filter, page } => self.settlements(key, filter, page, now),
            Ask::Account { key, view, off } => self.account(key, *view, off, now),
            Ask::Payees { key, wanted, off } => self.payees(key, wanted, off, now),
            Ask::Record { key, id } => self.record(key, *id, now),
            Ask::List { key } => self.list(key, now).await,
            Ask::Flush => self.flush(now).await,
            Ask::Reload { .. } | Ask::Ping => Ok(nothing()),
            #[cfg(x402_bench)]
            Ask::BenchRow { .. } => Ok(nothing()),
        }
    }

    /// Makes the schema once a life, and reads what the storage holds.
    fn open(&self) -> Result<(), Fault> {
        if self.opened.get() {
            return Ok(());
        }
        let store = self.store();
        store.make()?;
        if let (Some(tenant), Some(admission)) = (store.tenant()?, store.admission()?) {
            self.memory.replace(Some(Memory::new(tenant, admission)));
        }
        self.opened.set(true);
        Ok(())
    }

    /// An empty ledger takes the directory's copy before it steps, while nothing else enters.
    async fn load(&self, tenant: TenantId, environment: Environment, now: UnixMillis) -> Result<(), Fault> {
        if self.memory.borrow().is_some() {
            return Ok(());
        }
        let env = self.env.clone();
        let loading = async move {
            let loaded = match db(&env) {
                Ok(db) => d1::load(&db, tenant, environment).await,
                Err(fault) => Err(fault),
            };
            Ok(loaded)
        };
        let loaded = self.state.block_concurrency_while(loading).await.map_err(unread)?;
        self.take(loaded.map_err(unread_because)?.ok_or_else(invalid_key)?, now)
    }

    /// Takes a copy of a higher version than its own.
    fn take(&self, tenant: Tenant, now: UnixMillis) -> Result<(), Fault> {
        let mut memory = self.memory.borrow_mut();
        let store = self.store();
        match memory.as_mut() {
            Some(memory) if memory.tenant.version >= tenant.version => {}
            Some(memory) => {
                store.atomically(|| store.put_tenant(&tenant))?;
                memory.tenant = tenant;
            }
            None => {
                let admission = Admission::new(now);
                store.atomically(|| {
                    store.put_tenant(&tenant)?;
                    store.put_admission(&admission)
                })?;
                *memory = Some(Memory::new(tenant, admission));
            }
        }
        Ok(())
    }

    async fn reload(&self, envelope: &Envelope, version: u64) -> Result<Reply, Fault> {
        let loaded = d1::load(&db(&self.env)?, envelope.tenant, envelope.environment).await;
        let tenant = loaded.map_err(unread_because)?.ok_or_else(|| unread("the tenant is not in the directory"))?;
        if tenant.version < version {
            return Err(unread("the directory is behind"));
        }
        self.take(tenant, app::now())?;
        Ok(nothing())
    }

    /// Runs `work` on what the object holds.
    fn with<T>(&self, work: impl FnOnce(&mut Memory) -> Result<T, Fault>) -> Result<T, Fault> {
        match self.memory.borrow_mut().as_mut() {
            Some(memory) => work(memory),
            None => Err(unread("the ledger is empty")),
        }
    }

    #[cfg(x402_bench)]
    fn bench_row(&self, id: &str) -> Result<(), Fault> {
        let store = self.store();
        store.atomically(|| store.bench_row(id))
    }
}

/// Whether a call's caller still waits. What is given to one who does not is lost.
///
/// # Errors
/// `LEDGER_UNAVAILABLE`.
fn in_time(until: Option<UnixMillis>) -> Result<(), Fault> {
    let is_late = until.is_some_and(|until| app::now() >= until);
    if is_late { Err(Fault::new(Code::LedgerUnavailable, "the call came too late").after(1)) } else { Ok(()) }
}

fn unread(cause: impl core::fmt::Display) -> Fault {
    Fault::new(Code::LedgerUnavailable, "the tenant's ledger could not load its tenant").after(1).because(cause)
}

fn unread_because(fault: Fault) -> Fault {
    unread(fault.cause().unwrap_or(&fault.detail))
}

/// 204.
fn nothing() -> Reply {
    Reply { status: 204, content_type: "", body: String::new(), headers: Vec::new() }
}

//! One verification in one step: look up, decide, write, all in one transaction.

use super::remember::remembered;
use super::store::Store;
use super::{Memory, TenantLedger, nothing};
use crate::app::db;
use crate::clients::ledger::{Envelope, REPLAYED, UNRECORDED};
use crate::d1;
use crate::isolate;
use crate::request::refuse;
use std::collections::BTreeSet;
use x402_api::{Reply, headers, problem};
use x402_chain::address::{Address, Family};
use x402_chain::id::ClaimId;
use x402_chain::retry::Retry;
use x402_chain::time::UnixMillis;
use x402_core::error::Fault;
use x402_core::settlement::payment::{Kept, authorization, transaction};
use x402_core::tenancy::admission::{Admission, Stop, Stored, authorise, not_registered};
use x402_core::tenancy::tenant::Scope;
use x402_core::verification::answer::{Answer, Status};
use x402_core::verification::book;
use x402_core::verification::book::{Admitted, Booked, Known, Request, Seen};
use x402_core::verification::claims;
use x402_core::verification::claims::{Held, Prior, Unit};
use x402_core::verification::finality;

/// The route's name in the idempotency table.
const ROUTE: &str = "verify";

/// How a step came out.
enum Step {
    /// Answered; nothing was counted.
    Done(Reply),
    /// Answered and counted: the admission is written.
    Counted(Reply),
    /// In test: register the recipient first, then step again.
    Register(Address),
}

impl TenantLedger {
    /// Books one verification.
    pub(super) async fn verify(&self, request: &Request, envelope: &Envelope, now: UnixMillis) -> Result<Reply, Fault> {
        let mut step = self.step(request, envelope, None, now)?;
        if let Step::Register(address) = step {
            self.register(&address, now).await?;
            step = self.step(request, envelope, Some(address), now)?;
        }
        match step {
            Step::Done(reply) | Step::Counted(reply) => {
                self.wake_soon(now).await;
                Ok(reply)
            }
            Step::Register(_) => Err(Fault::internal("a second recipient of one request")),
        }
    }

    /// `tried` is a recipient whose registration was just tried: if the tenant does not hold it, it never will.
    fn step(
        &self,
        request: &Request,
        envelope: &Envelope,
        tried: Option<Address>,
        now: UnixMillis,
    ) -> Result<Step, Fault> {
        let store = self.store();
        self.with(|memory| {
            let payers = known_payers(&store, &memory.payers, request)?;
            let mut admission = memory.admission.clone();
            let step = store.atomically(|| {
                if let Some(closed) = admission.roll(now) {
                    let body = serde_json::to_string(&closed).map_err(Fault::internal)?;
                    store.put_outbox("period", &body)?;
                }
                Booking { store: &store, memory, payers: &payers, request, envelope, tried, now }.run(&mut admission)
            })?;
            match &step {
                Step::Counted(_) => memory.wrote(admission, now),
                Step::Done(_) | Step::Register(_) => memory.admission = admission,
            }
            memory.remember_payers(payers);
            Ok(step)
        })
    }

    /// In test, tries to register an address to this tenant by its first use, and takes the directory's whole copy:
    /// what was revoked meanwhile is revoked here too. Whether the tenant holds the address, the copy says.
    pub(super) async fn register(&self, address: &Address, now: UnixMillis) -> Result<(), Fault> {
        let (id, environment) = self.with(|memory| Ok((memory.tenant.id, memory.tenant.environment)))?;
        let db = db(&self.env)?;
        d1::register_first_use(&db, id, environment, address, now).await?;
        let tenant = d1::load(&db, id, environment).await?;
        self.take(tenant.ok_or_else(|| Fault::internal("a tenant without a row"))?, now)
    }
}

/// Those who moved the asset in this transaction and have paid the tenant before.
fn known_payers(store: &Store, remembered: &BTreeSet<Address>, request: &Request) -> Result<Vec<Address>, Fault> {
    let Seen::Traced(traced) = &request.seen else { return Ok(Vec::new()) };
    let Some(mined) = traced.trace.mined() else { return Ok(Vec::new()) };
    // Beyond this many a payer reads as a stranger, which only adds caution.
    let mut givers: Vec<_> = mined.transfers.iter().filter_map(|transfer| transfer.from).take(64).collect();
    givers.sort_unstable();
    givers.dedup();
    let mut known = Vec::new();
    for giver in givers {
        if remembered.contains(&giver) || store.knows_payer(&giver.to_string())? {
            known.push(giver);
        }
    }
    Ok(known)
}

/// One step's view.
struct Booking<'a> {
    store: &'a Store,
    memory: &'a Memory,
    payers: &'a [Address],
    request: &'a Request,
    envelope: &'a Envelope,
    /// A recipient whose registration by first use was just tried.
    tried: Option<Address>,
    now: UnixMillis,
}

impl Booking<'_> {
    fn run(&self, admission: &mut Admission) -> Result<Step, Fault> {
        let (request, tenant) = (self.request, &self.memory.tenant);
        let stored = match &request.idempotency {
            Some(idempotency) => self.store.idempotency(ROUTE, &idempotency.key)?,
            None => None,
        };
        let admitted = match book::admit(request, tenant, admission, stored.as_ref(), self.now) {
            Ok(admitted) => admitted,
            // Whoever only asks whether to ask the chain registers nothing.
            Err(Stop::Register(_)) if request.seen == Seen::Deferred => return Ok(Step::Done(nothing())),
            Err(Stop::Register(address)) if self.tried == Some(address) => {
                return self.unregistered(&address, admission);
            }
            Err(Stop::Register(address)) => return Ok(Step::Register(address)),
            Err(Stop::Repeat(status, body)) => {
                let mut reply = Reply { status, content_type: content_type(status), body, headers: Vec::new() };
                reply = reply.with(REPLAYED, "true");
                return Ok(Step::Done(self.with_rates(reply, admission)));
            }
            Err(Stop::Fault(fault)) => return self.refused(&fault, admission).map(Step::Done),
        };
        if request.seen == Seen::Deferred {
            return Ok(Step::Done(nothing()));
        }
        let (claim, recipient) = (&request.claim, admitted.recipient.to_string());
        let mut held = self.store.claims(claim.network.caip2, &claim.tx.to_string(), &recipient)?;
        held.extend(self.reserved(&admitted.recipient)?);
        let sanctions = isolate::sanctions();
        let known = Known { tenant, held: &held, payers: self.payers, sanctions: sanctions.as_deref() };
        let reply = match book::conclude(request, admitted, admission, known, self.now) {
            Ok(booked) => self.write(&booked)?,
            Err(fault) => refuse(&fault, self.asked()),
        };
        self.store.put_admission(admission)?;
        let reply = self.remember_answer(reply, admitted)?;
        Ok(Step::Counted(self.with_rates(reply, admission)))
    }

    /// A recipient that could not be registered by first use. The directory was asked for it, so that it counts against
    /// the rates, as a request that fails at the chain does.
    fn unregistered(&self, address: &Address, admission: &mut Admission) -> Result<Step, Fault> {
        let tenant = &self.memory.tenant;
        let key = authorise(tenant, &self.request.key, Some(Scope::Verify), self.now)?.id;
        admission.count(key, self.now);
        self.store.put_admission(admission)?;
        let fault = not_registered(format!("{address} belongs to another tenant, or was removed from this one"));
        self.refused(&fault, admission).map(Step::Counted)
    }

    /// What of the payment belongs to settlements of this ledger by the authorizations that they
    /// reserved, also before their receipts were seen.
    fn reserved(&self, recipient: &Address) -> Result<Vec<Held>, Fault> {
        let Seen::Traced(traced) = &self.request.seen else { return Ok(Vec::new()) };
        let Some(mined) = traced.trace.mined() else { return Ok(Vec::new()) };
        let network = self.request.claim.network;
        let mut held = Vec::new();
        for used in &mined.authorizations {
            let units = claims::paid_by(used, mined, recipient);
            if units.is_empty() {
                continue;
            }
            if let Some(prior) = self.settlement_of(&authorization(network, &used.authorizer, &used.nonce))? {
                held.extend(units.into_iter().map(|unit| Held { unit, prior: prior.clone() }));
            }
        }
        if network.family == Family::Svm
            && let Some(prior) = self.settlement_of(&transaction(network, &traced.trace.tx))?
        {
            held.push(Held { unit: Unit::Whole, prior });
        }
        Ok(held)
    }

    /// The settlement that has reserved an authorization.
    fn settlement_of(&self, authorization: &str) -> Result<Option<Prior>, Fault> {
        // One that failed has moved nothing, and unless goods were given for it, its payment is free.
        let kept = self.store.payment(authorization)?.and_then(|row| row.kept).filter(Kept::is_spent);
        Ok(kept.map(|kept| kept.settlement).map(|found| {
            let at = UnixMillis::parse(&found.created_at).unwrap_or(self.now);
            Prior { id: ClaimId::Settlement(found.id), reference: None, at }
        }))
    }

    fn asked(&self) -> problem::Asked<'_> {
        let envelope = self.envelope;
        problem::Asked { origin: &envelope.origin, path: &envelope.path, request_id: envelope.request_id }
    }

    fn write(&self, booked: &Booked) -> Result<Reply, Fault> {
        let reply = Reply::json(200, &booked.answer);
        let id = booked.answer.id.to_string();
        for claim in &booked.claims {
            self.store.put_claim(claim)?;
        }
        if booked.is_record {
            self.store.put_record(&id, &reply.body)?;
        } else {
            self.revive(&id)?;
        }
        if booked.follow
            && let Some(at) = finality::next_look(self.request.claim.network, &booked.answer, self.now, self.now)
        {
            self.store.watch(&id, at)?;
        }
        for payer in &booked.new_payers {
            self.store.put_payer(&payer.to_string())?;
        }
        Ok(reply)
    }

    /// A payment that had left its chain and is found again under its own reference.
    fn revive(&self, id: &str) -> Result<(), Fault> {
        let Seen::Traced(traced) = &self.request.seen else { return Ok(()) };
        let Some(row) = self.store.record(id)? else { return Ok(()) };
        let mut record: Answer = serde_json::from_str(&row.body).map_err(Fault::internal)?;
        if record.status != Status::Reorged {
            return Ok(());
        }
        let network = self.request.claim.network;
        let (changed, event) = finality::update(&mut record, network, &traced.trace);
        if changed {
            super::watch::note(self.store, &record, event, self.now)?;
            if let Some(at) = finality::next_look(network, &record, record.id.born(), self.now) {
                self.store.watch(id, at)?;
            }
        }
        Ok(())
    }

    /// Answers that were counted are kept whole (when one comes again is decided by [`book::admit`]); of
    /// others only the body's hash, and the isolate that asked learns of it from a header.
    fn remember_answer(&self, reply: Reply, admitted: Admitted) -> Result<Reply, Fault> {
        let Some(idempotency) = &self.request.idempotency else { return Ok(reply) };
        let answered: Retried = serde_json::from_str(&reply.body).map_err(Fault::internal)?;
        let is_final = matches!(answered.retry, None | Some(Retry::Never));
        // What was counted before stays known as such.
        if is_final || !admitted.counted {
            let answer = is_final.then(|| (reply.status, reply.body.clone()));
            let stored = Stored { body_hash: idempotency.body_hash.clone(), answer, answer_until: None, at: self.now };
            self.store.put_idempotency(ROUTE, &idempotency.key, &stored)?;
        }
        Ok(if is_final { reply } else { reply.with(UNRECORDED, "true") })
    }

    /// A refusal at admission; a header has the isolate that asked remember it.
    fn refused(&self, fault: &Fault, admission: &Admission) -> Result<Reply, Fault> {
        let reply = refuse(fault, self.asked());
        let rates = admission.rates(&self.memory.tenant, self.now);
        Ok(self.with_rates(remembered(reply, fault, rates, self.now), admission))
    }

    fn with_rates(&self, mut reply: Reply, admission: &Admission) -> Reply {
        reply.headers.extend(headers::rate(&admission.rates(&self.memory.tenant, self.now), self.now));
        reply
    }
}

/// The one member of an answer that says whether it is final.
#[derive(serde::Deserialize)]
struct Retried {
    retry: Option<Retry>,
}

const fn content_type(status: u16) -> &'static str {
    if status == 200 { "application/json" } else { "application/problem+json" }
}

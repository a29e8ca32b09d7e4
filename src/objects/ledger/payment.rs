//! One x402 payment in one step: look up, decide, write, all in one transaction.

use super::remember::remembered;
use super::store::Store;
use super::{Memory, TenantLedger, in_time, nothing};
use crate::clients::ledger::{Envelope, HANDED_OVER, REPLAYED};
use crate::isolate;
use crate::request::refuse;
use x402_api::{Reply, explain, facilitator, headers, problem};
use x402_chain::address::Address;
use x402_chain::network;
use x402_chain::time::UnixMillis;
use x402_core::error::Fault;
use x402_core::settlement::payment;
use x402_core::settlement::payment::{Asked, Booked, Finding, Kept, Known, Outcome, REPEATS_MS, Records, Verb};
use x402_core::tenancy::admission::{Admission, Closed, Stop, Stored};

/// The route's name in the idempotency table.
pub(super) const ROUTE: &str = "facilitator/settle";

/// How a step came out.
enum Step {
    Done(Reply),
    /// In test: register the address first, then step again.
    Register(Address),
}

impl TenantLedger {
    /// Books one x402 payment. 202 with the settlement where the Settler has the next word.
    /// Nothing is booked once the caller, who waits `until`, has given up.
    pub(super) async fn payment(
        &self,
        asked: &Asked,
        envelope: &Envelope,
        (now, until): (UnixMillis, Option<UnixMillis>),
    ) -> Result<Reply, Fault> {
        in_time(until)?;
        let mut step = self.payment_step(asked, envelope, now)?;
        if let Step::Register(address) = &step {
            self.register(address, now).await?;
            in_time(until)?;
            let tried = Asked { pay_to_tried: true, ..asked.clone() };
            step = self.payment_step(&tried, envelope, now)?;
        }
        match step {
            Step::Done(reply) => {
                self.wake_soon(now).await;
                Ok(reply)
            }
            Step::Register(_) => Err(Fault::internal("a second recipient of one request")),
        }
    }

    fn payment_step(&self, asked: &Asked, envelope: &Envelope, now: UnixMillis) -> Result<Step, Fault> {
        let store = self.store();
        self.with(|memory| {
            let mut admission = memory.admission.clone();
            let closed = admission.roll(now);
            let records = records(&store, memory, asked, now)?;
            let booking = Booking { memory, records: &records, asked, envelope, now };
            let (step, writes) = booking.run(&mut admission);
            let writes = Writes { closed, ..writes };
            if !writes.is_none() {
                store.atomically(|| writes.write(&store, asked, now))?;
            }
            if writes.admission.is_some() {
                memory.wrote(admission, now);
            } else {
                memory.admission = admission;
            }
            if let Some(terms) = &asked.terms {
                memory.note_payment(&terms.authorization, writes.booked.as_ref(), records.row);
            }
            Ok(step)
        })
    }
}

/// One step's view.
struct Booking<'a> {
    memory: &'a Memory,
    records: &'a Records,
    asked: &'a Asked,
    envelope: &'a Envelope,
    now: UnixMillis,
}

impl Booking<'_> {
    /// Decides, and says what to write.
    fn run(&self, admission: &mut Admission) -> (Step, Writes) {
        let (asked, now, tenant) = (self.asked, self.now, &self.memory.tenant);
        let envelope = self.envelope;
        let origin = problem::Asked { origin: &envelope.origin, path: &envelope.path, request_id: envelope.request_id };
        let before = |reply: Reply, admission: &Admission| (self.done(reply, admission), Writes::default());
        let admitted = match payment::admit(asked, tenant, admission, self.records, now) {
            Ok(admitted) => admitted,
            Err(Stop::Register(address)) => return (Step::Register(address), Writes::default()),
            Err(Stop::Fault(fault)) => {
                let reply = remembered(refuse(&fault, origin), &fault, admission.rates(tenant, now), now);
                return before(reply, admission);
            }
            Err(Stop::Repeat(status, body)) => {
                let reply = Reply { status, content_type: "application/json", body, headers: Vec::new() };
                let reply = reply.with(REPLAYED, "true");
                return (self.done(reply, admission), Writes { repeated: self.repeated(), ..Writes::default() });
            }
        };
        let sanctions = isolate::sanctions();
        let known = Known { tenant, sanctions: sanctions.as_deref(), records: self.records };
        let (reply, booked) = match payment::conclude(asked, admitted, admission, known, now) {
            Ok(Booked { outcome: Outcome::FindOut, .. }) => return (Step::Done(nothing()), Writes::default()),
            Ok(booked) => (answer(asked, &booked.outcome), Some(booked)),
            Err(fault) => (refuse(&fault, origin), None),
        };
        // Under an `Idempotency-Key` an answer that is final is kept whole; of others only
        // the body's hash. A success that comes later is added when it is given.
        let outcome = booked.as_ref().map(|booked| &booked.outcome);
        let is_final = outcome.is_some_and(Outcome::is_final);
        let is_success = outcome.is_some_and(Outcome::is_success);
        let stored = asked.idempotency.as_ref().map(|idempotency| Stored {
            body_hash: idempotency.body_hash.clone(),
            answer: is_final.then(|| (reply.status, reply.body.clone())),
            answer_until: is_success.then(|| now.plus(REPEATS_MS)),
            at: now,
        });
        let memory = self.memory;
        let due = memory.saved.is_due(&memory.admission, admission, tenant.limits().per_minute, now);
        let admission_due = due.then(|| admission.clone());
        (self.done(reply, admission), Writes { booked, stored, admission: admission_due, ..Writes::default() })
    }

    /// The settlement whose success is answered again, with this request as the one it was given to.
    fn repeated(&self) -> Option<Kept> {
        let mut kept = self.records.row.as_ref()?.kept.clone()?;
        let key = self.asked.idempotency.as_ref().map(|idempotency| &idempotency.key);
        (kept.course.handed_key.as_ref() == key).then(|| {
            kept.repeat(self.asked.request_id);
            kept
        })
    }

    fn done(&self, reply: Reply, admission: &Admission) -> Step {
        let wish = explain::Wish { request: self.asked.explain, tenant: self.memory.tenant.explain };
        let mut reply = if self.asked.verb == Verb::Settle { explain::settle(reply, wish) } else { reply };
        reply.headers.extend(headers::rate(&admission.rates(&self.memory.tenant, self.now), self.now));
        Step::Done(reply)
    }
}

/// What a step leaves behind. A verification of a payment that is known leaves nothing, mostly.
#[derive(Default)]
struct Writes {
    closed: Option<Closed>,
    booked: Option<Booked>,
    stored: Option<Stored>,
    admission: Option<Admission>,
    /// A settlement whose success is answered again.
    repeated: Option<Kept>,
}

impl Writes {
    fn is_none(&self) -> bool {
        let booked = self.booked.as_ref().is_some_and(|booked| booked.row.is_some() || booked.kept.is_some());
        let none = self.closed.is_none() && self.stored.is_none() && self.admission.is_none();
        !booked && none && self.repeated.is_none()
    }

    fn write(&self, store: &Store, asked: &Asked, now: UnixMillis) -> Result<(), Fault> {
        if let Some(closed) = &self.closed {
            store.put_outbox("period", &serde_json::to_string(closed).map_err(Fault::internal)?)?;
        }
        if let Some(booked) = &self.booked {
            write(store, asked, booked, now)?;
        }
        if let Some(kept) = &self.repeated {
            store.put_settlement(kept)?;
        }
        if let (Some(idempotency), Some(stored)) = (&asked.idempotency, &self.stored) {
            store.put_idempotency(ROUTE, &idempotency.key, stored)?;
        }
        self.admission.as_ref().map_or(Ok(()), |admission| store.put_admission(admission))
    }
}

/// All that is recorded and could matter to a request.
fn records(store: &Store, memory: &Memory, asked: &Asked, now: UnixMillis) -> Result<Records, Fault> {
    let stored = stored(store, asked)?;
    let Some(terms) = &asked.terms else { return Ok(Records { stored, ..Records::default() }) };
    let network = asked.network.as_deref().and_then(network::by_key);
    let held = match (&asked.finding, network) {
        (Finding::External(_, id, _), Some(network)) => {
            store.claims(network.caip2, &id.to_string(), &terms.pay_to.to_string())?
        }
        _ => Vec::new(),
    };
    let payer = terms.payer.to_string();
    let identified = asked.identifier.as_deref().map(|id| store.identified(&payer, id)).transpose()?.flatten();
    let row = match memory.payments.get(&terms.authorization) {
        Some(row) => Some(row.clone()),
        None => store.payment(&terms.authorization)?,
    };
    let failing =
        || asked.network.as_deref().is_some_and(|key| memory.admission.spending.is_failing(key, asked.budget, now));
    let reserves = asked.verb == Verb::Settle && matches!(asked.finding, Finding::Good(_));
    let has_paid = (reserves || failing()) && store.has_paid(&payer)?;
    Ok(Records { row, identified, stored, held, has_paid })
}

fn stored(store: &Store, asked: &Asked) -> Result<Option<Stored>, Fault> {
    let found = asked.idempotency.as_ref().map(|idempotency| store.idempotency(ROUTE, &idempotency.key));
    found.transpose().map(Option::flatten)
}

fn write(store: &Store, asked: &Asked, booked: &Booked, now: UnixMillis) -> Result<(), Fault> {
    if let Some(row) = &booked.row {
        store.put_payment(row)?;
        if let (Some(id), Some(_), Some(terms)) = (&asked.identifier, row.settlement, &asked.terms) {
            store.put_identifier(&terms.payer.to_string(), id, &row.authorization)?;
        }
    }
    if let Some(kept) = &booked.kept {
        store.put_settlement(kept)?;
        if let Some(unit) = booked.claim {
            store.claim_settled(&kept.settlement, unit, now)?;
        }
    }
    Ok(())
}

fn answer(asked: &Asked, outcome: &Outcome) -> Reply {
    match (facilitator::reply(asked, outcome), outcome) {
        (Some(reply), Outcome::Settled(settlement) | Outcome::External(settlement)) => {
            reply.with(HANDED_OVER, settlement.id.to_string())
        }
        (Some(reply), _) => reply,
        (None, Outcome::Settle(reserved)) => Reply::json(202, reserved),
        (None, _) => nothing(),
    }
}

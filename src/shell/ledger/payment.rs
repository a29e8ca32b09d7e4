//! One x402 payment in one step, and what the Settler reports of it.

use super::store::Store;
use super::{Memory, TenantLedger, nothing};
use crate::address::Address;
use crate::api::{Reply, facilitator, headers, problem};
use crate::error::{Code, Fault};
use crate::ledger::admission::{Admission, Closed, Stop, Stored};
use crate::ledger::payment::{self, Asked, Booked, Finding, Known, Outcome, Records, Row, Verb};
use crate::network;
use crate::payment::settlement::SettlementStatus;
use crate::reason::Reason;
use crate::settle::Report;
use crate::shell::http::refuse;
use crate::shell::isolate;
use crate::shell::ledgers::Envelope;
use crate::time::UnixMillis;

/// The route's name in the idempotency table.
const ROUTE: &str = "facilitator/settle";
/// How often the rates are written while nothing is counted.
const RATES_MS: u64 = 1_000;

/// How a step came out.
enum Step {
    Done(Reply),
    /// In test: register the address first, then step again.
    Register(Address),
}

impl TenantLedger {
    /// Books one x402 payment. 202 with the settlement where the Settler has the next word.
    pub(super) async fn payment(&self, asked: &Asked, envelope: &Envelope, now: UnixMillis) -> Result<Reply, Fault> {
        let mut step = self.payment_step(asked, envelope, now)?;
        if let Step::Register(address) = &step {
            step = match self.register(address, now).await {
                Ok(()) => self.payment_step(asked, envelope, now)?,
                Err(fault) if fault.code == Code::RecipientNotRegistered => {
                    let taken = Asked { pay_to_taken: true, ..asked.clone() };
                    self.payment_step(&taken, envelope, now)?
                }
                Err(fault) => return Err(fault),
            };
        }
        match step {
            Step::Done(reply) => {
                self.wake_soon(now).await;
                Ok(reply)
            }
            Step::Register(_) => Err(Fault::internal("a recipient was registered and is not there")),
        }
    }

    fn payment_step(&self, asked: &Asked, envelope: &Envelope, now: UnixMillis) -> Result<Step, Fault> {
        let store = self.store();
        self.with(|memory| {
            let mut admission = memory.admission.clone();
            let closed = admission.roll(now);
            let records = records(&store, memory, asked)?;
            let booking = Booking { memory, records: &records, asked, envelope, now };
            let (step, writes) = booking.run(&mut admission);
            let writes = Writes { closed, ..writes };
            if !writes.is_none() {
                store.atomically(|| writes.write(&store, asked, now))?;
            }
            if writes.admission.is_some() {
                memory.kept_at = now;
            }
            memory.admission = admission;
            match (writes.booked.and_then(|booked| booked.row), &asked.terms, records.row) {
                (Some((authorization, fingerprint, _)), ..) => memory.remember_payment(authorization, fingerprint),
                (None, Some(terms), Some(row)) if !memory.payments.contains_key(&terms.authorization) => {
                    memory.remember_payment(terms.authorization.clone(), row.fingerprint);
                }
                _ => {}
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
            Err(Stop::Fault(fault)) => return before(refuse(&fault, origin), admission),
            Err(Stop::Repeat(status, body)) => {
                let reply = Reply { status, content_type: "application/json", body, headers: Vec::new() };
                return before(reply.with("Idempotent-Replayed", "true"), admission);
            }
        };
        if asked.finding == Finding::Deferred {
            return (Step::Done(nothing()), Writes::default());
        }
        let sanctions = isolate::sanctions();
        let known = Known { tenant, sanctions: sanctions.as_deref(), records: self.records };
        let (reply, booked) = match payment::conclude(asked, admitted, admission, known, now) {
            Ok(booked) => (answer(asked, &booked.outcome), Some(booked)),
            Err(fault) => (refuse(&fault, origin), None),
        };
        // Under an `Idempotency-Key` an answer that is final is kept whole; of others only
        // the body's hash. What a settlement comes to is recorded with itself.
        let is_final = booked.as_ref().is_some_and(|booked| booked.outcome.is_final());
        let stored = asked.idempotency.as_ref().map(|idempotency| Stored {
            body_hash: idempotency.body_hash.clone(),
            answer: is_final.then(|| (reply.status, reply.body.clone())),
            at: now,
        });
        let due = is_due(&self.memory.admission, admission, now.since(self.memory.kept_at));
        let admission_due = due.then(|| admission.clone());
        (self.done(reply, admission), Writes { closed: None, booked, stored, admission: admission_due })
    }

    fn done(&self, mut reply: Reply, admission: &Admission) -> Step {
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
}

impl Writes {
    fn is_none(&self) -> bool {
        let booked = self.booked.as_ref().is_some_and(|booked| booked.row.is_some() || booked.settlement.is_some());
        !booked && self.closed.is_none() && self.stored.is_none() && self.admission.is_none()
    }

    fn write(&self, store: &Store, asked: &Asked, now: UnixMillis) -> Result<(), Fault> {
        if let Some(closed) = &self.closed {
            store.put_outbox("period", &serde_json::to_string(closed).map_err(Fault::internal)?)?;
        }
        if let Some(booked) = &self.booked {
            write(store, asked, booked, now)?;
        }
        if let (Some(idempotency), Some(stored)) = (&asked.idempotency, &self.stored) {
            store.put_idempotency(ROUTE, &idempotency.key, stored)?;
        }
        self.admission.as_ref().map_or(Ok(()), |admission| store.put_admission(admission))
    }
}

impl TenantLedger {
    /// Notes what the Settler reports: once it is completed, its transaction is claimed.
    pub(super) async fn settled(&self, report: &Report, now: UnixMillis) -> Result<Reply, Fault> {
        let store = self.store();
        store.atomically(|| {
            let Some(mut settlement) = store.settlement(report.settlement)? else { return Ok(()) };
            // A completed settlement is over, unless its block has left the chain:
            // a late report of another attempt changes nothing.
            if settlement.status == SettlementStatus::Completed && !report.reorged {
                return Ok(());
            }
            // What somebody else has sent may be spent already.
            if report.external
                && let Some(id) = &report.transaction
                && !store.claims(&settlement.network, id, &settlement.pay_to)?.is_empty()
            {
                settlement.status = SettlementStatus::Failed;
                settlement.reason = Some(Reason::EvmNonceUsed);
                settlement.completed_at = Some(now.rfc3339());
                return store.put_settlement(&settlement);
            }
            settlement.status = report.status;
            settlement.reason = report.reason;
            settlement.transaction = report.transaction.clone().or(settlement.transaction);
            settlement.completed_at = (report.status != SettlementStatus::Pending).then(|| now.rfc3339());
            // An attempt is listed when it has ended: how many there are names the next one.
            let ended = if report.status == SettlementStatus::Pending { &[][..] } else { report.attempts.as_slice() };
            for attempt in ended {
                if !settlement.attempts.contains(attempt) {
                    settlement.attempts.push(attempt.clone());
                }
            }
            store.put_settlement(&settlement)?;
            match (report.status, &settlement.transaction) {
                (SettlementStatus::Completed, Some(transaction)) => store.claim_settled(&settlement, transaction, now),
                _ => Ok(()),
            }
        })?;
        self.wake_soon(now).await;
        Ok(nothing())
    }
}

/// Whether the admission must be written: at once where something was counted for good;
/// the rates alone once a second, so that a crash forgets no more of a window.
fn is_due(before: &Admission, after: &Admission, ago_ms: u64) -> bool {
    let counted = |admission: &Admission| (admission.period, admission.used);
    counted(before) != counted(after) || before.sent != after.sent || ago_ms >= RATES_MS
}

/// All that is recorded and could matter to a request.
fn records(store: &Store, memory: &Memory, asked: &Asked) -> Result<Records, Fault> {
    let Some(terms) = &asked.terms else {
        return Ok(Records { stored: stored(store, asked)?, ..Records::default() });
    };
    let claimed = match (&asked.finding, asked.network.as_deref().and_then(network::by_key)) {
        (Finding::External(_, id), Some(network)) => {
            !store.claims(network.caip2, &id.to_string(), &terms.pay_to.to_string())?.is_empty()
        }
        _ => false,
    };
    let identified = asked.identifier.as_deref().map(|id| store.identified(id)).transpose()?.flatten();
    let row = match (asked.verb, memory.payments.get(&terms.authorization)) {
        (Verb::Verify, Some(fingerprint)) => {
            Some(Row { fingerprint: fingerprint.clone(), settlement: None, signer: None })
        }
        (Verb::Verify, None) => store.payment_known(&terms.authorization)?,
        (Verb::Settle, _) => store.payment(&terms.authorization)?,
    };
    Ok(Records { row, identified, stored: stored(store, asked)?, claimed })
}

fn stored(store: &Store, asked: &Asked) -> Result<Option<Stored>, Fault> {
    let found = asked.idempotency.as_ref().map(|idempotency| store.idempotency(ROUTE, &idempotency.key));
    found.transpose().map(Option::flatten)
}

fn write(store: &Store, asked: &Asked, booked: &Booked, now: UnixMillis) -> Result<(), Fault> {
    if let Some((authorization, fingerprint, settlement)) = &booked.row {
        store.put_payment(authorization, fingerprint, *settlement)?;
        if let (Some(id), Some(_)) = (&asked.identifier, settlement) {
            store.put_identifier(id, authorization)?;
        }
    }
    if let Some(settlement) = &booked.settlement {
        store.put_settlement(settlement)?;
        if let Some(signer) = &booked.signer {
            store.put_sender(settlement.id, signer)?;
        }
        if let (SettlementStatus::Completed, Some(transaction)) = (settlement.status, &settlement.transaction) {
            store.claim_settled(settlement, transaction, now)?;
        }
    }
    Ok(())
}

fn answer(asked: &Asked, outcome: &Outcome) -> Reply {
    match (facilitator::reply(asked, outcome), outcome) {
        (Some(reply), _) => reply,
        (None, Outcome::Settle(reserved)) => Reply::json(202, reserved),
        (None, _) => Reply::json(202, &()),
    }
}

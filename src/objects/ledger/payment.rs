//! One x402 payment in one step: read, decide, write, in one transaction.

use super::remembered_refusal::with_remembered_refusal;
use super::reply::LedgerOutput;
use super::store::LedgerStore;
use super::{LedgerState, REPEATED, TenantLedger, check_deadline};
use crate::clients::ledger::REPLAYED;
use crate::isolate;
use crate::request::fault_reply;
use crate::request_trace;
use x402_api::answer::AnswerEcho;
use x402_api::explain::{ComposedAnswer, ExplainRequest};
use x402_api::{ApiReply, answer, explain, headers, problem};
use x402_chain::address::Address;
use x402_chain::network;
use x402_chain::time::UnixMillis;
use x402_core::error::Fault;
use x402_core::messages::ledger::{LedgerEnvelope, LedgerReply};
use x402_core::settlement::payment;
use x402_core::settlement::payment::{
    PaymentAction, PaymentAnswer, PaymentContext, PaymentDecision, PaymentFinding, PaymentOutcome, PaymentRecords,
    PaymentRequest, SUCCESS_REPEATS_MS, SettlementRecord,
};
use x402_core::tenancy::admission::{Admission, AdmissionStop, ClosedPeriod, IdempotencyRecord};
use x402_core::tenancy::quota::QuotaEvent;

/// The route's name in the idempotency table.
pub(super) const ROUTE: &str = "facilitator/settle";

/// The result of one step about a payment.
enum PaymentStep {
    Done(LedgerOutput),
    /// In test: register the address first, then run the step again.
    Register(Address),
}

impl TenantLedger {
    /// Judges and records one x402 payment. [`LedgerReply::Settle`] where the settler must act. Nothing is recorded
    /// after `until`, when the caller has given up.
    pub(super) async fn answer_payment(
        &self,
        asked: &PaymentRequest,
        envelope: &LedgerEnvelope,
        (now, until): (UnixMillis, Option<UnixMillis>),
    ) -> Result<LedgerOutput, Fault> {
        check_deadline(until)?;
        let mut step = self.step_payment(asked, envelope, now)?;
        if let PaymentStep::Register(address) = &step {
            self.register_first_use(address, now).await?;
            check_deadline(until)?;
            let tried = PaymentRequest { pay_to_tried: true, ..asked.clone() };
            step = self.step_payment(&tried, envelope, now)?;
        }
        match step {
            PaymentStep::Done(reply) => {
                self.wake_soon(now).await;
                Ok(reply)
            }
            PaymentStep::Register(_) => Err(Fault::internal("a request would register a second recipient")),
        }
    }

    fn step_payment(
        &self,
        asked: &PaymentRequest,
        envelope: &LedgerEnvelope,
        now: UnixMillis,
    ) -> Result<PaymentStep, Fault> {
        let store = self.store();
        self.with_state(|memory| {
            let mut admission = memory.admission.clone();
            let closed = admission.enter_period(now);
            let records = read_payment_records(&store, memory, asked, now)?;
            let booking = PaymentStepInput { memory, records: &records, asked, envelope, now };
            let (step, writes) = booking.run(&mut admission);
            let writes = PaymentWrites { closed, ..writes };
            if !writes.is_none() {
                store.atomically(|| writes.write_all(&store, asked, now))?;
            }
            if writes.admission.is_some() {
                memory.note_written(admission, now);
            } else {
                memory.admission = admission;
            }
            if let Some(terms) = &asked.terms {
                memory.note_payment(&terms.authorization, writes.decision.as_ref(), records.row);
            }
            Ok(step)
        })
    }
}

/// What one step about a payment reads.
struct PaymentStepInput<'a> {
    memory: &'a LedgerState,
    records: &'a PaymentRecords,
    asked: &'a PaymentRequest,
    envelope: &'a LedgerEnvelope,
    now: UnixMillis,
}

impl PaymentStepInput<'_> {
    /// Decides, and returns what to write.
    fn run(&self, admission: &mut Admission) -> (PaymentStep, PaymentWrites) {
        let (asked, now, tenant) = (self.asked, self.now, &self.memory.tenant);
        let envelope = self.envelope;
        let origin =
            problem::ProblemContext { origin: &envelope.origin, path: &envelope.path, request_id: envelope.request_id };
        let admitted = match payment::admit_payment((asked, envelope.key_use()), tenant, admission, self.records, now) {
            Ok(admitted) => admitted,
            Err(AdmissionStop::Register(address)) => return (PaymentStep::Register(address), PaymentWrites::default()),
            Err(AdmissionStop::Fault(fault)) => {
                let reply =
                    with_remembered_refusal(fault_reply(&fault, origin), &fault, admission.rates(tenant, now), now);
                let quota = admission.note_quota(&self.memory.admission, tenant, Some(&fault));
                let admission_due = (!quota.is_empty()).then(|| admission.clone());
                let writes = PaymentWrites { quota, admission: admission_due, ..PaymentWrites::default() };
                return (self.done(reply, admission), writes);
            }
            Err(AdmissionStop::Repeat(status, body)) => {
                request_trace::note_outcome(REPEATED);
                let reply = explain::explain_again(status, body, self.explains()).with(REPLAYED, "true");
                return (
                    self.done(reply.into(), admission),
                    PaymentWrites { repeated: self.repeated(), ..PaymentWrites::default() },
                );
            }
        };
        let sanctions = isolate::sanctions();
        let known = PaymentContext { tenant, sanctions: sanctions.as_deref(), records: self.records };
        let (output, whole, decision) = match payment::decide_payment(asked, admitted, admission, known, now) {
            Ok(decision) => match &decision.outcome {
                PaymentOutcome::ChainNeeded => {
                    return (
                        PaymentStep::Done(LedgerOutput::empty(LedgerReply::ChainNeeded)),
                        PaymentWrites::default(),
                    );
                }
                PaymentOutcome::Settle(reserved) => {
                    (LedgerOutput::of(LedgerReply::Settle, ApiReply::json(200, reserved)), None, Some(decision))
                }
                PaymentOutcome::Answer(answer) => {
                    let (output, whole) = self.compose(answer);
                    let kept = decision.outcome.is_final().then_some((output.http.status, whole));
                    (output, kept, Some(decision))
                }
            },
            Err(fault) => (fault_reply(&fault, origin).into(), None, None),
        };
        // Under an `Idempotency-Key` a final answer is stored whole; of others only the body's hash. A later success is
        // added when it is given.
        let is_success = decision.as_ref().is_some_and(|decision| decision.outcome.success().is_some());
        let stored = asked.idempotency.as_ref().map(|idempotency| IdempotencyRecord {
            body_hash: idempotency.body_hash.clone(),
            answer: whole,
            answer_until: is_success.then(|| now.plus(SUCCESS_REPEATS_MS)),
            at: now,
        });
        let memory = self.memory;
        let quota = admission.note_quota(&memory.admission, tenant, None);
        let due = memory.saved.is_due(&memory.admission, admission, tenant.limits().per_minute, now);
        let admission_due = due.then(|| admission.clone());
        (
            self.done(output, admission),
            PaymentWrites { decision, stored, quota, admission: admission_due, ..PaymentWrites::default() },
        )
    }

    /// The settlement whose success is repeated, with this request noted as its receiver.
    fn repeated(&self) -> Option<SettlementRecord> {
        let mut kept = self.records.row.as_ref()?.settlement_record.clone()?;
        let key = self.asked.idempotency.as_ref().map(|idempotency| &idempotency.key);
        (kept.progress.handed_key.as_ref() == key).then(|| {
            kept.repeat(self.asked.request_id);
            kept
        })
    }

    /// An answer in the protocol's words, and its whole body for a later repeat.
    fn compose(&self, answer: &PaymentAnswer) -> (LedgerOutput, String) {
        request_trace::note_outcome(answer.outcome_name());
        let payer = self.asked.payer.map(|payer| payer.to_string());
        let echo = AnswerEcho { payer, network: &self.asked.network_text };
        let ComposedAnswer { whole, reply } = answer::compose_answer(answer, echo, self.explains());
        let output = match answer {
            PaymentAnswer::Settle(Ok(success)) => LedgerOutput::of(LedgerReply::Success(success.settlement.id), reply),
            PaymentAnswer::Settle(Err(_)) | PaymentAnswer::Verify(_) => reply.into(),
        };
        (output, whole)
    }

    const fn explains(&self) -> ExplainRequest {
        ExplainRequest { request: self.asked.explain, tenant: self.memory.tenant.explain }
    }

    fn done(&self, output: LedgerOutput, admission: &Admission) -> PaymentStep {
        let rates = admission.rates(&self.memory.tenant, self.now);
        PaymentStep::Done(output.with_rates(headers::rate_headers(&rates, self.now)))
    }
}

/// What a step writes. A verification of a known payment usually writes nothing.
#[derive(Default)]
struct PaymentWrites {
    closed: Option<ClosedPeriod>,
    decision: Option<PaymentDecision>,
    stored: Option<IdempotencyRecord>,
    admission: Option<Admission>,
    /// Events about the quota; the admission is written with them.
    quota: Vec<QuotaEvent>,
    /// A settlement whose success is repeated.
    repeated: Option<SettlementRecord>,
}

impl PaymentWrites {
    fn is_none(&self) -> bool {
        let writes = |decision: &PaymentDecision| decision.row.is_some() || decision.settlement_record.is_some();
        let is_recorded = self.decision.as_ref().is_some_and(writes);
        let none = self.closed.is_none() && self.stored.is_none() && self.admission.is_none();
        !is_recorded && none && self.repeated.is_none()
    }

    fn write_all(&self, store: &LedgerStore, asked: &PaymentRequest, now: UnixMillis) -> Result<(), Fault> {
        if let Some(closed) = self.closed {
            store.close_period(closed)?;
        }
        store.put_quota_events(&self.quota, now)?;
        if let Some(decision) = &self.decision {
            write_payment(store, asked, decision, now)?;
        }
        if let Some(kept) = &self.repeated {
            store.put_settlement(kept, now)?;
        }
        if let (Some(idempotency), Some(stored)) = (&asked.idempotency, &self.stored) {
            store.put_idempotency(ROUTE, &idempotency.key, stored)?;
        }
        self.admission.as_ref().map_or(Ok(()), |admission| store.put_admission(admission))
    }
}

/// All stored rows that could matter to a request.
fn read_payment_records(
    store: &LedgerStore,
    memory: &LedgerState,
    asked: &PaymentRequest,
    now: UnixMillis,
) -> Result<PaymentRecords, Fault> {
    let stored = read_idempotency(store, asked)?;
    let Some(terms) = &asked.terms else {
        return Ok(PaymentRecords { idempotency_record: stored, ..PaymentRecords::default() });
    };
    let network = asked.network.as_deref().and_then(network::by_key);
    let held = match (&asked.finding, network) {
        (PaymentFinding::External(_, id, _), Some(network)) => {
            store.claims(network.caip2, &id.to_string(), &terms.pay_to.to_string())?
        }
        _ => Vec::new(),
    };
    let payer = terms.payer.to_string();
    let identified =
        asked.identifier.as_deref().map(|id| store.payment_by_identifier(&payer, id)).transpose()?.flatten();
    let row = match memory.payments.get(&terms.authorization) {
        Some(row) => Some(row.clone()),
        None => store.payment(&terms.authorization)?,
    };
    let failing = || {
        asked
            .network
            .as_deref()
            .is_some_and(|key| memory.admission.spending.is_failure_share_used(key, asked.budget, now))
    };
    let reserves = asked.verb == PaymentAction::Settle && matches!(asked.finding, PaymentFinding::Good(_));
    let has_paid = (reserves || failing()) && store.has_paid(&payer)?;
    Ok(PaymentRecords { row, identified, idempotency_record: stored, held_claims: held, has_paid })
}

fn read_idempotency(store: &LedgerStore, asked: &PaymentRequest) -> Result<Option<IdempotencyRecord>, Fault> {
    let found = asked.idempotency.as_ref().map(|idempotency| store.idempotency(ROUTE, &idempotency.key));
    found.transpose().map(Option::flatten)
}

fn write_payment(
    store: &LedgerStore,
    asked: &PaymentRequest,
    decision: &PaymentDecision,
    now: UnixMillis,
) -> Result<(), Fault> {
    if let Some(row) = &decision.row {
        store.put_payment(row)?;
        if let (Some(id), Some(_), Some(terms)) = (&asked.identifier, row.settlement, &asked.terms) {
            store.put_identifier(&terms.payer.to_string(), id, &row.authorization)?;
        }
    }
    if let Some(kept) = &decision.settlement_record {
        store.put_settlement(kept, now)?;
        if let Some(unit) = decision.claim {
            store.claim_settled(&kept.settlement, unit, now)?;
        }
    }
    Ok(())
}

//! One verification in one step: read, decide, write, in one transaction.

use super::remembered_refusal::with_remembered_refusal;
use super::reply::LedgerOutput;
use super::store::LedgerStore;
use super::{LedgerState, REPEATED, TenantLedger};
use crate::app::db;
use crate::clients::ledger::REPLAYED;
use crate::d1;
use crate::isolate;
use crate::request::fault_reply;
use crate::request_trace;
use std::collections::BTreeSet;
use x402_api::{ApiReply, headers, problem};
use x402_chain::address::{Address, Family};
use x402_chain::collect::set_of;
use x402_chain::id::ClaimId;
use x402_chain::retry::Retry;
use x402_chain::time::UnixMillis;
use x402_core::error::Fault;
use x402_core::messages::ledger::{LedgerEnvelope, LedgerReply};
use x402_core::settlement::payment::{SettlementRecord, authorization_id, transaction_authorization_id};
use x402_core::tenancy::admission::{Admission, AdmissionStop, IdempotencyRecord, authorize_key, not_registered};
use x402_core::verdict::RefusalCode;
use x402_core::verification::answer::{VerificationAnswer, VerificationStatus};
use x402_core::verification::claims;
use x402_core::verification::claims::{ClaimUnit, HeldClaim, PriorClaim};
use x402_core::verification::decision;
use x402_core::verification::decision::{
    AdmittedVerification, ChainObservation, VerificationContext, VerificationOutcome, VerificationRequest,
};
use x402_core::verification::finality;

/// The route's name in the idempotency table.
const ROUTE: &str = "verify";

/// The result of one step about a verification.
enum VerificationStep {
    /// Answered; nothing was counted.
    Done(LedgerOutput),
    /// Answered and counted: the admission is written.
    Counted(LedgerOutput),
    /// Answered and counted: the record holds what it has counted, and the admission is not written.
    Recorded(LedgerOutput),
    /// In test: register the recipient first, then run the step again.
    Register(Address),
}

impl TenantLedger {
    /// Judges and records one verification.
    pub(super) async fn answer_verification(
        &self,
        request: &VerificationRequest,
        envelope: &LedgerEnvelope,
        now: UnixMillis,
    ) -> Result<LedgerOutput, Fault> {
        let mut step = self.step_verification(request, envelope, None, now)?;
        if let VerificationStep::Register(address) = step {
            self.register_first_use(&address, now).await?;
            step = self.step_verification(request, envelope, Some(address), now)?;
        }
        match step {
            VerificationStep::Done(reply) | VerificationStep::Counted(reply) | VerificationStep::Recorded(reply) => {
                self.wake_soon(now).await;
                Ok(reply)
            }
            VerificationStep::Register(_) => Err(Fault::internal("a request would register a second recipient")),
        }
    }

    /// `tried` is a recipient whose registration was just tried: if the tenant does not hold it then, it cannot be
    /// registered.
    fn step_verification(
        &self,
        request: &VerificationRequest,
        envelope: &LedgerEnvelope,
        tried: Option<Address>,
        now: UnixMillis,
    ) -> Result<VerificationStep, Fault> {
        let store = self.store();
        self.with_state(|memory| {
            let payers = known_payers(&store, &memory.payers, request)?;
            let mut admission = memory.admission.clone();
            let step = store.atomically(|| {
                if let Some(closed) = admission.enter_period(now) {
                    store.close_period(closed)?;
                }
                VerificationStepInput { store: &store, memory, payers: &payers, request, envelope, tried, now }
                    .run(&mut admission)
            })?;
            match &step {
                VerificationStep::Counted(_) => memory.note_written(admission, now),
                VerificationStep::Done(_) | VerificationStep::Recorded(_) | VerificationStep::Register(_) => {
                    memory.admission = admission;
                }
            }
            memory.remember_payers(payers);
            Ok(step)
        })
    }

    /// In test, tries to register an address to this tenant by its first use, and loads the directory's whole copy, so
    /// that keys revoked meanwhile are revoked here too. The copy shows whether the tenant holds the address.
    pub(super) async fn register_first_use(&self, address: &Address, now: UnixMillis) -> Result<(), Fault> {
        let (id, environment) = self.with_state(|memory| Ok((memory.tenant.id, memory.tenant.environment)))?;
        let db = db(&self.env)?;
        d1::register_first_use(&db, id, environment, address, now).await?;
        let tenant = d1::load_tenant(&db, id, environment).await?;
        self.take_newer_copy(tenant.ok_or_else(|| Fault::internal("a tenant has no row in the directory"))?, now).await
    }
}

/// The payers of this transaction that have paid the tenant before.
fn known_payers(
    store: &LedgerStore,
    remembered: &BTreeSet<Address>,
    request: &VerificationRequest,
) -> Result<Vec<Address>, Fault> {
    let ChainObservation::Traced(traced) = &request.seen else { return Ok(Vec::new()) };
    let Some(mined) = traced.trace.mined() else { return Ok(Vec::new()) };
    // Payers beyond this number count as new, which only adds caution.
    let givers = set_of(mined.transfers.iter().filter_map(|transfer| transfer.from).take(64));
    let mut known = Vec::new();
    for giver in givers {
        if remembered.contains(&giver) || store.knows_payer(&giver.to_string())? {
            known.push(giver);
        }
    }
    Ok(known)
}

/// What one step about a verification reads.
struct VerificationStepInput<'a> {
    store: &'a LedgerStore,
    memory: &'a LedgerState,
    payers: &'a [Address],
    request: &'a VerificationRequest,
    envelope: &'a LedgerEnvelope,
    /// A recipient whose registration by first use was just tried.
    tried: Option<Address>,
    now: UnixMillis,
}

impl VerificationStepInput<'_> {
    fn run(&self, admission: &mut Admission) -> Result<VerificationStep, Fault> {
        let (request, tenant) = (self.request, &self.memory.tenant);
        let stored = match &request.idempotency {
            Some(idempotency) => self.store.idempotency(ROUTE, &idempotency.key)?,
            None => None,
        };
        let asked = (request, self.envelope.key_use());
        let admitted = match decision::admit_verification(asked, tenant, admission, stored.as_ref(), self.now) {
            Ok(admitted) => admitted,
            // A request that only asks whether to ask the chain registers no address.
            Err(AdmissionStop::Register(_)) if request.seen == ChainObservation::Deferred => {
                return Ok(chain_needed());
            }
            Err(AdmissionStop::Register(address)) if self.tried == Some(address) => {
                return self.refuse_unregistered(&address, admission);
            }
            Err(AdmissionStop::Register(address)) => return Ok(VerificationStep::Register(address)),
            Err(AdmissionStop::Repeat(status, body)) => {
                request_trace::note_outcome(REPEATED);
                let reply = ApiReply::stored(status, body).with(REPLAYED, "true");
                return Ok(VerificationStep::Done(self.with_rates(reply.into(), admission)));
            }
            Err(AdmissionStop::Fault(fault)) => {
                if !self.note_quota(admission, Some(&fault))? {
                    return self.refused(&fault, admission).map(VerificationStep::Done);
                }
                self.store.put_admission(admission)?;
                return self.refused(&fault, admission).map(VerificationStep::Counted);
            }
        };
        if request.seen == ChainObservation::Deferred {
            return Ok(chain_needed());
        }
        let (claim, recipient) = (&request.claim, admitted.recipient.to_string());
        let mut held = self.store.claims(claim.network.caip2, &claim.tx.to_string(), &recipient)?;
        held.extend(self.claims_of_settlements(&admitted.recipient)?);
        let sanctions = isolate::sanctions();
        let known =
            VerificationContext { tenant, held_claims: &held, payers: self.payers, sanctions: sanctions.as_deref() };
        let decided = decision::decide_verification(request, admitted, admission, known, self.now);
        self.note_quota(admission, None)?;
        let (reply, retry, counted) = match decided {
            Ok(outcome) => {
                let counted = self.counted_by_record(&outcome, admission);
                (self.write_outcome(&outcome, counted)?, outcome.answer.retry, counted)
            }
            Err(fault) => (fault_reply(&fault, self.problem_context()), Some(fault.code.retry()), None),
        };
        if counted.is_none() {
            self.store.put_admission(admission)?;
        }
        let reply = self.with_rates(self.remember_answer(reply, retry, admitted)?, admission);
        Ok(if counted.is_some() { VerificationStep::Recorded(reply) } else { VerificationStep::Counted(reply) })
    }

    /// Stores what has become of the quota in this step, with its events; whether there are any. Then the admission is to
    /// be stored too.
    fn note_quota(&self, admission: &mut Admission, refusal: Option<&Fault>) -> Result<bool, Fault> {
        let events = admission.note_quota(&self.memory.admission, &self.memory.tenant, refusal);
        self.store.put_quota_events(&events, self.now)?;
        Ok(!events.is_empty())
    }

    /// A recipient that could not be registered by first use. The directory was asked for it, so it counts against the
    /// rates, as a request whose chain call fails.
    fn refuse_unregistered(&self, address: &Address, admission: &mut Admission) -> Result<VerificationStep, Fault> {
        let tenant = &self.memory.tenant;
        let key = authorize_key(tenant, self.envelope.present(&self.request.key), self.now)?.id;
        admission.count_request(key, self.now);
        self.store.put_admission(admission)?;
        let fault = not_registered(format!("{address} belongs to another tenant, or was removed from this one"));
        self.refused(&fault, admission).map(VerificationStep::Counted)
    }

    /// The parts of the payment that belong to settlements of this ledger through the authorizations that they
    /// reserved, also before their receipts were read.
    fn claims_of_settlements(&self, recipient: &Address) -> Result<Vec<HeldClaim>, Fault> {
        let ChainObservation::Traced(traced) = &self.request.seen else { return Ok(Vec::new()) };
        let Some(mined) = traced.trace.mined() else { return Ok(Vec::new()) };
        let network = self.request.claim.network;
        let mut held = Vec::new();
        for used in &mined.authorizations {
            let units = claims::units_paid_by(used, mined, recipient);
            if units.is_empty() {
                continue;
            }
            if let Some(prior) = self.settlement_of(&authorization_id(network, &used.authorizer, &used.nonce))? {
                held.extend(units.into_iter().map(|unit| HeldClaim { unit, prior: prior.clone() }));
            }
        }
        if network.family == Family::Svm
            && let Some(prior) = self.settlement_of(&transaction_authorization_id(network, &traced.trace.tx))?
        {
            held.push(HeldClaim { unit: ClaimUnit::Whole, prior });
        }
        Ok(held)
    }

    /// The settlement that has reserved an authorization.
    fn settlement_of(&self, authorization: &str) -> Result<Option<PriorClaim>, Fault> {
        // A failed settlement moved nothing; unless goods were given for it, its payment may be claimed.
        let kept =
            self.store.payment(authorization)?.and_then(|row| row.settlement_record).filter(SettlementRecord::is_spent);
        let Some(SettlementRecord { settlement: found, .. }) = kept else { return Ok(None) };
        let at = found.reserved_first_at()?;
        Ok(Some(PriorClaim { id: ClaimId::Settlement(found.id), reference: None, at }))
    }

    fn problem_context(&self) -> problem::ProblemContext<'_> {
        let envelope = self.envelope;
        problem::ProblemContext { origin: &envelope.origin, path: &envelope.path, request_id: envelope.request_id }
    }

    /// What a new record counts against the quota, if the record alone can hold what this step has counted.
    fn counted_by_record(&self, outcome: &VerificationOutcome, admission: &Admission) -> Option<u64> {
        let LedgerState { admission: before, saved, .. } = self.memory;
        let is_held = outcome.is_record && saved.is_held_by_record(before, admission, outcome.answer.id);
        is_held.then(|| admission.used.saturating_sub(before.used))
    }

    fn write_outcome(&self, outcome: &VerificationOutcome, counted: Option<u64>) -> Result<ApiReply, Fault> {
        let reply = ApiReply::json(200, &outcome.answer);
        let refused = outcome.answer.error_code.map(RefusalCode::as_str);
        request_trace::note_outcome(refused.unwrap_or_else(|| outcome.answer.status.name()));
        let id = outcome.answer.id.to_string();
        for claim in &outcome.claims {
            self.store.put_claim(claim)?;
        }
        if outcome.is_record {
            // The next alarm puts it into a group with others: `finality::watch_new`.
            let units = claims::units_text(&outcome.claims);
            self.store.put_record((&id, &reply.body), (outcome.track_finality, counted), units)?;
        } else {
            self.restore_record(&id)?;
        }
        for payer in &outcome.new_payers {
            self.store.put_payer(&payer.to_string())?;
        }
        Ok(reply)
    }

    /// A payment that had left its chain is found again under its own reference: its record is restored.
    fn restore_record(&self, id: &str) -> Result<(), Fault> {
        let ChainObservation::Traced(traced) = &self.request.seen else { return Ok(()) };
        let Some(row) = self.store.record(id)? else { return Ok(()) };
        let is_watched = self.store.watched_record(id)?.is_some();
        let mut record: VerificationAnswer = serde_json::from_str(&row.body).map_err(Fault::internal_json)?;
        if record.status != VerificationStatus::Reorged {
            return Ok(());
        }
        let network = self.request.claim.network;
        let (changed, event) = finality::apply_trace(&mut record, network, &traced.trace);
        if changed {
            let next = finality::next_poll(network, &record, record.id.created_at(), self.now);
            // A record that had left its chain is polled, unless it is too old.
            let is_new = next.filter(|_| !is_watched);
            super::finality::write_record_change(self.store, &record, (event, next.is_some()), self.now)?;
            if let Some(at) = is_new {
                self.store.put_group(None, at, &[id.to_owned()])?;
            }
        }
        Ok(())
    }

    /// Counted answers are stored whole ([`decision::admit_verification`] decides which repeat); of others only the
    /// body's hash, and the reply makes the calling isolate remember that.
    fn remember_answer(
        &self,
        reply: ApiReply,
        retry: Option<Retry>,
        admitted: AdmittedVerification,
    ) -> Result<LedgerOutput, Fault> {
        let Some(idempotency) = &self.request.idempotency else { return Ok(reply.into()) };
        let is_final = matches!(retry, None | Some(Retry::Never));
        // A request that was counted stays counted.
        if is_final || !admitted.counted {
            let answer = is_final.then(|| (reply.status, reply.body.clone()));
            let stored = IdempotencyRecord {
                body_hash: idempotency.body_hash.clone(),
                answer,
                answer_until: None,
                at: self.now,
            };
            self.store.put_idempotency(ROUTE, &idempotency.key, &stored)?;
        }
        Ok(if is_final { reply.into() } else { LedgerOutput::of(LedgerReply::Unrecorded, reply) })
    }

    /// A refusal at admission; the reply makes the calling isolate remember it.
    fn refused(&self, fault: &Fault, admission: &Admission) -> Result<LedgerOutput, Fault> {
        let reply = fault_reply(fault, self.problem_context());
        let rates = admission.rates(&self.memory.tenant, self.now);
        Ok(self.with_rates(with_remembered_refusal(reply, fault, rates, self.now), admission))
    }

    fn with_rates(&self, output: LedgerOutput, admission: &Admission) -> LedgerOutput {
        output.with_rates(headers::rate_headers(&admission.rates(&self.memory.tenant, self.now), self.now))
    }
}

/// The Worker must ask the chain first.
const fn chain_needed() -> VerificationStep {
    VerificationStep::Done(LedgerOutput::empty(LedgerReply::ChainNeeded))
}

//! One x402 payment in the ledger: the checks' results go in; whether it may be answered or settled, or was settled
//! already, comes out (docs/spec/money.md#m-settlements).

mod attempt;
mod decision;
mod outcome;
mod record;
mod request;

use crate::error::{ErrorCode, Fault};
use crate::tenancy::admission::{
    Admission, AdmissionStop, KeyUse, PresentedKey, authorize_key, check_idempotency, check_limits, may_register,
};
use crate::tenancy::budget::{BudgetRequest, ReservedBudget};
use crate::tenancy::tenant::Tenant;
use crate::verification::claims::claimable_unit;
use attempt::{PayablePayment, complete_third_party, new_attempt};
pub use decision::{AdmittedPayment, PaymentContext, PaymentDecision, PaymentRecord, PaymentRecords, PaymentWrite};
pub use outcome::{
    PaymentAnswer, PaymentOutcome, PaymentRefusal, PaymentSuccess, ReservedSettlement, SettlementFinding, delivered,
};
pub use record::{
    BoundPayment, LEASE_MS, ReportEffect, SUCCESS_REPEATS_MS, SettlementProgress, SettlementRecord, SuccessClaimant,
    SuccessLease, TakeResult, UNDELIVERED_MS, UNREPORTED_MS,
};
pub use request::{
    PaymentAction, PaymentFinding, PaymentRequest, PaymentTerms, authorization_id, transaction_authorization_id,
};
use x402_chain::address::{Address, TxId};
use x402_chain::amount::Amount;
use x402_chain::checks::Checks;
use x402_chain::id::{ClaimId, SettlementId};
use x402_chain::network;
use x402_chain::network::Network;
use x402_chain::reason::Reason;
use x402_chain::time::UnixMillis;

/// How long a payment that was never settled is remembered after its authorization expires; on Solana, after it was
/// last asked about.
const REMEMBERED_MS: u64 = 300_000;
/// On Solana that time is stored again when it is older than this: at most once a minute.
const RENEWED_MS: u64 = 60_000;

/// Admits a request; `used` is how it uses its key. Counts nothing.
///
/// # Errors
/// A [`AdmissionStop`]: a fault of the key, the rates or the quota, or [`AdmissionStop::Register`] in test.
pub fn admit_payment(
    (request, used): (&PaymentRequest, KeyUse),
    tenant: &Tenant,
    admission: &Admission,
    records: &PaymentRecords,
    now: UnixMillis,
) -> Result<AdmittedPayment, AdmissionStop> {
    let key = authorize_key(tenant, PresentedKey { hash: request.key, used }, now)?.id;
    if let Some(idempotency) = &request.idempotency {
        check_idempotency(records.idempotency_record.as_ref(), &idempotency.body_hash, now)?;
    }
    let network = known_network(request)?;
    let refusal = match (network, &request.terms) {
        (Some(network), Some(terms)) => seller_refusal(request, network, terms, tenant),
        (Some(network), None) => network_refusal(request, network, tenant),
        (None, _) => None,
    };
    // A payment counts once: one that was counted may be settled although the quota is used up.
    match check_limits(admission, tenant, now) {
        Err(fault) if fault.code == ErrorCode::QuotaExceeded && records.row.is_some() => {}
        outcome => outcome?,
    }
    let pay_to = request.terms.as_ref().map(|terms| terms.pay_to);
    let pay_to = pay_to.filter(|pay_to| network.is_some_and(|network| !tenant.holds(pay_to, network)));
    match pay_to.filter(|_| refusal.is_none() && request.finding.registers_pay_to()) {
        Some(pay_to) => Err(AdmissionStop::Register(pay_to)),
        None => Ok(AdmittedPayment { key, refusal }),
    }
}

/// The request's network; `None` where it names none that is known.
///
/// # Errors
/// `LEDGER_UNAVAILABLE` where the Worker knows a network that this build does not: during a deployment it may be of a
/// later build.
fn known_network(request: &PaymentRequest) -> Result<Option<&'static Network>, Fault> {
    let Some(key) = request.network.as_deref() else { return Ok(None) };
    let unknown = || Fault::other_version(format!("the network '{key}' is not in the registry"));
    network::by_key(key).map(Some).ok_or_else(unknown)
}

fn network_refusal(request: &PaymentRequest, network: &Network, tenant: &Tenant) -> Option<(Reason, String)> {
    let refused = |why: &str| Some((Reason::NetworkNotEnabled, format!("'{}' {why}", network.key)));
    match (tenant.tier.includes(network), request.chain_on) {
        (false, _) => refused("is not open to this key"),
        (true, false) => refused("is off until the registry check has passed"),
        (true, true) => None,
    }
}

/// Why a payment is refused whatever the chain reports. In test, a `payTo` that the tenant may register passes until
/// its registration was tried.
fn seller_refusal(
    request: &PaymentRequest,
    network: &Network,
    terms: &PaymentTerms,
    tenant: &Tenant,
) -> Option<(Reason, String)> {
    if let Some(refusal) = network_refusal(request, network, tenant) {
        return Some(refusal);
    }
    if !tenant.holds(&terms.pay_to, network) {
        let refusal = match may_register(&terms.pay_to, tenant) {
            Err(why) => Some(why),
            Ok(()) if request.pay_to_tried => {
                Some(format!("{} belongs to another tenant, or was removed from this one", terms.pay_to))
            }
            Ok(()) => None,
        };
        return refusal.map(|why| (Reason::PayToNotAllowed, why));
    }
    let least = network.settle.map_or(0, |settle| settle.min_atomic);
    (terms.amount < Amount::atomic(least))
        .then(|| (Reason::BelowMinimum, format!("at least {least} atomic units are settled here")))
}

/// Answers an admitted request, counts it and says what to write.
///
/// # Errors
/// `CHAIN_UNAVAILABLE` where the chain gave no answer and nothing is recorded that could answer instead; `INTERNAL`
/// where the Worker found a payment good without naming its network and its terms.
pub fn decide_payment(
    request: &PaymentRequest,
    admitted: AdmittedPayment,
    admission: &mut Admission,
    context: PaymentContext<'_>,
    now: UnixMillis,
) -> Result<PaymentDecision, Fault> {
    match request.verb {
        PaymentAction::Verify => decide_verify(request, admitted, admission, context, now),
        PaymentAction::Settle => decide_settle(request, admitted, admission, context, now),
    }
}

/// A payment that is good, or that a third party has sent already.
enum PayableCase<'a> {
    /// It is good.
    Good(PayablePayment<'a>, &'a Checks),
    /// A third party has sent it by this transaction; its transfer is in one of these logs.
    External(PayablePayment<'a>, &'a Checks, &'a TxId, &'a [u64]),
}

/// The part of a decision that is the same for verify and settle.
enum FirstDecision<'a> {
    /// The Worker must ask the chain.
    ChainNeeded,
    /// It is refused.
    Refused(PaymentRefusal),
    /// Its settlement is recorded for the same requirements, and pending or completed.
    Recorded(&'a SettlementRecord),
    /// Nothing recorded answers it: the finding decides.
    Found(PayableCase<'a>),
}

/// Decides what is the same for both verbs, and counts the request.
fn decide_first<'a>(
    request: &'a PaymentRequest,
    admitted: AdmittedPayment,
    admission: &mut Admission,
    context: PaymentContext<'a>,
    now: UnixMillis,
) -> Result<FirstDecision<'a>, Fault> {
    let decided = decide_without_chain(request, admitted.refusal, context);
    let payable = || PayablePayment::of(request);
    let found = match &request.finding {
        PaymentFinding::Deferred | PaymentFinding::Used(..) if decided.is_none() => {
            return Ok(FirstDecision::ChainNeeded);
        }
        PaymentFinding::Good(checks) => Ok(FirstDecision::Found(PayableCase::Good(payable()?, checks))),
        PaymentFinding::External(checks, id, units) => {
            Ok(FirstDecision::Found(PayableCase::External(payable()?, checks, id, units)))
        }
        // Refused payments count against the rates, never against the quota, and leave no row.
        PaymentFinding::Refused(checks, reason, message) => {
            Ok(FirstDecision::Refused(PaymentRefusal::of(checks.clone(), *reason, message.as_str())))
        }
        PaymentFinding::Unavailable | PaymentFinding::Deferred | PaymentFinding::Used(..) => {
            Err(Fault::new(ErrorCode::ChainUnavailable, "no provider gave a usable answer")
                .after(crate::verification::decision::CHAIN_RETRY_S))
        }
    };
    admission.count_request(admitted.key, now);
    decided.map_or(found, Ok)
}

/// Answers a verify. A good payment is counted once and its row written; nothing is reserved.
fn decide_verify(
    request: &PaymentRequest,
    admitted: AdmittedPayment,
    admission: &mut Admission,
    context: PaymentContext<'_>,
    now: UnixMillis,
) -> Result<PaymentDecision, Fault> {
    let answer = |verdict| PaymentDecision::only(PaymentOutcome::Answer(PaymentAnswer::Verify(verdict)));
    let (payable, checks) = match decide_first(request, admitted, admission, context, now)? {
        FirstDecision::ChainNeeded => return Ok(PaymentDecision::only(PaymentOutcome::ChainNeeded)),
        FirstDecision::Refused(refusal) => return Ok(answer(Err(refusal))),
        FirstDecision::Recorded(record) if record.is_open(now) => return Ok(answer(Ok(Checks::none()))),
        FirstDecision::Recorded(record) => return Ok(answer(Err(taken(request, record)))),
        FirstDecision::Found(PayableCase::Good(payable, checks) | PayableCase::External(payable, checks, ..)) => {
            (payable, checks)
        }
    };
    if let Some(message) = failure_limit_message(request, payable, admission, context, now) {
        return Ok(answer(Err(PaymentRefusal::of(request.finding.checks(), Reason::QuotaExceeded, message))));
    }
    count_against_quota(admission, context);
    let terms = payable.terms;
    let row = needs_renewal(terms, context.records.row.as_ref(), now).then(|| payment_write(terms, None, now));
    Ok(PaymentDecision { row, ..answer(Ok(checks.clone())) })
}

/// Answers a settle: reserves a settlement, hands over the success or a lease on it, or refuses.
fn decide_settle(
    request: &PaymentRequest,
    admitted: AdmittedPayment,
    admission: &mut Admission,
    context: PaymentContext<'_>,
    now: UnixMillis,
) -> Result<PaymentDecision, Fault> {
    let refused = |refusal| PaymentDecision::only(PaymentOutcome::Answer(PaymentAnswer::Settle(Err(refusal))));
    Ok(match decide_first(request, admitted, admission, context, now)? {
        FirstDecision::ChainNeeded => PaymentDecision::only(PaymentOutcome::ChainNeeded),
        FirstDecision::Refused(refusal) => refused(refusal),
        FirstDecision::Recorded(record) => settle_again(request, record, context, now),
        FirstDecision::Found(PayableCase::External(payable, checks, id, units)) => {
            match settled_externally(request, payable, (id, units), context, now) {
                Ok(decision) => {
                    count_against_quota(admission, context);
                    decision
                }
                Err(message) => refused(PaymentRefusal::of(checks.clone(), Reason::EvmNonceUsed, message)),
            }
        }
        FirstDecision::Found(PayableCase::Good(payable, checks)) => {
            match reserve_budget(request, payable, admission, context, now) {
                Ok(reserved) => {
                    count_against_quota(admission, context);
                    let mut record = new_attempt(request, payable, context, now);
                    record.progress.reserve = Some(reserved);
                    record.take_success(claimant_of(request), now);
                    let outcome = PaymentOutcome::Settle(Box::new(reserved_settlement(&record, context.tenant)));
                    let row = Some(payment_write(payable.terms, Some(record.settlement.id), now));
                    PaymentDecision { row, settlement_record: Some(record), ..PaymentDecision::only(outcome) }
                }
                Err(message) => refused(PaymentRefusal::of(checks.clone(), Reason::QuotaExceeded, message)),
            }
        }
    })
}

/// Records a payment that a third party has sent: in one step it is completed, claimed and its success handed over.
///
/// # Errors
/// A sentence where its transfer is claimed already: then the authorization is only used.
fn settled_externally(
    request: &PaymentRequest,
    payable: PayablePayment<'_>,
    (id, units): (&TxId, &[u64]),
    context: PaymentContext<'_>,
    now: UnixMillis,
) -> Result<PaymentDecision, &'static str> {
    let mut record = new_attempt(request, payable, context, now);
    let own = ClaimId::Settlement(record.settlement.id);
    let unit = claimable_unit(&context.records.held_claims, units, own)
        .map_err(|_| "the authorization was used, and its transfer is claimed")?;
    record.progress.claimed = Some(unit);
    let verdict = match complete_third_party(&mut record, request, id, now) {
        TakeResult::Success => Ok(success(request, &record, true)),
        // Goods were given for an attempt whose block has left the chain.
        TakeResult::Lease | TakeResult::Nothing => Err(PaymentRefusal::by(
            request.finding.checks(),
            Reason::DuplicateSettlement,
            "this payment was handed over before",
            &record.settlement,
        )),
    };
    let row = Some(payment_write(payable.terms, Some(record.settlement.id), now));
    Ok(PaymentDecision {
        row,
        settlement_record: Some(record),
        claim: Some(unit),
        outcome: PaymentOutcome::Answer(PaymentAnswer::Settle(verdict)),
    })
}

/// Answers a settle for a payment that this ledger has recorded before (docs/spec/protocol.md#p-3-4-7): the success, a
/// lease on it, or a refusal.
fn settle_again(
    request: &PaymentRequest,
    record: &SettlementRecord,
    context: PaymentContext<'_>,
    now: UnixMillis,
) -> PaymentDecision {
    let mut changed = record.clone();
    let outcome = match changed.take_success(claimant_of(request), now) {
        TakeResult::Nothing => {
            return PaymentDecision::only(PaymentOutcome::Answer(PaymentAnswer::Settle(Err(taken(request, record)))));
        }
        TakeResult::Success => {
            let external = changed.progress.external;
            PaymentOutcome::Answer(PaymentAnswer::Settle(Ok(success(request, &changed, external))))
        }
        TakeResult::Lease => PaymentOutcome::Settle(Box::new(reserved_settlement(&changed, context.tenant))),
    };
    PaymentDecision { settlement_record: Some(changed), ..PaymentDecision::only(outcome) }
}

fn success(request: &PaymentRequest, record: &SettlementRecord, external: bool) -> PaymentSuccess {
    PaymentSuccess { settlement: Box::new(record.settlement.clone()), checks: request.finding.checks(), external }
}

/// The refusal of a payment that another request has, or waits for.
fn taken(request: &PaymentRequest, record: &SettlementRecord) -> PaymentRefusal {
    let message = match record.settlement.handed_over {
        Some(_) => "this payment was handed over before",
        None => "another request waits for this payment",
    };
    PaymentRefusal::by(request.finding.checks(), Reason::DuplicateSettlement, message, &record.settlement)
}

/// Reserves the budget of a new attempt.
///
/// # Errors
/// A sentence why none may be reserved.
fn reserve_budget(
    request: &PaymentRequest,
    payable: PayablePayment<'_>,
    admission: &mut Admission,
    context: PaymentContext<'_>,
    now: UnixMillis,
) -> Result<ReservedBudget, String> {
    if let Some(message) = failure_limit_message(request, payable, admission, context, now) {
        return Err(message);
    }
    let wanted = BudgetRequest { worst: payable.terms.worst, has_paid: context.records.has_paid };
    admission.spending.reserve(payable.network.key, wanted, request.budget, now).map_err(str::to_owned)
}

fn claimant_of(request: &PaymentRequest) -> SuccessClaimant<'_> {
    SuccessClaimant {
        request: request.request_id,
        key: request.idempotency.as_ref().map(|idempotency| idempotency.key.as_str()),
    }
}

/// A payment that this ledger had not seen counts against the quota, once.
const fn count_against_quota(admission: &mut Admission, context: PaymentContext<'_>) {
    if context.records.row.is_none() {
        admission.used = admission.used.saturating_add(1);
    }
}

/// Until when a payment is remembered without a settlement.
fn remembered_until(terms: &PaymentTerms, now: UnixMillis) -> UnixMillis {
    terms.valid_before.map_or(now, |end| end.millis()).plus(REMEMBERED_MS)
}

fn payment_write(terms: &PaymentTerms, settlement: Option<SettlementId>, now: UnixMillis) -> PaymentWrite {
    PaymentWrite {
        authorization: terms.authorization.clone(),
        fingerprint: terms.fingerprint.clone(),
        proof: terms.proof.clone(),
        settlement,
        expires_at: remembered_until(terms, now),
    }
}

/// Whether a verified payment's row is to be written: it is new, or on Solana was last asked about long ago.
fn needs_renewal(terms: &PaymentTerms, row: Option<&PaymentRecord>, now: UnixMillis) -> bool {
    let Some(row) = row else { return true };
    let fresh = now.plus(REMEMBERED_MS.saturating_sub(RENEWED_MS));
    terms.valid_before.is_none() && row.settlement_record.is_none() && row.expires_at.is_none_or(|at| at < fresh)
}

/// Where too many settlements of this seller have failed today, only payers who have completed one are launched, one at
/// a time.
fn failure_limit_message(
    request: &PaymentRequest,
    payable: PayablePayment<'_>,
    admission: &Admission,
    context: PaymentContext<'_>,
    now: UnixMillis,
) -> Option<String> {
    let network = payable.network.key;
    if !admission.spending.is_failure_share_used(network, request.budget, now) {
        return None;
    }
    if !context.records.has_paid {
        return Some("settlements failed too often today: only payers who have paid this seller are served".to_owned());
    }
    let busy = admission.spending.has_reserved(network, now);
    busy.then(|| "settlements failed too often today: one at a time is sent, and one is on its way".to_owned())
}

/// What is answered without the chain: refusals of the seller's own account, a broken rule of the request, a conflict
/// of identifiers, or the payment's record.
fn decide_without_chain<'a>(
    request: &PaymentRequest,
    refusal: Option<(Reason, String)>,
    context: PaymentContext<'a>,
) -> Option<FirstDecision<'a>> {
    let checks = || request.finding.checks();
    let refused = |reason, message: String| Some(FirstDecision::Refused(PaymentRefusal::of(checks(), reason, message)));
    if let Some((reason, message)) = refusal {
        return refused(reason, message);
    }
    let terms = request.terms.as_ref()?;
    if let Some(listed) = sanctioned_party(terms, context) {
        return refused(Reason::SanctionedAddress, format!("{listed} is on the sanctions list"));
    }
    // Every request must keep the static rules, also where its payment is recorded (docs/spec/protocol.md#p-3-4-6).
    if request.finding.is_request_fault() {
        return None;
    }
    let row = context.records.row.as_ref();
    let is_signed =
        request.finding.is_payer_proven(terms) || row.is_some_and(|row| row.proof.as_ref() == Some(&terms.proof));
    if let Some((authorization, other)) = &context.records.identified
        && let Some(record) = other.settlement_record.as_ref().filter(|record| record.is_live())
        && (*authorization != terms.authorization || !other.matches_requirements(terms))
    {
        if request.finding == PaymentFinding::Deferred && !is_signed {
            return None;
        }
        let message = "this payment identifier came before with another payment".to_owned();
        // Only the payer, whose signature is verified, learns the first payment.
        return if is_signed {
            let refusal = PaymentRefusal::by(checks(), Reason::IdentifierConflict, message, &record.settlement);
            Some(FirstDecision::Refused(refusal))
        } else {
            refused(Reason::IdentifierConflict, message)
        };
    }
    let row = row.filter(|_| is_signed)?;
    // A failed settlement moved nothing: if the payment is still valid, it is tried again.
    let record = row.settlement_record.as_ref().filter(|record| record.is_live())?;
    if row.matches_requirements(terms) {
        return Some(FirstDecision::Recorded(record));
    }
    let message = "this payment is bound to other requirements";
    Some(FirstDecision::Refused(PaymentRefusal::by(checks(), Reason::DuplicateSettlement, message, &record.settlement)))
}

/// A party that is on the list. A tenant's policy is about payments that reached it by themselves: here the operator's signer
/// would move the money, whatever the tenant has set.
fn sanctioned_party(terms: &PaymentTerms, context: PaymentContext<'_>) -> Option<Address> {
    let list = context.sanctions?;
    [terms.payer, terms.pay_to].into_iter().find(|party| list.contains(party))
}

fn reserved_settlement(record: &SettlementRecord, tenant: &Tenant) -> ReservedSettlement {
    ReservedSettlement {
        settlement: record.settlement.clone(),
        attempt: record.progress.attempt,
        signer: record.progress.signer,
        has_code: record.progress.has_code,
        max_fee_wei: record.progress.max_fee_wei,
        reserved_at: record.progress.reserved_at,
        free: tenant.tier.plan().uses_free_budget,
    }
}

#[cfg(test)]
mod tests;

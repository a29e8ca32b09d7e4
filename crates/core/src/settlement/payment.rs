//! One x402 payment in the ledger: the checks' results go in; whether it may be answered or settled, or was settled
//! already, comes out (docs/spec/money.md#m-settlements).

mod attempt;
mod decision;
mod outcome;
mod record;
mod request;

use crate::error::{ErrorCode, Fault};
use crate::tenancy::access::KeyScope;
use crate::tenancy::admission::{
    Admission, AdmissionStop, PresentedKey, authorize_key, check_idempotency, check_limits, may_register,
};
use crate::tenancy::budget::{BudgetRequest, ReservedBudget};
use crate::tenancy::tenant::Tenant;
use crate::verdict::SanctionsPolicy;
use crate::verification::claims::claimable_unit;
use attempt::{PayablePayment, complete_third_party, new_attempt};
pub use decision::{AdmittedPayment, PaymentContext, PaymentDecision, PaymentRecord, PaymentRecords, PaymentWrite};
pub use outcome::{
    PaymentAnswer, PaymentOutcome, PaymentRefusal, PaymentSuccess, ReservedSettlement, SettlementFinding, delivered,
};
pub use record::{
    LEASE_MS, ReportEffect, SUCCESS_REPEATS_MS, SettlementProgress, SettlementRecord, SuccessClaimant, SuccessLease,
    TakeResult, UNDELIVERED_MS, UNREPORTED_MS,
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

/// Admits a request; `scope` is what its route requires of the key. Counts nothing.
///
/// # Errors
/// A [`AdmissionStop`]: a fault of the key, the rates or the quota, or [`AdmissionStop::Register`] in test.
pub fn admit_payment(
    (asked, scope): (&PaymentRequest, KeyScope),
    tenant: &Tenant,
    admission: &Admission,
    records: &PaymentRecords,
    now: UnixMillis,
) -> Result<AdmittedPayment, AdmissionStop> {
    let key = authorize_key(tenant, PresentedKey { hash: asked.key, scope }, now)?.id;
    if let Some(idempotency) = &asked.idempotency {
        check_idempotency(records.idempotency_record.as_ref(), &idempotency.body_hash, now)?;
    }
    let network = known_network(asked)?;
    let refusal = match (network, &asked.terms) {
        (Some(network), Some(terms)) => seller_refusal(asked, network, terms, tenant),
        (Some(network), None) => network_refusal(asked, network, tenant),
        (None, _) => None,
    };
    // A payment counts once: one that was counted may be settled although the quota is used up.
    match check_limits(admission, tenant, now) {
        Err(fault) if fault.code == ErrorCode::QuotaExceeded && records.row.is_some() => {}
        outcome => outcome?,
    }
    let pay_to = asked.terms.as_ref().map(|terms| terms.pay_to).filter(|pay_to| !tenant.holds(pay_to));
    match pay_to.filter(|_| network.is_some() && refusal.is_none() && asked.finding.registers_pay_to()) {
        Some(pay_to) => Err(AdmissionStop::Register(pay_to)),
        None => Ok(AdmittedPayment { key, refusal }),
    }
}

/// The request's network; `None` where it names none that is known.
///
/// # Errors
/// `LEDGER_UNAVAILABLE` where the Worker knows a network that this build does not: during a deployment it may be of a
/// later build.
fn known_network(asked: &PaymentRequest) -> Result<Option<&'static Network>, Fault> {
    let Some(key) = asked.network.as_deref() else { return Ok(None) };
    let unknown = || Fault::other_version(format!("the network '{key}' is not in the registry"));
    network::by_key(key).map(Some).ok_or_else(unknown)
}

fn network_refusal(asked: &PaymentRequest, network: &Network, tenant: &Tenant) -> Option<(Reason, String)> {
    let refused = |why: &str| Some((Reason::NetworkNotEnabled, format!("'{}' {why}", network.key)));
    match (tenant.tier.includes(network), asked.chain_on) {
        (false, _) => refused("is not open to this key"),
        (true, false) => refused("is off until the registry check has passed"),
        (true, true) => None,
    }
}

/// Why a payment is refused whatever the chain reports. In test, a `payTo` that the tenant may register passes until
/// its registration was tried.
fn seller_refusal(
    asked: &PaymentRequest,
    network: &Network,
    terms: &PaymentTerms,
    tenant: &Tenant,
) -> Option<(Reason, String)> {
    if let Some(refusal) = network_refusal(asked, network, tenant) {
        return Some(refusal);
    }
    if !tenant.holds(&terms.pay_to) {
        let refusal = match may_register(&terms.pay_to, tenant) {
            Err(why) => Some(why),
            Ok(()) if asked.pay_to_tried => {
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
    asked: &PaymentRequest,
    admitted: AdmittedPayment,
    admission: &mut Admission,
    known: PaymentContext<'_>,
    now: UnixMillis,
) -> Result<PaymentDecision, Fault> {
    match asked.verb {
        PaymentAction::Verify => decide_verify(asked, admitted, admission, known, now),
        PaymentAction::Settle => decide_settle(asked, admitted, admission, known, now),
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
    asked: &'a PaymentRequest,
    admitted: AdmittedPayment,
    admission: &mut Admission,
    known: PaymentContext<'a>,
    now: UnixMillis,
) -> Result<FirstDecision<'a>, Fault> {
    let word = decide_without_chain(asked, admitted.refusal, known);
    let payable = || PayablePayment::of(asked);
    let found = match &asked.finding {
        PaymentFinding::Deferred | PaymentFinding::Used(..) if word.is_none() => return Ok(FirstDecision::ChainNeeded),
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
    word.map_or(found, Ok)
}

/// Answers a verify. A good payment is counted once and its row written; nothing is reserved.
fn decide_verify(
    asked: &PaymentRequest,
    admitted: AdmittedPayment,
    admission: &mut Admission,
    known: PaymentContext<'_>,
    now: UnixMillis,
) -> Result<PaymentDecision, Fault> {
    let answer = |verdict| PaymentDecision::only(PaymentOutcome::Answer(PaymentAnswer::Verify(verdict)));
    let (payable, checks) = match decide_first(asked, admitted, admission, known, now)? {
        FirstDecision::ChainNeeded => return Ok(PaymentDecision::only(PaymentOutcome::ChainNeeded)),
        FirstDecision::Refused(refusal) => return Ok(answer(Err(refusal))),
        FirstDecision::Recorded(kept) if kept.is_open(now) => return Ok(answer(Ok(Checks::none()))),
        FirstDecision::Recorded(kept) => return Ok(answer(Err(taken(asked, kept)))),
        FirstDecision::Found(PayableCase::Good(payable, checks) | PayableCase::External(payable, checks, ..)) => {
            (payable, checks)
        }
    };
    if let Some(message) = failure_limit_message(asked, payable, admission, known, now) {
        return Ok(answer(Err(PaymentRefusal::of(asked.finding.checks(), Reason::QuotaExceeded, message))));
    }
    count_against_quota(admission, known);
    let terms = payable.terms;
    let row = needs_renewal(terms, known.records.row.as_ref(), now).then(|| payment_write(terms, None, now));
    Ok(PaymentDecision { row, ..answer(Ok(checks.clone())) })
}

/// Answers a settle: reserves a settlement, hands over the success or a lease on it, or refuses.
fn decide_settle(
    asked: &PaymentRequest,
    admitted: AdmittedPayment,
    admission: &mut Admission,
    known: PaymentContext<'_>,
    now: UnixMillis,
) -> Result<PaymentDecision, Fault> {
    let refused = |refusal| PaymentDecision::only(PaymentOutcome::Answer(PaymentAnswer::Settle(Err(refusal))));
    Ok(match decide_first(asked, admitted, admission, known, now)? {
        FirstDecision::ChainNeeded => PaymentDecision::only(PaymentOutcome::ChainNeeded),
        FirstDecision::Refused(refusal) => refused(refusal),
        FirstDecision::Recorded(kept) => settle_again(asked, kept, known, now),
        FirstDecision::Found(PayableCase::External(payable, checks, id, units)) => {
            match settled_externally(asked, payable, (id, units), known, now) {
                Ok(decision) => {
                    count_against_quota(admission, known);
                    decision
                }
                Err(message) => refused(PaymentRefusal::of(checks.clone(), Reason::EvmNonceUsed, message)),
            }
        }
        FirstDecision::Found(PayableCase::Good(payable, checks)) => {
            match reserve_budget(asked, payable, admission, known, now) {
                Ok(reserved) => {
                    count_against_quota(admission, known);
                    let mut kept = new_attempt(asked, payable, known, now);
                    kept.progress.reserve = Some(reserved);
                    kept.take_success(claimant_of(asked), now);
                    let outcome = PaymentOutcome::Settle(Box::new(reserved_settlement(&kept, known.tenant)));
                    let row = Some(payment_write(payable.terms, Some(kept.settlement.id), now));
                    PaymentDecision { row, settlement_record: Some(kept), ..PaymentDecision::only(outcome) }
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
    asked: &PaymentRequest,
    payable: PayablePayment<'_>,
    (id, units): (&TxId, &[u64]),
    known: PaymentContext<'_>,
    now: UnixMillis,
) -> Result<PaymentDecision, &'static str> {
    let mut kept = new_attempt(asked, payable, known, now);
    let own = ClaimId::Settlement(kept.settlement.id);
    let unit = claimable_unit(&known.records.held_claims, units, own)
        .map_err(|_| "the authorization was used, and its transfer is claimed")?;
    let verdict = match complete_third_party(&mut kept, asked, id, now) {
        TakeResult::Success => Ok(success(asked, &kept, true)),
        // Goods were given for an attempt whose block has left the chain.
        TakeResult::Lease | TakeResult::Nothing => Err(PaymentRefusal::by(
            asked.finding.checks(),
            Reason::DuplicateSettlement,
            "this payment was handed over before",
            &kept.settlement,
        )),
    };
    let row = Some(payment_write(payable.terms, Some(kept.settlement.id), now));
    Ok(PaymentDecision {
        row,
        settlement_record: Some(kept),
        claim: Some(unit),
        outcome: PaymentOutcome::Answer(PaymentAnswer::Settle(verdict)),
    })
}

/// Answers a settle for a payment that this ledger has recorded before (docs/spec/protocol.md#p-3-4-7): the success, a
/// lease on it, or a refusal.
fn settle_again(
    asked: &PaymentRequest,
    kept: &SettlementRecord,
    known: PaymentContext<'_>,
    now: UnixMillis,
) -> PaymentDecision {
    let mut now_kept = kept.clone();
    let outcome = match now_kept.take_success(claimant_of(asked), now) {
        TakeResult::Nothing => {
            return PaymentDecision::only(PaymentOutcome::Answer(PaymentAnswer::Settle(Err(taken(asked, kept)))));
        }
        TakeResult::Success => {
            let external = now_kept.progress.external;
            PaymentOutcome::Answer(PaymentAnswer::Settle(Ok(success(asked, &now_kept, external))))
        }
        TakeResult::Lease => PaymentOutcome::Settle(Box::new(reserved_settlement(&now_kept, known.tenant))),
    };
    PaymentDecision { settlement_record: Some(now_kept), ..PaymentDecision::only(outcome) }
}

fn success(asked: &PaymentRequest, kept: &SettlementRecord, external: bool) -> PaymentSuccess {
    PaymentSuccess { settlement: Box::new(kept.settlement.clone()), checks: asked.finding.checks(), external }
}

/// The refusal of a payment that another request has, or waits for.
fn taken(asked: &PaymentRequest, kept: &SettlementRecord) -> PaymentRefusal {
    let message = match kept.settlement.handed_over {
        Some(_) => "this payment was handed over before",
        None => "another request waits for this payment",
    };
    PaymentRefusal::by(asked.finding.checks(), Reason::DuplicateSettlement, message, &kept.settlement)
}

/// Reserves the budget of a new attempt.
///
/// # Errors
/// A sentence why none may be reserved.
fn reserve_budget(
    asked: &PaymentRequest,
    payable: PayablePayment<'_>,
    admission: &mut Admission,
    known: PaymentContext<'_>,
    now: UnixMillis,
) -> Result<ReservedBudget, String> {
    if let Some(message) = failure_limit_message(asked, payable, admission, known, now) {
        return Err(message);
    }
    let ask = BudgetRequest { worst: payable.terms.worst, has_paid: known.records.has_paid };
    admission.spending.reserve(payable.network.key, ask, asked.budget, now).map_err(str::to_owned)
}

fn claimant_of(asked: &PaymentRequest) -> SuccessClaimant<'_> {
    SuccessClaimant {
        request: asked.request_id,
        key: asked.idempotency.as_ref().map(|idempotency| idempotency.key.as_str()),
    }
}

/// A payment that this ledger had not seen counts against the quota, once.
const fn count_against_quota(admission: &mut Admission, known: PaymentContext<'_>) {
    if known.records.row.is_none() {
        admission.used = admission.used.saturating_add(1);
    }
}

fn payment_write(terms: &PaymentTerms, settlement: Option<SettlementId>, now: UnixMillis) -> PaymentWrite {
    let end = terms.valid_before.map_or(now, |end| end.millis());
    PaymentWrite {
        authorization: terms.authorization.clone(),
        fingerprint: terms.fingerprint.clone(),
        proof: terms.proof.clone(),
        settlement,
        expires_at: end.plus(REMEMBERED_MS),
    }
}

/// Whether a verified payment's row is to be written: it is new, or on Solana was last asked about long ago.
fn needs_renewal(terms: &PaymentTerms, known: Option<&PaymentRecord>, now: UnixMillis) -> bool {
    let Some(row) = known else { return true };
    let fresh = now.plus(REMEMBERED_MS.saturating_sub(RENEWED_MS));
    terms.valid_before.is_none() && row.settlement_record.is_none() && row.expires_at.is_none_or(|at| at < fresh)
}

/// Where too many settlements of this seller have failed today, only payers who have completed one are launched, one at
/// a time.
fn failure_limit_message(
    asked: &PaymentRequest,
    payable: PayablePayment<'_>,
    admission: &Admission,
    known: PaymentContext<'_>,
    now: UnixMillis,
) -> Option<String> {
    let network = payable.network.key;
    if !admission.spending.is_failure_share_used(network, asked.budget, now) {
        return None;
    }
    if !known.records.has_paid {
        return Some("settlements failed too often today: only payers who have paid this seller are served".to_owned());
    }
    let busy = admission.spending.has_reserved(network, now);
    busy.then(|| "settlements failed too often today: one at a time is sent, and one is on its way".to_owned())
}

/// What is answered without the chain: refusals of the seller's own account, a broken rule of the request, a conflict
/// of identifiers, or the payment's record.
fn decide_without_chain<'a>(
    asked: &PaymentRequest,
    refusal: Option<(Reason, String)>,
    known: PaymentContext<'a>,
) -> Option<FirstDecision<'a>> {
    let checks = || asked.finding.checks();
    let refused = |reason, message: String| Some(FirstDecision::Refused(PaymentRefusal::of(checks(), reason, message)));
    if let Some((reason, message)) = refusal {
        return refused(reason, message);
    }
    let terms = asked.terms.as_ref()?;
    if let Some(listed) = sanctioned_party(terms, known) {
        return refused(Reason::SanctionedAddress, format!("{listed} is on the sanctions list"));
    }
    // Every request must keep the static rules, also where its payment is recorded (docs/spec/protocol.md#p-3-4-6).
    if asked.finding.is_request_fault() {
        return None;
    }
    let row = known.records.row.as_ref();
    let is_signed =
        asked.finding.is_payer_proven(terms) || row.is_some_and(|row| row.proof.as_ref() == Some(&terms.proof));
    if let Some((authorization, other)) = &known.records.identified
        && let Some(kept) = other.settlement_record.as_ref().filter(|kept| kept.is_live())
        && (*authorization != terms.authorization || !other.matches_requirements(terms))
    {
        if asked.finding == PaymentFinding::Deferred && !is_signed {
            return None;
        }
        let message = "this payment identifier came before with another payment".to_owned();
        // Only the payer, whose signature is verified, learns the first payment.
        return if is_signed {
            let refusal = PaymentRefusal::by(checks(), Reason::IdentifierConflict, message, &kept.settlement);
            Some(FirstDecision::Refused(refusal))
        } else {
            refused(Reason::IdentifierConflict, message)
        };
    }
    let row = row.filter(|_| is_signed)?;
    // A failed settlement moved nothing: if the payment is still valid, it is tried again.
    let kept = row.settlement_record.as_ref().filter(|kept| kept.is_live())?;
    if row.matches_requirements(terms) {
        return Some(FirstDecision::Recorded(kept));
    }
    let message = "this payment is bound to other requirements";
    Some(FirstDecision::Refused(PaymentRefusal::by(checks(), Reason::DuplicateSettlement, message, &kept.settlement)))
}

fn sanctioned_party(terms: &PaymentTerms, known: PaymentContext<'_>) -> Option<Address> {
    let list = known.sanctions.filter(|_| known.tenant.sanctions == SanctionsPolicy::Refuse)?;
    [terms.payer, terms.pay_to].into_iter().find(|party| list.contains(party))
}

fn reserved_settlement(kept: &SettlementRecord, tenant: &Tenant) -> ReservedSettlement {
    ReservedSettlement {
        settlement: kept.settlement.clone(),
        attempt: kept.progress.attempt,
        signer: kept.progress.signer,
        has_code: kept.progress.has_code,
        max_fee_wei: kept.progress.max_fee_wei,
        reserved_at: kept.progress.reserved_at,
        free: tenant.tier.plan().uses_free_budget,
    }
}

#[cfg(test)]
mod tests;

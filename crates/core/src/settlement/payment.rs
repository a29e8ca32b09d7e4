//! One x402 payment in the ledger: the checks' results go in; whether it may be answered or settled, or was settled
//! already, comes out (docs/spec/money.md#m-settlements).

mod decision;
mod record;
mod request;

use crate::error::{ErrorCode, Fault};
use crate::settlement::status::{Settlement, SettlementStatus};
use crate::tenancy::admission::{
    Admission, AdmissionStop, authorize_key, check_idempotency, check_limits, may_register,
};
use crate::tenancy::budget::BudgetRequest;
use crate::tenancy::tenant::{Scope, Tenant};
use crate::verdict::SanctionsPolicy;
use crate::verification::claims::claimable_unit;
pub use decision::{
    AdmittedPayment, PaymentContext, PaymentDecision, PaymentOutcome, PaymentRecord, PaymentRecords, PaymentWrite,
    ReservedSettlement,
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

/// Admits a request. Counts nothing.
///
/// # Errors
/// A [`AdmissionStop`]: a fault of the key, the rates or the quota, or [`AdmissionStop::Register`] in test.
pub fn admit_payment(
    asked: &PaymentRequest,
    tenant: &Tenant,
    admission: &Admission,
    records: &PaymentRecords,
    now: UnixMillis,
) -> Result<AdmittedPayment, AdmissionStop> {
    let scope = match asked.verb {
        PaymentAction::Verify => Scope::Verify,
        PaymentAction::Settle => Scope::Settle,
    };
    let key = authorize_key(tenant, &asked.key, Some(scope), now)?.id;
    if let Some(idempotency) = &asked.idempotency {
        check_idempotency(records.idempotency_record.as_ref(), &idempotency.body_hash, now)?;
    }
    let network = asked.network.as_deref().and_then(network::by_key);
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
/// `CHAIN_UNAVAILABLE` where the chain gave no answer and nothing is recorded that could answer instead.
pub fn decide_payment(
    asked: &PaymentRequest,
    admitted: AdmittedPayment,
    admission: &mut Admission,
    known: PaymentContext<'_>,
    now: UnixMillis,
) -> Result<PaymentDecision, Fault> {
    let refused =
        |reason, message| PaymentDecision::only(PaymentOutcome::Refused(asked.finding.checks(), reason, message));
    let first = decide_without_chain(asked, admitted.refusal, known, now);
    if first.is_none() && matches!(asked.finding, PaymentFinding::Deferred | PaymentFinding::Used(..)) {
        return Ok(PaymentDecision::only(PaymentOutcome::ChainNeeded));
    }
    admission.count_request(admitted.key, now);
    if let Some(booked) = first {
        return Ok(booked);
    }
    match (&asked.finding, asked.verb, &asked.terms) {
        (PaymentFinding::Unavailable | PaymentFinding::Deferred | PaymentFinding::Used(..), ..) => {
            Err(Fault::new(ErrorCode::ChainUnavailable, "no provider gave a usable answer")
                .after(crate::verification::decision::CHAIN_RETRY_S))
        }
        // Refused payments count against the rates, never against the quota, and leave no row.
        (PaymentFinding::Refused(_, reason, message), ..) => Ok(refused(*reason, message.clone())),
        (PaymentFinding::External(checks, id, units), PaymentAction::Settle, Some(terms)) => {
            Ok(settle_third_party((asked, terms), (checks, id, units), admission, known, now))
        }
        (PaymentFinding::Good(checks) | PaymentFinding::External(checks, ..), PaymentAction::Verify, Some(terms)) => {
            if let Some(message) = failure_limit_message(asked, admission, known, now) {
                return Ok(refused(Reason::QuotaExceeded, message));
            }
            count_against_quota(admission, known);
            let row = needs_renewal(terms, known.records.row.as_ref(), now).then(|| payment_write(terms, None, now));
            Ok(PaymentDecision { row, ..PaymentDecision::only(PaymentOutcome::Valid(checks.clone())) })
        }
        (PaymentFinding::Good(_), PaymentAction::Settle, Some(terms)) => {
            if let Some(message) = failure_limit_message(asked, admission, known, now) {
                return Ok(refused(Reason::QuotaExceeded, message));
            }
            let network = asked.network.as_deref().unwrap_or_default();
            let ask = BudgetRequest { worst: terms.worst, has_paid: known.records.has_paid };
            let reserve_of = match admission.spending.reserve(network, ask, asked.budget, now) {
                Ok(reserve_of) => reserve_of,
                Err(message) => return Ok(refused(Reason::QuotaExceeded, message.to_owned())),
            };
            count_against_quota(admission, known);
            let mut kept = new_attempt(asked, terms, known, now);
            kept.progress.reserve = Some(reserve_of);
            kept.take_success(claimant_of(asked), now);
            let outcome = PaymentOutcome::Settle(Box::new(reserved_settlement(&kept, known.tenant)));
            let row = Some(payment_write(terms, Some(kept.settlement.id), now));
            Ok(PaymentDecision { row, settlement_record: Some(kept), ..PaymentDecision::only(outcome) })
        }
        (PaymentFinding::Good(_) | PaymentFinding::External(..), _, None) => {
            Err(Fault::internal("a payment has no terms"))
        }
    }
}

/// Completes a payment that a third party's transaction has settled: its transfer is claimed, and this request is given
/// the success, unless the transfer is claimed already or goods were given for an earlier attempt.
fn settle_third_party(
    (asked, terms): (&PaymentRequest, &PaymentTerms),
    (checks, id, units): (&Checks, &TxId, &[u64]),
    admission: &mut Admission,
    known: PaymentContext<'_>,
    now: UnixMillis,
) -> PaymentDecision {
    let mut kept = new_attempt(asked, terms, known, now);
    let own = ClaimId::Settlement(kept.settlement.id);
    let Ok(unit) = claimable_unit(&known.records.held_claims, units, own) else {
        // The transfer is claimed already: for this request the authorization is only used.
        let message = "the authorization was used, and its transfer is claimed".to_owned();
        return PaymentDecision::only(PaymentOutcome::Refused(checks.clone(), Reason::EvmNonceUsed, message));
    };
    count_against_quota(admission, known);
    let taken = complete_third_party(&mut kept, asked, id, now);
    let row = Some(payment_write(terms, Some(kept.settlement.id), now));
    let settlement = Box::new(kept.settlement.clone());
    let outcome = match taken {
        TakeResult::Success => PaymentOutcome::External(settlement),
        // Goods were given for an attempt whose block has left the chain.
        TakeResult::Lease | TakeResult::Nothing => {
            let message = "this payment was handed over before".to_owned();
            PaymentOutcome::Taken(checks.clone(), Reason::DuplicateSettlement, message, settlement)
        }
    };
    PaymentDecision { row, settlement_record: Some(kept), claim: Some(unit), ..PaymentDecision::only(outcome) }
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
    admission: &Admission,
    known: PaymentContext<'_>,
    now: UnixMillis,
) -> Option<String> {
    let network = asked.network.as_deref().unwrap_or_default();
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
fn decide_without_chain(
    asked: &PaymentRequest,
    refusal: Option<(Reason, String)>,
    known: PaymentContext<'_>,
    now: UnixMillis,
) -> Option<PaymentDecision> {
    let checks = || asked.finding.checks();
    let refused = |reason, message| Some(PaymentDecision::only(PaymentOutcome::Refused(checks(), reason, message)));
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
            let settlement = Box::new(kept.settlement.clone());
            Some(PaymentDecision::only(PaymentOutcome::Taken(
                checks(),
                Reason::IdentifierConflict,
                message,
                settlement,
            )))
        } else {
            refused(Reason::IdentifierConflict, message)
        };
    }
    let row = row.filter(|_| is_signed)?;
    decide_from_record(asked, terms, row, known, now)
}

/// The answer about a payment that this ledger has reserved before (docs/spec/protocol.md#p-3-4-7).
fn decide_from_record(
    asked: &PaymentRequest,
    terms: &PaymentTerms,
    row: &PaymentRecord,
    known: PaymentContext<'_>,
    now: UnixMillis,
) -> Option<PaymentDecision> {
    // A failed settlement moved nothing: if the payment is still valid, it is tried again.
    let kept = row.settlement_record.as_ref().filter(|kept| kept.is_live())?;
    let taken = |message: &str| {
        let settlement = Box::new(kept.settlement.clone());
        PaymentDecision::only(PaymentOutcome::Taken(
            asked.finding.checks(),
            Reason::DuplicateSettlement,
            message.to_owned(),
            settlement,
        ))
    };
    if !row.matches_requirements(terms) {
        return Some(taken("this payment is bound to other requirements"));
    }
    let why = match kept.settlement.handed_over {
        Some(_) => "this payment was handed over before",
        None => "another request waits for this payment",
    };
    if asked.verb == PaymentAction::Verify {
        let open = kept.is_open(now);
        return Some(if open { PaymentDecision::only(PaymentOutcome::Valid(Checks::none())) } else { taken(why) });
    }
    let mut kept_now = kept.clone();
    let outcome = match kept_now.take_success(claimant_of(asked), now) {
        TakeResult::Nothing => return Some(taken(why)),
        TakeResult::Success if kept_now.progress.external => {
            PaymentOutcome::External(Box::new(kept_now.settlement.clone()))
        }
        TakeResult::Success => PaymentOutcome::Settled(Box::new(kept_now.settlement.clone())),
        TakeResult::Lease => PaymentOutcome::Settle(Box::new(reserved_settlement(&kept_now, known.tenant))),
    };
    Some(PaymentDecision { settlement_record: Some(kept_now), ..PaymentDecision::only(outcome) })
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
        free: tenant.tier == crate::tenancy::tier::Tier::Free,
    }
}

/// A third party has sent it: it is completed and given to this caller in one step.
fn complete_third_party(kept: &mut SettlementRecord, asked: &PaymentRequest, id: &TxId, now: UnixMillis) -> TakeResult {
    kept.settlement.status = SettlementStatus::Completed;
    kept.settlement.transaction = Some(id.to_string());
    kept.settlement.completed_at = Some(now.rfc3339());
    kept.progress.external = true;
    kept.take_success(claimant_of(asked), now)
}

/// A new settlement, or another attempt of a failed one.
fn new_attempt(
    asked: &PaymentRequest,
    terms: &PaymentTerms,
    known: PaymentContext<'_>,
    now: UnixMillis,
) -> SettlementRecord {
    let earlier = known.records.row.as_ref().and_then(|row| row.settlement_record.as_ref());
    let fresh = SettlementId::new(now, asked.random);
    let network = asked.network.as_deref().and_then(network::by_key);
    let settlement = Settlement {
        id: earlier.map_or(fresh, |earlier| earlier.settlement.id),
        status: SettlementStatus::Pending,
        reason: None,
        network: network.map_or_else(String::new, |network| network.caip2.to_owned()),
        transaction: None,
        payer: terms.payer.to_string(),
        pay_to: terms.pay_to.to_string(),
        amount: terms.amount.to_string(),
        asset: network.map_or_else(String::new, |network| network.asset.text.to_owned()),
        created_at: earlier.map_or_else(|| now.rfc3339(), |earlier| earlier.settlement.created_at.clone()),
        completed_at: None,
        attempts: earlier.map_or_else(Vec::new, |earlier| earlier.settlement.attempts.clone()),
        // Goods that were given stay given, also if the block of the attempt has left the chain.
        handed_over: earlier.and_then(|earlier| earlier.settlement.handed_over.clone()),
    };
    let course = SettlementProgress {
        attempt: earlier.map_or(0, |earlier| earlier.progress.attempt.saturating_add(1)),
        signer: terms.signer,
        has_code: terms.has_code,
        max_fee_wei: terms.max_fee_wei,
        reserved_at: now,
        ..SettlementProgress::default()
    };
    SettlementRecord { settlement, progress: course }
}

#[cfg(test)]
mod tests;

//! A new attempt to settle a payment.

use super::{
    BoundPayment, PaymentContext, PaymentRequest, PaymentTerms, SettlementProgress, SettlementRecord, TakeResult,
    claimant_of,
};
use crate::error::Fault;
use crate::settlement::status::{Settlement, SettlementStatus};
use x402_chain::address::TxId;
use x402_chain::id::SettlementId;
use x402_chain::network;
use x402_chain::network::Network;
use x402_chain::time::UnixMillis;

/// A payment that may be settled: its network, and the terms of its authorization.
#[derive(Clone, Copy)]
pub(super) struct PayablePayment<'a> {
    pub(super) network: &'static Network,
    pub(super) terms: &'a PaymentTerms,
}

impl<'a> PayablePayment<'a> {
    /// The payment that a request names.
    ///
    /// # Errors
    /// `INTERNAL` where it names none: the Worker found it good without naming it.
    pub(super) fn of(request: &'a PaymentRequest) -> Result<Self, Fault> {
        let network = request.network.as_deref().and_then(network::by_key);
        let named = network.zip(request.terms.as_ref()).map(|(network, terms)| Self { network, terms });
        named.ok_or_else(|| Fault::internal("a good payment has no network or no terms"))
    }
}

/// Completes a settlement that a third party has sent, and hands its success to this caller.
pub(super) fn complete_third_party(
    record: &mut SettlementRecord,
    request: &PaymentRequest,
    id: &TxId,
    now: UnixMillis,
) -> TakeResult {
    record.settlement.status = SettlementStatus::Completed;
    record.settlement.transaction = Some(id.to_string());
    record.settlement.completed_at = Some(now.rfc3339());
    record.progress.external = true;
    record.take_success(claimant_of(request), now)
}

/// A new settlement, or another attempt of a failed one.
pub(super) fn new_attempt(
    request: &PaymentRequest,
    payable: PayablePayment<'_>,
    context: PaymentContext<'_>,
    now: UnixMillis,
) -> SettlementRecord {
    let earlier = context.records.row.as_ref().and_then(|row| row.settlement_record.as_ref());
    let fresh = SettlementId::new(now, request.random);
    let PayablePayment { network, terms } = payable;
    let settlement = Settlement {
        id: earlier.map_or(fresh, |earlier| earlier.settlement.id),
        status: SettlementStatus::Pending,
        reason: None,
        network: network.caip2.to_owned(),
        transaction: None,
        payer: terms.payer.to_string(),
        pay_to: terms.pay_to.to_string(),
        amount: terms.amount.to_string(),
        asset: network.asset.text.to_owned(),
        created_at: earlier.map_or_else(|| now.rfc3339(), |earlier| earlier.settlement.created_at.clone()),
        completed_at: None,
        attempts: earlier.map_or_else(Vec::new, |earlier| earlier.settlement.attempts.clone()),
        // Goods that were given stay given, also if the block of the attempt has left the chain.
        handed_over: earlier.and_then(|earlier| earlier.settlement.handed_over.clone()),
        traceparent: request.traceparent,
    };
    let progress = SettlementProgress {
        attempt: earlier.map_or(0, |earlier| earlier.progress.attempt.saturating_add(1)),
        signer: terms.signer,
        has_code: terms.has_code,
        max_fee_wei: terms.max_fee_wei,
        reserved_at: now,
        payment: Some(BoundPayment {
            authorization: terms.authorization.clone(),
            fingerprint: terms.fingerprint.clone(),
            proof: terms.proof.clone(),
            expires_at: super::remembered_until(terms, now),
        }),
        claimed: earlier.and_then(|earlier| earlier.progress.claimed),
        costs: earlier.and_then(|earlier| earlier.progress.costs),
        ..SettlementProgress::default()
    };
    SettlementRecord { settlement, progress }
}

//! One verification in the ledger: the claim, the transaction's trace and the stored rows go in; an answer and the rows
//! to write come out.

use crate::error::{ErrorCode, Fault};
use crate::sanctions;
use crate::tenancy::admission::{
    Admission, AdmissionStop, AdmittedRecipient, IdempotencyRecord, KeyUse, PresentedKey, authorize_key,
    check_idempotency, check_limits, resolve_recipient,
};
use crate::tenancy::key::KeyHash;
use crate::tenancy::tenant::Tenant;
use crate::traceparent::TraceParent;
use crate::verdict::RefusalCode;
use crate::verification::answer::{
    ClaimedBy, Finality, TransferLine, TransferPlace, VerificationAnswer, VerificationStatus,
};
use crate::verification::claim::Claim;
use crate::verification::claims;
use crate::verification::claims::{ClaimUnit, HeldClaim};
use crate::verification::judge::{ClaimStatus, JudgeContext, Judgement, judge};
use serde::{Deserialize, Serialize};
use x402_chain::address::Address;
use x402_chain::id::{ClaimId, KeyId, RequestId, VerificationId};
use x402_chain::network::FinalityRule;
use x402_chain::retry::{RepeatRule, Retry};
use x402_chain::time::{UnixMillis, UnixSeconds};
use x402_chain::trace::{Screening, Trace, Transfer, TransferLocation};

/// The longest `Idempotency-Key`.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;

/// One verification as the Worker hands it to the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerificationRequest {
    /// The SHA-256 of the API key that asks.
    pub key: KeyHash,
    /// The HTTP request's id.
    pub request_id: RequestId,
    /// The request's span, where a trace of the caller's goes on with it; absent in a message of the build before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<TraceParent>,
    /// The `Idempotency-Key`, with the SHA-256 of the body.
    pub idempotency: Option<IdempotencyKey>,
    /// The question, as the body states it.
    pub claim: Claim,
    /// Whether the registry check lets the chain be used.
    pub chain_on: bool,
    /// What the chain's providers answered.
    pub seen: ChainObservation,
    /// Random bytes for the id.
    #[serde(with = "x402_chain::id::random_digits")]
    pub random: [u8; 10],
}

/// The `Idempotency-Key` with what it stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdempotencyKey {
    /// The header's value, 1 to [`IDEMPOTENCY_KEY_BYTES_MAX`] bytes.
    pub key: String,
    /// SHA-256 of the body, hex.
    pub body_hash: String,
}

/// What the chain's providers answered about the transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChainObservation {
    /// The chain was not asked yet: the ledger answers whether it must be.
    Deferred,
    /// No provider gave a usable answer.
    Unavailable,
    /// The transaction's trace.
    Traced(Box<TracedTransaction>),
}

/// The transaction's trace, and how it was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TracedTransaction {
    /// The trace: of a large EVM transaction only the transfers that touch the recipient.
    pub trace: Trace,
    /// What was read of the parties.
    pub screening: Screening,
    /// Whether only one provider is configured.
    pub single_provider: bool,
}

/// A request that may be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdmittedVerification {
    /// The API key that asks.
    pub key: KeyId,
    /// The address that must have been paid.
    pub recipient: Address,
    /// Whether the request was counted against the quota before, under the same `Idempotency-Key`.
    pub counted: bool,
}

/// Admits a request, in the order of docs/spec/money.md#m-order; `used` is how it uses its key. Counts
/// nothing.
///
/// # Errors
/// A [`AdmissionStop`] with the first reason not to go on.
pub fn admit_verification(
    (request, used): (&VerificationRequest, KeyUse),
    tenant: &Tenant,
    admission: &Admission,
    stored: Option<&IdempotencyRecord>,
    now: UnixMillis,
) -> Result<AdmittedVerification, AdmissionStop> {
    let key = authorize_key(tenant, PresentedKey { hash: request.key, used }, now)?.id;
    let mut counted = false;
    if let Some(idempotency) = &request.idempotency {
        counted = match check_idempotency(stored, &idempotency.body_hash, now) {
            Err(AdmissionStop::Repeat(_, body)) if !recorded_answer_holds(&body, &request.claim, tenant) => true,
            outcome => outcome.map(|()| false)?,
        };
    }
    let payee = resolve_recipient(request.claim.network, request.claim.recipient, request.chain_on, tenant)?;
    match check_limits(admission, tenant, now) {
        Err(fault) if fault.code == ErrorCode::QuotaExceeded && counted => {}
        outcome => outcome?,
    }
    match payee {
        AdmittedRecipient::Own(recipient) => Ok(AdmittedVerification { key, recipient, counted }),
        AdmittedRecipient::Unheld(address) => Err(AdmissionStop::Register(address)),
    }
}

/// Whether a recorded answer still holds: it was final, and it was judged for the recipient that would be judged now.
fn recorded_answer_holds(body: &str, claim: &Claim, tenant: &Tenant) -> bool {
    #[derive(Deserialize)]
    struct RecordedVerdict {
        error_code: Option<String>,
        to_address: Option<String>,
    }
    let Ok(RecordedVerdict { error_code: Some(code), to_address }) = serde_json::from_str(body) else { return true };
    let repeat =
        RefusalCode::parse(&code).map(RefusalCode::repeat).or_else(|| ErrorCode::parse(&code).map(ErrorCode::repeat));
    let recipient = claim.recipient.or_else(|| tenant.default_recipient(claim.network));
    let is_same = to_address.is_none() || to_address == recipient.map(|address| address.to_string());
    repeat != Some(RepeatRule::Judged) && is_same
}

/// A decided verification: its answer, and what to store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerificationOutcome {
    /// The body of the answer.
    pub answer: VerificationAnswer,
    /// The claims to store; none where nothing is bound.
    pub claims: Vec<claims::ClaimRow>,
    /// Whether the answer is a new record; a replay carries the first one's id.
    pub is_record: bool,
    /// Whether the payment must be polled until it is final.
    pub track_finality: bool,
    /// Payers that have not paid this tenant before.
    pub new_payers: Vec<Address>,
}

/// The stored state by which the ledger judges a payment.
#[derive(Clone, Copy, Debug)]
pub struct VerificationContext<'a> {
    /// The seller, as its ledger's copy has it.
    pub tenant: &'a Tenant,
    /// The claims on the payment, and those of settlements that count as such. Of two claims on one log the first
    /// counts.
    pub held_claims: &'a [HeldClaim],
    /// Those of the payers that have paid this tenant before.
    pub payers: &'a [Address],
    /// The sanctions list; `None` where it could not be read.
    pub sanctions: Option<&'a sanctions::SanctionsList>,
}

/// Judges an admitted request, counts it, and returns what to write.
///
/// # Errors
/// `CHAIN_UNAVAILABLE` where no provider gave a trace, or only finality is missing and no provider reports it: the
/// request is counted against the rates, not against the quota.
pub fn decide_verification(
    request: &VerificationRequest,
    admitted: AdmittedVerification,
    admission: &mut Admission,
    context: VerificationContext<'_>,
    now: UnixMillis,
) -> Result<VerificationOutcome, Fault> {
    admission.count_request(admitted.key, now);
    let ChainObservation::Traced(traced) = &request.seen else {
        let detail = format!("no provider of '{}' gave a usable answer", request.claim.network.key);
        return Err(Fault::new(ErrorCode::ChainUnavailable, detail).after(CHAIN_RETRY_S));
    };
    let judge_context = JudgeContext {
        recipient: admitted.recipient,
        screening: &traced.screening,
        single_provider: traced.single_provider,
        sanctions: context.sanctions,
        policy: context.tenant.sanctions,
        held_claims: context.held_claims,
        known_payers: context.payers,
        now,
    };
    let judgement = judge(&request.claim, &traced.trace, &judge_context);
    if lacks_finality_answer(&request.claim, &traced.trace, &judgement) {
        let detail = format!("no provider of '{}' reports which blocks are final", request.claim.network.key);
        return Err(Fault::new(ErrorCode::ChainUnavailable, detail).after(CHAIN_RETRY_S));
    }
    let is_final = judgement.refusal.as_ref().is_none_or(|(refusal, _)| refusal.retry() == Retry::Never);
    let is_replay = judgement.replayed().is_some();
    if is_final && !is_replay && !admitted.counted {
        admission.used = admission.used.saturating_add(1);
    }
    let first = judgement.replayed().and_then(|prior| prior.id.verification());
    let id = first.unwrap_or_else(|| admission.next_verification_id(now, request.random));
    let paid = judgement.is_paid();
    let units = if request.claim.claim { judgement.units() } else { &[] };
    let row = |unit: &ClaimUnit| claim_row(&request.claim, &admitted.recipient, *unit, id, now);
    let claims = units.iter().map(row).collect();
    let new_payers = if paid {
        judgement.payers.iter().filter(|payer| !context.payers.contains(payer)).copied().collect()
    } else {
        Vec::new()
    };
    let track_finality = paid
        && !is_replay
        && judgement.finality == Some(Finality::Confirmed)
        && request.claim.network.finality != FinalityRule::Instant;
    let is_record = first.is_none();
    let answer = verification_answer(request, &admitted.recipient, judgement, id);
    Ok(VerificationOutcome { answer, claims, is_record, track_finality, new_payers })
}

/// Whether a payment would be refused as not final although no provider has reported finality.
fn lacks_finality_answer(claim: &Claim, trace: &Trace, judgement: &Judgement) -> bool {
    let is_unknown = trace.mined().is_some_and(|mined| mined.finality_unknown);
    let is_refused = judgement.refusal.as_ref().is_some_and(|(refusal, _)| *refusal == RefusalCode::NotFinal);
    is_unknown && is_refused && claim.finality == Finality::Finalized
}

/// Seconds after which a request about a chain that did not answer may be repeated.
pub(crate) const CHAIN_RETRY_S: u64 = 5;

fn claim_row(
    claim: &Claim,
    recipient: &Address,
    unit: ClaimUnit,
    id: VerificationId,
    at: UnixMillis,
) -> claims::ClaimRow {
    claims::ClaimRow {
        network: claim.network.caip2.to_owned(),
        tx: claim.tx.to_string(),
        recipient: recipient.to_string(),
        unit,
        id: ClaimId::Verification(id),
        reference: claim.reference.clone(),
        at,
    }
}

fn verification_answer(
    request: &VerificationRequest,
    recipient: &Address,
    judgement: Judgement,
    id: VerificationId,
) -> VerificationAnswer {
    let claim = &request.claim;
    let mined = match &request.seen {
        ChainObservation::Traced(traced) => traced.trace.mined(),
        ChainObservation::Deferred | ChainObservation::Unavailable => None,
    };
    let paid = judgement.is_paid();
    let refusal = judgement.refusal.as_ref().map(|(refusal, _)| *refusal);
    let status = match (refusal.map(RefusalCode::retry), judgement.finality) {
        (None, Some(Finality::Finalized)) => VerificationStatus::Finalized,
        (None, Some(Finality::Confirmed) | None) => VerificationStatus::Confirmed,
        (Some(Retry::Never), _) => VerificationStatus::Rejected,
        (Some(Retry::Later | Retry::Same), _) => VerificationStatus::Pending,
    };
    // The checksum of an address costs a hash, so each address is written once.
    let payers: Vec<String> = judgement.payers.iter().map(Address::to_string).collect();
    let payer = |address: &Address| {
        let known = judgement.payers.iter().position(|payer| payer == address);
        known.and_then(|at| payers.get(at).cloned()).unwrap_or_else(|| address.to_string())
    };
    let transfers = judgement.transfers.iter().map(|transfer| transfer_line(transfer, payer)).collect();
    let replayed = judgement.replayed().is_some();
    let claimed_by = match &judgement.claim_status {
        ClaimStatus::Taken(prior) if refusal == Some(RefusalCode::AlreadyClaimed) => Some(prior),
        ClaimStatus::Taken(_) | ClaimStatus::Again(_) | ClaimStatus::Fresh(_) => None,
    };
    VerificationAnswer {
        id,
        request_id: request.request_id,
        traceparent: request.traceparent,
        success: paid,
        status,
        tx_hash: claim.tx.to_string(),
        chain: claim.network.key.to_owned(),
        network: claim.network.caip2.to_owned(),
        amount_usdc: mined.map(|_| judgement.amount.usdc()),
        amount: mined.map(|_| judgement.amount.to_string()),
        asset: claim.network.asset.text.to_owned(),
        from_address: match payers.as_slice() {
            [only] => Some(only.clone()),
            _ => None,
        },
        to_address: Some(recipient.to_string()),
        transfers,
        payers,
        overpaid: judgement.overpaid.map(|over| over.to_string()),
        confirmations: mined.map(x402_chain::trace::MinedTransaction::confirmations),
        block_number: mined.map(|mined| mined.block.number),
        block_hash: mined.and_then(|mined| mined.block.hash.clone()),
        block_time: mined.and_then(|mined| mined.block.time).map(|time| UnixSeconds::millis(time).rfc3339()),
        finality: judgement.finality,
        binding: judgement.binding,
        claimed: paid && (claim.claim || replayed),
        claimed_by: claimed_by.map(|prior| ClaimedBy {
            id: prior.id,
            reference: prior.reference.as_ref().map(|bound| bound.known().to_owned()),
            claimed_at: prior.at.rfc3339(),
        }),
        reference: claim.reference.clone(),
        replayed,
        risk_score: judgement.risk.score,
        risk_level: judgement.risk.level,
        risk_factors: judgement.risk.factors,
        checks: judgement.checks,
        error_code: refusal,
        retry: refusal.map(RefusalCode::retry),
        error: judgement.refusal.map(|(_, message)| message),
    }
    .with_lists_cut()
}

fn transfer_line(transfer: &Transfer, payer: impl Fn(&Address) -> String) -> TransferLine {
    TransferLine {
        place: match &transfer.place {
            TransferLocation::LogIndex(log_index) => TransferPlace::Log { log_index: *log_index },
            TransferLocation::TokenAccount(account) => TransferPlace::Account { token_account: account.to_string() },
        },
        payer: transfer.from.as_ref().map(payer),
        amount: transfer.amount.to_string(),
    }
}

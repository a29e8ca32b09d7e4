//! One verification, booked: the claim, the chain's story and the rows that the
//! ledger has about it go in, an answer and the rows to write come out.

use crate::error::{Code, Fault};
use crate::sanctions;
use crate::tenancy::admission::{Admission, Payee, Stop, Stored, authorise, recall, recipient, within_limits};
use crate::tenancy::key::KeyHash;
use crate::tenancy::tenant::{Scope, Tenant};
use crate::verdict::Refusal;
use crate::verification::answer::{Answer, ClaimedBy, Finality, Status, TransferLine, TransferPlace};
use crate::verification::claim::Claim;
use crate::verification::claims;
use crate::verification::claims::{Held, Unit};
use crate::verification::judge::{Context, Judgement, Standing, judge};
use serde::{Deserialize, Serialize};
use x402_chain::address::Address;
use x402_chain::id::{ClaimId, KeyId, RequestId, VerificationId};
use x402_chain::network::FinalityRule;
use x402_chain::retry::{Repeat, Retry};
use x402_chain::time::{UnixMillis, UnixSeconds};
use x402_chain::trace::{Place, Screening, Trace, Transfer};

/// The longest `Idempotency-Key`.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;

/// One verification as the Worker hands it to the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The key that asks.
    pub key: KeyHash,
    /// The HTTP request.
    pub request_id: RequestId,
    /// The `Idempotency-Key`, with the SHA-256 of the body.
    pub idempotency: Option<Idempotency>,
    /// What is asked.
    pub claim: Claim,
    /// Whether the registry check lets the chain be used.
    pub chain_on: bool,
    /// What the chain said.
    pub seen: Seen,
    /// 80 random bits for the id, as decimal digits.
    pub random: String,
}

/// The `Idempotency-Key` with what it stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Idempotency {
    /// The caller's key.
    pub key: String,
    /// SHA-256 of the body, hex.
    pub body_hash: String,
}

/// What the chain said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Seen {
    /// It was not asked yet: only say whether it should be.
    Deferred,
    /// No provider gave a usable answer.
    Unavailable,
    /// Its story.
    Traced(Box<Traced>),
}

/// The chain's story with how it came about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traced {
    /// The story.
    pub trace: Trace,
    /// What was read of the parties.
    pub screening: Screening,
    /// Whether only one provider is configured.
    pub single_provider: bool,
}

/// A request that may be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// The key that asks.
    pub key: KeyId,
    /// Who must have been paid.
    pub recipient: Address,
    /// Whether the request was counted when it came first, under its `Idempotency-Key`.
    pub counted: bool,
}

/// Admits a request, in the order of docs/spec/money.md#m-order. Counts nothing.
///
/// # Errors
/// A [`Stop`] with the first reason not to go on.
pub fn admit(
    request: &Request,
    tenant: &Tenant,
    admission: &Admission,
    stored: Option<&Stored>,
    now: UnixMillis,
) -> Result<Admitted, Stop> {
    let key = authorise(tenant, &request.key, Some(Scope::Verify), now)?.id;
    let mut counted = false;
    if let Some(idempotency) = &request.idempotency {
        counted = match recall(stored, &idempotency.body_hash, now) {
            Err(Stop::Repeat(_, body)) if !holds(&body, &request.claim, tenant) => true,
            outcome => outcome.map(|()| false)?,
        };
    }
    let payee = recipient(request.claim.network, request.claim.recipient, request.chain_on, tenant)?;
    match within_limits(admission, tenant, now) {
        Err(fault) if fault.code == Code::QuotaExceeded && counted => {}
        outcome => outcome?,
    }
    match payee {
        Payee::Own(recipient) => Ok(Admitted { key, recipient, counted }),
        Payee::Unheld(address) => Err(Stop::Register(address)),
    }
}

/// Whether a recorded answer still is the answer: nobody but another request can change it, and a
/// refusal was about the recipient that would be looked at now.
fn holds(body: &str, claim: &Claim, tenant: &Tenant) -> bool {
    #[derive(Deserialize)]
    struct Recorded {
        error_code: Option<String>,
        to_address: Option<String>,
    }
    let Ok(Recorded { error_code: Some(code), to_address }) = serde_json::from_str(body) else { return true };
    let repeat = Refusal::parse(&code).map(Refusal::repeat).or_else(|| Code::parse(&code).map(Code::repeat));
    let recipient = claim.recipient.or_else(|| tenant.default_recipient(claim.network));
    let is_same = to_address.is_none() || to_address == recipient.map(|address| address.to_string());
    repeat != Some(Repeat::Judged) && is_same
}

/// What a booked verification leaves behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Booked {
    /// The answer.
    pub answer: Answer,
    /// The claims to write.
    pub claims: Vec<claims::Row>,
    /// Whether the answer is a new record; a replay carries the first one's id.
    pub is_record: bool,
    /// Whether the payment must be followed until it is final.
    pub follow: bool,
    /// Payers that this tenant had not seen.
    pub new_payers: Vec<Address>,
}

/// What the ledger knows when it judges a payment.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// The tenant.
    pub tenant: &'a Tenant,
    /// What of the payment is claimed, and what counts as such; of two claims on one log the first counts.
    pub held: &'a [Held],
    /// Those of the payers that the tenant knows.
    pub payers: &'a [Address],
    /// The sanctions list.
    pub sanctions: Option<&'a sanctions::List>,
}

/// Judges an admitted request, counts it and says what to write.
///
/// # Errors
/// `CHAIN_UNAVAILABLE` where the chain gave no story, or all that is missing is what is final and no
/// provider says: the request is counted against the rates, not against the quota.
pub fn conclude(
    request: &Request,
    admitted: Admitted,
    admission: &mut Admission,
    known: Known<'_>,
    now: UnixMillis,
) -> Result<Booked, Fault> {
    admission.count(admitted.key, now);
    let Seen::Traced(traced) = &request.seen else {
        let detail = format!("no provider of '{}' gave a usable answer", request.claim.network.key);
        return Err(Fault::new(Code::ChainUnavailable, detail).after(CHAIN_RETRY_S));
    };
    let context = Context {
        recipient: admitted.recipient,
        screening: &traced.screening,
        single_provider: traced.single_provider,
        sanctions: known.sanctions,
        policy: known.tenant.sanctions,
        held: known.held,
        known_payers: known.payers,
        now,
    };
    let judgement = judge(&request.claim, &traced.trace, &context);
    if is_undecided(&request.claim, &traced.trace, &judgement) {
        let detail = format!("no provider of '{}' says which blocks are final", request.claim.network.key);
        return Err(Fault::new(Code::ChainUnavailable, detail).after(CHAIN_RETRY_S));
    }
    let is_final = judgement.refusal.as_ref().is_none_or(|(refusal, _)| refusal.retry() == Retry::Never);
    let is_replay = judgement.replayed().is_some();
    if is_final && !is_replay && !admitted.counted {
        admission.used = admission.used.saturating_add(1);
    }
    let first = judgement.replayed().and_then(|prior| prior.id.verification());
    let id = first.unwrap_or_else(|| admission.next_id(now, request.random.parse().unwrap_or_default()));
    let paid = judgement.is_paid();
    let units = if request.claim.claim { judgement.units() } else { &[] };
    let row = |unit: &Unit| claim_row(&request.claim, &admitted.recipient, *unit, id, now);
    let claims = units.iter().map(row).collect();
    let new_payers = if paid {
        judgement.payers.iter().filter(|payer| !known.payers.contains(payer)).copied().collect()
    } else {
        Vec::new()
    };
    let follow = paid
        && !is_replay
        && judgement.finality == Some(Finality::Confirmed)
        && request.claim.network.finality != FinalityRule::Instant;
    let is_record = first.is_none();
    let answer = answer(request, &admitted.recipient, judgement, id);
    Ok(Booked { answer, claims, is_record, follow, new_payers })
}

/// Whether a payment would be refused as not final although nobody has said what is.
fn is_undecided(claim: &Claim, trace: &Trace, judgement: &Judgement) -> bool {
    let is_unknown = trace.mined().is_some_and(|mined| mined.finality_unknown);
    let is_refused = judgement.refusal.as_ref().is_some_and(|(refusal, _)| *refusal == Refusal::NotFinal);
    is_unknown && is_refused && claim.finality == Finality::Finalized
}

/// Seconds after which a chain that gave no answer is worth another try.
pub const CHAIN_RETRY_S: u64 = 5;

fn claim_row(claim: &Claim, recipient: &Address, unit: Unit, id: VerificationId, at: UnixMillis) -> claims::Row {
    claims::Row {
        network: claim.network.caip2.to_owned(),
        tx: claim.tx.to_string(),
        recipient: recipient.to_string(),
        unit,
        id: ClaimId::Verification(id),
        reference: claim.reference.clone(),
        at,
    }
}

fn answer(request: &Request, recipient: &Address, judgement: Judgement, id: VerificationId) -> Answer {
    let claim = &request.claim;
    let mined = match &request.seen {
        Seen::Traced(traced) => traced.trace.mined(),
        Seen::Deferred | Seen::Unavailable => None,
    };
    let paid = judgement.is_paid();
    let refusal = judgement.refusal.as_ref().map(|(refusal, _)| *refusal);
    let status = match (refusal.map(Refusal::retry), judgement.finality) {
        (None, Some(Finality::Finalized)) => Status::Finalized,
        (None, Some(Finality::Confirmed) | None) => Status::Confirmed,
        (Some(Retry::Never), _) => Status::Rejected,
        (Some(Retry::Later | Retry::Same), _) => Status::Pending,
    };
    // An address in its checksummed form costs a hash: each is written once.
    let payers: Vec<String> = judgement.payers.iter().map(Address::to_string).collect();
    let payer = |address: &Address| {
        let known = judgement.payers.iter().position(|payer| payer == address);
        known.and_then(|at| payers.get(at).cloned()).unwrap_or_else(|| address.to_string())
    };
    let transfers = judgement.transfers.iter().map(|transfer| line(transfer, payer)).collect();
    let replayed = judgement.replayed().is_some();
    let claimed_by = match &judgement.standing {
        Standing::Taken(prior) if refusal == Some(Refusal::AlreadyClaimed) => Some(prior),
        Standing::Taken(_) | Standing::Again(_) | Standing::Fresh(_) => None,
    };
    Answer {
        id,
        request_id: request.request_id,
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
        confirmations: mined.map(x402_chain::trace::Mined::confirmations),
        block_number: mined.map(|mined| mined.block.number),
        block_hash: mined.and_then(|mined| mined.block.hash.clone()),
        block_time: mined.and_then(|mined| mined.block.time).map(|time| UnixSeconds::millis(time).rfc3339()),
        finality: judgement.finality,
        binding: judgement.binding,
        claimed: paid && (claim.claim || replayed),
        claimed_by: claimed_by.map(|prior| ClaimedBy {
            id: prior.id,
            reference: prior.reference.clone(),
            claimed_at: prior.at.rfc3339(),
        }),
        reference: claim.reference.clone(),
        replayed,
        risk_score: judgement.risk.score,
        risk_level: judgement.risk.level,
        risk_factors: judgement.risk.factors,
        checks: judgement.checks,
        error_code: refusal,
        retry: refusal.map(Refusal::retry),
        error: judgement.refusal.map(|(_, told)| told),
    }
    .listed()
}

fn line(transfer: &Transfer, payer: impl Fn(&Address) -> String) -> TransferLine {
    TransferLine {
        place: match &transfer.place {
            Place::LogIndex(log_index) => TransferPlace::Log { log_index: *log_index },
            Place::TokenAccount(account) => TransferPlace::Account { token_account: account.to_string() },
        },
        payer: transfer.from.as_ref().map(payer),
        amount: transfer.amount.to_string(),
    }
}

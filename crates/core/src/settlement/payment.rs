//! One x402 payment, booked: what the Worker found out goes in; whether it may
//! be answered, settled, or was settled already comes out (docs/spec/money.md#m-settlements).

mod asked;
mod record;

use crate::error::{Code, Fault};
use crate::sanctions;
use crate::settlement::status::{Settlement, SettlementStatus};
use crate::tenancy::admission::{Admission, Stop, Stored, authorise, may_register, recall, within_limits};
use crate::tenancy::budget::Ask;
use crate::tenancy::tenant::{Scope, Tenant};
use crate::verdict::SanctionsPolicy;
use crate::verification::claims::{Held, Unit, free_unit};
pub use asked::{Asked, Finding, Terms, Verb, authorization, transaction};
pub use record::{Applied, Asker, Course, Kept, LEASE_MS, Lease, REPEATS_MS, Taken, UNDELIVERED_MS, UNHEARD_MS};
use serde::{Deserialize, Serialize};
use x402_chain::address::{Address, TxId};
use x402_chain::amount::Amount;
use x402_chain::checks::Checks;
use x402_chain::id::{ClaimId, KeyId, SettlementId};
use x402_chain::network;
use x402_chain::network::Network;
use x402_chain::reason::Reason;
use x402_chain::retry::Repeat;
use x402_chain::time::UnixMillis;

/// How long a payment that was never settled is remembered after its end: a signed
/// authorization's own, on Solana the last time that it was asked for.
const REMEMBERED_MS: u64 = 300_000;
/// On Solana that time is written anew when it is older than this: once a minute at most.
const RENEWED_MS: u64 = 60_000;

/// What this ledger knows of an authorization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The requirements it was first asked for.
    pub fingerprint: String,
    /// SHA-256 of the signature that was found good; `None` in rows of older builds.
    pub proof: Option<String>,
    /// Until when it is remembered without a settlement.
    pub expires_at: Option<UnixMillis>,
    /// Its settlement, once it is reserved.
    pub kept: Option<Kept>,
}

impl Row {
    /// Whether the requirements are those that it is bound to. Rows of older builds name none.
    fn is_of(&self, terms: &Terms) -> bool {
        self.fingerprint.is_empty() || self.fingerprint == terms.fingerprint
    }
}

/// All that is recorded and could matter to a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// Of the authorization.
    pub row: Option<Row>,
    /// Of the payment that came first from this payer under the same identifier: its authorization and the rest.
    pub identified: Option<(String, Row)>,
    /// Of the `Idempotency-Key`.
    pub stored: Option<Stored>,
    /// The claims on the transaction of [`Finding::External`].
    pub held: Vec<Held>,
    /// Whether the payer has completed a settlement here; only read where one may be reserved, or failures are many.
    pub has_paid: bool,
}

/// A settlement that the Settler goes on with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reserved {
    /// How it stands.
    pub settlement: Settlement,
    /// How many attempts were reserved before.
    pub attempt: usize,
    /// Who of us sends it.
    pub signer: Option<Address>,
    /// Whether there was code at the payer's address when it was judged (EVM).
    pub has_code: bool,
    /// The most that a unit of gas may ever cost for it, wei (EVM).
    pub max_fee_wei: Option<u128>,
    /// When this attempt was reserved.
    pub reserved_at: UnixMillis,
    /// Whether the tenant's tier costs nothing.
    pub free: bool,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is good.
    Valid(Checks),
    /// It is not.
    Refused(Checks, Reason, String),
    /// It is not, because of another settlement or of its own, which the answer may name.
    Taken(Checks, Reason, String, Box<Settlement>),
    /// Reserved, or on its way: the caller waits for the Settler.
    Settle(Box<Reserved>),
    /// It was settled, and this caller is given the success.
    Settled(Box<Settlement>),
    /// The same, by a transaction that somebody else has sent.
    External(Box<Settlement>),
    /// Nothing is recorded: the Worker must find out more, and ask again. Nothing was counted.
    FindOut,
}

impl Outcome {
    /// Whether it is the last word on the payment, to be repeated under an `Idempotency-Key`.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        match self {
            Self::Valid(_) | Self::Settle(_) | Self::Taken(..) | Self::FindOut => false,
            Self::Refused(_, reason, _) => matches!(reason.repeat(), Repeat::Recorded),
            Self::Settled(_) | Self::External(_) => true,
        }
    }

    /// Whether it gives a success away.
    #[must_use]
    pub const fn is_success(&self) -> bool {
        matches!(self, Self::Settled(_) | Self::External(_))
    }
}

/// An authorization's row to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentRow {
    /// What the chain lets happen once.
    pub authorization: String,
    /// The requirements.
    pub fingerprint: String,
    /// SHA-256 of the signature, hex.
    pub proof: String,
    /// Its settlement.
    pub settlement: Option<SettlementId>,
    /// Until when it is remembered without one.
    pub expires_at: UnixMillis,
}

/// What a booked request leaves behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Booked {
    /// The answer.
    pub outcome: Outcome,
    /// The authorization's row.
    pub row: Option<PaymentRow>,
    /// The settlement to write.
    pub kept: Option<Kept>,
    /// What is claimed of the settlement's transaction.
    pub claim: Option<Unit>,
}

impl Booked {
    const fn only(outcome: Outcome) -> Self {
        Self { outcome, row: None, kept: None, claim: None }
    }
}

/// What the ledger knows when it answers.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// The tenant.
    pub tenant: &'a Tenant,
    /// The sanctions list.
    pub sanctions: Option<&'a sanctions::List>,
    /// What is recorded.
    pub records: &'a Records,
}

/// A request that may be answered, or is refused in the protocol's own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    key: KeyId,
    refusal: Option<(Reason, String)>,
}

/// Admits a request. Counts nothing.
///
/// # Errors
/// A [`Stop`]: a fault of the key, the rates or the quota, or [`Stop::Register`] in test.
pub fn admit(
    asked: &Asked,
    tenant: &Tenant,
    admission: &Admission,
    records: &Records,
    now: UnixMillis,
) -> Result<Admitted, Stop> {
    let scope = match asked.verb {
        Verb::Verify => Scope::Verify,
        Verb::Settle => Scope::Settle,
    };
    let key = authorise(tenant, &asked.key, Some(scope), now)?.id;
    if let Some(idempotency) = &asked.idempotency {
        recall(records.stored.as_ref(), &idempotency.body_hash, now)?;
    }
    let network = asked.network.as_deref().and_then(network::by_key);
    let refusal = match (network, &asked.terms) {
        (Some(network), Some(terms)) => allowed(asked, network, terms, tenant),
        (Some(network), None) => open(asked, network, tenant),
        (None, _) => None,
    };
    // A payment counts once: what was counted may be settled though the quota is used up.
    match within_limits(admission, tenant, now) {
        Err(fault) if fault.code == Code::QuotaExceeded && records.row.is_some() => {}
        outcome => outcome?,
    }
    let pay_to = asked.terms.as_ref().map(|terms| terms.pay_to).filter(|pay_to| !tenant.holds(pay_to));
    match pay_to.filter(|_| network.is_some() && refusal.is_none() && asked.finding.is_use()) {
        Some(pay_to) => Err(Stop::Register(pay_to)),
        None => Ok(Admitted { key, refusal }),
    }
}

fn open(asked: &Asked, network: &Network, tenant: &Tenant) -> Option<(Reason, String)> {
    let refused = |why: &str| Some((Reason::NetworkNotEnabled, format!("'{}' {why}", network.key)));
    match (tenant.tier.includes(network), asked.chain_on) {
        (false, _) => refused("is not open to this key"),
        (true, false) => refused("is off until the registry check has passed"),
        (true, true) => None,
    }
}

/// Why a payment is refused whatever the chain says. In test, a `payTo` that the tenant may register passes until that
/// was tried.
fn allowed(asked: &Asked, network: &Network, terms: &Terms, tenant: &Tenant) -> Option<(Reason, String)> {
    if let Some(refusal) = open(asked, network, tenant) {
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
pub fn conclude(
    asked: &Asked,
    admitted: Admitted,
    admission: &mut Admission,
    known: Known<'_>,
    now: UnixMillis,
) -> Result<Booked, Fault> {
    let refused = |reason, message| Booked::only(Outcome::Refused(asked.finding.checks(), reason, message));
    let first = first_word(asked, admitted.refusal, known, now);
    if first.is_none() && matches!(asked.finding, Finding::Deferred | Finding::Used(..)) {
        return Ok(Booked::only(Outcome::FindOut));
    }
    admission.count(admitted.key, now);
    if let Some(booked) = first {
        return Ok(booked);
    }
    match (&asked.finding, asked.verb, &asked.terms) {
        (Finding::Unavailable | Finding::Deferred | Finding::Used(..), ..) => {
            Err(Fault::new(Code::ChainUnavailable, "no provider gave a usable answer")
                .after(crate::verification::book::CHAIN_RETRY_S))
        }
        // Refused payments count against the rates, never against the quota, and leave no row.
        (Finding::Refused(_, reason, message), ..) => Ok(refused(*reason, message.clone())),
        (Finding::External(checks, id, units), Verb::Settle, Some(terms)) => {
            let mut kept = reserve(asked, terms, known, now);
            let own = ClaimId::Settlement(kept.settlement.id);
            let Ok(unit) = free_unit(&known.records.held, units, own) else {
                // Its transfer is spent already: for this request the authorization is only used up.
                let message = "the authorization was used, and its transfer is claimed".to_owned();
                return Ok(Booked::only(Outcome::Refused(checks.clone(), Reason::EvmNonceUsed, message)));
            };
            count(admission, known);
            let taken = complete(&mut kept, asked, id, now);
            let row = Some(row(terms, Some(kept.settlement.id), now));
            let settlement = Box::new(kept.settlement.clone());
            let outcome = match taken {
                Taken::Success => Outcome::External(settlement),
                // Goods were given for an attempt that has left the chain.
                Taken::Lease | Taken::Nothing => {
                    let message = "this payment was handed over before".to_owned();
                    Outcome::Taken(checks.clone(), Reason::DuplicateSettlement, message, settlement)
                }
            };
            Ok(Booked { row, kept: Some(kept), claim: Some(unit), ..Booked::only(outcome) })
        }
        (Finding::Good(checks) | Finding::External(checks, ..), Verb::Verify, Some(terms)) => {
            if let Some(message) = held_back(asked, admission, known, now) {
                return Ok(refused(Reason::QuotaExceeded, message));
            }
            count(admission, known);
            let row = renews(terms, known.records.row.as_ref(), now).then(|| row(terms, None, now));
            Ok(Booked { row, ..Booked::only(Outcome::Valid(checks.clone())) })
        }
        (Finding::Good(_), Verb::Settle, Some(terms)) => {
            if let Some(message) = held_back(asked, admission, known, now) {
                return Ok(refused(Reason::QuotaExceeded, message));
            }
            let network = asked.network.as_deref().unwrap_or_default();
            let ask = Ask { worst: terms.worst, has_paid: known.records.has_paid };
            let reserve_of = match admission.spending.reserve(network, ask, asked.budget, now) {
                Ok(reserve_of) => reserve_of,
                Err(message) => return Ok(refused(Reason::QuotaExceeded, message.to_owned())),
            };
            count(admission, known);
            let mut kept = reserve(asked, terms, known, now);
            kept.course.reserve = Some(reserve_of);
            kept.take(asker(asked), now);
            let outcome = Outcome::Settle(Box::new(reserved(&kept, known.tenant)));
            let row = Some(row(terms, Some(kept.settlement.id), now));
            Ok(Booked { row, kept: Some(kept), ..Booked::only(outcome) })
        }
        (Finding::Good(_) | Finding::External(..), _, None) => Err(Fault::internal("a payment without terms")),
    }
}

fn asker(asked: &Asked) -> Asker<'_> {
    Asker { request: asked.request_id, key: asked.idempotency.as_ref().map(|idempotency| idempotency.key.as_str()) }
}

/// A payment that this ledger had not heard of counts against the quota, once.
const fn count(admission: &mut Admission, known: Known<'_>) {
    if known.records.row.is_none() {
        admission.used = admission.used.saturating_add(1);
    }
}

fn row(terms: &Terms, settlement: Option<SettlementId>, now: UnixMillis) -> PaymentRow {
    let end = terms.valid_before.map_or(now, |end| end.millis());
    PaymentRow {
        authorization: terms.authorization.clone(),
        fingerprint: terms.fingerprint.clone(),
        proof: terms.proof.clone(),
        settlement,
        expires_at: end.plus(REMEMBERED_MS),
    }
}

/// Whether a verified payment's row is to be written: it is new, or (on Solana) was last asked for long ago.
fn renews(terms: &Terms, known: Option<&Row>, now: UnixMillis) -> bool {
    let Some(row) = known else { return true };
    let fresh = now.plus(REMEMBERED_MS.saturating_sub(RENEWED_MS));
    terms.valid_before.is_none() && row.kept.is_none() && row.expires_at.is_none_or(|at| at < fresh)
}

/// Where settlements of this seller have failed too often today, only payers who have completed
/// one are launched, one at a time.
fn held_back(asked: &Asked, admission: &Admission, known: Known<'_>, now: UnixMillis) -> Option<String> {
    let network = asked.network.as_deref().unwrap_or_default();
    if !admission.spending.is_failing(network, asked.budget, now) {
        return None;
    }
    if !known.records.has_paid {
        return Some("settlements failed too often today: only payers who have paid this seller are served".to_owned());
    }
    let busy = admission.spending.in_flight(network, now);
    busy.then(|| "settlements failed too often today: one at a time is sent, and one is on its way".to_owned())
}

/// What is answered without looking further at the chain's word: refusals of the seller's own
/// account, a broken rule of the request, a conflict of identifiers, or the payment's record.
fn first_word(asked: &Asked, refusal: Option<(Reason, String)>, known: Known<'_>, now: UnixMillis) -> Option<Booked> {
    let checks = || asked.finding.checks();
    let refused = |reason, message| Some(Booked::only(Outcome::Refused(checks(), reason, message)));
    if let Some((reason, message)) = refusal {
        return refused(reason, message);
    }
    let terms = asked.terms.as_ref()?;
    if let Some(listed) = sanctioned(terms, known) {
        return refused(Reason::SanctionedAddress, format!("{listed} is on the sanctions list"));
    }
    // Every request obeys the static rules first, also one whose payment is recorded
    // (docs/spec/protocol.md#p-3-4-6).
    if asked.finding.is_static() {
        return None;
    }
    let row = known.records.row.as_ref();
    let is_signed = asked.finding.is_signed(terms) || row.is_some_and(|row| row.proof.as_ref() == Some(&terms.proof));
    if let Some((authorization, other)) = &known.records.identified
        && let Some(kept) = other.kept.as_ref().filter(|kept| kept.is_live())
        && (*authorization != terms.authorization || !other.is_of(terms))
    {
        if asked.finding == Finding::Deferred && !is_signed {
            return None;
        }
        let message = "this payment identifier came before with another payment".to_owned();
        // Only to the payer, who is proven by the signature, the first payment is named.
        return if is_signed {
            let settlement = Box::new(kept.settlement.clone());
            Some(Booked::only(Outcome::Taken(checks(), Reason::IdentifierConflict, message, settlement)))
        } else {
            refused(Reason::IdentifierConflict, message)
        };
    }
    let row = row.filter(|_| is_signed)?;
    recorded(asked, terms, row, known, now)
}

/// What is answered of a payment that this ledger has reserved before (docs/spec/protocol.md#p-3-4-7).
fn recorded(asked: &Asked, terms: &Terms, row: &Row, known: Known<'_>, now: UnixMillis) -> Option<Booked> {
    // What has failed moved nothing: if the payment is still good, it is tried again.
    let kept = row.kept.as_ref().filter(|kept| kept.is_live())?;
    let taken = |message: &str| {
        let settlement = Box::new(kept.settlement.clone());
        Booked::only(Outcome::Taken(
            asked.finding.checks(),
            Reason::DuplicateSettlement,
            message.to_owned(),
            settlement,
        ))
    };
    if !row.is_of(terms) {
        return Some(taken("this payment is bound to other requirements"));
    }
    let why = match kept.settlement.handed_over {
        Some(_) => "this payment was handed over before",
        None => "another request waits for this payment",
    };
    if asked.verb == Verb::Verify {
        let open = kept.is_open(now);
        return Some(if open { Booked::only(Outcome::Valid(Checks::none())) } else { taken(why) });
    }
    let mut kept_now = kept.clone();
    let outcome = match kept_now.take(asker(asked), now) {
        Taken::Nothing => return Some(taken(why)),
        Taken::Success if kept_now.course.external => Outcome::External(Box::new(kept_now.settlement.clone())),
        Taken::Success => Outcome::Settled(Box::new(kept_now.settlement.clone())),
        Taken::Lease => Outcome::Settle(Box::new(reserved(&kept_now, known.tenant))),
    };
    Some(Booked { kept: Some(kept_now), ..Booked::only(outcome) })
}

fn sanctioned(terms: &Terms, known: Known<'_>) -> Option<Address> {
    let list = known.sanctions.filter(|_| known.tenant.sanctions == SanctionsPolicy::Refuse)?;
    [terms.payer, terms.pay_to].into_iter().find(|party| list.names(party))
}

fn reserved(kept: &Kept, tenant: &Tenant) -> Reserved {
    Reserved {
        settlement: kept.settlement.clone(),
        attempt: kept.course.attempt,
        signer: kept.course.signer,
        has_code: kept.course.has_code,
        max_fee_wei: kept.course.max_fee_wei,
        reserved_at: kept.course.reserved_at,
        free: tenant.tier == crate::tenancy::tier::Tier::Free,
    }
}

/// Somebody else has sent it: it is completed and given to this caller in one.
fn complete(kept: &mut Kept, asked: &Asked, id: &TxId, now: UnixMillis) -> Taken {
    kept.settlement.status = SettlementStatus::Completed;
    kept.settlement.transaction = Some(id.to_string());
    kept.settlement.completed_at = Some(now.rfc3339());
    kept.course.external = true;
    kept.take(asker(asked), now)
}

/// A new settlement, or one more attempt of one that failed.
fn reserve(asked: &Asked, terms: &Terms, known: Known<'_>, now: UnixMillis) -> Kept {
    let earlier = known.records.row.as_ref().and_then(|row| row.kept.as_ref());
    let fresh = SettlementId::new(now, asked.random.parse().unwrap_or_default());
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
        // Goods that were given for an attempt whose block has left the chain were given.
        handed_over: earlier.and_then(|earlier| earlier.settlement.handed_over.clone()),
    };
    let course = Course {
        attempt: earlier.map_or(0, |earlier| earlier.course.attempt.saturating_add(1)),
        signer: terms.signer,
        has_code: terms.has_code,
        max_fee_wei: terms.max_fee_wei,
        reserved_at: now,
        ..Course::default()
    };
    Kept { settlement, course }
}

#[cfg(test)]
mod tests;

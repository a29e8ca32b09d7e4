//! One x402 payment, booked: what the Worker found out goes in; whether it may
//! be answered, settled, or was settled already comes out (DESIGN sections 3 and 6).

use super::admission::{Admission, Stop, Stored, authorise, recall, within_limits};
use super::book::Idempotency;
use crate::address::{Address, TxId};
use crate::amount::Amount;
use crate::error::{Code, Fault};
use crate::id::{KeyId, RequestId, SettlementId};
use crate::network::{self, Environment, Network};
use crate::payment::Checks;
use crate::payment::settlement::{Settlement, SettlementStatus};
use crate::reason::Reason;
use crate::sanctions;
use crate::tenant::key::KeyHash;
use crate::tenant::{Scope, Tenant};
use crate::time::{UnixMillis, UnixSeconds};
use crate::verdict::SanctionsPolicy;
use alloy_primitives::B256;
use serde::{Deserialize, Serialize};

/// What is wanted of the payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verb {
    /// Only a verdict.
    Verify,
    /// The money.
    Settle,
}

/// One request as the Worker hands it to the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The key that asks.
    pub key: KeyHash,
    /// The HTTP request.
    pub request_id: RequestId,
    /// What is wanted.
    pub verb: Verb,
    /// The network as the request wrote it: an answer echoes it.
    pub network_text: String,
    /// Our key of the network; `None` where the request names none that is known.
    pub network: Option<String>,
    /// In test: whether `payTo` was found to be another tenant's.
    pub pay_to_taken: bool,
    /// Whether the registry check lets it be used.
    pub chain_on: bool,
    /// Who pays, where the payload says.
    pub payer: Option<Address>,
    /// What was signed, where it is whole.
    pub terms: Option<Terms>,
    /// What the rules said.
    pub finding: Finding,
    /// The most transactions that are sent for a tenant on a network in a day.
    pub daily: u64,
    /// The `Idempotency-Key` of a settlement, with the SHA-256 of the body; a verification is always about now.
    pub idempotency: Option<Idempotency>,
    /// The buyer's own name for the payment (the extension `payment-identifier`).
    pub identifier: Option<String>,
    /// 80 random bits for an id, as decimal digits.
    pub random: String,
}

/// The members of an authorization that the ledger decides by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// Network, asset, payer and nonce: what the chain lets happen once.
    pub authorization: String,
    /// Scheme, network, asset, amount and `payTo`; in version 1 the resource too, which is the seller's own word
    /// there.
    pub fingerprint: String,
    /// Who pays.
    pub payer: Address,
    /// Who is paid.
    pub pay_to: Address,
    /// How much.
    pub amount: Amount,
    /// Who of us would send it, if it is reserved now.
    pub signer: Option<Address>,
    /// SHA-256 of the signature's bytes as they were given, hex; empty on Solana, where the authorization is the
    /// signed transaction itself.
    #[serde(default)]
    pub proof: String,
    /// From when on the authorization is worthless (EVM `validBefore`); `None` on Solana.
    #[serde(default)]
    pub valid_before: Option<UnixSeconds>,
    /// The most that sending it may cost the signer, in the chain's smallest unit (wei): its gas at the worst price.
    #[serde(default)]
    pub worst: u128,
}

/// What the chain lets happen once: network, asset, payer and nonce.
#[must_use]
pub fn authorization(network: &Network, payer: &Address, nonce: &B256) -> String {
    format!("{}/{}/{}/0x{}", network.caip2, network.asset.text, payer.plain(), hex::encode(nonce))
}

/// The same on Solana: the transaction itself, by the name that our signature gives it.
#[must_use]
pub fn transaction(network: &Network, id: &TxId) -> String {
    format!("{}/{id}", network.caip2)
}

/// What the rules said of a payment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Finding {
    /// It is good.
    Good(Checks),
    /// It is not.
    Refused(Checks, Reason, String),
    /// Somebody else has put it on the chain, by this transaction: the money has moved.
    External(Checks, TxId),
    /// The chain did not tell.
    Unavailable,
    /// The chain was not asked yet: only say whether it should be.
    Deferred,
}

impl Finding {
    /// Each rule that was looked at, with its outcome.
    #[must_use]
    pub fn checks(&self) -> Checks {
        match self {
            Self::Good(checks) | Self::Refused(checks, ..) | Self::External(checks, _) => checks.clone(),
            Self::Unavailable | Self::Deferred => Checks::none(),
        }
    }
}

/// What this ledger knows of an authorization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The requirements it was first asked for.
    pub fingerprint: String,
    /// Its settlement, once it is reserved.
    pub settlement: Option<Settlement>,
    /// Who of us sends it, fixed when it was reserved.
    pub signer: Option<Address>,
}

/// All that is recorded and could matter to a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// Of the authorization.
    pub row: Option<Row>,
    /// Of the payment that came first under the same identifier: its authorization and the rest.
    pub identified: Option<(String, Row)>,
    /// Of the `Idempotency-Key`.
    pub stored: Option<Stored>,
    /// Whether the transaction of [`Finding::External`] is claimed.
    pub claimed: bool,
}

/// A settlement that the Settler goes on with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reserved {
    /// How it stands.
    pub settlement: Settlement,
    /// Who of us sends it.
    pub signer: Option<Address>,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is good.
    Valid(Checks),
    /// It is not.
    Refused(Checks, Reason, String),
    /// Reserved, or on its way: the Settler goes on.
    Settle(Box<Reserved>),
    /// It was settled before, for the same requirements, or is on its way as another authorization.
    Settled(Box<Settlement>),
    /// Somebody else has settled it.
    External(Box<Settlement>),
}

impl Outcome {
    /// Whether it is the last word on the payment, to be repeated under an `Idempotency-Key`.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        match self {
            Self::Valid(_) | Self::Settle(_) => false,
            Self::Refused(_, reason, _) => !reason.may_pass(),
            Self::Settled(settlement) => matches!(settlement.status, SettlementStatus::Completed),
            Self::External(_) => true,
        }
    }
}

/// What a booked request leaves behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Booked {
    /// The answer.
    pub outcome: Outcome,
    /// The authorization's row to write: authorization, fingerprint, settlement.
    pub row: Option<(String, String, Option<SettlementId>)>,
    /// The settlement to write.
    pub settlement: Option<Settlement>,
    /// Who of us sends it: to write with the settlement.
    pub signer: Option<Address>,
}

impl Booked {
    const fn only(outcome: Outcome) -> Self {
        Self { outcome, row: None, settlement: None, signer: None }
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
        (Some(network), Some(terms)) => allowed(asked, network, terms, tenant)?,
        (Some(network), None) => open(asked, network, tenant),
        (None, _) => None,
    };
    // A payment counts once: what was counted may be settled though the quota is used up.
    match within_limits(admission, tenant, now) {
        Err(fault) if fault.code == Code::QuotaExceeded && records.row.is_some() => {}
        outcome => outcome?,
    }
    Ok(Admitted { key, refusal })
}

fn open(asked: &Asked, network: &Network, tenant: &Tenant) -> Option<(Reason, String)> {
    let told = |why: &str| Some((Reason::NetworkNotEnabled, format!("'{}' {why}", network.key)));
    match (tenant.tier.includes(network), asked.chain_on) {
        (false, _) => told("is not open to this key"),
        (true, false) => told("is off until the registry check has passed"),
        (true, true) => None,
    }
}

fn allowed(asked: &Asked, network: &Network, terms: &Terms, tenant: &Tenant) -> Result<Option<(Reason, String)>, Stop> {
    if let Some(refusal) = open(asked, network, tenant) {
        return Ok(Some(refusal));
    }
    if !tenant.holds(&terms.pay_to) {
        if tenant.environment == Environment::Test && !asked.pay_to_taken {
            return Err(Stop::Register(terms.pay_to));
        }
        return Ok(Some((Reason::PayToNotAllowed, format!("{} is not registered", terms.pay_to))));
    }
    let least = network.settle.map_or(0, |settle| settle.min_atomic);
    if terms.amount < Amount::atomic(least) {
        return Ok(Some((Reason::BelowMinimum, format!("at least {least} atomic units are settled here"))));
    }
    Ok(None)
}

/// Answers an admitted request, counts it and says what to write.
///
/// # Errors
/// `CHAIN_UNAVAILABLE` where the chain did not tell and nothing is recorded that could be told instead.
pub fn conclude(
    asked: &Asked,
    admitted: Admitted,
    admission: &mut Admission,
    known: Known<'_>,
    now: UnixMillis,
) -> Result<Booked, Fault> {
    let row = known.records.row.as_ref();
    admission.count(admitted.key, now);
    let refused = |reason, told| Booked::only(Outcome::Refused(checks(asked), reason, told));
    if let Some((reason, told)) = admitted.refusal {
        return Ok(refused(reason, told));
    }
    if let Some(listed) = asked.terms.as_ref().and_then(|terms| sanctioned(terms, known)) {
        return Ok(refused(Reason::SanctionedAddress, format!("{listed} is on the sanctions list")));
    }
    if let Some(outcome) = asked.terms.as_ref().and_then(|terms| told_before(asked, terms, known.records)) {
        return Ok(Booked::only(outcome));
    }
    let first = asked.terms.as_ref().filter(|_| row.is_none());
    let new = |settlement| first.map(|terms| (terms.authorization.clone(), terms.fingerprint.clone(), settlement));
    let count = |admission: &mut Admission| {
        if first.is_some() {
            admission.used = admission.used.saturating_add(1);
        }
    };
    let mut finding = asked.finding.clone();
    if let Finding::External(checks, _) = &finding
        && known.records.claimed
    {
        // Its transaction is spent already: for this request the authorization is only used up.
        let told = "the authorization was used, and its transaction is claimed".to_owned();
        finding = Finding::Refused(checks.clone(), Reason::EvmNonceUsed, told);
    }
    match (finding, asked.verb, &asked.terms) {
        (Finding::Unavailable | Finding::Deferred, ..) => {
            Err(Fault::new(Code::ChainUnavailable, "no provider gave a usable answer")
                .after(super::book::CHAIN_RETRY_S))
        }
        (Finding::Refused(checks, reason, told), ..) => {
            count(admission);
            Ok(Booked { row: new(None), ..Booked::only(Outcome::Refused(checks, reason, told)) })
        }
        (Finding::External(_, id), Verb::Settle, Some(terms)) => {
            count(admission);
            let mut settlement = reserve(asked, terms, row, now);
            settlement.status = SettlementStatus::Completed;
            settlement.transaction = Some(id.to_string());
            settlement.completed_at = Some(now.rfc3339());
            let row = Some((terms.authorization.clone(), terms.fingerprint.clone(), Some(settlement.id)));
            let outcome = Outcome::External(Box::new(settlement.clone()));
            Ok(Booked { row, settlement: Some(settlement), ..Booked::only(outcome) })
        }
        (Finding::Good(checks) | Finding::External(checks, _), verb, terms)
            if verb == Verb::Verify || terms.is_none() =>
        {
            count(admission);
            Ok(Booked { row: new(None), ..Booked::only(Outcome::Valid(checks)) })
        }
        (Finding::Good(_) | Finding::External(..), _, terms) => {
            let Some(terms) = terms else { return Err(Fault::internal("a payment without terms")) };
            let network = asked.network.as_deref().unwrap_or_default();
            if !admission.send(network, asked.daily, now) {
                let told = format!("{} transactions were sent for this seller today", asked.daily);
                return Ok(refused(Reason::QuotaExceeded, told));
            }
            count(admission);
            let settlement = reserve(asked, terms, row, now);
            let row = Some((terms.authorization.clone(), terms.fingerprint.clone(), Some(settlement.id)));
            let signer = terms.signer;
            let outcome = Outcome::Settle(Box::new(Reserved { settlement: settlement.clone(), signer }));
            Ok(Booked { row, settlement: Some(settlement), signer, ..Booked::only(outcome) })
        }
    }
}

/// What is told without looking further: a conflict of identifiers, or the
/// record of a payment that was reserved before.
fn told_before(asked: &Asked, terms: &Terms, records: &Records) -> Option<Outcome> {
    let identified = records.identified.as_ref().filter(|(authorization, _)| *authorization != terms.authorization);
    if let Some((_, other)) = identified
        && let Some(settlement) = &other.settlement
    {
        if other.fingerprint != terms.fingerprint || settlement.payer != terms.payer.to_string() {
            let told = "this payment identifier came before with another payment".to_owned();
            return Some(Outcome::Refused(checks(asked), Reason::IdentifierConflict, told));
        }
        // The buyer has signed anew what is paid, or on its way: nobody pays twice.
        // That it is the same buyer is proven by the signature.
        if asked.verb == Verb::Settle && settlement.status != SettlementStatus::Failed && is_signed(&asked.finding) {
            return Some(Outcome::Settled(Box::new(settlement.clone())));
        }
    }
    match (asked.verb, &records.row) {
        (Verb::Settle, Some(row)) => {
            let settlement = row.settlement.as_ref()?;
            recorded(asked, terms, &row.fingerprint, Reserved { settlement: settlement.clone(), signer: row.signer })
        }
        (Verb::Settle, None) | (Verb::Verify, _) => None,
    }
}

fn checks(asked: &Asked) -> Checks {
    asked.finding.checks()
}

fn sanctioned(terms: &Terms, known: Known<'_>) -> Option<Address> {
    let list = known.sanctions.filter(|_| known.tenant.sanctions == SanctionsPolicy::Refuse)?;
    [terms.payer, terms.pay_to].into_iter().find(|party| list.names(party))
}

/// What the chain says only once the payer's signature is known to be good:
/// where a payment is recorded, the record says more.
const fn is_later(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::EvmNoEip3009
            | Reason::EvmNonceUsed
            | Reason::EvmBalance
            | Reason::EvmSimulation
            | Reason::SvmSimulation
            | Reason::SvmSimulationV1
    )
}

/// Whether the payer's signature was found good.
const fn is_signed(finding: &Finding) -> bool {
    match finding {
        Finding::Good(_) | Finding::External(..) => true,
        Finding::Refused(_, reason, _) => is_later(*reason),
        Finding::Unavailable | Finding::Deferred => false,
    }
}

/// What is told of a payment that this ledger has reserved before (PROTOCOL 3.4).
fn recorded(asked: &Asked, terms: &Terms, fingerprint: &str, reserved: Reserved) -> Option<Outcome> {
    if let Finding::Refused(checks, reason, told) = &asked.finding
        && !is_later(*reason)
        // It was good when it was reserved; what has expired since has been paid in time.
        && *reason != Reason::EvmValidBefore
    {
        return Some(Outcome::Refused(checks.clone(), *reason, told.clone()));
    }
    if fingerprint != terms.fingerprint {
        let told = "this payment is bound to other requirements".to_owned();
        return Some(Outcome::Refused(checks(asked), Reason::DuplicateSettlement, told));
    }
    match reserved.settlement.status {
        SettlementStatus::Completed => Some(Outcome::Settled(Box::new(reserved.settlement))),
        SettlementStatus::Pending => Some(Outcome::Settle(Box::new(reserved))),
        // It moved nothing: if the payment is still good, it is tried again.
        SettlementStatus::Failed => None,
    }
}

/// A new settlement, or one more attempt of one that failed.
fn reserve(asked: &Asked, terms: &Terms, row: Option<&Row>, now: UnixMillis) -> Settlement {
    let earlier = row.and_then(|row| row.settlement.as_ref());
    let fresh = SettlementId::new(now, asked.random.parse().unwrap_or_default());
    let network = asked.network.as_deref().and_then(network::by_key);
    Settlement {
        id: earlier.map_or(fresh, |earlier| earlier.id),
        status: SettlementStatus::Pending,
        reason: None,
        network: network.map_or_else(String::new, |network| network.caip2.to_owned()),
        transaction: None,
        payer: terms.payer.to_string(),
        pay_to: terms.pay_to.to_string(),
        amount: terms.amount.to_string(),
        asset: network.map_or_else(String::new, |network| network.asset.text.to_owned()),
        created_at: earlier.map_or_else(|| now.rfc3339(), |earlier| earlier.created_at.clone()),
        completed_at: None,
        attempts: earlier.map_or_else(Vec::new, |earlier| earlier.attempts.clone()),
    }
}

#[cfg(test)]
mod tests;

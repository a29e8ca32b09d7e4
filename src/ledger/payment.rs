//! One x402 payment, booked: what the Worker found out goes in; whether it may
//! be answered, settled, or was settled already comes out (DESIGN sections 3 and 6).

use super::admission::{Admission, Stop, authorise, within_limits};
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
use crate::time::UnixMillis;
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
    /// 80 random bits for an id, as decimal digits.
    pub random: String,
}

/// The members of an authorization that the ledger decides by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// Network, asset, payer and nonce: what the chain lets happen once.
    pub authorization: String,
    /// Scheme, network, asset, amount, `payTo` and resource.
    pub fingerprint: String,
    /// Who pays.
    pub payer: Address,
    /// Who is paid.
    pub pay_to: Address,
    /// How much.
    pub amount: Amount,
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
    /// The chain did not tell.
    Unavailable,
    /// The chain was not asked yet: only say whether it should be.
    Deferred,
}

/// What this ledger knows of an authorization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The requirements it was first asked for.
    pub fingerprint: String,
    /// Its settlement, once it is reserved.
    pub settlement: Option<Settlement>,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is good.
    Valid(Checks),
    /// It is not.
    Refused(Checks, Reason, String),
    /// Reserved, or on its way: the Settler goes on.
    Settle(Box<Settlement>),
    /// It was settled before, for the same requirements.
    Settled(Box<Settlement>),
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
}

/// What the ledger knows when it answers.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// The tenant.
    pub tenant: &'a Tenant,
    /// The sanctions list.
    pub sanctions: Option<&'a sanctions::List>,
    /// What is recorded of the authorization.
    pub row: Option<&'a Row>,
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
    row: Option<&Row>,
    now: UnixMillis,
) -> Result<Admitted, Stop> {
    let scope = match asked.verb {
        Verb::Verify => Scope::Verify,
        Verb::Settle => Scope::Settle,
    };
    let key = authorise(tenant, &asked.key, Some(scope), now)?.id;
    let network = asked.network.as_deref().and_then(network::by_key);
    let refusal = match (network, &asked.terms) {
        (Some(network), Some(terms)) => allowed(asked, network, terms, tenant)?,
        (Some(network), None) => open(asked, network, tenant),
        (None, _) => None,
    };
    // A payment counts once: what was counted may be settled though the quota is used up.
    match within_limits(admission, tenant, now) {
        Err(fault) if fault.code == Code::QuotaExceeded && row.is_some() => {}
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
    let row = known.row;
    admission.count(admitted.key, now);
    let refused =
        |reason, told| Booked { outcome: Outcome::Refused(checks(asked), reason, told), row: None, settlement: None };
    if let Some((reason, told)) = admitted.refusal {
        return Ok(refused(reason, told));
    }
    if let Some(listed) = asked.terms.as_ref().and_then(|terms| sanctioned(terms, known)) {
        return Ok(refused(Reason::SanctionedAddress, format!("{listed} is on the sanctions list")));
    }
    if asked.verb == Verb::Settle
        && let (Some(terms), Some(Row { fingerprint, settlement: Some(settlement) })) = (&asked.terms, row)
        && let Some(outcome) = recorded(asked, terms, fingerprint, settlement)
    {
        return Ok(Booked { outcome, row: None, settlement: None });
    }
    let first = asked.terms.as_ref().filter(|_| row.is_none());
    let new = |settlement| first.map(|terms| (terms.authorization.clone(), terms.fingerprint.clone(), settlement));
    let count = |admission: &mut Admission| {
        if first.is_some() {
            admission.used = admission.used.saturating_add(1);
        }
    };
    match (&asked.finding, asked.verb, &asked.terms) {
        (Finding::Unavailable | Finding::Deferred, ..) => {
            Err(Fault::new(Code::ChainUnavailable, "no provider gave a usable answer")
                .after(super::book::CHAIN_RETRY_S))
        }
        (Finding::Refused(checks, reason, told), ..) => {
            count(admission);
            Ok(Booked {
                outcome: Outcome::Refused(checks.clone(), *reason, told.clone()),
                row: new(None),
                settlement: None,
            })
        }
        (Finding::Good(checks), Verb::Verify, _) | (Finding::Good(checks), Verb::Settle, None) => {
            count(admission);
            Ok(Booked { outcome: Outcome::Valid(checks.clone()), row: new(None), settlement: None })
        }
        (Finding::Good(_), Verb::Settle, Some(terms)) => {
            count(admission);
            let settlement = reserve(asked, terms, row, now);
            let row = Some((terms.authorization.clone(), terms.fingerprint.clone(), Some(settlement.id)));
            Ok(Booked { outcome: Outcome::Settle(Box::new(settlement.clone())), row, settlement: Some(settlement) })
        }
    }
}

fn checks(asked: &Asked) -> Checks {
    match &asked.finding {
        Finding::Good(checks) | Finding::Refused(checks, ..) => checks.clone(),
        Finding::Unavailable | Finding::Deferred => Checks::none(),
    }
}

fn sanctioned(terms: &Terms, known: Known<'_>) -> Option<Address> {
    let list = known.sanctions.filter(|_| known.tenant.sanctions == SanctionsPolicy::Refuse)?;
    [terms.payer, terms.pay_to].into_iter().find(|party| list.names(party))
}

/// A rule that only the free checks can break: with it broken, nothing that is recorded counts.
const fn is_free(reason: Reason) -> bool {
    !matches!(
        reason,
        Reason::EvmSignature
            | Reason::EvmFactory
            | Reason::EvmAsset
            | Reason::EvmNoEip3009
            | Reason::EvmNonceUsed
            | Reason::EvmBalance
            | Reason::EvmSimulation
            | Reason::EvmValidBefore
            | Reason::SvmSimulation
            | Reason::SvmSimulationV1
    )
}

/// What is told of a payment that this ledger has reserved before (PROTOCOL 3.4).
fn recorded(asked: &Asked, terms: &Terms, fingerprint: &str, settlement: &Settlement) -> Option<Outcome> {
    if let Finding::Refused(checks, reason, told) = &asked.finding
        && is_free(*reason)
    {
        return Some(Outcome::Refused(checks.clone(), *reason, told.clone()));
    }
    if fingerprint != terms.fingerprint {
        let told = "this payment is bound to other requirements".to_owned();
        return Some(Outcome::Refused(checks(asked), Reason::DuplicateSettlement, told));
    }
    match settlement.status {
        SettlementStatus::Completed => Some(Outcome::Settled(Box::new(settlement.clone()))),
        SettlementStatus::Pending => Some(Outcome::Settle(Box::new(settlement.clone()))),
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

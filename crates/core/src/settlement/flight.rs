//! One flight: the versions of its transaction, the next step while no block holds one of them, and how it ends.

use super::refusal::NodeAcceptance;
use super::{Flight, FlightPayload, SettlementReport};
use crate::settlement::status::{SettlementAttempt, SettlementStatus};
use crate::tenancy::budget::TransactionCost;
use alloy_primitives::B256;
use serde::{Deserialize, Serialize};
use x402_chain::address::{Address, TxId};
use x402_chain::amount::Amount;
use x402_chain::evm::sender::GasPrice;
use x402_chain::network::Network;
use x402_chain::reason::Reason;
use x402_chain::time::UnixMillis;
use x402_chain::trace::{MinedTransaction, Trace, TransactionState, Transfer};

/// A version without a receipt is sent again after this long.
const RESEND_MS: u64 = 10_000;
/// A version without a receipt is signed again at a higher price after this long, and so is the next.
const BUMP_MS: u64 = 30_000;
/// A version that no node has accepted is sent again after this long.
const OFFER_AGAIN_MS: u64 = 2_000;
/// A flight without an accepted version is given up after this long: before its caller, who waits 18 s.
const OFFERED_MS: u64 = 8_000;
/// A nonce that another transaction seems to have used counts as lost after this long.
const LOST_MS: u64 = 15_000;

/// Every version of a flight's transaction, the newest last. Those of one nonce exclude each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlightVersions {
    /// In the order in which they were signed.
    pub versions: Vec<FlightVersion>,
    /// Whether a block that held it has left the chain.
    #[serde(default)]
    pub reopened: bool,
    /// Since when nodes report, after its expiry, that another transaction used its nonce.
    #[serde(default)]
    pub lost_at: Option<UnixMillis>,
    /// The part of its cost that was charged to the day: a block that leaves the chain and comes back is charged once.
    #[serde(default)]
    pub charged: Option<TransactionCost>,
}

/// What a version of a flight's transaction is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VersionKind {
    /// It calls the token's transfer.
    #[default]
    Transfer,
    /// It transfers nothing and takes the nonce, so that the transfers can never be mined.
    Cancel,
}

/// One signed transaction of a flight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlightVersion {
    /// The bytes as they are sent: hex, or base64 on Solana.
    pub raw: String,
    /// The transaction's hash, or on Solana its first signature.
    pub id: TxId,
    /// The price of a unit of gas (EVM).
    pub price: Option<GasPrice>,
    /// The last block height that can hold it (Solana).
    pub until: Option<u64>,
    /// When it was signed; a higher price is due some time after.
    pub at: UnixMillis,
    /// A transfer, or a cancellation that only takes the nonce.
    #[serde(default)]
    pub kind: VersionKind,
    /// Whether a node has accepted the bytes, may have, or has not.
    #[serde(default)]
    pub handed: NodeAcceptance,
}

impl FlightVersions {
    /// The versions after the first was signed.
    #[must_use]
    pub fn first(version: FlightVersion) -> Self {
        Self { versions: vec![version], reopened: false, lost_at: None, charged: None }
    }

    /// Notes the cost of its transactions; returns the part that is not charged yet. Versions of one nonce exclude each
    /// other, so a version that replaces another is charged only the difference.
    pub fn note_cost(&mut self, spent: TransactionCost) -> Option<TransactionCost> {
        let before = self.charged.map_or(0, |charged| charged.total);
        let total = spent.total.checked_sub(before).filter(|more| *more > 0)?;
        self.charged = Some(spent);
        Some(TransactionCost { total, ..spent })
    }

    /// All signed transactions, as the seller reads them.
    #[must_use]
    pub(crate) fn attempts(&self) -> Vec<SettlementAttempt> {
        let attempt = |version: &FlightVersion| SettlementAttempt {
            transaction: version.id.to_string(),
            at: version.at.rfc3339(),
        };
        self.versions.iter().map(attempt).collect()
    }

    /// The version that was signed last.
    #[must_use]
    pub fn newest(&self) -> Option<&FlightVersion> {
        self.versions.last()
    }

    /// The newest version that is a transfer.
    #[must_use]
    pub fn transfer(&self) -> Option<&FlightVersion> {
        self.versions.iter().rfind(|version| version.kind == VersionKind::Transfer)
    }

    /// Whether a node has accepted any version, or may have.
    #[must_use]
    pub fn may_be_accepted(&self) -> bool {
        self.versions.iter().any(|version| version.handed != NodeAcceptance::No)
    }

    /// The newest transfer that a node has accepted, or may have.
    #[must_use]
    pub(crate) fn accepted_transfer(&self) -> Option<&FlightVersion> {
        self.versions
            .iter()
            .rfind(|version| version.kind == VersionKind::Transfer && version.handed != NodeAcceptance::No)
    }

    /// Whether no node has accepted a version for [`OFFERED_MS`]: then the flight is given up, and nothing of it is
    /// sent again.
    #[must_use]
    pub fn is_abandoned(&self, now: UnixMillis) -> bool {
        let since = self.versions.first().map(|version| version.at);
        !self.may_be_accepted() && since.is_some_and(|at| now.since(at) >= OFFERED_MS)
    }

    /// The version with this hash.
    #[must_use]
    pub fn version(&self, id: &TxId) -> Option<&FlightVersion> {
        self.versions.iter().find(|version| version.id == *id)
    }
}

impl Flight {
    /// Whether the authorization has expired: then no new transfer is signed.
    #[must_use]
    pub fn is_expired(&self, now: UnixMillis) -> bool {
        self.valid_before.is_some_and(|until| now.seconds() >= until)
    }

    /// The most for a unit of gas, wei; 0 on Solana.
    #[must_use]
    pub fn cap_wei(&self, network: &Network) -> u128 {
        let gas = network.settle.and_then(|settle| settle.gas());
        self.max_fee_wei.unwrap_or_else(|| gas.map_or(0, |gas| gas.max_fee_wei))
    }

    /// The gas limit of its transaction; 0 on Solana.
    #[must_use]
    pub const fn gas_limit(&self) -> u64 {
        match &self.cargo {
            FlightPayload::Evm(call) => call.gas_limit,
            FlightPayload::Svm(_) => 0,
        }
    }

    /// The transfer that an on-chain transaction must show to be this payment.
    #[must_use]
    pub fn expected_transfer(&self) -> ExpectedTransfer {
        let nonce = self.nonce.unwrap_or_default();
        ExpectedTransfer { payer: self.payer, pay_to: self.pay_to, amount: self.amount, nonce }
    }
}

/// The price, with its fee per gas limited to `cap_wei`.
#[must_use]
pub fn cap_price(price: GasPrice, cap_wei: u128) -> GasPrice {
    let max_wei = price.max_wei.min(cap_wei);
    GasPrice { max_wei, tip_wei: price.tip_wei.min(max_wei) }
}

/// The price of a version that replaces another: an eighth more, which nodes require, or the market's price, whichever
/// is higher. `None` where the cap is too low.
#[must_use]
pub fn replacement_price(newest: GasPrice, market: Option<GasPrice>, cap_wei: u128) -> Option<GasPrice> {
    let more = newest.raised_by_an_eighth(cap_wei)?;
    let higher = market.map_or(more, |market| GasPrice {
        max_wei: market.max_wei.max(more.max_wei),
        tip_wei: market.tip_wei.max(more.tip_wei),
    });
    Some(cap_price(higher, cap_wei))
}

/// Whether the next block's base fee is above a version's maximum: a node may have accepted it all the same. The
/// market's price allows for twice the base fee.
#[must_use]
pub const fn is_outpriced(newest: GasPrice, market: GasPrice) -> bool {
    market.max_wei / 2 > newest.max_wei
}

/// The most for a unit of gas in a transaction that only takes the nonce: the money set aside for the transfer pays for
/// it, and it uses less gas.
#[must_use]
pub fn cancel_cap_wei(flight: &Flight, network: &Network, gas: u64) -> u128 {
    let cap = flight.cap_wei(network);
    cap.saturating_mul(flight.gas_limit().into()).checked_div(gas.into()).unwrap_or(cap).max(cap)
}

/// The next step of a flight that is in no block (EVM).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlightStep {
    /// Do nothing in this turn.
    Wait,
    /// Send the newest version again.
    Resend,
    /// Sign the transfer at a higher price.
    Bump,
    /// Sign a transaction that only takes the nonce, or that at a higher price.
    Cancel,
    /// End it: no node has any version, and it has expired or is given up.
    End,
}

/// The next step of a flight that is in no block.
#[must_use]
pub fn next_flight_step(flight: &Flight, sent: &FlightVersions, now: UnixMillis) -> FlightStep {
    let Some(newest) = sent.newest() else { return FlightStep::Wait };
    let waited = now.since(newest.at);
    match newest.kind {
        VersionKind::Transfer if !sent.may_be_accepted() && (flight.is_expired(now) || sent.is_abandoned(now)) => {
            FlightStep::End
        }
        VersionKind::Transfer if flight.is_expired(now) => FlightStep::Cancel,
        VersionKind::Transfer if !sent.may_be_accepted() && waited >= OFFER_AGAIN_MS => FlightStep::Resend,
        VersionKind::Transfer if waited >= BUMP_MS => FlightStep::Bump,
        VersionKind::Cancel if waited >= BUMP_MS => FlightStep::Cancel,
        VersionKind::Transfer | VersionKind::Cancel if waited >= RESEND_MS => FlightStep::Resend,
        VersionKind::Transfer | VersionKind::Cancel => FlightStep::Wait,
    }
}

/// Whether an expired flight whose nonce another transaction used is lost for good: nodes reported it long enough ago
/// for a receipt of ours to have appeared.
#[must_use]
pub fn is_nonce_lost(sent: &FlightVersions, now: UnixMillis) -> bool {
    sent.lost_at.is_some_and(|at| now.since(at) >= LOST_MS)
}

/// The members of an authorization that a transaction's transfers and events are compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpectedTransfer {
    /// The address whose tokens move.
    pub payer: Address,
    /// The address that is paid (`payTo`).
    pub pay_to: Address,
    /// The amount, in the asset's atomic units.
    pub amount: Amount,
    /// The authorization's nonce.
    pub nonce: B256,
}

/// Which transfers of a transaction may be this authorization's, by [`Transfer::ordinal`]: the transfer beside its
/// event, if it pays what was signed; where no event is known, each that pays it and belongs to no other authorization.
#[must_use]
pub fn matching_units(mined: &MinedTransaction, signed: &ExpectedTransfer) -> Vec<u64> {
    let pays = |transfer: &&Transfer| {
        let parties = (transfer.from.as_ref(), transfer.to.as_ref());
        parties == (Some(&signed.payer), Some(&signed.pay_to)) && transfer.amount == signed.amount
    };
    let ours =
        |used: &&x402_chain::trace::UsedAuthorization| used.authorizer == signed.payer && used.nonce == signed.nonce;
    let own = mined.authorizations.iter().find(ours).and_then(|used| used.transfer);
    let taken = |transfer: &&Transfer| {
        mined.authorizations.iter().any(|used| used.transfer == Some(transfer.ordinal) && own != used.transfer)
    };
    let paying = mined.transfers.iter().filter(pays).filter(|transfer| !taken(transfer));
    paying.map(|transfer| transfer.ordinal).filter(|ordinal| own.is_none_or(|own| own == *ordinal)).collect()
}

/// How a version's trace ends its flight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlightEnding {
    /// `Completed` or `Failed`, never `Pending`.
    pub status: SettlementStatus,
    /// Why it failed; `None` where it is completed.
    pub reason: Option<Reason>,
    /// A sentence about a failure.
    pub message: String,
    /// Which transfers may be this payment's (EVM).
    pub units: Vec<u64>,
}

impl FlightEnding {
    /// The transfer is in a block; `units` are the logs that may be it.
    #[must_use]
    pub const fn completed(units: Vec<u64>) -> Self {
        Self { status: SettlementStatus::Completed, reason: None, message: String::new(), units }
    }

    /// The transfer is in no block, and cannot be.
    #[must_use]
    pub fn failed(reason: Reason, message: impl Into<String>) -> Self {
        Self { status: SettlementStatus::Failed, reason: Some(reason), message: message.into(), units: Vec::new() }
    }

    /// No node has accepted any version, and none is asked again.
    #[must_use]
    pub(crate) fn abandoned() -> Self {
        Self::failed(
            Reason::UnexpectedSettle,
            "no node accepted the transaction, and this attempt is over: send the same payment again",
        )
    }

    /// The end of a flight without an accepted version.
    #[must_use]
    pub fn never_accepted(flight: &Flight, now: UnixMillis) -> Self {
        if flight.is_expired(now) { Self::expired() } else { Self::abandoned() }
    }

    /// The authorization has expired, and no version can be mined.
    #[must_use]
    pub fn expired() -> Self {
        Self::failed(Reason::EvmValidBefore, "the authorization expired before a block held the transaction")
    }
}

/// How a version's trace ends its flight; `None` while it has no end.
#[must_use]
pub fn flight_ending(flight: &Flight, kind: VersionKind, trace: &Trace) -> Option<FlightEnding> {
    let TransactionState::Mined(mined) = &trace.found else { return None };
    if kind == VersionKind::Cancel {
        return Some(FlightEnding::expired());
    }
    let (failed, unmoved) = match flight.cargo {
        FlightPayload::Evm(_) => (Reason::EvmFailed, Reason::EvmEventMismatch),
        FlightPayload::Svm(_) => (Reason::SvmFailed, Reason::SvmUnconfirmed),
    };
    if let Some(failure) = &mined.failure {
        // The block came too late, although the transaction was sent in time: the payer is not at fault.
        if flight.valid_before.zip(mined.block.time).is_some_and(|(end, time)| time >= end) {
            return Some(FlightEnding::expired());
        }
        return Some(FlightEnding::failed(failed, format!("the transaction failed: {failure}")));
    }
    let units = match flight.cargo {
        FlightPayload::Evm(_) => matching_units(mined, &flight.expected_transfer()),
        FlightPayload::Svm(_) => Vec::new(),
    };
    let moved = match flight.cargo {
        FlightPayload::Evm(_) => !units.is_empty(),
        // Solana's balances show who gained and who lost, but not who paid whom.
        FlightPayload::Svm(_) => mined
            .transfers
            .iter()
            .any(|transfer| transfer.to.as_ref() == Some(&flight.pay_to) && transfer.amount == flight.amount),
    };
    let message = "the transaction succeeded without the transfer that was signed";
    Some(if moved { FlightEnding::completed(units) } else { FlightEnding::failed(unmoved, message) })
}

/// Whether a third party's transaction has used an authorization and moved its money.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ThirdPartyLookup {
    /// This transaction has settled it.
    Found {
        /// The transaction that used the authorization.
        id: TxId,
        /// Which of its transfers may be the payment, as [`matching_units`] has them.
        units: Vec<u64>,
    },
    /// No transaction has settled it.
    Nothing,
    /// No node gives a usable answer at present.
    Unknown,
}

/// The end of a flight that none of our own transactions has settled: the transaction that counts, the ending, and
/// whether a third party sent that transaction. `None` while it is unknown whether one has.
#[must_use]
pub fn failed_or_third_party(
    sent: &FlightVersions,
    own: (TxId, FlightEnding),
    lookup: ThirdPartyLookup,
) -> Option<(TxId, FlightEnding, bool)> {
    let (id, ending) = own;
    match lookup {
        ThirdPartyLookup::Nothing => Some((id, ending, false)),
        // An earlier version of ours may have been mined before a later one.
        ThirdPartyLookup::Found { id, units } => {
            let external = sent.version(&id).is_none();
            Some((id, FlightEnding::completed(units), external))
        }
        ThirdPartyLookup::Unknown => None,
    }
}

impl SettlementReport {
    /// The report of a failure before anything was sent.
    #[must_use]
    pub fn unsent(flight: &Flight, reason: Reason, message: impl Into<String>) -> Self {
        Self::of(flight, &FlightVersions::default(), None, FlightEnding::failed(reason, message))
    }

    /// The report of an open flight. It names a transaction where a node has accepted one, or may have: only then was
    /// one sent.
    #[must_use]
    pub fn pending(flight: &Flight, sent: &FlightVersions) -> Self {
        let pending = FlightEnding { status: SettlementStatus::Pending, ..FlightEnding::completed(Vec::new()) };
        Self::of(flight, sent, sent.accepted_transfer().map(|version| version.id), pending)
    }

    /// The report of a flight by its ending, and the transaction that counts.
    #[must_use]
    pub fn of(flight: &Flight, sent: &FlightVersions, transaction: Option<TxId>, ending: FlightEnding) -> Self {
        let FlightEnding { status, reason, message, units } = ending;
        Self {
            settlement: flight.settlement,
            attempt: Some(flight.attempt),
            status,
            reason,
            message,
            transaction: transaction.map(|id| id.to_string()),
            attempts: sent.attempts(),
            external: false,
            reorged: sent.reopened,
            units,
            spent: None,
            handed: sent.may_be_accepted(),
            poor: false,
            held_until: None,
        }
    }

    /// Adds the cost that is not charged yet.
    #[must_use]
    pub const fn with_cost(mut self, spent: Option<TransactionCost>) -> Self {
        self.spent = spent;
        self
    }
}

#[cfg(test)]
pub(super) mod tests;

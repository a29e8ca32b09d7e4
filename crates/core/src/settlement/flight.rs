//! One flight: the versions of its transaction, what is to be done while no
//! block holds one of them, and how it ends.

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

/// The same bytes are sent again after this long without a receipt.
const RESEND_MS: u64 = 10_000;
/// A higher price is offered after this long, and again.
const BUMP_MS: u64 = 30_000;
/// What no node has is offered again after this long.
const OFFER_AGAIN_MS: u64 = 2_000;
/// A flight of which no node has anything is given up after this long: sooner than its caller, who waits 18 s.
const OFFERED_MS: u64 = 8_000;
/// A nonce that another transaction seems to have used counts as lost after this long.
const LOST_MS: u64 = 15_000;

/// Every version of a flight's transaction, the newest last. Those of one nonce exclude each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlightVersions {
    /// In the order in which they were signed.
    pub versions: Vec<FlightVersion>,
    /// Whether it was in a block that has left the chain.
    #[serde(default)]
    pub reopened: bool,
    /// Since when its nonce is said to be used by somebody else's transaction, after its time.
    #[serde(default)]
    pub lost_at: Option<UnixMillis>,
    /// What of it was charged to the day already: a block that leaves the chain and comes back takes nothing twice.
    #[serde(default)]
    pub charged: Option<TransactionCost>,
}

/// What a version of a flight's transaction is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VersionKind {
    /// It moves the payer's money.
    #[default]
    Transfer,
    /// It moves nothing and takes the nonce, so that the transfers can never be mined.
    Cancel,
}

/// One signed transaction of a flight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlightVersion {
    /// The bytes as they are sent: hex, or base64 on Solana.
    pub raw: String,
    /// The transaction's hash, or on Solana its first signature.
    pub id: TxId,
    /// What a unit of gas may cost (EVM).
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
    /// One version, just signed.
    #[must_use]
    pub fn first(version: FlightVersion) -> Self {
        Self { versions: vec![version], reopened: false, lost_at: None, charged: None }
    }

    /// Notes what its transactions took; what of it is to be charged yet. Versions of one nonce exclude
    /// each other, so that one in another's place takes what it takes beyond that.
    pub fn note_cost(&mut self, spent: TransactionCost) -> Option<TransactionCost> {
        let before = self.charged.map_or(0, |charged| charged.total);
        let total = spent.total.checked_sub(before).filter(|more| *more > 0)?;
        self.charged = Some(spent);
        Some(TransactionCost { total, ..spent })
    }

    /// All that were signed, as the seller reads them.
    #[must_use]
    pub fn attempts(&self) -> Vec<SettlementAttempt> {
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

    /// What moves the money, as it was signed last.
    #[must_use]
    pub fn transfer(&self) -> Option<&FlightVersion> {
        self.versions.iter().rfind(|version| version.kind == VersionKind::Transfer)
    }

    /// Whether a node has taken any version, or may have.
    #[must_use]
    pub fn may_be_accepted(&self) -> bool {
        self.versions.iter().any(|version| version.handed != NodeAcceptance::No)
    }

    /// What moves the money, as a node has taken it last, or may have.
    #[must_use]
    pub fn accepted_transfer(&self) -> Option<&FlightVersion> {
        self.versions
            .iter()
            .rfind(|version| version.kind == VersionKind::Transfer && version.handed != NodeAcceptance::No)
    }

    /// Whether it was offered for long enough and no node has any of it: it is given up, and nothing of it is ever
    /// offered again.
    #[must_use]
    pub fn is_abandoned(&self, now: UnixMillis) -> bool {
        let since = self.versions.first().map(|version| version.at);
        !self.may_be_accepted() && since.is_some_and(|at| now.since(at) >= OFFERED_MS)
    }

    /// The version of this name.
    #[must_use]
    pub fn version(&self, id: &TxId) -> Option<&FlightVersion> {
        self.versions.iter().find(|version| version.id == *id)
    }
}

impl Flight {
    /// Whether the chain takes it no more: nothing new is signed for it then.
    #[must_use]
    pub fn is_expired(&self, now: UnixMillis) -> bool {
        self.valid_before.is_some_and(|until| now.seconds() >= until)
    }

    /// The most that a unit of gas may cost for it, wei.
    #[must_use]
    pub fn cap_wei(&self, network: &Network) -> u128 {
        let gas = network.settle.and_then(|settle| settle.gas());
        self.max_fee_wei.unwrap_or_else(|| gas.map_or(0, |gas| gas.max_fee_wei))
    }

    /// The gas that its transaction may use; none on Solana.
    #[must_use]
    pub const fn gas_limit(&self) -> u64 {
        match &self.cargo {
            FlightPayload::Evm(message) => message.gas_limit,
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

/// The price of a version in another's place: what nodes take for it, an eighth more, or
/// what the market asks today, whichever is higher. `None` where the cap lets nobody outbid it.
#[must_use]
pub fn replacement_price(newest: GasPrice, today: Option<GasPrice>, cap_wei: u128) -> Option<GasPrice> {
    let more = newest.raised_by_an_eighth(cap_wei)?;
    let higher = today.map_or(more, |today| GasPrice {
        max_wei: today.max_wei.max(more.max_wei),
        tip_wei: today.tip_wei.max(more.tip_wei),
    });
    Some(cap_price(higher, cap_wei))
}

/// Whether the next block's base fee is above what a version may cost at most: a node may have
/// taken it all the same. Today's price has room for twice the base fee.
#[must_use]
pub const fn is_outpriced(newest: GasPrice, today: GasPrice) -> bool {
    today.max_wei / 2 > newest.max_wei
}

/// The most that a unit of gas may cost in a transaction that only takes the nonce: what is
/// set aside for the whole transfer pays for it, and it uses less gas.
#[must_use]
pub fn cancel_cap_wei(flight: &Flight, network: &Network, gas: u64) -> u128 {
    let cap = flight.cap_wei(network);
    cap.saturating_mul(flight.gas_limit().into()).checked_div(gas.into()).unwrap_or(cap).max(cap)
}

/// What is to be done for a flight that no block holds (EVM).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlightStep {
    /// Do nothing in this turn.
    Wait,
    /// Send the newest version again.
    Resend,
    /// Offer more for the transfer.
    Bump,
    /// Take its nonce away, or offer more for that.
    Cancel,
    /// It is over: nobody has any of it, and its time is over or nobody wants it.
    End,
}

/// What is to be done now for a flight that no block holds.
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

/// Whether a flight whose nonce somebody else has used, and whose time is over, is lost for
/// good: it was said before, long enough ago for a receipt of ours to have come.
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

/// Which transfers of a transaction may be this authorization's, by [`Transfer::ordinal`]: the
/// one that stands with it, if it pays what was signed; where none is known to, each that pays
/// it and belongs to no other authorization.
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

    /// It has not, and will not.
    #[must_use]
    pub fn failed(reason: Reason, message: impl Into<String>) -> Self {
        Self { status: SettlementStatus::Failed, reason: Some(reason), message: message.into(), units: Vec::new() }
    }

    /// No node has taken any of it, and none is asked again.
    #[must_use]
    pub fn abandoned() -> Self {
        Self::failed(
            Reason::UnexpectedSettle,
            "no node accepted the transaction, and this attempt is over: send the same payment again",
        )
    }

    /// How a flight ends of which no node has anything.
    #[must_use]
    pub fn never_accepted(flight: &Flight, now: UnixMillis) -> Self {
        if flight.is_expired(now) { Self::expired() } else { Self::abandoned() }
    }

    /// The authorization's time is over, and nothing of the flight can be mined any more.
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
        // The block came too late for what was signed in time: that is no fault of the payer's.
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
        // Balances on Solana name who gained and who lost, but not by whom who gained.
        FlightPayload::Svm(_) => mined
            .transfers
            .iter()
            .any(|transfer| transfer.to.as_ref() == Some(&flight.pay_to) && transfer.amount == flight.amount),
    };
    let message = "the transaction succeeded without the transfer that was signed";
    Some(if moved { FlightEnding::completed(units) } else { FlightEnding::failed(unmoved, message) })
}

/// Whether somebody else's transaction has used an authorization, and moved its money.
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
    /// No node answers that now.
    Unknown,
}

/// How a flight ends that one of our own transactions has not settled, given who else may
/// have; `None` while that is not known. With it the transaction that counts.
#[must_use]
pub fn failed_or_third_party(
    sent: &FlightVersions,
    own: (TxId, FlightEnding),
    lookup: ThirdPartyLookup,
) -> Option<(TxId, FlightEnding, bool)> {
    let (id, ending) = own;
    match lookup {
        ThirdPartyLookup::Nothing => Some((id, ending, false)),
        // An earlier version of ours may have been quicker than a later one.
        ThirdPartyLookup::Found { id, units } => {
            let external = sent.version(&id).is_none();
            Some((id, FlightEnding::completed(units), external))
        }
        ThirdPartyLookup::Unknown => None,
    }
}

impl SettlementReport {
    /// Nothing was sent for it, and nothing will be.
    #[must_use]
    pub fn unsent(flight: &Flight, reason: Reason, message: impl Into<String>) -> Self {
        Self::of(flight, &FlightVersions::default(), None, FlightEnding::failed(reason, message))
    }

    /// It is on its way. It names a transaction where a node has taken one, or may have: only then is it said
    /// that one was sent.
    #[must_use]
    pub fn pending(flight: &Flight, sent: &FlightVersions) -> Self {
        let pending = FlightEnding { status: SettlementStatus::Pending, ..FlightEnding::completed(Vec::new()) };
        Self::of(flight, sent, sent.accepted_transfer().map(|version| version.id), pending)
    }

    /// It has ended, by this transaction where there is one.
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

    /// With what was taken for it.
    #[must_use]
    pub const fn with_cost(mut self, spent: Option<TransactionCost>) -> Self {
        self.spent = spent;
        self
    }
}

#[cfg(test)]
pub(super) mod tests;

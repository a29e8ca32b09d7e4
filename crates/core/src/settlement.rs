//! What a Settler is asked, what it reports, and all that it decides: which nonce
//! is next, what a node's refusal means, whether a flight may be launched, what is
//! to be done for it, how its transaction's story ends it. Pure; the shell signs,
//! sends and waits.

pub mod expiry;
pub mod flight;
pub mod launch;
pub mod nonces;
pub mod payment;
pub mod penalty;
pub mod refusal;
pub mod round_robin;
pub mod spending;
pub mod status;
pub mod stuck;

use crate::settlement::status::{SettlementAttempt, SettlementStatus};
use crate::tenancy::budget::TransactionCost;
use alloy_primitives::B256;
use serde::{Deserialize, Serialize};
use x402_chain::address::Address;
use x402_chain::amount::Amount;
use x402_chain::evm::sender::GasPrice;
use x402_chain::evm::tx::ContractCall;
use x402_chain::id::{SettlementId, TenantId};
use x402_chain::network::Environment;
use x402_chain::reason::Reason;
use x402_chain::time::{UnixMillis, UnixSeconds};

/// One payment on its way, as the Worker hands it to the Settler.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flight {
    /// The settlement that the ledger has reserved.
    pub settlement: SettlementId,
    /// How many attempts the ledger knew when it reserved this one.
    pub attempt: usize,
    /// The seller.
    pub tenant: TenantId,
    /// Live or test.
    pub environment: Environment,
    /// Our key of the network.
    pub network: String,
    /// Which of our keys sends it.
    pub signer: Address,
    /// Why nothing may be sent for it now; what is on its way already is waited for all the same.
    pub held: Option<(Reason, String)>,
    /// What is sent.
    pub cargo: FlightPayload,
    /// The payer's address.
    pub payer: Address,
    /// The address that is paid (`payTo`).
    pub pay_to: Address,
    /// The amount, in the asset's atomic units.
    pub amount: Amount,
    /// The authorization's nonce (EVM).
    pub nonce: Option<B256>,
    /// From when on the authorization is worthless (EVM `validBefore`); `None` on Solana.
    #[serde(default)]
    pub valid_before: Option<UnixSeconds>,
    /// The price at which it was simulated: that of the first transaction (EVM).
    #[serde(default)]
    pub price: Option<GasPrice>,
    /// The most that a unit of gas may ever cost for it, wei: what the ledger has reserved money for (EVM).
    #[serde(default)]
    pub max_fee_wei: Option<u128>,
    /// Whether the seller's tier costs nothing: all such sellers share one daily budget.
    #[serde(default)]
    pub free: bool,
}

/// What is sent, by family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FlightPayload {
    /// A call, to be given a nonce and a price.
    Evm(ContractCall),
    /// A transaction in base64 that lacks our signature.
    Svm(String),
}

impl Flight {
    /// Its name in the Settler's storage: the same request finds the same flight.
    #[must_use]
    pub fn key(&self) -> String {
        key(self.settlement, self.attempt)
    }
}

/// An attempt's name in the Settler's storage.
#[must_use]
pub fn key(settlement: SettlementId, attempt: usize) -> String {
    format!("{settlement}/{attempt}")
}

/// How a flight stands, as the Settler reports it to the ledger and answers the Worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettlementReport {
    /// The settlement that the ledger has reserved.
    pub settlement: SettlementId,
    /// Which attempt; `None` in reports of older builds.
    #[serde(default)]
    pub attempt: Option<usize>,
    /// Pending, completed or failed.
    pub status: SettlementStatus,
    /// Why it failed; `None` unless it has.
    pub reason: Option<Reason>,
    /// A sentence about a failure.
    // The member's name in reports that are stored.
    #[serde(rename = "told")]
    pub message: String,
    /// The transaction that counts, or was sent last.
    pub transaction: Option<String>,
    /// Every transaction that was sent for this attempt.
    pub attempts: Vec<SettlementAttempt>,
    /// Whether the transaction is somebody else's.
    pub external: bool,
    /// Whether a block that held it has left the chain: what was completed may then fail.
    pub reorged: bool,
    /// Which `Transfer` logs of the transaction may be this payment, the likeliest first, as
    /// [`x402_chain::trace::Transfer::ordinal`] counts them (EVM). Usually one.
    #[serde(default)]
    pub units: Vec<u64>,
    /// What the chain took from the signer for it, beyond what an earlier end of the same flight
    /// has reported; `None` where that is nothing.
    #[serde(default)]
    pub spent: Option<TransactionCost>,
    /// Whether a node has taken any of its transactions, or may have.
    #[serde(default)]
    pub handed: bool,
    /// Whether it failed because the signer cannot pay the gas.
    #[serde(default)]
    pub poor: bool,
    /// Until when nothing is launched for the payer, where it failed for that.
    #[serde(default)]
    pub held_until: Option<UnixMillis>,
}

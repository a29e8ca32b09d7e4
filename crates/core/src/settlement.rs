//! Settlement: the flights that a settler is given and reports on, and its decisions: whether a flight may be launched,
//! the next nonce, the meaning of a node's refusal, a flight's next step, and how its transaction's trace ends it.

pub mod expiry;
pub mod flight;
pub mod launch;
pub mod nonces;
pub mod payment;
pub mod penalty;
pub mod plan;
pub mod quote;
pub mod refusal;
pub mod restored;
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

/// One attempt to settle a payment, as the Worker hands it to the settler.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flight {
    /// The settlement that the ledger has reserved.
    pub settlement: SettlementId,
    /// The number of this attempt: how many the ledger had reserved before.
    pub attempt: usize,
    /// The seller whose settlement it is; its ledger gets the reports.
    pub tenant: TenantId,
    /// The environment of the seller's ledger.
    pub environment: Environment,
    /// The registry's short key of the network.
    pub network: String,
    /// The address of the signer that sends it.
    pub signer: Address,
    /// Why no new transaction may be sent for it; one that was sent before is tracked to its end.
    pub held: Option<(Reason, String)>,
    /// The call or transaction that the settler signs and sends.
    pub cargo: FlightPayload,
    /// The address whose tokens move.
    pub payer: Address,
    /// The address that is paid (`payTo`).
    pub pay_to: Address,
    /// The amount, in the asset's atomic units.
    pub amount: Amount,
    /// The authorization's nonce (EVM).
    pub nonce: Option<B256>,
    /// From when on the authorization is invalid (EVM `validBefore`); `None` on Solana.
    #[serde(default)]
    pub valid_before: Option<UnixSeconds>,
    /// The gas price at which it was simulated, used for the first transaction (EVM).
    #[serde(default)]
    pub price: Option<GasPrice>,
    /// The most for a unit of gas, wei: what the ledger has reserved money for (EVM).
    #[serde(default)]
    pub max_fee_wei: Option<u128>,
    /// Whether the seller's tier is free: all such sellers share one daily budget.
    #[serde(default)]
    pub free: bool,
}

/// The payload of a flight, by chain family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FlightPayload {
    /// A call that lacks nonce and gas price.
    Evm(ContractCall),
    /// A transaction in base64 that lacks our signature.
    Svm(String),
}

impl Flight {
    /// Its key in the settler's storage: the same attempt finds the same flight.
    #[must_use]
    pub fn key(&self) -> String {
        attempt_key(self.settlement, self.attempt)
    }
}

/// The key of an attempt in the settler's storage: `stl_…/0`.
#[must_use]
pub fn attempt_key(settlement: SettlementId, attempt: usize) -> String {
    format!("{settlement}/{attempt}")
}

/// The status of a flight, as the settler reports it to the ledger and answers the Worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettlementReport {
    /// The settlement that the ledger has reserved.
    pub settlement: SettlementId,
    /// The attempt's number; `None` in reports of older builds.
    #[serde(default)]
    pub attempt: Option<usize>,
    /// Pending, completed or failed.
    pub status: SettlementStatus,
    /// Why it failed; `None` unless it has.
    pub reason: Option<Reason>,
    /// What went wrong, in a sentence; empty without a failure.
    // The name of the member in stored reports.
    #[serde(rename = "told")]
    pub message: String,
    /// The transaction that settled it, or the one sent last.
    pub transaction: Option<String>,
    /// Every transaction that was sent for this attempt.
    pub attempts: Vec<SettlementAttempt>,
    /// Whether a third party has sent the transaction.
    pub external: bool,
    /// Whether a block that held it has left the chain: a completed settlement may then fail.
    pub reorged: bool,
    /// Which `Transfer` logs of the transaction may be this payment, the most probable first, as
    /// [`x402_chain::trace::Transfer::ordinal`] counts them (EVM). Usually one.
    #[serde(default)]
    pub units: Vec<u64>,
    /// The cost to the signer, without what an earlier report of the same flight has charged; `None` if that is
    /// nothing.
    #[serde(default)]
    pub spent: Option<TransactionCost>,
    /// Whether a node has accepted any of its transactions, or may have.
    #[serde(default)]
    pub handed: bool,
    /// Whether it failed because the signer cannot pay the fee.
    #[serde(default)]
    pub poor: bool,
    /// Until when nothing is launched for the payer, if that is why it failed.
    #[serde(default)]
    pub held_until: Option<UnixMillis>,
}

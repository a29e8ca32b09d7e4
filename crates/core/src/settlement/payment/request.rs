//! One x402 request as the Worker hands it to the ledger.

use crate::tenancy::key::KeyHash;
use crate::verification::decision::IdempotencyKey;
use alloy_primitives::B256;
use serde::{Deserialize, Serialize};
use x402_chain::address::{Address, TxId};
use x402_chain::amount::Amount;
use x402_chain::checks::Checks;
use x402_chain::id::RequestId;
use x402_chain::network::Network;
use x402_chain::network::TenantBudget;
use x402_chain::reason::Reason;
use x402_chain::time::UnixSeconds;

/// What is wanted of the payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PaymentAction {
    /// Only judge the payment: `/facilitator/verify`.
    Verify,
    /// Judge it and bring it to the chain: `/facilitator/settle`.
    Settle,
}

/// One request as the Worker hands it to the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentRequest {
    /// The SHA-256 of the API key that asks.
    pub key: KeyHash,
    /// The HTTP request's id.
    pub request_id: RequestId,
    /// Verify or settle.
    pub verb: PaymentAction,
    /// The network as the request wrote it: an answer echoes it.
    pub network_text: String,
    /// Our key of the network; `None` where the request names none that is known.
    pub network: Option<String>,
    /// In test: whether it was just tried to register `payTo` by this use.
    #[serde(default)]
    pub pay_to_tried: bool,
    /// Whether the registry check lets it be used.
    pub chain_on: bool,
    /// Who pays, where the payload says.
    pub payer: Option<Address>,
    /// What was signed, where it is whole.
    pub terms: Option<PaymentTerms>,
    /// What the scheme's rules found, off chain or on chain.
    pub finding: PaymentFinding,
    /// What the tenant's settlements on the network may cost in a day.
    pub budget: TenantBudget,
    /// The `Idempotency-Key` of a settlement, with the SHA-256 of the body; a verification is always about now.
    pub idempotency: Option<IdempotencyKey>,
    /// The buyer's own name for the payment (the extension `payment-identifier`).
    pub identifier: Option<String>,
    /// Whether the request asks for our additions in the body of a settle's success.
    #[serde(default)]
    pub explain: bool,
    /// 80 random bits for an id, as decimal digits.
    pub random: String,
}

/// The members of an authorization that the ledger decides by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentTerms {
    /// Network, asset, payer and nonce: what the chain lets happen once.
    pub authorization: String,
    /// Scheme, network, asset, amount, `payTo` and, in version 1, the resource.
    pub fingerprint: String,
    /// SHA-256 of the signature as given, hex; empty on Solana, where the authorization is the
    /// signed transaction itself.
    #[serde(default)]
    pub proof: String,
    /// The address whose tokens move.
    pub payer: Address,
    /// The address that is paid (`payTo`).
    pub pay_to: Address,
    /// The amount, in the asset's atomic units.
    pub amount: Amount,
    /// Who of us would send it, if it is reserved now.
    pub signer: Option<Address>,
    /// When the authorization ends (EVM); `None` on Solana.
    #[serde(default)]
    pub valid_before: Option<UnixSeconds>,
    /// What its transaction may cost us at worst, in the chain's smallest unit.
    #[serde(default)]
    pub worst: u128,
    /// Whether there is code at the payer's address (EVM).
    #[serde(default)]
    pub has_code: bool,
    /// The most that a unit of gas may ever cost for it, wei (EVM).
    #[serde(default)]
    pub max_fee_wei: Option<u128>,
    /// Of an authorization whose time is over: whether the payer's own key signed it. A contract
    /// is not asked any more.
    #[serde(default)]
    pub own_key: bool,
}

/// What the chain lets happen once: network, asset, payer and nonce.
#[must_use]
pub fn authorization_id(network: &Network, payer: &Address, nonce: &B256) -> String {
    format!("{}/{}/{}/0x{}", network.caip2, network.asset.text, payer.unchecksummed(), hex::encode(nonce))
}

/// The same on Solana: the transaction itself, by the name that our signature gives it.
#[must_use]
pub fn transaction_authorization_id(network: &Network, id: &TxId) -> String {
    format!("{}/{id}", network.caip2)
}

/// What the rules said of a payment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PaymentFinding {
    /// Every rule passed.
    Good(Checks),
    /// A rule failed: the checks, the reason, and a sentence about what was found.
    Refused(Checks, Reason, String),
    /// The authorization is used, by a transaction that was not searched for yet: only a record may answer.
    Used(Checks, String),
    /// Somebody else has put it on the chain, by this transaction: the money has moved. With the
    /// `Transfer` logs that may be it, as [`crate::settlement::SettlementReport::units`].
    External(Checks, TxId, Vec<u64>),
    /// The chain gave no answer.
    Unavailable,
    /// The chain was not asked yet: only say whether it should be.
    Deferred,
}

impl PaymentFinding {
    /// Each rule that was checked, with its result.
    #[must_use]
    pub fn checks(&self) -> Checks {
        match self {
            Self::Good(checks) | Self::Refused(checks, ..) | Self::Used(checks, _) | Self::External(checks, ..) => {
                checks.clone()
            }
            Self::Unavailable | Self::Deferred => Checks::none(),
        }
    }

    /// Whether the payer's signature was found good.
    #[must_use]
    pub const fn is_payer_proven(&self, terms: &PaymentTerms) -> bool {
        match self {
            Self::Refused(_, Reason::EvmValidBefore, _) => terms.own_key,
            Self::Good(_) | Self::External(..) | Self::Used(..) => true,
            Self::Refused(_, reason, _) => follows_signature_check(*reason) && !is_service_fault(*reason),
            Self::Unavailable | Self::Deferred => false,
        }
    }

    /// Whether the request uses its `payTo`, so that in test it registers it: the chain was asked, and the request
    /// itself breaks no rule.
    #[must_use]
    pub const fn registers_pay_to(&self) -> bool {
        match self {
            Self::Good(_) | Self::Used(..) | Self::External(..) => true,
            Self::Refused(..) => !self.is_request_fault(),
            Self::Unavailable | Self::Deferred => false,
        }
    }

    /// A refusal that no record overturns: a broken rule of the request itself.
    #[must_use]
    pub const fn is_request_fault(&self) -> bool {
        match self {
            Self::Refused(_, reason, _) => !follows_signature_check(*reason),
            Self::Good(_) | Self::Used(..) | Self::External(..) | Self::Unavailable | Self::Deferred => false,
        }
    }
}

/// What is only said once the payer's signature is known to be good: where a payment is
/// recorded, the record says more. An authorization whose time alone is over is one of them.
const fn follows_signature_check(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::EvmNoEip3009
            | Reason::EvmValidBefore
            | Reason::EvmNonceUsed
            | Reason::EvmBalance
            | Reason::EvmSimulation
            | Reason::SvmSimulation
            | Reason::SvmSimulationV1
    ) || is_service_fault(reason)
}

/// Our own trouble, which says nothing of the payment.
const fn is_service_fault(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::UnexpectedVerify | Reason::UnexpectedSettle | Reason::EvmUnverified | Reason::EvmRelayerPoor
    )
}

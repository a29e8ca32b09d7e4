//! One x402 request as the Worker hands it to the ledger.

use crate::tenancy::key::KeyHash;
use crate::traceparent::TraceParent;
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

/// Whether a payment is only verified, or settled too.
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
    /// The span of a settle request; absent in a message of the build before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<TraceParent>,
    /// Verify or settle.
    pub verb: PaymentAction,
    /// The network as the request wrote it: an answer echoes it.
    pub network_text: String,
    /// The registry's short key; `None` where the request names no known network.
    pub network: Option<String>,
    /// In test: whether the registration of `payTo` by this use was just tried.
    #[serde(default)]
    pub pay_to_tried: bool,
    /// Whether the registry check allows the network.
    pub chain_on: bool,
    /// The payer that the payload names, if any.
    pub payer: Option<Address>,
    /// The authorization, if it is complete.
    pub terms: Option<PaymentTerms>,
    /// What the scheme's rules found, off chain or on chain.
    pub finding: PaymentFinding,
    /// The tenant's daily budget for settlements on the network.
    pub budget: TenantBudget,
    /// The `Idempotency-Key` of a settle request, with the SHA-256 of the body; verify requests use none.
    pub idempotency: Option<IdempotencyKey>,
    /// The buyer's own name for the payment (the extension `payment-identifier`).
    pub identifier: Option<String>,
    /// Whether the request asks for our additions in the body of a settle's success.
    #[serde(default)]
    pub explain: bool,
    /// Random bytes for the id of a settlement; zeros where none is asked for.
    #[serde(with = "x402_chain::id::random_digits")]
    pub random: [u8; 10],
}

/// The members of an authorization that the ledger reads.
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
    /// The signer that would send it, if it is reserved now.
    pub signer: Option<Address>,
    /// When the authorization expires (EVM); `None` on Solana.
    #[serde(default)]
    pub valid_before: Option<UnixSeconds>,
    /// The most that its transaction may cost us, in the chain's smallest unit.
    #[serde(default)]
    pub worst: u128,
    /// Whether there is code at the payer's address (EVM).
    #[serde(default)]
    pub has_code: bool,
    /// The most for a unit of gas, wei (EVM).
    #[serde(default)]
    pub max_fee_wei: Option<u128>,
    /// Of an expired authorization: whether the payer's own key signed it. A contract is not asked any more.
    #[serde(default)]
    pub own_key: bool,
}

/// The id of an EVM authorization, which the chain accepts once: network, asset, payer and nonce.
#[must_use]
pub fn authorization_id(network: &Network, payer: &Address, nonce: &B256) -> String {
    format!("{}/{}/{}/0x{}", network.caip2, network.asset.text, payer.unchecksummed(), hex::encode(nonce))
}

/// The id of a Solana authorization: the transaction, by the signature that our signer gives it.
#[must_use]
pub fn transaction_authorization_id(network: &Network, id: &TxId) -> String {
    format!("{}/{id}", network.caip2)
}

/// What the scheme's rules found about a payment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PaymentFinding {
    /// Every rule passed.
    Good(Checks),
    /// A rule failed: the checks, the reason, and a sentence about what was found.
    Refused(Checks, Reason, String),
    /// The authorization is used, by a transaction that was not searched for yet: only a record may answer.
    Used(Checks, String),
    /// A third party has sent it by this transaction: the money has moved. With the `Transfer` logs that may be it, as
    /// [`crate::settlement::SettlementReport::units`].
    External(Checks, TxId, Vec<u64>),
    /// The chain gave no answer.
    Unavailable,
    /// The chain was not asked yet: the ledger only says whether it must be.
    Deferred,
}

impl PaymentFinding {
    /// Each rule that was checked, with its result.
    #[must_use]
    pub(crate) fn checks(&self) -> Checks {
        match self {
            Self::Good(checks) | Self::Refused(checks, ..) | Self::Used(checks, _) | Self::External(checks, ..) => {
                checks.clone()
            }
            Self::Unavailable | Self::Deferred => Checks::none(),
        }
    }

    /// Whether the payer's signature was verified.
    #[must_use]
    pub(crate) const fn is_payer_proven(&self, terms: &PaymentTerms) -> bool {
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
    pub(crate) const fn registers_pay_to(&self) -> bool {
        match self {
            Self::Good(_) | Self::Used(..) | Self::External(..) => true,
            Self::Refused(..) => !self.is_request_fault(),
            Self::Unavailable | Self::Deferred => false,
        }
    }

    /// A refusal that no record changes: the request itself breaks a rule.
    #[must_use]
    pub(crate) const fn is_request_fault(&self) -> bool {
        match self {
            Self::Refused(_, reason, _) => !follows_signature_check(*reason),
            Self::Good(_) | Self::Used(..) | Self::External(..) | Self::Unavailable | Self::Deferred => false,
        }
    }
}

/// Refusals that come after the payer's signature was verified: where a payment is recorded, its record answers
/// instead. An expired authorization is one of them.
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

/// A failure on our side, which shows nothing about the payment.
const fn is_service_fault(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::UnexpectedVerify | Reason::UnexpectedSettle | Reason::EvmUnverified | Reason::EvmRelayerPoor
    )
}

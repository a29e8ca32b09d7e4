//! The bodies of the facilitator's answers (docs/spec/protocol.md#p-1-4). A refusal is an answer with status 200; its
//! members are those of the protocol.

use super::ApiReply;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use x402_chain::address::{Address, Family};
use x402_chain::checks::Checks;
use x402_chain::network::Network;
use x402_chain::reason::Reason;
use x402_chain::retry::Retry;
use x402_chain::schemes::Scheme;

/// What both answers add to the protocol's members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct ResponseExtra {
    /// Each rule with its result.
    pub checks: Checks,
    /// The settlement's id, for `GET /v1/settlements/{id}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settlement_id: Option<String>,
    /// Whether a third party has sent the transaction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub externally_settled: Option<bool>,
    /// Of a refusal: whether a repeat of the same payment may succeed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
}

/// The answer to `/verify`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct VerifyResponse {
    /// Whether the payment is good.
    pub is_valid: bool,
    /// The reason of the refusal, in the protocol's strings; absent on success.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invalid_reason: Option<Reason>,
    /// The reason in a sentence; absent on success.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invalid_message: Option<String>,
    /// The address whose tokens move, where it could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payer: Option<String>,
    /// Details beyond the protocol: checks, settlement id, retry.
    pub extra: ResponseExtra,
}

/// The answer to `/settle`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct SettleResponse {
    /// Whether the payment is completed and this request is the one that goods are handed over for.
    pub success: bool,
    /// The reason of the refusal, in the protocol's strings; absent on success.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_reason: Option<Reason>,
    /// The reason in a sentence; absent on success.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    /// The address whose tokens move, where it could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payer: Option<String>,
    /// The transaction's hash; empty where none was sent.
    pub transaction: String,
    /// The network as the request wrote it.
    pub network: String,
    /// The amount in atomic units, decimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub amount: Option<String>,
    /// Additions to the protocol; on success absent, unless the request or the tenant asks for them
    /// (`Prefer: explain`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extra: Option<ResponseExtra>,
}

/// One kind of payment that is settled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct SupportedKind {
    /// The x402 version of the kind: 1 or 2.
    #[serde(rename = "x402Version")]
    pub version: u8,
    /// The payment scheme: always `exact`.
    pub scheme: &'static str,
    /// A name in version 1, CAIP-2 in version 2.
    pub network: &'static str,
    /// The members that a server copies into the `extra` of its requirements.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extra: Option<KindExtra>,
}

/// The members that a server copies into the `extra` of its requirements.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct KindExtra {
    /// The fee payer of a Solana transaction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fee_payer: Option<String>,
    /// The EIP-712 name of the network's asset (EVM).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<&'static str>,
    /// The EIP-712 version of the network's asset (EVM).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<&'static str>,
    /// Digits after the point of the network's asset (EVM).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decimals: Option<u8>,
}

impl KindExtra {
    /// The EIP-712 domain of the network's asset and the fee payer; `None` where the network has neither.
    fn of(network: &Network, fee_payer: Option<String>) -> Option<Self> {
        let domain = network.asset.eip712;
        let extra = Self {
            fee_payer,
            name: domain.map(|(name, _)| name),
            version: domain.map(|(_, version)| version),
            decimals: domain.map(|_| network.asset.decimals),
        };
        (extra.fee_payer.is_some() || domain.is_some()).then_some(extra)
    }
}

/// The answer to `/supported`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Supported {
    /// One entry for each network and x402 version that is settled.
    pub kinds: Vec<SupportedKind>,
    /// The x402 extensions that are read: `payment-identifier`.
    pub extensions: Vec<&'static str>,
    /// The addresses that send the transactions, by family: `eip155:*`, `solana:*`.
    pub signers: BTreeMap<&'static str, Vec<String>>,
}

/// The kinds on some networks, each with its fee payer where it needs one;
/// `signers` are the addresses that pay for transactions.
#[must_use]
pub fn supported_kinds(
    networks: impl Iterator<Item = (&'static Network, Option<String>)>,
    signers: impl Iterator<Item = Address>,
) -> Supported {
    let mut kinds = Vec::new();
    for (network, fee_payer) in networks {
        let extra = KindExtra::of(network, fee_payer);
        for scheme in Scheme::ALL.map(Scheme::name) {
            kinds.push(SupportedKind { version: 2, scheme, network: network.caip2, extra: extra.clone() });
            if let Some(network) = network.v1_name {
                kinds.push(SupportedKind { version: 1, scheme, network, extra: extra.clone() });
            }
        }
    }
    let mut by_family: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
    for signer in signers {
        let family = match signer.family() {
            Family::Evm => "eip155:*",
            Family::Svm => "solana:*",
        };
        let all = by_family.entry(family).or_default();
        let text = signer.to_string();
        if !all.contains(&text) {
            all.push(text);
        }
    }
    Supported { kinds, extensions: vec!["payment-identifier"], signers: by_family }
}

/// The answer to `GET` on a route that takes `POST`: the body and the credentials that it requires.
#[must_use]
pub fn route_hint(path: &str) -> ApiReply {
    let body = json!({
        "endpoint": path,
        "method": "POST",
        "body": {"x402Version": "1 or 2", "paymentPayload": "what the buyer sent", "paymentRequirements": "what the seller requires"},
        "authorization": "Bearer x402_live_… or x402_test_…; or a key of the kind 'url' in the path: /facilitator/k/{key}/…"
    });
    ApiReply::json(200, &body)
}

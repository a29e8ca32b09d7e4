//! The facilitator's own bodies (docs/spec/protocol.md#p-1-4). A refusal is an answer with status 200; its members are
//! those of the protocol.

use super::ApiReply;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use x402_chain::address::{Address, Family};
use x402_chain::checks::Checks;
use x402_chain::network::Network;
use x402_chain::reason::Reason;
use x402_chain::retry::Retry;
use x402_core::messages::ledger::SettlementFinding;
use x402_core::settlement::payment::{PaymentAction, PaymentOutcome, PaymentRequest};
use x402_core::settlement::status::{Settlement, SettlementStatus};

/// What both answers add: each rule with its result, and where to read the settlement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ResponseExtra {
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
pub struct VerifyResponse {
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
pub struct SettleResponse {
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
    /// Our additions; on success absent unless asked for ([`super::explain`]).
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
    /// What a server puts into its requirements.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extra: Option<KindExtra>,
}

/// What a server puts into its requirements.
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
    /// Extensions of the protocol.
    pub extensions: Vec<&'static str>,
    /// The addresses that send the transactions, by family.
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
        kinds.push(SupportedKind { version: 2, scheme: "exact", network: network.caip2, extra: extra.clone() });
        if let Some(name) = network.v1_name {
            kinds.push(SupportedKind { version: 1, scheme: "exact", network: name, extra });
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

/// The body of the ledger's outcome; `None` where the Settler or the Worker must act first.
#[must_use]
pub fn payment_reply(asked: &PaymentRequest, outcome: &PaymentOutcome) -> Option<ApiReply> {
    let payer = asked.payer.map(|payer| payer.to_string());
    Some(match (asked.verb, outcome) {
        (_, PaymentOutcome::ChainNeeded) | (PaymentAction::Settle, PaymentOutcome::Settle(_)) => return None,
        (PaymentAction::Verify, PaymentOutcome::Refused(checks, reason, message)) => {
            verify_reply(payer, checks, Some((*reason, message)), None)
        }
        (PaymentAction::Verify, PaymentOutcome::Taken(checks, reason, message, settlement)) => {
            verify_reply(payer, checks, Some((*reason, message)), Some(settlement))
        }
        (PaymentAction::Verify, PaymentOutcome::Valid(checks)) => verify_reply(payer, checks, None, None),
        (PaymentAction::Settle, PaymentOutcome::Refused(checks, reason, message)) => {
            settle_refusal_reply(asked, payer, checks, (*reason, message), None)
        }
        (PaymentAction::Settle, PaymentOutcome::Taken(checks, reason, message, settlement)) => {
            settle_refusal_reply(asked, payer, checks, (*reason, message), Some(settlement))
        }
        (PaymentAction::Settle, PaymentOutcome::Settled(settlement)) => {
            settlement_reply(&asked.network_text, settlement, &settlement_finding(asked, false))
        }
        (PaymentAction::Settle, PaymentOutcome::External(settlement)) => {
            settlement_reply(&asked.network_text, settlement, &settlement_finding(asked, true))
        }
        (PaymentAction::Settle, PaymentOutcome::Valid(checks)) => {
            settle_refusal_reply(asked, payer, checks, (Reason::InvalidPayload, "there is nothing to settle"), None)
        }
        (
            PaymentAction::Verify,
            PaymentOutcome::Settle(_) | PaymentOutcome::Settled(_) | PaymentOutcome::External(_),
        ) => verify_reply(payer, &Checks::none(), None, None),
    })
}

fn response_extra(checks: &Checks, settlement: Option<&Settlement>, refusal: Option<Reason>) -> ResponseExtra {
    let is_handed_over = settlement.is_some_and(|settlement| settlement.handed_over.is_some());
    ResponseExtra {
        retry: refusal.map(|reason| reason.retry(is_handed_over)),
        checks: checks.clone(),
        settlement_id: settlement.map(|settlement| settlement.id.to_string()),
        externally_settled: None,
    }
}

fn verify_reply(
    payer: Option<String>,
    checks: &Checks,
    refusal: Option<(Reason, &String)>,
    settlement: Option<&Settlement>,
) -> ApiReply {
    let body = VerifyResponse {
        is_valid: refusal.is_none(),
        invalid_reason: refusal.map(|(reason, _)| reason),
        invalid_message: refusal.map(|(_, message)| message.clone()),
        payer,
        extra: response_extra(checks, settlement, refusal.map(|(reason, _)| reason)),
    };
    ApiReply::json(200, &body)
}

fn settle_refusal_reply(
    asked: &PaymentRequest,
    payer: Option<String>,
    checks: &Checks,
    refusal: (Reason, &str),
    settlement: Option<&Settlement>,
) -> ApiReply {
    let body = SettleResponse {
        success: false,
        error_reason: Some(refusal.0),
        error_message: Some(refusal.1.to_owned()),
        payer,
        transaction: settlement.and_then(|settlement| settlement.transaction.clone()).unwrap_or_default(),
        network: asked.network_text.clone(),
        amount: None,
        extra: Some(response_extra(checks, settlement, Some(refusal.0))),
    };
    ApiReply::json(200, &body)
}

fn settlement_finding(asked: &PaymentRequest, external: bool) -> SettlementFinding {
    SettlementFinding { message: String::new(), external, checks: asked.finding.checks() }
}

/// Another request has taken the lease over, or was given the success.
#[must_use]
pub fn taken_reply(network_text: &str, settlement: &Settlement, found: &SettlementFinding) -> ApiReply {
    let refusal = (Reason::DuplicateSettlement, "another request has taken this payment");
    settle_reply(network_text, settlement, Some(refusal), &SettlementFinding { external: false, ..found.clone() })
}

/// The body of `/facilitator/settle` for a settlement's status.
#[must_use]
pub fn settlement_reply(network_text: &str, settlement: &Settlement, found: &SettlementFinding) -> ApiReply {
    let reason = match settlement.status {
        SettlementStatus::Completed => None,
        // `pending` is answered only where a transaction was sent.
        SettlementStatus::Pending if settlement.transaction.is_none() => Some(Reason::UnexpectedSettle),
        SettlementStatus::Pending => Some(Reason::SettlementPending),
        SettlementStatus::Failed => Some(settlement.reason.unwrap_or(Reason::EvmFailed)),
    };
    let refusal = reason.map(|reason| (reason, if found.message.is_empty() { reason.doc() } else { &found.message }));
    settle_reply(network_text, settlement, refusal, found)
}

fn settle_reply(
    network_text: &str,
    settlement: &Settlement,
    refusal: Option<(Reason, &str)>,
    found: &SettlementFinding,
) -> ApiReply {
    let success = refusal.is_none();
    let body = SettleResponse {
        success,
        error_reason: refusal.map(|(reason, _)| reason),
        error_message: refusal.map(|(_, message)| message.to_owned()),
        payer: Some(settlement.payer.clone()),
        transaction: settlement.transaction.clone().unwrap_or_default(),
        network: network_text.to_owned(),
        amount: success.then(|| settlement.amount.clone()),
        extra: Some(ResponseExtra {
            externally_settled: found.external.then_some(true),
            ..response_extra(&found.checks, Some(settlement), refusal.map(|(reason, _)| reason))
        }),
    };
    ApiReply::json(200, &body)
}

/// What a route takes, for a person who opens it in a browser.
#[must_use]
pub fn route_hint(path: &str) -> ApiReply {
    let body = json!({
        "endpoint": path,
        "method": "POST",
        "body": {"x402Version": "1 or 2", "paymentPayload": "what the buyer sent", "paymentRequirements": "what was asked for"},
        "authorization": "Bearer x402_live_… or x402_test_…; or a key of the kind 'url' in the path: /facilitator/k/{key}/…"
    });
    ApiReply::json(200, &body)
}

//! The facilitator's own bodies (docs/spec/protocol.md#p-1-4): a refusal is an answer with
//! status 200, and both stay in the protocol's words.

use super::Reply;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use x402_chain::address::{Address, Family};
use x402_chain::checks::Checks;
use x402_chain::network::Network;
use x402_chain::reason::Reason;
use x402_chain::retry::Retry;
use x402_core::settlement::payment::{Asked, Outcome, Verb};
use x402_core::settlement::status::{Settlement, SettlementStatus};

/// What both answers add for people: each rule and how it came out, and where the settlement is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Extra {
    /// Each rule and how it came out.
    pub checks: Checks,
    /// What `GET /v1/settlements/{id}` reads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settlement_id: Option<String>,
    /// Whether somebody else has put the payment on the chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub externally_settled: Option<bool>,
    /// Of a refusal: whether the same payment may be judged otherwise later.
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
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invalid_reason: Option<Reason>,
    /// The same in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invalid_message: Option<String>,
    /// Who pays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payer: Option<String>,
    /// For people.
    pub extra: Extra,
}

/// The answer to `/settle`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct SettleResponse {
    /// Whether the payment is completed and this request is the one that goods are handed over for.
    pub success: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_reason: Option<Reason>,
    /// The same in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    /// Who pays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payer: Option<String>,
    /// The transaction's hash; empty where none was sent.
    pub transaction: String,
    /// The network as the request wrote it.
    pub network: String,
    /// Atomic units.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub amount: Option<String>,
    /// For people. Of a success it is absent unless it is asked for ([`super::explain`]).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extra: Option<Extra>,
}

/// One kind of payment that is settled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Kind {
    /// 1 or 2.
    #[serde(rename = "x402Version")]
    pub version: u8,
    /// `exact`.
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
    /// Who pays the fee of a Solana transaction.
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
    /// What is said of a network's own asset, or of who pays its fees; `None` where there is nothing to say.
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
    /// What is settled.
    pub kinds: Vec<Kind>,
    /// Extensions of the protocol.
    pub extensions: Vec<&'static str>,
    /// Who sends the transactions, by family.
    pub signers: BTreeMap<&'static str, Vec<String>>,
}

/// The kinds on some networks, each with its fee payer where it needs one;
/// `signers` are the addresses that pay for transactions.
#[must_use]
pub fn supported(
    networks: impl Iterator<Item = (&'static Network, Option<String>)>,
    signers: impl Iterator<Item = Address>,
) -> Supported {
    let mut kinds = Vec::new();
    for (network, fee_payer) in networks {
        let extra = KindExtra::of(network, fee_payer);
        kinds.push(Kind { version: 2, scheme: "exact", network: network.caip2, extra: extra.clone() });
        if let Some(name) = network.v1_name {
            kinds.push(Kind { version: 1, scheme: "exact", network: name, extra });
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

/// The ledger's outcome in the protocol's words; `None` where the Settler, or the Worker, has the next word.
#[must_use]
pub fn reply(asked: &Asked, outcome: &Outcome) -> Option<Reply> {
    let payer = asked.payer.map(|payer| payer.to_string());
    Some(match (asked.verb, outcome) {
        (_, Outcome::FindOut) | (Verb::Settle, Outcome::Settle(_)) => return None,
        (Verb::Verify, Outcome::Refused(checks, reason, message)) => {
            verified(payer, checks, Some((*reason, message)), None)
        }
        (Verb::Verify, Outcome::Taken(checks, reason, message, settlement)) => {
            verified(payer, checks, Some((*reason, message)), Some(settlement))
        }
        (Verb::Verify, Outcome::Valid(checks)) => verified(payer, checks, None, None),
        (Verb::Settle, Outcome::Refused(checks, reason, message)) => {
            refused(asked, payer, checks, (*reason, message), None)
        }
        (Verb::Settle, Outcome::Taken(checks, reason, message, settlement)) => {
            refused(asked, payer, checks, (*reason, message), Some(settlement))
        }
        (Verb::Settle, Outcome::Settled(settlement)) => settled(&asked.network_text, settlement, &found(asked, false)),
        (Verb::Settle, Outcome::External(settlement)) => settled(&asked.network_text, settlement, &found(asked, true)),
        (Verb::Settle, Outcome::Valid(checks)) => {
            refused(asked, payer, checks, (Reason::InvalidPayload, "there is nothing to settle"), None)
        }
        (Verb::Verify, Outcome::Settle(_) | Outcome::Settled(_) | Outcome::External(_)) => {
            verified(payer, &Checks::none(), None, None)
        }
    })
}

fn extra(checks: &Checks, settlement: Option<&Settlement>, refusal: Option<Reason>) -> Extra {
    let is_handed_over = settlement.is_some_and(|settlement| settlement.handed_over.is_some());
    Extra {
        retry: refusal.map(|reason| reason.retry(is_handed_over)),
        checks: checks.clone(),
        settlement_id: settlement.map(|settlement| settlement.id.to_string()),
        externally_settled: None,
    }
}

fn verified(
    payer: Option<String>,
    checks: &Checks,
    refusal: Option<(Reason, &String)>,
    settlement: Option<&Settlement>,
) -> Reply {
    let body = VerifyResponse {
        is_valid: refusal.is_none(),
        invalid_reason: refusal.map(|(reason, _)| reason),
        invalid_message: refusal.map(|(_, message)| message.clone()),
        payer,
        extra: extra(checks, settlement, refusal.map(|(reason, _)| reason)),
    };
    Reply::json(200, &body)
}

fn refused(
    asked: &Asked,
    payer: Option<String>,
    checks: &Checks,
    refusal: (Reason, &str),
    settlement: Option<&Settlement>,
) -> Reply {
    let body = SettleResponse {
        success: false,
        error_reason: Some(refusal.0),
        error_message: Some(refusal.1.to_owned()),
        payer,
        transaction: settlement.and_then(|settlement| settlement.transaction.clone()).unwrap_or_default(),
        network: asked.network_text.clone(),
        amount: None,
        extra: Some(extra(checks, settlement, Some(refusal.0))),
    };
    Reply::json(200, &body)
}

/// What was found out about a payment that the Settler, or somebody else, has sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// A sentence about a failure; empty where there is none.
    pub message: String,
    /// Whether somebody else has sent the transaction.
    pub external: bool,
    /// Each rule that was looked at, with its outcome.
    pub checks: Checks,
}

fn found(asked: &Asked, external: bool) -> Found {
    Found { message: String::new(), external, checks: asked.finding.checks() }
}

/// Another request has taken the wait over, or was given the success.
#[must_use]
pub fn taken(network_text: &str, settlement: &Settlement, found: &Found) -> Reply {
    let refusal = (Reason::DuplicateSettlement, "another request has taken this payment");
    answered(network_text, settlement, Some(refusal), &Found { external: false, ..found.clone() })
}

/// How a settlement stands, in the protocol's words.
#[must_use]
pub fn settled(network_text: &str, settlement: &Settlement, found: &Found) -> Reply {
    let reason = match settlement.status {
        SettlementStatus::Completed => None,
        // That it is pending is only said of what was sent.
        SettlementStatus::Pending if settlement.transaction.is_none() => Some(Reason::UnexpectedSettle),
        SettlementStatus::Pending => Some(Reason::SettlementPending),
        SettlementStatus::Failed => Some(settlement.reason.unwrap_or(Reason::EvmFailed)),
    };
    let refusal = reason.map(|reason| (reason, if found.message.is_empty() { reason.doc() } else { &found.message }));
    answered(network_text, settlement, refusal, found)
}

fn answered(network_text: &str, settlement: &Settlement, refusal: Option<(Reason, &str)>, found: &Found) -> Reply {
    let success = refusal.is_none();
    let body = SettleResponse {
        success,
        error_reason: refusal.map(|(reason, _)| reason),
        error_message: refusal.map(|(_, message)| message.to_owned()),
        payer: Some(settlement.payer.clone()),
        transaction: settlement.transaction.clone().unwrap_or_default(),
        network: network_text.to_owned(),
        amount: success.then(|| settlement.amount.clone()),
        extra: Some(Extra {
            externally_settled: found.external.then_some(true),
            ..extra(&found.checks, Some(settlement), refusal.map(|(reason, _)| reason))
        }),
    };
    Reply::json(200, &body)
}

/// What a route takes, for whoever looks at it with a browser.
#[must_use]
pub fn hint(path: &str) -> Reply {
    let body = json!({
        "endpoint": path,
        "method": "POST",
        "body": {"x402Version": "1 or 2", "paymentPayload": "what the buyer sent", "paymentRequirements": "what was asked for"},
        "authorization": "Bearer x402_live_… or x402_test_…; or a key of the kind 'url' in the path: /facilitator/k/{key}/…"
    });
    Reply::json(200, &body)
}

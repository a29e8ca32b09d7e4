//! The answer to a verification, member for member as in JSON.

use crate::error::Fault;
use crate::event::EventKind;
use crate::traceparent::TraceParent;
use crate::verdict::RefusalCode;
use core::fmt;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use x402_chain::address::TxId;
use x402_chain::checks::Check;
use x402_chain::id::{ClaimId, RequestId, VerificationId};
use x402_chain::network;
use x402_chain::network::Network;
use x402_chain::retry::Retry;

/// The state of the payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum VerificationStatus {
    /// Paid, in a block with the chain's usual number of confirmations.
    Confirmed,
    /// Paid, in a block that is final by the chain's own rule.
    Finalized,
    /// Not decided yet: ask again later.
    Pending,
    /// Not paid, or not as the request requires.
    Rejected,
    /// It was paid, and then its block left the chain (only on records that are read later).
    Reorged,
}

impl VerificationStatus {
    /// The name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::Finalized => "finalized",
            Self::Pending => "pending",
            Self::Rejected => "rejected",
            Self::Reorged => "reorged",
        }
    }

    /// The event that a verification was answered, by what its record says. A payment that has left its chain since was
    /// verified.
    #[must_use]
    pub const fn event(self) -> EventKind {
        match self {
            Self::Confirmed | Self::Finalized | Self::Reorged => EventKind::VerificationSucceeded,
            Self::Pending | Self::Rejected => EventKind::VerificationFailed,
        }
    }
}

/// How certain a block is, or must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Finality {
    /// The chain's usual number of confirmations.
    Confirmed,
    /// Final by the chain's own rule.
    Finalized,
}

/// What ties the transaction to this buyer, the weakest first. A transaction hash is public: anybody who sees it can
/// present it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Binding {
    /// Nothing ties the transaction to this buyer: anybody may have sent its hash.
    None,
    /// The payer that the seller named.
    Payer,
    /// The memo that the seller named.
    Memo,
    /// The EIP-3009 nonce that the seller issued.
    Authorization,
}

/// The risk score as a level: below 0.20, 0.50, 0.80, and above.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum RiskLevel {
    /// A score below 0.20.
    Low,
    /// A score from 0.20 to below 0.50.
    Medium,
    /// A score from 0.50 to below 0.80.
    High,
    /// A score of 0.80 or more.
    Severe,
}

/// A number from 0 to 1 in hundredths, written as a JSON number with two digits at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(with = "f64"))]
pub struct Hundredths(pub u8);

impl fmt::Display for Hundredths {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / 100, self.0 % 100);
        match (rest / 10, rest % 10) {
            (0, 0) => write!(out, "{whole}"),
            (tens, 0) => write!(out, "{whole}.{tens}"),
            (tens, ones) => write!(out, "{whole}.{tens}{ones}"),
        }
    }
}

impl Serialize for Hundredths {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        RawValue::from_string(self.to_string()).map_err(serde::ser::Error::custom)?.serialize(out)
    }
}

impl<'de> Deserialize<'de> for Hundredths {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(from)?;
        let (whole, rest) = raw.get().split_once('.').unwrap_or((raw.get(), ""));
        let digits = format!("{whole}{rest:0<2}");
        let number = digits.parse().ok().filter(|number| rest.len() <= 2 && *number <= 100);
        number
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom("must be a number from 0 to 1 with two decimals at most"))
    }
}

/// Where in its transaction a transfer is found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum TransferPlace {
    /// On EVM: a `Transfer` log.
    Log {
        /// The log's index in its block.
        log_index: u64,
    },
    /// On Solana: the balance of a token account.
    Account {
        /// The token account that was credited.
        token_account: String,
    },
}

/// One transfer that reached the recipient.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct TransferLine {
    /// The log or the token account.
    #[serde(flatten)]
    pub place: TransferPlace,
    /// The payer, where the chain names one.
    pub payer: Option<String>,
    /// The amount in atomic units, decimal digits.
    pub amount: String,
}

/// One reason for caution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct RiskFactor {
    /// The factor's stable name.
    pub code: String,
    /// Its weight, 0 to 1.
    pub weight: Hundredths,
    /// What was found, in one sentence.
    pub detail: String,
}

/// The earlier claim on the payment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct ClaimedBy {
    /// The verification or settlement that claimed it.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(with = "String"))]
    pub id: ClaimId,
    /// The reference that it was claimed under.
    pub reference: Option<String>,
    /// When it was claimed, RFC 3339.
    pub claimed_at: String,
}

/// The answer to `POST /v1/verify`. Every member but `traceparent` is always present.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct VerificationAnswer {
    /// This verification's id; of a replay, the first one's.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(with = "String"))]
    pub id: VerificationId,
    /// The id of the HTTP request that was answered.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(with = "String"))]
    pub request_id: RequestId,
    /// The request as a part of its trace, in the form of the header `traceparent` (W3C Trace Context); absent where the request
    /// had no such header. Webhooks about the verification belong to the same trace.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(with = "String"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<TraceParent>,
    /// Whether the tenant was paid.
    pub success: bool,
    /// The state of the payment.
    pub status: VerificationStatus,
    /// The transaction that was asked about.
    pub tx_hash: String,
    /// The registry's short key of the chain.
    pub chain: String,
    /// The chain's CAIP-2 id.
    pub network: String,
    /// What the recipient gained by `transfers`, in USDC with six decimals. Where a payer or a nonce is named: the
    /// amount that certainly came from it. Where a part of the payment was claimed before: the rest.
    pub amount_usdc: Option<String>,
    /// `amount_usdc` in atomic units.
    pub amount: Option<String>,
    /// The registered token's contract or mint.
    pub asset: String,
    /// Who paid, where there is exactly one payer.
    pub from_address: Option<String>,
    /// The recipient's address.
    pub to_address: Option<String>,
    /// The transfers that are judged: those of the payer or the nonce that the request names, or all that reached the
    /// recipient; where it passed money on in the same transaction, and on Solana, always all.
    pub transfers: Vec<TransferLine>,
    /// Every address that paid by these transfers.
    pub payers: Vec<String>,
    /// Atomic units above the expected amount; `null` where none was expected.
    pub overpaid: Option<String>,
    /// The blocks from the transaction's own to the head, both included; `null` where it is in no block.
    pub confirmations: Option<u64>,
    /// Height, or slot on Solana.
    pub block_number: Option<u64>,
    /// The block's hash; `null` on Solana.
    pub block_hash: Option<String>,
    /// The block's time, RFC 3339.
    pub block_time: Option<String>,
    /// The finality of the block; `null` below `confirmed`.
    pub finality: Option<Finality>,
    /// What ties the transaction to this buyer.
    pub binding: Binding,
    /// Whether these transfers are now bound to this reference.
    pub claimed: bool,
    /// The earlier claim, where that is why it is refused.
    pub claimed_by: Option<ClaimedBy>,
    /// The seller's own name for what is paid for.
    pub reference: Option<String>,
    /// Whether the same reference had claimed these transfers before.
    pub replayed: bool,
    /// 0 to 1: 1 less the product of (1 − weight) over all factors.
    pub risk_score: Hundredths,
    /// `risk_score` as a level.
    pub risk_level: RiskLevel,
    /// What contributed to the score.
    pub risk_factors: Vec<RiskFactor>,
    /// Each rule with its result.
    pub checks: Vec<Check>,
    /// Why the payment is refused, in one sentence; `null` on success.
    pub error: Option<String>,
    /// The code of the first rule that failed; `null` on success.
    pub error_code: Option<RefusalCode>,
    /// Whether a repeat of the request can help; `null` on success.
    pub retry: Option<Retry>,
}

/// Transfers, and payers, that an answer lists at most: with them it stays below 1,000,000 bytes, so that a ledger
/// and the directory can hold it. A provider's answer of 4 MiB holds some 6,000 transfers.
const LISTED_MAX: usize = 4_000;

impl VerificationAnswer {
    /// The transaction that a stored answer is about, with its network.
    ///
    /// # Errors
    /// `INTERNAL` where the registry lacks the chain, which a later build may have written, or the id is none of it.
    pub fn transaction(&self) -> Result<(&'static Network, TxId), Fault> {
        let unknown = || Fault::internal(format!("a record's chain '{}' is not in the registry", self.chain));
        let network = network::by_key(&self.chain).ok_or_else(unknown)?;
        let unread = || Fault::internal(format!("a record's tx_hash is no id of a transaction on '{}'", self.chain));
        Ok((network, TxId::parse(network.family, &self.tx_hash).ok_or_else(unread)?))
    }

    /// Lists at most 4,000 transfers and as many payers. All of them were judged, and count in the amount; a check says
    /// what is left out.
    #[must_use]
    pub fn with_lists_cut(mut self) -> Self {
        let (transfers, payers) = (self.transfers.len(), self.payers.len());
        if transfers > LISTED_MAX || payers > LISTED_MAX {
            self.transfers.truncate(LISTED_MAX);
            self.payers.truncate(LISTED_MAX);
            let detail = format!(
                "of {transfers} transfers and {payers} payers the first {LISTED_MAX} each are listed; all are counted"
            );
            self.checks.push(Check { name: "transfers_listed".to_owned(), passed: true, detail });
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(transfers: usize) -> VerificationAnswer {
        let payer = |at: usize| format!("0x{at:040X}");
        let line = |at| TransferLine {
            place: TransferPlace::Log { log_index: u64::MAX },
            payer: Some(payer(at)),
            // The largest that a token can move.
            amount: "115792089237316195423570985008687907853269984665640564039457584007913129639935".to_owned(),
        };
        let lines: Vec<TransferLine> = (0..transfers).map(line).collect();
        let body = serde_json::json!({
            "id": VerificationId::new(x402_chain::time::UnixMillis(1), [1; 10]).to_string(),
            "request_id": format!("req_{}", "0".repeat(26)),
            "success": true, "status": "finalized", "tx_hash": "0x", "chain": "base", "network": "eip155:8453",
            "amount_usdc": null, "amount": null, "asset": "0x", "from_address": null, "to_address": null,
            "transfers": lines, "payers": (0..transfers).map(payer).collect::<Vec<_>>(), "overpaid": null,
            "confirmations": null, "block_number": null, "block_hash": null, "block_time": null, "finality": null,
            "binding": "none", "claimed": true, "claimed_by": null, "reference": null, "replayed": false,
            "risk_score": 0, "risk_level": "low", "risk_factors": [], "checks": [], "error": null, "error_code": null,
            "retry": null,
        });
        serde_json::from_value(body).expect("an answer")
    }

    #[test]
    fn an_answer_lists_so_much_that_it_can_be_stored() {
        assert_eq!(answer(LISTED_MAX).with_lists_cut(), answer(LISTED_MAX));
        let listed = answer(LISTED_MAX + 7).with_lists_cut();
        assert_eq!((listed.transfers.len(), listed.payers.len()), (LISTED_MAX, LISTED_MAX));
        assert!(
            listed.checks.iter().any(|check| check.name == "transfers_listed" && check.detail.contains("of 4007 "))
        );
        let text = serde_json::to_string(&listed).expect("writes");
        // What is left is room for everything else: names, checks and factors are a few KiB.
        assert!(text.len() < 950_000, "{}", text.len());
        // As text within JSON.
        assert!(serde_json::to_string(&text).expect("writes").len() < 1_200_000);
    }

    #[test]
    fn a_record_that_names_no_transaction_is_an_error() {
        let hash = format!("0x{}", "1a".repeat(32));
        let good = VerificationAnswer { tx_hash: hash.clone(), ..answer(0) };
        assert_eq!(good.transaction().map(|(network, id)| (network.key, id.to_string())), Ok(("base", hash)));
        assert!(answer(0).transaction().is_err(), "an id of no transaction");
        let later = VerificationAnswer { chain: "of-a-later-build".to_owned(), ..good };
        assert!(later.transaction().is_err_and(|fault| fault.cause().is_some()));
    }

    #[test]
    fn hundredths_are_plain_json_numbers() {
        for (value, want) in [(0, "0"), (5, "0.05"), (20, "0.2"), (28, "0.28"), (100, "1")] {
            let text = serde_json::to_string(&Hundredths(value)).expect("writes");
            assert_eq!(text, want);
            assert_eq!(serde_json::from_str::<Hundredths>(&text).expect("reads"), Hundredths(value));
        }
        for wrong in ["1.01", "2", "0.123", "-0.1", "1e0", "\"0.1\"", "null"] {
            assert!(serde_json::from_str::<Hundredths>(wrong).is_err(), "{wrong}");
        }
    }
}

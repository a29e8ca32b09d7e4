//! The outcome of one request about a payment, and its answer.

use super::record::{SettlementRecord, TakeResult};
use crate::settlement::status::{Settlement, SettlementStatus};
use serde::{Deserialize, Serialize};
use x402_chain::address::Address;
use x402_chain::checks::Checks;
use x402_chain::reason::Reason;
use x402_chain::retry::RepeatRule;
use x402_chain::time::UnixMillis;

/// A reserved settlement, with what the Worker needs to hand it to its settler.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReservedSettlement {
    /// The settlement as it is recorded.
    pub settlement: Settlement,
    /// How many attempts were reserved before this one.
    pub attempt: usize,
    /// The address of the signer that sends it; `None` where the Worker named none.
    pub signer: Option<Address>,
    /// Whether there was code at the payer's address when it was judged (EVM).
    pub has_code: bool,
    /// The most for a unit of gas, wei (EVM).
    pub max_fee_wei: Option<u128>,
    /// When this attempt was reserved.
    pub reserved_at: UnixMillis,
    /// Whether the tenant's tier is free: all such tenants share one daily budget.
    pub free: bool,
}

/// The outcome of one request in its ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PaymentOutcome {
    /// The request is answered.
    Answer(PaymentAnswer),
    /// The settlement is reserved or pending: the Worker waits for the settler.
    Settle(Box<ReservedSettlement>),
    /// Nothing is recorded: the Worker must ask the chain, and send the request again. Nothing was counted.
    ChainNeeded,
}

/// The answer to a request, by its action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PaymentAnswer {
    /// To a verify: the checks of a good payment, or why it is refused.
    Verify(Result<Checks, PaymentRefusal>),
    /// To a settle: the success that is handed over to this request, or why none is.
    Settle(Result<PaymentSuccess, PaymentRefusal>),
}

impl PaymentAnswer {
    /// The answer in a word, for the log: `valid`, the settlement's status, or the reason in the protocol's strings.
    #[must_use]
    pub fn outcome_name(&self) -> &'static str {
        match self {
            Self::Verify(Ok(_)) => "valid",
            Self::Settle(Ok(success)) => success.settlement.status.name(),
            Self::Verify(Err(refusal)) | Self::Settle(Err(refusal)) => refusal.reason.as_str(),
        }
    }
}

/// A completed settlement whose success is handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentSuccess {
    /// The settlement as its seller reads it.
    pub settlement: Box<Settlement>,
    /// Each rule that was checked, with its result.
    pub checks: Checks,
    /// Whether a third party has sent the transaction.
    pub external: bool,
}

/// Why a payment is refused, or its success is not handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentRefusal {
    /// Each rule that was checked, with its result.
    pub checks: Checks,
    /// The reason, in the protocol's strings.
    pub reason: Reason,
    /// The reason in a sentence.
    pub message: String,
    /// The settlement that is the reason, if one is: of an earlier payment or of this one.
    pub settlement: Option<Box<Settlement>>,
    /// Whether a third party has sent the transaction of that settlement.
    pub external: bool,
}

impl PaymentRefusal {
    /// A refusal for which no settlement is the reason.
    #[must_use]
    pub fn of(checks: Checks, reason: Reason, message: impl Into<String>) -> Self {
        Self { checks, reason, message: message.into(), settlement: None, external: false }
    }

    /// A refusal for which a settlement is the reason.
    #[must_use]
    pub fn by(checks: Checks, reason: Reason, message: impl Into<String>, settlement: &Settlement) -> Self {
        Self { settlement: Some(Box::new(settlement.clone())), ..Self::of(checks, reason, message) }
    }
}

impl PaymentOutcome {
    /// Whether the answer is recorded and repeated under an `Idempotency-Key`. A refusal that names a settlement is
    /// not: that may change.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Answer(PaymentAnswer::Verify(Err(refusal)) | PaymentAnswer::Settle(Err(refusal))) => {
                refusal.settlement.is_none() && matches!(refusal.reason.repeat(), RepeatRule::Recorded)
            }
            Self::Answer(PaymentAnswer::Settle(Ok(_))) => true,
            Self::Answer(PaymentAnswer::Verify(Ok(_))) | Self::Settle(_) | Self::ChainNeeded => false,
        }
    }

    /// The success that it hands over.
    #[must_use]
    pub const fn success(&self) -> Option<&PaymentSuccess> {
        match self {
            Self::Answer(PaymentAnswer::Settle(Ok(success))) => Some(success),
            Self::Answer(PaymentAnswer::Settle(Err(_)) | PaymentAnswer::Verify(_))
            | Self::Settle(_)
            | Self::ChainNeeded => None,
        }
    }
}

/// The result of a flight, or of the search for a third party's transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettlementFinding {
    /// What went wrong, in a sentence; empty without a failure.
    pub message: String,
    /// Whether a third party has sent the transaction.
    pub external: bool,
    /// Each rule that was checked, with its result.
    pub checks: Checks,
}

/// The answer to the request that waited for the settler, by the result of its lease and the settlement's status.
#[must_use]
pub fn delivered(taken: TakeResult, kept: &SettlementRecord, found: SettlementFinding) -> PaymentAnswer {
    let SettlementFinding { message, external, checks } = found;
    let (settlement, external) = (&kept.settlement, external || kept.progress.external);
    let reason = match (taken, settlement.status) {
        (TakeResult::Nothing, _) => {
            let message = "this payment was handed over to another request, or is leased by one";
            return PaymentAnswer::Settle(Err(PaymentRefusal::by(
                checks,
                Reason::DuplicateSettlement,
                message,
                settlement,
            )));
        }
        (TakeResult::Success | TakeResult::Lease, SettlementStatus::Completed) => {
            return PaymentAnswer::Settle(Ok(PaymentSuccess {
                settlement: Box::new(settlement.clone()),
                checks,
                external,
            }));
        }
        // `settlement_pending` says that a transaction was sent.
        (TakeResult::Success | TakeResult::Lease, SettlementStatus::Pending) if settlement.transaction.is_none() => {
            Reason::UnexpectedSettle
        }
        (TakeResult::Success | TakeResult::Lease, SettlementStatus::Pending) => Reason::SettlementPending,
        (TakeResult::Success | TakeResult::Lease, SettlementStatus::Failed) => {
            settlement.reason.unwrap_or(Reason::EvmFailed)
        }
    };
    let message = if message.is_empty() { reason.doc().to_owned() } else { message };
    PaymentAnswer::Settle(Err(PaymentRefusal { external, ..PaymentRefusal::by(checks, reason, message, settlement) }))
}

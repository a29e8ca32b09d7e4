//! How one request for a payment comes out, and what it is answered.

use super::record::{SettlementRecord, TakeResult};
use crate::settlement::status::{Settlement, SettlementStatus};
use serde::{Deserialize, Serialize};
use x402_chain::address::Address;
use x402_chain::checks::Checks;
use x402_chain::reason::Reason;
use x402_chain::retry::RepeatRule;
use x402_chain::time::UnixMillis;

/// A settlement that the Settler goes on with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReservedSettlement {
    /// How it stands.
    pub settlement: Settlement,
    /// How many attempts were reserved before.
    pub attempt: usize,
    /// Who of us sends it.
    pub signer: Option<Address>,
    /// Whether there was code at the payer's address when it was judged (EVM).
    pub has_code: bool,
    /// The most that a unit of gas may ever cost for it, wei (EVM).
    pub max_fee_wei: Option<u128>,
    /// When this attempt was reserved.
    pub reserved_at: UnixMillis,
    /// Whether the tenant's tier costs nothing.
    pub free: bool,
}

/// How one request comes out in its ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PaymentOutcome {
    /// It is answered.
    Answer(PaymentAnswer),
    /// Reserved, or on its way: the caller waits for the Settler.
    Settle(Box<ReservedSettlement>),
    /// Nothing is recorded: the Worker must find out more, and ask again. Nothing was counted.
    ChainNeeded,
}

/// What a request is answered, by what it asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PaymentAnswer {
    /// To a verification: the rules that a good payment keeps, or why it is refused.
    Verify(Result<Checks, PaymentRefusal>),
    /// To a settlement: the success that this caller is given, or why it is given none.
    Settle(Result<PaymentSuccess, PaymentRefusal>),
}

/// A settlement that is completed, and whose success is given away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentSuccess {
    /// The settlement.
    pub settlement: Box<Settlement>,
    /// Each rule that was looked at, with its outcome.
    pub checks: Checks,
    /// Whether somebody else has sent the transaction.
    pub external: bool,
}

/// Why a payment is not good, or a success is not given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentRefusal {
    /// Each rule that was looked at, with its outcome.
    pub checks: Checks,
    /// The protocol's word.
    pub reason: Reason,
    /// The same in a sentence.
    pub message: String,
    /// Where a settlement is the reason, that one: another's or its own.
    pub settlement: Option<Box<Settlement>>,
    /// Whether somebody else has sent the transaction of that settlement.
    pub external: bool,
}

impl PaymentRefusal {
    /// A refusal by the payment itself.
    #[must_use]
    pub fn of(checks: Checks, reason: Reason, message: impl Into<String>) -> Self {
        Self { checks, reason, message: message.into(), settlement: None, external: false }
    }

    /// A refusal because of a settlement, which is named.
    #[must_use]
    pub fn by(checks: Checks, reason: Reason, message: impl Into<String>, settlement: &Settlement) -> Self {
        Self { settlement: Some(Box::new(settlement.clone())), ..Self::of(checks, reason, message) }
    }
}

impl PaymentOutcome {
    /// Whether it is the last word on the payment, to be repeated under an `Idempotency-Key`. What refers to a
    /// settlement is none: that may go on.
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

    /// The success that it gives away.
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

/// What was found out about a payment that the Settler, or somebody else, has sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettlementFinding {
    /// A sentence about a failure; empty where there is none.
    pub message: String,
    /// Whether somebody else has sent the transaction.
    pub external: bool,
    /// Each rule that was looked at, with its outcome.
    pub checks: Checks,
}

/// What the request that waited for the Settler is answered, by what it was given and how the settlement stands.
#[must_use]
pub fn delivered(taken: TakeResult, kept: &SettlementRecord, found: SettlementFinding) -> PaymentAnswer {
    let SettlementFinding { message, external, checks } = found;
    let (settlement, external) = (&kept.settlement, external || kept.progress.external);
    let reason = match (taken, settlement.status) {
        (TakeResult::Nothing, _) => {
            let message = "another request has taken this payment";
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
        // That it is pending is only said of what was sent.
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

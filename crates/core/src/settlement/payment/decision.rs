//! The rows about an x402 payment, and the decision about a request.

use super::{PaymentTerms, SettlementRecord};
use crate::sanctions;
use crate::settlement::status::Settlement;
use crate::tenancy::admission::IdempotencyRecord;
use crate::tenancy::tenant::Tenant;
use crate::verification::claims::{ClaimUnit, HeldClaim};
use serde::{Deserialize, Serialize};
use x402_chain::address::Address;
use x402_chain::checks::Checks;
use x402_chain::id::{KeyId, SettlementId};
use x402_chain::reason::Reason;
use x402_chain::retry::RepeatRule;
use x402_chain::time::UnixMillis;

/// The ledger's row of an authorization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentRecord {
    /// The fingerprint of the requirements that it was first asked about with.
    pub fingerprint: String,
    /// SHA-256 of the signature that was verified; `None` in rows of older builds.
    pub proof: Option<String>,
    /// Until when it is remembered without a settlement.
    pub expires_at: Option<UnixMillis>,
    /// Its settlement, once it is reserved.
    pub settlement_record: Option<SettlementRecord>,
}

impl PaymentRecord {
    /// Whether the requirements are those that it is bound to. Rows of older builds name none.
    pub(super) fn matches_requirements(&self, terms: &PaymentTerms) -> bool {
        self.fingerprint.is_empty() || self.fingerprint == terms.fingerprint
    }
}

/// All stored rows that could matter to a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PaymentRecords {
    /// The authorization's row; `None` where it was never seen.
    pub row: Option<PaymentRecord>,
    /// The first payment by this payer under the same identifier: its authorization and row.
    pub identified: Option<(String, PaymentRecord)>,
    /// The record under the request's `Idempotency-Key`.
    pub idempotency_record: Option<IdempotencyRecord>,
    /// The claims on the transaction of [`PaymentFinding::External`].
    pub held_claims: Vec<HeldClaim>,
    /// Whether the payer has completed a settlement here; only read where a reservation or the limit of failures needs
    /// it.
    pub has_paid: bool,
}

/// A settlement for the settler to carry out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReservedSettlement {
    /// The settlement as its seller reads it.
    pub settlement: Settlement,
    /// How many attempts were reserved before.
    pub attempt: usize,
    /// The signer that sends it; `None` on networks that are only read.
    pub signer: Option<Address>,
    /// Whether there was code at the payer's address when it was judged (EVM).
    pub has_code: bool,
    /// The most for a unit of gas, wei (EVM).
    pub max_fee_wei: Option<u128>,
    /// When this attempt was reserved.
    pub reserved_at: UnixMillis,
    /// Whether the tenant's tier is free.
    pub free: bool,
}

/// What a request about a payment is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PaymentOutcome {
    /// Every rule passed.
    Valid(Checks),
    /// A rule failed: the checks, the reason, and a sentence about what was found.
    Refused(Checks, Reason, String),
    /// Refused because of another settlement or its own, which the answer may name.
    Taken(Checks, Reason, String, Box<Settlement>),
    /// Reserved or sent: the caller waits for the settler.
    Settle(Box<ReservedSettlement>),
    /// It was settled, and this caller is given the success.
    Settled(Box<Settlement>),
    /// Settled by a third party's transaction, and this caller is given the success.
    External(Box<Settlement>),
    /// Nothing is recorded: the Worker must ask the chain, and then the ledger again. Nothing was counted.
    ChainNeeded,
}

impl PaymentOutcome {
    /// Whether the outcome is final, and repeats under an `Idempotency-Key`.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        match self {
            Self::Valid(_) | Self::Settle(_) | Self::Taken(..) | Self::ChainNeeded => false,
            Self::Refused(_, reason, _) => matches!(reason.repeat(), RepeatRule::Recorded),
            Self::Settled(_) | Self::External(_) => true,
        }
    }

    /// Whether the answer gives the success.
    #[must_use]
    pub const fn is_success(&self) -> bool {
        matches!(self, Self::Settled(_) | Self::External(_))
    }
}

/// An authorization's row to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentWrite {
    /// The authorization's id: the chain accepts it once.
    pub authorization: String,
    /// Which requirements it was recorded under, as [`PaymentTerms::fingerprint`].
    pub fingerprint: String,
    /// SHA-256 of the signature, hex.
    pub proof: String,
    /// The settlement that uses the authorization; `None` after a verification alone.
    pub settlement: Option<SettlementId>,
    /// Until when it is remembered without a settlement.
    pub expires_at: UnixMillis,
}

/// What a request about a payment writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentDecision {
    /// What the request is answered.
    pub outcome: PaymentOutcome,
    /// The authorization's row.
    pub row: Option<PaymentWrite>,
    /// The settlement to write.
    pub settlement_record: Option<SettlementRecord>,
    /// What is claimed of the settlement's transaction.
    pub claim: Option<ClaimUnit>,
}

impl PaymentDecision {
    pub(super) const fn only(outcome: PaymentOutcome) -> Self {
        Self { outcome, row: None, settlement_record: None, claim: None }
    }
}

/// What the ledger knows when it decides.
#[derive(Clone, Copy, Debug)]
pub struct PaymentContext<'a> {
    /// The seller, as its ledger's copy has it.
    pub tenant: &'a Tenant,
    /// The sanctions list; `None` where it could not be read.
    pub sanctions: Option<&'a sanctions::SanctionsList>,
    /// The rows of this authorization and of its identifier.
    pub records: &'a PaymentRecords,
}

/// A request that may be answered, or is refused with the protocol's reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdmittedPayment {
    pub(super) key: KeyId,
    pub(super) refusal: Option<(Reason, String)>,
}

//! The rows about an x402 payment, and the decision about a request.

use super::{PaymentOutcome, PaymentTerms, SettlementRecord};
use crate::sanctions;
use crate::tenancy::admission::IdempotencyRecord;
use crate::tenancy::tenant::Tenant;
use crate::verification::claims::{ClaimUnit, HeldClaim};
use x402_chain::id::{KeyId, SettlementId};
use x402_chain::reason::Reason;
use x402_chain::time::UnixMillis;

/// The ledger's row of an authorization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentRecord {
    /// The fingerprint of the requirements of the first request about it; empty in rows of older builds.
    pub fingerprint: String,
    /// SHA-256 of the signature that was verified; `None` in rows of older builds.
    pub proof: Option<String>,
    /// Until when the row is kept without a settlement.
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
    /// The authorization's row; `None` where no request named it before.
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
    /// Until when the row is kept without a settlement.
    pub expires_at: UnixMillis,
}

/// What a request about a payment writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentDecision {
    /// The outcome of the request.
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

/// The stored state by which the ledger decides.
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

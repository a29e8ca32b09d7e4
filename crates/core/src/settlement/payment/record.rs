//! A settlement in the ledger: its status, and which request gets its success. A success is handed over once
//! (docs/spec/protocol.md#p-3-4): its delivery is open, leased by one request, or handed over.

use crate::settlement::SettlementReport;
use crate::settlement::status::{HandedOver, Settlement, SettlementStatus};
use crate::tenancy::budget::{DayCosts, ReservedBudget};
use crate::verification::claims::{ClaimUnit, HeldClaim, claimable_unit};
use serde::{Deserialize, Serialize};
use x402_chain::address::Address;
use x402_chain::id::{ClaimId, RequestId};
use x402_chain::reason::Reason;
use x402_chain::time::UnixMillis;

/// The length of a lease: a settler answers within 26 s.
pub const LEASE_MS: u64 = 30_000;
/// A reservation without a report for this long is checked with the settler.
pub const UNREPORTED_MS: u64 = 60_000;
/// A completed settlement whose delivery is open for this long becomes an event.
pub const UNDELIVERED_MS: u64 = 300_000;
/// How long a success repeats under its `Idempotency-Key`.
pub const SUCCESS_REPEATS_MS: u64 = 600_000;

/// The right of one request to get the success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuccessLease {
    /// The HTTP request that waits.
    pub request: RequestId,
    /// Until when no other request gets it.
    pub until: UnixMillis,
    /// Its `Idempotency-Key`: a repeat under the same key takes the lease over.
    pub key: Option<String>,
}

/// What the ledger stores of a settlement beside what its seller reads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SettlementProgress {
    /// How many attempts were reserved before this one.
    pub attempt: usize,
    /// The signer that sends it, fixed when it was reserved.
    pub signer: Option<Address>,
    /// Whether there was code at the payer's address when it was judged (EVM).
    pub has_code: bool,
    /// The most for a unit of gas, wei (EVM).
    pub max_fee_wei: Option<u128>,
    /// When this attempt was reserved.
    pub reserved_at: UnixMillis,
    /// The request that waits for the success; `None` while nobody does.
    pub lease: Option<SuccessLease>,
    /// The `Idempotency-Key` under which it was handed over.
    pub handed_key: Option<String>,
    /// Whether the success was repeated under that key: then no request reopens it.
    pub repeated: bool,
    /// The budget that is reserved for this attempt.
    pub reserve: Option<ReservedBudget>,
    /// Whether `settlement.undelivered` was raised.
    pub undelivered: bool,
    /// Whether the transaction that counts was sent by a third party; reported with the success, whichever request gets
    /// it.
    pub external: bool,
    /// The authorization that it uses, for a ledger that is rebuilt. `None`: an older build has reserved it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payment: Option<BoundPayment>,
    /// What it has claimed of its transaction, for the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claimed: Option<ClaimUnit>,
    /// What its attempts cost on the last day of which they did, for the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub costs: Option<DayCosts>,
}

/// The authorization of a settlement: its row in the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundPayment {
    /// Network, asset, payer and nonce; on Solana network and signature.
    pub authorization: String,
    /// The requirements to which it is bound.
    pub fingerprint: String,
    /// SHA-256 of the signature, hex.
    pub proof: String,
    /// Until when it is remembered without a settlement.
    pub expires_at: UnixMillis,
}

impl SettlementProgress {
    /// What of it goes to the directory: all but what a request holds at this moment, and its `Idempotency-Key`.
    #[must_use]
    pub fn shipped(&self) -> Self {
        Self { lease: None, handed_key: None, ..self.clone() }
    }
}

/// A settlement with its progress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettlementRecord {
    /// The settlement as its seller reads it.
    pub settlement: Settlement,
    /// What only the ledger reads.
    #[serde(rename = "course")]
    pub progress: SettlementProgress,
}

/// A request that asks for a success.
#[derive(Clone, Copy, Debug)]
pub struct SuccessClaimant<'a> {
    /// The HTTP request that asks.
    pub request: RequestId,
    /// The request's `Idempotency-Key`.
    pub key: Option<&'a str>,
}

/// What a request that asks for a success gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakeResult {
    /// The success: it is handed over with this answer.
    Success,
    /// The lease: this request alone may get the success later.
    Lease,
    /// Nothing: another request has the lease or the success.
    Nothing,
}

/// What a report changes beside the settlement itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReportEffect {
    /// Whether the settlement changed.
    pub changed: bool,
    /// What is claimed of the settlement's transaction.
    pub claim: Option<ClaimUnit>,
    /// The budget that was reserved for the attempt, which has ended.
    pub ended: Option<ReservedBudget>,
}

impl SettlementRecord {
    /// Whether the transfer is in a block, or may be soon.
    #[must_use]
    pub const fn is_live(&self) -> bool {
        match self.settlement.status {
            SettlementStatus::Pending | SettlementStatus::Completed => true,
            SettlementStatus::Failed => false,
        }
    }

    /// Whether its payment is used up: it is live, or goods were given for it before its block left the chain.
    #[must_use]
    pub const fn is_spent(&self) -> bool {
        self.is_live() || self.settlement.handed_over.is_some()
    }

    /// Whether the next request gets it: it is neither handed over nor leased.
    #[must_use]
    pub(crate) fn is_open(&self, now: UnixMillis) -> bool {
        self.settlement.handed_over.is_none() && self.progress.lease.as_ref().is_none_or(|lease| lease.until <= now)
    }

    fn record_hand_over(&mut self, request: RequestId, key: Option<String>, now: UnixMillis) {
        self.settlement.handed_over = Some(HandedOver { at: now.rfc3339(), request_id: Some(request) });
        self.progress.lease = None;
        self.progress.handed_key = key;
        self.progress.repeated = false;
    }

    /// Gives a request the success, or the lease.
    pub(crate) fn take_success(&mut self, asker: SuccessClaimant<'_>, now: UnixMillis) -> TakeResult {
        // The same seller's attempt, sent again: the first may have lost its connection.
        let same =
            self.progress.lease.as_ref().is_some_and(|lease| lease.key.is_some() && lease.key.as_deref() == asker.key);
        if self.settlement.handed_over.is_some() || !(same || self.is_open(now)) {
            return TakeResult::Nothing;
        }
        let key = asker.key.map(str::to_owned);
        match self.settlement.status {
            SettlementStatus::Completed => {
                self.record_hand_over(asker.request, key, now);
                TakeResult::Success
            }
            SettlementStatus::Pending => {
                self.progress.lease = Some(SuccessLease { request: asker.request, until: now.plus(LEASE_MS), key });
                TakeResult::Lease
            }
            SettlementStatus::Failed => TakeResult::Nothing,
        }
    }

    /// What the request that waited is given once the Settler has answered. A request without the lease gets nothing;
    /// an expired lease holds until another request takes it.
    pub fn deliver(&mut self, request: RequestId, now: UnixMillis) -> TakeResult {
        let Some(lease) = self.progress.lease.take_if(|lease| lease.request == request) else {
            return TakeResult::Nothing;
        };
        match self.settlement.status {
            SettlementStatus::Completed if self.settlement.handed_over.is_some() => TakeResult::Nothing,
            SettlementStatus::Completed => {
                self.record_hand_over(request, lease.key, now);
                TakeResult::Success
            }
            // The lease ends, and the next request may have the success.
            SettlementStatus::Pending | SettlementStatus::Failed => TakeResult::Lease,
        }
    }

    /// Repeats the success under the key that it was given under. After this no request reopens it: one of the two may
    /// have been answered, and the key repeats it to the other.
    pub fn repeat(&mut self, request: RequestId) {
        if let Some(handed) = &mut self.settlement.handed_over {
            handed.request_id = Some(request);
            self.progress.repeated = true;
        }
    }

    /// The caller has disconnected before the answer: its lease or success is open again. Returns whether that changed
    /// anything, and the key under which the success was stored.
    pub fn reopen(&mut self, request: RequestId) -> (bool, Option<String>) {
        if self.progress.lease.take_if(|lease| lease.request == request).is_some() {
            return (true, None);
        }
        let is_its = |handed: &HandedOver| handed.request_id == Some(request) && !self.progress.repeated;
        let reopened = self.settlement.handed_over.take_if(|handed| is_its(handed)).is_some();
        (reopened, self.progress.handed_key.take_if(|_| reopened))
    }

    /// The seller takes the success by hand; returns whether it could be taken.
    pub fn hand_over(&mut self, request: RequestId, now: UnixMillis) -> bool {
        let takes = self.settlement.status == SettlementStatus::Completed && self.is_open(now);
        if takes {
            self.record_hand_over(request, None, now);
        }
        takes
    }

    /// Applies the settler's report. `held` are the claims on the reported transaction.
    pub fn apply_report(&mut self, report: &SettlementReport, held: &[HeldClaim], now: UnixMillis) -> ReportEffect {
        let settlement = &mut self.settlement;
        let is_completed = settlement.status == SettlementStatus::Completed;
        // A completed settlement does not change, unless its block has left the chain: a report may come twice. Of an
        // attempt that is not the newest, or has ended, only the cost counts.
        let is_late = report.attempt.is_some_and(|attempt| attempt != self.progress.attempt);
        let is_over = settlement.status == SettlementStatus::Failed;
        let is_money = report.status == SettlementStatus::Completed;
        let is_again = is_money && report.transaction == settlement.transaction;
        if (is_completed && (is_again || !report.reorged)) || ((is_late || is_over) && !is_money) {
            return ReportEffect::default();
        }
        let own = ClaimId::Settlement(settlement.id);
        let claim = match (report.status, &report.transaction) {
            (SettlementStatus::Completed, Some(_)) => Some(claimable_unit(held, &report.units, own)),
            _ => None,
        };
        settlement.transaction = report.transaction.clone().or_else(|| settlement.transaction.take());
        match &claim {
            // The transaction's transfer is claimed for something else: this payment has not arrived.
            Some(Err(_)) => {
                (settlement.status, settlement.reason) = (SettlementStatus::Failed, Some(Reason::EvmNonceUsed))
            }
            Some(Ok(_)) | None => (settlement.status, settlement.reason) = (report.status, report.reason),
        }
        self.progress.external = report.external && settlement.status == SettlementStatus::Completed;
        let is_pending = settlement.status == SettlementStatus::Pending;
        settlement.completed_at = (!is_pending).then(|| now.rfc3339());
        // An attempt is listed once it has ended.
        for attempt in report.attempts.iter().filter(|_| !is_pending) {
            if !settlement.attempts.contains(attempt) {
                settlement.attempts.push(attempt.clone());
            }
        }
        let ended = if is_pending { None } else { self.progress.reserve.take() };
        let claim = claim.and_then(Result::ok);
        self.progress.claimed = claim.or(self.progress.claimed);
        ReportEffect { changed: true, claim, ended }
    }

    /// When the settlement is due for a check if nothing else happens: a reservation without a report, or a success
    /// that no request was given.
    #[must_use]
    pub fn due_at(&self) -> Option<UnixMillis> {
        let settlement = &self.settlement;
        match settlement.status {
            SettlementStatus::Pending if settlement.transaction.is_none() => {
                Some(self.progress.reserved_at.plus(UNREPORTED_MS))
            }
            SettlementStatus::Completed if settlement.handed_over.is_none() && !self.progress.undelivered => {
                let at =
                    settlement.completed_at.as_deref().and_then(UnixMillis::parse).unwrap_or(self.progress.reserved_at);
                Some(at.plus(UNDELIVERED_MS))
            }
            SettlementStatus::Pending | SettlementStatus::Completed | SettlementStatus::Failed => None,
        }
    }

    /// Ends an attempt that its settler will never launch.
    pub fn abandon(&mut self, now: UnixMillis) -> Option<ReservedBudget> {
        let settlement = &mut self.settlement;
        settlement.status = SettlementStatus::Failed;
        settlement.reason = Some(Reason::UnexpectedSettle);
        settlement.completed_at = Some(now.rfc3339());
        self.progress.reserve.take()
    }
}

//! Deletes what has expired, in small turns: one large deletion would hold up every request of its tenant.

use super::TenantLedger;
use super::ship::ShippedState;
use super::store::IdempotencyPlace;
use crate::objects::alarm::PacedWork;
use x402_chain::id::VerificationId;
use x402_chain::time::UnixMillis;
use x402_core::error::Fault;
use x402_core::outbox::walk::FRONT;
use x402_core::tenancy::admission::IDEMPOTENCY_MS;

/// A record stays in the ledger for ten minutes, until it is shipped and final: at 1,000 a second a week of them would not
/// fit into an object. Its month's object has it.
const RECORD_MS: u64 = 600_000;
/// A table is walked from its beginning this often at most.
const WALK_MS: u64 = 600_000;
/// The most rows of a table that one turn looks at or deletes: 250 records took 1 ms.
const TURN_ROWS_MAX: i64 = 500;
/// With so many entries in the outbox no record is deleted: 2,000 of them made each turn last 12 ms.
const WAITING_MAX: i64 = 500;
/// The most turns of one alarm. What is left, the next alarm deletes, which then comes at once.
const TURNS_MAX: usize = 16;

/// How far a table was walked, by its primary key. Rows that have not expired stay, and are looked at again when all
/// others were, so that many of them cost no alarm much.
#[derive(Default)]
pub(super) struct PurgeWalk<K> {
    begun: UnixMillis,
    /// The last key that was looked at.
    after: K,
    /// Whether all were looked at.
    is_over: bool,
}

impl<K: Default> PurgeWalk<K> {
    /// Begins again where that is due.
    fn begin(&mut self, now: UnixMillis) {
        if self.is_over && now.since(self.begun) >= WALK_MS {
            *self = Self { begun: now, ..Self::default() };
        }
    }
}

/// How far the tables without an order of expiry were walked.
#[derive(Default)]
pub(super) struct PurgeWalks {
    records: PurgeWalk<String>,
    idempotency: PurgeWalk<IdempotencyPlace>,
}

impl TenantLedger {
    /// Deletes what has expired, within bounds; returns whether something may be left.
    pub(super) async fn purge(&self, now: UnixMillis) -> Result<bool, Fault> {
        let mut work = PacedWork::begin();
        for _ in 0..TURNS_MAX {
            if !self.purge_turn(now)? {
                return Ok(false);
            }
            work.pause().await;
        }
        Ok(true)
    }

    /// One turn; returns whether something may be left.
    fn purge_turn(&self, now: UnixMillis) -> Result<bool, Fault> {
        let store = self.store();
        let shipped: ShippedState = store.state("shipped")?.unwrap_or_default();
        let old = VerificationId::new(UnixMillis(now.0.saturating_sub(RECORD_MS)), [0; 10]).to_string();
        let upto = old.min(shipped.record);
        let mut walks = self.purge.borrow_mut();
        let PurgeWalks { records, idempotency } = &mut *walks;
        records.begin(now);
        idempotency.begin(now);
        // What the outbox names is not deleted, and is looked for in all of it: not while much waits there.
        let waits = store.outbox_sizes(FRONT, WAITING_MAX)?.len() >= usize::try_from(WAITING_MAX).unwrap_or(usize::MAX);
        store.atomically(|| {
            if waits {
                records.is_over = true;
            } else {
                // Records get older, so a walk that is over goes on.
                let end = store.purge_records(&records.after, &upto, TURN_ROWS_MAX)?;
                records.is_over = end.is_none();
                records.after = end.unwrap_or_else(|| upto.clone()).max(records.after.clone());
            }
            if !idempotency.is_over {
                let old = UnixMillis(now.0.saturating_sub(IDEMPOTENCY_MS));
                let end = store.purge_idempotency(&idempotency.after, old, TURN_ROWS_MAX)?;
                idempotency.is_over = end.is_none();
                idempotency.after = end.unwrap_or_default();
            }
            store.purge_payments(now, TURN_ROWS_MAX)
        })?;
        let payments = store.next_payment()?.is_some_and(|at| at <= now);
        Ok(!records.is_over || !idempotency.is_over || payments)
    }
}

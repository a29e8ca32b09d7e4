//! Takes out of the ledger of a deleted tenant what its seller has written, in small turns. Claims stay: of a reference the
//! SHA-256 is left, so that no payment can be claimed a second time.

use super::TenantLedger;
use super::reply::LedgerOutput;
use super::rows::ClaimPlace;
use super::store::{LedgerStore, RowKind};
use crate::objects::alarm::PacedWork;
use serde::{Deserialize, Serialize};
use x402_core::error::{ErrorCode, Fault};
use x402_core::messages::ledger::LedgerReply;
use x402_core::outbox::walk::FRONT;
use x402_core::tenancy::tenant::TenantStatus;

/// The most rows that one turn looks at, or deletes.
const TURN_ROWS_MAX: i64 = 200;
/// The most turns of one message: 10,000 claims. The caller sends the message again until nothing is left.
const TURNS_MAX: usize = 50;
/// The name of the stored [`Erasure`].
const ERASURE: &str = "erasure";

/// How far the erasure has come. It is stored in the transaction of the turn, so that each row is changed once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Erasure {
    /// Claims on whole payments up to this place are done.
    Claims(ClaimPlace),
    /// All of those are done, and claims on logs up to this place.
    LogClaims(ClaimPlace),
    /// All claims are done, and entries of the outbox up to this number.
    Outbox(i64),
    /// All of the above is done; records, answers and identifiers are deleted.
    Rows,
    /// Nothing is left.
    Done,
}

impl TenantLedger {
    /// Erases within bounds. [`LedgerReply::Done`] where nothing is left, else [`LedgerReply::Erasing`].
    ///
    /// # Errors
    /// `LEDGER_UNAVAILABLE` where the tenant is not deleted, or an alarm still works on what it has read.
    pub(super) async fn erase_texts(&self) -> Result<LedgerOutput, Fault> {
        let is_deleted = self.memory.borrow().as_ref().map(|memory| memory.tenant.status == TenantStatus::Cancelled);
        match is_deleted {
            // It has stored nothing.
            None => return Ok(LedgerOutput::done()),
            Some(true) => {}
            Some(false) => return Err(not_now("the ledger has not loaded that its tenant is deleted")),
        }
        if self.working.is_busy() {
            return Err(not_now("the ledger is at work"));
        }
        // Records are deleted: what they have counted must be stored.
        self.write_rates(crate::app::now())?;
        self.with_state(|memory| {
            memory.payers.clear();
            memory.payments.clear();
            Ok(())
        })?;
        let (store, mut work) = (self.store(), PacedWork::begin());
        for _ in 0..TURNS_MAX {
            let before: Erasure = store.state(ERASURE)?.unwrap_or(Erasure::Claims(ClaimPlace::default()));
            if before == Erasure::Done {
                // What an alarm ships that began between two turns would come after the records are erased.
                if self.working.is_busy() {
                    return Err(not_now("the ledger is at work"));
                }
                return Ok(LedgerOutput::done());
            }
            store.atomically(|| {
                let after = erase_turn(&store, &before)?;
                if after == before { Ok(()) } else { store.put_state(ERASURE, &after) }
            })?;
            work.pause().await;
        }
        Ok(LedgerOutput::empty(LedgerReply::Erasing))
    }
}

/// One turn; returns how far it has come.
fn erase_turn(store: &LedgerStore, before: &Erasure) -> Result<Erasure, Fault> {
    Ok(match before {
        Erasure::Claims(after) => {
            hash_claims(store, after, false)?.map_or_else(|| Erasure::LogClaims(ClaimPlace::default()), Erasure::Claims)
        }
        Erasure::LogClaims(after) => {
            hash_claims(store, after, true)?.map_or(Erasure::Outbox(FRONT), Erasure::LogClaims)
        }
        Erasure::Outbox(after) => match store.outbox_sizes(*after, TURN_ROWS_MAX)?.last() {
            Some(last) => {
                store.erase_outbox((*after, last.seq))?;
                Erasure::Outbox(last.seq)
            }
            None => Erasure::Rows,
        },
        Erasure::Rows => {
            let mut deleted = 0_usize;
            for kind in RowKind::ERASED {
                deleted = deleted.saturating_add(store.erase_rows(kind, TURN_ROWS_MAX)?);
            }
            if deleted == 0 { Erasure::Done } else { Erasure::Rows }
        }
        Erasure::Done => Erasure::Done,
    })
}

/// Puts hashes in the place of the next references; returns the last claim that was looked at, or `None` at the end.
fn hash_claims(store: &LedgerStore, after: &ClaimPlace, of_logs: bool) -> Result<Option<ClaimPlace>, Fault> {
    let claims = store.claims_after(after, of_logs, TURN_ROWS_MAX)?;
    for claim in &claims {
        if let Some(text) = &claim.text {
            store.hash_reference(&claim.place, of_logs, text)?;
        }
    }
    Ok(claims.into_iter().last().map(|last| last.place))
}

fn not_now(cause: &str) -> Fault {
    Fault::new(ErrorCode::LedgerUnavailable, "the ledger erases nothing at this time").after(1).because(cause)
}

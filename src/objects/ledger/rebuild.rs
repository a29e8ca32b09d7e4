//! A ledger that has lost its storage, and how it is rebuilt. An empty ledger of which the directory knows that it has counted
//! something serves nobody: it would sell what was sold, and give the quota a second time. Nothing of what it takes back counts
//! before all is there: tenant and admission are stored in the last transaction.

use super::reply::LedgerOutput;
use super::rows::StoredSettlement;
use super::ship::ShippedState;
use super::store::LedgerStore;
use super::{LedgerState, TenantLedger};
use crate::app::db;
use crate::d1;
use crate::d1::rebuild::note_lost;
use crate::telemetry::{TelemetryField, TelemetryKind, event};
use serde::{Deserialize, Serialize};
use x402_api::ApiReply;
use x402_chain::id::{SettlementId, TenantId, VerificationId};
use x402_chain::network::Environment;
use x402_chain::time::UnixMillis;
use x402_core::error::{ErrorCode, Fault};
use x402_core::messages::ledger::rebuild::{LedgerCopy, RestoreMessage, RestorePlace, RestoredPart};
use x402_core::messages::ledger::{LedgerEnvelope, LedgerReply};
use x402_core::metrics::shipped::ShippedCounts;
use x402_core::settlement::payment::SettlementProgress;
use x402_core::settlement::restored::KeptSettlement;
use x402_core::tenancy::admission::{Admission, ClosedPeriod};
use x402_core::tenancy::budget::TenantSpending;
use x402_core::tenancy::quota::QuotaMarks;
use x402_core::tenancy::tenant::Tenant;
use x402_core::verification::restored::restored_record;

/// The name of the stored [`Restoring`].
const RESTORING: &str = "restoring";
/// How long a lost ledger refuses requests without asking the directory again.
const LOST_MS: u64 = 10_000;
/// When a refused request may be repeated, in seconds.
const LOST_RETRY_S: u64 = 60;
/// Settlements that are given at once, some 3 KiB each.
const COPIED_MAX: i64 = 50;

/// What a ledger that is rebuilt has taken back so far, beside its rows.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Restoring {
    place: RestorePlace,
    /// The newest record.
    last_id: Option<VerificationId>,
    /// What settlements have cost today.
    spending: TenantSpending,
}

impl Restoring {
    fn begin() -> Self {
        Self { place: RestorePlace::FIRST, last_id: None, spending: TenantSpending::default() }
    }
}

fn lost() -> Fault {
    let detail = "the tenant's ledger has lost its storage: it serves no request until the operator has rebuilt it";
    Fault::new(ErrorCode::LedgerUnavailable, detail).after(LOST_RETRY_S)
}

impl TenantLedger {
    /// Whether this ledger, which is empty, must be rebuilt before it serves anybody.
    ///
    /// # Errors
    /// `LEDGER_UNAVAILABLE`: it must.
    pub(super) fn check_not_lost(&self, now: UnixMillis) -> Result<(), Fault> {
        if self.lost_until.get().is_some_and(|until| now < until) { Err(lost()) } else { Ok(()) }
    }

    /// Notes that this ledger must be rebuilt, for operators; the fault for whoever asks.
    pub(super) async fn refuse_lost(&self, of: (TenantId, Environment), now: UnixMillis) -> Fault {
        self.lost_until.set(Some(now.plus(LOST_MS)));
        event(
            TelemetryKind::LedgerLost,
            &[TelemetryField::Cause(&lost().because(format!("{}:{}", of.0, of.1.name())))],
        );
        if let Ok(db) = db(&self.env)
            && let Err(fault) = note_lost(&db, of, now).await
        {
            event(TelemetryKind::LedgerLost, &[TelemetryField::Cause(&fault)]);
        }
        lost()
    }

    /// Goes on with a rebuild.
    pub(super) async fn restore(
        &self,
        message: &RestoreMessage,
        envelope: &LedgerEnvelope,
        now: UnixMillis,
    ) -> Result<LedgerOutput, Fault> {
        if self.memory.borrow().is_some() {
            return restoring(RestorePlace::Held);
        }
        let store = self.store();
        let known = store.state::<Option<Restoring>>(RESTORING)?.flatten().unwrap_or_else(Restoring::begin);
        match message {
            RestoreMessage::Begin => restoring(known.place),
            RestoreMessage::Take(part) if part.from == known.place => {
                let next = store.atomically(|| {
                    let next = take_part(&store, known, part, now)?;
                    store.put_state(RESTORING, &Some(&next)).map(|()| next)
                })?;
                restoring(next.place)
            }
            RestoreMessage::Finish(usage) if known.place == RestorePlace::Ready => {
                let loaded = d1::load_tenant(&db(&self.env)?, envelope.tenant, envelope.environment).await?;
                let tenant = loaded.ok_or_else(|| Fault::internal("a tenant has no row in the directory"))?;
                // Another message may have finished it meanwhile.
                if self.memory.borrow().is_none() {
                    self.finish_restoring(tenant, known, usage, now)?;
                    self.wake_soon(now).await;
                }
                restoring(RestorePlace::Held)
            }
            RestoreMessage::Take(_) | RestoreMessage::Finish(_) => restoring(known.place),
        }
    }

    fn finish_restoring(
        &self,
        tenant: Tenant,
        known: Restoring,
        usage: &[ClosedPeriod],
        now: UnixMillis,
    ) -> Result<(), Fault> {
        let mut admission = Admission { last_id: known.last_id, spending: known.spending, ..Admission::new(now) };
        let (current, over): (Vec<ClosedPeriod>, Vec<ClosedPeriod>) =
            usage.iter().partition(|one| one.period == admission.period);
        if let Some(current) = current.first() {
            (admission.used, admission.requests) = (current.used, current.requests);
        }
        let limit = tenant.limits().per_month;
        let is_warned = limit.is_some_and(|limit| admission.used.saturating_mul(5) >= limit.saturating_mul(4));
        let exceeded = false;
        admission.quota = is_warned.then_some(QuotaMarks { period: admission.period, warned: true, exceeded });
        let shipped = ShippedState {
            record: known.last_id.map_or_else(String::new, |id| id.to_string()),
            counts: ShippedCounts::beginning_at(now),
            ..ShippedState::default()
        };
        let store = self.store();
        store.atomically(|| {
            store.put_tenant(&tenant)?;
            store.put_admission(&admission)?;
            store.put_closed_periods(&over)?;
            store.put_state("shipped", &shipped)?;
            // All records that were taken back are to be polled.
            store.put_state(super::finality::WATCHED, &"")?;
            store.put_state(RESTORING, &None::<Restoring>)
        })?;
        self.memory.replace(Some(LedgerState::new(tenant, admission)));
        self.lost_until.set(None);
        Ok(())
    }

    /// Says what this ledger knows. It loads nothing for that: the directory may have lost it.
    pub(super) fn copy(&self, after: Option<SettlementId>) -> Result<LedgerOutput, Fault> {
        let store = self.store();
        let memory = self.memory.borrow();
        let Some(memory) = memory.as_ref() else { return Ok(LedgerOutput::empty(LedgerReply::NoTenant)) };
        let admission = &memory.admission;
        let mut usage = store.closed_periods()?;
        usage.push(ClosedPeriod { period: admission.period, used: admission.used, requests: admission.requests });
        let mut rows = store.settlements_after(after, COPIED_MAX.saturating_add(1))?;
        let page = usize::try_from(COPIED_MAX).unwrap_or(usize::MAX);
        let is_more = rows.len() > page;
        rows.truncate(page);
        let next = rows.last().map(|row| row.id).filter(|_| is_more);
        let copy = LedgerCopy {
            tenant: memory.tenant.clone(),
            last_used: admission.last_used.clone(),
            usage,
            settlements: rows.into_iter().map(kept_settlement).collect::<Result<_, _>>()?,
            next,
        };
        Ok(LedgerOutput::of(LedgerReply::Copied, ApiReply::json(200, &copy)))
    }
}

/// A settlement as it is given away: as it would be shipped.
fn kept_settlement(row: StoredSettlement) -> Result<KeptSettlement, Fault> {
    let progress: SettlementProgress = serde_json::from_str(&row.course).map_err(Fault::internal_json)?;
    let course = serde_json::to_string(&progress.shipped()).map_err(Fault::internal)?;
    Ok(KeptSettlement { body: row.body, course: Some(course), revision: row.revision })
}

fn restoring(place: RestorePlace) -> Result<LedgerOutput, Fault> {
    Ok(LedgerOutput::of(LedgerReply::Restoring, ApiReply::json(200, &place)))
}

/// Stores a part, and counts what it adds to the rest.
fn take_part(
    store: &LedgerStore,
    mut known: Restoring,
    part: &RestoredPart,
    now: UnixMillis,
) -> Result<Restoring, Fault> {
    for kept in &part.settlements {
        let restored = kept.restored()?;
        store.restore_settlement(&restored, kept.revision)?;
        let progress = &restored.record.progress;
        // A network of a later build has spent nothing that this one bounds.
        if let Ok(network) = restored.record.settlement.registered_network() {
            known.spending.restore(network.key, (progress.costs, progress.reserve), now);
        }
    }
    for record in &part.records {
        let restored = restored_record(&record.body, record.units.as_deref(), now)?;
        for claim in &restored.claims {
            store.restore_claim(claim)?;
        }
        for payer in &restored.payers {
            store.put_payer(payer)?;
        }
        if restored.is_polled {
            store.restore_record(record)?;
        }
        known.last_id = known.last_id.max(Some(record.id));
    }
    known.place = part.to;
    Ok(known)
}

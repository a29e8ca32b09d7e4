//! Verified payments that are not final are polled until they are.

use super::TenantLedger;
use super::store::LedgerStore;
use crate::app;
use crate::app::App;
use crate::rpc::trace;
use crate::telemetry::{TelemetryField, TelemetryKind, event};
use futures_util::future::join_all;
use std::rc::Rc;
use x402_chain::address::TxId;
use x402_chain::id::{EventId, VerificationId};
use x402_chain::network::Network;
use x402_chain::time::UnixMillis;
use x402_core::error::Fault;
use x402_core::outbox::{OutboxEntry, OutboxEvent};
use x402_core::settings::Settings;
use x402_core::verification::answer::VerificationAnswer;
use x402_core::verification::finality;
use x402_core::verification::finality::EventKind;

/// The most payments polled in one alarm; each takes a few requests, and the platform opens six connections at once.
const POLLS_MAX: i64 = 12;

/// Writes a record's new body, its event, and the outbox entries for both.
pub(super) fn write_record_change(
    store: &LedgerStore,
    record: &VerificationAnswer,
    event: Option<EventKind>,
    now: UnixMillis,
) -> Result<(), Fault> {
    let id = record.id.to_string();
    store.update_record(&id, &serde_json::to_string(record).map_err(Fault::internal)?)?;
    store.put_outbox(&OutboxEntry::Record(record.id))?;
    if let Some(kind) = event {
        let body = serde_json::value::to_raw_value(record).map_err(Fault::internal)?;
        let event = OutboxEvent { id: EventId::new(now, app::random()?), kind, subject: id, body, at: now };
        store.put_outbox(&OutboxEntry::Event(event))?;
    }
    Ok(())
}

/// A record with the transaction that it is about.
struct TrackedPayment {
    record: VerificationAnswer,
    network: &'static Network,
    tx: TxId,
}

/// A record that is polled; `None` where the ledger has deleted it.
fn tracked_payment(store: &LedgerStore, id: &str) -> Result<Option<TrackedPayment>, Fault> {
    let Some(row) = store.record(id)? else { return Ok(None) };
    let record: VerificationAnswer = serde_json::from_str(&row.body).map_err(Fault::internal)?;
    let (network, tx) = record.transaction()?;
    Ok(Some(TrackedPayment { record, network, tx }))
}

impl TenantLedger {
    /// Reads the transactions whose next poll is due.
    pub(super) async fn poll_due_payments(&self, now: UnixMillis) -> Result<(), Fault> {
        let store = self.store();
        let due = store.finality_polls_due(now, POLLS_MAX)?;
        if due.is_empty() {
            return Ok(());
        }
        let settings = App::new(self.env.clone(), "")?.settings;
        let polls = due.iter().map(|id| self.poll_payment(id, Rc::clone(&settings), now));
        for (id, polled) in due.iter().zip(join_all(polls).await) {
            if let Err(fault) = polled {
                let fields = [TelemetryField::Verification(VerificationId::parse(id)), TelemetryField::Cause(&fault)];
                event(TelemetryKind::PaymentNotPolled, &fields);
                // After a failure the next poll is put off, not dropped.
                store.atomically(|| store.track_finality(id, now.plus(60_000)))?;
            }
        }
        Ok(())
    }

    async fn poll_payment(&self, id: &str, settings: Rc<Settings>, now: UnixMillis) -> Result<(), Fault> {
        let store = self.store();
        let Some(tracked) = tracked_payment(&store, id)? else {
            return store.atomically(|| store.untrack_finality(id));
        };
        let trace = trace::poll_transaction(&settings, tracked.network, &tracked.tx, now).await;
        // The record may have changed while the chain was asked: apply the trace to its newest body.
        let now = app::now();
        let Some(mut fresh) = tracked_payment(&store, id)? else {
            return store.atomically(|| store.untrack_finality(id));
        };
        store.atomically(|| {
            if let Some(trace) = &trace {
                let (changed, event) = finality::apply_trace(&mut fresh.record, fresh.network, trace);
                if changed {
                    write_record_change(&store, &fresh.record, event, now)?;
                }
            }
            match finality::next_poll(fresh.network, &fresh.record, fresh.record.id.created_at(), now) {
                Some(at) => store.track_finality(id, at),
                None => store.untrack_finality(id),
            }
        })
    }
}

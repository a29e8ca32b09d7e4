//! A settlement after its reservation: the settler's reports, which request gets the success, and reservations on which
//! no settler reports.

use super::TenantLedger;
use super::payment::ROUTE;
use super::reply::LedgerOutput;
use crate::app;
use crate::app::App;
use crate::clients;
use crate::request_trace;
use crate::telemetry::{TelemetryField, TelemetryKind, event};
use serde_json::value::RawValue;
use x402_api::answer::AnswerEcho;
use x402_api::explain::{ComposedAnswer, ExplainRequest};
use x402_api::records::ListPage;
use x402_api::{ApiReply, answer};
use x402_chain::id::SettlementId;
use x402_chain::time::UnixMillis;
use x402_core::error::{ErrorCode, Fault};
use x402_core::event::EventKind;
use x402_core::messages::ledger::{DeliverMessage, LedgerEnvelope, LedgerReply, PageQuery, ReopenMessage};
use x402_core::messages::settler::RefuseOutcome;
use x402_core::outbox::{OutboxEntry, OutboxEvent};
use x402_core::settlement::SettlementReport;
use x402_core::settlement::payment::{SUCCESS_REPEATS_MS, TakeResult, delivered};
use x402_core::settlement::status::{SettlementFilter, SettlementStatus};
use x402_core::tenancy::admission::PresentedKey;
use x402_core::tenancy::budget::{DayCosts, EndedAttempt};

/// The most settlements checked in one alarm; each may be a call to a settler.
const POLLED_MAX: i64 = 50;
/// A settler that does not answer is asked again after this long.
const POLL_AGAIN_MS: u64 = 30_000;

fn no_settlement() -> Fault {
    Fault::new(ErrorCode::NotFound, "no such settlement")
}

impl TenantLedger {
    /// Applies the settler's report: the transfer of a completed settlement is claimed.
    pub(super) async fn apply_settlement_report(
        &self,
        report: &SettlementReport,
        now: UnixMillis,
    ) -> Result<LedgerOutput, Fault> {
        let store = self.store();
        self.with_state(|memory| {
            let Some((mut kept, _)) = store.settlement(report.settlement)? else { return Ok(()) };
            let settlement = &kept.settlement;
            let held = match &report.transaction {
                Some(id) => store.claims(&settlement.network, id, &settlement.pay_to)?,
                None => Vec::new(),
            };
            let applied = kept.apply_report(report, &held, now);
            if !applied.changed {
                return Ok(());
            }
            let mut admission = memory.admission.clone();
            let failed = kept.settlement.status == SettlementStatus::Failed;
            let ended = EndedAttempt { reserve: applied.ended, spent: report.spent, failed };
            kept.progress.costs = DayCosts::with(kept.progress.costs, ended, now);
            admission.spending.end_attempt(kept.settlement.registered_network()?.key, ended, now);
            store.atomically(|| {
                store.put_settlement(&kept, now)?;
                if let Some(unit) = applied.claim {
                    store.claim_settled(&kept.settlement, unit, now)?;
                }
                store.put_admission(&admission)
            })?;
            memory.note_written(admission, now);
            Ok(())
        })?;
        self.wake_soon(now).await;
        Ok(LedgerOutput::done())
    }

    /// Gives the waiting request the success, or the settlement's status; its lease ends.
    pub(super) async fn deliver_settlement(
        &self,
        deliver: &DeliverMessage,
        envelope: &LedgerEnvelope,
        now: UnixMillis,
    ) -> Result<LedgerOutput, Fault> {
        let store = self.store();
        let wish =
            ExplainRequest { request: deliver.explain, tenant: self.with_state(|memory| Ok(memory.tenant.explain))? };
        let (mut kept, _) = store.settlement(deliver.settlement)?.ok_or_else(no_settlement)?;
        let key = kept.progress.lease.as_ref().and_then(|lease| lease.key.clone());
        let taken = kept.deliver(envelope.request_id, now);
        let answer = delivered(taken, &kept, deliver.found.clone());
        request_trace::note_outcome(answer.outcome_name());
        let echo = AnswerEcho { payer: Some(kept.settlement.payer.clone()), network: &deliver.network_text };
        let ComposedAnswer { whole, reply } = answer::compose_answer(&answer, echo, wish);
        if taken == TakeResult::Nothing {
            return Ok(reply.into());
        }
        store.atomically(|| {
            store.put_settlement(&kept, now)?;
            match (taken, &key) {
                (TakeResult::Success, Some(key)) => {
                    store.answer_idempotency(ROUTE, key, Some((200, &whole, now.plus(SUCCESS_REPEATS_MS))))
                }
                _ => Ok(()),
            }
        })?;
        self.wake_soon(now).await;
        let is_success = taken == TakeResult::Success;
        Ok(if is_success { LedgerOutput::of(LedgerReply::Success(deliver.settlement), reply) } else { reply.into() })
    }

    /// The caller has disconnected: its lease, or the success that it was given, is open again.
    pub(super) async fn reopen_settlement(
        &self,
        reopen: &ReopenMessage,
        envelope: &LedgerEnvelope,
        now: UnixMillis,
    ) -> Result<LedgerOutput, Fault> {
        let store = self.store();
        let found = match (reopen.settlement, &reopen.authorization) {
            (Some(id), _) => store.settlement(id)?.map(|(kept, _)| kept),
            (None, Some(authorization)) => store.payment(authorization)?.and_then(|row| row.settlement_record),
            (None, None) => None,
        };
        if let Some(mut kept) = found {
            let (changed, key) = kept.reopen(envelope.request_id);
            if changed {
                store.atomically(|| {
                    store.put_settlement(&kept, now)?;
                    key.as_deref().map_or(Ok(()), |key| store.answer_idempotency(ROUTE, key, None))
                })?;
                self.wake_soon(now).await;
            }
        }
        Ok(LedgerOutput::done())
    }

    /// Gives the seller a success by hand, once.
    pub(super) async fn hand_over_settlement(
        &self,
        key: PresentedKey,
        id: SettlementId,
        envelope: &LedgerEnvelope,
        now: UnixMillis,
    ) -> Result<ApiReply, Fault> {
        let store = self.store();
        let (found, headers) = self.with_key(key, now, |_, _| store.settlement(id))?;
        let (mut kept, _) = found.ok_or_else(no_settlement)?;
        if !kept.hand_over(envelope.request_id, now) {
            let detail = match (kept.settlement.status, &kept.settlement.handed_over) {
                (_, Some(_)) => "this settlement was handed over before",
                (SettlementStatus::Completed, None) => "a request waits for this settlement now",
                (SettlementStatus::Pending | SettlementStatus::Failed, None) => "this settlement is not completed",
            };
            return Err(Fault::new(ErrorCode::SettlementNotOpen, detail));
        }
        store.atomically(|| store.put_settlement(&kept, now))?;
        self.wake_soon(now).await;
        let mut reply = ApiReply::json(200, &kept.settlement);
        reply.headers.extend(headers);
        Ok(reply)
    }

    /// Reads a settlement; 404 where this ledger has none with that id.
    pub(super) fn answer_settlement(
        &self,
        key: PresentedKey,
        id: SettlementId,
        now: UnixMillis,
    ) -> Result<ApiReply, Fault> {
        let store = self.store();
        let (found, headers) = self.with_key(key, now, |_, _| store.settlement(id))?;
        let (kept, _) = found.ok_or_else(no_settlement)?;
        let mut reply = ApiReply::json(200, &kept.settlement);
        reply.headers.extend(headers);
        Ok(reply)
    }

    /// Lists settlements, the newest first.
    pub(super) fn answer_settlements(
        &self,
        key: PresentedKey,
        filter: &SettlementFilter,
        page: &PageQuery,
        now: UnixMillis,
    ) -> Result<ApiReply, Fault> {
        let store = self.store();
        // Greater than every id, for the first page.
        let before = page.before.as_deref().unwrap_or("stl_a");
        let limit = i64::from(page.limit).saturating_add(1);
        let (rows, headers) = self.with_key(key, now, |_, _| store.settlements(filter, before, limit))?;
        let ListPage { data, next_cursor } = ListPage::of(rows, page.limit, |(id, _)| id.clone());
        let data = data.into_iter().map(|(_, body)| RawValue::from_string(body)).collect::<Result<Vec<_>, _>>();
        let mut reply = ApiReply::json(200, &ListPage { data: data.map_err(Fault::internal)?, next_cursor });
        reply.headers.extend(headers);
        Ok(reply)
    }

    /// Checks the settlements that are due: a reservation that no settler knows ends; a success that no request was
    /// given becomes an event.
    pub(super) async fn poll_due_settlements(&self, now: UnixMillis) -> Result<(), Fault> {
        let store = self.store();
        for id in store.settlements_due(now, POLLED_MAX)? {
            if let Err(fault) = self.poll_settlement(id, now).await {
                let fields = [TelemetryField::Settlement(Some(id)), TelemetryField::Cause(&fault)];
                event(TelemetryKind::SettlementNotPolled, &fields);
                store.put_settlement_due(id, Some(now.plus(POLL_AGAIN_MS)))?;
            }
        }
        Ok(())
    }

    async fn poll_settlement(&self, id: SettlementId, now: UnixMillis) -> Result<(), Fault> {
        let store = self.store();
        let Some((mut kept, _)) = store.settlement(id)? else { return Ok(()) };
        match kept.due_at() {
            Some(at) if at <= now => {}
            later => return store.put_settlement_due(id, later),
        }
        if kept.settlement.status == SettlementStatus::Completed {
            let body = serde_json::value::to_raw_value(&kept.settlement).map_err(Fault::internal)?;
            let (kind, subject) = (EventKind::SettlementUndelivered, id.to_string());
            let event = OutboxEvent { id: app::event_id(now)?, kind: kind.into(), subject, body, at: now };
            kept.progress.undelivered = true;
            return store.atomically(|| {
                store.put_outbox(&OutboxEntry::Event(event))?;
                store.put_settlement(&kept, now)?;
                store.put_settlement_due(id, None)
            });
        }
        let Some(signer) = kept.progress.signer else {
            return Err(Fault::internal("a reserved settlement has no signer"));
        };
        let network = kept.settlement.registered_network()?;
        let app = App::new(self.env.clone(), "")?;
        let standing = clients::settler::refuse_attempt(&app, network, &signer, id, kept.progress.attempt).await?;
        let now = app::now();
        self.with_state(|memory| {
            // The settlement may have changed while the settler was asked.
            let Some((mut fresh, _)) = store.settlement(id)? else { return Ok(()) };
            let same = fresh.progress.attempt == kept.progress.attempt && fresh.due_at() == kept.due_at();
            if standing == RefuseOutcome::Known || !same {
                return store.put_settlement_due(id, Some(now.plus(POLL_AGAIN_MS)));
            }
            let mut admission = memory.admission.clone();
            let ended = EndedAttempt { reserve: fresh.abandon(now), spent: None, failed: false };
            admission.spending.end_attempt(network.key, ended, now);
            store.atomically(|| {
                store.put_settlement(&fresh, now)?;
                store.put_settlement_due(id, None)?;
                store.put_admission(&admission)
            })?;
            memory.note_written(admission, now);
            Ok(())
        })
    }
}

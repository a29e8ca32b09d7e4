//! Completed flights are polled until they are final. If a transaction's block leaves the chain, its flight is open
//! again: the same bytes are sent, and the result is reported.

use super::sql;
use super::store::FlightRow;
use super::{Settler, network_of};
use crate::app;
use crate::app::App;
use crate::objects::sqlite::millis_value;
use crate::rpc;
use crate::telemetry::{TelemetryField, TelemetryKind, event};
use futures_util::future::join_all;
use x402_chain::address::TxId;
use x402_chain::time::UnixMillis;
use x402_chain::trace::{Depth, TransactionState};
use x402_core::error::Fault;

/// Flights that are polled at the same time.
const POLL_AT_ONCE: usize = 8;
/// The first poll of a completed flight comes after this long; the pauses grow.
const FIRST_MS: u64 = 15_000;
/// A flight that is in a block after this long counts as final, on a chain without a rule of finality or whose finality
/// stands still. Polls are at most this far apart.
const MAX_MS: u64 = 21_600_000;
/// A flight of which no node has reported anything for this long is polled no more.
const GIVE_UP_MS: u64 = 2_592_000_000;

/// The result of polling a completed flight.
enum CompletedState {
    Final,
    InBlock,
    Gone,
    Unknown,
}

impl Settler {
    /// Starts to poll a flight for finality.
    pub(super) fn track_finality(&self, key: &str) -> Result<(), Fault> {
        let now = app::now();
        self.sqlite().run(sql::WATCHED_PUT, vec![key.into(), millis_value(now.plus(FIRST_MS)), millis_value(now)])
    }

    /// When the next poll of a completed flight is due.
    pub(super) fn next_finality_poll(&self) -> Result<Option<UnixMillis>, Fault> {
        Ok(self.sqlite().first(sql::WATCHED_NEXT, Vec::new())?.and_then(|first| first.0))
    }

    /// Polls all completed flights that are due.
    pub(super) async fn poll_completed(&self, app: &App) -> Result<(), Fault> {
        let now = app::now();
        let due = self.sqlite().rows(sql::WATCHED_DUE, vec![millis_value(now)])?;
        for some in due.chunks(POLL_AT_ONCE) {
            join_all(some.iter().map(|due| async {
                let (key, since) = (due.key.as_str(), due.since);
                let followed = match self.poll_completed_flight(app, key, since, now).await {
                    Err(fault) => {
                        self.note_stuck(key, &fault);
                        self.poll_later(key, since, now)
                    }
                    Ok(()) => Ok(()),
                };
                if let Err(fault) = followed {
                    self.note_stuck(key, &fault);
                }
            }))
            .await;
        }
        Ok(())
    }

    async fn poll_completed_flight(
        &self,
        app: &App,
        key: &str,
        since: UnixMillis,
        now: UnixMillis,
    ) -> Result<(), Fault> {
        let Some(row) = self.flight_row(key)? else { return self.untrack_finality(key) };
        match self.completed_state(app, &row).await? {
            CompletedState::Gone => self.reopen_flight(&row).await,
            CompletedState::Final => self.untrack_finality(key),
            CompletedState::InBlock if now.since(since) >= MAX_MS => self.untrack_finality(key),
            CompletedState::InBlock | CompletedState::Unknown => self.poll_later(key, since, now),
        }
    }

    /// Sets the next poll, unless the flight was polled for long enough. That no node has answered says nothing about
    /// the block.
    fn poll_later(&self, key: &str, since: UnixMillis, now: UnixMillis) -> Result<(), Fault> {
        let age = now.since(since);
        if age >= GIVE_UP_MS {
            return self.untrack_finality(key);
        }
        let next = now.plus((age / 2).clamp(FIRST_MS, MAX_MS));
        self.sqlite().run(sql::WATCHED_PUT, vec![key.into(), millis_value(next), millis_value(since)])
    }

    fn untrack_finality(&self, key: &str) -> Result<(), Fault> {
        self.sqlite().run(sql::WATCHED_DELETE, vec![key.into()])
    }

    async fn completed_state(&self, app: &App, row: &FlightRow) -> Result<CompletedState, Fault> {
        let network = network_of(&row.flight)?;
        // A flight without a report is open again, and not completed.
        let Some(report) = &row.report else { return Ok(CompletedState::Final) };
        let id = report.transaction.as_deref().and_then(|text| TxId::parse(network.family, text));
        let id = id.ok_or_else(|| Fault::internal("a completed flight's report has no transaction"))?;
        let trace = rpc::fetch_trace_with_finality(&app.settings, network, &id).await;
        let Some(trace) = trace else { return Ok(CompletedState::Unknown) };
        Ok(match &trace.found {
            TransactionState::Mined(mined) if mined.failure.is_none() => match mined.depth {
                Depth::Finalized => CompletedState::Final,
                Depth::Included | Depth::Confirmed => CompletedState::InBlock,
            },
            TransactionState::Mined(_) | TransactionState::Unknown | TransactionState::Pending => CompletedState::Gone,
        })
    }

    /// The flight is open again.
    async fn reopen_flight(&self, row: &FlightRow) -> Result<(), Fault> {
        let settlement = row.flight.settlement;
        event(TelemetryKind::SettlementReorged, &[TelemetryField::Settlement(Some(settlement))]);
        let mut sent = row.sent.clone();
        sent.reopened = true;
        sent.lost_at = None;
        let sent = serde_json::to_string(&sent).map_err(Fault::internal)?;
        let db = self.sqlite();
        db.atomically(|| {
            db.run(sql::FLIGHT_REOPEN, vec![sent.into(), row.key.as_str().into()])?;
            db.run(sql::WATCHED_DELETE, vec![row.key.as_str().into()])
        })?;
        self.wake_by(app::now().plus(1_000)).await;
        Ok(())
    }
}

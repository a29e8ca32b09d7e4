//! One alarm of a settler: open flights are polled, sent again, given a higher price, or cancelled; ended flights are
//! reported to their ledgers. A flight that cannot be carried on delays no other.

use super::sql;
use super::store::FlightRow;
use super::{ADVANCE_MAX, ALARM_MS, IDLE_MS, POLL_MAX, REPORT_AT_ONCE, REPORT_MS, Settler, network_of};
use crate::app;
use crate::app::App;
use crate::clients;
use crate::telemetry::{TelemetryField, TelemetryKind, event};
use futures_util::future::join_all;
use x402_chain::collect::set_of;
use x402_core::error::Fault;
use x402_core::messages::ledger::{LedgerEnvelope, LedgerMessage};
use x402_core::settlement::{Flight, FlightPayload, SettlementReport};

impl Settler {
    /// Makes sure that the ledger has the final report; only then is a caller answered with it.
    pub(super) async fn ensure_reported(&self, app: &App, row: &FlightRow, report: &SettlementReport) -> bool {
        if row.is_reported {
            return true;
        }
        let is_reported = self.report_to_ledger(app, &row.flight, report).await;
        if is_reported && let Err(fault) = self.sqlite().run(sql::FLIGHT_REPORTED, vec![row.key.as_str().into()]) {
            event(TelemetryKind::FlightNotNoted, &[TelemetryField::Cause(&fault)]);
        }
        is_reported
    }

    pub(super) async fn report_to_ledger(&self, app: &App, flight: &Flight, report: &SettlementReport) -> bool {
        let (request_id, message) = (app::request_id(app::now()), LedgerMessage::Settled(Box::new(report.clone())));
        let envelope = LedgerEnvelope::without_request(flight.tenant, flight.environment, request_id, message);
        clients::ledger::call_ledger(app, &envelope, None).await.is_ok_and(|response| response.is_done())
    }

    /// One alarm. The next alarm is set before anything that may fail.
    pub(super) async fn run_turn(&self) -> Result<(), Fault> {
        let now = app::now();
        self.wake_by(now.plus(ALARM_MS)).await;
        self.open_storage()?;
        if let Err(fault) = self.purge(now) {
            event(TelemetryKind::FlightsNotPurged, &[TelemetryField::Cause(&fault)]);
        }
        let keys = self.open_keys()?;
        let next_poll = self.next_finality_poll()?;
        let is_idle = keys.is_empty() && self.ended_after("")?.is_empty() && self.launching.borrow().is_empty();
        if is_idle && next_poll.is_none_or(|due| due > now) {
            // Nothing is awaited between the read of the rows and this.
            let next = next_poll.unwrap_or_else(|| now.plus(IDLE_MS)).max(now.plus(ALARM_MS));
            self.set_alarm(next).await;
            return Ok(());
        }
        let app = App::new(self.env.clone(), "")?;
        for done in [
            self.advance_flights(&app, keys).await,
            self.report_ended(&app).await,
            self.poll_completed(&app).await,
            self.fill_gaps(&app).await,
            self.report_stuck().await,
        ] {
            if let Err(fault) = done {
                event(TelemetryKind::TurnPartFailed, &[TelemetryField::Cause(&fault)]);
            }
        }
        Ok(())
    }

    /// Open flights: polled in batches, then advanced, the lowest nonce first.
    async fn advance_flights(&self, app: &App, keys: Vec<String>) -> Result<(), Fault> {
        // All later nonces wait for the lowest.
        let lowest = set_of(keys.iter().take(POLL_MAX).cloned());
        let favours = |key: &str| lowest.contains(key) || self.is_awaited(key);
        let turn = self.turns.borrow_mut().advance.next_turn(keys, favours, ADVANCE_MAX);
        for batch in turn.chunks(POLL_MAX) {
            if let Err(fault) = self.poll_flights(app, &self.open_rows(batch)).await {
                event(TelemetryKind::FlightsNotPolled, &[TelemetryField::Cause(&fault)]);
            }
        }
        let rows = self.open_rows(&turn);
        if rows.first().is_some_and(|row| matches!(row.flight.cargo, FlightPayload::Svm(_))) {
            return self.resend_all_svm(app).await;
        }
        for row in rows {
            // Deferred flights are in a block.
            if self.deferred.borrow().contains_key(&row.key) {
                continue;
            }
            if let Err(fault) = self.advance_flight(app, &row.key).await {
                self.note_stuck(&row.key, &fault);
            }
        }
        Ok(())
    }

    /// A flight may have changed while others were advanced.
    async fn advance_flight(&self, app: &App, key: &str) -> Result<(), Fault> {
        match self.open_flight_row(key)? {
            Some(row) => self.advance_evm(app, &row).await,
            None => Ok(()),
        }
    }

    /// Reports ended flights, starting after the last that was reported, so that a ledger that hangs or refuses is not
    /// first each time.
    async fn report_ended(&self, app: &App) -> Result<(), Fault> {
        let (began, last) = (app::now(), self.reported_last.borrow().clone());
        let mut keys = self.ended_after(&last)?;
        if keys.is_empty() {
            keys = self.ended_after("")?;
        }
        for batch in keys.chunks(REPORT_AT_ONCE) {
            if app::now().since(began) >= REPORT_MS {
                break;
            }
            if let Some(key) = batch.last() {
                self.reported_last.borrow_mut().clone_from(key);
            }
            join_all(batch.iter().map(|key| self.report_ended_flight(app, key))).await;
        }
        Ok(())
    }

    async fn report_ended_flight(&self, app: &App, key: &str) {
        match self.flight_row(key) {
            Ok(Some(row)) => {
                if let Some(report) = &row.report {
                    let _ = self.ensure_reported(app, &row, report).await;
                }
            }
            Ok(None) => {}
            Err(fault) => self.note_stuck(key, &fault),
        }
    }

    fn ended_after(&self, key: &str) -> Result<Vec<String>, Fault> {
        let rows = self.sqlite().rows(sql::FLIGHTS_ENDED, vec![key.into()])?;
        Ok(rows.into_iter().map(|row| row.key).collect())
    }

    /// The keys of all open flights, by nonce.
    pub(super) fn open_keys(&self) -> Result<Vec<String>, Fault> {
        let rows = self.sqlite().rows(sql::FLIGHTS_OPEN, Vec::new())?;
        Ok(rows.into_iter().map(|row| row.key).collect())
    }

    /// The open ones of these flights, by nonce, so that they end in the order of their blocks. A row that cannot be
    /// read, or whose network is unknown, is skipped.
    pub(super) fn open_rows(&self, keys: &[String]) -> Vec<FlightRow> {
        let read = |key: &String| {
            let row = self.open_flight_row(key).and_then(|row| match row {
                Some(row) => network_of(&row.flight).map(|_| Some(row)),
                None => Ok(None),
            });
            row.unwrap_or_else(|fault| {
                self.note_stuck(key, &fault);
                None
            })
        };
        let mut rows: Vec<FlightRow> = keys.iter().filter_map(read).collect();
        rows.sort_by_key(|row| row.nonce);
        rows
    }

    pub(super) fn is_awaited(&self, key: &str) -> bool {
        self.awaited.borrow().contains_key(key)
    }
}

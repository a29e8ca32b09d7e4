//! What the end of a flight writes: the report, the cost, and the payer's penalty.

use super::Settler;
use super::sql;
use super::store::{FlightRow, integer_value};
use crate::app;
use crate::objects::sqlite::{millis_value, storage_failed};
use crate::telemetry::counts;
use x402_chain::address::Address;
use x402_chain::network::Network;
use x402_chain::time::UnixMillis;
use x402_core::error::Fault;
use x402_core::metrics::MetricFamily;
use x402_core::settings::Settings;
use x402_core::settlement::flight::FlightEnding;
use x402_core::settlement::penalty::{Penalty, PenaltyEffect, forgotten_before, penalty_effect};
use x402_core::settlement::spending::{SignerBudget, SignerSpending};
use x402_core::settlement::status::SettlementStatus;
use x402_core::settlement::{Flight, SettlementReport};
use x402_core::tenancy::budget::TransactionCost;

const SPENDING: &str = "spending";
/// Ended flights and refused attempts are remembered for a day, for callers that come late.
const KEEP_MS: u64 = 86_400_000;
/// Old rows are deleted this often.
const PURGE_MS: u64 = 3_600_000;

impl Settler {
    /// Ends a flight; a second end changes nothing.
    pub(super) fn end_flight(&self, key: &str, report: &SettlementReport) -> Result<(), Fault> {
        self.sqlite().atomically(|| self.write_flight_end(key, report))
    }

    fn write_flight_end(&self, key: &str, report: &SettlementReport) -> Result<(), Fault> {
        let Some(mut row) = self.open_flight_row(key)? else { return Ok(()) };
        let (now, db) = (app::now(), self.sqlite());
        // A block that left the chain and came back is charged once, here and in the ledger.
        let more = report.spent.and_then(|spent| row.sent.note_cost(spent));
        let text =
            serde_json::to_string(&SettlementReport { spent: more, ..report.clone() }).map_err(storage_failed)?;
        db.run(sql::FLIGHT_END, vec![text.into(), millis_value(now), key.into()])?;
        self.deferred.borrow_mut().remove(key);
        self.turns.borrow_mut().versions.forget(key);
        if let Some(more) = more {
            self.put_sent(key, row.nonce, &row.sent)?;
            self.charge_spending(more, row.flight.free)?;
        }
        let payer = row.flight.payer;
        let known = self.penalty(&payer)?;
        match penalty_effect(report.status, report.reason, report.external, report.spent.is_some()) {
            PenaltyEffect::Extended => self.put_penalty(&payer, Some(Penalty::after_revert(known, now)))?,
            PenaltyEffect::Reduced => self.put_penalty(&payer, known.and_then(|known| known.after_success(now)))?,
            PenaltyEffect::None => {}
        }
        if report.status != SettlementStatus::Completed {
            return Ok(());
        }
        // What somebody else has sent says nothing of how long ours take.
        if !report.external {
            let took = now.since(row.flight.settlement.created_at());
            counts::observe(MetricFamily::InclusionDuration, &[&row.flight.network], took);
        }
        self.track_finality(key)
    }

    /// Ends a flight of which no node has anything, and frees its nonce.
    pub(super) fn end_never_accepted(&self, row: &FlightRow, ending: FlightEnding, poor: bool) -> Result<(), Fault> {
        let report = SettlementReport { poor, ..SettlementReport::of(&row.flight, &row.sent, None, ending) };
        self.sqlite().atomically(|| {
            let mut nonces = self.nonces()?;
            nonces.give_back(row.nonce);
            self.put_nonces(&nonces)?;
            self.write_flight_end(&row.key, &report)
        })
    }

    pub(super) fn penalty(&self, payer: &Address) -> Result<Option<Penalty>, Fault> {
        self.sqlite().first(sql::PENALTY_GET, vec![payer.to_string().into()])
    }

    fn put_penalty(&self, payer: &Address, penalty: Option<Penalty>) -> Result<(), Fault> {
        let payer = payer.to_string().into();
        match penalty {
            Some(Penalty { count, until }) => {
                self.sqlite().run(sql::PENALTY_PUT, vec![payer, integer_value(count.into()), millis_value(until)])
            }
            None => self.sqlite().run(sql::PENALTY_DELETE, vec![payer]),
        }
    }

    /// What the signer has spent today (UTC).
    pub(super) fn spending(&self) -> Result<SignerSpending, Fault> {
        Ok(self.stored_value::<SignerSpending>(SPENDING)?.today(app::now()))
    }

    pub(super) fn charge_spending(&self, spent: TransactionCost, free: bool) -> Result<(), Fault> {
        let spending = self.spending()?.charged(spent, free, app::now());
        self.put_stored_value(SPENDING, &spending)
    }

    /// Takes back the charge for a transaction that no node has.
    pub(super) fn uncharge_spending(&self, spent: TransactionCost) -> Result<(), Fault> {
        self.put_stored_value(SPENDING, &self.spending()?.uncharged(spent))
    }

    /// Deletes old rows, once an hour.
    pub(super) fn purge(&self, now: UnixMillis) -> Result<(), Fault> {
        if self.purged_at.get().is_some_and(|at| now.since(at) < PURGE_MS) {
            return Ok(());
        }
        self.purged_at.set(Some(now));
        let (db, old) = (self.sqlite(), UnixMillis(now.0.saturating_sub(KEEP_MS)));
        db.run(sql::FLIGHTS_PURGE, vec![millis_value(old)])?;
        db.run(sql::REFUSED_PURGE, vec![millis_value(old)])?;
        db.run(sql::PENALTIES_PURGE, vec![millis_value(forgotten_before(now))])
    }
}

/// What a flight's signer may spend in a day; of the free tier's budget, its share.
pub(super) fn signer_budget(settings: &Settings, network: &Network, flight: &Flight) -> SignerBudget {
    let signers = settings.signers(network.family, flight.environment).len();
    let share = u128::try_from(signers).ok().and_then(|signers| settings.free_budget(network).checked_div(signers));
    SignerBudget { signer: settings.signer_budget(network), free: share.unwrap_or(0) }
}

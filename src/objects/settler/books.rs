//! What a flight's end writes: the report, what was spent, what is held against the payer.

use super::Settler;
use super::store::{Row, number};
use crate::app;
use crate::objects::sqlite::{broken, integer, millis, ms};
use crate::sql::settler as sql;
use x402_chain::address::Address;
use x402_chain::network::Network;
use x402_chain::time::UnixMillis;
use x402_core::error::Fault;
use x402_core::settings::Settings;
use x402_core::settlement::flight::Ending;
use x402_core::settlement::penalty::{Consequence, Penalty, consequence, forgotten_before};
use x402_core::settlement::spending::{Budget, Spending};
use x402_core::settlement::status::SettlementStatus;
use x402_core::settlement::{Flight, Report};
use x402_core::tenancy::budget::Spent;

const SPENDING: &str = "spending";
/// What has ended, or was refused, is remembered for a day, for callers that come late.
const KEEP_MS: u64 = 86_400_000;
/// How often what is over is let go.
const PURGE_MS: u64 = 3_600_000;

impl Settler {
    /// Ends a flight; the first end stands.
    pub(super) fn end(&self, key: &str, report: &Report) -> Result<(), Fault> {
        self.db().atomically(|| self.write_end(key, report))
    }

    fn write_end(&self, key: &str, report: &Report) -> Result<(), Fault> {
        let Some(mut row) = self.open_row(key)? else { return Ok(()) };
        let (now, db) = (app::now(), self.db());
        // A block that left the chain and came back takes nothing twice, neither here nor in the ledger.
        let more = report.spent.and_then(|spent| row.sent.charge(spent));
        let text = serde_json::to_string(&Report { spent: more, ..report.clone() }).map_err(broken)?;
        db.run(sql::FLIGHT_END, vec![text.into(), ms(now), key.into()])?;
        self.put_off.borrow_mut().remove(key);
        self.rotas.borrow_mut().versions.forget(key);
        if let Some(more) = more {
            self.put_sent(key, row.nonce, &row.sent)?;
            self.charge(more, row.flight.free)?;
        }
        let payer = row.flight.payer;
        let known = self.penalty(&payer)?;
        match consequence(report.status, report.reason, report.external, report.spent.is_some()) {
            Consequence::Punished => self.put_penalty(&payer, Some(Penalty::next(known, now)))?,
            Consequence::Pardoned => self.put_penalty(&payer, known.and_then(|known| known.pardoned(now)))?,
            Consequence::None => {}
        }
        if report.status == SettlementStatus::Completed { self.watch(key) } else { Ok(()) }
    }

    /// Ends a flight of which no node has anything, and gives its nonce back.
    pub(super) fn end_unhanded(&self, row: &Row, ending: Ending, poor: bool) -> Result<(), Fault> {
        let report = Report { poor, ..Report::of(&row.flight, &row.sent, None, ending) };
        self.db().atomically(|| {
            let mut nonces = self.nonces()?;
            nonces.give_back(row.nonce);
            self.put_nonces(&nonces)?;
            self.write_end(&row.key, &report)
        })
    }

    pub(super) fn penalty(&self, payer: &Address) -> Result<Option<Penalty>, Fault> {
        let rows = self.db().rows(sql::PENALTY_GET, vec![payer.to_string().into()])?;
        let read = |row: &Vec<worker::SqlStorageValue>| Penalty {
            count: u32::try_from(integer(row.first())).unwrap_or(u32::MAX),
            until: millis(row.get(1)),
        };
        Ok(rows.first().map(read))
    }

    fn put_penalty(&self, payer: &Address, penalty: Option<Penalty>) -> Result<(), Fault> {
        let payer = payer.to_string().into();
        match penalty {
            Some(Penalty { count, until }) => {
                self.db().run(sql::PENALTY_PUT, vec![payer, number(count.into()), ms(until)])
            }
            None => self.db().run(sql::PENALTY_DELETE, vec![payer]),
        }
    }

    /// What was spent today.
    pub(super) fn spending(&self) -> Result<Spending, Fault> {
        Ok(self.value::<Spending>(SPENDING)?.today(app::now()))
    }

    pub(super) fn charge(&self, spent: Spent, free: bool) -> Result<(), Fault> {
        let spending = self.spending()?.charged(spent, free, app::now());
        self.put_value(SPENDING, &spending)
    }

    /// Takes back what was charged for a transaction that no node has.
    pub(super) fn uncharge(&self, spent: Spent) -> Result<(), Fault> {
        self.put_value(SPENDING, &self.spending()?.uncharged(spent))
    }

    /// Lets go what is over for long, once an hour.
    pub(super) fn purge(&self, now: UnixMillis) -> Result<(), Fault> {
        if self.purged_at.get().is_some_and(|at| now.since(at) < PURGE_MS) {
            return Ok(());
        }
        self.purged_at.set(Some(now));
        let (db, old) = (self.db(), UnixMillis(now.0.saturating_sub(KEEP_MS)));
        db.run(sql::FLIGHTS_PURGE, vec![ms(old)])?;
        db.run(sql::REFUSED_PURGE, vec![ms(old)])?;
        db.run(sql::PENALTIES_PURGE, vec![ms(forgotten_before(now))])
    }
}

/// What a flight's signer may spend in a day: of what is set aside for the free tier, its share.
pub(super) fn budget(settings: &Settings, network: &Network, flight: &Flight) -> Budget {
    let signers = settings.signers(network.family, flight.environment).len();
    let share = u128::try_from(signers).ok().and_then(|signers| settings.free_budget(network).checked_div(signers));
    Budget { signer: settings.signer_budget(network), free: share.unwrap_or(0) }
}

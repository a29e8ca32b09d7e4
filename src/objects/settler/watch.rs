//! What is completed is followed until the chain cannot take it back. A
//! transaction whose block has left the chain is open again: the same bytes are
//! sent, and whatever comes of them is reported.

use super::store::Row;
use super::{Settler, network_of};
use crate::app;
use crate::app::App;
use crate::objects::sqlite::{integer, ms, text};
use crate::sql::settler as sql;
use crate::{rpc, telemetry};
use futures_util::future::join_all;
use x402_chain::address::TxId;
use x402_chain::time::UnixMillis;
use x402_chain::trace::{Depth, Found};
use x402_core::error::Fault;

/// Flights that are looked at at once.
const LOOK_AT_ONCE: usize = 8;
/// When a completed flight is first looked at again; later ever more seldom.
const FIRST_MS: u64 = 15_000;
/// Chains without a rule of finality are believed after this long, and so are those that stand still.
const MAX_MS: u64 = 21_600_000;

/// What became of a completed flight.
enum Standing {
    Final,
    InBlock,
    Gone,
    Unknown,
}

impl Settler {
    /// Begins to follow a flight.
    pub(super) fn watch(&self, key: &str) -> Result<(), Fault> {
        let now = app::now();
        self.db().run(sql::WATCHED_PUT, vec![key.into(), ms(now.plus(FIRST_MS)), ms(now)])
    }

    /// When the next is due.
    pub(super) fn next_watch(&self) -> Result<Option<UnixMillis>, Fault> {
        let rows = self.db().rows(sql::WATCHED_NEXT, Vec::new())?;
        let at = rows.first().map_or(0, |row| integer(row.first()));
        Ok(u64::try_from(at).ok().filter(|at| *at > 0).map(UnixMillis))
    }

    /// Looks at all that are due.
    pub(super) async fn follow(&self, app: &App) -> Result<(), Fault> {
        let now = app::now();
        let due = self.db().rows(sql::WATCHED_DUE, vec![ms(now)])?;
        for some in due.chunks(LOOK_AT_ONCE) {
            join_all(some.iter().map(|due| async {
                let key = text(due.first());
                let since = UnixMillis(u64::try_from(integer(due.get(1))).unwrap_or_default());
                let followed = match self.follow_one(app, &key, since, now).await {
                    Err(fault) => {
                        self.stuck(&key, &fault);
                        self.watch_on(&key, since, now)
                    }
                    Ok(()) => Ok(()),
                };
                if let Err(fault) = followed {
                    self.stuck(&key, &fault);
                }
            }))
            .await;
        }
        Ok(())
    }

    async fn follow_one(&self, app: &App, key: &str, since: UnixMillis, now: UnixMillis) -> Result<(), Fault> {
        let Some(row) = self.row(key)? else { return self.watch_no_more(key) };
        match self.standing(app, &row).await? {
            Standing::Gone => self.reopen(&row).await,
            Standing::Final => self.watch_no_more(key),
            Standing::InBlock | Standing::Unknown => self.watch_on(key, since, now),
        }
    }

    /// Once more later, unless it was followed for long enough.
    fn watch_on(&self, key: &str, since: UnixMillis, now: UnixMillis) -> Result<(), Fault> {
        let age = now.since(since);
        if age >= MAX_MS {
            return self.watch_no_more(key);
        }
        let next = now.plus(FIRST_MS.max(age / 2));
        self.db().run(sql::WATCHED_PUT, vec![key.into(), ms(next), ms(since)])
    }

    fn watch_no_more(&self, key: &str) -> Result<(), Fault> {
        self.db().run(sql::WATCHED_DELETE, vec![key.into()])
    }

    async fn standing(&self, app: &App, row: &Row) -> Result<Standing, Fault> {
        let network = network_of(&row.flight)?;
        let text = row.report.as_ref().and_then(|report| report.transaction.as_deref());
        let Some(id) = text.and_then(|text| TxId::parse(network.family, text)) else { return Ok(Standing::Final) };
        let trace = rpc::trace_to_finality(&app.settings, network, &id).await;
        let Some(trace) = trace else { return Ok(Standing::Unknown) };
        Ok(match &trace.found {
            Found::Mined(mined) if mined.failure.is_none() => match mined.depth {
                Depth::Finalized => Standing::Final,
                Depth::Seen | Depth::Confirmed => Standing::InBlock,
            },
            Found::Mined(_) | Found::Unknown | Found::Pending => Standing::Gone,
        })
    }

    /// The flight is on its way again.
    async fn reopen(&self, row: &Row) -> Result<(), Fault> {
        let settlement = row.flight.settlement.to_string();
        telemetry::error("a settlement's block has left the chain", &[("settlement", settlement.as_str().into())]);
        let mut sent = row.sent.clone();
        sent.reopened = true;
        sent.lost_at = None;
        let sent = serde_json::to_string(&sent).map_err(Fault::internal)?;
        let db = self.db();
        db.atomically(|| {
            db.run(sql::FLIGHT_REOPEN, vec![sent.into(), row.key.as_str().into()])?;
            db.run(sql::WATCHED_DELETE, vec![row.key.as_str().into()])
        })?;
        self.wake_by(app::now().plus(1_000)).await;
        Ok(())
    }
}

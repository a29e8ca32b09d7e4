//! `POST /v1/admin/tenants/{id}/rebuild`: rows of the directory from what ledgers know, or empty ledgers from the directory and
//! the records of the months. Each part is bounded in time, and each step may be repeated.

use super::records::{RecordPlaces, RecordsReading};
use crate::app;
use crate::app::App;
use crate::clients;
use crate::clients::ledger::LedgerResponse;
use crate::clients::records::RecordsClient;
use crate::d1;
use crate::d1::change::{Actor, Change};
use crate::d1::{SettlementCopy, Shipment, rebuild};
use crate::request::IncomingRequest;
use x402_api::ApiReply;
use x402_api::rebuild::{
    CopyCursor, MISSING_IN_DIRECTORY, MISSING_IN_LEDGERS, Rebuild, RebuildSource, RebuildView, RebuiltCounts,
    read_rebuild,
};
use x402_chain::id::{SettlementId, TenantId};
use x402_chain::network::Environment;
use x402_chain::time::{Period, UnixMillis};
use x402_core::audit::AuditAction;
use x402_core::error::{ErrorCode, Fault};
use x402_core::messages::ledger::rebuild::{KeptRecord, LedgerCopy, RestoreMessage, RestorePlace, RestoredPart};
use x402_core::messages::ledger::{LedgerMessage, LedgerReply};
use x402_core::records::archive::ArchiveOwner;

/// A part begins no further step after this long.
const PART_MS: u64 = 8_000;
/// Settlements that a ledger takes back at once, some 3 KiB each.
const SETTLEMENTS_MAX: u64 = 100;
/// Records that a ledger takes back at once, at most 2 MiB.
const RECORDS_MAX: usize = 300;

/// Rebuilds a part of a tenant.
pub(super) async fn rebuild_tenant(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let no_tenant = || Fault::new(ErrorCode::NotFound, "no such tenant");
    let tenant = TenantId::parse(incoming.param(0)).ok_or_else(no_tenant)?;
    let wanted = read_rebuild(&incoming.body)?;
    let until = app::now().plus(PART_MS);
    let mut part = RebuildPart { app, incoming, tenant, until, counts: RebuiltCounts::default() };
    let (from, done, next_cursor, missing) = match wanted {
        Rebuild::Directory(cursor) => {
            let next = part.write_directory(cursor).await?;
            (RebuildSource::Ledger, next.is_none(), next.and_then(CopyCursor::text), MISSING_IN_LEDGERS)
        }
        Rebuild::Ledgers => {
            let done = part.restore_ledgers().await?;
            (RebuildSource::Directory, done, None, MISSING_IN_DIRECTORY)
        }
    };
    let (tenant, rebuilt) = (tenant.to_string(), part.counts);
    Ok(ApiReply::json(200, &RebuildView { tenant, from, done, next_cursor, rebuilt, missing }))
}

/// One request's part of a rebuild.
struct RebuildPart<'a> {
    app: &'a App,
    incoming: &'a IncomingRequest,
    tenant: TenantId,
    /// When no further step begins.
    until: UnixMillis,
    counts: RebuiltCounts,
}

impl RebuildPart<'_> {
    fn is_over(&self) -> bool {
        app::now() >= self.until
    }

    const fn owner(&self, environment: Environment) -> ArchiveOwner {
        ArchiveOwner { tenant: self.tenant, environment }
    }

    fn change(&self, detail: &str) -> Result<Change, Fault> {
        let subject = self.tenant.to_string();
        let made = self.incoming.change_by(Actor::Operator, self.tenant, AuditAction::TenantRebuilt, subject)?;
        Ok(made.detail(detail))
    }

    async fn call(&self, environment: Environment, message: LedgerMessage) -> Result<LedgerResponse, Fault> {
        let envelope = self.incoming.envelope(self.app, (self.tenant, environment), message);
        clients::ledger::call_ledger(self.app, &envelope, None).await
    }

    /// What a ledger knows, with the settlements after one; `None` of an empty ledger.
    async fn copy(&self, of: Environment, after: Option<SettlementId>) -> Result<Option<LedgerCopy>, Fault> {
        let response = self.call(of, LedgerMessage::Copy { after }).await?;
        if *response.reply() == LedgerReply::NoTenant {
            return Ok(None);
        }
        if *response.reply() == LedgerReply::Copied { response.json().await.map(Some) } else { Err(unanswered()) }
    }

    /// Writes what ledgers know to the directory, from a cursor on; returns where the next part begins.
    async fn write_directory(&mut self, mut at: CopyCursor) -> Result<Option<CopyCursor>, Fault> {
        loop {
            let next = match at {
                CopyCursor::First => self.write_copies().await?,
                CopyCursor::Settlements(of, after) => self.write_settlements(of, after).await?,
                CopyCursor::Totals(of, month) => match self.copy_totals(of, month).await? {
                    Some(next) => next,
                    None => return Ok(None),
                },
            };
            if self.is_over() {
                return Ok(Some(next));
            }
            at = next;
        }
    }

    /// Writes the tenant, its keys, addresses and endpoints, and its usage.
    async fn write_copies(&mut self) -> Result<CopyCursor, Fault> {
        let mut copies = Vec::new();
        for environment in Environment::ALL {
            copies.extend(self.copy(environment, None).await?);
        }
        if copies.is_empty() {
            return Err(Fault::new(ErrorCode::NotFound, "no ledger knows such a tenant"));
        }
        let db = self.app.db()?;
        rebuild::write_copies(&db, &copies, &self.change("directory")?).await?;
        for copy in &copies {
            let mut shipment = Shipment::new(self.tenant, copy.tenant.environment, self.incoming.now);
            // Of a period without a request the directory need not know.
            for usage in copy.usage.iter().filter(|usage| usage.requests > 0 || usage.used > 0) {
                shipment.add_usage(*usage);
                self.counts.periods = self.counts.periods.saturating_add(1);
            }
            if !shipment.is_empty() {
                d1::write_shipment(&db, shipment).await?;
            }
            let counts = &mut self.counts;
            counts.ledgers = counts.ledgers.saturating_add(1);
            counts.api_keys = counts.api_keys.saturating_add(copy.tenant.keys.len());
            counts.recipients = counts.recipients.saturating_add(copy.tenant.recipients.len());
            counts.webhook_endpoints = counts.webhook_endpoints.saturating_add(copy.tenant.endpoints().len());
        }
        Ok(CopyCursor::Settlements(Environment::Live, None))
    }

    /// Writes a page of settlements.
    async fn write_settlements(&mut self, of: Environment, after: Option<SettlementId>) -> Result<CopyCursor, Fault> {
        let totals = CopyCursor::Totals(of, Period::of(self.incoming.now));
        let Some(copy) = self.copy(of, after).await? else { return Ok(totals) };
        let mut shipment = Shipment::new(self.tenant, of, self.incoming.now);
        for kept in copy.settlements {
            let settlement = serde_json::from_str(&kept.body).map_err(Fault::internal_json)?;
            let course = kept.course.unwrap_or_else(|| "{}".to_owned());
            shipment.add_settlement(SettlementCopy { settlement, body: kept.body, course, revision: kept.revision });
            self.counts.settlements = self.counts.settlements.saturating_add(1);
        }
        if !shipment.is_empty() {
            d1::write_shipment(&self.app.db()?, shipment).await?;
        }
        Ok(copy.next.map_or(totals, |next| CopyCursor::Settlements(of, Some(next))))
    }

    /// Has a month copy its totals; returns what comes next.
    async fn copy_totals(&mut self, of: Environment, month: Period) -> Result<Option<CopyCursor>, Fault> {
        let client = RecordsClient { namespace: self.app.records()?, owner: self.owner(of) };
        client.copy_totals(month).await?;
        self.counts.months = self.counts.months.saturating_add(1);
        Ok(match of {
            _ if month > Period::of(self.tenant.created_at()) => Some(CopyCursor::Totals(of, month.previous())),
            Environment::Live => Some(CopyCursor::Settlements(Environment::Test, None)),
            Environment::Test => None,
        })
    }

    /// Goes on with the ledgers that are empty; whether all of them serve again.
    async fn restore_ledgers(&mut self) -> Result<bool, Fault> {
        let db = self.app.db()?;
        for environment in Environment::ALL {
            let loaded = d1::load_first(&db, self.tenant, environment).await?;
            let (_, has_counted) = loaded.ok_or_else(|| Fault::new(ErrorCode::NotFound, "no such tenant"))?;
            let place = self.restore(environment, RestoreMessage::Begin).await?;
            if place == RestorePlace::Held {
                // The part before may have ended between the ledger and this.
                rebuild::note_rebuilt(&db, environment, &self.change(environment.name())?).await?;
                continue;
            }
            // One that was never used is not lost, and begins by itself.
            if place == RestorePlace::FIRST && !has_counted {
                continue;
            }
            rebuild::note_lost(&db, (self.tenant, environment), self.incoming.now).await?;
            if !self.restore_ledger(environment, place).await? {
                return Ok(false);
            }
            rebuild::note_rebuilt(&db, environment, &self.change(environment.name())?).await?;
            self.counts.ledgers = self.counts.ledgers.saturating_add(1);
        }
        Ok(true)
    }

    async fn restore(&self, of: Environment, message: RestoreMessage) -> Result<RestorePlace, Fault> {
        let response = self.call(of, LedgerMessage::Restore(Box::new(message))).await?;
        if *response.reply() == LedgerReply::Restoring { response.json().await } else { Err(unanswered()) }
    }

    /// Gives a ledger what comes next; whether it serves.
    async fn restore_ledger(&mut self, of: Environment, mut place: RestorePlace) -> Result<bool, Fault> {
        let places = RecordPlaces::of(self.app, self.owner(of), self.incoming.now)?;
        let mut reading = RecordsReading::default();
        loop {
            let message = match place {
                RestorePlace::Held => return Ok(true),
                RestorePlace::Settlements(before) => self.settlements_part(of, before).await?,
                RestorePlace::Records(before) => {
                    let found = places.export((before, None), RECORDS_MAX, &mut reading).await?;
                    let kept = |copy: x402_core::records::RecordCopy| KeptRecord {
                        id: copy.id,
                        revision: copy.revision,
                        body: copy.record.get().to_owned(),
                        units: copy.units,
                    };
                    let records: Vec<KeptRecord> = found.records.into_values().map(kept).collect();
                    self.counts.records = self.counts.records.saturating_add(records.len());
                    let to = found.floor.map_or(RestorePlace::Ready, |floor| RestorePlace::Records(Some(floor)));
                    RestoreMessage::Take(RestoredPart { from: place, to, settlements: Vec::new(), records })
                }
                RestorePlace::Ready => {
                    let usage = rebuild::usage_of(&self.app.db()?, self.owner(of)).await?;
                    self.counts.periods = self.counts.periods.saturating_add(usage.len());
                    RestoreMessage::Finish(usage)
                }
            };
            place = self.restore(of, message).await?;
            if place != RestorePlace::Held && self.is_over() {
                return Ok(false);
            }
        }
    }

    async fn settlements_part(
        &mut self,
        of: Environment,
        before: Option<SettlementId>,
    ) -> Result<RestoreMessage, Fault> {
        let rows = rebuild::kept_settlements(&self.app.db()?, self.owner(of), before, SETTLEMENTS_MAX).await?;
        self.counts.settlements = self.counts.settlements.saturating_add(rows.len());
        let is_more = rows.len() >= usize::try_from(SETTLEMENTS_MAX).unwrap_or(usize::MAX);
        let last = rows.last().map(|row| row.id).filter(|_| is_more);
        let to = last.map_or(RestorePlace::Records(None), |last| RestorePlace::Settlements(Some(last)));
        let settlements = rows.into_iter().map(|row| row.kept).collect();
        Ok(RestoreMessage::Take(RestoredPart {
            from: RestorePlace::Settlements(before),
            to,
            settlements,
            records: Vec::new(),
        }))
    }
}

fn unanswered() -> Fault {
    let detail = "a ledger did not answer about its rebuild: send the same again";
    Fault::new(ErrorCode::LedgerUnavailable, detail).after(1)
}

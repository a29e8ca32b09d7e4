//! What ledgers ship to the directory, the periods they close, the registry check's results, and the records that older
//! builds have shipped.

use super::alerts::{AlertCopy, alert_statement};
use super::rows::{ListedRecord, OpenPeriod};
use super::{BoundValue, all, batch, sql, statement};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use worker::D1Database;
use x402_chain::collect::map_of;
use x402_chain::id::{KeyId, TenantId, VerificationId};
use x402_chain::network::Environment;
use x402_chain::registry_check::RegistryCheckOutcome;
use x402_chain::time::UnixMillis;
use x402_core::alert::{is_alert, kept_data};
use x402_core::error::Fault;
use x402_core::messages::ledger::PageQuery;
use x402_core::outbox::{OutboxEvent, OutboxEventKind};
use x402_core::settlement::status::Settlement;
use x402_core::tenancy::admission::ClosedPeriod;

/// The JSON text of a record that an older build has shipped; `None` where the directory has none.
pub(crate) async fn read_record(
    db: &D1Database,
    tenant: TenantId,
    environment: Environment,
    id: VerificationId,
) -> Result<Option<String>, Fault> {
    let (tenant, id) = (tenant.to_string(), id.to_string());
    let bind = [BoundValue::Text(&tenant), BoundValue::Text(environment.name()), BoundValue::Text(&id)];
    let rows = all(db, sql::RECORD_GET, &bind).await?;
    Ok(rows.into_iter().next().map(|row| row.body))
}

/// Records that an older build has shipped, the newest first, one more than the page holds: id and body.
pub(crate) async fn list_records(
    db: &D1Database,
    tenant: TenantId,
    environment: Environment,
    page: &PageQuery,
) -> Result<Vec<(VerificationId, Box<RawValue>)>, Fault> {
    let tenant = tenant.to_string();
    // Greater than every id, for the first page.
    let before = page.before.as_deref().unwrap_or("ver_a");
    let limit = u64::from(page.limit).saturating_add(1);
    let bind = [
        BoundValue::Text(&tenant),
        BoundValue::Text(environment.name()),
        BoundValue::Text(before),
        BoundValue::Number(limit),
    ];
    let rows = all(db, sql::RECORDS_BEFORE, &bind).await?;
    let read = |row: ListedRecord| {
        let id = VerificationId::parse(&row.id).ok_or_else(|| Fault::internal("a record has no id"))?;
        Ok((id, RawValue::from_string(row.body).map_err(Fault::internal_json)?))
    };
    rows.into_iter().map(read).collect()
}

/// Settlements before an id, from another on, the newest first: id and JSON text.
///
/// # Errors
/// Where the directory fails.
pub(crate) async fn list_settlements(
    db: &D1Database,
    (tenant, environment): (TenantId, Environment),
    (before, from): (Option<&str>, &str),
    limit: u64,
) -> Result<Vec<(String, String)>, Fault> {
    let tenant = tenant.to_string();
    let bind = [
        BoundValue::Text(&tenant),
        BoundValue::Text(environment.name()),
        // Greater than every id, for the first page.
        BoundValue::Text(before.unwrap_or("stl_a")),
        BoundValue::Text(from),
        BoundValue::Number(limit),
    ];
    let rows = all(db, sql::SETTLEMENTS_BEFORE, &bind).await?;
    Ok(rows.into_iter().map(|row: ListedRecord| (row.id, row.body)).collect())
}

/// A settlement as it is shipped.
pub(crate) struct SettlementCopy {
    pub(crate) settlement: Settlement,
    /// The record as JSON text.
    pub(crate) body: String,
    /// Its progress as JSON text, for a ledger that is rebuilt.
    pub(crate) course: String,
    pub(crate) revision: i64,
}

impl SettlementCopy {
    /// The bytes of its texts.
    pub(crate) fn bytes(&self) -> usize {
        self.body.len().saturating_add(self.course.len())
    }
}

/// What a ledger ships to the directory in one batch.
pub(crate) struct Shipment {
    tenant: TenantId,
    environment: Environment,
    now: UnixMillis,
    settlements: Vec<SettlementCopy>,
    usage: Vec<ClosedPeriod>,
    last_used: Vec<(KeyId, UnixMillis)>,
    alerts: Vec<AlertCopy>,
}

impl Shipment {
    pub(crate) const fn new(tenant: TenantId, environment: Environment, now: UnixMillis) -> Self {
        Self {
            tenant,
            environment,
            now,
            settlements: Vec::new(),
            usage: Vec::new(),
            last_used: Vec::new(),
            alerts: Vec::new(),
        }
    }

    pub(crate) fn add_settlement(&mut self, copy: SettlementCopy) {
        self.settlements.push(copy);
    }

    pub(crate) fn add_usage(&mut self, closed: ClosedPeriod) {
        self.usage.push(closed);
    }

    pub(crate) fn add_last_used(&mut self, key: KeyId, at: UnixMillis) {
        self.last_used.push((key, at));
    }

    /// Whether an event is an alert of the tenant.
    pub(crate) fn is_alert(&self, event: &OutboxEvent) -> bool {
        matches!(event.kind, OutboxEventKind::Known(kind) if is_alert(kind, self.environment))
    }

    /// Adds an event's alert, if it is one.
    pub(crate) fn add_alert(&mut self, event: &OutboxEvent) {
        let OutboxEventKind::Known(kind) = event.kind else { return };
        if is_alert(kind, self.environment) {
            let (subject, data) = (event.subject.clone(), kept_data(kind, event.body.get()));
            self.alerts.push(AlertCopy { event: event.id, kind, subject, data, at: event.at });
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.settlements.is_empty() && self.usage.is_empty() && self.last_used.is_empty() && self.alerts.is_empty()
    }
}

/// The most statements of one shipment: 100 for outbox entries, 51 for usage and keys.
const STATEMENTS_MAX: usize = 200;
/// The most bytes of one shipment: a load of the outbox, 1,000,000 or one larger row.
const SHIPMENT_BYTES_MAX: usize = 2_500_000;

/// Writes a shipment; a repeat is harmless.
///
/// # Errors
/// `LEDGER_UNAVAILABLE` where the directory does not take it; `INTERNAL` where it is larger than the directory takes.
pub(crate) async fn write_shipment(db: &D1Database, shipment: Shipment) -> Result<(), Fault> {
    let (tenant, environment) = (shipment.tenant.to_string(), shipment.environment.name());
    let (tenant, environment) = (BoundValue::Text(&tenant), BoundValue::Text(environment));
    let (mut statements, mut bytes) = (Vec::new(), 0_usize);
    for copy in &shipment.settlements {
        let SettlementCopy { settlement, body, course, revision } = copy;
        let id = settlement.id.to_string();
        bytes = bytes.saturating_add(copy.bytes());
        let bind = [
            BoundValue::Text(&id),
            tenant,
            environment,
            BoundValue::Ms(settlement.id.created_at()),
            BoundValue::Text(&settlement.network),
            BoundValue::Text(settlement.status.name()),
            BoundValue::Text(body),
            BoundValue::Number(u64::try_from(*revision).map_err(Fault::internal)?),
            BoundValue::Text(course),
        ];
        statements.push(statement(db, sql::SETTLEMENT_PUT, &bind)?);
    }
    for usage in &shipment.usage {
        let period = usage.period.to_string();
        let bind = [
            tenant,
            environment,
            BoundValue::Text(&period),
            BoundValue::Number(usage.used),
            BoundValue::Number(usage.requests),
            BoundValue::Ms(shipment.now),
        ];
        statements.push(statement(db, sql::USAGE_PUT, &bind)?);
    }
    for (key, at) in &shipment.last_used {
        let key = key.to_string();
        statements.push(statement(db, sql::KEY_USED, &[BoundValue::Ms(*at), tenant, BoundValue::Text(&key)])?);
    }
    for alert in &shipment.alerts {
        statements.push(alert_statement(db, shipment.tenant, alert)?);
    }
    if statements.len() > STATEMENTS_MAX || bytes > SHIPMENT_BYTES_MAX {
        return Err(Fault::internal(format!("a shipment failed: {bytes} bytes in {} statements", statements.len())));
    }
    batch(db, statements).await.map(|_| ())
}

/// Periods before `current` that are not closed.
pub(crate) async fn open_periods(db: &D1Database, current: &str, limit: u64) -> Result<Vec<OpenPeriod>, Fault> {
    all(db, sql::USAGE_OPEN, &[BoundValue::Text(current), BoundValue::Number(limit)]).await
}

/// Stores the totals of a period that is over.
pub(crate) async fn close_period(db: &D1Database, open: &OpenPeriod, now: UnixMillis) -> Result<(), Fault> {
    let tenant = open.tenant.to_string();
    let bind = [
        BoundValue::Ms(now),
        BoundValue::Text(&tenant),
        BoundValue::Text(open.environment.name()),
        BoundValue::Text(&open.period),
    ];
    batch(db, vec![statement(db, sql::USAGE_CLOSE, &bind)?]).await.map(|_| ())
}

/// The registry check's last definite outcomes, by chain.
pub(crate) async fn read_checks(db: &D1Database) -> Result<BTreeMap<String, RegistryCheckOutcome>, Fault> {
    let rows = all(db, sql::CHECKS_GET, &[]).await?;
    Ok(map_of(rows.into_iter().map(|row| (row.chain, row.outcome))))
}

/// Writes the registry check's outcomes: chain, outcome, report.
pub(crate) async fn put_checks(
    db: &D1Database,
    reports: &[(&str, RegistryCheckOutcome, String)],
    now: UnixMillis,
) -> Result<(), Fault> {
    let statements = reports.iter().map(|(chain, outcome, report)| {
        statement(
            db,
            sql::CHECK_PUT,
            &[BoundValue::Text(chain), BoundValue::Text(outcome.name()), BoundValue::Text(report), BoundValue::Ms(now)],
        )
    });
    let statements: Vec<_> = statements.collect::<Result<_, _>>()?;
    // D1 refuses a batch without statements.
    if statements.is_empty() { Ok(()) } else { batch(db, statements).await.map(|_| ()) }
}

/// Notes how many flights a Settler cannot carry on.
pub(crate) async fn put_stuck(
    db: &D1Database,
    settler: &str,
    chain: &str,
    flights: usize,
    now: UnixMillis,
) -> Result<(), Fault> {
    let flights = BoundValue::Number(u64::try_from(flights).map_err(Fault::internal)?);
    let put = statement(
        db,
        sql::STUCK_PUT,
        &[BoundValue::Text(settler), BoundValue::Text(chain), flights, BoundValue::Ms(now)],
    )?;
    batch(db, vec![put]).await.map(|_| ())
}

/// The number of flights reported as stuck since a time, by chain.
pub(crate) async fn read_stuck(db: &D1Database, since: UnixMillis) -> Result<BTreeMap<String, u64>, Fault> {
    let rows = all(db, sql::STUCK_GET, &[BoundValue::Ms(since)]).await?;
    Ok(map_of(rows.into_iter().map(|row| (row.chain, row.number))))
}

//! Totals of records by hour and by day, as the objects of the months copy them.

use super::{BoundValue, all, batch, sql, statement};
use crate::d1::rows::RollupRow;
use worker::D1Database;
use x402_chain::collect::map_of;
use x402_chain::time::UnixMillis;
use x402_core::error::Fault;
use x402_core::records::archive::ArchiveOwner;
use x402_core::records::rollup::Totals;

/// A day in milliseconds.
const DAY_MS: u64 = 86_400_000;

/// Writes totals of hours and of days; a total of an older revision changes nothing.
///
/// # Errors
/// `LEDGER_UNAVAILABLE` where the directory does not take them.
pub(crate) async fn write_rollups(
    db: &D1Database,
    owner: &ArchiveOwner,
    hours: &Totals,
    days: &Totals,
) -> Result<(), Fault> {
    let spans = [("hour", hours), ("day", days)];
    let rows = spans.into_iter().flat_map(|(span, totals)| totals.iter().map(move |(key, total)| (span, key, total)));
    let rows: Vec<_> = rows
        .map(|(span, key, total)| {
            (span, key.start, &key.chain, &key.outcome, total.count, total.amount, total.revision)
        })
        .collect();
    let rows = serde_json::to_string(&rows).map_err(Fault::internal)?;
    let tenant = owner.tenant.to_string();
    let bind = [BoundValue::Text(&tenant), BoundValue::Text(owner.environment.name()), BoundValue::Text(&rows)];
    batch(db, vec![statement(db, sql::ROLLUPS_PUT, &bind)?]).await.map(|_| ())
}

/// The totals of the hours of a day.
///
/// # Errors
/// `LEDGER_UNAVAILABLE` where the directory cannot be read.
pub(crate) async fn read_rollups(db: &D1Database, owner: &ArchiveOwner, day: UnixMillis) -> Result<Totals, Fault> {
    let tenant = owner.tenant.to_string();
    let bind = [
        BoundValue::Text(&tenant),
        BoundValue::Text(owner.environment.name()),
        BoundValue::Ms(day),
        BoundValue::Ms(day.plus(DAY_MS)),
    ];
    let rows = all(db, sql::ROLLUPS_OF_DAY, &bind).await?;
    Ok(map_of(rows.into_iter().map(|RollupRow(key, total)| (key, total))))
}

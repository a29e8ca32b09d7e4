//! What operators watch, in the directory: usage by tier, incidents, and what signers hold.

#[allow(unreachable_pub, reason = "public natively, for tests")]
pub mod rows;
#[allow(unreachable_pub, reason = "public natively, for tests")]
pub mod sql;

use super::{BoundValue, all, batch, statement};
use rows::{IncidentRow, SignerBalanceRow, TierUsageRow};
use worker::D1Database;
use x402_chain::time::{DAY_MS, Period, UnixMillis};
use x402_core::error::Fault;

/// The most incidents that are listed.
const INCIDENTS_MAX: u64 = 100;
/// How long incidents and balances are kept.
const KEPT_MS: u64 = 90 * DAY_MS;

/// What live tenants have used in a period, by tier.
pub(crate) async fn tier_usage(db: &D1Database, period: Period) -> Result<Vec<TierUsageRow>, Fault> {
    all(db, sql::TIER_USAGE, &[BoundValue::Text(&period.to_string())]).await
}

/// Incidents that began at a time or later, the newest first.
pub(crate) async fn incidents(db: &D1Database, since: UnixMillis) -> Result<Vec<IncidentRow>, Fault> {
    all(db, sql::INCIDENTS_SINCE, &[BoundValue::Ms(since), BoundValue::Number(INCIDENTS_MAX)]).await
}

/// What signers held and have spent on a day and later.
pub(crate) async fn signer_balances(db: &D1Database, since: UnixMillis) -> Result<Vec<SignerBalanceRow>, Fault> {
    all(db, sql::SIGNER_BALANCES, &[BoundValue::Ms(since)]).await
}

/// Stores what signers hold.
pub(crate) async fn put_signer_balances(db: &D1Database, rows: &[SignerBalanceRow]) -> Result<(), Fault> {
    let put = |row: &SignerBalanceRow| {
        let [held, spent] = [row.held, row.spent].map(|number| number.to_string());
        let [chain, signer, held, spent] = [&row.chain, &row.signer, &held, &spent].map(|text| BoundValue::Text(text));
        statement(
            db,
            sql::SIGNER_BALANCE_PUT,
            &[chain, signer, BoundValue::Ms(row.day), held, spent, BoundValue::Ms(row.at)],
        )
    };
    let statements: Vec<_> = rows.iter().map(put).collect::<Result<_, _>>()?;
    if statements.is_empty() {
        return Ok(());
    }
    batch(db, statements).await.map(|_| ())
}

/// Forgets what is older than anything that is shown.
pub(crate) async fn purge(db: &D1Database, now: UnixMillis) -> Result<(), Fault> {
    let before = BoundValue::Ms(UnixMillis(now.0.saturating_sub(KEPT_MS)));
    let statements = vec![
        statement(db, sql::INCIDENTS_PURGE, core::slice::from_ref(&before))?,
        statement(db, sql::SIGNER_BALANCES_PURGE, core::slice::from_ref(&before))?,
    ];
    batch(db, statements).await.map(|_| ())
}

//! The statements of what operators watch.

use super::rows::{IncidentRow, SignerBalanceRow, TierUsageRow};
use crate::storage::statements;

statements! {
    /// Binds a period; returns, by tier, how many tenants have live verifications in it, and how many.
    TIER_USAGE: TierUsageRow = "SELECT tenants.tier AS tier, COUNT(*) AS tenants, SUM(period_usage.verifications) AS used
        FROM period_usage JOIN tenants ON tenants.id = period_usage.tenant_id
        WHERE period_usage.period = ? AND period_usage.closed_ms IS NULL AND period_usage.environment = 'live'
        AND period_usage.verifications > 0 GROUP BY tenants.tier";
    /// Binds a time and a limit; returns incidents that began then or later, the newest first.
    INCIDENTS_SINCE: IncidentRow = "SELECT kind, chain, began_ms, ended_ms FROM incidents WHERE began_ms >= ?
        ORDER BY began_ms DESC LIMIT ?";
    /// Binds a time: forgets incidents that began before and have ended.
    INCIDENTS_PURGE: () = "DELETE FROM incidents WHERE began_ms < ? AND ended_ms IS NOT NULL";
    /// Binds a day; returns what signers held and have spent on that day and later.
    SIGNER_BALANCES: SignerBalanceRow =
        "SELECT chain, signer, day_ms, held, spent, at_ms FROM signer_balances WHERE day_ms >= ?";
    /// Binds chain, signer, day, what is held, what was spent on the day, and the time.
    SIGNER_BALANCE_PUT: () = "INSERT INTO signer_balances (chain, signer, day_ms, held, spent, at_ms)
        VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (day_ms, chain, signer) DO UPDATE SET held = excluded.held,
        spent = excluded.spent, at_ms = excluded.at_ms WHERE excluded.at_ms > signer_balances.at_ms";
    /// Binds a day: forgets what was before.
    SIGNER_BALANCES_PURGE: () = "DELETE FROM signer_balances WHERE day_ms < ?";
}

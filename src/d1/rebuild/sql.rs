//! The statements that rebuild a tenant. Those that change a tenant's rows are one batch, in which that of the tenant itself
//! comes last: until then its version says whether the directory's copy is older than that of the ledger.

use super::rows::{KeptSettlementRow, LostLedgerRow, UsageRow};
use crate::storage::{Present, statements};

statements! {
    /// Binds tenant and environment; returns a row where the ledger is known to have counted something.
    LEDGER_USED: Present = "SELECT 1 AS present WHERE EXISTS (SELECT 1 FROM period_usage WHERE tenant_id = ?1
        AND environment = ?2 AND (requests > 0 OR verifications > 0))
        OR EXISTS (SELECT 1 FROM settlements WHERE tenant_id = ?1 AND environment = ?2)";
    /// Binds tenant, environment, now.
    LOST_PUT: () = "INSERT INTO lost_ledgers (tenant_id, environment, found_ms) VALUES (?, ?, ?) ON CONFLICT DO NOTHING";
    /// Binds tenant and environment: its ledger is rebuilt.
    LOST_CLEAR: () = "DELETE FROM lost_ledgers WHERE tenant_id = ? AND environment = ?";
    /// Binds a limit; returns ledgers that are to be rebuilt, but for those of tenants that are cancelled. There are none as a
    /// rule.
    LOST_LEDGERS: LostLedgerRow = "SELECT l.tenant_id, l.environment FROM lost_ledgers l JOIN tenants t
        ON t.id = l.tenant_id WHERE t.status <> 'cancelled' ORDER BY l.tenant_id, l.environment LIMIT ?";
    /// Binds tenant, environment, an id and a limit; returns settlements before the id, the newest first.
    SETTLEMENTS_KEPT: KeptSettlementRow = "SELECT id, body, course, revision FROM settlements
        WHERE tenant_id = ? AND environment = ? AND id < ? ORDER BY id DESC LIMIT ?";
    /// Binds tenant and environment; returns what was counted in each period.
    USAGE_OF: UsageRow = "SELECT period, verifications, requests FROM period_usage
        WHERE tenant_id = ? AND environment = ? ORDER BY period LIMIT 1200";
    /// Binds now, tenant, environment, a JSON list of keys, and the ledger's version: keys that an older directory knows and
    /// the ledger does not are revoked.
    KEYS_ENDED: () = "UPDATE api_keys SET revoked_ms = ?1 WHERE tenant_id = ?2 AND environment = ?3 AND revoked_ms IS NULL
        AND (expires_ms IS NULL OR expires_ms > ?1) AND id NOT IN (SELECT value ->> 'id' FROM json_each(?4))
        AND EXISTS (SELECT 1 FROM tenants WHERE id = ?2 AND version < ?5)";
    /// Binds tenant, environment, and a JSON list of keys: those that are missing. Their kind and end are not known.
    KEYS_REBUILT: () = "INSERT INTO api_keys (id, tenant_id, environment, name, hash, scopes, created_ms, expires_ms,
        allow_list) SELECT value ->> 'id', ?1, ?2, value ->> 'name', value ->> 'hash', value ->> 'scopes',
        value ->> 'created_ms', value ->> 'expires_ms', value ->> 'allow_list' FROM json_each(?3) WHERE true
        ON CONFLICT DO NOTHING";
    /// Binds tenant, and a JSON object of keys with the times of their last use; never goes back.
    KEYS_LAST_USED: () = "UPDATE api_keys SET last_used_ms = (SELECT value FROM json_each(?2) WHERE key = api_keys.id)
        WHERE tenant_id = ?1 AND id IN (SELECT key FROM json_each(?2))
        AND COALESCE(last_used_ms, 0) < (SELECT value FROM json_each(?2) WHERE key = api_keys.id)";
    /// Binds now, tenant, environment, a JSON list of addresses, and the ledger's version: addresses that an older directory
    /// holds in force and the ledger does not know are retired.
    RECIPIENTS_ENDED: () = "UPDATE recipients SET removed_ms = ?1 WHERE tenant_id = ?2 AND environment = ?3
        AND removed_ms IS NULL AND address NOT IN (SELECT value ->> 'address' FROM json_each(?4))
        AND EXISTS (SELECT 1 FROM tenants WHERE id = ?2 AND version < ?5)";
    /// Binds tenant, environment, a JSON list of addresses, and the ledger's version: addresses that an older directory holds
    /// as retired and the ledger as in force are in force.
    RECIPIENTS_BACK: () = "UPDATE recipients SET removed_ms = NULL WHERE tenant_id = ?1 AND environment = ?2
        AND removed_ms IS NOT NULL AND address IN (SELECT value ->> 'address' FROM json_each(?3))
        AND EXISTS (SELECT 1 FROM tenants WHERE id = ?1 AND version < ?4)";
    /// Binds tenant, environment, now, and a JSON list of addresses: those that nobody has.
    RECIPIENTS_REBUILT: () = "INSERT INTO recipients (environment, address, tenant_id, created_ms, first_use, only_on)
        SELECT ?2, value ->> 'address', ?1, ?3, value ->> 'first_use', value ->> 'only_on' FROM json_each(?4) WHERE true
        ON CONFLICT DO NOTHING";
    /// Binds tenant, a JSON list of chains with addresses, and the ledger's version: chains without a default, or of an older
    /// directory.
    DEFAULTS_REBUILT: () = "INSERT INTO default_recipients (tenant_id, chain, address)
        SELECT ?1, value ->> 'chain', value ->> 'address' FROM json_each(?2) WHERE true
        ON CONFLICT (tenant_id, chain) DO UPDATE SET address = excluded.address
        WHERE default_recipients.address <> excluded.address
        AND EXISTS (SELECT 1 FROM tenants WHERE id = ?1 AND version < ?3)";
    /// Binds tenant, environment, a JSON list of endpoints, and the ledger's version: endpoints that an older directory knows
    /// and the ledger does not are removed.
    ENDPOINTS_ENDED: () = "DELETE FROM webhook_endpoints WHERE tenant_id = ?1 AND environment = ?2
        AND id NOT IN (SELECT value ->> 'id' FROM json_each(?3))
        AND EXISTS (SELECT 1 FROM tenants WHERE id = ?1 AND version < ?4)";
    /// Binds tenant, environment, now, a JSON list of endpoints, and the ledger's version: those that are missing, unless they
    /// may have been removed. Their address and their secret are not known: they are paused, so that their messages wait.
    ENDPOINTS_REBUILT: () = "INSERT INTO webhook_endpoints (id, tenant_id, environment, url, events, status,
        secret_sealed, created_ms, updated_ms, disabled_ms, active_ms, earlier_disabled_ms, earlier_active_ms,
        secret_lost_ms) SELECT value ->> 'id', ?1, ?2, 'https://lost.invalid/', value ->> 'events', value ->> 'status', '',
        value ->> 'created_ms', ?3, value ->> 'disabled_ms', value ->> 'active_ms', value ->> 'earlier_disabled_ms',
        value ->> 'earlier_active_ms', ?3 FROM json_each(?4)
        WHERE NOT EXISTS (SELECT 1 FROM tenants WHERE id = ?1 AND version > ?5)
        AND NOT EXISTS (SELECT 1 FROM removed_endpoints WHERE id = value ->> 'id') ON CONFLICT DO NOTHING";
    /// Binds id, company name, tier, status, region, limits, sanctions, whether to explain, version, the time of its creation,
    /// and now. Its contact is not known. A row of the same version, or a newer one, stays as it is.
    TENANT_REBUILT: () = "INSERT INTO tenants (id, email, company_name, tier, status, region, limits, sanctions, explain,
        version, created_ms, updated_ms, tier_by) VALUES (?1, ?1 || '@lost.invalid', ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10,
        ?11, iif(?3 = 'free', 'billing', 'operator')) ON CONFLICT (id) DO UPDATE SET company_name = excluded.company_name,
        tier = excluded.tier, status = excluded.status, region = excluded.region, limits = excluded.limits,
        sanctions = excluded.sanctions, explain = excluded.explain, version = excluded.version,
        updated_ms = excluded.updated_ms WHERE excluded.version > tenants.version";
    /// Binds a tenant: changes nothing, and counts as a change, which the statements behind it record.
    TENANT_NOTED: () = "UPDATE tenants SET version = version WHERE id = ?";
}

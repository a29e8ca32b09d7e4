//! The statements about webhook endpoints.

use super::rows::{EndpointRow, LostSecrets, RemovedRow, TargetRow};
use crate::storage::{Present, statements};

statements! {
    /// Binds id, tenant, environment, URL, events, description, sealed secret, now, the most endpoints of a tenant in an
    /// environment; returns a row unless it has as many, or is being deleted.
    ENDPOINT_PUT: Present = "INSERT INTO webhook_endpoints (id, tenant_id, environment, url, events, description, status,
        secret_sealed, created_ms, updated_ms) SELECT ?1, ?2, ?3, ?4, ?5, ?6, 'active', ?7, ?8, ?8
        WHERE (SELECT COUNT(*) FROM webhook_endpoints WHERE tenant_id = ?2 AND environment = ?3) < ?9
        AND NOT EXISTS (SELECT 1 FROM deletions WHERE tenant_id = ?2 AND due_ms IS NOT NULL) RETURNING 1 AS present";
    /// Binds a tenant; returns all its endpoints, the newest first.
    ENDPOINTS_OF: EndpointRow = "SELECT id, environment, url, events, description, status, disabled_reason,
        previous_until_ms, secret_lost_ms, created_ms, updated_ms FROM webhook_endpoints WHERE tenant_id = ? ORDER BY id DESC LIMIT 100";
    /// Binds tenant and id.
    ENDPOINT_GET: EndpointRow = "SELECT id, environment, url, events, description, status, disabled_reason,
        previous_until_ms, secret_lost_ms, created_ms, updated_ms FROM webhook_endpoints WHERE tenant_id = ? AND id = ?";
    /// Binds URL or null, events or null, whether to set the description, description, status or null, now, tenant, id.
    /// Returns a row if something changes.
    ENDPOINT_PATCH: Present = "UPDATE webhook_endpoints SET url = COALESCE(?1, url), events = COALESCE(?2, events),
        description = CASE WHEN ?3 = 1 THEN ?4 ELSE description END, status = COALESCE(?5, status),
        disabled_reason = CASE WHEN ?5 IS NULL THEN disabled_reason END, updated_ms = ?6 WHERE tenant_id = ?7 AND id = ?8
        AND (url <> ?1 OR events <> ?2 OR (?3 = 1 AND description IS NOT ?4) OR status <> ?5) RETURNING 1 AS present";
    /// Binds the new secret, sealed, the end of the present one, now, tenant, id: the present one signs until its end, the one
    /// before it no more. Returns a row if there is such an endpoint.
    ENDPOINT_ROTATE: Present = "UPDATE webhook_endpoints SET previous_sealed = secret_sealed, secret_sealed = ?1,
        previous_until_ms = ?2, secret_lost_ms = NULL, updated_ms = ?3 WHERE tenant_id = ?4 AND id = ?5 RETURNING 1 AS present";
    /// Binds tenant and id; returns a row if there was such an endpoint.
    ENDPOINT_REMOVE: Present =
        "DELETE FROM webhook_endpoints WHERE tenant_id = ? AND id = ? RETURNING 1 AS present";
    /// Binds an id; returns what a message is sent by.
    ENDPOINT_TARGET: TargetRow = "SELECT e.tenant_id, e.environment, e.url, e.status, e.secret_sealed, e.previous_sealed,
        e.previous_until_ms, e.secret_lost_ms, t.tier, t.status AS tenant_status FROM webhook_endpoints e
        JOIN tenants t ON t.id = e.tenant_id WHERE e.id = ?";
    /// Binds a time or null, and an id: since when no pepper opens its secret.
    SECRET_LOST: () = "UPDATE webhook_endpoints SET secret_lost_ms = ? WHERE id = ?";
    /// Returns how many endpoints have a secret that no pepper opens, and one of them. By the index that has these alone.
    SECRETS_LOST: LostSecrets = "SELECT COUNT(*) AS count, MIN(id) AS first FROM webhook_endpoints
        WHERE secret_lost_ms IS NOT NULL";
    /// Binds a tenant: all its endpoints.
    ENDPOINTS_ERASE: () = "DELETE FROM webhook_endpoints WHERE tenant_id = ?";
    /// Binds a limit; returns removed endpoints whose Couriers may hold something, those tried least lately first.
    REMOVED_ENDPOINTS: RemovedRow = "SELECT id FROM removed_endpoints ORDER BY tried_ms, id LIMIT ?";
    /// Binds now and an id: its Courier was not reached, or was at work.
    REMOVED_TRIED: () = "UPDATE removed_endpoints SET tried_ms = ? WHERE id = ?";
    /// Binds an id: its Courier holds nothing any more.
    REMOVED_ERASED: () = "DELETE FROM removed_endpoints WHERE id = ?";
}

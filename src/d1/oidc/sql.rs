//! The statements about identity providers of tenants.

use super::rows::OidcRow;
use crate::storage::{Present, statements};

statements! {
    /// Binds a tenant.
    OIDC_GET: OidcRow = "SELECT c.tenant_id, c.domain, c.issuer, c.client_id, c.secret_sealed, c.default_role, c.dns_token,
        c.proven_ms, c.checked_ms, c.updated_ms, t.tier, t.status, d.due_ms FROM oidc_connections c
        JOIN tenants t ON t.id = c.tenant_id LEFT JOIN deletions d ON d.tenant_id = c.tenant_id WHERE c.tenant_id = ?";
    /// Binds a domain; returns the provider of the tenant that has proven it.
    OIDC_OF_DOMAIN: OidcRow = "SELECT c.tenant_id, c.domain, c.issuer, c.client_id, c.secret_sealed, c.default_role,
        c.dns_token, c.proven_ms, c.checked_ms, c.updated_ms, t.tier, t.status, d.due_ms FROM oidc_connections c
        JOIN tenants t ON t.id = c.tenant_id LEFT JOIN deletions d ON d.tenant_id = c.tenant_id
        WHERE c.domain = ? AND c.proven_ms IS NOT NULL";
    /// Binds tenant, domain, issuer, client id, sealed secret, role, token, now. Token and proof stay where the domain does.
    OIDC_PUT: Present = "INSERT INTO oidc_connections (tenant_id, domain, issuer, client_id, secret_sealed, default_role,
        dns_token, created_ms, updated_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8)
        ON CONFLICT (tenant_id) DO UPDATE SET issuer = excluded.issuer, client_id = excluded.client_id,
        secret_sealed = excluded.secret_sealed, default_role = excluded.default_role, updated_ms = excluded.updated_ms,
        dns_token = CASE WHEN domain = excluded.domain THEN dns_token ELSE excluded.dns_token END,
        proven_ms = CASE WHEN domain = excluded.domain THEN proven_ms END,
        checked_ms = CASE WHEN domain = excluded.domain THEN checked_ms END, domain = excluded.domain
        RETURNING 1 AS present";
    /// Binds a tenant; returns a row if it had a provider.
    OIDC_REMOVE: Present = "DELETE FROM oidc_connections WHERE tenant_id = ? RETURNING 1 AS present";
    /// Binds tenant, domain, token: the tenant has not proven the domain any more.
    OIDC_LOSE: () = "UPDATE oidc_connections SET proven_ms = NULL, checked_ms = NULL
        WHERE tenant_id = ? AND domain = ? AND dns_token = ? AND proven_ms IS NOT NULL";
    /// Binds now, tenant, domain, token; returns a row unless the settings were changed.
    OIDC_PROVE: Present = "UPDATE oidc_connections SET proven_ms = ?1, checked_ms = ?1
        WHERE tenant_id = ?2 AND domain = ?3 AND dns_token = ?4 RETURNING 1 AS present";
    /// Binds now, tenant, token.
    OIDC_CHECKED: () = "UPDATE oidc_connections SET checked_ms = MAX(checked_ms, ?)
        WHERE tenant_id = ? AND dns_token = ? AND proven_ms IS NOT NULL";
}

//! The audit log in the directory.

use super::super::{BoundValue, all, statement};
use super::rows::AuditRow;
use super::sql;
use worker::{D1Database, D1PreparedStatement};
use x402_chain::id::{AuditId, TenantId};
use x402_chain::time::UnixMillis;
use x402_core::error::Fault;
use x402_core::messages::ledger::PageQuery;
use x402_core::people::audit::AuditAction;

/// A change by a person.
pub(crate) struct Audit<'a> {
    pub(crate) id: AuditId,
    pub(crate) tenant: TenantId,
    /// The address of the person who makes the change.
    pub(crate) actor: &'a str,
    pub(crate) action: AuditAction,
    /// To whom or to what.
    pub(crate) subject: &'a str,
    /// The new value.
    pub(crate) detail: Option<&'a str>,
    pub(crate) ip_prefix: &'a str,
    pub(crate) user_agent: Option<&'a str>,
}

impl Audit<'_> {
    /// The statement that writes the entry. It comes in the batch of the change, right after the statement that makes it:
    /// where that has changed nothing, nothing is written.
    pub(super) fn statement(&self, db: &D1Database, now: UnixMillis) -> Result<D1PreparedStatement, Fault> {
        let (id, tenant) = (self.id.to_string(), self.tenant.to_string());
        let bind = [
            BoundValue::Text(&id),
            BoundValue::Text(&tenant),
            BoundValue::Text(self.action.name()),
            BoundValue::Text(self.subject),
            BoundValue::Maybe(self.detail),
            BoundValue::Text(self.ip_prefix),
            BoundValue::Maybe(self.user_agent),
            BoundValue::Ms(now),
            BoundValue::Text(self.actor),
        ];
        statement(db, sql::AUDIT_PUT, &bind)
    }
}

/// Entries of a tenant, the newest first, one more than the page holds.
pub(crate) async fn list_audit(
    db: &D1Database,
    tenant: TenantId,
    page: &PageQuery,
    action: Option<AuditAction>,
) -> Result<Vec<AuditRow>, Fault> {
    let tenant = tenant.to_string();
    // Greater than every id, for the first page.
    let before = page.before.as_deref().unwrap_or("aud_~");
    let bind = [
        BoundValue::Text(&tenant),
        BoundValue::Text(before),
        BoundValue::Maybe(action.map(AuditAction::name)),
        BoundValue::Number(u64::from(page.limit).saturating_add(1)),
    ];
    all(db, sql::AUDIT_OF, &bind).await
}

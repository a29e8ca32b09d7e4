//! The audit log.

use crate::app::App;
use crate::d1::change;
use crate::request::IncomingRequest;
use x402_api::ApiReply;
use x402_api::audit::read_action;
use x402_api::records::{ListPage, read_page_query};
use x402_chain::id::AuditId;
use x402_core::error::Fault;

/// `GET /v1/audit-log`.
pub(super) async fn list_audit(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let page = read_page_query(&incoming.query, |text| AuditId::parse(text).is_some())?;
    let action = read_action(&incoming.query)?;
    let rows = change::list_audit(&app.db()?, incoming.tenant()?, &page, action).await?;
    let entries = rows.into_iter().map(|row| row.entry).collect();
    Ok(ApiReply::json(200, &ListPage::of(entries, page.limit, |entry| entry.id.clone())))
}

//! The audit log.

use crate::app::App;
use crate::d1::change;
use crate::request::IncomingRequest;
use x402_api::ApiReply;
use x402_api::audit::{AuditQuery, csv_of, next_query, read_audit_query};
use x402_api::records::{ListPage, read_page_query};
use x402_chain::id::{AuditId, TenantId};
use x402_chain::network::Environment;
use x402_core::error::Fault;

/// The most entries of an export; `Link` names the next part. Their text stays below 10 MB.
const EXPORT_MAX: usize = 5_000;
/// Entries that are read at once.
const READ_MAX: u64 = 1_000;

/// What of the log the caller sees: a session all of it, a key what is about its environment, and a live one what is about
/// the tenant as a whole.
fn seen_by(incoming: &IncomingRequest) -> Result<(TenantId, Option<Environment>), Fault> {
    Ok((incoming.tenant()?, incoming.environment()))
}

/// `GET /v1/audit-log`.
pub(super) async fn list_audit(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let page = read_page_query(&incoming.query, |text| AuditId::parse(text).is_some())?;
    let wanted = read_audit_query(&incoming.query)?;
    if wanted.csv {
        return export(app, incoming, &wanted, page.before).await;
    }
    let limit = u64::from(page.limit).saturating_add(1);
    let rows = change::list_audit(&app.db()?, seen_by(incoming)?, &wanted, (page.before.as_deref(), limit)).await?;
    let entries = rows.into_iter().map(|row| row.entry).collect();
    Ok(ApiReply::json(200, &ListPage::of(entries, page.limit, |entry| entry.id.clone())))
}

/// The same as a file of CSV. `limit` does not count.
async fn export(
    app: &App,
    incoming: &IncomingRequest,
    wanted: &AuditQuery,
    mut before: Option<String>,
) -> Result<ApiReply, Fault> {
    let (db, seen, mut entries) = (app.db()?, seen_by(incoming)?, Vec::new());
    let mut is_more = true;
    while is_more && entries.len() < EXPORT_MAX {
        let rows = change::list_audit(&db, seen, wanted, (before.as_deref(), READ_MAX)).await?;
        is_more = u64::try_from(rows.len()).is_ok_and(|read| read >= READ_MAX);
        entries.extend(rows.into_iter().map(|row| row.entry));
        before = entries.last().map(|entry| entry.id.clone());
    }
    let name = "attachment; filename=\"audit-log.csv\"";
    let reply = ApiReply::csv(csv_of(&entries)).with("Content-Disposition", name);
    Ok(match before.filter(|_| is_more) {
        Some(last) => {
            let query = next_query(&incoming.query, &last);
            reply.with("Link", format!("<{}{}?{query}>; rel=\"next\"", app.origin, incoming.path))
        }
        None => reply,
    })
}

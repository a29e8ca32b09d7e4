//! How each chain has fared of late, for everybody: made anew once a minute in each isolate.

use crate::app::App;
use crate::clients::meter;
use crate::d1::operation;
use futures_util::future::join;
use std::cell::RefCell;
use std::rc::Rc;
use x402_api::ApiReply;
use x402_api::status::{ServiceStatus, chain_statuses, incident};
use x402_chain::time::{DAY_MS, UnixMillis};
use x402_core::error::Fault;

/// How long an answer is used again.
const FRESH_MS: u64 = 60_000;
/// How far back incidents are listed.
const INCIDENTS_MS: u64 = 90 * DAY_MS;

thread_local! {
    static STATUS: RefCell<Option<(Rc<str>, UnixMillis)>> = const { RefCell::new(None) };
}

/// `GET /v1/status`.
///
/// # Errors
/// `LEDGER_UNAVAILABLE`, `MISCONFIGURED`.
pub(super) async fn read_status(app: &App, now: UnixMillis) -> Result<ApiReply, Fault> {
    let known = STATUS.with_borrow(Clone::clone).filter(|(_, at)| now.since(*at) < FRESH_MS);
    let body = match known {
        Some((body, _)) => body,
        None => {
            let (meters, db) = (app.meters()?, app.db()?);
            let since = UnixMillis(now.0.saturating_sub(INCIDENTS_MS));
            let (spans, incidents) = join(meter::spans(&meters), operation::incidents(&db, since)).await;
            let [hour, day] = spans?;
            let shown = |row: operation::rows::IncidentRow| {
                incident(row.kind, &row.chain, row.began.rfc3339(), row.ended.map(|at| at.rfc3339()))
            };
            let status = ServiceStatus {
                generated_at: now.rfc3339(),
                chains: chain_statuses(&hour, &day),
                incidents: incidents?.into_iter().map(shown).collect(),
            };
            let body: Rc<str> = serde_json::to_string(&status).map_err(Fault::internal)?.into();
            STATUS.with_borrow_mut(|kept| *kept = Some((Rc::clone(&body), now)));
            body
        }
    };
    Ok(ApiReply::stored(200, body.to_string()).with("Cache-Control", "public, max-age=60"))
}

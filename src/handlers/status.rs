//! How each chain has fared of late, for everybody: made anew once a minute in each isolate.

use crate::app::App;
use crate::clients::meter;
use crate::d1::operation;
use futures_util::future::join;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;
use worker::Delay;
use x402_api::ApiReply;
use x402_api::status::{ServiceStatus, chain_statuses, incident};
use x402_chain::time::{DAY_MS, UnixMillis};
use x402_core::error::{ErrorCode, Fault};

/// How long an answer is used again.
const FRESH_MS: u64 = 60_000;
/// How far back incidents are listed.
const INCIDENTS_MS: u64 = 90 * DAY_MS;

/// How often it is made at most: requests that come meanwhile get the answer of before.
const MAKE_MS: u64 = 5_000;
/// How often the first requests of an isolate look whether one of them has made it.
const LOOK_MS: u64 = 50;

thread_local! {
    static STATUS: RefCell<Option<(Rc<str>, UnixMillis)>> = const { RefCell::new(None) };
    /// When it was last begun to be made.
    static BEGUN: Cell<Option<UnixMillis>> = const { Cell::new(None) };
}

/// `GET /v1/status`. Anybody may ask: while it cannot be made, the Meters and the directory are asked once in five seconds.
///
/// # Errors
/// `LEDGER_UNAVAILABLE`, `MISCONFIGURED`.
pub(super) async fn read_status(app: &App, now: UnixMillis) -> Result<ApiReply, Fault> {
    let reply = |body: &str| ApiReply::stored(200, body.to_owned()).with("Cache-Control", "public, max-age=60");
    let is_begun = BEGUN.get().is_some_and(|at| now.since(at) < MAKE_MS);
    let known = match STATUS.with_borrow(Clone::clone) {
        None if is_begun => made_by_another().await,
        known => known,
    };
    match known {
        Some((body, at)) if is_begun || now.since(at) < FRESH_MS => return Ok(reply(&body)),
        None if is_begun => {
            return Err(Fault::new(ErrorCode::LedgerUnavailable, "the status is being made").after(MAKE_MS / 1_000));
        }
        Some(_) | None => BEGUN.set(Some(now)),
    }
    let body: Rc<str> = serde_json::to_string(&make_status(app, now).await?).map_err(Fault::internal)?.into();
    STATUS.with_borrow_mut(|kept| *kept = Some((Rc::clone(&body), now)));
    Ok(reply(&body))
}

/// The status that another request of this isolate is making; `None` where it takes too long. A request cannot wait for what
/// another has asked, so it looks again and again.
async fn made_by_another() -> Option<(Rc<str>, UnixMillis)> {
    for _ in 0..MAKE_MS / LOOK_MS {
        Delay::from(Duration::from_millis(LOOK_MS)).await;
        let made = STATUS.with_borrow(Clone::clone);
        if made.is_some() {
            return made;
        }
    }
    None
}

async fn make_status(app: &App, now: UnixMillis) -> Result<ServiceStatus, Fault> {
    let (meters, db) = (app.meters()?, app.db()?);
    let since = UnixMillis(now.0.saturating_sub(INCIDENTS_MS));
    let (spans, incidents) = join(meter::spans(&meters), operation::incidents(&db, since)).await;
    let [hour, day] = spans?;
    let shown = |row: operation::rows::IncidentRow| {
        incident(row.kind, &row.chain, row.began.rfc3339(), row.ended.map(|at| at.rfc3339()))
    };
    Ok(ServiceStatus {
        generated_at: now.rfc3339(),
        chains: chain_statuses(&hour, &day),
        incidents: incidents?.into_iter().map(shown).collect(),
    })
}

//! `GET /v1/analytics`: adds up what the months count of the asked days. All of these months are in their objects: a month
//! is archived when its last day is 90 days old.

use super::account::{Admitted, admit};
use crate::app::App;
use crate::clients::records::RecordsClient;
use crate::isolate;
use crate::request::IncomingRequest;
use crate::response::OutgoingResponse;
use std::rc::Rc;
use x402_api::ApiReply;
use x402_api::analytics::{AnalyticsView, read_days};
use x402_api::events::read_environment;
use x402_core::error::Fault;
use x402_core::records::archive::ArchiveOwner;
use x402_core::records::days::{DaySpan, MonthDays};

/// Answers from the isolate's memory, for five minutes, or from the months. The key is checked, and the ledger has
/// shipped, before either.
pub(super) async fn read_analytics(app: &App, incoming: &IncomingRequest) -> Result<OutgoingResponse, Fault> {
    let days = read_days(&incoming.query)?;
    let environment = read_environment(&incoming.query, incoming.caller.map(|caller| caller.environment))?;
    let (tenant, headers) = match admit(app, incoming, environment).await? {
        Admitted::Reader(tenant, headers) => (tenant, headers),
        Admitted::Refused(refusal) => return Ok(refusal),
    };
    let (key, now) = ((tenant, environment, days), incoming.now);
    let body = match isolate::analytics(&key, now) {
        Some(body) => body,
        None => {
            let client = RecordsClient { namespace: app.records()?, owner: ArchiveOwner { tenant, environment } };
            let (span, mut all) = (DaySpan::until(now, days), MonthDays::default());
            for (month, days) in span.months() {
                all.add_month(client.days(month, days).await?)?;
            }
            let view = AnalyticsView::of(environment, span, now, all)?;
            let body: Rc<str> = serde_json::to_string(&view).map_err(Fault::internal)?.into();
            isolate::remember_analytics(key, Rc::clone(&body), now);
            body
        }
    };
    Ok(ApiReply { headers, ..ApiReply::stored(200, body.as_ref().to_owned()) }.into())
}

//! `/v1/webhook-endpoints/{id}/deliveries`: what the Courier of an endpoint holds, and what it sends again. The directory says
//! whose the endpoint is.

use super::OPENAPI;
use super::webhook_endpoints::{check_tier, named};
use crate::app;
use crate::app::App;
use crate::clients::courier::{call_courier, unexpected_reply};
use crate::request::IncomingRequest;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use x402_api::ApiReply;
use x402_api::deliveries::{
    DeliveryAlone, DeliveryView, Redelivered, TestSent, read_state, redeliver_since, test_kind, too_many_tests,
};
use x402_api::records::{ListPage, read_page_query};
use x402_chain::id::EventId;
use x402_core::error::{ErrorCode, Fault};
use x402_core::event::EventKind;
use x402_core::messages::courier::{CourierItem, CourierMessage, CourierReply, DeliveriesQuery};
use x402_core::records::events::EventCopy;

fn none() -> Fault {
    Fault::new(ErrorCode::NotFound, "the endpoint has no such delivery")
}

/// Asks the Courier of the endpoint that the path names.
async fn ask(app: &App, incoming: &IncomingRequest, message: CourierMessage) -> Result<CourierReply, Fault> {
    let id = named(app, incoming).await?.id;
    call_courier(&app.couriers()?, id, message).await
}

/// The event that the path names.
fn event_of(incoming: &IncomingRequest) -> Result<EventId, Fault> {
    EventId::parse(incoming.param(1)).ok_or_else(none)
}

/// `GET /v1/webhook-endpoints/{id}/deliveries`.
pub(super) async fn list(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let page = read_page_query(&incoming.query, |text| EventId::parse(text).is_some())?;
    let state = read_state(&incoming.query)?;
    let before = page.before.as_deref().and_then(EventId::parse);
    let rows = usize::try_from(page.limit).unwrap_or(usize::MAX);
    let query = DeliveriesQuery { before, state, rows };
    let CourierReply::Page(found) = ask(app, incoming, CourierMessage::List(query)).await? else {
        return Err(unexpected_reply());
    };
    let data: Vec<DeliveryView> = found.deliveries.into_iter().map(DeliveryView::from).collect();
    Ok(ApiReply::json(200, &ListPage { data, next_cursor: found.floor.map(|floor| floor.to_string()) }))
}

/// `GET /v1/webhook-endpoints/{id}/deliveries/{event_id}`.
pub(super) async fn read(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let message = CourierMessage::Read { event: event_of(incoming)? };
    let CourierReply::Delivery(found) = ask(app, incoming, message).await? else { return Err(unexpected_reply()) };
    Ok(ApiReply::json(200, &DeliveryAlone::from(found.ok_or_else(none)?)))
}

/// `POST /v1/webhook-endpoints/{id}/deliveries/{event_id}/redeliver`.
pub(super) async fn redeliver(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let message = CourierMessage::Redeliver { event: event_of(incoming)? };
    match ask(app, incoming, message).await? {
        CourierReply::Redelivered(0) => Err(none()),
        CourierReply::Redelivered(redelivered) => Ok(ApiReply::json(202, &Redelivered { redelivered })),
        CourierReply::Taken
        | CourierReply::Page(_)
        | CourierReply::Delivery(_)
        | CourierReply::TooMany { .. }
        | CourierReply::Erased
        | CourierReply::Failed(_) => Err(unexpected_reply()),
    }
}

/// `POST /v1/webhook-endpoints/{id}/redeliver`: all that are exhausted, from a time on.
pub(super) async fn redeliver_all(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let message = CourierMessage::RedeliverSince { since: redeliver_since(&incoming.body)? };
    let CourierReply::Redelivered(redelivered) = ask(app, incoming, message).await? else {
        return Err(unexpected_reply());
    };
    Ok(ApiReply::json(202, &Redelivered { redelivered }))
}

/// `POST /v1/webhook-endpoints/{id}/test`: sends the example of a type that the OpenAPI document has. Its id is of now, and of
/// no other event.
pub(super) async fn send_test(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let kind = test_kind(&incoming.body)?;
    let endpoint = named(app, incoming).await?.id;
    check_tier(app, incoming.tenant()?).await?;
    let id = EventId::new(incoming.now, app::random()?);
    let (body, subject) = (example(kind)?, format!("test of {id}"));
    let event = EventCopy { id, kind: kind.name().to_owned(), subject, body, at: incoming.now, derived: false };
    let message = CourierMessage::Accept(vec![CourierItem { event, test: true }]);
    match call_courier(&app.couriers()?, endpoint, message).await? {
        CourierReply::Taken => Ok(ApiReply::json(202, &TestSent { event_id: id.to_string() })),
        CourierReply::TooMany { after_s } => Err(too_many_tests().after(after_s)),
        CourierReply::Page(_)
        | CourierReply::Delivery(_)
        | CourierReply::Redelivered(_)
        | CourierReply::Erased
        | CourierReply::Failed(_) => Err(unexpected_reply()),
    }
}

/// The data of a type's example, from the OpenAPI document that the service serves.
fn example(kind: EventKind) -> Result<Box<RawValue>, Fault> {
    #[derive(Deserialize)]
    struct Document<'a> {
        #[serde(borrow)]
        webhooks: BTreeMap<&'a str, &'a RawValue>,
    }
    #[derive(Deserialize)]
    struct Message {
        data: Box<RawValue>,
    }
    let document: Document<'_> = serde_json::from_str(OPENAPI).map_err(Fault::internal)?;
    let webhook = document.webhooks.get(kind.name()).ok_or_else(|| Fault::internal("a type without an example"))?;
    let webhook: serde_json::Value = serde_json::from_str(webhook.get()).map_err(Fault::internal)?;
    let found = webhook.pointer("/post/requestBody/content/application~1json/example");
    let text = found.map(ToString::to_string).unwrap_or_default();
    let Message { data } = serde_json::from_str(&text).map_err(Fault::internal)?;
    Ok(data)
}

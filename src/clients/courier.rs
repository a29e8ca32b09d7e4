//! Calls to a webhook endpoint's Courier, with their deadline.

use futures_util::future::{Either, select};
use std::pin::pin;
use std::time::Duration;
use wasm_bindgen::JsValue;
use worker::{Delay, Method, ObjectNamespace, Request, RequestInit};
use x402_chain::id::EndpointId;
use x402_core::error::{ErrorCode, Fault, json_place};
use x402_core::messages::MessageHead;
use x402_core::messages::courier::{CourierEnvelope, CourierItem, CourierMessage, CourierReply};

/// The deadline of a call. A batch is stored in some 100 ms.
const DEADLINE_MS: u64 = 5_000;

fn courier_unavailable(cause: impl core::fmt::Display) -> Fault {
    Fault::new(ErrorCode::LedgerUnavailable, "the endpoint's deliveries cannot be reached").after(1).because(cause)
}

/// Calls a Courier.
///
/// # Errors
/// `LEDGER_UNAVAILABLE`: the message may have been carried out, or not; the same may be sent again.
pub(crate) async fn call_courier(
    namespace: &ObjectNamespace,
    endpoint: EndpointId,
    message: CourierMessage,
) -> Result<CourierReply, Fault> {
    call_courier_within(namespace, endpoint, message, DEADLINE_MS).await
}

async fn call_courier_within(
    namespace: &ObjectNamespace,
    endpoint: EndpointId,
    message: CourierMessage,
    deadline_ms: u64,
) -> Result<CourierReply, Fault> {
    let stub = namespace.get_by_name(&endpoint.to_string()).map_err(courier_unavailable)?;
    let body = serde_json::to_string(&CourierEnvelope { endpoint, message }).map_err(Fault::internal)?;
    let mut init = RequestInit::new();
    init.with_method(Method::Post).with_body(Some(JsValue::from_str(&body)));
    let address = MessageHead::own(None).address("courier");
    let request = Request::new_with_init(&address, &init).map_err(courier_unavailable)?;
    let asked = async { stub.fetch_with_request(request).await?.text().await };
    let deadline = Delay::from(Duration::from_millis(deadline_ms));
    match select(pin!(asked), pin!(deadline)).await {
        Either::Left((Ok(text), _)) => match CourierReply::read(&text) {
            Ok(CourierReply::Failed(code)) => Err(courier_unavailable(format!("the courier failed: {code}"))),
            Ok(reply) => Ok(reply),
            Err(error) => Err(courier_unavailable(json_place(&error))),
        },
        Either::Left((Err(error), _)) => Err(courier_unavailable(error)),
        Either::Right(_) => Err(courier_unavailable(format!("no answer in {deadline_ms} ms"))),
    }
}

/// The fault of a reply to another message.
pub(crate) fn unexpected_reply() -> Fault {
    courier_unavailable("the courier replied to another message")
}

/// Hands events to an endpoint's Courier.
///
/// # Errors
/// `LEDGER_UNAVAILABLE`: they may be stored, or not; the same may be sent again.
pub(crate) async fn hand_over(
    namespace: &ObjectNamespace,
    endpoint: EndpointId,
    items: Vec<CourierItem>,
) -> Result<(), Fault> {
    hand_over_within(namespace, endpoint, items, DEADLINE_MS).await
}

/// As [`hand_over`], with a deadline of its own.
///
/// # Errors
/// `LEDGER_UNAVAILABLE`: they may be stored, or not; the same may be sent again.
pub(crate) async fn hand_over_within(
    namespace: &ObjectNamespace,
    endpoint: EndpointId,
    items: Vec<CourierItem>,
    deadline_ms: u64,
) -> Result<(), Fault> {
    match call_courier_within(namespace, endpoint, CourierMessage::Accept(items), deadline_ms).await? {
        CourierReply::Taken => Ok(()),
        CourierReply::Page(_)
        | CourierReply::Delivery(_)
        | CourierReply::Redelivered(_)
        | CourierReply::TooMany { .. }
        | CourierReply::Erased
        | CourierReply::Failed(_) => Err(unexpected_reply()),
    }
}

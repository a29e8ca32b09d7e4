//! Webhooks of other services.

use crate::app::App;
use crate::d1::billing;
use crate::d1::people;
use crate::request::IncomingRequest;
use crate::stripe::Stripe;
use wasm_bindgen::JsValue;
use worker::{QueueContentType, RawMessageBuilder};
use x402_api::ApiReply;
use x402_api::webhooks::resend_event;
use x402_core::billing::answer::StripeEvent;
use x402_core::billing::form::is_stripe_id;
use x402_core::billing::signature::is_signed;
use x402_core::error::{ErrorCode, Fault};

/// `POST /v1/webhooks/resend`: marks addresses whose mails have bounced, or were reported as spam. An event that comes twice
/// changes nothing.
pub(super) async fn take_resend_event(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let Some(key) = app.settings.resend_webhook_key() else {
        return Err(Fault::new(ErrorCode::NotFound, "no such route"));
    };
    incoming.signature.check(&incoming.body, key, incoming.now)?;
    if let Some((mark, addresses)) = resend_event(&incoming.body)? {
        people::mark_addresses(&app.db()?, &addresses, mark, incoming.now).await?;
    }
    Ok(ApiReply::empty(204))
}

/// `POST /v1/webhooks/stripe`: queues the customer of an event, then remembers the event. In this order: an event that is
/// remembered and was not queued would be lost. What it says is not read: the queue's consumer asks Stripe.
pub(super) async fn take_stripe_event(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    // Without a key the customer could not be read: Stripe sends the event again for three days.
    Stripe::set_up(app)?;
    let secrets = app.settings.stripe_webhook_secrets();
    if !is_signed(&incoming.signature.signatures, &incoming.body, secrets, incoming.now) {
        let detail = "the signature is missing or wrong, or the event is more than five minutes old";
        return Err(Fault::new(ErrorCode::InvalidSignature, detail));
    }
    let event: StripeEvent = serde_json::from_slice(&incoming.body)
        .map_err(|error| Fault::new(ErrorCode::InvalidJson, "the body is no event").because_json(&error))?;
    let received = ApiReply::json(200, &serde_json::json!({"received": true}));
    let Some(customer) = event.customer.filter(|id| is_stripe_id(id, "cus_")) else { return Ok(received) };
    let db = app.db()?;
    if !billing::is_event_known(&db, &event.id).await? {
        let message = RawMessageBuilder::new(JsValue::from_str(&customer));
        let message = message.build_with_content_type(QueueContentType::Text);
        app.stripe_events()?.send_raw(message).await.map_err(Fault::internal)?;
        billing::note_event(&db, &event.id, incoming.now).await?;
    }
    Ok(received)
}

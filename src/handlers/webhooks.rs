//! Webhooks of other services.

use crate::app::App;
use crate::d1::people;
use crate::request::IncomingRequest;
use x402_api::ApiReply;
use x402_api::webhooks::resend_event;
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

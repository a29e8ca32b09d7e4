//! Mails by the platform's binding (Cloudflare Email Service,
//! <https://developers.cloudflare.com/email-service/api/send-emails/workers-api/>). It knows no idempotency key: a mail whose
//! Worker is killed before the row says that it was sent is sent a second time.

use super::Delivery;
use crate::app::App;
use core::pin::pin;
use core::time::Duration;
use futures_util::future::{Either, select};
use worker::{Delay, EmailAddress, SendEmailBuilder, js_sys};
use x402_core::error::Fault;
use x402_core::people::mail::MailText;
use x402_core::settings::mail::MailSender;

/// The deadline of one call.
const LIMIT: Duration = Duration::from_secs(10);
/// The error for an address that has bounced or complained before: Cloudflare keeps such a list itself.
const SUPPRESSED: &str = "E_RECIPIENT_SUPPRESSED";

/// Sends a mail.
///
/// # Errors
/// Where it is to be tried again; the cause does not hold the address.
pub(super) async fn send(app: &App, sender: &MailSender, address: &str, text: &MailText) -> Result<Delivery, Fault> {
    let builder = match &sender.name {
        None => SendEmailBuilder::builder(&sender.address, address, text.subject),
        Some(name) => {
            let from = EmailAddress::new(name, &sender.address);
            SendEmailBuilder::builder_with_email_address_and_str(&from, address, text.subject)
        }
    };
    let mail = builder.text(&text.text).html(&text.html).build();
    let binding = app.email()?;
    match select(pin!(binding.send_with_builder(&mail)), pin!(Delay::from(LIMIT))).await {
        Either::Left((Ok(sent), _)) => Ok(Delivery::Accepted(Some(sent.message_id()))),
        Either::Left((Err(error), _)) => match code(&error) {
            Some(code) if code == SUPPRESSED => Ok(Delivery::Suppressed),
            code => {
                let code = code.as_deref().unwrap_or("no code");
                Err(Fault::internal(format!("the binding EMAIL refused: {code}")))
            }
        },
        Either::Right(_) => Err(Fault::internal("the binding EMAIL did not answer in time")),
    }
}

/// The code of the binding's error, as `E_SENDER_NOT_VERIFIED`. Its message may repeat the address.
fn code(error: &js_sys::Error) -> Option<String> {
    let code = js_sys::Reflect::get(error, &"code".into()).ok().and_then(|code| code.as_string());
    let is_code =
        |text: &String| text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
    code.filter(is_code)
}

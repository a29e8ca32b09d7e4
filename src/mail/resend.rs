//! Mails by Resend (<https://resend.com/docs/api-reference/emails/send-email>). The mail's id is the idempotency key, which
//! Resend remembers for 24 hours: within them a mail that is sent twice arrives once.

use super::Delivery;
use crate::outbound::{OutboundRequest, deadline, exchange, request_headers};
use serde_json::{Value, json};
use x402_chain::id::MailId;
use x402_core::error::Fault;
use x402_core::people::mail::MailText;
use x402_core::settings::mail::MailSender;

const URL: &str = "https://api.resend.com/emails";
/// The deadline of one request.
const LIMIT_MS: u32 = 10_000;
/// The largest answer: an id, or an error with a sentence.
const ANSWER_MAX: usize = 16 * 1_024;
/// The error for a key that came before with another body, as after `MAIL_FROM` was changed: that mail was accepted.
const ACCEPTED_BEFORE: &str = "invalid_idempotent_request";

/// Sends a mail.
///
/// # Errors
/// Where it is to be tried again; the cause holds neither key nor address.
pub(super) async fn send(
    (sender, key): (&MailSender, &str),
    mail: MailId,
    address: &str,
    text: &MailText,
) -> Result<Delivery, Fault> {
    let (authorization, id) = (format!("Bearer {key}"), mail.to_string());
    let headers = request_headers(&[
        ("authorization", &authorization),
        ("content-type", "application/json"),
        ("idempotency-key", &id),
        // Resend refuses requests without one.
        ("user-agent", "x402-edge"),
    ]);
    let body = json!({
        "from": sender.text(), "to": [address], "subject": text.subject, "text": text.text, "html": text.html
    })
    .to_string();
    let request = OutboundRequest {
        url: URL,
        headers: &headers,
        body: Some(&body),
        deadline: deadline(LIMIT_MS),
        answer_max: ANSWER_MAX,
    };
    let answer = exchange(request).await.map_err(|failure| Fault::internal(format!("Resend: {failure}")))?;
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let member = |name: &str| body.get(name).and_then(Value::as_str).filter(|word| is_word(word));
    match (answer.status, member("name")) {
        (200..=299, _) => Ok(Delivery::Accepted(member("id").map(str::to_owned))),
        (409, Some(ACCEPTED_BEFORE)) => Ok(Delivery::Accepted(None)),
        (status, name) => Err(Fault::internal(format!("Resend answered {status} {}", name.unwrap_or_default()))),
    }
}

/// Whether a text is an identifier: other texts of the provider may repeat the address, and are not logged.
fn is_word(text: &str) -> bool {
    text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

//! Webhooks of the provider of mails.

use crate::admin::read_email;
use serde_json::Value;
use x402_chain::time::UnixMillis;
use x402_core::error::{ErrorCode, Fault};
use x402_core::people::delivery::MailMark;
use x402_core::webhook::signature::SignedMessage;

/// The most addresses of one event that are marked; a mail of ours has one.
const ADDRESSES_MAX: usize = 50;

/// The headers about a webhook's signature, empty where they are missing.
#[derive(Clone, Debug, Default)]
pub struct SignatureHeaders {
    /// `svix-id`: the message's id.
    pub id: String,
    /// `svix-timestamp`: when it was sent, seconds since 1970.
    pub timestamp: String,
    /// `svix-signature`: its signatures.
    pub signatures: String,
}

impl SignatureHeaders {
    /// Checks that a body was signed with the key within five minutes.
    ///
    /// # Errors
    /// `INVALID_SIGNATURE`.
    pub fn check(&self, body: &[u8], key: &[u8], now: UnixMillis) -> Result<(), Fault> {
        let message = SignedMessage { id: &self.id, timestamp: &self.timestamp, signatures: &self.signatures, body };
        let detail = "the signature is missing or wrong, or the message is more than five minutes old";
        if message.is_signed_by(key, now) { Ok(()) } else { Err(Fault::new(ErrorCode::InvalidSignature, detail)) }
    }
}

/// Reads an event of Resend (<https://resend.com/docs/webhooks/event-types>): the addresses that get no more mails, in lower
/// case, and why. `None` for events that mark none, also for a bounce that is not permanent.
///
/// # Errors
/// `INVALID_JSON`.
pub fn resend_event(body: &[u8]) -> Result<Option<(MailMark, Vec<String>)>, Fault> {
    let event: Value = serde_json::from_slice(body)
        .map_err(|error| Fault::new(ErrorCode::InvalidJson, "the body is not JSON").because_json(&error))?;
    let mark = match event.get("type").and_then(Value::as_str) {
        Some("email.bounced") => match event.pointer("/data/bounce/type").and_then(Value::as_str) {
            None | Some("Permanent") => MailMark::Bounced,
            Some(_) => return Ok(None),
        },
        Some("email.complained") => MailMark::Complained,
        Some(_) | None => return Ok(None),
    };
    let to = event.pointer("/data/to").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let addresses = to.iter().take(ADDRESSES_MAX).filter_map(Value::as_str);
    let addresses: Vec<String> = addresses.filter_map(|address| read_email(address).ok()).collect();
    Ok((!addresses.is_empty()).then_some((mark, addresses)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &str, want: Option<(MailMark, &[&str])>) {
        let want = want.map(|(mark, all)| (mark, all.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>()));
        assert_eq!(resend_event(body.as_bytes()), Ok(want), "{body}");
    }

    #[test]
    fn permanent_bounces_and_complaints_mark_their_addresses() {
        let bounced = |kind: &str| {
            format!(r#"{{"type":"email.bounced","data":{{"to":["Ann@x.test"],"bounce":{{"type":"{kind}"}}}}}}"#)
        };
        check(&bounced("Permanent"), Some((MailMark::Bounced, &["ann@x.test"])));
        check(&bounced("Transient"), None);
        check(r#"{"type":"email.bounced","data":{"to":["a@b.c"]}}"#, Some((MailMark::Bounced, &["a@b.c"])));
        let complained = r#"{"type":"email.complained","data":{"to":["a@b.c","d@e.f","no address",7]}}"#;
        check(complained, Some((MailMark::Complained, &["a@b.c", "d@e.f"])));
        for none in [
            r#"{"type":"email.delivered","data":{"to":["a@b.c"]}}"#,
            r#"{"type":"email.bounced","data":{}}"#,
            r#"{"type":"email.bounced"}"#,
            "{}",
            "[]",
        ] {
            check(none, None);
        }
        assert!(resend_event(b"{").is_err());
    }
}

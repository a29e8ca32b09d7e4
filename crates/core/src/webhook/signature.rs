//! Webhooks that are signed as Standard Webhooks 1.0.0 says, which Svix signs too under headers of its own
//! (`svix-id`, `svix-timestamp`, `svix-signature`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use x402_chain::time::UnixMillis;

/// How far the signature's time may be from ours, before and after.
const TOLERANCE_S: u64 = 300;
/// The most signatures that are compared: the sender has two secrets while one replaces another.
const SIGNATURES_MAX: usize = 4;

/// A webhook's message, with the headers about its signature.
#[derive(Clone, Copy, Debug)]
pub struct SignedMessage<'a> {
    /// The message's id.
    pub id: &'a str,
    /// When it was sent, seconds since 1970.
    pub timestamp: &'a str,
    /// Signatures with a space between: `v1,` and HMAC-SHA256 in base64.
    pub signatures: &'a str,
    /// The body as it was received.
    pub body: &'a [u8],
}

impl SignedMessage<'_> {
    /// Whether the message was signed with the key, within five minutes. Signatures are compared in constant time.
    #[must_use]
    pub fn is_signed_by(&self, key: &[u8], now: UnixMillis) -> bool {
        let Ok(sent) = self.timestamp.parse::<u64>() else { return false };
        if self.id.is_empty() || sent.abs_diff(now.0 / 1_000) > TOLERANCE_S {
            return false;
        }
        let Some(wanted) = tag(key, [self.id, self.timestamp], self.body) else { return false };
        let given = self.signatures.split(' ').take(SIGNATURES_MAX).filter_map(|one| one.strip_prefix("v1,"));
        given.filter_map(|one| STANDARD.decode(one).ok()).any(|one| wanted.as_slice().ct_eq(&one).into())
    }
}

/// HMAC-SHA256 over `id.timestamp.body`; `None` for a key that HMAC does not take, of which there is none.
fn tag(key: &[u8], [id, timestamp]: [&str; 2], body: &[u8]) -> Option<[u8; 32]> {
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).ok()?;
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
        mac.update(part);
    }
    Some(mac.finalize().into_bytes().into())
}

/// The header `webhook-signature` of a message: a signature by each key, the newest first. `sent_s` are seconds since 1970.
#[must_use]
pub fn sign<'a>(keys: impl Iterator<Item = &'a [u8]>, id: &str, sent_s: u64, body: &[u8]) -> String {
    let timestamp = sent_s.to_string();
    let tags = keys.filter_map(|key| tag(key, [id, &timestamp], body));
    tags.map(|tag| format!("v1,{}", STANDARD.encode(tag))).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by `standardwebhooks` 1.1.1 of npm: `new Webhook(secret).sign(id, new Date(1700000000000), body)`.
    const SIGNATURE: &str = "v1,Frf1LQoIcef8b/iwvTVDh7ZiDU5lJSk+wGZIdWNN8Qc=";
    const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

    fn message(body: &[u8]) -> SignedMessage<'_> {
        SignedMessage { id: "msg_1", timestamp: "1700000000", signatures: SIGNATURE, body }
    }

    fn key() -> Vec<u8> {
        (0..24).collect()
    }

    #[test]
    fn a_message_is_its_senders_or_none() {
        let right = message(br#"{"type":"email.bounced"}"#);
        assert!(right.is_signed_by(&key(), NOW));
        let both = format!("v1a,x v1,AAAA {SIGNATURE}");
        assert!(SignedMessage { signatures: &both, ..right }.is_signed_by(&key(), NOW));
        assert!(!right.is_signed_by(&[1; 24], NOW) && !message(b"{}").is_signed_by(&key(), NOW));
        for signatures in ["", "v1,", "v1,AAAA", &SIGNATURE.replace("v1", "v2"), &SIGNATURE.replace("v1,", "")] {
            assert!(!SignedMessage { signatures, ..right }.is_signed_by(&key(), NOW), "{signatures}");
        }
        for (id, timestamp) in [("msg_2", "1700000000"), ("msg_1", "1700000001"), ("", "1700000000"), ("msg_1", "")] {
            assert!(!SignedMessage { id, timestamp, ..right }.is_signed_by(&key(), NOW), "{id} {timestamp}");
        }
    }

    #[test]
    fn our_signature_is_that_of_the_public_package() {
        let body = br#"{"type":"email.bounced"}"#;
        let own = key();
        assert_eq!(sign([own.as_slice()].into_iter(), "msg_1", 1_700_000_000, body), SIGNATURE);
        let both = sign([[1_u8; 24].as_slice(), own.as_slice()].into_iter(), "msg_1", 1_700_000_000, body);
        assert!(both.starts_with("v1,") && both.ends_with(&format!(" {SIGNATURE}")), "{both}");
        let message = SignedMessage { id: "msg_1", timestamp: "1700000000", signatures: &both, body };
        assert!(message.is_signed_by(&own, NOW) && message.is_signed_by(&[1; 24], NOW));
    }

    #[test]
    fn a_message_holds_for_five_minutes() {
        let right = message(br#"{"type":"email.bounced"}"#);
        for (seconds, want) in
            [(1_699_999_700, true), (1_700_000_300, true), (1_699_999_699, false), (1_700_000_301, false)]
        {
            assert_eq!(right.is_signed_by(&key(), UnixMillis(seconds * 1_000)), want, "{seconds}");
        }
    }
}

//! Values that a buyer can derive from its payment. An `Idempotency-Key` must be none of them: a success is repeated
//! under its key, and the buyer could claim it again (docs/spec/protocol.md#p-3-4-5).

use super::body::{PaymentPayload, read_object};
use super::{Payload, Payment, X402Body};
use alloy_primitives::keccak256;
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

/// Whether a key is the payment's nonce, signature, transaction or identifier, or a SHA-256 or
/// keccak-256 of the body, of the payload, or of the header that carried it; in hex with or
/// without `0x` and in either case, or in base64. `body` is the request's body as it came.
#[must_use]
pub fn buyer_can_repeat(key: &str, body: &[u8], parsed: &X402Body<'_>, payment: &Payment) -> bool {
    let given = without_prefix(key);
    let is = |text: &str| without_prefix(text) == given;
    let named = match &payment.payload {
        Payload::Eip3009(signed) => is(&signed.nonce) || is(&signed.signature),
        Payload::Transaction(transaction) => key == transaction,
        Payload::Other => false,
    };
    if named || payment.identifier.as_deref().is_some_and(is) {
        return true;
    }
    let payload = parsed.members.payment_payload;
    let inner = read_object(payload).and_then(|payload: PaymentPayload<'_>| payload.payload);
    let mut texts: Vec<Vec<u8>> = vec![body.to_vec(), without_whitespace(body)];
    for raw in [payload, inner].into_iter().flatten() {
        texts.push(raw.get().as_bytes().to_vec());
        texts.push(without_whitespace(raw.get().as_bytes()));
    }
    match &payment.payload {
        Payload::Eip3009(signed) => {
            for text in [&signed.nonce, &signed.signature] {
                texts.push(text.as_bytes().to_vec());
                texts.extend(hex::decode(without_prefix(text)).ok());
            }
        }
        Payload::Transaction(transaction) => {
            texts.push(transaction.as_bytes().to_vec());
            texts.extend(BASE64_STANDARD.decode(transaction).ok());
        }
        Payload::Other => {}
    }
    texts.extend(payment.identifier.iter().map(|id| id.as_bytes().to_vec()));
    // The header is the payload in base64.
    let headers: Vec<Vec<u8>> = texts.iter().map(|text| BASE64_STANDARD.encode(text).into_bytes()).collect();
    texts.iter().chain(&headers).any(|text| {
        let hashes = [<[u8; 32]>::from(Sha256::digest(text)), keccak256(text).0];
        hashes.iter().any(|hash| {
            given == hex::encode(hash)
                || [BASE64_STANDARD.encode(hash), BASE64_URL_SAFE.encode(hash), BASE64_URL_SAFE_NO_PAD.encode(hash)]
                    .iter()
                    .any(|text| key == text)
        })
    })
}

/// The text without spaces at its ends and without `0x`, in lower case.
fn without_prefix(text: &str) -> String {
    let text = text.trim().to_ascii_lowercase();
    text.strip_prefix("0x").map_or_else(|| text.clone(), str::to_owned)
}

/// A JSON text without the spaces between its parts, as most serializers write it.
fn without_whitespace(text: &[u8]) -> Vec<u8> {
    let (mut out, mut quoted, mut escaped) = (Vec::with_capacity(text.len()), false, false);
    for byte in text {
        if quoted {
            (escaped, quoted) = (!escaped && *byte == b'\\', escaped || *byte != b'"');
        } else if byte.is_ascii_whitespace() {
            continue;
        } else {
            quoted = *byte == b'"';
        }
        out.push(*byte);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ID: &str = "order_0123456789abcdef";

    fn check(key: &str, pretty: bool) -> bool {
        let requirements =
            json!({"scheme": "exact", "network": "eip155:84532", "amount": "1", "asset": "0x1", "payTo": "0x2"});
        let body = json!({"x402Version": 2, "paymentRequirements": requirements, "paymentPayload": payload()});
        let text = if pretty { serde_json::to_string_pretty(&body).expect("writes") } else { body.to_string() };
        let parsed = X402Body::parse(text.as_bytes()).expect("an object");
        let payment = crate::x402::read(&parsed).expect("a payment");
        let own = [hex::encode(Sha256::digest(&text)), keccak256(&text).to_string()];
        assert!(own.iter().all(|key| buyer_can_repeat(key, text.as_bytes(), &parsed, &payment)));
        buyer_can_repeat(key, text.as_bytes(), &parsed, &payment)
    }

    fn payload() -> serde_json::Value {
        let accepted =
            json!({"scheme": "exact", "network": "eip155:84532", "amount": "1", "asset": "0x1", "payTo": "0x2"});
        let authorization = json!({"from": "0x1", "to": "0x2", "value": "1", "validAfter": "0", "validBefore": "1",
            "nonce": format!("0X{}", "ab".repeat(32))});
        json!({"x402Version": 2, "accepted": accepted, "payload": {"signature": "0xCD", "authorization": authorization},
            "extensions": {"payment-identifier": {"info": {"id": ID, "note": "a \" b"}}}})
    }

    #[test]
    fn what_a_buyer_can_repeat_is_no_key() {
        let text = payload().to_string();
        let header = BASE64_STANDARD.encode(&text);
        let inner = payload()["payload"].to_string();
        for pretty in [false, true] {
            for key in [
                ID.to_owned(),
                "ab".repeat(32),
                format!("0x{}", "AB".repeat(32)),
                "0xcd".to_owned(),
                hex::encode(Sha256::digest(&header)),
                BASE64_STANDARD.encode(Sha256::digest(&header)),
                keccak256(&header).to_string(),
                hex::encode(Sha256::digest(&text)),
                keccak256(&text).to_string().to_uppercase(),
                keccak256(&inner).to_string(),
                BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(ID)),
                keccak256(hex::decode("ab".repeat(32)).expect("hex")).to_string(),
            ] {
                assert!(check(&key, pretty), "{key} {pretty}");
            }
        }
        for key in ["5f0c7a52-6d34-4b0e-9a3b-6f0f8f6d8f11", "order-7", &"ac".repeat(32)] {
            assert!(!check(key, false), "{key}");
        }
    }
}

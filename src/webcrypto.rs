//! The platform's cryptography (WebCrypto): AES-256-GCM for secrets that must be read again, and the signatures of ID tokens.

use crate::app;
use serde_json::{Value, json};
use wasm_bindgen::{JsCast, JsValue};
use worker::js_sys::{self, Array, Function, Object, Promise, Reflect, Uint8Array};
use worker::wasm_bindgen_futures::JsFuture;
use x402_api::oidc::id_token::{SignatureAlgorithm, UncheckedToken};
use x402_core::error::Fault;
use x402_core::sealing::{Sealed, SealedRow, sealing_key};

/// Calls a method of `crypto.subtle`; `None` where the platform refuses. Its errors say nothing that is needed.
async fn call<const N: usize>(method: &str, args: [&JsValue; N]) -> Option<JsValue> {
    let member = |of: &JsValue, name: &str| Reflect::get(of, &name.into()).ok();
    let subtle = member(&member(&js_sys::global(), "crypto")?, "subtle")?;
    let method: Function = member(&subtle, method)?.dyn_into().ok()?;
    let promise = method.apply(&subtle, &args.into_iter().collect::<Array>()).ok()?;
    JsFuture::from(promise.dyn_into::<Promise>().ok()?).await.ok()
}

fn js(value: &Value) -> Option<JsValue> {
    js_sys::JSON::parse(&value.to_string()).ok()
}

fn bytes(from: &[u8]) -> JsValue {
    Uint8Array::from(from).into()
}

/// AES-256-GCM in one direction, `encrypt` or `decrypt`.
async fn aes_gcm(way: &str, key: &[u8; 32], nonce: &[u8], row: SealedRow<'_>, text: &[u8]) -> Option<Vec<u8>> {
    let algorithm = Object::new();
    for (name, value) in
        [("name", "AES-GCM".into()), ("iv", bytes(nonce)), ("additionalData", bytes(row.associated_data().as_bytes()))]
    {
        Reflect::set(&algorithm, &name.into(), &value).ok()?;
    }
    let usages = js(&json!([way]))?;
    let key = call("importKey", [&"raw".into(), &bytes(key), &"AES-GCM".into(), &false.into(), &usages]).await?;
    let done = call(way, [&algorithm, &key, &bytes(text)]).await?;
    Some(Uint8Array::new(&done).to_vec())
}

/// Seals a secret of a row under the first pepper; the text to store.
///
/// # Errors
/// `INTERNAL` where there is no pepper, or the platform refuses.
pub(crate) async fn seal(peppers: &[[u8; 32]], row: SealedRow<'_>, secret: &str) -> Result<String, Fault> {
    let key = peppers.first().and_then(sealing_key);
    let key = key.ok_or_else(|| Fault::internal("no pepper is configured to seal a secret"))?;
    let nonce = app::random()?;
    let ciphertext = aes_gcm("encrypt", &key, &nonce, row, secret.as_bytes()).await;
    let ciphertext = ciphertext.ok_or_else(|| Fault::internal("the platform does not encrypt"))?;
    Ok(Sealed { nonce, ciphertext }.text())
}

/// Opens what [`seal`] made for the same row under any of the peppers; `None` where none of them opens it.
pub(crate) async fn open(peppers: &[[u8; 32]], row: SealedRow<'_>, stored: &str) -> Option<String> {
    let sealed = Sealed::parse(stored)?;
    for key in peppers.iter().filter_map(sealing_key) {
        if let Some(secret) = aes_gcm("decrypt", &key, &sealed.nonce, row, &sealed.ciphertext).await {
            return String::from_utf8(secret).ok();
        }
    }
    None
}

/// Whether a key, as [`UncheckedToken::key`] gives it, has signed a token.
pub(crate) async fn is_signed_by(token: &UncheckedToken, key: &Value) -> bool {
    let check = async || {
        let (import, verify) = match token.algorithm {
            SignatureAlgorithm::Rs256 => {
                let algorithm = json!({"name": "RSASSA-PKCS1-v1_5", "hash": "SHA-256"});
                (algorithm.clone(), algorithm)
            }
            SignatureAlgorithm::Es256 => {
                (json!({"name": "ECDSA", "namedCurve": "P-256"}), json!({"name": "ECDSA", "hash": "SHA-256"}))
            }
        };
        let (key, import, usages) = (js(key)?, js(&import)?, js(&json!(["verify"]))?);
        let key = call("importKey", [&"jwk".into(), &key, &import, &false.into(), &usages]).await?;
        let (signature, signed) = (bytes(&token.signature), bytes(token.signed.as_bytes()));
        call("verify", [&js(&verify)?, &key, &signature, &signed]).await?.as_bool()
    };
    check().await == Some(true)
}

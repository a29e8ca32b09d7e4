//! Cloudflare Turnstile, which tells people from programs
//! (<https://developers.cloudflare.com/turnstile/get-started/server-side-validation/>).

use crate::outbound::{OutboundRequest, deadline, exchange, request_headers};
use serde_json::{Value, json};
use x402_core::error::{ErrorCode, Fault};

const URL: &str = "https://challenges.cloudflare.com/turnstile/v0/siteverify";
/// The deadline of one request: a person waits.
const LIMIT_MS: u32 = 3_000;
const ANSWER_MAX: usize = 16 * 1_024;
/// Errors about our own secret.
const OURS: [&str; 2] = ["invalid-input-secret", "missing-input-secret"];

/// Checks the token that a widget gave to a page. It counts once, for five minutes; Turnstile sees to both.
///
/// # Errors
/// `INVALID_REQUEST` without a token; `BOT_REFUSED` where Turnstile does not accept it; `UPSTREAM_UNAVAILABLE` where it does
/// not answer in time; `MISCONFIGURED` where it does not know our secret.
pub(crate) async fn check(secret: &str, token: Option<&str>) -> Result<(), Fault> {
    let detail = "must be there: the token of the Turnstile widget";
    let token = token.ok_or_else(|| Fault::new(ErrorCode::InvalidRequest, detail).at("turnstile_token"))?;
    let body = json!({"secret": secret, "response": token}).to_string();
    let request = OutboundRequest {
        url: URL,
        headers: &request_headers(&[("content-type", "application/json")]),
        body: Some(&body),
        deadline: deadline(LIMIT_MS),
        answer_max: ANSWER_MAX,
    };
    let unavailable = |cause: String| {
        let detail = "Turnstile cannot be asked whether a person sends this: try again later";
        Fault::new(ErrorCode::UpstreamUnavailable, detail).after(5).because(cause)
    };
    let answer = exchange(request).await.map_err(|failure| unavailable(format!("Turnstile: {failure}")))?;
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let errors = body.get("error-codes").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let has = |codes: &[&str]| errors.iter().filter_map(Value::as_str).any(|code| codes.contains(&code));
    match body.get("success").and_then(Value::as_bool) {
        Some(true) if answer.status == 200 => Ok(()),
        Some(false) if has(&OURS) => {
            let detail = "Turnstile does not know this service";
            Err(Fault::new(ErrorCode::Misconfigured, detail).after(60).because("TURNSTILE_SECRET is wrong"))
        }
        Some(false) if !has(&["internal-error"]) => {
            let detail = "Turnstile does not accept the token: it is wrong, was used or is too old";
            Err(Fault::new(ErrorCode::BotRefused, detail).at("turnstile_token"))
        }
        Some(_) | None => Err(unavailable(format!("Turnstile answered {}", answer.status))),
    }
}

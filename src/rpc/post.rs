//! One HTTP request to a provider: a deadline, no redirects, and a body that is cut while it streams.

use crate::platform::fetch::fetch_with_init_global;
use core::fmt;
use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use wasm_bindgen::{JsCast, JsValue};
use worker::js_sys;
use worker::wasm_bindgen_futures::JsFuture;
use worker::web_sys::{AbortSignal, RequestInit, RequestRedirect, Response};
use x402_chain::breaker::AttemptOutcome;
use x402_chain::facts::{ErrorClass, RpcError};
use x402_core::settings::provider::{ProviderAccess, provider_access};

thread_local! {
    static JSON_HEADERS: JsValue = request_headers(None);
}

fn request_headers(authorization: Option<&str>) -> JsValue {
    let headers = js_sys::Object::new();
    let all = [Some(("content-type", "application/json")), authorization.map(|value| ("authorization", value))];
    for (name, value) in all.into_iter().flatten() {
        // Setting a member of a new object cannot fail.
        let _ = js_sys::Reflect::set(&headers, &name.into(), &value.into());
    }
    headers.into()
}

/// The deadline of one attempt.
pub(super) const ATTEMPT_MS: u32 = 2_500;
/// The largest answer: recorded receipts reach 655 KB, so 4 MiB is six times that.
const BODY_MAX: usize = 4 * 1_024 * 1_024;

/// Why a provider gave no usable answer.
pub(super) enum ProviderFailure {
    /// No answer within the deadline, or a broken connection.
    Transport(String),
    /// Too many requests; with `Retry-After` in seconds, if it was sent.
    RateLimited(Option<u64>),
    /// The provider's plan has no requests left.
    Exhausted,
    /// More than [`BODY_MAX`] bytes.
    TooLarge,
    /// An error about the whole request.
    Refused(String),
    /// An answer that is malformed or contradicts itself.
    Malformed(String),
}

impl ProviderFailure {
    pub(super) fn of(error: &RpcError, retry_after_s: Option<u64>) -> Self {
        match error.class {
            ErrorClass::RateLimited => Self::RateLimited(retry_after_s),
            ErrorClass::Exhausted => Self::Exhausted,
            ErrorClass::TooLarge => Self::TooLarge,
            ErrorClass::Revert
            | ErrorClass::Halted
            | ErrorClass::SignerUnfunded
            | ErrorClass::Underpriced
            | ErrorClass::Pruned
            | ErrorClass::Behind
            | ErrorClass::Unsupported
            | ErrorClass::Other => Self::Refused(format!("{:?} {}", error.class, error.message)),
        }
    }

    pub(super) const fn attempt_outcome(&self) -> AttemptOutcome {
        match self {
            Self::RateLimited(retry_after_s) => AttemptOutcome::RateLimited { retry_after_s: *retry_after_s },
            Self::Exhausted => AttemptOutcome::Exhausted,
            Self::Transport(_) | Self::TooLarge | Self::Refused(_) | Self::Malformed(_) => AttemptOutcome::Failed,
        }
    }
}

impl fmt::Display for ProviderFailure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transport(why) => write!(out, "no answer: {why}"),
            Self::TooLarge => write!(out, "more than {BODY_MAX} bytes"),
            Self::RateLimited(_) => out.write_str("rate limited"),
            Self::Exhausted => out.write_str("plan used up"),
            Self::Refused(why) => write!(out, "refused: {why}"),
            Self::Malformed(why) => write!(out, "malformed answer: {why}"),
        }
    }
}

/// The provider's HTTP response.
pub(super) struct HttpAnswer {
    pub(super) status: u16,
    pub(super) retry_after_s: Option<u64>,
    pub(super) body: Vec<u8>,
}

/// An answer to come. Boxed: the compiler would copy its code into each of its callers.
pub(super) type PendingAnswer<'a> = LocalBoxFuture<'a, Result<HttpAnswer, ProviderFailure>>;

/// Posts a body and reads the answer, all within [`ATTEMPT_MS`].
pub(super) fn post_json<'a>(url: &'a str, body: &'a str) -> PendingAnswer<'a> {
    post_json_within(url, body, ATTEMPT_MS)
}

/// Posts a body and reads the answer, all within so many milliseconds.
pub(super) fn post_json_within<'a>(url: &'a str, body: &'a str, limit_ms: u32) -> PendingAnswer<'a> {
    Box::pin(exchange(url, body, AbortSignal::timeout_with_u32(limit_ms)))
}

async fn exchange(url: &str, body: &str, signal: AbortSignal) -> Result<HttpAnswer, ProviderFailure> {
    // The platform's error may hold the URL, and the URL a key: the message only says that the request failed.
    let broken = |_: JsValue| ProviderFailure::Transport("the request failed".to_owned());
    let ProviderAccess { url, authorization } = provider_access(url);
    let init = RequestInit::new();
    init.set_method("POST");
    init.set_headers(&match authorization.as_deref() {
        None => JSON_HEADERS.with(JsValue::clone),
        own @ Some(_) => request_headers(own),
    });
    init.set_redirect(RequestRedirect::Manual);
    init.set_body(&JsValue::from_str(body));
    init.set_signal(Some(&signal));
    let response = JsFuture::from(fetch_with_init_global(&url, &init)).await.map_err(broken)?;
    let response: Response = response.unchecked_into();
    let status = response.status();
    if (300..400).contains(&status) {
        return Err(ProviderFailure::Transport(format!("a redirect (HTTP {status})")));
    }
    let headers = response.headers();
    let number = |name| headers.get(name).ok().flatten().and_then(|text| text.trim().parse::<u64>().ok());
    let retry_after_s = if status == 200 { None } else { number("retry-after") };
    let length = number("content-length").map(|length| usize::try_from(length).unwrap_or(usize::MAX));
    let is_coded = headers.has("content-encoding").unwrap_or(true);
    let body = match length {
        Some(length) if length > BODY_MAX => return Err(ProviderFailure::TooLarge),
        // HTTP limits the body to the stated length, so nothing needs to be cut.
        Some(_) if !is_coded => {
            let whole = JsFuture::from(response.text().map_err(broken)?).await.map_err(broken)?;
            whole.as_string().ok_or_else(|| broken(JsValue::NULL))?.into_bytes()
        }
        Some(_) | None => read_bounded(response).await?,
    };
    Ok(HttpAnswer { status, retry_after_s, body })
}

/// Reads a body of unknown length and stops at the limit.
async fn read_bounded(response: Response) -> Result<Vec<u8>, ProviderFailure> {
    let broken = |_: worker::Error| ProviderFailure::Transport("the answer broke off".to_owned());
    let mut response = worker::Response::from(response);
    let mut body = Vec::new();
    let mut stream = response.stream().map_err(broken)?;
    while let Some(chunk) = stream.next().await {
        body.extend(chunk.map_err(broken)?);
        if body.len() > BODY_MAX {
            return Err(ProviderFailure::TooLarge);
        }
    }
    Ok(body)
}

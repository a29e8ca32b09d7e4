//! One HTTP request to the outside: a deadline, no redirects, and a body that is cut while it streams.

use crate::app;
use crate::platform::fetch::fetch_with_init_global;
use core::fmt;
use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use wasm_bindgen::{JsCast, JsValue};
use worker::js_sys;
use worker::wasm_bindgen_futures::JsFuture;
use worker::web_sys::{AbortSignal, RequestInit, RequestRedirect, Response};
use x402_chain::time::UnixMillis;

/// The user agent of messages to addresses that tenants give. The service does not know all its own names: so a request of
/// this user agent meets no route (`entry/http.rs`), whatever the name by which a message has come back.
pub(crate) const USER_AGENT: &str = "x402-edge";

/// A request's headers as the platform takes them.
pub(crate) fn request_headers(all: &[(&str, &str)]) -> JsValue {
    let headers = js_sys::Object::new();
    for (name, value) in all {
        // Setting a member of a new object cannot fail.
        let _ = js_sys::Reflect::set(&headers, &(*name).into(), &(*value).into());
    }
    headers.into()
}

/// A request to the outside.
pub(crate) struct OutboundRequest<'a> {
    pub(crate) url: &'a str,
    /// As [`request_headers`] makes them.
    pub(crate) headers: &'a JsValue,
    /// The body of a `POST`; `None`: a `GET`.
    pub(crate) body: Option<&'a str>,
    /// Ends the request, and the reading of its answer.
    pub(crate) deadline: AbortSignal,
    /// The largest answer, bytes.
    pub(crate) answer_max: usize,
}

/// Why there is no answer. No text of it comes from the platform, whose errors may hold the URL, and the URL a key.
#[derive(Debug)]
pub(crate) enum OutboundFailure {
    /// No answer within the deadline, or a broken connection.
    Failed,
    /// A redirect, which is not followed.
    Redirected(u16),
    /// More bytes than the request allows.
    TooLarge,
    /// The body ended early.
    BrokenOff,
}

impl fmt::Display for OutboundFailure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed => out.write_str("the request failed"),
            Self::Redirected(status) => write!(out, "a redirect (HTTP {status})"),
            Self::TooLarge => out.write_str("the answer is too large"),
            Self::BrokenOff => out.write_str("the answer broke off"),
        }
    }
}

/// An HTTP response.
pub(crate) struct HttpAnswer {
    pub(crate) status: u16,
    /// The header `Retry-After` in seconds, where the status is not 200.
    pub(crate) retry_after_s: Option<u64>,
    pub(crate) body: Vec<u8>,
}

/// An answer to come. Boxed: the compiler would copy its code into each of its callers.
pub(crate) type PendingAnswer<'a> = LocalBoxFuture<'a, Result<HttpAnswer, OutboundFailure>>;

/// A deadline that begins now.
pub(crate) fn deadline(limit_ms: u32) -> AbortSignal {
    AbortSignal::timeout_with_u32(limit_ms)
}

/// Sends a request and reads the answer, all within its deadline.
pub(crate) fn exchange(request: OutboundRequest<'_>) -> PendingAnswer<'_> {
    let method = method_of(&request);
    exchange_as(request, method)
}

/// The same by another method than `GET`, or `POST` with a body.
pub(crate) fn exchange_as<'a>(request: OutboundRequest<'a>, method: &'a str) -> PendingAnswer<'a> {
    Box::pin(exchange_now(request, method))
}

const fn method_of(request: &OutboundRequest<'_>) -> &'static str {
    if request.body.is_some() { "POST" } else { "GET" }
}

/// The answer to a message to somebody who may send anything.
pub(crate) struct MessageAnswer {
    pub(crate) status: u16,
    /// What `Retry-After` asks for: seconds, or a date.
    pub(crate) retry_after_ms: Option<u64>,
    /// Its first bytes.
    pub(crate) body: Vec<u8>,
}

/// Sends a message, and reads the first bytes of the answer, all within its deadline. A redirect is an answer as any other, and
/// not followed.
pub(crate) fn send_message(request: OutboundRequest<'_>) -> LocalBoxFuture<'_, Result<MessageAnswer, OutboundFailure>> {
    Box::pin(async move {
        let response = fetch(&request, method_of(&request)).await?;
        let status = response.status();
        let asked = response.headers().get("retry-after").ok().flatten();
        let retry_after_ms = asked.and_then(|text| retry_after(text.trim()));
        let (body, _) = read_until(response, request.answer_max).await?;
        Ok(MessageAnswer { status, retry_after_ms, body })
    })
}

/// The answer to a report of an error.
pub(crate) struct ReportAnswer {
    pub(crate) status: u16,
    /// What `Retry-After` asks for: seconds, or a date.
    pub(crate) retry_after_ms: Option<u64>,
    /// The header `X-Sentry-Rate-Limits`.
    pub(crate) limits: Option<String>,
}

/// Sends a report of an error. The body of the answer is not read.
pub(crate) fn send_report(request: OutboundRequest<'_>) -> LocalBoxFuture<'_, Result<ReportAnswer, OutboundFailure>> {
    Box::pin(async move {
        let response = fetch(&request, method_of(&request)).await?;
        cancel_body(&response);
        let header = |name| response.headers().get(name).ok().flatten();
        let retry_after_ms = header("retry-after").and_then(|text| retry_after(text.trim()));
        Ok(ReportAnswer { status: response.status(), retry_after_ms, limits: header("x-sentry-rate-limits") })
    })
}

/// A body that nobody reads would hold its connection. How that ends is of no interest.
fn cancel_body(response: &Response) {
    if let Some(body) = response.body() {
        drop(JsFuture::from(body.cancel()));
    }
}

/// Sends a message whose answer's status alone counts: its body is not read, whatever it is. A redirect is an answer as any
/// other, and not followed.
pub(crate) fn send_for_status(request: OutboundRequest<'_>) -> LocalBoxFuture<'_, Result<u16, OutboundFailure>> {
    Box::pin(async move {
        let response = fetch(&request, method_of(&request)).await?;
        cancel_body(&response);
        Ok(response.status())
    })
}

/// Milliseconds that a `Retry-After` asks for: seconds, or until a date (RFC 9110, section 10.2.3).
fn retry_after(text: &str) -> Option<u64> {
    let seconds = || text.parse::<u64>().ok().map(|seconds| seconds.saturating_mul(1_000));
    let until = || {
        let at = js_sys::Date::new(&JsValue::from_str(text)).to_iso_string().as_string()?;
        Some(UnixMillis::parse(&at)?.since(app::now()))
    };
    // An invalid date has no text: asking for it would throw.
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        seconds()
    } else if js_sys::Date::parse(text).is_nan() {
        None
    } else {
        until()
    }
}

/// Sends a request; the answer without its body.
async fn fetch(request: &OutboundRequest<'_>, method: &str) -> Result<Response, OutboundFailure> {
    let init = RequestInit::new();
    init.set_method(method);
    init.set_headers(request.headers);
    init.set_redirect(RequestRedirect::Manual);
    if let Some(body) = request.body {
        init.set_body(&JsValue::from_str(body));
    }
    init.set_signal(Some(&request.deadline));
    let response = JsFuture::from(fetch_with_init_global(request.url, &init)).await;
    response.map(JsCast::unchecked_into).map_err(|_| OutboundFailure::Failed)
}

async fn exchange_now(request: OutboundRequest<'_>, method: &str) -> Result<HttpAnswer, OutboundFailure> {
    let failed = |_: JsValue| OutboundFailure::Failed;
    let response = fetch(&request, method).await?;
    let status = response.status();
    if (300..400).contains(&status) {
        return Err(OutboundFailure::Redirected(status));
    }
    let headers = response.headers();
    let number = |name| headers.get(name).ok().flatten().and_then(|text| text.trim().parse::<u64>().ok());
    let retry_after_s = if status == 200 { None } else { number("retry-after") };
    let length = number("content-length").map(|length| usize::try_from(length).unwrap_or(usize::MAX));
    let is_coded = headers.has("content-encoding").unwrap_or(true);
    let body = match length {
        Some(length) if length > request.answer_max => return Err(OutboundFailure::TooLarge),
        // HTTP limits the body to the stated length, so nothing needs to be cut.
        Some(_) if !is_coded => {
            let whole = JsFuture::from(response.text().map_err(failed)?).await.map_err(failed)?;
            whole.as_string().ok_or(OutboundFailure::Failed)?.into_bytes()
        }
        Some(_) | None => read_bounded(response, request.answer_max).await?,
    };
    Ok(HttpAnswer { status, retry_after_s, body })
}

/// Reads a body of unknown length, which must not exceed the limit.
async fn read_bounded(response: Response, max: usize) -> Result<Vec<u8>, OutboundFailure> {
    let (body, is_whole) = read_until(response, max).await?;
    if is_whole { Ok(body) } else { Err(OutboundFailure::TooLarge) }
}

/// Reads a body up to the limit; whether that is all of it. What follows is not read.
async fn read_until(response: Response, max: usize) -> Result<(Vec<u8>, bool), OutboundFailure> {
    let broken = |_: worker::Error| OutboundFailure::BrokenOff;
    let mut body = Vec::new();
    if response.body().is_none() {
        return Ok((body, true));
    }
    let mut response = worker::Response::from(response);
    let mut stream = response.stream().map_err(broken)?;
    while let Some(chunk) = stream.next().await {
        body.extend(chunk.map_err(broken)?);
        if body.len() > max {
            body.truncate(max);
            return Ok((body, false));
        }
    }
    Ok((body, true))
}

//! One HTTP request to a provider: a deadline, no redirects, and a body that is
//! cut while it streams.

use crate::chain::breaker::Ending;
use crate::chain::facts::{ErrorClass, RpcError};
use core::fmt;
use futures_util::StreamExt;
use futures_util::future::{Either, select};
use std::pin::pin;
use std::time::Duration;
use wasm_bindgen::JsValue;
use worker::{AbortController, Delay, Fetch, Headers, Method, Request, RequestInit, RequestRedirect};

/// One attempt's patience.
pub(super) const ATTEMPT_MS: u64 = 2_500;
/// The largest answer: recorded receipts reach 655 KB, so 4 MiB is six times that.
const BODY_MAX: usize = 4 * 1_024 * 1_024;

/// Why a provider gave no usable answer.
pub(super) enum Failure {
    /// No answer in time, or none at all.
    Transport(String),
    /// Too many requests.
    RateLimited(Option<u64>),
    /// The plan is used up.
    Exhausted,
    /// An error about the whole request.
    Refused(String),
    /// An answer that cannot be true.
    Nonsense(String),
}

impl Failure {
    pub(super) fn of(error: &RpcError, retry_after_s: Option<u64>) -> Self {
        match error.class {
            ErrorClass::RateLimited => Self::RateLimited(retry_after_s),
            ErrorClass::Exhausted => Self::Exhausted,
            ErrorClass::Revert
            | ErrorClass::Pruned
            | ErrorClass::Behind
            | ErrorClass::Unsupported
            | ErrorClass::Other => Self::Refused(format!("{:?} {}", error.class, error.message)),
        }
    }

    pub(super) const fn ending(&self) -> Ending {
        match self {
            Self::RateLimited(retry_after_s) => Ending::RateLimited { retry_after_s: *retry_after_s },
            Self::Exhausted => Ending::Exhausted,
            Self::Transport(_) | Self::Refused(_) | Self::Nonsense(_) => Ending::Failed,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transport(why) => write!(out, "no answer: {why}"),
            Self::RateLimited(_) => out.write_str("rate limited"),
            Self::Exhausted => out.write_str("plan used up"),
            Self::Refused(why) => write!(out, "refused: {why}"),
            Self::Nonsense(why) => write!(out, "nonsense: {why}"),
        }
    }
}

/// What came back.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) retry_after_s: Option<u64>,
    pub(super) body: Vec<u8>,
}

/// Posts a body and reads the answer.
pub(super) async fn post(url: &str, body: &str) -> Result<Answer, Failure> {
    let abort = AbortController::default();
    let signal = abort.signal();
    let deadline = Delay::from(Duration::from_millis(ATTEMPT_MS));
    match select(pin!(exchange(url, body, &signal)), pin!(deadline)).await {
        Either::Left((answer, _)) => answer,
        Either::Right(_) => {
            abort.abort();
            Err(Failure::Transport(format!("nothing in {ATTEMPT_MS} ms")))
        }
    }
}

async fn exchange(url: &str, body: &str, signal: &worker::AbortSignal) -> Result<Answer, Failure> {
    // The platform's words may hold the URL, and the URL a key: only that it failed is told.
    let broken = |_: worker::Error| Failure::Transport("the request failed".to_owned());
    let headers = Headers::new();
    headers.set("content-type", "application/json").map_err(broken)?;
    let mut init = RequestInit::new();
    init.with_method(Method::Post)
        .with_headers(headers)
        .with_redirect(RequestRedirect::Manual)
        .with_body(Some(JsValue::from_str(body)));
    let request = Request::new_with_init(url, &init).map_err(broken)?;
    let mut response = Fetch::Request(request).send_with_signal(signal).await.map_err(broken)?;
    let status = response.status_code();
    if (300..400).contains(&status) {
        return Err(Failure::Transport(format!("a redirect (HTTP {status})")));
    }
    let header = response.headers().get("retry-after").ok().flatten();
    let retry_after_s = header.and_then(|text| text.trim().parse().ok());
    let length = response.headers().get("content-length").ok().flatten();
    if length.and_then(|text| text.parse::<usize>().ok()).is_some_and(|length| length > BODY_MAX) {
        return Err(Failure::Transport(format!("more than {BODY_MAX} bytes")));
    }
    let mut body = Vec::new();
    let mut stream = response.stream().map_err(broken)?;
    while let Some(chunk) = stream.next().await {
        body.extend(chunk.map_err(broken)?);
        if body.len() > BODY_MAX {
            return Err(Failure::Transport(format!("more than {BODY_MAX} bytes")));
        }
    }
    Ok(Answer { status, retry_after_s, body })
}

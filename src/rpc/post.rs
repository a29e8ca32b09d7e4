//! One HTTP request to a provider.

use super::now;
use crate::outbound::{HttpAnswer, OutboundFailure, OutboundRequest, deadline, exchange, request_headers};
use crate::request_trace::{self, ProviderCall};
use crate::telemetry::counts;
use core::fmt;
use futures_util::future::LocalBoxFuture;
use wasm_bindgen::JsValue;
use x402_api::server_timing::RequestStep;
use x402_chain::breaker::AttemptOutcome;
use x402_chain::facts::{ErrorClass, RpcError};
use x402_chain::network::Network;
use x402_core::metrics::MetricFamily;
use x402_core::metrics::status::PROVIDER_OK;
use x402_core::settings::provider::{ProviderAccess, host, provider_access};

const JSON: (&str, &str) = ("content-type", "application/json");

thread_local! {
    static JSON_HEADERS: JsValue = request_headers(&[JSON]);
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

/// An answer to come. Boxed: the compiler would copy its code into each of its callers.
pub(super) type PendingAnswer<'a> = LocalBoxFuture<'a, Result<HttpAnswer, ProviderFailure>>;

/// Posts a body to a provider of a chain and reads the answer, all within [`ATTEMPT_MS`].
pub(super) fn post_json<'a>(network: &'static Network, url: &'a str, body: &'a str) -> PendingAnswer<'a> {
    post_json_within(network, url, body, ATTEMPT_MS)
}

/// Counts a request to a provider and how it has ended, and notes it.
fn count_call(network: &'static Network, url: &str, ms: u64, answer: &Result<HttpAnswer, OutboundFailure>) {
    let outcome = match answer {
        Ok(HttpAnswer { status: 429, .. }) => "rate_limited",
        Ok(HttpAnswer { status: 400.., .. }) => "http_error",
        Ok(_) => PROVIDER_OK,
        Err(OutboundFailure::TooLarge) => "too_large",
        Err(OutboundFailure::Failed | OutboundFailure::Redirected(_) | OutboundFailure::BrokenOff) => "no_answer",
    };
    let host = host(url);
    counts::count(MetricFamily::ProviderCalls, &[network.key, &host, outcome]);
    counts::observe(MetricFamily::ProviderCallDuration, &[network.key], ms);
    request_trace::note_call(ProviderCall { at: now(), network, host, outcome, ms });
}

/// Posts a body and reads the answer, all within so many milliseconds.
pub(super) fn post_json_within<'a>(
    network: &'static Network,
    address: &'a str,
    body: &'a str,
    limit_ms: u32,
) -> PendingAnswer<'a> {
    let (deadline, began) = (deadline(limit_ms), now());
    Box::pin(async move {
        let _asking = request_trace::step(RequestStep::Chain);
        let ProviderAccess { url, authorization } = provider_access(address);
        // Ids alone: nothing else of a client's goes to a provider.
        let span = request_trace::current().map(|trace| trace.next_span().to_string());
        let headers = match (authorization.as_deref(), span.as_deref()) {
            (None, None) => JSON_HEADERS.with(JsValue::clone),
            (own, span) => {
                let own = own.map(|own| ("authorization", own));
                let all: Vec<_> = [JSON].into_iter().chain(own).chain(span.map(|span| ("traceparent", span))).collect();
                request_headers(&all)
            }
        };
        let request =
            OutboundRequest { url: &url, headers: &headers, body: Some(body), deadline, answer_max: BODY_MAX };
        let answer = exchange(request).await;
        count_call(network, address, now().since(began), &answer);
        answer.map_err(ProviderFailure::from)
    })
}

impl From<OutboundFailure> for ProviderFailure {
    fn from(failure: OutboundFailure) -> Self {
        match failure {
            OutboundFailure::TooLarge => Self::TooLarge,
            OutboundFailure::Failed | OutboundFailure::Redirected(_) | OutboundFailure::BrokenOff => {
                Self::Transport(failure.to_string())
            }
        }
    }
}

//! The one hop to a tenant's ledger: what is asked, and the call with its deadline.

use super::app::App;
use super::isolate::{self, Refused};
use crate::api::Reply;
use crate::error::{Code, Fault};
use crate::id::{RequestId, TenantId, VerificationId};
use crate::ledger::book;
use crate::network::Environment;
use crate::tenant::key::{Caller, KeyHash};
use crate::time::UnixMillis;
use futures_util::future::{Either, select};
use serde::{Deserialize, Serialize};
use std::pin::pin;
use std::time::Duration;
use wasm_bindgen::JsValue;
use worker::{Delay, Headers, Method, Request, RequestInit, Response, Stub};

/// How long a ledger may take: its own work is a few milliseconds, a first call
/// loads the tenant from the directory, and callers of an object that panicked
/// would hang for more than eight seconds.
const DEADLINE_MS: u64 = 6_000;
/// Flushing waits for the directory, and may have many records to ship.
const FLUSH_DEADLINE_MS: u64 = 10_000;

/// Where a ledger tells the Worker what to remember of a refused caller.
pub(crate) const REMEMBER: &str = "x-ledger-remember";

/// Whose ledger, and for which HTTP request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Envelope {
    pub(crate) tenant: TenantId,
    pub(crate) environment: Environment,
    pub(crate) request_id: RequestId,
    /// For links in a problem.
    pub(crate) origin: String,
    /// For `instance` in a problem.
    pub(crate) path: String,
    pub(crate) ask: Ask,
}

/// What a ledger can be asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ask {
    /// Book a verification.
    Verify(Box<book::Request>),
    /// Tell of the account; `off` names chains that the registry check has switched off.
    Account { key: KeyHash, view: View, off: Vec<String> },
    /// Tell a record.
    Record { key: KeyHash, id: VerificationId },
    /// Let a key list records, and ship them first.
    List { key: KeyHash },
    /// Take the directory's copy, of this version at least.
    Reload { version: u64 },
    /// Ship what is unshipped, and enter the current period.
    Flush,
    /// Answer.
    Ping,
    /// Write one row (the benchmark's build only).
    #[cfg(x402_bench)]
    BenchRow { id: String },
}

/// What of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum View {
    /// `GET /v1/usage`.
    Usage,
    /// `GET /v1/supported-chains`.
    Chains,
    /// `GET /v1/whoami`.
    Whoami,
}

fn unavailable(cause: impl core::fmt::Display) -> Fault {
    let detail =
        "the tenant's ledger did not answer; the request may have been booked: repeat it with its Idempotency-Key";
    Fault::new(Code::LedgerUnavailable, detail).after(1).because(cause)
}

/// A ledger's name among the objects.
fn name(tenant: TenantId, environment: Environment) -> String {
    format!("{tenant}:{}", environment.name())
}

fn stub(app: &App, tenant: TenantId, environment: Environment, region: Option<&str>) -> Result<Stub, Fault> {
    let ledgers = app.ledgers()?;
    let name = name(tenant, environment);
    match region {
        Some(region) => ledgers.get_by_name_with_location_hint(&name, region),
        None => ledgers.get_by_name(&name),
    }
    .map_err(unavailable)
}

/// Asks a ledger and gives its answer as it is.
///
/// # Errors
/// `LEDGER_UNAVAILABLE`.
pub(crate) async fn ask(app: &App, envelope: &Envelope, region: Option<&str>) -> Result<Reply, Fault> {
    let stub = stub(app, envelope.tenant, envelope.environment, region)?;
    let body = serde_json::to_string(envelope).map_err(Fault::internal)?;
    let mut init = RequestInit::new();
    init.with_method(Method::Post).with_body(Some(JsValue::from_str(&body)));
    let request = Request::new_with_init("https://ledger/", &init).map_err(unavailable)?;
    let flushes = matches!(envelope.ask, Ask::List { .. } | Ask::Flush);
    let limit_ms = if flushes { FLUSH_DEADLINE_MS } else { DEADLINE_MS };
    let answered = async {
        let mut response = stub.fetch_with_request(request).await?;
        let body = response.text().await?;
        Ok::<_, worker::Error>((response, body))
    };
    let deadline = Delay::from(Duration::from_millis(limit_ms));
    match select(pin!(answered), pin!(deadline)).await {
        Either::Left((Ok((response, body)), _)) => Ok(reply(&response, body)),
        Either::Left((Err(error), _)) => Err(unavailable(error)),
        Either::Right(_) => Err(unavailable(format!("no answer in {limit_ms} ms"))),
    }
}

/// Headers that a ledger's answer may carry on.
const PASSED: [&str; 11] = [
    "Allow",
    "Cache-Control",
    "Idempotent-Replayed",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "WWW-Authenticate",
    "X-RateLimit-Limit",
    "X-RateLimit-Remaining",
    "X-RateLimit-Reset",
    REMEMBER,
];

fn reply(response: &Response, body: String) -> Reply {
    let headers: &Headers = response.headers();
    let passed = PASSED.into_iter().filter_map(|name| Some((name, headers.get(name).ok().flatten()?)));
    let content_type = match headers.get("content-type").ok().flatten().as_deref() {
        Some("application/problem+json") => "application/problem+json",
        _ => "application/json",
    };
    Reply { status: response.status_code(), content_type, body, headers: passed.collect() }
}

/// Takes out of an answer what the isolate is to remember of its caller.
pub(crate) fn remember(mut reply: Reply, caller: &Caller, now: UnixMillis) -> Reply {
    if let Some(at) = reply.headers.iter().position(|(name, _)| *name == REMEMBER) {
        let (_, told) = reply.headers.swap_remove(at);
        if let Ok(refused) = serde_json::from_str::<Refused>(&told) {
            isolate::remember_refused(caller.hash, refused, now);
        }
    }
    reply
}

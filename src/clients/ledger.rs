//! The one hop to a tenant's ledger: what is asked, and the call with its deadline.

use crate::app;
use crate::app::App;
use crate::isolate;
use crate::isolate::{AttemptKey, RefusedCaller};
use futures_util::future::{Either, select};
use serde::{Deserialize, Serialize};
use std::pin::pin;
use std::time::Duration;
use wasm_bindgen::prelude::*;
use worker::wasm_bindgen_futures::JsFuture;
use worker::web_sys::{self, RequestInit};
use worker::{Delay, Stub, js_sys};
use x402_api::facilitator::SettlementFinding;
use x402_api::records::PageQuery;
use x402_api::{ApiReply, explain, headers};
use x402_chain::id::{RequestId, SettlementId, TenantId, VerificationId};
use x402_chain::network::Environment;
use x402_chain::time::UnixMillis;
use x402_core::error::{ErrorCode, Fault};
use x402_core::settlement::SettlementReport;
use x402_core::settlement::payment;
use x402_core::settlement::status::SettlementFilter;
use x402_core::tenancy::key::{Caller, KeyHash};
use x402_core::tenancy::payee::PayeeQuery;
use x402_core::verification::decision;

/// How long a ledger may take: its own work is a few milliseconds, a first call
/// loads the tenant from the directory, and callers of an object that panicked
/// would hang for more than eight seconds.
const DEADLINE_MS: u64 = 6_000;
/// Flushing waits for the directory, and may have many records to ship.
const FLUSH_DEADLINE_MS: u64 = 10_000;

/// Where a ledger has the Worker remember a refused caller.
pub(crate) const REMEMBER: &str = "x-ledger-remember";
/// Says that nothing was recorded under the request's `Idempotency-Key` that could be repeated.
pub(crate) const UNRECORDED: &str = "x-ledger-unrecorded";
/// Says that an answer repeats what came under its `Idempotency-Key` before.
pub(crate) const REPLAYED: &str = "Idempotent-Replayed";
/// Where a ledger names the settlement whose success an answer gives away.
pub(crate) const HANDED_OVER: &str = "x-ledger-handed-over";

/// Whose ledger, and for which HTTP request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LedgerEnvelope {
    pub(crate) tenant: TenantId,
    pub(crate) environment: Environment,
    pub(crate) request_id: RequestId,
    /// For links in a problem.
    pub(crate) origin: String,
    /// For `instance` in a problem.
    pub(crate) path: String,
    pub(crate) ask: LedgerMessage,
}

/// What a ledger can be asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LedgerMessage {
    /// Judge and record a verification.
    Verify(Box<decision::VerificationRequest>),
    /// Judge and record an x402 payment.
    Payment(Box<payment::PaymentRequest>),
    /// Note how a settlement stands.
    Settled(Box<SettlementReport>),
    /// Give the waiting request the settler's result.
    Deliver(Box<DeliverMessage>),
    /// The caller has gone before it was answered: what its request was given is open again.
    Reopen(ReopenMessage),
    /// Let the seller take a success by hand.
    HandOver { key: KeyHash, id: SettlementId },
    /// Read one settlement.
    Settlement { key: KeyHash, id: SettlementId },
    /// List settlements, a page at a time.
    Settlements { key: KeyHash, filter: SettlementFilter, page: PageQuery },
    /// Read the account; `off` names chains that the registry check has switched off.
    Account { key: KeyHash, view: AccountView, off: Vec<String> },
    /// Say who may be paid for requirements; `off` as above.
    Payees { key: KeyHash, wanted: Vec<PayeeQuery>, off: Vec<String> },
    /// Read one verification's record.
    Record { key: KeyHash, id: VerificationId },
    /// Let a key list records, and ship them first.
    List { key: KeyHash },
    /// Take the directory's copy, of this version at least.
    Reload { version: u64 },
    /// Ship what is unshipped, and enter the current period.
    Flush,
    /// Do nothing: `/v1/health` measures the answer.
    Ping,
    /// Write one row (the benchmark's build only).
    #[cfg(x402_bench)]
    BenchRow { id: String },
}

/// The settler's result, for the request that waited.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct DeliverMessage {
    pub(crate) settlement: SettlementId,
    /// The network as the request wrote it.
    pub(crate) network_text: String,
    /// What was found out about it.
    pub(crate) found: SettlementFinding,
    /// Whether the request asks for our additions in the body of a success.
    #[serde(default)]
    pub(crate) explain: bool,
}

/// Whose delivery is open again: the settlement, or where its answer was lost the payment's.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct ReopenMessage {
    pub(crate) settlement: Option<SettlementId>,
    pub(crate) authorization: Option<String>,
}

/// Which view of the account a route answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AccountView {
    /// The answer of `GET /v1/usage`.
    Usage,
    /// `GET /v1/supported-chains`.
    Chains,
    /// The answer of `GET /v1/whoami`.
    Whoami,
}

fn ledger_unavailable(cause: impl core::fmt::Display) -> Fault {
    let detail =
        "the tenant's ledger did not answer; the request may have been booked: repeat it with its Idempotency-Key";
    Fault::new(ErrorCode::LedgerUnavailable, detail).after(1).because(cause)
}

/// A ledger's name among the objects.
fn ledger_name(tenant: TenantId, environment: Environment) -> String {
    format!("{tenant}:{}", environment.name())
}

fn ledger_stub(app: &App, tenant: TenantId, environment: Environment, region: Option<&str>) -> Result<Stub, Fault> {
    let ledgers = app.ledgers()?;
    let name = ledger_name(tenant, environment);
    match region {
        Some(region) => ledgers.get_by_name_with_location_hint(&name, region),
        None => ledgers.get_by_name(&name),
    }
    .map_err(ledger_unavailable)
}

#[wasm_bindgen]
extern "C" {
    /// A ledger's stub, called without the request object that `worker` would make.
    type Ledger;

    #[wasm_bindgen(method, catch)]
    fn fetch(this: &Ledger, url: &str, init: &RequestInit) -> Result<js_sys::Promise, JsValue>;
}

/// A ledger's answer. It is complete, so that it can go out to the caller
/// without being read: its body never enters this Worker's memory.
#[derive(Debug)]
pub(crate) struct LedgerResponse(web_sys::Response);

impl LedgerResponse {
    /// The HTTP status that the ledger answered with.
    pub(crate) fn status(&self) -> u16 {
        self.0.status()
    }

    /// The body, for a caller that must read it.
    ///
    /// # Errors
    /// `LEDGER_UNAVAILABLE` where it broke off.
    pub(crate) async fn text(&self) -> Result<String, Fault> {
        let reading = self.0.text().map_err(|error| ledger_unavailable(worker::Error::from(error)))?;
        let text = JsFuture::from(reading).await.map_err(|error| ledger_unavailable(worker::Error::from(error)))?;
        Ok(text.as_string().unwrap_or_default())
    }

    /// How the rate windows stand, for an answer that is made of more than the ledger's.
    pub(crate) fn rates(&self) -> Vec<(&'static str, String)> {
        let headers = self.0.headers();
        headers::RATE_HEADERS.into_iter().filter_map(|name| Some((name, headers.get(name).ok().flatten()?))).collect()
    }

    /// Takes out what the isolate is to remember of a refused caller.
    ///
    /// # Errors
    /// Where the platform refuses to copy the answer.
    pub(crate) fn remember(self, caller: &Caller, now: UnixMillis) -> Result<Self, Fault> {
        if self.status() < 400 {
            return Ok(self);
        }
        let Some(text) = self.0.headers().get(REMEMBER).ok().flatten() else { return Ok(self) };
        if let Ok(refused) = serde_json::from_str::<RefusedCaller>(&text) {
            isolate::remember_refused(caller.hash, refused, now);
        }
        self.without(REMEMBER)
    }

    /// Takes out whether an answer was recorded under an `Idempotency-Key`, for the isolate to remember.
    ///
    /// # Errors
    /// Where the platform refuses to copy the answer.
    pub(crate) fn remember_attempt(self, attempt: Option<AttemptKey>, now: UnixMillis) -> Result<Self, Fault> {
        let Some(attempt) = attempt else { return Ok(self) };
        let is_open = self.0.headers().has(UNRECORDED).unwrap_or(false);
        isolate::note_attempt(attempt, is_open, now);
        if is_open { self.without(UNRECORDED) } else { Ok(self) }
    }

    /// The answer without a header that is for this Worker only. What came in cannot be changed, only a copy of it.
    fn without(self, header: &str) -> Result<Self, Fault> {
        let init: &web_sys::ResponseInit = self.0.unchecked_ref();
        let copy = web_sys::Response::new_with_opt_readable_stream_and_init(self.0.body().as_ref(), init);
        let copy = copy.map_err(copy_failed)?;
        copy.headers().delete(header).map_err(copy_failed)?;
        Ok(Self(copy))
    }

    /// The same answer with status 200, whatever it says.
    ///
    /// # Errors
    /// Where the platform refuses to copy the answer.
    pub(crate) fn always_ok(self) -> worker::Result<Self> {
        let init = web_sys::ResponseInit::new();
        init.set_status(200);
        init.set_headers(self.0.headers().as_ref());
        let copy = web_sys::Response::new_with_opt_readable_stream_and_init(self.0.body().as_ref(), &init)?;
        copy.headers().set("Content-Type", "application/json")?;
        copy.headers().delete("WWW-Authenticate")?;
        Ok(Self(copy))
    }

    /// Takes out which settlement's success this answer gives away, if it does.
    ///
    /// # Errors
    /// `LEDGER_UNAVAILABLE` where the answer broke off.
    pub(crate) async fn handed_over(self) -> Result<(ApiReply, Option<SettlementId>), Fault> {
        let handed = self.0.headers().get(HANDED_OVER).ok().flatten();
        let handed = handed.as_deref().and_then(SettlementId::parse);
        let mut headers = self.rates();
        let own = [REPLAYED].into_iter().chain(explain::HEADERS);
        headers.extend(own.filter_map(|name| Some((name, self.0.headers().get(name).ok().flatten()?))));
        let status = self.status();
        let content_type = if status == 200 { "application/json" } else { "application/problem+json" };
        Ok((ApiReply { status, content_type, body: self.text().await?, headers }, handed))
    }

    /// The response for the client; its body was not read.
    pub(crate) fn into_response(self) -> web_sys::Response {
        self.0
    }
}

fn copy_failed(error: JsValue) -> Fault {
    Fault::internal(worker::Error::from(error))
}

/// The address of a call that is given up at a time. The platform may bring a call late, after the caller
/// has undone what the call may have done.
fn deadline_url(until: UnixMillis) -> String {
    format!("https://ledger/{}", until.0)
}

/// Until when a call's caller waits, by its address; `None` in calls of an older build.
pub(crate) fn caller_deadline(url: &str) -> Option<UnixMillis> {
    url.rsplit_once('/').and_then(|(_, until)| until.parse().ok()).map(UnixMillis)
}

/// Asks a ledger.
///
/// # Errors
/// `LEDGER_UNAVAILABLE`.
pub(crate) async fn call_ledger(
    app: &App,
    envelope: &LedgerEnvelope,
    region: Option<&str>,
) -> Result<LedgerResponse, Fault> {
    let stub = ledger_stub(app, envelope.tenant, envelope.environment, region)?;
    let body = serde_json::to_string(envelope).map_err(Fault::internal)?;
    let init = RequestInit::new();
    init.set_method("POST");
    init.set_body(&JsValue::from_str(&body));
    let ledger: Ledger = stub.into_rpc();
    let flushes = matches!(envelope.ask, LedgerMessage::List { .. } | LedgerMessage::Flush);
    let limit_ms = if flushes { FLUSH_DEADLINE_MS } else { DEADLINE_MS };
    let url = deadline_url(app::now().plus(limit_ms));
    let asked = ledger.fetch(&url, &init).map_err(|error| ledger_unavailable(worker::Error::from(error)))?;
    let deadline = Delay::from(Duration::from_millis(limit_ms));
    match select(JsFuture::from(asked), pin!(deadline)).await {
        Either::Left((Ok(response), _)) => Ok(LedgerResponse(response.unchecked_into())),
        Either::Left((Err(error), _)) => Err(ledger_unavailable(worker::Error::from(error))),
        Either::Right(_) => Err(ledger_unavailable(format!("no answer in {limit_ms} ms"))),
    }
}

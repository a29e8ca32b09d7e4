//! Calls to a tenant's ledger: the messages, the reply, and the deadline.

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
use x402_api::records::PageQuery;
use x402_api::{ApiReply, explain, headers};
use x402_chain::id::{RequestId, SettlementId, TenantId, VerificationId};
use x402_chain::network::Environment;
use x402_chain::time::UnixMillis;
use x402_core::error::{ErrorCode, Fault};
use x402_core::settlement::SettlementReport;
use x402_core::settlement::payment;
use x402_core::settlement::payment::SettlementFinding;
use x402_core::settlement::status::SettlementFilter;
use x402_core::tenancy::key::{Caller, KeyHash};
use x402_core::tenancy::payee::PayeeQuery;
use x402_core::verification::decision;

/// The deadline of a call: a ledger's own work takes a few milliseconds, a first call loads the tenant from the
/// directory, and calls to an object that panicked hang for more than eight seconds.
const DEADLINE_MS: u64 = 6_000;
/// The deadline of a flush, which waits for the directory and may ship many records.
const FLUSH_DEADLINE_MS: u64 = 10_000;

/// The header by which a ledger makes the isolate remember a refused caller.
pub(crate) const REMEMBER: &str = "x-ledger-remember";
/// The header that says that no answer was recorded under the request's `Idempotency-Key`.
pub(crate) const UNRECORDED: &str = "x-ledger-unrecorded";
/// The header that says that the answer repeats one under the same `Idempotency-Key`.
pub(crate) const REPLAYED: &str = "Idempotent-Replayed";
/// The header that names the settlement whose success the answer holds.
pub(crate) const HANDED_OVER: &str = "x-ledger-handed-over";

/// A message with the ledger that it is for and its HTTP request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LedgerEnvelope {
    pub(crate) tenant: TenantId,
    pub(crate) environment: Environment,
    pub(crate) request_id: RequestId,
    /// The origin of links in a problem.
    pub(crate) origin: String,
    /// The path for `instance` in a problem.
    pub(crate) path: String,
    pub(crate) ask: LedgerMessage,
}

/// A message to a ledger.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LedgerMessage {
    /// Judge and record a verification.
    Verify(Box<decision::VerificationRequest>),
    /// Judge and record an x402 payment.
    Payment(Box<payment::PaymentRequest>),
    /// Apply a settler's report on a settlement.
    Settled(Box<SettlementReport>),
    /// Give the waiting request the settler's result.
    Deliver(Box<DeliverMessage>),
    /// The caller has disconnected before the answer: its lease or success is open again.
    Reopen(ReopenMessage),
    /// Give the seller a success by hand.
    HandOver { key: KeyHash, id: SettlementId },
    /// Read one settlement.
    Settlement { key: KeyHash, id: SettlementId },
    /// List settlements, a page at a time.
    Settlements { key: KeyHash, filter: SettlementFilter, page: PageQuery },
    /// Read the account; `off` names chains that the registry check has switched off.
    Account { key: KeyHash, view: AccountView, off: Vec<String> },
    /// Say which addresses may stand in requirements; `off` as above.
    Payees { key: KeyHash, wanted: Vec<PayeeQuery>, off: Vec<String> },
    /// Read one verification's record.
    Record { key: KeyHash, id: VerificationId },
    /// Check that a key may list records, and ship them first.
    List { key: KeyHash },
    /// Load the directory's copy, of this version at least.
    Reload { version: u64 },
    /// Ship everything, and enter the current period.
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
    /// What was found out about the payment.
    pub(crate) found: SettlementFinding,
    /// Whether the request asks for our additions in the body of a success.
    #[serde(default)]
    pub(crate) explain: bool,
}

/// Which delivery to open: the settlement's, or where the answer was lost that of the authorization.
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
    /// The answer of `GET /v1/supported-chains`.
    Chains,
    /// The answer of `GET /v1/whoami`.
    Whoami,
}

fn ledger_unavailable(cause: impl core::fmt::Display) -> Fault {
    let detail =
        "the tenant's ledger did not answer; the request may have been booked: repeat it with its Idempotency-Key";
    Fault::new(ErrorCode::LedgerUnavailable, detail).after(1).because(cause)
}

/// The name of a ledger's object.
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
    /// A ledger's stub, called without the request object that `worker` would create.
    type Ledger;

    #[wasm_bindgen(method, catch)]
    fn fetch(this: &Ledger, url: &str, init: &RequestInit) -> Result<js_sys::Promise, JsValue>;
}

/// A ledger's reply. It is complete and can be sent to the client unread: its body does not enter this Worker's memory.
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

    /// The rate headers, for an answer that is made from more than this reply.
    pub(crate) fn rates(&self) -> Vec<(&'static str, String)> {
        let headers = self.0.headers();
        headers::RATE_HEADERS.into_iter().filter_map(|name| Some((name, headers.get(name).ok().flatten()?))).collect()
    }

    /// Removes the header about a refused caller, and makes the isolate remember it.
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

    /// Removes the header about an unrecorded answer, and makes the isolate remember it.
    ///
    /// # Errors
    /// Where the platform refuses to copy the answer.
    pub(crate) fn remember_attempt(self, attempt: Option<AttemptKey>, now: UnixMillis) -> Result<Self, Fault> {
        let Some(attempt) = attempt else { return Ok(self) };
        let is_open = self.0.headers().has(UNRECORDED).unwrap_or(false);
        isolate::note_attempt(attempt, is_open, now);
        if is_open { self.without(UNRECORDED) } else { Ok(self) }
    }

    /// The reply without a header that is for this Worker only. A received reply is immutable, so it is copied.
    fn without(self, header: &str) -> Result<Self, Fault> {
        let init: &web_sys::ResponseInit = self.0.unchecked_ref();
        let copy = web_sys::Response::new_with_opt_readable_stream_and_init(self.0.body().as_ref(), init);
        let copy = copy.map_err(copy_failed)?;
        copy.headers().delete(header).map_err(copy_failed)?;
        Ok(Self(copy))
    }

    /// The reply with status 200, whatever it says.
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

    /// Removes the header that names the settlement whose success this reply holds.
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

/// The URL of a call that is given up at a time. The platform may deliver a call late, after its caller has undone the
/// effect that it may have had.
fn deadline_url(until: UnixMillis) -> String {
    format!("https://ledger/{}", until.0)
}

/// Until when the caller waits, by the URL of the call; `None` in calls of an older build.
pub(crate) fn caller_deadline(url: &str) -> Option<UnixMillis> {
    url.rsplit_once('/').and_then(|(_, until)| until.parse().ok()).map(UnixMillis)
}

/// Sends a message to a ledger.
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

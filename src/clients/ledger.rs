//! Calls to a tenant's ledger: the call, its deadline, and the reply.

use crate::app;
use crate::app::App;
use crate::isolate;
use crate::isolate::AttemptKey;
use crate::platform::fetch::Fetcher;
use crate::request_trace;
use futures_util::future::{Either, select};
use serde::de::DeserializeOwned;
use std::pin::pin;
use std::time::Duration;
use wasm_bindgen::{JsCast, JsValue};
use worker::wasm_bindgen_futures::JsFuture;
use worker::web_sys::{self, RequestInit};
use worker::{Delay, Stub};
use x402_api::server_timing::RequestStep;
use x402_api::{ApiReply, explain, headers};
use x402_chain::id::{SettlementId, TenantId};
use x402_chain::network::Environment;
use x402_chain::time::UnixMillis;
use x402_core::error::{ErrorCode, Fault, json_place};
use x402_core::messages::MessageHead;
use x402_core::messages::ledger::{LedgerEnvelope, LedgerMessage, LedgerReply};
use x402_core::tenancy::key::Caller;

/// The deadline of a call: a ledger's own work takes a few milliseconds, a first call loads the tenant from the
/// directory, and calls to an object that panicked hang for more than eight seconds.
const DEADLINE_MS: u64 = 6_000;
/// The deadline of a flush, which waits for the directory and may ship many records.
const FLUSH_DEADLINE_MS: u64 = 10_000;

/// The header of an answer that repeats one under the same `Idempotency-Key`.
pub(crate) const REPLAYED: &str = "Idempotent-Replayed";

fn ledger_unavailable(cause: impl core::fmt::Display) -> Fault {
    let detail = "the tenant's ledger did not answer; the request may have been recorded: repeat it, with its Idempotency-Key if it has one";
    Fault::new(ErrorCode::LedgerUnavailable, detail).after(1).because(cause)
}

/// The name of a ledger's object.
fn ledger_name(tenant: TenantId, environment: Environment) -> String {
    format!("{tenant}:{}", environment.name())
}

/// The ledger of a tenant and an environment.
///
/// # Errors
/// `MISCONFIGURED` where the binding is missing; `LEDGER_UNAVAILABLE`.
pub(super) fn ledger_stub(
    app: &App,
    tenant: TenantId,
    environment: Environment,
    region: Option<&str>,
) -> Result<Stub, Fault> {
    let ledgers = app.ledgers()?;
    let name = ledger_name(tenant, environment);
    match region {
        Some(region) => ledgers.get_by_name_with_location_hint(&name, region),
        None => ledgers.get_by_name(&name),
    }
    .map_err(ledger_unavailable)
}

/// A ledger's reply: its meaning, and the HTTP response. A complete answer is sent to the client unread: its body does
/// not enter this Worker's memory.
#[derive(Debug)]
pub(crate) struct LedgerResponse {
    reply: LedgerReply,
    http: web_sys::Response,
    /// Whether the reply has the header that says what was found.
    has_outcome: bool,
}

impl LedgerResponse {
    fn read(message: &LedgerMessage, http: web_sys::Response) -> Result<Self, Fault> {
        let headers = http.headers();
        let header = |name: &str| headers.get(name).ok().flatten();
        let reply = LedgerReply::read(message, http.status(), header).map_err(ledger_unavailable)?;
        let outcome = header(LedgerReply::OUTCOME);
        match outcome.as_deref() {
            Some(code) if http.status() >= 400 => request_trace::note_code(code),
            Some(outcome) => request_trace::note_outcome(outcome),
            None => {}
        }
        Ok(Self { reply, http, has_outcome: outcome.is_some() })
    }

    /// The meaning of the reply.
    pub(crate) const fn reply(&self) -> &LedgerReply {
        &self.reply
    }

    /// Whether it is [`LedgerReply::Done`].
    pub(crate) fn is_done(&self) -> bool {
        self.reply == LedgerReply::Done
    }

    /// The HTTP status of a complete answer.
    pub(crate) fn status(&self) -> u16 {
        self.http.status()
    }

    /// The reply as a complete answer for the client.
    ///
    /// # Errors
    /// `INTERNAL` where the reply is for the Worker only.
    pub(crate) fn into_answer(self) -> Result<Self, Fault> {
        match &self.reply {
            LedgerReply::Answer
            | LedgerReply::Problem
            | LedgerReply::Refused(_)
            | LedgerReply::Unrecorded
            | LedgerReply::Success(_) => Ok(self),
            other @ (LedgerReply::Settle
            | LedgerReply::ChainNeeded
            | LedgerReply::Payees
            | LedgerReply::NoRecord
            | LedgerReply::NoTenant
            | LedgerReply::Erasing
            | LedgerReply::Restoring
            | LedgerReply::Copied
            | LedgerReply::Done) => Err(Fault::internal(format!("the ledger replied {other:?} and no answer"))),
        }
    }

    async fn text(&self) -> Result<String, Fault> {
        let reading = self.http.text().map_err(|error| ledger_unavailable(worker::Error::from(error)))?;
        let text = JsFuture::from(reading).await.map_err(|error| ledger_unavailable(worker::Error::from(error)))?;
        text.as_string().ok_or_else(|| ledger_unavailable("a reply's body is no text"))
    }

    /// The body, for a caller that must read it.
    ///
    /// # Errors
    /// `LEDGER_UNAVAILABLE` where it broke off, or a later build wrote what this one does not know.
    pub(crate) async fn json<T: DeserializeOwned>(&self) -> Result<T, Fault> {
        serde_json::from_str(&self.text().await?).map_err(|error| ledger_unavailable(json_place(&error)))
    }

    /// The rate headers, for an answer that is made from more than this reply.
    pub(crate) fn rates(&self) -> Vec<(&'static str, String)> {
        let headers = self.http.headers();
        headers::RATE_HEADERS.into_iter().filter_map(|name| Some((name, headers.get(name).ok().flatten()?))).collect()
    }

    /// Makes the isolate remember a caller that the ledger has refused.
    pub(crate) fn remember(&self, caller: &Caller, now: UnixMillis) {
        if let LedgerReply::Refused(refused) = &self.reply {
            isolate::remember_refused(caller.hash, refused.clone(), now);
        }
    }

    /// Makes the isolate remember whether an answer was recorded under an `Idempotency-Key`.
    pub(crate) fn remember_attempt(&self, attempt: Option<AttemptKey>, now: UnixMillis) {
        if let Some(attempt) = attempt {
            isolate::note_attempt(attempt, self.reply == LedgerReply::Unrecorded, now);
        }
    }

    /// The reply with status 200, whatever it says.
    ///
    /// # Errors
    /// Where the platform refuses to copy the answer.
    pub(crate) fn always_ok(self) -> worker::Result<Self> {
        let init = web_sys::ResponseInit::new();
        init.set_status(200);
        init.set_headers(self.http.headers().as_ref());
        let copy = web_sys::Response::new_with_opt_readable_stream_and_init(self.http.body().as_ref(), &init)?;
        copy.headers().set("Content-Type", "application/json")?;
        copy.headers().delete("WWW-Authenticate")?;
        Ok(Self { http: copy, ..self })
    }

    /// Reads the answer; with it the settlement whose success it holds.
    ///
    /// # Errors
    /// `LEDGER_UNAVAILABLE` where the answer broke off.
    pub(crate) async fn handed_over(self) -> Result<(ApiReply, Option<SettlementId>), Fault> {
        let handed = if let LedgerReply::Success(id) = self.reply { Some(id) } else { None };
        let mut headers = self.rates();
        let own = [REPLAYED].into_iter().chain(explain::HEADERS);
        headers.extend(own.filter_map(|name| Some((name, self.http.headers().get(name).ok().flatten()?))));
        Ok((ApiReply { headers, ..ApiReply::stored(self.status(), self.text().await?) }, handed))
    }

    /// The response for the client, without the headers that are for this Worker only, and with headers that are set, or
    /// removed (`None`). Its body was not read. A received reply is immutable, so it is copied, once.
    ///
    /// # Errors
    /// Where the platform refuses to copy the answer.
    pub(crate) fn into_response(self, mut changes: Vec<(&str, Option<&str>)>) -> Result<web_sys::Response, JsValue> {
        if !matches!(self.reply, LedgerReply::Answer | LedgerReply::Problem) {
            changes.extend(LedgerReply::INTERNAL_HEADERS.map(|name| (name, None)));
        }
        changes.extend(self.has_outcome.then_some((LedgerReply::OUTCOME, None)));
        if changes.is_empty() {
            return Ok(self.http);
        }
        let init: &web_sys::ResponseInit = self.http.unchecked_ref();
        let copy = web_sys::Response::new_with_opt_readable_stream_and_init(self.http.body().as_ref(), init)?;
        let headers = copy.headers();
        for (name, value) in changes {
            match value {
                Some(value) => headers.set(name, value)?,
                None => headers.delete(name)?,
            }
        }
        Ok(copy)
    }
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
    let flushes = matches!(
        envelope.message,
        LedgerMessage::List { .. } | LedgerMessage::Flush | LedgerMessage::Erase | LedgerMessage::Restore(_)
    );
    let limit_ms = if flushes { FLUSH_DEADLINE_MS } else { DEADLINE_MS };
    call_ledger_within(app, envelope, region, limit_ms).await
}

/// The same with a deadline of its own, in milliseconds.
///
/// # Errors
/// `LEDGER_UNAVAILABLE`.
pub(crate) async fn call_ledger_within(
    app: &App,
    envelope: &LedgerEnvelope,
    region: Option<&str>,
    limit_ms: u64,
) -> Result<LedgerResponse, Fault> {
    let _asking = request_trace::step(RequestStep::Ledger);
    let stub = ledger_stub(app, envelope.tenant, envelope.environment, region)?;
    let body = serde_json::to_string(envelope).map_err(Fault::internal)?;
    let init = RequestInit::new();
    init.set_method("POST");
    init.set_body(&JsValue::from_str(&body));
    let ledger: Fetcher = stub.into_rpc();
    // The platform may deliver a call late, after its caller has undone the effect that it may have had.
    let url = MessageHead::own(Some(app::now().plus(limit_ms))).address("ledger");
    let asked = ledger.fetch_with_init(&url, &init).map_err(|error| ledger_unavailable(worker::Error::from(error)))?;
    let deadline = Delay::from(Duration::from_millis(limit_ms));
    match select(JsFuture::from(asked), pin!(deadline)).await {
        Either::Left((Ok(response), _)) => LedgerResponse::read(&envelope.message, response.unchecked_into()),
        Either::Left((Err(error), _)) => Err(ledger_unavailable(worker::Error::from(error))),
        Either::Right(_) => Err(ledger_unavailable(format!("no answer in {limit_ms} ms"))),
    }
}

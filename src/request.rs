//! One request as handlers and objects see it, and the answer to a fault.

use crate::telemetry::{TelemetryField, TelemetryKind, event};
use worker::web_sys;
use x402_api::ApiReply;
use x402_api::endpoint::RouteRow;
use x402_api::problem::{self, ProblemContext};
use x402_chain::id::RequestId;
use x402_chain::time::UnixMillis;
use x402_core::error::Fault;
use x402_core::tenancy::admission::invalid_key;
use x402_core::tenancy::key::Caller;

/// One request, as far as it is read.
pub(crate) struct IncomingRequest {
    /// The row of the route table.
    pub(crate) row: &'static RouteRow,
    /// The path's parameters.
    pub(crate) params: Vec<String>,
    /// The query string.
    pub(crate) query: String,
    /// The body, within the route's limit: UTF-8.
    pub(crate) body: Vec<u8>,
    /// Whom the key names; `None` on public and operators' routes.
    pub(crate) caller: Option<Caller>,
    /// The `Idempotency-Key`.
    pub(crate) idempotency_key: Option<String>,
    /// Whether the request asks for our additions in the body of a settle's success.
    pub(crate) explain: bool,
    /// The path as asked for, without a key.
    pub(crate) path: String,
    /// This request.
    pub(crate) request_id: RequestId,
    /// When it came.
    pub(crate) now: UnixMillis,
    /// Tells whether the caller has gone.
    pub(crate) signal: web_sys::AbortSignal,
}

impl IncomingRequest {
    /// A parameter of the path; the row's path fixes how many there are.
    pub(crate) fn param(&self, index: usize) -> &str {
        self.params.get(index).map_or("", String::as_str)
    }

    /// Whom the key names.
    ///
    /// # Errors
    /// `INVALID_API_KEY` on a route that takes none.
    pub(crate) fn caller(&self) -> Result<Caller, Fault> {
        self.caller.ok_or_else(invalid_key)
    }
}

/// The answer to a fault; its cause goes to the log, once.
pub(crate) fn fault_reply(fault: &Fault, asked: ProblemContext<'_>) -> ApiReply {
    if fault.cause().is_some() {
        let kind = if fault.code.status() >= 500 { TelemetryKind::Faulted } else { TelemetryKind::Refused };
        let fields = [
            TelemetryField::RequestId(asked.request_id),
            TelemetryField::Code(fault.code),
            TelemetryField::Cause(fault),
        ];
        event(kind, &fields);
    }
    problem::problem_reply(fault, asked)
}

//! One request after parsing, and the answer to a fault.

use crate::app;
use crate::app::App;
use crate::d1::people::audit::Audit;
use crate::d1::people::rows::SessionRow;
use crate::telemetry::{TelemetryField, TelemetryKind, event};
use worker::web_sys;
use x402_api::ApiReply;
use x402_api::cookies::Cookies;
use x402_api::endpoint::RouteRow;
use x402_api::problem::{self, ProblemContext};
use x402_api::webhooks::SignatureHeaders;
use x402_chain::id::{AuditId, RequestId, TenantId};
use x402_chain::network::Environment;
use x402_chain::time::UnixMillis;
use x402_core::error::Fault;
use x402_core::messages::ledger::{LedgerEnvelope, LedgerMessage};
use x402_core::people::audit::AuditAction;
use x402_core::tenancy::admission::invalid_key;
use x402_core::tenancy::key::Caller;

/// One request after its head and body were checked.
pub(crate) struct IncomingRequest {
    /// The row of the route table.
    pub(crate) row: &'static RouteRow,
    /// The parameters of the path, in order.
    pub(crate) params: Vec<String>,
    /// The query string, without `?`.
    pub(crate) query: String,
    /// The body, within the route's limit: UTF-8.
    pub(crate) body: Vec<u8>,
    /// The tenant and key; `None` on public and operators' routes.
    pub(crate) caller: Option<Caller>,
    /// The browser and its session; `None` on routes that take no cookie.
    pub(crate) visitor: Option<Visitor>,
    /// The header `Idempotency-Key`, unchecked.
    pub(crate) idempotency_key: Option<String>,
    /// Whether the request asks for our additions in the body of a settle's success.
    pub(crate) explain: bool,
    /// The path as it was requested, without a key.
    pub(crate) path: String,
    /// The id of this request, as in `X-Request-Id`.
    pub(crate) request_id: RequestId,
    /// When the Worker received the request.
    pub(crate) now: UnixMillis,
    /// The headers about a webhook's signature; empty on other routes.
    pub(crate) signature: SignatureHeaders,
    /// Aborts when the client disconnects.
    pub(crate) signal: web_sys::AbortSignal,
}

/// Who makes a request to a route that takes cookies.
pub(crate) struct Visitor {
    /// The cookies of ours; none where the request carries a key.
    pub(crate) cookies: Cookies,
    /// The prefix of the client's address.
    pub(crate) ip_prefix: String,
    /// The header `User-Agent`, shortened.
    pub(crate) user_agent: Option<String>,
    /// The session, where the route needs one.
    pub(crate) session: Option<SessionRow>,
}

impl IncomingRequest {
    /// A parameter of the path; the row's path fixes how many there are.
    pub(crate) fn param(&self, index: usize) -> &str {
        self.params.get(index).map_or("", String::as_str)
    }

    /// The tenant and key of the request.
    ///
    /// # Errors
    /// `INVALID_API_KEY` on a route that takes none.
    pub(crate) fn caller(&self) -> Result<Caller, Fault> {
        self.caller.ok_or_else(invalid_key)
    }

    /// The browser of the request.
    ///
    /// # Errors
    /// `INTERNAL` on a route that takes no cookie.
    pub(crate) fn visitor(&self) -> Result<&Visitor, Fault> {
        self.visitor.as_ref().ok_or_else(|| Fault::internal("the route takes no cookie"))
    }

    /// The session of the request.
    ///
    /// # Errors
    /// `INTERNAL` on a route that needs none.
    pub(crate) fn session(&self) -> Result<&SessionRow, Fault> {
        self.visitor()?.session.as_ref().ok_or_else(|| Fault::internal("the route needs no session"))
    }

    /// An entry of the audit log about a change by the person of the session.
    ///
    /// # Errors
    /// `INTERNAL` on a route that needs no session, or without randomness.
    pub(crate) fn audit<'a>(
        &'a self,
        action: AuditAction,
        subject: &'a str,
        detail: Option<&'a str>,
    ) -> Result<Audit<'a>, Fault> {
        let session = self.session()?;
        self.audit_of((session.tenant, &session.email), action, subject, detail)
    }

    /// An entry about a change by another person: a tenant, and the person's address.
    ///
    /// # Errors
    /// `INTERNAL` on a route that takes no cookie, or without randomness.
    pub(crate) fn audit_of<'a>(
        &'a self,
        (tenant, actor): (TenantId, &'a str),
        action: AuditAction,
        subject: &'a str,
        detail: Option<&'a str>,
    ) -> Result<Audit<'a>, Fault> {
        let (id, visitor) = (AuditId::new(self.now, app::random()?), self.visitor()?);
        let (ip_prefix, user_agent) = (visitor.ip_prefix.as_str(), visitor.user_agent.as_deref());
        Ok(Audit { id, tenant, actor, action, subject, detail, ip_prefix, user_agent })
    }

    /// A message to the ledger of this request's tenant, or of one that an operator names. It carries the access of the
    /// route, by which the ledger checks the key.
    pub(crate) fn envelope(
        &self,
        app: &App,
        (tenant, environment): (TenantId, Environment),
        message: LedgerMessage,
    ) -> LedgerEnvelope {
        LedgerEnvelope {
            tenant,
            environment,
            request_id: self.request_id,
            origin: app.origin.clone(),
            path: self.path.clone(),
            access: Some(self.row.access),
            message,
        }
    }
}

/// The answer to a fault; its cause is logged once.
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

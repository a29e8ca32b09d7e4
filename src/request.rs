//! One request after parsing, and the answer to a fault.

use crate::app;
use crate::app::App;
use crate::d1::change::{Actor, Change};
use crate::d1::people::rows::SessionRow;
use crate::request_trace;
use crate::telemetry::{TelemetryField, TelemetryKind, counts, event};
use serde::Deserialize;
use std::cell::Cell;
use std::net::IpAddr;
use worker::web_sys;
use x402_api::ApiReply;
use x402_api::cookies::Cookies;
use x402_api::endpoint::RouteRow;
use x402_api::problem::{self, ProblemContext};
use x402_api::webhooks::SignatureHeaders;
use x402_chain::id::{AuditId, KeyId, RequestId, TenantId};
use x402_chain::network::Environment;
use x402_chain::time::UnixMillis;
use x402_core::audit::AuditAction;
use x402_core::error::Fault;
use x402_core::messages::ledger::{LedgerEnvelope, LedgerMessage};
use x402_core::metrics::MetricFamily;
use x402_core::people::client::ip_prefix;
use x402_core::tenancy::admission::invalid_key;
use x402_core::tenancy::key::Caller;
use x402_core::tenancy::tenant::Scope;

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
    /// Whether only the head of the answer is wanted (`HEAD`).
    pub(crate) is_head: bool,
    /// The path as it was requested, without a key.
    pub(crate) path: String,
    /// The id of this request, as in `X-Request-Id`.
    pub(crate) request_id: RequestId,
    /// When the Worker received the request.
    pub(crate) now: UnixMillis,
    /// The headers about a webhook's signature; empty on other routes.
    pub(crate) signature: SignatureHeaders,
    /// The header `Last-Event-ID`, unchecked.
    pub(crate) last_event_id: Option<String>,
    /// Aborts when the client disconnects.
    pub(crate) signal: web_sys::AbortSignal,
    /// The key that manages its tenant, once its ledger has accepted it; `None` on other routes, and beside a session.
    pub(crate) managing_key: Option<ManagingKey>,
    /// The client, as far as the platform and its headers name it.
    pub(crate) client: Client,
    /// The entry of the audit log that was made last for this request.
    pub(crate) last_entry: Cell<Option<AuditId>>,
}

/// A key with the scope `manage`, as its ledger describes it.
#[derive(Deserialize)]
pub(crate) struct ManagingKey {
    pub(crate) id: KeyId,
    pub(crate) scopes: Vec<Scope>,
}

/// The client of a request.
pub(crate) struct Client {
    /// Its address, as the platform reports it in `CF-Connecting-IP`; `None` on a developer's machine.
    pub(crate) address: Option<String>,
    /// The header `User-Agent`, shortened; read where a person or an operator may make the request.
    pub(crate) user_agent: Option<String>,
}

impl Client {
    /// Its address; `None` where the platform reports none.
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        self.address.as_deref()?.trim().parse().ok()
    }

    /// The network that the client's address belongs to, or `unknown`.
    pub(crate) fn ip_prefix(&self) -> String {
        ip_prefix(self.address.as_deref())
    }
}

/// Who makes a request to a route that takes cookies.
pub(crate) struct Visitor {
    /// The cookies of ours; none where the request carries a key.
    pub(crate) cookies: Cookies,
    /// The session, where the route needs one.
    pub(crate) session: Option<SessionRow>,
    /// Whether a person follows a link, as far as the browser says (`Sec-Fetch-Mode`).
    pub(crate) is_navigation: bool,
    /// Whether it is a link of a page of ours, or an address that was typed, as far as the browser says (`Sec-Fetch-Site`).
    pub(crate) is_own_page: bool,
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

    /// The tenant of the session, or of the key that manages it.
    ///
    /// # Errors
    /// `INTERNAL` on a route that needs neither.
    pub(crate) fn tenant(&self) -> Result<TenantId, Fault> {
        match (&self.managing_key, self.caller) {
            (Some(_), Some(caller)) => Ok(caller.tenant),
            (Some(_) | None, _) => Ok(self.session()?.tenant),
        }
    }

    /// The environment that the caller sees: that of the key; `None` for a session, which sees both.
    pub(crate) fn environment(&self) -> Option<Environment> {
        self.caller.map(|caller| caller.environment)
    }

    /// The person of the session, or the key that manages the tenant.
    ///
    /// # Errors
    /// `INTERNAL` on a route that needs neither.
    pub(crate) fn actor(&self) -> Result<Actor, Fault> {
        Ok(match &self.managing_key {
            Some(key) => Actor::Key(key.id),
            None => Actor::Person(self.session()?.person),
        })
    }

    /// A change by the person of the session or by the key that manages the tenant, as the audit log records it.
    ///
    /// # Errors
    /// `INTERNAL` on a route that needs neither, or without randomness.
    pub(crate) fn change(&self, action: AuditAction, subject: impl Into<String>) -> Result<Change, Fault> {
        self.change_by(self.actor()?, self.tenant()?, action, subject)
    }

    /// A change of a tenant by somebody else. Entries of one request are in the order in which they are made.
    ///
    /// # Errors
    /// `INTERNAL` without randomness.
    pub(crate) fn change_by(
        &self,
        actor: Actor,
        tenant: TenantId,
        action: AuditAction,
        subject: impl Into<String>,
    ) -> Result<Change, Fault> {
        let id = match self.last_entry.get() {
            Some(last) => last.next(),
            None => AuditId::new(self.now, app::random()?),
        };
        self.last_entry.set(Some(id));
        Ok(Change {
            id,
            tenant,
            environment: None,
            actor,
            action,
            subject: subject.into(),
            detail: None,
            ip_prefix: self.client.ip_prefix(),
            user_agent: self.client.user_agent.clone(),
            at: self.now,
        })
    }

    /// A message to the ledger of this request's tenant, or of one that an operator names. It carries the access of the
    /// route ([`x402_core::tenancy::access::Access::sent`]), by which the ledger checks the key.
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
            access: Some(self.row.access.sent(self.caller.is_some())),
            from: self.caller.and_then(|_| self.client.ip()),
            counted: false,
            logs_outcome: true,
            message,
        }
    }
}

/// The answer to a fault; its cause is logged once.
pub(crate) fn fault_reply(fault: &Fault, asked: ProblemContext<'_>) -> ApiReply {
    counts::count(MetricFamily::Errors, &[fault.code.as_str()]);
    request_trace::note_code(fault.code.as_str());
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

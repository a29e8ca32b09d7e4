//! The HTTP contract: routes, request bodies, answers and headers.
//!
//! Laws of this crate:
//! 1. No I/O, clock or randomness: a request's parts come in as text and bytes, an [`ApiReply`] goes out.
//! 2. The route table ([`endpoint::ENDPOINTS`]) names every route once, with the credential that it requires.
//! 3. A body of a route of our own is one struct: unknown members are refused, and an error names the member.
//! 4. The OpenAPI document is generated from the table and the structs.
//! 5. It decides nothing about tenants or payments; it compiles natively and does not see the platform.

pub mod accepts;
pub mod admin;
pub mod analytics;
pub mod answer;
pub mod audit;
pub mod billing;
pub mod body;
pub mod chains;
pub mod cookies;
pub mod credentials;
mod csv;
pub mod deletion;
pub mod deliveries;
pub mod dns;
pub mod docs;
pub mod endpoint;
pub mod event_stream;
pub mod events;
pub mod explain;
pub mod export;
pub mod facilitator;
pub mod github;
pub mod headers;
pub mod health;
pub mod identities;
pub mod keys;
pub mod members;
pub mod oidc;
#[cfg(not(target_arch = "wasm32"))]
pub mod openapi;
pub mod operators;
pub mod place;
pub mod pricing;
pub mod problem;
pub mod rebuild;
pub mod recipients;
pub mod records;
pub mod refusal;
pub mod server_timing;
pub mod session;
pub mod settlements;
pub mod status;
pub mod target;
pub mod tenant;
pub mod verify;
pub mod version;
pub mod webhook_endpoints;
pub mod webhooks;
pub mod whoami;

use serde::Serialize;
use x402_core::metrics::text::METRICS_TYPE;

/// The answer of a route, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiReply {
    /// The HTTP status code.
    pub status: u16,
    /// The `Content-Type`; empty where there is no body.
    pub content_type: &'static str,
    /// The body as it is sent.
    pub body: String,
    /// Headers beside those of every answer.
    pub headers: Vec<(&'static str, String)>,
}

impl ApiReply {
    /// An answer with a JSON body.
    #[must_use]
    pub fn json(status: u16, body: &impl Serialize) -> Self {
        // Only a map with keys that are not text cannot be written, and our types hold none.
        let body = serde_json::to_string(body).unwrap_or_default();
        Self { status, content_type: "application/json", body, headers: Vec::new() }
    }

    /// An answer whose JSON body was written before: a problem where the status is 400 or more.
    #[must_use]
    pub const fn stored(status: u16, body: String) -> Self {
        let content_type = if status < 400 { "application/json" } else { "application/problem+json" };
        Self { status, content_type, body, headers: Vec::new() }
    }

    /// An answer without a body.
    #[must_use]
    pub const fn empty(status: u16) -> Self {
        Self { status, content_type: "", body: String::new(), headers: Vec::new() }
    }

    /// An HTML page with status 200.
    #[must_use]
    pub const fn html(body: String) -> Self {
        Self { status: 200, content_type: "text/html; charset=utf-8", body, headers: Vec::new() }
    }

    /// The metrics as Prometheus reads them.
    #[must_use]
    pub const fn metrics(body: String) -> Self {
        Self { status: 200, content_type: METRICS_TYPE, body, headers: Vec::new() }
    }

    /// A file of CSV with a line that names the columns.
    #[must_use]
    pub const fn csv(body: String) -> Self {
        Self { status: 200, content_type: "text/csv; charset=utf-8; header=present", body, headers: Vec::new() }
    }

    /// The answer with one more header.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

//! The HTTP contract, pure: routes, request bodies, answers, headers.

pub mod accepts;
pub mod admin;
pub mod answer;
pub mod body;
pub mod chains;
pub mod credentials;
pub mod docs;
pub mod endpoint;
pub mod explain;
pub mod facilitator;
pub mod headers;
pub mod health;
#[cfg(not(target_arch = "wasm32"))]
pub mod openapi;
pub mod place;
pub mod problem;
pub mod records;
pub mod refusal;
pub mod settlements;
pub mod target;
pub mod verify;
pub mod version;
pub mod whoami;

use serde::Serialize;

/// An answer that a route makes and the Worker sends.
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

    /// An HTML page with status 200.
    #[must_use]
    pub const fn html(body: String) -> Self {
        Self { status: 200, content_type: "text/html; charset=utf-8", body, headers: Vec::new() }
    }

    /// The answer with one more header.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

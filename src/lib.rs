//! x402-edge: payment verification for the HTTP 402 economy, at the edge.
//!
//! The Worker: all input and output. What can be decided without the platform is in the crates `x402-chain`,
//! `x402-core` and `x402-api`; they compile natively and do not see `worker`.
//!
//! | module | what it does |
//! |---|---|
//! | `entry` | the platform's events: an HTTP request, a timed job |
//! | `handlers` | one function a route |
//! | `objects` | the Durable Objects: ledger, settler, records, courier and meter, each with its store |
//! | `clients` | the calls to the objects, each with its deadline |
//! | `d1` | the directory |
//! | `archive` | records in R2 |
//! | `mail` | how a mail leaves |
//! | `billing`, `stripe` | plans that are paid for; Stripe's API |
//! | `alerts` | what owners of tenants and operators are sent beside events |
//! | `erasure` | what becomes of a tenant whose deletion is due, and of what a removed webhook endpoint has left |
//! | `github`, `oidc`, `turnstile` | other services that take part in a sign-in |
//! | `metering` | sends what isolates have counted to the Meters |
//! | `reporting` | sends errors to Sentry |
//! | `dns`, `webcrypto` | records by a resolver over HTTPS; the platform's cryptography |
//! | `webhook_target` | whether messages may be sent to an address that a tenant gave |
//! | `outbound` | one HTTP request to the outside, bounded in time and size |
//! | `rpc` | JSON-RPC over fetch, and what the Worker asks of chains |
//! | `platform` | what works around workerd or wasm-bindgen, each with its reason, its test and a link |
//! | `telemetry` | every event that is logged, in one table; compiled natively too |
//! | `request_trace` | the trace of a request, its steps, and the providers that it has asked |
//! | `app`, `request`, `response`, `isolate` | bindings and settings; one request; its response; what an isolate remembers |
//! | `storage` | how rows of SQLite are read |
//!
//! The statements, rows and migrations of `objects` and `d1` compile natively too, where tests run them.

pub mod storage;
pub mod telemetry;

/// Natively, of the objects: their statements, rows and migrations, which tests run against SQLite.
#[cfg(not(target_arch = "wasm32"))]
pub mod objects {
    pub mod state;

    /// The Courier's.
    pub mod courier {
        pub mod migrations;
        pub mod rows;
        pub mod sql;
    }

    /// The ledger's.
    pub mod ledger {
        pub mod migrations;
        pub mod rows;
        pub mod sql;
    }

    /// The Meter's.
    pub mod meter {
        pub mod migrations;
        pub mod rows;
        pub mod sql;
    }

    /// The months' records.
    pub mod records {
        pub mod migrations;
        pub mod rows;
        pub mod sql;
    }

    /// The Settler's.
    pub mod settler {
        pub mod migrations;
        pub mod rows;
        pub mod sql;
    }
}

/// Natively, of the directory: its statements and rows.
#[cfg(not(target_arch = "wasm32"))]
pub mod d1 {
    pub mod rows;
    pub mod sql;

    /// Those of alerts.
    pub mod alerts {
        pub mod rows;
        pub mod sql;
    }

    /// Those of billing.
    pub mod billing {
        pub mod rows;
        pub mod sql;
    }

    /// Those of deletions.
    pub mod deletions {
        pub mod rows;
        pub mod sql;
    }

    /// Those of webhook endpoints.
    pub mod endpoints {
        pub mod rows;
        pub mod sql;
    }

    /// Those of identity providers of tenants.
    pub mod oidc {
        pub mod rows;
        pub mod sql;
    }

    /// Those of what operators watch.
    pub mod operation {
        pub mod rows;
        pub mod sql;
    }

    /// Those of people, sessions and mails.
    pub mod people {
        pub mod rows;
        pub mod sql;
    }
}

#[cfg(target_arch = "wasm32")]
mod alerts;
#[cfg(target_arch = "wasm32")]
mod app;
#[cfg(target_arch = "wasm32")]
mod archive;
#[cfg(target_arch = "wasm32")]
mod billing;
#[cfg(target_arch = "wasm32")]
mod clients;
#[cfg(target_arch = "wasm32")]
mod d1;
#[cfg(target_arch = "wasm32")]
mod directory_events;
#[cfg(target_arch = "wasm32")]
mod dns;
#[cfg(target_arch = "wasm32")]
mod entry;
#[cfg(target_arch = "wasm32")]
mod erasure;
#[cfg(target_arch = "wasm32")]
mod github;
#[cfg(target_arch = "wasm32")]
mod handlers;
#[cfg(target_arch = "wasm32")]
mod isolate;
#[cfg(target_arch = "wasm32")]
mod mail;
#[cfg(target_arch = "wasm32")]
mod metering;
#[cfg(target_arch = "wasm32")]
mod objects;
#[cfg(target_arch = "wasm32")]
mod oidc;
#[cfg(target_arch = "wasm32")]
mod outbound;
#[cfg(target_arch = "wasm32")]
mod platform;
#[cfg(target_arch = "wasm32")]
mod reporting;
#[cfg(target_arch = "wasm32")]
mod request;
#[cfg(target_arch = "wasm32")]
mod request_trace;
#[cfg(target_arch = "wasm32")]
mod response;
#[cfg(target_arch = "wasm32")]
mod rpc;
#[cfg(target_arch = "wasm32")]
mod sessions;
#[cfg(target_arch = "wasm32")]
mod stripe;
#[cfg(target_arch = "wasm32")]
mod turnstile;
#[cfg(target_arch = "wasm32")]
mod webcrypto;
#[cfg(target_arch = "wasm32")]
mod webhook_target;

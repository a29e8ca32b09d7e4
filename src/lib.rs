//! x402-edge: payment verification for the HTTP 402 economy, at the edge.
//!
//! The Worker: all input and output. What can be decided without the platform is in the crates `x402-chain`,
//! `x402-core` and `x402-api`; they compile natively and do not see `worker`.
//!
//! | module | what it does |
//! |---|---|
//! | `entry` | the platform's events: an HTTP request, a timed job |
//! | `handlers` | one function a route |
//! | `objects` | the Durable Objects: ledger and settler, each with its store |
//! | `clients` | the calls to the objects, each with its deadline |
//! | `d1` | the directory |
//! | `rpc` | JSON-RPC over fetch, and what the Worker asks of chains |
//! | `platform` | what works around workerd or wasm-bindgen, each with its reason |
//! | `telemetry` | every event that is logged, in one table; compiled natively too |
//! | `app`, `request`, `isolate` | bindings and settings; one request as it was read; what an isolate remembers |
//! | `sql` | every statement; compiled natively too, where a test prepares each |

pub mod sql;
pub mod telemetry;

#[cfg(target_arch = "wasm32")]
mod app;
#[cfg(target_arch = "wasm32")]
mod clients;
#[cfg(target_arch = "wasm32")]
mod d1;
#[cfg(target_arch = "wasm32")]
mod entry;
#[cfg(target_arch = "wasm32")]
mod handlers;
#[cfg(target_arch = "wasm32")]
mod isolate;
#[cfg(target_arch = "wasm32")]
mod objects;
#[cfg(target_arch = "wasm32")]
mod platform;
#[cfg(target_arch = "wasm32")]
mod request;
#[cfg(target_arch = "wasm32")]
mod rpc;

//! Wakes one request from another.
//!
//! Reason: a Rust waker that another request calls puts the future into wasm-bindgen's one queue of tasks, and the future
//! is polled inside that other request. What it then starts (a fetch, a timer) belongs to the other request, fails or
//! ends with it, and workerd takes the woken one for hung. A promise, resolved by whomever, is settled in the request
//! that made it (`handle_cross_request_promise_resolution`, the default since 2024-10-14), and there the future is polled.
//! Test: tests/workerd/shared.test.mjs
//! Upstream: <https://github.com/cloudflare/workerd/pull/2719>

use wasm_bindgen::{JsCast, JsValue};
use worker::js_sys::{Function, Promise};
use worker::wasm_bindgen_futures::JsFuture;

/// Wakes the request that made it, whoever rings. Nothing is rung that has ended.
#[derive(Clone)]
pub(crate) struct Bell(Option<Function>);

impl Bell {
    /// Rings; it may be rung again, to no effect. The request wakes in a turn of its own.
    pub(crate) fn ring(&self) {
        // The platform's resolver does not throw.
        let _ = self.0.as_ref().map(|resolve| resolve.call0(&JsValue::UNDEFINED));
    }
}

/// A bell of this request, and what waits for it.
///
/// It may go unheard: the other request may end before it rings, and workerd may lose the ring. Whoever waits has a timer
/// of its own beside it.
pub(crate) fn bell() -> (Bell, JsFuture) {
    let mut resolver = None;
    let promise = Promise::new(&mut |resolve, _| resolver = Some(resolve.unchecked_into()));
    (Bell(resolver), JsFuture::from(promise))
}

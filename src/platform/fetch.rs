//! The platform's `fetch`, of the global scope and of an object's stub, with an address and an init.
//!
//! Reason: `worker` takes a `Request` only. To make one costs several calls into JavaScript, and each request to a
//! provider or an object would pay them.
//! Test: tests/workerd/providers.test.mjs
//! Upstream: <https://github.com/cloudflare/workers-rs/blob/main/worker/src/durable.rs>

use wasm_bindgen::prelude::*;
use worker::js_sys::Promise;
use worker::web_sys::RequestInit;

#[wasm_bindgen]
extern "C" {
    /// An object's stub, or another binding that fetches.
    pub(crate) type Fetcher;

    /// Calls the object; the promise is of a `Response`.
    #[wasm_bindgen(method, catch, js_name = fetch)]
    pub(crate) fn fetch_with_init(this: &Fetcher, url: &str, init: &RequestInit) -> Result<Promise, JsValue>;

    /// Sends a request to the outside; the promise is of a `Response`.
    #[wasm_bindgen(js_name = fetch)]
    pub(crate) fn fetch_with_init_global(url: &str, init: &RequestInit) -> Promise;
}

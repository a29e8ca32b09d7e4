//! What a panic leaves to the instance after it: the shim (`scripts/lib/worker-shim.js`) keeps a text outside of the memory of the
//! WebAssembly, starts a new instance at once, and gives it the text.
//!
//! Reason: a panic ends the instance, and `worker` then only says that it was `unreachable`.
//! Test: tests/peers/sentry.test.mjs
//! Upstream: <https://github.com/cloudflare/workers-rs/issues/166>

use futures_util::future::LocalBoxFuture;
use std::cell::Cell;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;
use worker::Env;
use worker::js_sys::Promise;
use worker::wasm_bindgen_futures::future_to_promise;

/// How what a panic has left is reported.
type Reporter = fn(Env, String) -> LocalBoxFuture<'static, ()>;

thread_local! {
    static REPORTER: Cell<Option<Reporter>> = const { Cell::new(None) };
}

/// Has the next panic reported so.
pub(crate) fn report_by(reporter: Reporter) {
    REPORTER.set(Some(reporter));
}

/// The shim calls this after a panic, in the instance that has come after it.
#[expect(unreachable_pub, reason = "wasm-bindgen exports public functions only")]
#[wasm_bindgen]
pub fn report_panic(env: Env, text: String) -> Promise {
    future_to_promise(async move {
        if let Some(reporter) = REPORTER.get() {
            reporter(env, text).await;
        }
        Ok(JsValue::UNDEFINED)
    })
}

/// The two functions of JavaScript.
pub(crate) mod hand_over {
    use wasm_bindgen::JsValue;
    use wasm_bindgen::prelude::*;
    use worker::js_sys::{Error, Reflect};

    #[wasm_bindgen]
    extern "C" {
        /// The shim takes the text.
        #[wasm_bindgen(js_name = __x402_panicked)]
        pub(crate) fn panicked(text: &str);
    }

    /// The stack as V8 writes it.
    pub(crate) fn stack() -> String {
        let stack = Reflect::get(&Error::new(""), &JsValue::from_str("stack"));
        stack.ok().and_then(|stack| stack.as_string()).unwrap_or_default()
    }
}

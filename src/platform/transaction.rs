//! The synchronous transaction of an object's SQLite.
//!
//! Reason: `worker` binds the asynchronous transaction only. Without a transaction the writes before a statement that
//! fails stay (docs/spec/platform.md#w-transaction).
//! Test: tests/workerd/platform.test.mjs
//! Upstream: <https://github.com/cloudflare/workers-rs/issues/645>

use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    /// An object's storage, with the method that `worker` does not bind.
    pub(crate) type SyncStorage;

    /// Commits what the closure wrote, or nothing if it throws.
    #[wasm_bindgen(method, catch, js_name = transactionSync)]
    pub(crate) fn transaction_sync(
        this: &SyncStorage,
        step: &mut dyn FnMut() -> Result<(), JsValue>,
    ) -> Result<JsValue, JsValue>;
}

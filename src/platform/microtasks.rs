//! How a woken future is polled again.
//!
//! Reason: futures are polled from microtasks, and wasm-bindgen queues them by the platform's `queueMicrotask`. That
//! leaves V8 each time, which takes some 3 µs, seven times a verification. `then` of a settled promise does the same and
//! stays inside.
//! Test: tests/workerd/platform.test.mjs
//! Upstream: <https://github.com/wasm-bindgen/wasm-bindgen/pull/3611>

use wasm_bindgen::{JsCast, JsValue};
use worker::js_sys::{Function, Promise, Reflect, global};

/// Replaces `queueMicrotask`. Called outside of any request, since the promise would otherwise belong to that request.
pub(crate) fn use_v8_microtasks() {
    let settled = Promise::resolve(&JsValue::UNDEFINED);
    let then = Reflect::get(&settled, &JsValue::from_str("then")).and_then(JsCast::dyn_into::<Function>);
    if let Ok(then) = then {
        // If it cannot be set, the platform's own function serves as well.
        let _ = Reflect::set(&global(), &JsValue::from_str("queueMicrotask"), &then.bind0(&settled));
    }
}

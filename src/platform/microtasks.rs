//! How a woken future is polled again.

use wasm_bindgen::{JsCast, JsValue};
use worker::js_sys::{Function, Promise, Reflect, global};

/// Futures are polled from microtasks. The platform's `queueMicrotask` leaves V8 each time, which takes some 3 µs,
/// seven times a verification; `then` of a settled promise does the same and stays inside. The promise is created here,
/// outside of any request, since it would otherwise belong to that request.
pub(crate) fn use_v8_microtasks() {
    let settled = Promise::resolve(&JsValue::UNDEFINED);
    let then = Reflect::get(&settled, &JsValue::from_str("then")).and_then(JsCast::dyn_into::<Function>);
    if let Ok(then) = then {
        // If it cannot be set, the platform's own function serves as well.
        let _ = Reflect::set(&global(), &JsValue::from_str("queueMicrotask"), &then.bind0(&settled));
    }
}

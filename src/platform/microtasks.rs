//! How a future that can go on is polled again.

use wasm_bindgen::{JsCast, JsValue};
use worker::js_sys::{Function, Promise, Reflect, global};

/// Futures are polled from microtasks. The platform's `queueMicrotask` leaves
/// V8 for each, which takes some 3 µs, seven times a verification; `then` of a
/// promise that is settled does the same and stays inside. The promise is made
/// here, outside of any request, because it would belong to that request.
pub(crate) fn use_v8_microtasks() {
    let settled = Promise::resolve(&JsValue::UNDEFINED);
    let then = Reflect::get(&settled, &JsValue::from_str("then")).and_then(JsCast::dyn_into::<Function>);
    if let Ok(then) = then {
        // Where it cannot be set, the platform's own serves as well.
        let _ = Reflect::set(&global(), &JsValue::from_str("queueMicrotask"), &then.bind0(&settled));
    }
}

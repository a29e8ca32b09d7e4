//! Workarounds for workerd or wasm-bindgen, each with its reason.

pub(crate) mod microtasks;
pub(crate) mod response;

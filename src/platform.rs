//! What works around workerd or wasm-bindgen, each with its reason.

pub(crate) mod response;
pub(crate) mod tick;

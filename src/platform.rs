//! What works around workerd, `worker` or wasm-bindgen. Each file says its reason, the test that would notice its absence,
//! and the place upstream where the reason may end: `tests/native/structure.rs`.

pub(crate) mod fetch;
pub(crate) mod headers;
pub(crate) mod microtasks;
pub(crate) mod panics;
pub(crate) mod transaction;

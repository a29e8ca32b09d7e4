//! `GET /facilitator/version`: the build that answers.

use serde::Serialize;

/// The answer to `GET /facilitator/version`.
#[derive(Clone, Copy, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct BuildVersion {
    /// The service's name: always `x402-edge`.
    pub name: &'static str,
    /// The package's version, the same as in `GET /v1/health`.
    pub version: &'static str,
    /// The versions of the x402 protocol that are spoken.
    pub x402_versions: [u8; 2],
}

impl BuildVersion {
    /// The version that this code was built as.
    pub const THIS_BUILD: Self = Self { name: "x402-edge", version: env!("CARGO_PKG_VERSION"), x402_versions: [1, 2] };
}

//! `GET /v1/status`: how each chain has fared of late, for everybody.

use serde::Serialize;
use std::collections::BTreeMap;
use x402_chain::network::{NETWORKS, Network};
use x402_core::alert::operator::OperatorAlert;
use x402_core::metrics::series::MetricCounts;
use x402_core::metrics::status::{ChainSpan, ProviderSpan, chain_spans};

/// What a provider has done in a span of time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct ProviderStatus {
    /// The host of a provider of the registry; of the operator's own only `own-1`, `own-2` and so on.
    pub provider: String,
    /// Requests to it.
    pub calls: u64,
    /// Those without a usable answer: none in time, too many requests, or an error of HTTP.
    pub failed: u64,
}

/// How a chain has fared in a span of time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct SpanStatus {
    /// Verifications: those with a verdict, and those without.
    pub verifications: u64,
    /// The share of them that got a verdict, as `0.9987`; `null` where there were none. A refusal is a verdict.
    pub success_rate: Option<String>,
    /// Within so many milliseconds half of the verdicts came: the upper bound of its bucket.
    pub p50_ms: Option<u64>,
    /// The same of 95 in a hundred.
    pub p95_ms: Option<u64>,
    /// Its providers.
    pub providers: Vec<ProviderStatus>,
}

/// How a chain has fared.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct ChainStatus {
    /// The last hour, in steps of five minutes.
    pub last_hour: SpanStatus,
    /// The last day, in steps of an hour.
    pub last_day: SpanStatus,
}

/// Something that went wrong for all tenants.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Incident {
    /// `chain_unreachable`: no provider of the chain has reported its newest block for ten minutes. `error_rate`: too many
    /// verifications of an hour got no verdict.
    pub kind: &'static str,
    /// The chain; `null` for the service as a whole.
    pub chain: Option<String>,
    /// What it means, a sentence.
    pub description: &'static str,
    /// When it began, RFC 3339.
    pub began_at: String,
    /// When a check found that it had ended, RFC 3339; `null` while it lasts.
    pub ended_at: Option<String>,
}

/// The answer to `GET /v1/status`.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct ServiceStatus {
    /// When it was made, RFC 3339.
    pub generated_at: String,
    /// Each chain of the registry but local ones, by its key.
    pub chains: BTreeMap<&'static str, ChainStatus>,
    /// Incidents of the last 90 days, the newest first, at most 100.
    pub incidents: Vec<Incident>,
}

/// Four digits after the point, from hundredths of a percent.
fn rate(basis_points: u64) -> String {
    format!("{}.{:04}", basis_points / 10_000, basis_points % 10_000)
}

/// The name of a provider that everybody may read: a host of the operator's own may hold a key.
fn shown_providers(network: &Network, providers: &BTreeMap<String, ProviderSpan>) -> Vec<ProviderStatus> {
    let is_public = |host: &str| network.rpc.iter().any(|url| x402_core::settings::provider::host(url) == host);
    let mut own = 0_u32;
    let name = |host: &str| {
        if is_public(host) {
            return host.to_owned();
        }
        own = own.saturating_add(1);
        format!("own-{own}")
    };
    let names: Vec<String> = providers.keys().map(String::as_str).map(name).collect();
    let spans = names.into_iter().zip(providers.values());
    spans.map(|(provider, span)| ProviderStatus { provider, calls: span.calls, failed: span.failed }).collect()
}

fn span_status(network: &Network, span: Option<&ChainSpan>) -> SpanStatus {
    let none = ChainSpan::default();
    let span = span.unwrap_or(&none);
    SpanStatus {
        verifications: span.answered.saturating_add(span.faults),
        success_rate: span.success_basis_points().map(rate),
        p50_ms: span.p50_ms,
        p95_ms: span.p95_ms,
        providers: shown_providers(network, &span.providers),
    }
}

/// How each chain has fared, from what was counted in the last hour and in the last day.
#[must_use]
pub fn chain_statuses(hour: &MetricCounts, day: &MetricCounts) -> BTreeMap<&'static str, ChainStatus> {
    let (hour, day) = (chain_spans(hour), chain_spans(day));
    let of = |network: &'static Network| {
        let status = ChainStatus {
            last_hour: span_status(network, hour.get(network.key)),
            last_day: span_status(network, day.get(network.key)),
        };
        (network.key, status)
    };
    NETWORKS.iter().filter(|network| !network.local).map(of).collect()
}

/// An incident from its kind.
#[must_use]
pub fn incident(kind: OperatorAlert, chain: &str, began_at: String, ended_at: Option<String>) -> Incident {
    let chain = Some(chain.to_owned()).filter(|chain| !chain.is_empty());
    Incident { kind: kind.name(), chain, description: kind.doc(), began_at, ended_at }
}

#[cfg(test)]
mod tests {
    use super::*;
    use x402_core::metrics::MetricFamily;

    #[test]
    fn a_rate_has_four_digits() {
        assert_eq!([0, 9_987, 10_000].map(rate), ["0.0000", "0.9987", "1.0000"]);
    }

    #[test]
    fn own_providers_are_not_named() {
        let base = NETWORKS.iter().find(|network| network.key == "base").expect("base");
        let public = x402_core::settings::provider::host(base.rpc.first().expect("a provider")).to_string();
        let mut counts = MetricCounts::default();
        for host in [public.as_str(), "secret-key.nodes.example", "other.nodes.example"] {
            counts.count(MetricFamily::ProviderCalls, &["base", host, "ok"], 1);
        }
        let all = chain_statuses(&counts, &MetricCounts::default());
        let names: Vec<&str> =
            all.get("base").expect("base").last_hour.providers.iter().map(|one| one.provider.as_str()).collect();
        assert_eq!(names.iter().filter(|name| **name == public).count(), 1);
        assert!(names.contains(&"own-1") && names.contains(&"own-2"), "{names:?}");
        assert!(!all.contains_key("local-evm"));
        assert_eq!(all.get("base").expect("base").last_day.success_rate, None);
    }
}

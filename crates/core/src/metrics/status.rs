//! What `GET /v1/status` says of each chain, from the counts of a span of time.

use super::MetricFamily;
use super::histogram::LATENCY_BOUNDS_MS;
use super::series::{MetricCounts, label_value};
use std::collections::BTreeMap;

/// The families that the status is made of: only those are kept by span.
pub const STATUS_FAMILIES: &[MetricFamily] =
    &[MetricFamily::VerificationDuration, MetricFamily::VerificationFaults, MetricFamily::ProviderCalls];

/// The outcome of a provider call that was answered.
pub const PROVIDER_OK: &str = "ok";

/// What a provider has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProviderSpan {
    /// Requests.
    pub calls: u64,
    /// Those without a usable answer.
    pub failed: u64,
}

/// What has happened on a chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChainSpan {
    /// Verifications that got a verdict.
    pub answered: u64,
    /// Verifications that got none, for a fault of the service or of its providers.
    pub faults: u64,
    /// Within this time half of the verdicts came, milliseconds: the upper bound of its bucket.
    pub p50_ms: Option<u64>,
    /// The same of 95 in a hundred.
    pub p95_ms: Option<u64>,
    /// Its providers, by host.
    pub providers: BTreeMap<String, ProviderSpan>,
}

impl ChainSpan {
    /// Verdicts in a hundred verifications, in hundredths (9,987 is 99.87 %); `None` where there were none.
    #[must_use]
    pub fn success_basis_points(&self) -> Option<u64> {
        let all = self.answered.saturating_add(self.faults);
        self.answered.saturating_mul(10_000).checked_div(all)
    }
}

/// What has happened on each chain, by our keys of the chains.
#[must_use]
pub fn chain_spans(counts: &MetricCounts) -> BTreeMap<String, ChainSpan> {
    let mut chains: BTreeMap<String, ChainSpan> = BTreeMap::new();
    let counters = |family: MetricFamily| counts.counters.get(family.name()).into_iter().flatten();
    for (labels, histogram) in counts.histograms.get(MetricFamily::VerificationDuration.name()).into_iter().flatten() {
        let Some(chain) = label_value(labels, "chain") else { continue };
        let span = chains.entry(chain).or_default();
        span.answered = histogram.count();
        span.p50_ms = histogram.percentile(LATENCY_BOUNDS_MS, 50);
        span.p95_ms = histogram.percentile(LATENCY_BOUNDS_MS, 95);
    }
    for (labels, count) in counters(MetricFamily::VerificationFaults) {
        let Some(chain) = label_value(labels, "chain") else { continue };
        chains.entry(chain).or_default().faults = *count;
    }
    for (labels, count) in counters(MetricFamily::ProviderCalls) {
        let read = |name: &str| label_value(labels, name);
        let (Some(chain), Some(provider), Some(outcome)) = (read("chain"), read("provider"), read("outcome")) else {
            continue;
        };
        let provider = chains.entry(chain).or_default().providers.entry(provider).or_default();
        provider.calls = provider.calls.saturating_add(*count);
        if outcome != PROVIDER_OK {
            provider.failed = provider.failed.saturating_add(*count);
        }
    }
    chains
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_summed_up() {
        let mut counts = MetricCounts::default();
        for ms in [40, 60, 900] {
            counts.observe(MetricFamily::VerificationDuration, &["base"], ms);
        }
        counts.count(MetricFamily::VerificationFaults, &["base"], 1);
        counts.count(MetricFamily::ProviderCalls, &["base", "rpc.example", PROVIDER_OK], 5);
        counts.count(MetricFamily::ProviderCalls, &["base", "rpc.example", "no_answer"], 2);
        counts.count(MetricFamily::VerificationFaults, &["polygon"], 3);
        let chains = chain_spans(&counts);
        let base = chains.get("base").expect("base");
        assert_eq!((base.answered, base.faults, base.p50_ms, base.p95_ms), (3, 1, Some(75), Some(1_000)));
        assert_eq!(base.success_basis_points(), Some(7_500));
        assert_eq!(base.providers.get("rpc.example"), Some(&ProviderSpan { calls: 7, failed: 2 }));
        let polygon = chains.get("polygon").expect("polygon");
        assert_eq!((polygon.p50_ms, polygon.success_basis_points()), (None, Some(0)));
        assert_eq!(ChainSpan::default().success_basis_points(), None);
    }
}

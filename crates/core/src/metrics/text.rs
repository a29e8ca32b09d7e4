//! The text that Prometheus reads (format 0.0.4).

use super::series::{MetricCounts, label_text};
use super::{MetricFamily, MetricKind};
use core::fmt::Write;
use std::collections::BTreeMap;

/// The media type of the text.
pub const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Gauges by family and labels; values are decimal texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GaugeValues(BTreeMap<&'static str, BTreeMap<String, String>>);

impl GaugeValues {
    /// Sets a gauge to a whole number.
    pub fn set(&mut self, family: MetricFamily, values: &[&str], value: u64) {
        self.set_decimal(family, values, value.to_string());
    }

    /// Sets a gauge to a decimal number, such as `0.25`.
    pub fn set_decimal(&mut self, family: MetricFamily, values: &[&str], value: String) {
        self.0.entry(family.name()).or_default().insert(label_text(family, values), value);
    }
}

/// Milliseconds as seconds, a decimal text without needless zeros.
#[must_use]
pub fn seconds(ms: u64) -> String {
    let (whole, part) = (ms / 1_000, ms % 1_000);
    if part == 0 {
        return whole.to_string();
    }
    format!("{whole}.{part:03}").trim_end_matches('0').to_owned()
}

fn line(out: &mut String, name: &str, suffix: &str, labels: &str, value: &str) {
    let braced = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
    // Writing into a text does not fail.
    let _ = writeln!(out, "{name}{suffix}{braced} {value}");
}

/// All families with their help texts, and the values that are known of them.
#[must_use]
pub fn exposition(counts: &MetricCounts, gauges: &GaugeValues) -> String {
    let mut out = String::new();
    for family in MetricFamily::ALL {
        let name = family.name();
        let kind = match family.kind() {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram(_) => "histogram",
        };
        let _ = writeln!(out, "# HELP {name} {} {}", family.help(), family.accuracy().promise());
        let _ = writeln!(out, "# TYPE {name} {kind}");
        match family.kind() {
            MetricKind::Counter => {
                for (labels, count) in counts.counters.get(name).into_iter().flatten() {
                    line(&mut out, name, "", labels, &count.to_string());
                }
            }
            MetricKind::Gauge => {
                for (labels, value) in gauges.0.get(name).into_iter().flatten() {
                    line(&mut out, name, "", labels, value);
                }
            }
            MetricKind::Histogram(bounds) => {
                for (labels, histogram) in counts.histograms.get(name).into_iter().flatten() {
                    let comma = if labels.is_empty() { "" } else { "," };
                    let mut below = 0_u64;
                    for (bound, count) in bounds.iter().zip(&histogram.buckets) {
                        below = below.saturating_add(*count);
                        let labels = format!("{labels}{comma}le=\"{}\"", seconds(*bound));
                        line(&mut out, name, "_bucket", &labels, &below.to_string());
                    }
                    let count = histogram.count().to_string();
                    line(&mut out, name, "_bucket", &format!("{labels}{comma}le=\"+Inf\""), &count);
                    line(&mut out, name, "_sum", labels, &seconds(histogram.sum_ms));
                    line(&mut out, name, "_count", labels, &count);
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_are_written_as_seconds() {
        let texts = [(0, "0"), (1, "0.001"), (10, "0.01"), (1_000, "1"), (1_500, "1.5"), (86_400_000, "86400")];
        for (ms, text) in texts {
            assert_eq!(seconds(ms), text);
        }
    }

    #[test]
    fn a_family_is_written_with_help_type_and_values() {
        let mut counts = MetricCounts::default();
        counts.count(MetricFamily::Verifications, &["base", "confirmed"], 3);
        counts.observe(MetricFamily::VerificationDuration, &["base"], 60);
        counts.observe(MetricFamily::VerificationDuration, &["base"], 40_000);
        counts.observe(MetricFamily::WebhookLag, &[], 100);
        let mut gauges = GaugeValues::default();
        gauges.set(MetricFamily::BuildInfo, &["1.2.3"], 1);
        gauges.set_decimal(MetricFamily::SignerDays, &["base", "0xAb"], "2.5".to_owned());
        let text = exposition(&counts, &gauges);
        let expected = [
            "# HELP x402_verifications_total Verifications that were answered and stored, by the outcome when they were stored: a status, or \
             the code of the refusal. Exact: each is counted once, within minutes, also over crashes.",
            "# TYPE x402_verifications_total counter",
            r#"x402_verifications_total{chain="base",outcome="confirmed"} 3"#,
            "# TYPE x402_verification_duration_seconds histogram",
            r#"x402_verification_duration_seconds_bucket{chain="base",le="0.05"} 0"#,
            r#"x402_verification_duration_seconds_bucket{chain="base",le="0.075"} 1"#,
            r#"x402_verification_duration_seconds_bucket{chain="base",le="30"} 1"#,
            r#"x402_verification_duration_seconds_bucket{chain="base",le="+Inf"} 2"#,
            r#"x402_verification_duration_seconds_sum{chain="base"} 40.06"#,
            r#"x402_verification_duration_seconds_count{chain="base"} 2"#,
            r#"x402_webhook_lag_seconds_bucket{le="0.1"} 1"#,
            "x402_webhook_lag_seconds_count 1",
            r#"x402_signer_days_left{chain="base",signer="0xAb"} 2.5"#,
            r#"x402_build_info{version="1.2.3"} 1"#,
        ];
        for line in expected {
            assert!(text.lines().any(|own| own == line), "{line}\n{text}");
        }
        assert!(text.ends_with('\n'));
    }
}

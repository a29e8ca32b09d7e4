//! Counts by series: what an isolate or a ledger has counted since it has last sent, and the totals of all.

use super::histogram::HistogramCounts;
use super::{MetricFamily, MetricKind};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The most series of a family. Labels are routes, chains, codes and operators' providers: a family that reaches this has a
/// label that should not be one.
pub const SERIES_MAX: usize = 2_000;

/// The labels of a series as the text shows them: `chain="base",outcome="confirmed"`.
#[must_use]
pub fn label_text(family: MetricFamily, values: &[&str]) -> String {
    let mut text = String::new();
    for (name, value) in family.labels().iter().zip(values) {
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(name);
        text.push_str("=\"");
        for letter in value.chars() {
            match letter {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                other => text.push(other),
            }
        }
        text.push('"');
    }
    text
}

/// The value of a label in such a text, as it was before it was escaped; `None` where there is no such label.
#[must_use]
pub fn label_value(labels: &str, name: &str) -> Option<String> {
    let mut rest = labels;
    while let Some((own, after)) = rest.split_once("=\"") {
        let (mut value, mut letters, mut end) = (String::new(), after.char_indices(), None);
        while let Some((at, letter)) = letters.next() {
            match letter {
                '"' => {
                    end = Some(at);
                    break;
                }
                '\\' => match letters.next() {
                    Some((_, 'n')) => value.push('\n'),
                    Some((_, escaped)) => value.push(escaped),
                    None => return None,
                },
                other => value.push(other),
            }
        }
        let end = end?;
        if own == name {
            return Some(value);
        }
        rest = after.get(end.saturating_add(1)..)?.strip_prefix(',').unwrap_or_default();
    }
    None
}

/// Counts by family and labels. Families of other builds are kept: whoever reads them may know them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetricCounts {
    /// Counters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counters: BTreeMap<String, BTreeMap<String, u64>>,
    /// Histograms.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub histograms: BTreeMap<String, BTreeMap<String, HistogramCounts>>,
}

/// The entry of a series, unless the family has too many.
fn entry<'a, T: Default>(
    families: &'a mut BTreeMap<String, BTreeMap<String, T>>,
    family: &str,
    labels: &str,
) -> Option<&'a mut T> {
    let all = families.entry(family.to_owned()).or_default();
    if !all.contains_key(labels) && all.len() >= SERIES_MAX {
        return None;
    }
    Some(all.entry(labels.to_owned()).or_default())
}

impl MetricCounts {
    /// Whether nothing is counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counters.is_empty() && self.histograms.is_empty()
    }

    fn note_dropped(&mut self, count: u64) {
        let all = self.counters.entry(MetricFamily::SeriesDropped.name().to_owned()).or_default();
        let dropped = all.entry(String::new()).or_default();
        *dropped = dropped.saturating_add(count);
    }

    /// Adds to a counter.
    pub fn count(&mut self, family: MetricFamily, values: &[&str], more: u64) {
        match entry(&mut self.counters, family.name(), &label_text(family, values)) {
            Some(count) => *count = count.saturating_add(more),
            None => self.note_dropped(more),
        }
    }

    /// Adds a duration to a histogram; of a family that is none, nothing.
    pub fn observe(&mut self, family: MetricFamily, values: &[&str], ms: u64) {
        let MetricKind::Histogram(bounds) = family.kind() else { return };
        match entry(&mut self.histograms, family.name(), &label_text(family, values)) {
            Some(counts) => counts.observe(bounds, ms),
            None => self.note_dropped(1),
        }
    }

    /// Adds all that another holds.
    pub fn add(&mut self, other: &Self) {
        let mut dropped = 0_u64;
        for (family, series) in &other.counters {
            for (labels, more) in series {
                match entry(&mut self.counters, family, labels) {
                    Some(count) => *count = count.saturating_add(*more),
                    None => dropped = dropped.saturating_add(*more),
                }
            }
        }
        for (family, series) in &other.histograms {
            for (labels, more) in series {
                let is_added = entry(&mut self.histograms, family, labels).is_some_and(|counts| counts.add(more));
                if !is_added {
                    dropped = dropped.saturating_add(more.count());
                }
            }
        }
        if dropped > 0 {
            self.note_dropped(dropped);
        }
    }

    /// Only what is counted of these families.
    #[must_use]
    pub fn only(&self, families: &[MetricFamily]) -> Self {
        let is_named = |name: &String| families.iter().any(|family| family.name() == name);
        let mut kept = self.clone();
        kept.counters.retain(|name, _| is_named(name));
        kept.histograms.retain(|name, _| is_named(name));
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn labels_are_escaped() {
        let text = label_text(MetricFamily::Verifications, &["a\"z", "a\\b\nc"]);
        assert_eq!(text, r#"chain="a\"z",outcome="a\\b\nc""#);
        assert_eq!(label_text(MetricFamily::WebhookLag, &[]), "");
        assert_eq!(label_value(&text, "outcome").as_deref(), Some("a\\b\nc"));
        assert_eq!(label_value(&text, "chain").as_deref(), Some("a\"z"));
        assert_eq!(label_value(&text, "come"), None);
        for wrong in ["", "chain", "chain=\"", "chain=\"a", "chain=\"a\\"] {
            assert_eq!(label_value(wrong, "chain"), None, "{wrong}");
        }
    }

    #[test]
    fn a_family_has_bounded_series_and_what_is_left_out_is_counted() {
        let mut counts = MetricCounts::default();
        for number in 0..SERIES_MAX.saturating_add(5) {
            counts.count(MetricFamily::Errors, &[&number.to_string()], 2);
        }
        let of = |family: MetricFamily| counts.counters.get(family.name()).cloned().unwrap_or_default();
        assert_eq!(of(MetricFamily::Errors).len(), SERIES_MAX);
        assert_eq!(of(MetricFamily::SeriesDropped).get(""), Some(&10));
    }

    #[test]
    fn counts_keep_their_text() {
        let mut counts = MetricCounts::default();
        counts.count(MetricFamily::Verifications, &["base", "confirmed"], 3);
        counts.observe(MetricFamily::WebhookLag, &[], 100);
        let text = serde_json::to_string(&counts).expect("JSON");
        let expected = r#"{"counters":{"x402_verifications_total":{"chain=\"base\",outcome=\"confirmed\"":3}},"histograms":{"x402_webhook_lag_seconds":{"":{"sum_ms":100,"buckets":[1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]}}}}"#;
        assert_eq!(text, expected);
        assert_eq!(serde_json::from_str::<MetricCounts>("{}").expect("JSON"), MetricCounts::default());
        assert_eq!(serde_json::from_str::<MetricCounts>(&text).expect("JSON"), counts);
        assert_eq!(counts.only(&[MetricFamily::WebhookLag]).counters.len(), 0);
    }

    proptest! {
        /// However counts are split into parts, their sum is the same.
        #[test]
        fn parts_add_up(events in prop::collection::vec((0_usize..3, 0_u64..40_000, any::<bool>()), 0..60)) {
            let (mut whole, mut parts) = (MetricCounts::default(), vec![MetricCounts::default()]);
            for (chain, ms, splits) in events {
                let chain = ["base", "polygon", "solana"][chain];
                if splits {
                    parts.push(MetricCounts::default());
                }
                for counts in [&mut whole].into_iter().chain(parts.last_mut()) {
                    counts.observe(MetricFamily::VerificationDuration, &[chain], ms);
                    counts.count(MetricFamily::VerificationFaults, &[chain], ms);
                }
            }
            let mut sum = MetricCounts::default();
            for part in &parts {
                sum.add(part);
            }
            prop_assert_eq!(sum, whole);
        }
    }
}

//! Durations counted in buckets with fixed bounds.

use serde::{Deserialize, Serialize};

/// Upper bounds of the buckets of answers, milliseconds.
pub const LATENCY_BOUNDS_MS: &[u64] = &[
    10, 25, 50, 75, 100, 150, 200, 300, 400, 500, 750, 1_000, 1_500, 2_000, 3_000, 5_000, 7_500, 10_000, 20_000, 30_000,
];

/// Upper bounds of the buckets of what waits for others, milliseconds: up to a day.
pub const DELAY_BOUNDS_MS: &[u64] = &[
    100, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 30_000, 60_000, 120_000, 300_000, 900_000, 3_600_000, 21_600_000,
    86_400_000,
];

/// How many durations each bucket holds, and their sum.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistogramCounts {
    /// The sum of all durations, milliseconds.
    pub sum_ms: u64,
    /// One count for each bound, and one for what is longer than all of them. Not cumulative.
    pub buckets: Vec<u64>,
}

impl HistogramCounts {
    /// Adds a duration to a histogram of these bounds.
    pub fn observe(&mut self, bounds: &[u64], ms: u64) {
        if self.buckets.is_empty() {
            self.buckets = vec![0; bounds.len().saturating_add(1)];
        }
        let bucket = bounds.iter().position(|bound| ms <= *bound).unwrap_or(bounds.len());
        if let Some(count) = self.buckets.get_mut(bucket) {
            *count = count.saturating_add(1);
        }
        self.sum_ms = self.sum_ms.saturating_add(ms);
    }

    /// Adds the counts of another; returns whether both have the same number of buckets, else nothing is added.
    #[must_use]
    pub fn add(&mut self, other: &Self) -> bool {
        if self.buckets.is_empty() {
            self.clone_from(other);
            return true;
        }
        if self.buckets.len() != other.buckets.len() {
            return false;
        }
        for (count, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *count = count.saturating_add(*more);
        }
        self.sum_ms = self.sum_ms.saturating_add(other.sum_ms);
        true
    }

    /// All durations.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The bound within which so many in a hundred durations are (nearest rank), milliseconds; the last bound for what is
    /// longer than all of them. `None` where there are no durations.
    #[must_use]
    pub fn percentile(&self, bounds: &[u64], percent: u64) -> Option<u64> {
        let rank = self.count().saturating_mul(percent).div_ceil(100).max(1);
        let mut below = 0_u64;
        let bucket = self.buckets.iter().position(|count| {
            below = below.saturating_add(*count);
            below >= rank
        })?;
        bounds.get(bucket).or_else(|| bounds.last()).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(durations: &[u64]) -> HistogramCounts {
        let mut counts = HistogramCounts::default();
        for ms in durations {
            counts.observe(LATENCY_BOUNDS_MS, *ms);
        }
        counts
    }

    #[test]
    fn bounds_grow() {
        for bounds in [LATENCY_BOUNDS_MS, DELAY_BOUNDS_MS] {
            assert!(bounds.is_sorted_by(|one, next| one < next));
        }
    }

    #[test]
    fn a_duration_counts_in_the_first_bucket_that_holds_it() {
        let counts = counted(&[0, 10, 11, 30_000, 30_001, u64::MAX]);
        assert_eq!(counts.buckets.first(), Some(&2));
        assert_eq!(counts.buckets.get(1), Some(&1));
        assert_eq!(counts.buckets.last(), Some(&2));
        assert_eq!((counts.count(), counts.sum_ms), (6, u64::MAX));
    }

    #[test]
    fn percentiles_are_bounds() {
        assert_eq!(HistogramCounts::default().percentile(LATENCY_BOUNDS_MS, 50), None);
        let counts = counted(&[5, 5, 5, 90, 40_000]);
        assert_eq!(counts.percentile(LATENCY_BOUNDS_MS, 50), Some(10));
        assert_eq!(counts.percentile(LATENCY_BOUNDS_MS, 80), Some(100));
        assert_eq!(counts.percentile(LATENCY_BOUNDS_MS, 95), Some(30_000));
    }

    #[test]
    fn counts_of_other_bounds_are_left_out() {
        let mut counts = counted(&[5]);
        let before = counts.clone();
        let other = HistogramCounts { sum_ms: 7, buckets: vec![1, 2] };
        assert!(!counts.add(&other));
        assert_eq!(counts, before);
        assert!(counts.add(&before));
        assert_eq!((counts.count(), counts.sum_ms), (2, 10));
        let mut empty = HistogramCounts::default();
        assert!(empty.add(&other));
        assert_eq!(empty, other);
    }
}

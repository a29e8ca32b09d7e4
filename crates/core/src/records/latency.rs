//! How long verifications took: a histogram of fixed buckets, which cuts each power of two into eight. A quantile is the
//! greatest value of its bucket: never too low, and too high by less than an eighth.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A longer time counts as this one, in milliseconds.
pub const LATENCY_MS_MAX: u64 = 65_535;
/// Buckets of a power of two; times below this number have a bucket each.
const PARTS: u64 = 8;
/// The power of two from which on buckets hold several times.
const FIRST_POWER: u32 = 3;

/// The bucket of a time, 0 to 111.
#[must_use]
pub fn bucket_of(ms: u64) -> u8 {
    let ms = ms.min(LATENCY_MS_MAX);
    let bucket = match ms.checked_ilog2().filter(|power| *power >= FIRST_POWER) {
        None => ms,
        Some(power) => {
            let above = power.saturating_sub(FIRST_POWER);
            let part = ms.checked_shr(above).unwrap_or_default();
            PARTS.saturating_mul(above.into()).saturating_add(part)
        }
    };
    u8::try_from(bucket).unwrap_or(u8::MAX)
}

/// The greatest time of a bucket, in milliseconds.
#[must_use]
pub fn greatest_of(bucket: u8) -> u64 {
    let bucket = u64::from(bucket);
    if bucket < PARTS {
        return bucket;
    }
    let above = (bucket / PARTS).saturating_sub(1);
    let after = (bucket % PARTS).saturating_add(PARTS).saturating_add(1);
    let above = u32::try_from(above).unwrap_or(u32::MAX);
    after.checked_shl(above).unwrap_or(u64::MAX).saturating_sub(1)
}

/// How many verifications each bucket holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Latencies(pub BTreeMap<u8, u64>);

impl Latencies {
    /// All verifications.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.values().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The time within which so many in a hundred verifications were answered (nearest rank): the greatest of its bucket,
    /// in milliseconds. `None` where there are none.
    #[must_use]
    pub fn percentile(&self, percent: u64) -> Option<u64> {
        let rank = self.count().saturating_mul(percent).div_ceil(100).max(1);
        let mut below = 0_u64;
        let reached = |(_, count): &(&u8, &u64)| {
            below = below.saturating_add(**count);
            below >= rank
        };
        self.0.iter().find(reached).map(|(bucket, _)| greatest_of(*bucket))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn buckets_follow_each_other_and_hold_an_eighth() {
        let mut last = None;
        for ms in 0..=LATENCY_MS_MAX {
            let bucket = bucket_of(ms);
            assert!(last.is_none_or(|last| bucket == last || bucket == last + 1), "{ms}");
            let greatest = greatest_of(bucket);
            assert!(greatest >= ms && (greatest - ms) * 8 < ms.max(1), "{ms} is in a bucket up to {greatest}");
            last = Some(bucket);
        }
        assert_eq!(last, Some(111));
        assert_eq!(bucket_of(u64::MAX), 111);
    }

    proptest! {
        #[test]
        fn a_percentile_is_the_bucket_of_the_nearest_rank(mut times in prop::collection::vec(0_u64..70_000, 0..200)) {
            let mut all = Latencies::default();
            for ms in &times {
                let count = all.0.entry(bucket_of(*ms)).or_default();
                *count = count.saturating_add(1);
            }
            times.sort_unstable();
            for percent in [1, 50, 95, 100] {
                let rank = times.len().saturating_mul(percent).div_ceil(100);
                let want = times.get(rank.saturating_sub(1)).map(|ms| greatest_of(bucket_of(*ms)));
                prop_assert_eq!(all.percentile(percent.try_into().expect("small")), want);
            }
        }
    }
}

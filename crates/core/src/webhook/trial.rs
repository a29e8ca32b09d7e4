//! How often an endpoint's owner sends test events.

use x402_chain::time::UnixMillis;

/// The most test events of an endpoint in a minute.
pub const TESTS_MAX: u32 = 10;
const SPAN_MS: u64 = 60_000;

/// Test events of an endpoint, counted from the first of a minute on.
#[derive(Clone, Copy, Debug, Default)]
pub struct TestCount {
    since: UnixMillis,
    count: u32,
}

impl TestCount {
    /// Counts one more.
    ///
    /// # Errors
    /// After how many seconds there may be more.
    pub fn take(&mut self, now: UnixMillis) -> Result<(), u64> {
        if self.count == 0 || now.since(self.since) >= SPAN_MS {
            *self = Self { since: now, count: 0 };
        }
        if self.count >= TESTS_MAX {
            return Err(self.since.plus(SPAN_MS).since(now).div_ceil(1_000));
        }
        self.count = self.count.saturating_add(1);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_come_in_a_minute_and_ten_in_the_next() {
        let mut count = TestCount::default();
        for now in [UnixMillis(1_795_910_400_000), UnixMillis(1_795_910_460_000)] {
            for _ in 0..TESTS_MAX {
                assert_eq!(count.take(now), Ok(()));
            }
            let later = [0, 58_001, 59_999].map(|ms| count.take(now.plus(ms)));
            assert_eq!(later, [Err(60), Err(2), Err(1)]);
        }
    }
}

//! The order in which a chain's providers are asked: the operator's, unless one fails, is slow or lags, as one isolate
//! remembers it.

use crate::time::UnixMillis;

/// How long a provider is asked last after its first failure.
const BACKOFF_MIN_MS: u64 = 1_000;
/// The longest time that a provider is asked last after repeated failures.
const BACKOFF_MAX_MS: u64 = 30_000;
/// How long a provider is asked last when its daily or monthly plan is used up.
const EXHAUSTED_BACKOFF_MS: u64 = 7_200_000;
/// A provider more than this many blocks behind the best head is asked later.
const LAG_MAX: u64 = 3;
/// A later provider goes first only if it takes less than a third of the time.
const SLOW_FACTOR: u64 = 3;
/// A first provider that answers within this time keeps its place, however fast others are.
const FAST_MS: u64 = 300;

/// How one provider has answered so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProviderHealth {
    failures: u32,
    latency_ms: Option<u64>,
    backoff_until: UnixMillis,
    head: Option<u64>,
}

/// How one attempt to ask a provider ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// It answered; with the head if the answer named one.
    Answered {
        /// Milliseconds from the request to the whole answer.
        took_ms: u64,
        /// The newest block that the answer named, if any.
        head: Option<u64>,
    },
    /// It gave no usable answer.
    Failed,
    /// Refused: too many requests.
    RateLimited {
        /// The seconds of `Retry-After`.
        retry_after_s: Option<u64>,
    },
    /// Refused: the plan's quota is used up.
    Exhausted,
}

impl ProviderHealth {
    /// Notes the end of an attempt.
    pub fn note_attempt(&mut self, outcome: AttemptOutcome, now: UnixMillis) {
        match outcome {
            AttemptOutcome::Answered { took_ms, head } => {
                self.failures = 0;
                self.backoff_until = UnixMillis(0);
                // A moving average: a quarter of the new value, three quarters of the old.
                let mean = |old: u64| old.saturating_mul(3).saturating_add(took_ms) / 4;
                self.latency_ms = Some(self.latency_ms.map_or(took_ms, mean));
                self.head = head.or(self.head);
            }
            AttemptOutcome::Failed => {
                let pause_ms =
                    BACKOFF_MIN_MS.checked_shl(self.failures.min(8)).unwrap_or(BACKOFF_MAX_MS).min(BACKOFF_MAX_MS);
                self.failures = self.failures.saturating_add(1);
                self.backoff_until = now.plus(pause_ms);
            }
            AttemptOutcome::RateLimited { retry_after_s } => {
                let pause_ms = retry_after_s.unwrap_or(1).saturating_mul(1_000);
                self.backoff_until = now.plus(pause_ms.clamp(BACKOFF_MIN_MS, BACKOFF_MAX_MS));
            }
            AttemptOutcome::Exhausted => self.backoff_until = now.plus(EXHAUSTED_BACKOFF_MS),
        }
    }

    const fn is_backing_off(&self, now: UnixMillis) -> bool {
        now.0 < self.backoff_until.0
    }
}

/// The order in which to ask, as positions in the operator's order. Providers that failed recently come last, since
/// they may be the only ones; those that lag come before them.
#[must_use]
pub fn provider_order(providers: &[ProviderHealth], now: UnixMillis) -> Vec<usize> {
    let best = providers.iter().filter_map(|health| health.head).max().unwrap_or(0);
    let lags = |health: &ProviderHealth| health.head.is_some_and(|head| best.saturating_sub(head) > LAG_MAX);
    let first = providers.first().and_then(|health| health.latency_ms);
    let faster = |health: &ProviderHealth| match (first, health.latency_ms) {
        (Some(first), Some(own)) => first > FAST_MS && own.saturating_mul(SLOW_FACTOR) < first,
        (Some(_) | None, _) => false,
    };
    let mut places: Vec<usize> = (0..providers.len()).collect();
    places.sort_by_key(|place| {
        let health = providers.get(*place).copied().unwrap_or_default();
        (health.is_backing_off(now), lags(&health), !faster(&health), *place)
    });
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_000_000);

    fn after(endings: &[AttemptOutcome]) -> ProviderHealth {
        let mut health = ProviderHealth::default();
        for ending in endings {
            health.note_attempt(*ending, NOW);
        }
        health
    }

    const fn answered(took_ms: u64, head: u64) -> AttemptOutcome {
        AttemptOutcome::Answered { took_ms, head: Some(head) }
    }

    #[test]
    fn the_operators_order_holds_while_all_is_well() {
        assert_eq!(provider_order(&[ProviderHealth::default(); 3], NOW), [0, 1, 2]);
        assert_eq!(provider_order(&[after(&[answered(200, 5)]), after(&[answered(10, 5)])], NOW), [0, 1]);
    }

    #[test]
    fn who_failed_rests_and_who_lags_or_is_slow_comes_later() {
        assert_eq!(provider_order(&[after(&[AttemptOutcome::Failed]), ProviderHealth::default()], NOW), [1, 0]);
        assert_eq!(
            provider_order(&[after(&[AttemptOutcome::Failed]), ProviderHealth::default()], NOW.plus(1_001)),
            [0, 1]
        );
        assert_eq!(provider_order(&[after(&[answered(10, 5)]), after(&[answered(10, 9)])], NOW), [1, 0]);
        assert_eq!(provider_order(&[after(&[answered(10, 6)]), after(&[answered(10, 9)])], NOW), [0, 1]);
        assert_eq!(provider_order(&[after(&[answered(2_000, 9)]), after(&[answered(100, 9)])], NOW), [1, 0]);
    }

    #[test]
    fn rests_grow_and_end() {
        let thrice = after(&[AttemptOutcome::Failed; 3]);
        assert!(thrice.is_backing_off(NOW.plus(3_999)) && !thrice.is_backing_off(NOW.plus(4_000)));
        assert!(!after(&[AttemptOutcome::Failed; 40]).is_backing_off(NOW.plus(30_000)));
        assert!(after(&[AttemptOutcome::RateLimited { retry_after_s: Some(9) }]).is_backing_off(NOW.plus(8_999)));
        assert!(
            !after(&[AttemptOutcome::RateLimited { retry_after_s: Some(u64::MAX) }]).is_backing_off(NOW.plus(30_000))
        );
        assert!(after(&[AttemptOutcome::Exhausted]).is_backing_off(NOW.plus(3_600_000)));
        assert!(!after(&[AttemptOutcome::Failed, answered(1, 1)]).is_backing_off(NOW));
    }

    #[test]
    fn those_who_rest_are_asked_when_nobody_else_is_left() {
        assert_eq!(
            provider_order(&[after(&[AttemptOutcome::Failed]), after(&[AttemptOutcome::Exhausted])], NOW),
            [0, 1]
        );
    }
}

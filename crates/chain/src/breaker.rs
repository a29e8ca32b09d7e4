//! Which of a chain's providers to ask first: the operator's order, unless one
//! fails, is slow or lags. One isolate's view; time is an argument.

use crate::time::UnixMillis;

/// The first rest of a provider that failed.
const REST_MIN_MS: u64 = 1_000;
/// The longest rest of one that keeps failing.
const REST_MAX_MS: u64 = 30_000;
/// The rest of one whose day or month is used up.
const EXHAUSTED_MS: u64 = 7_200_000;
/// Blocks behind the best head that are held against a provider.
const LAG_MAX: u64 = 3;
/// A later provider goes first only if it takes less than a third of the time.
const SLOW_FACTOR: u64 = 3;
/// What counts as fast, however slow the other is in proportion.
const FAST_MS: u64 = 300;

/// What an isolate knows of one provider.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    failures: u32,
    latency_ms: Option<u64>,
    rests_until: UnixMillis,
    head: Option<u64>,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With an answer, and the head that it told, if it did.
    Answered {
        /// How long it took.
        took_ms: u64,
        /// The newest block.
        head: Option<u64>,
    },
    /// With none.
    Failed,
    /// With a refusal for so long.
    RateLimited {
        /// What `Retry-After` said.
        retry_after_s: Option<u64>,
    },
    /// With a refusal until its plan is renewed.
    Exhausted,
}

impl Health {
    /// Notes an attempt's end.
    pub fn note(&mut self, ending: Ending, now: UnixMillis) {
        match ending {
            Ending::Answered { took_ms, head } => {
                self.failures = 0;
                self.rests_until = UnixMillis(0);
                // A moving mean: a quarter of the new, three of the old.
                let mean = |old: u64| old.saturating_mul(3).saturating_add(took_ms) / 4;
                self.latency_ms = Some(self.latency_ms.map_or(took_ms, mean));
                self.head = head.or(self.head);
            }
            Ending::Failed => {
                let rest = REST_MIN_MS.checked_shl(self.failures.min(8)).unwrap_or(REST_MAX_MS).min(REST_MAX_MS);
                self.failures = self.failures.saturating_add(1);
                self.rests_until = now.plus(rest);
            }
            Ending::RateLimited { retry_after_s } => {
                let asked = retry_after_s.unwrap_or(1).saturating_mul(1_000);
                self.rests_until = now.plus(asked.clamp(REST_MIN_MS, REST_MAX_MS));
            }
            Ending::Exhausted => self.rests_until = now.plus(EXHAUSTED_MS),
        }
    }

    const fn rests(&self, now: UnixMillis) -> bool {
        now.0 < self.rests_until.0
    }
}

/// The order in which to ask, as places in the operator's order. Those who rest
/// come last, for they may be all there is; those who lag before them.
#[must_use]
pub fn order(providers: &[Health], now: UnixMillis) -> Vec<usize> {
    let best = providers.iter().filter_map(|health| health.head).max().unwrap_or(0);
    let lags = |health: &Health| health.head.is_some_and(|head| best.saturating_sub(head) > LAG_MAX);
    let first = providers.first().and_then(|health| health.latency_ms);
    let faster = |health: &Health| match (first, health.latency_ms) {
        (Some(first), Some(own)) => first > FAST_MS && own.saturating_mul(SLOW_FACTOR) < first,
        (Some(_) | None, _) => false,
    };
    let mut places: Vec<usize> = (0..providers.len()).collect();
    places.sort_by_key(|place| {
        let health = providers.get(*place).copied().unwrap_or_default();
        (health.rests(now), lags(&health), !faster(&health), *place)
    });
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_000_000);

    fn after(endings: &[Ending]) -> Health {
        let mut health = Health::default();
        for ending in endings {
            health.note(*ending, NOW);
        }
        health
    }

    const fn answered(took_ms: u64, head: u64) -> Ending {
        Ending::Answered { took_ms, head: Some(head) }
    }

    #[test]
    fn the_operators_order_holds_while_all_is_well() {
        assert_eq!(order(&[Health::default(); 3], NOW), [0, 1, 2]);
        assert_eq!(order(&[after(&[answered(200, 5)]), after(&[answered(10, 5)])], NOW), [0, 1]);
    }

    #[test]
    fn who_failed_rests_and_who_lags_or_is_slow_comes_later() {
        assert_eq!(order(&[after(&[Ending::Failed]), Health::default()], NOW), [1, 0]);
        assert_eq!(order(&[after(&[Ending::Failed]), Health::default()], NOW.plus(1_001)), [0, 1]);
        assert_eq!(order(&[after(&[answered(10, 5)]), after(&[answered(10, 9)])], NOW), [1, 0]);
        assert_eq!(order(&[after(&[answered(10, 6)]), after(&[answered(10, 9)])], NOW), [0, 1]);
        assert_eq!(order(&[after(&[answered(2_000, 9)]), after(&[answered(100, 9)])], NOW), [1, 0]);
    }

    #[test]
    fn rests_grow_and_end() {
        let thrice = after(&[Ending::Failed; 3]);
        assert!(thrice.rests(NOW.plus(3_999)) && !thrice.rests(NOW.plus(4_000)));
        assert!(!after(&[Ending::Failed; 40]).rests(NOW.plus(30_000)));
        assert!(after(&[Ending::RateLimited { retry_after_s: Some(9) }]).rests(NOW.plus(8_999)));
        assert!(!after(&[Ending::RateLimited { retry_after_s: Some(u64::MAX) }]).rests(NOW.plus(30_000)));
        assert!(after(&[Ending::Exhausted]).rests(NOW.plus(3_600_000)));
        assert!(!after(&[Ending::Failed, answered(1, 1)]).rests(NOW));
    }

    #[test]
    fn those_who_rest_are_asked_when_nobody_else_is_left() {
        assert_eq!(order(&[after(&[Ending::Failed]), after(&[Ending::Exhausted])], NOW), [0, 1]);
    }
}

//! What a seller hears of the month's quota: a warning, the first refusal, and that a month has begun after one with
//! either. Each once a month.

use crate::event::EventKind;
use serde::{Deserialize, Serialize};
use x402_chain::time::Period;

/// What was raised in a month. A ledger stores it with its counts, from the first event of the month to the first request
/// of the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaMarks {
    /// The month.
    pub period: Period,
    /// Whether `quota.warning` was raised.
    pub warned: bool,
    /// Whether `quota.exceeded` was raised.
    pub exceeded: bool,
}

/// How much of a month's quota is used: the data of the events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct QuotaUse {
    /// The month, UTC, such as `2026-11`.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(with = "String"))]
    pub period: Period,
    /// Verifications that count against the quota.
    pub used: u64,
    /// Verifications that the tier allows.
    pub limit: u64,
}

/// An event about the quota.
pub type QuotaEvent = (EventKind, QuotaUse);

/// What a step has done to the counts of a month.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaStep {
    /// The month that is counted.
    pub period: Period,
    /// What counts against its quota, this step included.
    pub used: u64,
    /// Whether this step has counted.
    pub is_counted: bool,
    /// Whether it was refused because the quota is used.
    pub is_refused: bool,
    /// The month's limit; `None`: unlimited, which raises nothing.
    pub limit: Option<u64>,
}

impl QuotaStep {
    /// The events of a step, and what to store with them. `marks` is what was raised before.
    #[must_use]
    pub fn raise(self, marks: Option<QuotaMarks>) -> (Option<QuotaMarks>, Vec<QuotaEvent>) {
        let Self { period, used, is_counted, is_refused, limit } = self;
        let is_over = marks.is_some_and(|marks| marks.period < period);
        let marks = marks.filter(|_| !is_over);
        let Some(limit) = limit else { return (marks, Vec::new()) };
        let mut events = Vec::new();
        if is_over {
            events.push((EventKind::QuotaReset, QuotaUse { period, used: 0, limit }));
        }
        let unmarked = QuotaMarks { period, warned: false, exceeded: false };
        let mut raised = marks.unwrap_or(unmarked);
        if is_counted && !raised.warned && used.saturating_mul(5) >= limit.saturating_mul(4) {
            raised.warned = true;
            events.push((EventKind::QuotaWarning, QuotaUse { period, used, limit }));
        }
        if is_refused && !raised.exceeded {
            raised.exceeded = true;
            events.push((EventKind::QuotaExceeded, QuotaUse { period, used, limit }));
        }
        ((raised != unmarked).then_some(raised), events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use x402_chain::time::UnixMillis;

    /// The events of a step that counts so many and is refused or not.
    fn step(
        (marks, at): (&mut Option<QuotaMarks>, &mut (Period, u64)),
        count: u64,
        limit: Option<u64>,
        is_refused: bool,
    ) -> Vec<(&'static str, u64)> {
        at.1 = at.1.saturating_add(count);
        let step = QuotaStep { period: at.0, used: at.1, is_counted: count > 0, is_refused, limit };
        let (next, events) = step.raise(*marks);
        *marks = next;
        events.iter().map(|(kind, quota)| (kind.name(), quota.used)).collect()
    }

    #[test]
    fn each_is_raised_once_a_month() {
        let (mut marks, mut at) = (None, (Period::of(UnixMillis(1_795_910_400_000)), 0));
        let mut ten = |count, refused| step((&mut marks, &mut at), count, Some(10), refused);
        assert_eq!(ten(7, false), []);
        assert_eq!(ten(1, false), [("quota.warning", 8)]);
        assert_eq!(ten(1, false), []);
        assert_eq!(ten(1, false), []);
        assert_eq!(ten(0, true), [("quota.exceeded", 10)]);
        assert_eq!(ten(0, true), []);
        at = (Period::of(at.0.end()), 0);
        assert_eq!(step((&mut marks, &mut at), 1, Some(10), false), [("quota.reset", 0)]);
        assert_eq!((step((&mut marks, &mut at), 1, Some(10), false), marks), (vec![], None));
        let mut next = (Period::of(at.0.end()), 0);
        assert_eq!(step((&mut marks, &mut next), 1, Some(1), false), [("quota.warning", 1)]);
    }

    #[test]
    fn what_is_unlimited_raises_nothing() {
        let (mut marks, mut at) = (None, (Period::of(UnixMillis(1_795_910_400_000)), 0));
        assert_eq!((step((&mut marks, &mut at), 9, None, true), marks), (vec![], None));
        assert_eq!(step((&mut marks, &mut at), 1, Some(10), false), [("quota.warning", 10)]);
        // A month that begins without a limit ends what was raised before.
        at = (Period::of(at.0.end()), 0);
        assert_eq!((step((&mut marks, &mut at), 1, None, false), marks), (vec![], None));
        assert_eq!(step((&mut marks, &mut at), 0, Some(0), false), []);
    }
}

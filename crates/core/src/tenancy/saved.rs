//! When a ledger stores its admission: at once with lasting counts, and the rates alone from time to time.

use crate::tenancy::admission::Admission;
use x402_chain::id::VerificationId;
use x402_chain::time::{Period, UnixMillis};

/// How often the rates are stored while requests come and no lasting count changes.
const RATES_MS: u64 = 1_000;
/// At most so many requests are counted by their records alone: an object that wakes reads them.
const RECORDED_MAX: u64 = 1_000;
/// At most one part in this many of the minute's limit stays unstored.
const UNWRITTEN_PART: u64 = 16;

/// How much of the admission is in storage, as far as requests go.
///
/// **Counts that may be lost.** An idle object is evicted after 10 s. Each counted request sets the ledger's alarm,
/// which comes within 4 s and writes what is unwritten: an idle eviction loses no count. A process that is killed loses
/// the counts since the last write: fewer than a sixteenth of the minute's limit, and none where that limit is below
/// 32.
///
/// What a verification's record holds is in storage with it: nothing of it is lost.
///
/// **Rows written.** One a second while requests come, one more for each sixteenth of the minute's limit, and one with
/// the alarm: at most 76 a minute and one an alarm, for any number of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SavedAdmission {
    period: Period,
    requests: u64,
    at: UnixMillis,
}

impl SavedAdmission {
    /// All of it is written at this time; [`UnixMillis`] of 0 where the time is not known.
    #[must_use]
    pub const fn all_saved(admission: &Admission, at: UnixMillis) -> Self {
        Self { period: admission.period, requests: admission.requests, at }
    }

    /// Whether storage holds every request that was counted.
    #[must_use]
    pub fn is_all_saved(&self, admission: &Admission) -> bool {
        (self.period, self.requests) == (admission.period, admission.requests)
    }

    /// Whether the new record of a step holds all that the step has counted: one request, of a key whose use is noted,
    /// in the period that is stored. Then the admission is not written with it; whoever wakes reads it from the record
    /// ([`Admission::count_record`]), and the next alarm writes it.
    #[must_use]
    pub fn is_held_by_record(&self, before: &Admission, after: &Admission, record: VerificationId) -> bool {
        let is_one = before.requests.checked_add(1) == Some(after.requests);
        let is_last = before.last_id < Some(record) && after.last_id == Some(record);
        let is_spending_kept = before.spending == after.spending && before.quota == after.quota;
        let is_rest_kept = before.last_used == after.last_used && is_spending_kept;
        let is_same_period = self.period == before.period && self.period == after.period;
        let is_few = after.requests.saturating_sub(self.requests) < RECORDED_MAX;
        is_one && is_last && is_rest_kept && is_same_period && is_few
    }

    /// Whether a step must write the admission: at once where something was counted for good, else by the rules above.
    /// `per_minute` is the tenant's limit of requests.
    #[must_use]
    pub fn is_due(&self, before: &Admission, after: &Admission, per_minute: u64, now: UnixMillis) -> bool {
        let counted = |admission: &Admission| (admission.period, admission.used, admission.quota);
        if counted(before) != counted(after) || before.spending != after.spending || self.period != after.period {
            return true;
        }
        let unwritten = after.requests.saturating_sub(self.requests);
        let most = per_minute.checked_div(UNWRITTEN_PART).unwrap_or(0).max(1);
        unwritten > 0 && (unwritten >= most || now.since(self.at) >= RATES_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use x402_chain::id::KeyId;

    const NOW: UnixMillis = UnixMillis(1_795_910_400_000);

    /// How many requests of a burst within one second are written, and how many rows that took.
    fn burst(requests: u64, per_minute: u64) -> (u64, u64) {
        let mut admission = Admission::new(NOW);
        let (mut saved, mut rows) = (SavedAdmission::all_saved(&admission, NOW), 0);
        for at in 0..requests {
            let (before, now) = (admission.clone(), NOW.plus(at % 1_000));
            admission.count_request(KeyId::new(NOW, [1; 10]), now);
            if saved.is_due(&before, &admission, per_minute, now) {
                saved = SavedAdmission::all_saved(&admission, now);
                rows = u64::saturating_add(rows, 1);
            }
        }
        (saved.requests, rows)
    }

    #[test]
    fn a_burst_leaves_less_than_a_sixteenth_of_the_limit_unwritten() {
        assert_eq!(burst(10, 10), (10, 10));
        assert_eq!(burst(31, 31), (31, 31));
        assert_eq!(burst(99, 100), (96, 16));
        assert_eq!(burst(999, 2_000), (875, 7));
    }

    #[test]
    fn what_is_unwritten_for_a_second_is_written_with_the_next_request() {
        let before = Admission::new(NOW);
        let (saved, mut after) = (SavedAdmission::all_saved(&before, NOW), before.clone());
        after.count_request(KeyId::new(NOW, [1; 10]), NOW);
        assert!(!saved.is_due(&before, &after, 2_000, NOW.plus(999)));
        assert!(saved.is_due(&before, &after, 2_000, NOW.plus(1_000)));
        assert!(!saved.is_due(&before, &before, 2_000, NOW.plus(1_000)));
        assert!(saved.is_all_saved(&before) && !saved.is_all_saved(&after));
    }

    #[test]
    fn what_records_have_counted_is_counted_again() {
        let (key, id) = (KeyId::new(NOW, [1; 10]), |at: u64| VerificationId::new(NOW.plus(at), [2; 10]));
        let mut stored = Admission::new(NOW);
        stored.count_request(key, NOW);
        let (saved, mut memory, mut woken) = (SavedAdmission::all_saved(&stored, NOW), stored.clone(), stored.clone());
        for at in 1..1_100 {
            let before = memory.clone();
            memory.count_request(key, NOW.plus(at));
            memory.used += at % 2;
            memory.last_id = Some(id(at));
            assert_eq!(saved.is_held_by_record(&before, &memory, id(at)), at < 1_000);
            woken.count_record(id(at), at % 2);
            assert_eq!(woken, memory);
        }
    }

    #[test]
    fn what_a_record_does_not_hold_is_written() {
        let id = VerificationId::new(NOW, [2; 10]);
        let mut before = Admission::new(NOW);
        before.note_key_use(KeyId::new(NOW, [1; 10]), NOW);
        let saved = SavedAdmission::all_saved(&before, NOW);
        let one = Admission { requests: 1, last_id: Some(id), ..before.clone() };
        assert!(saved.is_held_by_record(&before, &one, id));
        // A replay, whose record is an earlier one; the use of another key; a period that has begun, stored or not.
        assert!(!saved.is_held_by_record(&one, &Admission { requests: 2, ..one.clone() }, id));
        let mut other = one.clone();
        other.note_key_use(KeyId::new(NOW, [3; 10]), NOW);
        assert!(!saved.is_held_by_record(&before, &other, id));
        let next =
            |admission: &Admission| Admission { period: Period::of(NOW.plus(32 * 86_400_000)), ..admission.clone() };
        assert!(!saved.is_held_by_record(&before, &next(&one), id));
        assert!(!saved.is_held_by_record(&next(&before), &next(&one), id));
    }

    #[test]
    fn what_counts_for_good_is_written_at_once() {
        let before = Admission::new(NOW);
        let saved = SavedAdmission::all_saved(&before, NOW);
        let used = Admission { used: 1, ..before.clone() };
        assert!(saved.is_due(&before, &used, 2_000, NOW));
        let mut next = before.clone();
        next.enter_period(NOW.plus(32 * 86_400_000));
        assert!(saved.is_due(&before, &next, 2_000, NOW) && !saved.is_all_saved(&next));
    }
}

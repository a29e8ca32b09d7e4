//! How a turn of shipping walks the outbox: it begins where the one before has ended and goes round once, so that entries
//! for what takes nothing hold no other up, however many they are.

/// Less than every entry's number: a batch after it begins at the front.
pub const FRONT: i64 = -1;

/// A walk over the entries' numbers, in batches.
#[derive(Clone, Copy, Debug)]
pub struct OutboxWalk {
    began: i64,
    after: i64,
    /// Whether the walk has been at the front.
    has_wrapped: bool,
    is_over: bool,
}

impl OutboxWalk {
    /// Begins after an entry, or at the [`FRONT`].
    #[must_use]
    pub const fn begin(after: i64) -> Self {
        Self { began: after, after, has_wrapped: after <= FRONT, is_over: false }
    }

    /// The entry after which the next batch begins.
    #[must_use]
    pub const fn after(&self) -> i64 {
        self.after
    }

    /// Whether every entry was looked at.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.is_over
    }

    /// Goes on after the last entry of a batch, `None` where none followed; `is_end`: no other follows.
    pub const fn step(&mut self, last: Option<i64>, is_end: bool) {
        match last {
            Some(last) if !is_end => {
                self.after = last;
                self.is_over = self.has_wrapped && self.began > FRONT && last >= self.began;
            }
            _ => {
                self.after = FRONT;
                self.is_over = self.has_wrapped;
                self.has_wrapped = true;
            }
        }
    }
}

/// Whether a ledger ships on at once when a turn has left something: not where all that it tried was refused, or it would
/// ask what refuses it ten times a second.
#[must_use]
pub const fn ships_on(left: bool, is_taken: bool, is_refused: bool) -> bool {
    left && (is_taken || !is_refused)
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "small numbers of a test")]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_ledger_ships_on_unless_all_is_refused() {
        let ways =
            [(true, true, true), (true, true, false), (true, false, false), (true, false, true), (false, true, false)];
        assert_eq!(ways.map(|(left, taken, refused)| ships_on(left, taken, refused)), [true, true, true, false, false]);
    }

    #[test]
    fn a_short_outbox_is_walked_in_one_batch() {
        let mut walk = OutboxWalk::begin(FRONT);
        walk.step(Some(7), true);
        assert!(walk.is_over() && walk.after() == FRONT);
    }

    proptest! {
        #[test]
        fn every_entry_is_looked_at_and_a_walk_ends(
            entries in prop::collection::btree_set(0_i64..200, 0..60),
            began in FRONT..220,
            batch in 1_usize..20,
        ) {
            let (mut walk, mut seen, mut batches) = (OutboxWalk::begin(began), BTreeSet::new(), 0);
            while !walk.is_over() {
                let some: Vec<i64> = entries.range(walk.after() + 1..).copied().take(batch).collect();
                seen.extend(some.iter().copied());
                walk.step(some.last().copied(), some.len() < batch);
                batches += 1;
                prop_assert!(batches <= entries.len() * 2 + 3);
            }
            prop_assert_eq!(seen, entries);
        }

        #[test]
        fn entries_that_stay_hold_no_other_up(stay in 1_i64..300, turn in 1_usize..5) {
            // Entries 1 to `stay` are refused, the last one is taken; a turn looks at `turn` batches of ten.
            let (mut after, mut turns) = (FRONT, 0);
            let mut is_taken = false;
            while !is_taken {
                let mut walk = OutboxWalk::begin(after);
                for _ in 0..turn {
                    let some: Vec<i64> = ((walk.after() + 1).max(1)..=stay + 1).take(10).collect();
                    is_taken |= some.contains(&(stay + 1));
                    walk.step(some.last().copied(), some.len() < 10);
                    if walk.is_over() {
                        break;
                    }
                }
                after = walk.after();
                turns += 1;
                prop_assert!(turns <= stay / 10 + 2);
            }
        }
    }
}

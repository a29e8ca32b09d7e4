//! For how long a signer's coins last: from what it held at the checks of the last days.

use std::collections::BTreeMap;
use x402_chain::time::{DAY_MS, UnixMillis};

/// The days that count beside today.
pub const SPENT_DAYS: u64 = 7;

/// What a signer held at the last check of a day, and by how much it had become less on that day; in the coin's smallest unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignerDay {
    /// What it held.
    pub held: u128,
    /// What it has spent. What it was given meanwhile is not taken off.
    pub spent: u128,
}

/// The row of a day after one more check: `last` is what it held at the check before, on whichever day; `today` the row of the
/// day so far.
#[must_use]
pub fn checked(last: Option<u128>, today: Option<SignerDay>, held: u128) -> SignerDay {
    let less = last.map_or(0, |last| last.saturating_sub(held));
    SignerDay { held, spent: today.map_or(0, |today| today.spent).saturating_add(less) }
}

/// For how many days what a signer holds lasts, in tenths of a day, at what the [`SPENT_DAYS`] days before today have cost; `None`
/// where nothing was spent.
#[must_use]
pub fn tenths_left(days: &BTreeMap<UnixMillis, SignerDay>, today: UnixMillis) -> Option<u64> {
    let held = days.last_key_value()?.1.held;
    let from = UnixMillis(today.0.saturating_sub(SPENT_DAYS.saturating_mul(DAY_MS)));
    let counted: Vec<&SignerDay> = days.range(from..today).map(|(_, day)| day).collect();
    // Of the first day, what today has cost so far stands for a day.
    let (spent, number) = match counted.as_slice() {
        [] => (days.get(&today)?.spent, 1),
        all => (all.iter().fold(0_u128, |sum, day| sum.saturating_add(day.spent)), u128::try_from(all.len()).ok()?),
    };
    let tenths = held.saturating_mul(10).saturating_mul(number).checked_div(spent)?;
    Some(u64::try_from(tenths).unwrap_or(u64::MAX))
}

/// An amount of a coin's smallest unit in whole coins, a decimal text without needless zeros.
#[must_use]
pub fn coins(units: u128, decimals: u8) -> String {
    let digits = usize::from(decimals);
    let text = format!("{units:0>width$}", width = digits.saturating_add(1));
    let (whole, part) = text.split_at(text.len().saturating_sub(digits));
    let part = part.trim_end_matches('0');
    if part.is_empty() { whole.to_owned() } else { format!("{whole}.{part}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn day(number: u64) -> UnixMillis {
        UnixMillis(number.saturating_mul(DAY_MS))
    }

    #[test]
    fn what_becomes_less_is_spent_and_what_comes_in_is_not_taken_off() {
        let first = checked(None, None, 100);
        assert_eq!(first, SignerDay { held: 100, spent: 0 });
        let second = checked(Some(100), Some(first), 90);
        let third = checked(Some(90), Some(second), 500);
        assert_eq!(third, SignerDay { held: 500, spent: 10 });
        assert_eq!(checked(Some(500), None, 480), SignerDay { held: 480, spent: 20 });
    }

    #[test]
    fn days_are_what_is_held_by_what_a_day_has_cost() {
        let row = |held, spent| SignerDay { held, spent };
        let mut days = BTreeMap::new();
        assert_eq!(tenths_left(&days, day(20)), None);
        days.insert(day(20), row(90, 10));
        assert_eq!(tenths_left(&days, day(20)), Some(90));
        days.insert(day(19), row(100, 30));
        days.insert(day(18), row(130, 10));
        days.insert(day(10), row(999, 900));
        assert_eq!(tenths_left(&days, day(20)), Some(45));
        let idle = BTreeMap::from([(day(19), row(5, 0)), (day(20), row(5, 0))]);
        assert_eq!(tenths_left(&idle, day(20)), None);
    }

    #[test]
    fn units_are_written_as_coins() {
        let texts = [(0, 18, "0"), (1, 18, "0.000000000000000001"), (1_500_000_000, 9, "1.5"), (7, 0, "7")];
        for (units, decimals, text) in texts {
            assert_eq!(coins(units, decimals), text);
        }
    }
}

//! Totals of records: how many there are of an hour, a chain and an outcome, and the sum of their amounts. They are
//! exact: what a record adds is taken back when a later revision of it adds something else.

use crate::error::Fault;
use crate::verdict::RefusalCode;
use crate::verification::answer::VerificationStatus;
use serde::Deserialize;
use std::collections::BTreeMap;
use x402_chain::amount::Amount;
use x402_chain::id::VerificationId;
use x402_chain::time::UnixMillis;

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 86_400_000;

/// The start of an instant's hour (UTC).
#[must_use]
pub const fn hour_of(at: UnixMillis) -> UnixMillis {
    UnixMillis(at.0.saturating_sub(at.0 % HOUR_MS))
}

/// The start of an instant's day (UTC).
#[must_use]
pub const fn day_of(at: UnixMillis) -> UnixMillis {
    UnixMillis(at.0.saturating_sub(at.0 % DAY_MS))
}

/// Which total.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RollupKey {
    /// The start of the hour, or of the day.
    pub start: UnixMillis,
    /// Our key of the chain.
    pub chain: String,
    /// The refusal's code, or where there is none the payment's status.
    pub outcome: String,
}

/// What a record adds to a total.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordShare {
    /// The total of its hour.
    pub key: RollupKey,
    /// Atomic units; none where the record names none.
    pub amount: Amount,
}

impl RecordShare {
    /// Reads what a record adds.
    ///
    /// # Errors
    /// `INTERNAL` where the text is no record.
    pub fn read(id: VerificationId, record: &str) -> Result<Self, Fault> {
        #[derive(Deserialize)]
        struct Columns {
            chain: String,
            status: VerificationStatus,
            error_code: Option<RefusalCode>,
            amount: Option<Amount>,
        }
        let columns: Columns = serde_json::from_str(record).map_err(Fault::internal_json)?;
        let outcome = columns.error_code.map_or(columns.status.name(), RefusalCode::as_str).to_owned();
        let start = hour_of(id.created_at());
        let key = RollupKey { start, chain: columns.chain, outcome };
        Ok(Self { key, amount: columns.amount.unwrap_or_default() })
    }
}

/// A total.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Total {
    /// Records.
    pub count: u64,
    /// The sum of their amounts in atomic units.
    pub amount: Amount,
    /// Counts the changes of the total; a copy is replaced only by a higher one.
    pub revision: u64,
}

/// The fault for a total that would not be a number.
pub(super) fn inexact() -> Fault {
    Fault::internal("a total of records is out of its range")
}

/// Totals by their keys.
pub type Totals = BTreeMap<RollupKey, Total>;

impl Total {
    /// The total with a record more, or less.
    fn changed(self, amount: Amount, is_added: bool) -> Result<Self, Fault> {
        let (count, sum) = if is_added {
            (self.count.checked_add(1), self.amount.plus(amount))
        } else {
            let sum = (self.amount >= amount).then(|| self.amount.saturating_minus(amount));
            (self.count.checked_sub(1), sum)
        };
        let (count, amount) = count.zip(sum).ok_or_else(inexact)?;
        Ok(Self { count, amount, revision: self.revision.saturating_add(1) })
    }
}

/// Adds a record to the totals, and takes back what its earlier revision had added. `totals` must hold the totals that
/// are stored under both keys.
///
/// # Errors
/// `INTERNAL` where a total would fall below zero: it did not hold what is taken back.
pub fn apply_share(totals: &mut Totals, earlier: Option<&RecordShare>, share: &RecordShare) -> Result<(), Fault> {
    if earlier == Some(share) {
        return Ok(());
    }
    for (share, is_added) in earlier.map(|earlier| (earlier, false)).into_iter().chain([(share, true)]) {
        let total = totals.entry(share.key.clone()).or_default();
        *total = total.changed(share.amount, is_added)?;
    }
    Ok(())
}

/// The totals of days, from those of all their hours. A day's revision is the sum of its hours', which grows with each
/// change.
///
/// # Errors
/// `INTERNAL` where a sum has more than 256 bits.
pub fn daily(hourly: &Totals) -> Result<Totals, Fault> {
    let mut days = Totals::new();
    for (key, hour) in hourly {
        let day = days.entry(RollupKey { start: day_of(key.start), ..key.clone() }).or_default();
        *day = Total {
            count: day.count.checked_add(hour.count).ok_or_else(inexact)?,
            amount: day.amount.plus(hour.amount).ok_or_else(inexact)?,
            revision: day.revision.saturating_add(hour.revision),
        };
    }
    Ok(days)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn share(at: u64, outcome: &str, amount: u64) -> RecordShare {
        let key = RollupKey { start: UnixMillis(at), chain: "base".to_owned(), outcome: outcome.to_owned() };
        RecordShare { key, amount: Amount::atomic(amount) }
    }

    #[test]
    fn a_record_says_what_it_adds() {
        let id = VerificationId::new(UnixMillis(7_199_999), [0; 10]);
        let read = |text: &str| RecordShare::read(id, text);
        let paid = read(r#"{"chain":"base","status":"confirmed","error_code":null,"amount":"1500000","x":1}"#);
        assert_eq!(paid, Ok(share(3_600_000, "confirmed", 1_500_000)));
        let refused = read(r#"{"chain":"base","status":"rejected","error_code":"TX_NOT_FOUND","amount":null}"#);
        assert_eq!(refused, Ok(share(3_600_000, "TX_NOT_FOUND", 0)));
        for wrong in ["", "{}", r#"{"chain":"base","status":"confirmed","error_code":null,"amount":1.5}"#] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_total_never_falls_below_zero() {
        let mut totals = Totals::new();
        let (one, two) = (share(0, "confirmed", 1), share(0, "confirmed", 2));
        assert!(apply_share(&mut totals.clone(), Some(&one), &two).is_err());
        apply_share(&mut totals, None, &one).expect("added");
        assert!(apply_share(&mut totals.clone(), Some(&two), &one).is_err());
        apply_share(&mut totals, Some(&one), &two).expect("changed");
        let total = totals.get(&two.key).copied().expect("a total");
        assert_eq!(total, Total { count: 1, amount: Amount::atomic(2), revision: 3 });
    }

    /// The totals that records make, counted anew.
    fn counted<'a>(
        records: impl Iterator<Item = &'a RecordShare>,
        start: fn(UnixMillis) -> UnixMillis,
    ) -> BTreeMap<RollupKey, (usize, Amount)> {
        let mut amounts: BTreeMap<RollupKey, Vec<Amount>> = BTreeMap::new();
        for RecordShare { key, amount } in records {
            amounts.entry(RollupKey { start: start(key.start), ..key.clone() }).or_default().push(*amount);
        }
        let sum = |amounts: &Vec<Amount>| amounts.iter().try_fold(Amount::ZERO, |sum, amount| sum.plus(*amount));
        amounts.iter().map(|(key, amounts)| (key.clone(), (amounts.len(), sum(amounts).expect("small")))).collect()
    }

    fn known(totals: &Totals) -> BTreeMap<RollupKey, (usize, Amount)> {
        let known = totals.iter().filter(|(_, total)| total.count > 0);
        let count = |total: &Total| usize::try_from(total.count).expect("small");
        known.map(|(key, total)| (key.clone(), (count(total), total.amount))).collect()
    }

    proptest! {
        /// Whatever revisions arrive in whatever order, the totals are those of the records that stand.
        #[test]
        fn totals_are_those_of_the_records(
            changes in prop::collection::vec((0_u8..6, 0_u64..50, 0_usize..3, 0_u64..9), 0..60),
        ) {
            let (mut totals, mut stored) = (Totals::new(), BTreeMap::new());
            for (id, hour, outcome, amount) in changes {
                let outcome = ["confirmed", "finalized", "reorged"][outcome];
                // A record keeps its hour.
                let first = UnixMillis(0).plus(hour.saturating_mul(HOUR_MS));
                let start = stored.get(&id).map_or(first, |old: &RecordShare| old.key.start);
                let new = share(start.0, outcome, amount);
                apply_share(&mut totals, stored.get(&id), &new).expect("exact");
                stored.insert(id, new);
            }
            prop_assert_eq!(known(&totals), counted(stored.values(), hour_of));
            prop_assert_eq!(known(&daily(&totals).expect("exact")), counted(stored.values(), day_of));
        }
    }
}

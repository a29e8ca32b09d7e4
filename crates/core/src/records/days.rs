//! What a month answers of some of its days, and how the days of several months are added up.

use super::detail::{DayDetail, PaymentSum};
use super::rollup::{Totals, hour_of};
use crate::error::Fault;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use x402_chain::time::{DAY_MS, Period, UnixMillis};

const HOUR_MS: u64 = 3_600_000;
/// The most days of a month.
const DAYS_OF_MONTH: usize = 31;

/// Whole days (UTC).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaySpan {
    /// The start of the first day.
    pub from: UnixMillis,
    /// The end of the last day.
    pub to: UnixMillis,
}

impl DaySpan {
    /// So many days, the last of which is that of `now`.
    #[must_use]
    pub fn until(now: UnixMillis, days: u64) -> Self {
        let to = super::rollup::day_of(now).plus(DAY_MS);
        Self { from: UnixMillis(to.0.saturating_sub(days.saturating_mul(DAY_MS))), to }
    }

    /// The starts of the days, in order.
    pub fn days(self) -> impl Iterator<Item = UnixMillis> {
        let numbers = 0..self.to.since(self.from).div_ceil(DAY_MS);
        numbers.map(move |number| self.from.plus(number.saturating_mul(DAY_MS)))
    }

    /// The months that the days are of, each with its days, in order.
    #[must_use]
    pub fn months(self) -> Vec<(Period, Self)> {
        let (mut months, mut from) = (Vec::new(), self.from);
        while from < self.to {
            let month = Period::of(from);
            let to = month.end().min(self.to);
            months.push((month, Self { from, to }));
            from = to;
        }
        months
    }

    /// The days that may be of one month: at most 31.
    pub fn days_of_month(self) -> impl Iterator<Item = UnixMillis> {
        self.days().take(DAYS_OF_MONTH)
    }
}

/// The payments of a day that share a chain and a state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaySum {
    /// The start of the day.
    pub day: UnixMillis,
    /// Of verifications our key of the chain, of settlements the network's CAIP-2 id.
    pub chain: String,
    /// Of verifications the refusal's code, or where there is none the payment's status; of settlements the status.
    pub state: String,
    /// How many, and how much.
    pub sum: PaymentSum,
}

/// How long the verifications of an hour took: the times within which 50 and 95 in a hundred were answered, in
/// milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HourLatency {
    /// The start of the hour.
    pub hour: UnixMillis,
    /// How many.
    pub count: u64,
    /// The median.
    pub p50_ms: u64,
    /// The 95th percentile.
    pub p95_ms: u64,
}

/// What is counted of some days of a month.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MonthDays {
    /// Verifications, in the order of their days.
    pub verifications: Vec<DaySum>,
    /// Settlements, by the day on which they were reserved.
    pub settlements: Vec<DaySum>,
    /// Hours in which verifications were answered, in order.
    pub latency: Vec<HourLatency>,
    /// By address, what was paid and stands.
    pub payers: BTreeMap<String, PaymentSum>,
    /// Whether a day had more payers than are kept.
    pub is_cut: bool,
}

impl MonthDays {
    /// Adds a day: its totals, by day, and what is counted beside them.
    ///
    /// # Errors
    /// `INTERNAL` where a sum has more than 256 bits.
    pub fn add_day(&mut self, day: UnixMillis, totals: &Totals, detail: DayDetail) -> Result<(), Fault> {
        for (key, total) in totals.iter().filter(|(_, total)| total.count > 0) {
            let sum = PaymentSum { amount: total.amount, count: total.count };
            self.verifications.push(DaySum { day, chain: key.chain.clone(), state: key.outcome.clone(), sum });
        }
        for (network, states) in detail.settlements {
            for (state, sum) in states.into_iter().filter(|(_, sum)| sum.count > 0) {
                self.settlements.push(DaySum { day, chain: network.clone(), state, sum });
            }
        }
        for (hour, latencies) in detail.latency {
            let hour = hour_of(day.plus(u64::from(hour).saturating_mul(HOUR_MS)));
            if let Some((p50_ms, p95_ms)) = latencies.percentile(50).zip(latencies.percentile(95)) {
                self.latency.push(HourLatency { hour, count: latencies.count(), p50_ms, p95_ms });
            }
        }
        self.is_cut |= detail.is_cut;
        self.add_payers(detail.payers)
    }

    /// Adds the days of a later month.
    ///
    /// # Errors
    /// As [`MonthDays::add_day`].
    pub fn add_month(&mut self, later: Self) -> Result<(), Fault> {
        self.verifications.extend(later.verifications);
        self.settlements.extend(later.settlements);
        self.latency.extend(later.latency);
        self.is_cut |= later.is_cut;
        self.add_payers(later.payers)
    }

    fn add_payers(&mut self, payers: BTreeMap<String, PaymentSum>) -> Result<(), Fault> {
        for (payer, sum) in payers {
            let all = self.payers.entry(payer).or_default();
            *all = all.plus(sum)?;
        }
        Ok(())
    }

    /// So many payers, those who paid most first; of equal sums the one with more payments, then the least address.
    #[must_use]
    pub fn top_payers(&self, most: usize) -> Vec<(&str, PaymentSum)> {
        let mut top: BTreeMap<(PaymentSum, core::cmp::Reverse<&str>), ()> = BTreeMap::new();
        for (payer, sum) in &self.payers {
            top.insert((*sum, core::cmp::Reverse(payer)), ());
            if top.len() > most {
                top.pop_first();
            }
        }
        top.into_keys().rev().map(|(sum, payer)| (payer.0, sum)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use x402_chain::amount::Amount;

    #[test]
    fn days_are_cut_by_months() {
        let at = |text: &str| UnixMillis::parse(text).expect("a time");
        let span = DaySpan::until(at("2027-03-02T13:00:00Z"), 90);
        assert_eq!((span.from, span.to), (at("2026-12-03T00:00:00Z"), at("2027-03-03T00:00:00Z")));
        assert_eq!(span.days().count(), 90);
        let months = span.months();
        let names: Vec<String> = months.iter().map(|(month, _)| month.to_string()).collect();
        assert_eq!(names, ["2026-12", "2027-01", "2027-02", "2027-03"]);
        let all: Vec<UnixMillis> = months.iter().flat_map(|(_, days)| days.days_of_month()).collect();
        assert_eq!(all, span.days().collect::<Vec<_>>());
        let one = DaySpan::until(at("2026-12-01T00:00:00Z"), 1);
        assert_eq!(one.months(), [(Period::parse("2026-12").expect("a month"), one)]);
    }

    #[test]
    fn those_who_paid_most_come_first() {
        let sum = |amount: u64, count: u64| PaymentSum { amount: Amount::atomic(amount), count };
        let mut days = MonthDays::default();
        let payers = [("0xD", sum(5, 1)), ("0xA", sum(7, 1)), ("0xC", sum(5, 2)), ("0xB", sum(5, 1))];
        for (payer, sum) in payers {
            days.payers.insert(payer.to_owned(), sum);
        }
        let later = MonthDays { payers: [("0xB".to_owned(), sum(1, 1))].into(), is_cut: true, ..MonthDays::default() };
        days.add_month(later).expect("small");
        let all = [("0xA", sum(7, 1)), ("0xB", sum(6, 2)), ("0xC", sum(5, 2)), ("0xD", sum(5, 1))];
        for most in 0..6 {
            assert_eq!(days.top_payers(most), all[..most.min(4)]);
        }
        assert!(days.is_cut);
    }
}

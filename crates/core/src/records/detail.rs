//! What a month counts of each day beside its totals: how long verifications took, who has paid, and in which status
//! settlements are. It is exact as the totals are: what a record adds is taken back when a later revision of it adds
//! something else.

use super::latency::{Latencies, bucket_of};
use super::rollup::inexact;
use crate::error::Fault;
use crate::verification::answer::VerificationStatus;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use x402_chain::amount::Amount;
use x402_chain::id::{RequestId, SettlementId, VerificationId};
use x402_chain::time::{DAY_MS, UnixMillis};

/// The most payers of a day that are kept.
pub const PAYERS_MAX: usize = 2_000;
const HOUR_MS: u64 = 3_600_000;

/// A number of payments, and the sum of their amounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PaymentSum {
    /// The sum in atomic units. It comes first, so that sums are ordered by it.
    pub amount: Amount,
    /// How many.
    pub count: u64,
}

impl PaymentSum {
    /// Two sums together.
    ///
    /// # Errors
    /// `INTERNAL` where the amount has more than 256 bits.
    pub fn plus(self, other: Self) -> Result<Self, Fault> {
        let amount = self.amount.plus(other.amount).ok_or_else(inexact)?;
        Ok(Self { amount, count: self.count.saturating_add(other.count) })
    }

    /// The sum without one payment; `None` where it does not hold it.
    fn less(self, amount: Amount) -> Option<Self> {
        let count = self.count.checked_sub(1)?;
        (self.amount >= amount).then(|| Self { amount: self.amount.saturating_minus(amount), count })
    }
}

/// What a record adds to its day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordDetail {
    /// The hour of its day, and the bucket of its latency; `None` where the record names no request.
    latency: Option<(u8, u8)>,
    /// Who has paid, and how much; `None` unless the payment stands, and where it does not have exactly one payer.
    payment: Option<(String, Amount)>,
}

impl RecordDetail {
    /// Reads what a record adds. Its latency is the time from the arrival of its request, which the request's id holds,
    /// until its ledger has decided, which its own id holds.
    ///
    /// # Errors
    /// `INTERNAL` where the text is no record.
    pub fn read(id: VerificationId, record: &str) -> Result<Self, Fault> {
        #[derive(Deserialize)]
        struct Columns {
            status: VerificationStatus,
            amount: Option<Amount>,
            request_id: Option<String>,
            from_address: Option<String>,
        }
        let columns: Columns = serde_json::from_str(record).map_err(Fault::internal_json)?;
        let decided = id.created_at();
        let asked = columns.request_id.as_deref().and_then(RequestId::parse).map(RequestId::created_at);
        let hour = u8::try_from(decided.0 % DAY_MS / HOUR_MS).unwrap_or_default();
        let latency = asked.map(|asked| (hour, bucket_of(decided.since(asked))));
        let stands = matches!(columns.status, VerificationStatus::Confirmed | VerificationStatus::Finalized);
        let payment = columns.from_address.zip(columns.amount).filter(|_| stands);
        Ok(Self { latency, payment })
    }
}

/// A settlement as its month counts it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettlementState {
    /// The settlement.
    pub id: SettlementId,
    /// Counts its changes; a copy is replaced only by a higher one.
    pub revision: i64,
    /// The network's CAIP-2 id.
    pub network: String,
    /// The name of its status.
    pub status: String,
    /// Atomic units.
    pub amount: Amount,
}

impl SettlementState {
    /// Whether it adds the same to its day as another revision of it.
    #[must_use]
    pub fn adds_the_same(&self, other: &Self) -> bool {
        (&self.network, &self.status, self.amount) == (&other.network, &other.status, other.amount)
    }
}

/// What is counted of a day.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DayDetail {
    /// By hour of the day, how long verifications took.
    pub latency: BTreeMap<u8, Latencies>,
    /// By address, what was paid and stands; at most [`PAYERS_MAX`] after [`DayDetail::cut_payers`].
    pub payers: BTreeMap<String, PaymentSum>,
    /// Whether payers were left out: those with the smallest amounts so far.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub is_cut: bool,
    /// By network and status, the settlements that were reserved on this day.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settlements: BTreeMap<String, BTreeMap<String, PaymentSum>>,
}

impl DayDetail {
    /// Counts a record, and takes back what its earlier revision had added.
    ///
    /// # Errors
    /// `INTERNAL` where the day does not hold what is taken back.
    pub fn apply_record(&mut self, earlier: Option<&RecordDetail>, new: &RecordDetail) -> Result<(), Fault> {
        let was = earlier.and_then(|earlier| earlier.latency);
        if was != new.latency {
            if let Some((hour, bucket)) = was {
                let count = self.latency.get_mut(&hour).and_then(|hour| hour.0.get_mut(&bucket));
                let count = count.ok_or_else(inexact)?;
                *count = count.checked_sub(1).ok_or_else(inexact)?;
            }
            if let Some((hour, bucket)) = new.latency {
                let count = self.latency.entry(hour).or_default().0.entry(bucket).or_default();
                *count = count.saturating_add(1);
            }
        }
        let was = earlier.and_then(|earlier| earlier.payment.as_ref());
        if was != new.payment.as_ref() {
            if let Some((payer, amount)) = was {
                self.take_back(payer, *amount)?;
            }
            if let Some((payer, amount)) = &new.payment {
                self.add_payment(payer, *amount)?;
            }
        }
        Ok(())
    }

    fn add_payment(&mut self, payer: &str, amount: Amount) -> Result<(), Fault> {
        let sum = self.payers.entry(payer.to_owned()).or_default();
        *sum = sum.plus(PaymentSum { amount, count: 1 })?;
        Ok(())
    }

    /// Leaves out the payers with the smallest sums, where there are more than are kept.
    pub fn cut_payers(&mut self) {
        let excess = self.payers.len().saturating_sub(PAYERS_MAX);
        if excess == 0 {
            return;
        }
        let mut least: BTreeSet<(PaymentSum, &String)> = BTreeSet::new();
        for (payer, sum) in &self.payers {
            least.insert((*sum, payer));
            if least.len() > excess {
                least.pop_last();
            }
        }
        let least: Vec<String> = least.into_iter().map(|(_, payer)| payer.clone()).collect();
        for payer in &least {
            self.payers.remove(payer);
        }
        self.is_cut = true;
    }

    fn take_back(&mut self, payer: &str, amount: Amount) -> Result<(), Fault> {
        let left = self.payers.get(payer).map(|sum| sum.less(amount));
        match left {
            Some(Some(sum)) if sum.count > 0 => _ = self.payers.insert(payer.to_owned(), sum),
            Some(Some(_)) => _ = self.payers.remove(payer),
            // A part of what the payer has paid was left out.
            Some(None) if self.is_cut => _ = self.payers.remove(payer),
            None if self.is_cut => {}
            Some(None) | None => return Err(inexact()),
        }
        Ok(())
    }

    /// Counts a settlement, and takes back what its earlier revision had added.
    ///
    /// # Errors
    /// `INTERNAL` where the day does not hold what is taken back.
    pub fn apply_settlement(&mut self, earlier: Option<&SettlementState>, new: &SettlementState) -> Result<(), Fault> {
        if let Some(earlier) = earlier {
            let sum = self.settlements.get_mut(&earlier.network).and_then(|of| of.get_mut(&earlier.status));
            let sum = sum.ok_or_else(inexact)?;
            *sum = sum.less(earlier.amount).ok_or_else(inexact)?;
        }
        let of_network = self.settlements.entry(new.network.clone()).or_default();
        let sum = of_network.entry(new.status.clone()).or_default();
        *sum = sum.plus(PaymentSum { amount: new.amount, count: 1 })?;
        Ok(())
    }
}

/// How far the records of a month are counted that an older build has stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountingProgress {
    /// The last record that is counted, empty at first; `None`: all are.
    pub after: Option<String>,
}

impl CountingProgress {
    /// Whether a record's changes are counted as they are stored. One that is not counted yet is counted as it is then.
    #[must_use]
    pub fn counts(&self, id: &str) -> bool {
        self.after.as_ref().is_none_or(|after| id <= after.as_str())
    }
}

/// The start of the day of a settlement: that of its id.
#[must_use]
pub fn day_of_settlement(id: SettlementId) -> UnixMillis {
    super::rollup::day_of(id.created_at())
}

#[cfg(test)]
mod tests;

//! The daily budget (UTC) of a tenant's settlements, by network: reserved at the worst price before anything is signed,
//! charged from receipts when the end is known. Failed settlements have a smaller share of their own.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
pub use x402_chain::network::TenantBudget;
use x402_chain::time::UnixMillis;

/// What a mined transaction cost its signer, in the chain's smallest unit (wei, lamports).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionCost {
    /// Everything that the chain took, the layer 1 fee included.
    pub total: u128,
    /// The layer 1 fee of an OP-stack chain (`l1Fee` of the receipt).
    pub l1_fee: u128,
}

impl TransactionCost {
    /// The sum of two costs.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self { total: self.total.saturating_add(other.total), l1_fee: self.l1_fee.saturating_add(other.l1_fee) }
    }
}

/// The budget reserved for one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReservedBudget {
    /// The day, counted from 1970-01-01.
    pub day: u64,
    /// The amount, in the chain's smallest unit.
    pub amount: u128,
    /// The part that counts as failed until the end is known.
    #[serde(default)]
    pub risked: u128,
}

/// The budget that an attempt asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BudgetRequest {
    /// The most that it may cost, in the chain's smallest unit.
    pub worst: u128,
    /// Whether its payer has completed a settlement with this seller.
    pub has_paid: bool,
}

/// The end of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndedAttempt {
    /// What was reserved for it.
    pub reserve: Option<ReservedBudget>,
    /// What it cost; `None` where nothing was mined.
    pub spent: Option<TransactionCost>,
    /// Whether it moved nothing.
    pub failed: bool,
}

/// What the attempts of one settlement cost on a day, as it is kept with the settlement: the sums of a ledger that is rebuilt are
/// made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DayCosts {
    /// The day, counted from 1970-01-01.
    pub day: u64,
    /// What they cost, in the chain's smallest unit.
    pub charged: u128,
    /// The part of it that moved nothing.
    pub failed: u128,
    /// The last layer 1 fee of an OP-stack chain.
    pub l1_fee: u128,
}

impl DayCosts {
    /// The costs with those of one more attempt. Those of an earlier day count no more.
    #[must_use]
    pub fn with(before: Option<Self>, ended: EndedAttempt, now: UnixMillis) -> Option<Self> {
        let Some(spent) = ended.spent else { return before };
        let day = now.day();
        let new = Self { day, charged: 0, failed: 0, l1_fee: 0 };
        let so_far = before.filter(|before| before.day == day).unwrap_or(new);
        Some(Self {
            day,
            charged: so_far.charged.saturating_add(spent.total),
            failed: so_far.failed.saturating_add(if ended.failed { spent.total } else { 0 }),
            l1_fee: if spent.l1_fee > 0 { spent.l1_fee } else { so_far.l1_fee },
        })
    }
}

/// What one network's settlements have reserved and spent in a day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct NetworkSpending {
    reserved: u128,
    charged: u128,
    failed: u128,
    /// The reserved part for payers who have not completed a settlement.
    #[serde(default)]
    risked: u128,
}

/// A tenant's spending today, by the registry's short key of the network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantSpending {
    day: u64,
    used: BTreeMap<String, NetworkSpending>,
    /// The last layer 1 fee of an OP-stack chain.
    l1_fees: BTreeMap<String, u128>,
}

impl TenantSpending {
    fn spent_today(&self, network: &str, now: UnixMillis) -> NetworkSpending {
        if self.day == now.day() {
            self.used.get(network).copied().unwrap_or_default()
        } else {
            NetworkSpending::default()
        }
    }

    fn enter_day(&mut self, network: &str, now: UnixMillis) -> &mut NetworkSpending {
        let day = now.day();
        if self.day != day {
            self.day = day;
            self.used.clear();
        }
        self.used.entry(network.to_owned()).or_default()
    }

    /// Reserves budget for an attempt, plus twice the last layer 1 fee. Attempts of payers who have not completed a
    /// settlement with this seller count as failed until they end: beyond the share of failures they are launched one
    /// at a time.
    ///
    /// # Errors
    /// A sentence, where the day's budget does not suffice.
    pub(crate) fn reserve(
        &mut self,
        network: &str,
        ask: BudgetRequest,
        budget: TenantBudget,
        now: UnixMillis,
    ) -> Result<ReservedBudget, &'static str> {
        let l1_fee = self.l1_fees.get(network).copied().unwrap_or(0).saturating_mul(2);
        let amount = ask.worst.saturating_add(l1_fee);
        let used = self.enter_day(network, now);
        let all = used.reserved.saturating_add(used.charged).saturating_add(amount);
        if all > budget.day {
            return Err("this seller's daily budget for settlements on this network is used up");
        }
        let risk = used.failed.saturating_add(used.risked).saturating_add(amount);
        if !ask.has_paid && used.risked > 0 && risk > budget.failed {
            return Err("payers who have not paid this seller before are served one at a time now");
        }
        used.reserved = used.reserved.saturating_add(amount);
        let risked = if ask.has_paid { 0 } else { amount };
        used.risked = used.risked.saturating_add(risked);
        Ok(ReservedBudget { day: now.day(), amount, risked })
    }

    /// Ends an attempt: its reserve is freed, its cost is charged.
    pub fn end_attempt(&mut self, network: &str, ended: EndedAttempt, now: UnixMillis) {
        let EndedAttempt { reserve, spent, failed } = ended;
        let day = now.day();
        let used = self.enter_day(network, now);
        if let Some(reserve) = reserve.filter(|reserve| reserve.day == day) {
            used.reserved = used.reserved.saturating_sub(reserve.amount);
            used.risked = used.risked.saturating_sub(reserve.risked);
        }
        let Some(spent) = spent else { return };
        used.charged = used.charged.saturating_add(spent.total);
        if failed {
            used.failed = used.failed.saturating_add(spent.total);
        }
        if spent.l1_fee > 0 {
            self.l1_fees.insert(network.to_owned(), spent.l1_fee);
        }
    }

    /// Counts again what a settlement has cost, and what is reserved for it.
    pub fn restore(
        &mut self,
        network: &str,
        (costs, reserve): (Option<DayCosts>, Option<ReservedBudget>),
        now: UnixMillis,
    ) {
        let day = now.day();
        let used = self.enter_day(network, now);
        if let Some(reserve) = reserve.filter(|reserve| reserve.day == day) {
            used.reserved = used.reserved.saturating_add(reserve.amount);
            used.risked = used.risked.saturating_add(reserve.risked);
        }
        let Some(costs) = costs.filter(|costs| costs.day == day) else { return };
        used.charged = used.charged.saturating_add(costs.charged);
        used.failed = used.failed.saturating_add(costs.failed);
        if costs.l1_fee > 0 {
            self.l1_fees.entry(network.to_owned()).or_insert(costs.l1_fee);
        }
    }

    /// Whether failed settlements have used up their share of the budget today.
    #[must_use]
    pub fn is_failure_share_used(&self, network: &str, budget: TenantBudget, now: UnixMillis) -> bool {
        let failed = self.spent_today(network, now).failed;
        failed > 0 && failed >= budget.failed
    }

    /// Whether budget is reserved for an attempt that has not ended.
    #[must_use]
    pub(crate) fn has_reserved(&self, network: &str, now: UnixMillis) -> bool {
        self.spent_today(network, now).reserved > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use x402_chain::time::DAY_MS;

    const NOW: UnixMillis = UnixMillis(1_795_000_000_000);
    const BUDGET: TenantBudget = TenantBudget { day: 100, failed: 10 };

    const fn paid(worst: u128) -> BudgetRequest {
        BudgetRequest { worst, has_paid: true }
    }

    #[test]
    fn strangers_are_counted_as_failures_until_they_have_paid() {
        let mut spending = TenantSpending::default();
        let mut ask = |worst, has_paid| spending.reserve("base", BudgetRequest { worst, has_paid }, BUDGET, NOW);
        // Beyond the share of 10 they go one at a time, the first whatever it may cost.
        let first = ask(20, false).expect("the first");
        assert!(ask(1, false).is_err() && ask(20, true).is_ok());
        spending.end_attempt("base", ended(Some(first), TransactionCost { total: 2, l1_fee: 0 }, true), NOW);
        let mut ask = |worst| spending.reserve("base", BudgetRequest { worst, has_paid: false }, BUDGET, NOW);
        assert!(ask(4).is_ok() && ask(4).is_ok() && ask(1).is_err());
    }

    const fn ended(reserve: Option<ReservedBudget>, spent: TransactionCost, failed: bool) -> EndedAttempt {
        EndedAttempt { reserve, spent: Some(spent), failed }
    }

    #[test]
    fn a_day_holds_what_is_reserved_and_what_was_charged() {
        let mut spending = TenantSpending::default();
        let first = spending.reserve("base", paid(60), BUDGET, NOW).expect("within the day");
        assert!(spending.reserve("base", paid(60), BUDGET, NOW).is_err());
        assert!(spending.reserve("polygon", paid(60), BUDGET, NOW).is_ok());
        spending.end_attempt("base", ended(Some(first), TransactionCost { total: 7, l1_fee: 2 }, false), NOW);
        assert!(!spending.has_reserved("base", NOW) && spending.has_reserved("polygon", NOW));
        // 7 charged, 80 and twice the layer 1's fee of 2 reserved.
        assert!(spending.reserve("base", paid(90), BUDGET, NOW).is_err());
        assert_eq!(spending.reserve("base", paid(80), BUDGET, NOW).map(|reserve| reserve.amount), Ok(84));
        assert!(spending.reserve("base", paid(60), BUDGET, NOW.plus(DAY_MS)).is_ok());
    }

    #[test]
    fn what_was_spent_today_is_counted_again_of_each_settlement() {
        let mut spending = TenantSpending::default();
        let mut kept = Vec::new();
        for (worst, total, failed) in [(60, 7, false), (20, 3, true)] {
            let reserve = spending.reserve("base", paid(worst), BUDGET, NOW).expect("within the day");
            let ended = ended(Some(reserve), TransactionCost { total, l1_fee: 2 }, failed);
            spending.end_attempt("base", ended, NOW);
            kept.push((DayCosts::with(None, ended, NOW), None));
        }
        let open = spending.reserve("base", paid(5), BUDGET, NOW).expect("within the day");
        kept.push((None, Some(open)));
        let rebuilt = |now: UnixMillis| {
            let mut rebuilt = TenantSpending::default();
            for kept in &kept {
                rebuilt.restore("base", *kept, now);
            }
            rebuilt
        };
        assert_eq!(rebuilt(NOW), spending);
        // Of an earlier day nothing counts.
        let next = NOW.plus(DAY_MS);
        assert_eq!(rebuilt(next).spent_today("base", next), NetworkSpending::default());
        // A second attempt of a settlement adds to the first, on the same day.
        let again = ended(None, TransactionCost { total: 4, l1_fee: 0 }, true);
        let sums = |costs: Option<DayCosts>| costs.map(|costs| (costs.charged, costs.failed, costs.l1_fee));
        let first = kept.first().and_then(|(costs, _)| *costs);
        assert_eq!(sums(DayCosts::with(first, again, NOW)), Some((11, 4, 2)));
        assert_eq!(sums(DayCosts::with(first, again, next)), Some((4, 4, 0)));
        assert_eq!(DayCosts::with(first, EndedAttempt { spent: None, ..again }, NOW), first);
    }

    #[test]
    fn failures_have_a_share_of_their_own() {
        let mut spending = TenantSpending::default();
        assert!(!spending.is_failure_share_used("base", TenantBudget { day: 100, failed: 0 }, NOW));
        for (spent, failing) in [(6, false), (4, true)] {
            let reserve = spending.reserve("base", paid(20), BUDGET, NOW).ok();
            spending.end_attempt("base", ended(reserve, TransactionCost { total: spent, l1_fee: 0 }, true), NOW);
            assert_eq!(spending.is_failure_share_used("base", BUDGET, NOW), failing);
        }
        assert!(
            !spending.is_failure_share_used("polygon", BUDGET, NOW)
                && !spending.is_failure_share_used("base", BUDGET, NOW.plus(DAY_MS))
        );
    }

    #[test]
    fn large_amounts_are_written_and_read_back() {
        let mut spending = TenantSpending::default();
        let budget = TenantBudget { day: u128::MAX, failed: 1 };
        spending.reserve("base", paid(u128::from(u64::MAX).saturating_mul(1_000_000)), budget, NOW).expect("fits");
        let text = serde_json::to_string(&(&spending, budget)).expect("writes");
        assert_eq!(serde_json::from_str::<(TenantSpending, TenantBudget)>(&text).expect("reads"), (spending, budget));
    }

    proptest! {
        #[test]
        fn never_more_than_the_day_is_reserved_and_charged(steps in proptest::collection::vec((1_u128..40, 0_u128..40, any::<bool>()), 1..60)) {
            let (mut spending, mut open) = (TenantSpending::default(), Vec::new());
            for (worst, spent, ends) in steps {
                if let Ok(reserve) = spending.reserve("base", paid(worst), BUDGET, NOW) {
                    open.push(reserve);
                }
                if ends && let Some(reserve) = open.pop() {
                    let spent = TransactionCost { total: spent.min(reserve.amount), l1_fee: 0 };
                    spending.end_attempt("base", ended(Some(reserve), spent, spent.total.is_multiple_of(2)), NOW);
                }
                let used = spending.spent_today("base", NOW);
                prop_assert!(used.reserved.saturating_add(used.charged) <= BUDGET.day);
                prop_assert_eq!(used.reserved, open.iter().map(|reserve| reserve.amount).sum::<u128>());
            }
        }
    }
}

//! The daily budget (UTC) of a signer: what was spent, and the open flights at their worst price, stay within it before
//! anything is signed.

use super::{Flight, FlightPayload};
use crate::tenancy::budget::TransactionCost;
use serde::{Deserialize, Serialize};
use x402_chain::network::Network;
use x402_chain::svm::fee::fee_lamports;
use x402_chain::svm::wire::SvmTransaction;
use x402_chain::time::UnixMillis;

/// What was spent in a day, in the chain's smallest unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignerSpending {
    /// The day, counted from 1970-01-01.
    pub day: u64,
    /// For all tenants, in the chain's smallest unit.
    pub total: u128,
    /// The part of it for sellers whose tier is free.
    pub free: u128,
    /// The layer 1 fee of the last transaction (OP stack): the gas price does not limit it.
    pub l1_fee: u128,
}

/// The most that may be spent in a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignerBudget {
    /// The most that this signer may spend in a day, in the chain's smallest unit.
    pub signer: u128,
    /// The part of it for sellers whose tier is free.
    pub free: u128,
}

/// The most that flights may still cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorstCost {
    /// Of all tenants, in the chain's smallest unit.
    pub total: u128,
    /// The part of it for sellers whose tier is free.
    pub free: u128,
}

impl WorstCost {
    /// The totals with one more flight.
    #[must_use]
    pub(crate) const fn plus(self, cost: u128, free: bool) -> Self {
        let more = if free { cost } else { 0 };
        Self { total: self.total.saturating_add(cost), free: self.free.saturating_add(more) }
    }
}

impl SignerSpending {
    /// The spending of today: on a new day nothing is spent.
    #[must_use]
    pub fn today(self, now: UnixMillis) -> Self {
        let day = now.day();
        if self.day == day { self } else { Self { day, l1_fee: self.l1_fee, ..Self::default() } }
    }

    /// Adds the cost of a transaction.
    #[must_use]
    pub fn charged(self, spent: TransactionCost, free: bool, now: UnixMillis) -> Self {
        let today = self.today(now);
        let more = if free { spent.total } else { 0 };
        let l1_fee = if spent.l1_fee > 0 { spent.l1_fee } else { today.l1_fee };
        Self { total: today.total.saturating_add(spent.total), free: today.free.saturating_add(more), l1_fee, ..today }
    }

    /// Takes back the charge for a transaction that no node has.
    #[must_use]
    pub fn uncharged(self, spent: TransactionCost) -> Self {
        Self { total: self.total.saturating_sub(spent.total), ..self }
    }

    /// The most that a flight may still cost, in the chain's smallest unit. The layer 1 fee is taken as twice the last
    /// one. A Solana transaction that cannot be read counts at the network's cap.
    #[must_use]
    pub(crate) fn worst_cost(&self, flight: &Flight, network: &Network) -> u128 {
        match &flight.cargo {
            FlightPayload::Evm(message) => {
                let gas = u128::from(message.gas_limit).saturating_mul(flight.cap_wei(network));
                gas.saturating_add(self.l1_fee.saturating_mul(2))
            }
            FlightPayload::Svm(text) => SvmTransaction::read(text).map_or_else(
                || network.settle.map_or(0, |settle| settle.worst_cost()),
                |transaction| fee_lamports(&transaction).into(),
            ),
        }
    }

    /// Whether the budget covers one more flight beside the open ones.
    #[must_use]
    pub(crate) fn allows(&self, open: WorstCost, cost: u128, free: bool, budget: SignerBudget) -> bool {
        let then = open.plus(cost, free);
        let total = self.total.saturating_add(then.total);
        let of_free = self.free.saturating_add(then.free);
        total <= budget.signer && (!free || of_free <= budget.free)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settlement::flight::tests::flight;
    use x402_chain::network::by_key;
    use x402_chain::time::DAY_MS;

    const NOW: UnixMillis = UnixMillis(20_000 * DAY_MS + 5);

    #[test]
    fn a_day_ends_and_what_layer_1_took_is_remembered() {
        let spent = TransactionCost { total: 70, l1_fee: 20 };
        let day = SignerSpending::default().charged(spent, false, NOW).charged(spent, true, NOW);
        assert_eq!(day, SignerSpending { day: 20_000, total: 140, free: 70, l1_fee: 20 });
        assert_eq!(day.charged(TransactionCost { total: 1, l1_fee: 0 }, false, NOW).l1_fee, 20);
        assert_eq!(day.today(NOW.plus(DAY_MS)), SignerSpending { day: 20_001, total: 0, free: 0, l1_fee: 20 });
        assert_eq!(day.today(NOW), day);
        assert_eq!(day.uncharged(spent), SignerSpending { total: 70, ..day });
        assert_eq!(day.uncharged(TransactionCost { total: 141, l1_fee: 0 }).total, 0);
    }

    #[test]
    fn an_open_flight_counts_at_its_worst_cost() {
        let base = by_key("base").expect("registered");
        let spending = SignerSpending { l1_fee: 7, ..SignerSpending::default() };
        let mut flight = flight();
        // 100,000 gas at the registry's 5 gwei, and layer 1 twice.
        assert_eq!(spending.worst_cost(&flight, base), 500_000_000_000_014);
        flight.max_fee_wei = Some(10);
        assert_eq!(spending.worst_cost(&flight, base), 1_000_014);
        // A transaction that cannot be read counts at the network's cap.
        flight.cargo = FlightPayload::Svm("nonsense".to_owned());
        assert_eq!(spending.worst_cost(&flight, by_key("solana").expect("registered")), 20_000);
    }

    #[test]
    fn nothing_is_launched_beyond_either_bound() {
        let spending = SignerSpending { total: 50, free: 10, ..SignerSpending::default() };
        let budget = SignerBudget { signer: 100, free: 30 };
        let open = WorstCost::default().plus(20, false).plus(10, true);
        assert!(spending.allows(open, 20, false, budget) && !spending.allows(open, 21, false, budget));
        assert!(spending.allows(open, 10, true, budget) && !spending.allows(open, 11, true, budget));
        // Sellers who pay are not held up by those who do not.
        let free_is_used_up = SignerSpending { total: 50, free: 40, ..SignerSpending::default() };
        assert!(free_is_used_up.allows(open, 5, false, budget) && !free_is_used_up.allows(open, 5, true, budget));
        assert!(!spending.allows(WorstCost::default(), u128::MAX, false, budget));
    }
}

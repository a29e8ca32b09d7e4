//! Signer, gas limit and price of a transaction of ours: it is simulated with those with which it is sent.

use crate::address::Address;
use serde::{Deserialize, Serialize};

/// The price of a unit of gas, wei.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GasPrice {
    /// The maximum fee; of a legacy transaction the gas price.
    pub max_wei: u128,
    /// The part of it that the block's producer gets at most.
    pub tip_wei: u128,
}

impl GasPrice {
    /// The price at which a node replaces a transaction of this price: an eighth more. `None` above `cap_wei`.
    #[must_use]
    pub fn raised_by_an_eighth(self, cap_wei: u128) -> Option<Self> {
        let more = |wei: u128| wei.saturating_add(wei.div_ceil(8)).saturating_add(1);
        let bumped = Self { max_wei: more(self.max_wei), tip_wei: more(self.tip_wei) };
        (bumped.max_wei <= cap_wei).then_some(bumped)
    }
}

/// The signer, gas limit and price with which a transaction would be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionSender {
    /// The address of the signer.
    pub address: Address,
    /// The gas limit (EVM).
    pub gas_limit: Option<u64>,
    /// The price of a unit of gas (EVM); `None` where no signer would send it, or no node reports a price.
    pub price: Option<GasPrice>,
}

//! Who sends a transaction of ours, and at what price: what is simulated is what is sent.

use crate::address::Address;
use serde::{Deserialize, Serialize};

/// What a unit of gas may cost, wei.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GasPrice {
    /// The most in all; the only number of a legacy transaction.
    pub max_wei: u128,
    /// Of it, the most for the block's maker.
    pub tip_wei: u128,
}

impl GasPrice {
    /// A price that a node takes in place of this one: an eighth more, within the cap.
    #[must_use]
    pub fn raised_by_an_eighth(self, cap_wei: u128) -> Option<Self> {
        let more = |wei: u128| wei.saturating_add(wei.div_ceil(8)).saturating_add(1);
        let bumped = Self { max_wei: more(self.max_wei), tip_wei: more(self.tip_wei) };
        (bumped.max_wei <= cap_wei).then_some(bumped)
    }
}

/// Who would send the transaction, and how: what is simulated is what is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionSender {
    /// The address of the signer.
    pub address: Address,
    /// The most gas that it may use (EVM).
    pub gas_limit: Option<u64>,
    /// What a unit of gas may cost (EVM); `None` where nobody would send it, or no node names a price.
    pub price: Option<GasPrice>,
}

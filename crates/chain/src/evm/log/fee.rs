//! Gas that is paid in the registered token (Celo, CIP-64): which of a receipt's logs are the fee.
//!
//! The chain calls the token before and after the transaction's own work. Circle's contract logs each
//! call as transfers: first the most that the gas may cost, from the sender to the zero address
//! (`debitGasFees`); at the very end the same amount back, then the tip and the base fee from the
//! sender to those who earn them (`creditGasFees`). None of it is a payment, and none is passed on.

use super::super::receipt::EvmReceipt;
use super::{EvmLog, TransferEvent, read_transfer};
use crate::address::Address;
use crate::collect::set_of;
use crate::facts::Undecided;
use crate::network::Network;
use std::collections::BTreeSet;

/// The indexes of the fee's logs; none where the chain takes no gas in the token. `logs` are all logs of the receipt,
/// by index.
///
/// # Errors
/// `receipt_without_sender`: nobody can say then what the fee is. `malformed_log`.
pub(super) fn fee_log_indexes(
    network: &Network,
    receipt: &EvmReceipt<'_>,
    logs: &[EvmLog<'_>],
) -> Result<BTreeSet<u64>, Undecided> {
    if !network.asset.pays_gas {
        return Ok(BTreeSet::new());
    }
    let sender = receipt.from.ok_or_else(|| Undecided::malformed("receipt_without_sender"))?;
    let moved = |log: &EvmLog<'_>| if log.address == network.asset.address { read_transfer(log) } else { Ok(None) };
    let all: Vec<(u64, Option<TransferEvent>)> =
        logs.iter().map(|log| Ok((log.index, moved(log)?))).collect::<Result<_, Undecided>>()?;
    let reserve = |moved: &TransferEvent| moved.is_reserved_by(&sender) || moved.is_returned_to(&sender);
    let reserves = all.iter().filter(|(_, moved)| moved.as_ref().is_some_and(reserve)).map(|(index, _)| *index);
    Ok(set_of(reserves.chain(fee_share_indexes(&all, &sender))))
}

/// The receivers of the fee: the last two logs, if they follow the return of a whole reserve and do not exceed it.
fn fee_share_indexes(all: &[(u64, Option<TransferEvent>)], sender: &Address) -> Vec<u64> {
    let [.., (_, Some(returned)), (tip_at, Some(tip)), (base_at, Some(base))] = all else { return Vec::new() };
    let is_reserve = |moved: &TransferEvent| moved.is_reserved_by(sender) && moved.value == returned.value;
    let is_whole =
        returned.is_returned_to(sender) && all.iter().any(|(_, moved)| moved.as_ref().is_some_and(is_reserve));
    let is_shared = tip.from == *sender && base.from == *sender;
    let fits = tip.value.checked_add(base.value).is_some_and(|fee| fee <= returned.value);
    if is_whole && is_shared && fits { vec![*tip_at, *base_at] } else { Vec::new() }
}

impl TransferEvent {
    fn is_reserved_by(&self, sender: &Address) -> bool {
        self.from == *sender && self.to.is_zero()
    }

    fn is_returned_to(&self, sender: &Address) -> bool {
        self.from.is_zero() && self.to == *sender
    }
}

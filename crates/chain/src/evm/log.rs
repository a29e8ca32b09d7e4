//! A receipt's logs, and which of them move the registered asset (docs/spec/chains.md#evm-3,
//! #evm-8 to #evm-12, #evm-18, #evm-19, #evm-23).
//!
//! A log that contradicts its receipt makes the answer malformed. A sound log of another shape is another event and is
//! skipped.

mod fee;

use super::quantity;
use super::receipt::EvmReceipt;
use crate::address::Address;
use crate::amount::Amount;
use crate::evm::token;
use crate::facts::Undecided;
use crate::network::Network;
use crate::trace::{DETAILS_MAX, ForeignTransfer, Transfer, TransferLocation, UsedAuthorization, ZeroTransfer};
use alloy_primitives::{B256, U256};
use alloy_sol_types::SolEvent;
use serde::Deserialize;

/// The topic of `Transfer(address,address,uint256)` (ERC-20).
const TRANSFER: B256 = token::Transfer::SIGNATURE_HASH;

/// The topic of `AuthorizationUsed(address,bytes32)` (EIP-3009).
pub(super) const AUTHORIZATION_USED: B256 = token::AuthorizationUsed::SIGNATURE_HASH;

/// What a receipt's logs show.
#[derive(Default)]
pub(super) struct LogMovements {
    /// All movements of the registered asset but for the transaction's fee, by log index.
    pub(super) transfers: Vec<Transfer>,
    /// Movements of other tokens: those the registry can name first, then by
    /// log index, at most [`DETAILS_MAX`].
    pub(super) foreign: Vec<ForeignTransfer>,
    /// Transfers of zero, by log index, at most [`DETAILS_MAX`].
    pub(super) zero: Vec<ZeroTransfer>,
    /// All authorizations that were used: a payment may be bound to any of them.
    pub(super) authorizations: Vec<UsedAuthorization>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogJson<'a> {
    #[serde(borrow)]
    address: &'a str,
    #[serde(borrow)]
    topics: Vec<&'a str>,
    #[serde(borrow)]
    data: &'a str,
    #[serde(borrow)]
    log_index: &'a str,
    #[serde(borrow)]
    block_hash: &'a str,
    #[serde(borrow)]
    block_number: Option<&'a str>,
    #[serde(borrow)]
    transaction_hash: &'a str,
    removed: Option<bool>,
}

/// A log of this receipt.
struct EvmLog<'a> {
    index: u64,
    address: Address,
    topics: Vec<B256>,
    data: &'a str,
}

/// An event in the form of an ERC-20 transfer, of any contract.
struct TransferEvent {
    from: Address,
    to: Address,
    value: U256,
}

/// Reads the logs of an executed transaction.
///
/// # Errors
/// `malformed_log`, `malformed_quantity`, `log_of_another_transaction`,
/// `log_of_another_block`, `duplicate_log`, `receipt_without_sender`.
pub(super) fn read_movements(network: &Network, receipt: &EvmReceipt<'_>) -> Result<LogMovements, Undecided> {
    let logs = read_logs(receipt)?;
    let fee = fee::fee_log_indexes(network, receipt, &logs)?;
    let mut out = LogMovements::default();
    let mut named = Vec::new();
    let mut of_token = Vec::new();
    for log in &logs {
        let is_token = log.address == network.asset.address;
        let ordinal = u64::try_from(of_token.len()).unwrap_or(u64::MAX);
        if let Some(moved) = read_transfer(log)? {
            if fee.contains(&log.index) {
                of_token.push(NeighbourLog::Other);
            } else if is_token {
                out.add_transfer(log.index, ordinal, &moved);
                of_token.push(NeighbourLog::Transfer { ordinal, from: moved.from });
            } else if !moved.value.is_zero() {
                let bridged = network.bridged.iter().find(|bridged| bridged.address == log.address);
                let list = if bridged.is_some() { &mut named } else { &mut out.foreign };
                push_bounded(list, foreign_transfer(log.address, bridged.map(|bridged| bridged.name), &moved));
            }
        } else if is_token {
            match read_used_authorization(log) {
                Some(authorization) => {
                    of_token.push(NeighbourLog::Authorization { at: out.authorizations.len() });
                    out.authorizations.push(authorization);
                }
                None => of_token.push(NeighbourLog::Other),
            }
        }
    }
    pair_authorizations(&of_token, &mut out.authorizations);
    named.append(&mut out.foreign);
    named.truncate(DETAILS_MAX);
    out.foreign = named;
    Ok(out)
}

/// A log of the registered contract, beside its neighbours.
enum NeighbourLog {
    Transfer {
        ordinal: u64,
        from: Address,
    },
    /// With its position among the authorizations.
    Authorization {
        at: usize,
    },
    Other,
}

/// Assigns to each authorization the one transfer from its authorizer next to it. A transfer serves one authorization:
/// in a row of several, each takes what the others leave, as long as one has a single choice. An authorization with two
/// choices left gets none.
fn pair_authorizations(of_token: &[NeighbourLog], authorizations: &mut [UsedAuthorization]) {
    let beside = |index: Option<usize>, authorizer: Address| match of_token.get(index?)? {
        NeighbourLog::Transfer { ordinal, from } if *from == authorizer => Some(*ordinal),
        NeighbourLog::Transfer { .. } | NeighbourLog::Authorization { .. } | NeighbourLog::Other => None,
    };
    let mut open: Vec<(usize, Vec<u64>)> = Vec::new();
    for (index, log) in of_token.iter().enumerate() {
        let NeighbourLog::Authorization { at } = log else { continue };
        let Some(authorizer) = authorizations.get(*at).map(|used| used.authorizer) else { continue };
        let around = [beside(index.checked_sub(1), authorizer), beside(index.checked_add(1), authorizer)];
        open.push((*at, around.into_iter().flatten().collect()));
    }
    while let Some(found) = open.iter().position(|(_, choices)| choices.len() == 1) {
        let (at, choices) = open.swap_remove(found);
        for (_, others) in &mut open {
            others.retain(|ordinal| !choices.contains(ordinal));
        }
        if let Some(used) = authorizations.get_mut(at) {
            used.transfer = choices.first().copied();
        }
    }
}

impl LogMovements {
    /// #evm-10: anybody can emit a transfer of zero in any address's name.
    fn add_transfer(&mut self, index: u64, ordinal: u64, moved: &TransferEvent) {
        if moved.value.is_zero() {
            push_bounded(&mut self.zero, ZeroTransfer { from: moved.from, to: moved.to });
        } else {
            self.transfers.push(Transfer {
                place: TransferLocation::LogIndex(index),
                ordinal,
                from: Some(moved.from),
                to: Some(moved.to),
                amount: Amount(moved.value),
            });
        }
    }
}

fn push_bounded<T>(list: &mut Vec<T>, item: T) {
    if list.len() < DETAILS_MAX {
        list.push(item);
    }
}

fn foreign_transfer(asset: Address, name: Option<&str>, moved: &TransferEvent) -> ForeignTransfer {
    ForeignTransfer {
        asset,
        name: name.map(str::to_owned),
        from: Some(moved.from),
        to: Some(moved.to),
        amount: Amount(moved.value),
    }
}

/// The receipt's own logs, by index. A log listed twice would count twice, and a log of another transaction would count
/// here.
fn read_logs<'a>(receipt: &EvmReceipt<'a>) -> Result<Vec<EvmLog<'a>>, Undecided> {
    let wire: Vec<LogJson<'a>> =
        serde_json::from_str(receipt.logs.get()).map_err(|error| malformed(&error.to_string()))?;
    let mut logs = Vec::with_capacity(wire.len());
    for wire in wire {
        // #evm-23: only subscriptions report removed logs; a removed log did not happen.
        if wire.removed == Some(true) {
            continue;
        }
        if receipt.of_block && quantity::hash(wire.transaction_hash).is_some_and(|hash| hash != receipt.hash) {
            continue;
        }
        logs.push(read_log(receipt, wire)?);
    }
    logs.sort_unstable_by_key(|log| log.index);
    if logs.windows(2).any(|pair| matches!(pair, [a, b] if a.index == b.index)) {
        return Err(Undecided::malformed("duplicate_log"));
    }
    Ok(logs)
}

fn read_log<'a>(receipt: &EvmReceipt<'_>, wire: LogJson<'a>) -> Result<EvmLog<'a>, Undecided> {
    let hash = |text: &str| quantity::hash(text).ok_or_else(|| malformed(text));
    if hash(wire.transaction_hash)? != receipt.hash {
        return Err(Undecided::malformed("log_of_another_transaction"));
    }
    let number = wire.block_number.map(quantity::number).transpose()?;
    let block_hash = hash(wire.block_hash)?;
    let same_block = receipt.block.is_some_and(|(n, h)| h == block_hash && number.is_none_or(|number| number == n));
    if !same_block {
        return Err(Undecided::malformed("log_of_another_block"));
    }
    Ok(EvmLog {
        index: quantity::number(wire.log_index)?,
        address: Address::Evm(quantity::address(wire.address).ok_or_else(|| malformed(wire.address))?),
        topics: wire.topics.into_iter().map(hash).collect::<Result<_, _>>()?,
        data: wire.data,
    })
}

/// #evm-9: three topics, addresses in twenty bytes, a value of one word.
fn read_transfer(log: &EvmLog<'_>) -> Result<Option<TransferEvent>, Undecided> {
    let [TRANSFER, from, to] = log.topics.as_slice() else {
        return Ok(None);
    };
    let data = quantity::bytes(log.data).ok_or_else(|| malformed(log.data))?;
    let value: Option<[u8; 32]> = data.try_into().ok();
    Ok(match (address_in_topic(from), address_in_topic(to), value) {
        (Some(from), Some(to), Some(value)) => Some(TransferEvent { from, to, value: U256::from_be_bytes(value) }),
        (None, _, _) | (_, None, _) | (_, _, None) => None,
    })
}

/// Both of its arguments are indexed, so it has no data.
fn read_used_authorization(log: &EvmLog<'_>) -> Option<UsedAuthorization> {
    match log.topics.as_slice() {
        [AUTHORIZATION_USED, authorizer, nonce] if log.data == "0x" => {
            Some(UsedAuthorization { authorizer: address_in_topic(authorizer)?, nonce: *nonce, transfer: None })
        }
        _ => None,
    }
}

/// The address in a topic, whose first twelve bytes must be zero.
fn address_in_topic(topic: &B256) -> Option<Address> {
    let (padding, address) = topic.split_first_chunk::<12>()?;
    let address: [u8; 20] = address.try_into().ok()?;
    (*padding == [0; 12]).then(|| Address::Evm(address.into()))
}

fn malformed(what: &str) -> Undecided {
    Undecided::malformed_with("malformed_log", quantity::excerpt(what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::b256;
    use alloy_primitives::keccak256;

    #[test]
    fn topics_are_the_hashes_of_their_signatures() {
        assert_eq!(TRANSFER, keccak256("Transfer(address,address,uint256)"));
        assert_eq!(AUTHORIZATION_USED, keccak256("AuthorizationUsed(address,bytes32)"));
    }

    #[test]
    fn an_authorization_is_paired_with_the_one_transfer_beside_it() {
        let address = |byte: u8| Address::Evm([byte; 20].into());
        // A digit is a transfer from that address, a letter an authorization of the address of its place.
        let paired = |row: &str| -> Vec<Option<u64>> {
            let (mut logs, mut used) = (Vec::new(), Vec::new());
            for (ordinal, each) in (0_u64..).zip(row.bytes()) {
                match each {
                    b'0'..=b'9' => logs.push(NeighbourLog::Transfer { ordinal, from: address(each - b'0') }),
                    b'a'..=b'j' => {
                        logs.push(NeighbourLog::Authorization { at: used.len() });
                        let (authorizer, nonce) = (address(each - b'a'), B256::ZERO);
                        used.push(UsedAuthorization { authorizer, nonce, transfer: None });
                    }
                    _ => logs.push(NeighbourLog::Other),
                }
            }
            pair_authorizations(&logs, &mut used);
            used.into_iter().map(|used| used.transfer).collect()
        };
        assert_eq!(paired("b1"), [Some(1)]);
        assert_eq!(paired("1b"), [Some(0)]);
        assert_eq!(paired("b1c2"), [Some(1), Some(3)]);
        // Two of one payer, one after the other.
        assert_eq!(paired("b1b1"), [Some(1), Some(3)]);
        assert_eq!(paired("1b1b"), [Some(0), Some(2)]);
        // None beside it, somebody else's, one that is not next to it, two, one too many.
        assert_eq!((paired("b"), paired("b2"), paired("b-1")), (vec![None], vec![None], vec![None]));
        assert_eq!((paired("1b1"), paired("1b1b1")), (vec![None], vec![None, None]));
    }

    #[test]
    fn an_address_topic_has_twelve_zero_bytes() {
        let word = b256!("000000000000000000000000833589fCD6eDb6E08f4c7C32D4f71b54bdA02913");
        assert_eq!(
            address_in_topic(&word).map(|a| a.to_string()).as_deref(),
            Some("0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913")
        );
        for byte in 0..12 {
            let mut wrong = word;
            wrong[byte] = 1;
            assert_eq!(address_in_topic(&wrong), None, "{byte}");
        }
    }
}

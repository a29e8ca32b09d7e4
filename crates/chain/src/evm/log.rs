//! A receipt's logs, and which of them move the registered asset (docs/spec/chains.md#evm-3,
//! #evm-8 to #evm-12, #evm-18, #evm-19, #evm-23).
//!
//! A log that contradicts its receipt is the node's nonsense. One that is sound
//! and of another shape is somebody else's event, and passed over.

mod gas;

use super::quantity;
use super::receipt::Receipt;
use crate::address::Address;
use crate::amount::Amount;
use crate::facts::Unknown;
use crate::network::Network;
use crate::trace::{Authorization, DETAILS_MAX, Foreign, Place, Transfer, ZeroTransfer};
use alloy_primitives::{B256, U256, b256};
use serde::Deserialize;

/// keccak-256 of `Transfer(address,address,uint256)` (ERC-20).
const TRANSFER: B256 = b256!("ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef");

/// keccak-256 of `AuthorizationUsed(address,bytes32)` (EIP-3009).
pub(super) const AUTHORIZATION_USED: B256 = b256!("98de503528ee59b575ef0c0a2576a82497bfc029a5685b209e9ec333479b10a5");

/// What a receipt's logs say.
#[derive(Default)]
pub(super) struct Movements {
    /// All movements of the registered asset but for the transaction's fee, by log index.
    pub(super) transfers: Vec<Transfer>,
    /// Movements of other tokens: those the registry can name first, then by
    /// log index, at most [`DETAILS_MAX`].
    pub(super) foreign: Vec<Foreign>,
    /// Movements of nothing, by log index, at most [`DETAILS_MAX`].
    pub(super) zero: Vec<ZeroTransfer>,
    /// All authorizations used up: a payment may be bound to any of them.
    pub(super) authorizations: Vec<Authorization>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
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

/// A log that is of this receipt.
struct Log<'a> {
    index: u64,
    address: Address,
    topics: Vec<B256>,
    data: &'a str,
}

/// An event of the shape of an ERC-20 transfer, of whatever contract.
struct Moved {
    from: Address,
    to: Address,
    value: U256,
}

/// Reads the logs of an executed transaction.
///
/// # Errors
/// `malformed_log`, `malformed_quantity`, `log_of_another_transaction`,
/// `log_of_another_block`, `duplicate_log`, `receipt_without_sender`.
pub(super) fn movements(network: &Network, receipt: &Receipt<'_>) -> Result<Movements, Unknown> {
    let logs = logs(receipt)?;
    let fee = gas::of_fee(network, receipt, &logs)?;
    let mut out = Movements::default();
    let mut named = Vec::new();
    let mut of_token = Vec::new();
    for log in &logs {
        let is_token = log.address == network.asset.address;
        let ordinal = u64::try_from(of_token.len()).unwrap_or(u64::MAX);
        if let Some(moved) = transfer(log)? {
            if fee.contains(&log.index) {
                of_token.push(Beside::Other);
            } else if is_token {
                out.keep(log.index, ordinal, &moved);
                of_token.push(Beside::Transfer { ordinal, from: moved.from });
            } else if !moved.value.is_zero() {
                let bridged = network.bridged.iter().find(|bridged| bridged.address == log.address);
                let list = if bridged.is_some() { &mut named } else { &mut out.foreign };
                push(list, foreign(log.address, bridged.map(|bridged| bridged.name), &moved));
            }
        } else if is_token {
            match authorization(log) {
                Some(authorization) => {
                    of_token.push(Beside::Authorization { at: out.authorizations.len() });
                    out.authorizations.push(authorization);
                }
                None => of_token.push(Beside::Other),
            }
        }
    }
    pair(&of_token, &mut out.authorizations);
    named.append(&mut out.foreign);
    named.truncate(DETAILS_MAX);
    out.foreign = named;
    Ok(out)
}

/// A log of the registered contract, as its neighbours see it.
enum Beside {
    Transfer {
        ordinal: u64,
        from: Address,
    },
    /// With its place among the authorizations.
    Authorization {
        at: usize,
    },
    Other,
}

/// Gives each authorization the one transfer from its authorizer next to it. A transfer
/// serves one authorization: of a row of several, each takes what the others leave, as long
/// as one has a single choice. Who is left with two choices gets none.
fn pair(of_token: &[Beside], authorizations: &mut [Authorization]) {
    let beside = |index: Option<usize>, authorizer: Address| match of_token.get(index?)? {
        Beside::Transfer { ordinal, from } if *from == authorizer => Some(*ordinal),
        Beside::Transfer { .. } | Beside::Authorization { .. } | Beside::Other => None,
    };
    let mut open: Vec<(usize, Vec<u64>)> = Vec::new();
    for (index, log) in of_token.iter().enumerate() {
        let Beside::Authorization { at } = log else { continue };
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

impl Movements {
    /// #evm-10: anybody can emit a transfer of nothing in anybody's name.
    fn keep(&mut self, index: u64, ordinal: u64, moved: &Moved) {
        if moved.value.is_zero() {
            push(&mut self.zero, ZeroTransfer { from: moved.from, to: moved.to });
        } else {
            self.transfers.push(Transfer {
                place: Place::LogIndex(index),
                ordinal,
                from: Some(moved.from),
                to: Some(moved.to),
                amount: Amount(moved.value),
            });
        }
    }
}

fn push<T>(list: &mut Vec<T>, item: T) {
    if list.len() < DETAILS_MAX {
        list.push(item);
    }
}

fn foreign(asset: Address, name: Option<&str>, moved: &Moved) -> Foreign {
    Foreign {
        asset,
        name: name.map(str::to_owned),
        from: Some(moved.from),
        to: Some(moved.to),
        amount: Amount(moved.value),
    }
}

/// The receipt's own logs, by index. A node that lists one twice would count it
/// twice; one that lists another transaction's would count that.
fn logs<'a>(receipt: &Receipt<'a>) -> Result<Vec<Log<'a>>, Unknown> {
    let wire: Vec<Wire<'a>> =
        serde_json::from_str(receipt.logs.get()).map_err(|error| malformed(&error.to_string()))?;
    let mut logs = Vec::with_capacity(wire.len());
    for wire in wire {
        // #evm-23: only subscriptions produce it; what was removed did not happen.
        if wire.removed == Some(true) {
            continue;
        }
        if receipt.of_block && quantity::hash(wire.transaction_hash).is_some_and(|hash| hash != receipt.hash) {
            continue;
        }
        logs.push(sound(receipt, wire)?);
    }
    logs.sort_unstable_by_key(|log| log.index);
    if logs.windows(2).any(|pair| matches!(pair, [a, b] if a.index == b.index)) {
        return Err(Unknown::nonsense("duplicate_log"));
    }
    Ok(logs)
}

fn sound<'a>(receipt: &Receipt<'_>, wire: Wire<'a>) -> Result<Log<'a>, Unknown> {
    let hash = |text: &str| quantity::hash(text).ok_or_else(|| malformed(text));
    if hash(wire.transaction_hash)? != receipt.hash {
        return Err(Unknown::nonsense("log_of_another_transaction"));
    }
    let number = wire.block_number.map(quantity::number).transpose()?;
    let block_hash = hash(wire.block_hash)?;
    let same_block = receipt.block.is_some_and(|(n, h)| h == block_hash && number.is_none_or(|number| number == n));
    if !same_block {
        return Err(Unknown::nonsense("log_of_another_block"));
    }
    Ok(Log {
        index: quantity::number(wire.log_index)?,
        address: Address::Evm(quantity::address(wire.address).ok_or_else(|| malformed(wire.address))?),
        topics: wire.topics.into_iter().map(hash).collect::<Result<_, _>>()?,
        data: wire.data,
    })
}

/// #evm-9: three topics, addresses in twenty bytes, a value of one word.
fn transfer(log: &Log<'_>) -> Result<Option<Moved>, Unknown> {
    let [TRANSFER, from, to] = log.topics.as_slice() else {
        return Ok(None);
    };
    let data = quantity::bytes(log.data).ok_or_else(|| malformed(log.data))?;
    let value: Option<[u8; 32]> = data.try_into().ok();
    Ok(match (address_in(from), address_in(to), value) {
        (Some(from), Some(to), Some(value)) => Some(Moved { from, to, value: U256::from_be_bytes(value) }),
        (None, _, _) | (_, None, _) | (_, _, None) => None,
    })
}

/// Both of its arguments are indexed, so it has no data.
fn authorization(log: &Log<'_>) -> Option<Authorization> {
    match log.topics.as_slice() {
        [AUTHORIZATION_USED, authorizer, nonce] if log.data == "0x" => {
            Some(Authorization { authorizer: address_in(authorizer)?, nonce: *nonce, transfer: None })
        }
        _ => None,
    }
}

/// The address in a topic, whose first twelve bytes must be zero.
fn address_in(topic: &B256) -> Option<Address> {
    let (padding, address) = topic.split_first_chunk::<12>()?;
    let address: [u8; 20] = address.try_into().ok()?;
    (*padding == [0; 12]).then(|| Address::Evm(address.into()))
}

fn malformed(what: &str) -> Unknown {
    Unknown::nonsense_about("malformed_log", quantity::words(what))
}

#[cfg(test)]
mod tests {
    use super::*;
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
                    b'0'..=b'9' => logs.push(Beside::Transfer { ordinal, from: address(each - b'0') }),
                    b'a'..=b'j' => {
                        logs.push(Beside::Authorization { at: used.len() });
                        let (authorizer, nonce) = (address(each - b'a'), B256::ZERO);
                        used.push(Authorization { authorizer, nonce, transfer: None });
                    }
                    _ => logs.push(Beside::Other),
                }
            }
            pair(&logs, &mut used);
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
            address_in(&word).map(|a| a.to_string()).as_deref(),
            Some("0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913")
        );
        for byte in 0..12 {
            let mut wrong = word;
            wrong[byte] = 1;
            assert_eq!(address_in(&wrong), None, "{byte}");
        }
    }
}

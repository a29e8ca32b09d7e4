//! Differences of token balances, by owner and mint (docs/spec/chains.md#svm-rule).

use super::transaction::{Balance, Meta};
use crate::address::{Address, Family};
use crate::amount::Amount;
use crate::facts::Unknown;
use crate::network::Network;
use crate::trace::{DETAILS_MAX, Foreign, Place, Transfer};
use std::collections::BTreeMap;

/// What moved.
#[derive(Default)]
pub(super) struct Movements {
    pub(super) transfers: Vec<Transfer>,
    pub(super) foreign: Vec<Foreign>,
}

/// One account before and after.
#[derive(Default)]
struct Account<'a> {
    before: Option<&'a Balance>,
    after: Option<&'a Balance>,
}

impl Movements {
    /// Reads both lists of balances.
    pub(super) fn of(network: &Network, meta: &Meta, keys: &[Address]) -> Result<Self, Unknown> {
        let missing = || Unknown::nonsense("balances_unavailable");
        let before = meta.pre_token_balances.as_ref().ok_or_else(missing)?;
        let after = meta.post_token_balances.as_ref().ok_or_else(missing)?;
        // An account holds one mint at a time, but may be closed and made anew
        // for another in one transaction: both mints' differences stand.
        let mut accounts: BTreeMap<(usize, &str), Account<'_>> = BTreeMap::new();
        for (index, balance) in by_index(before)? {
            accounts.entry((index, &balance.mint)).or_default().before = Some(balance);
        }
        for (index, balance) in by_index(after)? {
            accounts.entry((index, &balance.mint)).or_default().after = Some(balance);
        }
        let mut movements = Self::default();
        for ((index, mint), account) in accounts {
            let place = *keys.get(index).ok_or_else(|| Unknown::nonsense("account_out_of_range"))?;
            let mint = address(mint)?;
            if mint == network.asset.address {
                movements.transfers.extend(registered(place, &account)?);
            } else if movements.foreign.len() < DETAILS_MAX {
                movements.foreign.extend(other(network, mint, &account));
            }
        }
        Ok(movements)
    }
}

/// One list by account: an account stands in it once, whatever its mint.
fn by_index(list: &[Balance]) -> Result<BTreeMap<usize, &Balance>, Unknown> {
    let mut accounts = BTreeMap::new();
    for balance in list {
        if accounts.insert(balance.account_index, balance).is_some() {
            return Err(Unknown::nonsense("duplicate_balance"));
        }
    }
    Ok(accounts)
}

fn address(text: &str) -> Result<Address, Unknown> {
    Address::parse(Family::Svm, text).ok_or_else(|| Unknown::nonsense("malformed_balance"))
}

/// A balance of atomic units: u64 in decimal digits. No balance is nothing
/// (#svm-13, #svm-14: accounts made or closed in the transaction).
fn units(balance: Option<&Balance>) -> Option<u64> {
    match balance {
        None => Some(0),
        Some(balance) => {
            let text = &balance.ui_token_amount.amount;
            text.bytes().all(|c| c.is_ascii_digit()).then(|| text.parse().ok()).flatten()
        }
    }
}

/// What moved on an account of the registered mint.
fn registered(place: Address, account: &Account<'_>) -> Result<Option<Transfer>, Unknown> {
    let malformed = || Unknown::nonsense("malformed_balance");
    let before = units(account.before).ok_or_else(malformed)?;
    let after = units(account.after).ok_or_else(malformed)?;
    let owner = |balance: &Balance| {
        // Nodes of before 2021 did not tell the owner.
        let text = balance.owner.as_deref().ok_or_else(|| Unknown::nonsense("owner_unavailable"))?;
        address(text)
    };
    let owned_before = account.before.map(owner).transpose()?;
    let owned_after = account.after.map(owner).transpose()?;
    if let (Some(was), Some(is)) = (owned_before, owned_after)
        && was != is
    {
        // #svm-15: the account changed hands; that is no payment.
        return Ok(None);
    }
    let owner = owned_after.or(owned_before);
    let place = Place::TokenAccount(place);
    let moved = before.abs_diff(after);
    let amount = Amount::atomic(moved);
    Ok(match (after > before, moved) {
        (_, 0) => None,
        (true, _) => Some(Transfer { place, ordinal: 0, from: None, to: owner, amount }),
        (false, _) => Some(Transfer { place, ordinal: 0, from: owner, to: None, amount }),
    })
}

/// What moved on an account of another mint; what cannot be read is left out,
/// for it is only told in a refusal.
fn other(network: &Network, mint: Address, account: &Account<'_>) -> Option<Foreign> {
    let (before, after) = (units(account.before)?, units(account.after)?);
    let owner = |balance: Option<&Balance>| balance.and_then(|balance| address(balance.owner.as_deref()?).ok());
    let owner = owner(account.after).or_else(|| owner(account.before));
    let amount = Amount::atomic(before.abs_diff(after));
    let name = network.bridged.iter().find(|token| token.address == mint).map(|token| token.name.to_owned());
    let (from, to) = if after > before { (None, owner) } else { (owner, None) };
    (!amount.is_zero()).then_some(Foreign { asset: mint, name, from, to, amount })
}

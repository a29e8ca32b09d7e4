//! Differences of token balances, by owner and mint (docs/spec/chains.md#svm-rule).

use super::transaction::{TokenBalance, TransactionMeta};
use crate::address::{Address, Family};
use crate::amount::Amount;
use crate::facts::Undecided;
use crate::network::Network;
use crate::trace::{DETAILS_MAX, ForeignTransfer, Transfer, TransferLocation};
use std::collections::BTreeMap;

/// The token balances that a transaction changed.
#[derive(Default)]
pub(super) struct BalanceMovements {
    pub(super) transfers: Vec<Transfer>,
    pub(super) foreign: Vec<ForeignTransfer>,
}

/// One account before and after.
#[derive(Default)]
struct BalanceChange<'a> {
    before: Option<&'a TokenBalance>,
    after: Option<&'a TokenBalance>,
}

impl BalanceMovements {
    /// Reads both lists of balances.
    pub(super) fn of(network: &Network, meta: &TransactionMeta, keys: &[Address]) -> Result<Self, Undecided> {
        let missing = || Undecided::malformed("balances_unavailable");
        let before = meta.pre_token_balances.as_ref().ok_or_else(missing)?;
        let after = meta.post_token_balances.as_ref().ok_or_else(missing)?;
        // An account holds one mint at a time, but may be closed and created again for another in one transaction: the
        // differences of both mints count.
        let mut accounts: BTreeMap<(usize, &str), BalanceChange<'_>> = BTreeMap::new();
        for (index, balance) in by_index(before)? {
            accounts.entry((index, &balance.mint)).or_default().before = Some(balance);
        }
        for (index, balance) in by_index(after)? {
            accounts.entry((index, &balance.mint)).or_default().after = Some(balance);
        }
        let mut movements = Self::default();
        for ((index, mint), account) in accounts {
            let place = *keys.get(index).ok_or_else(|| Undecided::malformed("account_out_of_range"))?;
            let mint = address(mint)?;
            if mint == network.asset.address {
                movements.transfers.extend(asset_transfer(place, &account)?);
            } else if movements.foreign.len() < DETAILS_MAX {
                movements.foreign.extend(foreign_transfer(network, mint, &account));
            }
        }
        Ok(movements)
    }
}

/// One list of balances by account, which stands in it once, whatever its mint.
fn by_index(list: &[TokenBalance]) -> Result<BTreeMap<usize, &TokenBalance>, Undecided> {
    let mut accounts = BTreeMap::new();
    for balance in list {
        if accounts.insert(balance.account_index, balance).is_some() {
            return Err(Undecided::malformed("duplicate_balance"));
        }
    }
    Ok(accounts)
}

fn address(text: &str) -> Result<Address, Undecided> {
    Address::parse(Family::Svm, text).ok_or_else(|| Undecided::malformed("malformed_balance"))
}

/// A balance of atomic units: u64 in decimal digits. No balance means zero (#svm-13, #svm-14: accounts created or
/// closed in the transaction).
fn atomic_units(balance: Option<&TokenBalance>) -> Option<u64> {
    match balance {
        None => Some(0),
        Some(balance) => {
            let text = &balance.ui_token_amount.amount;
            text.bytes().all(|c| c.is_ascii_digit()).then(|| text.parse().ok()).flatten()
        }
    }
}

/// The movement on an account of the registered mint.
fn asset_transfer(place: Address, account: &BalanceChange<'_>) -> Result<Option<Transfer>, Undecided> {
    let malformed = || Undecided::malformed("malformed_balance");
    let before = atomic_units(account.before).ok_or_else(malformed)?;
    let after = atomic_units(account.after).ok_or_else(malformed)?;
    let owner = |balance: &TokenBalance| {
        // Nodes from before 2021 do not report the owner.
        let text = balance.owner.as_deref().ok_or_else(|| Undecided::malformed("owner_unavailable"))?;
        address(text)
    };
    let owned_before = account.before.map(owner).transpose()?;
    let owned_after = account.after.map(owner).transpose()?;
    if let (Some(was), Some(is)) = (owned_before, owned_after)
        && was != is
    {
        // #svm-15: the account changed its owner, which is no payment.
        return Ok(None);
    }
    let owner = owned_after.or(owned_before);
    let place = TransferLocation::TokenAccount(place);
    let moved = before.abs_diff(after);
    let amount = Amount::atomic(moved);
    Ok(match (after > before, moved) {
        (_, 0) => None,
        (true, _) => Some(Transfer { place, ordinal: 0, from: None, to: owner, amount }),
        (false, _) => Some(Transfer { place, ordinal: 0, from: owner, to: None, amount }),
    })
}

/// The movement on an account of another mint; what cannot be read is left out, since only a refusal names it.
fn foreign_transfer(network: &Network, mint: Address, account: &BalanceChange<'_>) -> Option<ForeignTransfer> {
    let (before, after) = (atomic_units(account.before)?, atomic_units(account.after)?);
    let owner = |balance: Option<&TokenBalance>| balance.and_then(|balance| address(balance.owner.as_deref()?).ok());
    let owner = owner(account.after).or_else(|| owner(account.before));
    let amount = Amount::atomic(before.abs_diff(after));
    let name = network.bridged.iter().find(|token| token.address == mint).map(|token| token.name.to_owned());
    let (from, to) = if after > before { (None, owner) } else { (owner, None) };
    (!amount.is_zero()).then_some(ForeignTransfer { asset: mint, name, from, to, amount })
}

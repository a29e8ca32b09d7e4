//! The transfers to and from one recipient.

use std::collections::{BTreeMap, BTreeSet};
use x402_chain::address::Address;
use x402_chain::amount::Amount;
use x402_chain::trace::{MinedTransaction, Transfer, TransferLocation};

/// The most movements that a refusal names.
const MOVEMENTS_MAX: usize = 3;

/// What a recipient received, passed on and kept of the registered asset.
#[derive(Clone, Debug)]
pub(crate) struct RecipientFlow<'a> {
    /// The transfers to it, without those from itself.
    pub(crate) incoming: Vec<&'a Transfer>,
    /// The sum of `incoming`.
    pub(crate) gross_in: Amount,
    /// The sum that it passed on in the same transaction.
    pub(crate) gross_out: Amount,
    /// `gross_in` less `gross_out`, at least zero.
    pub(crate) net: Amount,
    /// Who paid, in order of appearance.
    pub(crate) payers: Vec<Address>,
    /// What each payer gave; on Solana to any recipient, since its chain names no counterpart.
    given: BTreeMap<Address, Amount>,
    /// Whether the transfers name both ends.
    paired: bool,
    /// Whether each incoming transfer is a payment of its own, which can be judged and claimed without the others: not
    /// on Solana, whose chain reports balances, and not where the recipient passed money on, since nothing shows whose
    /// it was.
    pub(crate) apart: bool,
}

/// The transfers that are judged, answered and claimed together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PaymentPart<'a> {
    /// The transfers of the part.
    pub(crate) lines: Vec<&'a Transfer>,
    /// The amount that counts as paid by them.
    pub(crate) amount: Amount,
    /// Who paid, in order of appearance.
    pub(crate) payers: Vec<Address>,
}

impl<'a> PaymentPart<'a> {
    /// Transfers that count by themselves ([`RecipientFlow::apart`]).
    pub(crate) fn of(lines: Vec<&'a Transfer>) -> Self {
        let mut payers = Vec::new();
        for payer in lines.iter().filter_map(|line| line.from) {
            // A mint comes from the zero address, which nobody holds.
            if !payer.is_zero() && !payers.contains(&payer) {
                payers.push(payer);
            }
        }
        Self { amount: sum_of_amounts(lines.iter().copied()), payers, lines }
    }
}

impl<'a> RecipientFlow<'a> {
    pub(crate) fn of(mined: &'a MinedTransaction, recipient: &Address) -> Self {
        let is = |end: Option<&Address>| end == Some(recipient);
        let of_self = |transfer: &&Transfer| is(transfer.from.as_ref()) && is(transfer.to.as_ref());
        let moved = || mined.transfers.iter().filter(move |transfer| !of_self(transfer));
        let incoming: Vec<&Transfer> = moved().filter(|transfer| is(transfer.to.as_ref())).collect();
        let gross_in = sum_of_amounts(incoming.iter().copied());
        let gross_out = sum_of_amounts(moved().filter(|transfer| is(transfer.from.as_ref())));
        let paired = incoming.iter().all(|transfer| transfer.from.is_some());
        let given = if paired { given_by_payer(&incoming) } else { net_given_by_owner(mined, recipient) };
        let mut payers: Vec<Address> = Vec::new();
        let order = if paired { incoming.clone() } else { mined.transfers.iter().collect() };
        for payer in order.iter().filter_map(|transfer| transfer.from) {
            // A mint comes from the zero address, which nobody holds.
            if given.contains_key(&payer) && !payers.contains(&payer) && !payer.is_zero() {
                payers.push(payer);
            }
        }
        if gross_in.is_zero() {
            payers.clear();
        }
        let net = gross_in.saturating_minus(gross_out);
        let apart = gross_out.is_zero() && are_distinct_logs(&incoming);
        Self { gross_in, gross_out, net, incoming, payers, given, paired, apart }
    }

    /// Everything that reached the recipient, as one part.
    pub(crate) fn whole(&self) -> PaymentPart<'a> {
        PaymentPart { lines: self.incoming.clone(), amount: self.net, payers: self.payers.clone() }
    }

    /// Whether `payer` gave anything at all.
    pub(crate) fn gave(&self, payer: &Address) -> bool {
        self.given.contains_key(payer)
    }

    /// Whether the chain reports several payers without saying which of them paid this recipient.
    pub(crate) fn is_of_many(&self) -> bool {
        !self.paired && self.given.len() > 1
    }

    /// The part of the recipient's gain that certainly came from `payer`: what other payers gave, and what was passed
    /// on, is subtracted first.
    pub(crate) fn at_least_from(&self, payer: &Address) -> Amount {
        let own = self.given.get(payer).copied().unwrap_or(Amount::ZERO);
        if own.is_zero() {
            return Amount::ZERO;
        }
        let mut rest = if self.paired { own.saturating_minus(self.gross_out) } else { self.net };
        if !self.paired {
            for (other, amount) in &self.given {
                if other != payer {
                    rest = rest.saturating_minus(*amount);
                }
            }
        }
        rest.min(own).min(self.net)
    }

    /// A sentence about what arrived.
    pub(crate) fn arrived(&self) -> String {
        format!("{} transfer(s) of {} USDC in sum reached the recipient", self.incoming.len(), self.gross_in.usdc())
    }
}

/// Whether each transfer is a log with a number of its own. A trace that an older build sends during a deployment has
/// no numbers: then only the whole can be judged.
fn are_distinct_logs(incoming: &[&Transfer]) -> bool {
    let mut seen = BTreeSet::new();
    incoming.iter().all(|line| matches!(line.place, TransferLocation::LogIndex(_)) && seen.insert(line.ordinal))
}

/// The sum of the amounts; it saturates, and 256 bits hold any supply.
fn sum_of_amounts<'a>(transfers: impl Iterator<Item = &'a Transfer>) -> Amount {
    transfers.fold(Amount::ZERO, |total, transfer| Amount(total.0.saturating_add(transfer.amount.0)))
}

fn given_by_payer(incoming: &[&Transfer]) -> BTreeMap<Address, Amount> {
    let mut given = BTreeMap::new();
    for transfer in incoming {
        if let Some(from) = transfer.from {
            let amount = given.entry(from).or_insert(Amount::ZERO);
            *amount = Amount(amount.0.saturating_add(transfer.amount.0));
        }
    }
    given
}

/// Owners that lost more than they received, and by how much.
fn net_given_by_owner(mined: &MinedTransaction, recipient: &Address) -> BTreeMap<Address, Amount> {
    let mut lost: BTreeMap<Address, Amount> = BTreeMap::new();
    for owner in mined.transfers.iter().filter_map(|transfer| transfer.from) {
        let out = sum_of_amounts(mined.transfers.iter().filter(|transfer| transfer.from == Some(owner)));
        let back = sum_of_amounts(mined.transfers.iter().filter(|transfer| transfer.to == Some(owner)));
        if owner != *recipient && out > back {
            lost.insert(owner, out.saturating_minus(back));
        }
    }
    lost
}

/// A sentence about the movements, for a recipient that received nothing.
pub(crate) fn movements_sentence(mined: &MinedTransaction, recipient: &Address) -> String {
    let end = |end: Option<&Address>| end.map_or_else(|| "?".to_owned(), Address::to_string);
    let movements: Vec<String> = mined
        .transfers
        .iter()
        .take(MOVEMENTS_MAX)
        .map(|transfer| {
            format!(
                "{} USDC from {} to {}",
                transfer.amount.usdc(),
                end(transfer.from.as_ref()),
                end(transfer.to.as_ref())
            )
        })
        .collect();
    let rest = mined.transfers.len().saturating_sub(movements.len());
    let own = mined.transfers.iter().any(|t| t.from == Some(*recipient) && t.to == Some(*recipient));
    match (movements.is_empty(), own) {
        (true, _) => "no USDC moved in this transaction".to_owned(),
        (false, true) => "the recipient paid only itself".to_owned(),
        (false, false) if rest > 0 => format!("nothing reached {recipient}; {} and {rest} more", movements.join(", ")),
        (false, false) => format!("nothing reached {recipient}; {}", movements.join(", ")),
    }
}

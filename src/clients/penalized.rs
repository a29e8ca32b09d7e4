//! The payers for whom a settler launches nothing at present, as this isolate knows them: a verification refuses them
//! before a seller relies on it. The settler alone decides.

use std::cell::RefCell;
use std::collections::BTreeMap;
use x402_chain::address::Address;
use x402_chain::network::Network;
use x402_chain::time::UnixMillis;

/// How long a list is fresh; then it is renewed in the background.
const FRESH_MS: u64 = 15_000;
/// The most payers of one signer that are remembered.
const PAYERS_MAX: usize = 4_000;

type SignerKey = (&'static str, Address);

thread_local! {
    static PENALIZED: RefCell<BTreeMap<SignerKey, BTreeMap<Address, UnixMillis>>> = const { RefCell::new(BTreeMap::new()) };
    static ASKED_AT: RefCell<BTreeMap<&'static str, UnixMillis>> = const { RefCell::new(BTreeMap::new()) };
}

/// Until when a signer launches nothing for a payer, as far as this isolate knows.
pub(crate) fn held_until(network: &Network, signer: &Address, payer: &Address, now: UnixMillis) -> Option<UnixMillis> {
    PENALIZED.with_borrow(|all| {
        let held = all.get(&(network.key, *signer))?.get(payer)?;
        Some(*held).filter(|until| *until > now)
    })
}

/// Notes that a signer launches nothing for a payer.
pub(crate) fn note_hold(network: &Network, signer: &Address, payer: Address, until: UnixMillis) {
    PENALIZED.with_borrow_mut(|all| {
        let held = all.entry((network.key, *signer)).or_default();
        if held.len() < PAYERS_MAX {
            held.insert(payer, until);
        }
    });
}

/// Whether a network's settlers must be asked again; the first caller that asks does it for all.
pub(crate) fn is_stale(network: &Network, now: UnixMillis) -> bool {
    ASKED_AT.with_borrow_mut(|all| {
        let is_fresh = all.get(network.key).is_some_and(|at| now.since(*at) < FRESH_MS);
        if !is_fresh {
            all.insert(network.key, now);
        }
        !is_fresh
    })
}

/// Replaces the list of payers for whom a signer launches nothing.
pub(crate) fn replace(network: &Network, signer: Address, held: impl Iterator<Item = (Address, UnixMillis)>) {
    PENALIZED.with_borrow_mut(|all| all.insert((network.key, signer), held.take(PAYERS_MAX).collect()));
}

//! The payers for whom a Settler launches nothing now, as this isolate knows them:
//! a verification says so before a seller relies on it. The Settler alone decides.

use super::app::{self, App};
use super::settlers;
use crate::address::Address;
use crate::network::Network;
use crate::signer::Signer;
use crate::time::UnixMillis;
use std::cell::RefCell;
use std::collections::BTreeMap;
use worker::Context;

/// How long a list is good; the next is asked for in the background.
const FRESH_MS: u64 = 15_000;
/// Payers of one signer that are remembered.
const PAYERS_MAX: usize = 4_000;

type Key = (&'static str, Address);

thread_local! {
    static KNOWN: RefCell<BTreeMap<Key, BTreeMap<Address, UnixMillis>>> = const { RefCell::new(BTreeMap::new()) };
    static ASKED: RefCell<BTreeMap<&'static str, UnixMillis>> = const { RefCell::new(BTreeMap::new()) };
}

/// Until when a signer launches nothing for a payer, as far as is known here.
pub(crate) fn until(network: &Network, signer: &Address, payer: &Address, now: UnixMillis) -> Option<UnixMillis> {
    KNOWN.with_borrow(|all| {
        let held = all.get(&(network.key, *signer))?.get(payer)?;
        Some(*held).filter(|until| *until > now)
    })
}

/// Notes that a signer launches nothing for a payer.
pub(crate) fn note(network: &Network, signer: &Address, payer: Address, until: UnixMillis) {
    KNOWN.with_borrow_mut(|all| {
        let held = all.entry((network.key, *signer)).or_default();
        if held.len() < PAYERS_MAX {
            held.insert(payer, until);
        }
    });
}

/// Asks a network's Settlers after the answer, if nobody has of late.
pub(crate) fn refresh_later(app: &App, context: &Context, network: &'static Network, now: UnixMillis) {
    let is_fresh = ASKED.with_borrow(|all| all.get(network.key).is_some_and(|at| now.since(*at) < FRESH_MS));
    if is_fresh {
        return;
    }
    let Ok(namespace) = app.settlers() else { return };
    ASKED.with_borrow_mut(|all| all.insert(network.key, now));
    let signers = app.settings.signers(network.family, network.environment);
    let signers: Vec<Address> = signers.iter().map(Signer::address).collect();
    app::after_answer(context, async move {
        for signer in signers {
            let Ok(held) = settlers::held(&namespace, network, &signer).await else { continue };
            let held = held.into_iter().take(PAYERS_MAX).map(|held| (held.payer, held.until)).collect();
            KNOWN.with_borrow_mut(|all| all.insert((network.key, signer), held));
        }
    });
}

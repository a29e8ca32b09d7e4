//! Which nonce is next: one signer's on one chain.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The nonces that one signer has to give on one chain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nonces {
    /// The first that was never given.
    pub next: Option<u64>,
    /// Given, and never sent: the next payments fill them.
    pub free: BTreeSet<u64>,
    /// What fills a gap where no payment came, until the chain has it.
    #[serde(default)]
    pub fillers: BTreeMap<u64, String>,
}

impl Nonces {
    /// Takes the next. `chain` is how many the chain has seen, those that wait
    /// included; `idle` says that nothing is on its way, so that only the chain counts.
    #[must_use]
    pub fn take(&mut self, chain: u64, idle: bool) -> u64 {
        if idle {
            self.free.clear();
            self.fillers.clear();
            self.next = Some(chain);
        }
        self.free.retain(|nonce| *nonce >= chain);
        if let Some(free) = self.free.pop_first() {
            return free;
        }
        let nonce = self.next.unwrap_or(chain).max(chain);
        self.next = Some(nonce.saturating_add(1));
        nonce
    }

    /// Fills the gaps below a nonce that is on its way, with what `sign` makes
    /// for each: all fillers are then to be sent, again or for the first time.
    pub fn fill(&mut self, chain: u64, below: u64, sign: impl Fn(u64) -> Option<String>) {
        self.fillers.retain(|nonce, _| *nonce >= chain);
        let gaps: Vec<u64> = self.free.range(..below).copied().filter(|nonce| *nonce >= chain).collect();
        for nonce in gaps {
            if let Some(raw) = sign(nonce) {
                self.free.remove(&nonce);
                self.fillers.insert(nonce, raw);
            }
        }
    }

    /// A filler that no node takes: its nonce is a gap again.
    pub fn unfill(&mut self, nonce: u64) {
        if self.fillers.remove(&nonce).is_some() {
            self.free.insert(nonce);
        }
    }

    /// Gives one back that was never sent.
    pub fn give_back(&mut self, nonce: u64) {
        if self.next == Some(nonce.saturating_add(1)) {
            self.next = Some(nonce);
        } else {
            self.free.insert(nonce);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nonces_follow_one_another_and_returned_ones_are_filled() {
        let mut nonces = Nonces::default();
        assert_eq!((nonces.take(7, true), nonces.take(7, false), nonces.take(7, false)), (7, 8, 9));
        nonces.give_back(8);
        nonces.give_back(9);
        assert_eq!((nonces.take(7, false), nonces.take(7, false), nonces.take(7, false)), (8, 9, 10));
        // Somebody else has used the key.
        assert_eq!(nonces.take(20, false), 20);
        // A chain that began anew.
        assert_eq!(nonces.take(0, true), 0);
    }

    #[test]
    fn a_gap_below_what_is_on_its_way_is_filled_once() {
        let mut nonces = Nonces { next: Some(10), free: BTreeSet::from([3, 5, 9]), fillers: BTreeMap::new() };
        let sign = |nonce: u64| Some(format!("raw {nonce}"));
        let raws = |nonces: &Nonces| nonces.fillers.values().cloned().collect::<Vec<_>>();
        // 3 was used by somebody else; 9 holds nobody up.
        nonces.fill(4, 8, sign);
        assert_eq!(raws(&nonces), ["raw 5"]);
        assert_eq!(nonces.take(4, false), 9);
        nonces.fill(4, 8, |_| None);
        assert_eq!(raws(&nonces), ["raw 5"]);
        nonces.unfill(5);
        nonces.unfill(6);
        assert_eq!((nonces.fillers.len(), &nonces.free), (0, &BTreeSet::from([5])));
        nonces.fill(4, 8, sign);
        assert_eq!(raws(&nonces), ["raw 5"]);
        nonces.fill(6, 8, sign);
        assert!(nonces.fillers.is_empty());
    }

    proptest! {
        #[test]
        fn no_nonce_is_given_twice(back in proptest::collection::vec(any::<bool>(), 1..60)) {
            let mut nonces = Nonces::default();
            let mut held = BTreeSet::new();
            for (at, give_back) in back.iter().enumerate() {
                let nonce = nonces.take(5, at == 0);
                prop_assert!(held.insert(nonce), "{nonce} twice");
                if *give_back {
                    held.remove(&nonce);
                    nonces.give_back(nonce);
                }
            }
        }
    }
}

//! The nonces of one signer on one chain.

use super::flight::{is_outpriced, replacement_price};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use x402_chain::evm::sender::GasPrice;

/// The nonces that a signer may use next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nonces {
    /// The first nonce that was never used.
    pub next: Option<u64>,
    /// Nonces that were taken and never sent: the next payments use them.
    pub free: BTreeSet<u64>,
    /// Transactions that fill gaps without a payment, kept until a block holds them: a node may drop one.
    #[serde(default)]
    pub fillers: BTreeMap<u64, String>,
    /// The gas price of the fillers; absent for those that an older build has signed.
    #[serde(default)]
    pub prices: BTreeMap<u64, GasPrice>,
}

impl Nonces {
    /// Takes the next nonce. `chain` is the number of the signer's transactions that a node reports, pending ones
    /// included; `idle` says that no flight is open, so that only that number counts.
    #[must_use]
    pub fn take_next(&mut self, chain: u64, idle: bool) -> u64 {
        if idle {
            self.free.clear();
            self.fillers.clear();
            self.prices.clear();
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

    /// Fills the gaps below a nonce in use, with a transaction that `sign` makes for each; a filler whose price is
    /// below the market is signed again. All fillers must then be sent. `mined` is how many of the signer's
    /// transactions are in blocks, `market` the market's price. Returns by how much the price of a unit of gas has
    /// grown, wei, for all of them together.
    pub fn fill_gaps(
        &mut self,
        (mined, below): (u64, u64),
        market: GasPrice,
        sign: impl Fn(u64, GasPrice) -> Option<String>,
    ) -> u128 {
        self.fillers.retain(|nonce, _| *nonce >= mined);
        self.prices.retain(|nonce, _| *nonce >= mined);
        let gaps = self.free.range(..below).filter(|nonce| **nonce >= mined).map(|nonce| (*nonce, market));
        let outpriced = self.prices.iter().filter(|(_, price)| is_outpriced(**price, market));
        let outpriced =
            outpriced.filter_map(|(nonce, price)| Some((*nonce, replacement_price(*price, Some(market), u128::MAX)?)));
        let mut more = 0_u128;
        for (nonce, price) in gaps.chain(outpriced).collect::<Vec<_>>() {
            if let Some(raw) = sign(nonce, price) {
                self.free.remove(&nonce);
                self.fillers.insert(nonce, raw);
                let before = self.prices.insert(nonce, price).map_or(0, |before| before.max_wei);
                more = more.saturating_add(price.max_wei.saturating_sub(before));
            }
        }
        more
    }

    /// Whether neither a filler nor a flight (`open`) has the nonce that the chain waits for.
    #[must_use]
    pub fn is_missing(&self, mined: u64, open: &BTreeSet<u64>) -> bool {
        let is_below = open.last().is_some_and(|last| mined < *last);
        is_below && !open.contains(&mined) && !self.free.contains(&mined) && !self.fillers.contains_key(&mined)
    }

    /// Makes the nonce of a filler that no node accepts a gap again.
    pub fn reopen_gap(&mut self, nonce: u64) {
        self.prices.remove(&nonce);
        if self.fillers.remove(&nonce).is_some() {
            self.free.insert(nonce);
        }
    }

    /// Frees a nonce that was never sent.
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
        assert_eq!((nonces.take_next(7, true), nonces.take_next(7, false), nonces.take_next(7, false)), (7, 8, 9));
        nonces.give_back(8);
        nonces.give_back(9);
        assert_eq!((nonces.take_next(7, false), nonces.take_next(7, false), nonces.take_next(7, false)), (8, 9, 10));
        // Somebody else has used the key.
        assert_eq!(nonces.take_next(20, false), 20);
        // A chain that began anew.
        assert_eq!(nonces.take_next(0, true), 0);
    }

    const TODAY: GasPrice = GasPrice { max_wei: 10, tip_wei: 1 };

    fn raws(nonces: &Nonces) -> Vec<String> {
        nonces.fillers.values().cloned().collect()
    }

    #[expect(clippy::unnecessary_wraps, reason = "signing may fail")]
    fn sign(nonce: u64, price: GasPrice) -> Option<String> {
        Some(format!("{nonce} at {}", price.max_wei))
    }

    #[test]
    fn a_gap_below_an_open_flight_is_filled_once() {
        let mut nonces = Nonces { next: Some(10), free: BTreeSet::from([3, 5, 9]), ..Nonces::default() };
        // 3 was used by somebody else; 9 holds nobody up.
        assert_eq!((nonces.fill_gaps((4, 8), TODAY, sign), raws(&nonces)), (10, vec!["5 at 10".to_owned()]));
        assert_eq!(nonces.take_next(4, false), 9);
        assert_eq!((nonces.fill_gaps((4, 8), TODAY, sign), raws(&nonces).len()), (0, 1));
        nonces.reopen_gap(5);
        nonces.reopen_gap(6);
        assert_eq!((nonces.fillers.len(), nonces.prices.len(), &nonces.free), (0, 0, &BTreeSet::from([5])));
        assert_eq!(nonces.fill_gaps((4, 8), TODAY, |_, _| None), 0);
        nonces.fill_gaps((4, 8), TODAY, sign);
        assert_eq!(raws(&nonces), ["5 at 10"]);
        // It is kept until a block holds it.
        nonces.fill_gaps((6, 8), TODAY, sign);
        assert!(nonces.fillers.is_empty() && nonces.prices.is_empty());
    }

    #[test]
    fn a_filler_follows_the_market() {
        let mut nonces = Nonces { next: Some(9), free: BTreeSet::from([5]), ..Nonces::default() };
        nonces.fill_gaps((4, 8), TODAY, sign);
        assert_eq!(nonces.fill_gaps((4, 8), GasPrice { max_wei: 21, tip_wei: 1 }, sign), 0);
        assert_eq!(nonces.fill_gaps((4, 8), GasPrice { max_wei: 22, tip_wei: 1 }, sign), 12);
        assert_eq!(
            (raws(&nonces), nonces.prices.get(&5).map(|price| price.tip_wei)),
            (vec!["5 at 22".to_owned()], Some(3))
        );
        // One of an older build is sent as it is.
        let old: Nonces = serde_json::from_str(r#"{"next": 9, "free": [], "fillers": {"5": "raw"}}"#).expect("reads");
        let mut kept = old.clone();
        assert_eq!((kept.fill_gaps((4, 8), GasPrice { max_wei: 99, tip_wei: 1 }, sign), kept), (0, old));
    }

    #[test]
    fn a_nonce_that_the_chain_waits_for_and_nobody_knows_is_missed() {
        let mut nonces = Nonces { next: Some(9), ..Nonces::default() };
        let open = BTreeSet::from([6, 8]);
        assert!(nonces.is_missing(5, &open) && nonces.is_missing(7, &open));
        // A flight holds it, or everything is behind it.
        assert!(!nonces.is_missing(6, &open) && !nonces.is_missing(8, &open) && !nonces.is_missing(9, &open));
        assert!(!nonces.is_missing(5, &BTreeSet::new()));
        nonces.free.insert(5);
        assert!(!nonces.is_missing(5, &open));
        nonces.fill_gaps((5, 8), TODAY, sign);
        assert!(!nonces.is_missing(5, &open));
    }

    proptest! {
        #[test]
        fn no_nonce_is_given_twice(back in proptest::collection::vec(any::<bool>(), 1..60)) {
            let mut nonces = Nonces::default();
            let mut held = BTreeSet::new();
            for (at, give_back) in back.iter().enumerate() {
                let nonce = nonces.take_next(5, at == 0);
                prop_assert!(held.insert(nonce), "{nonce} twice");
                if *give_back {
                    held.remove(&nonce);
                    nonces.give_back(nonce);
                }
            }
        }
    }
}

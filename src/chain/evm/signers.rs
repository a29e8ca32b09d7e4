//! Who signed what, of the last signatures: a payment is verified and then
//! settled, and a recovery is the dearest step of both.

use super::eip3009::Signed;
use alloy_primitives::{Address, B256, keccak256};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Signatures of a generation; two are kept, some hundred bytes each.
const GENERATION: usize = 4_096;

/// A memory of recoveries, bounded: the older half is dropped when the newer is full.
#[derive(Default)]
pub struct Signers(RefCell<Generations>);

#[derive(Default)]
struct Generations {
    newer: BTreeMap<B256, Option<Address>>,
    older: BTreeMap<B256, Option<Address>>,
}

impl Signers {
    /// Who signed the digest, looked up or recovered: the digest and the
    /// signature, byte for byte, are what an entry is found by.
    pub(super) fn signer(&self, signature: &Signed, digest: B256) -> Option<Address> {
        let key = keccak256([digest.as_slice(), signature.bytes()].concat());
        let mut all = self.0.borrow_mut();
        if let Some(known) = all.newer.get(&key).or_else(|| all.older.get(&key)) {
            return *known;
        }
        let signer = signature.signer(digest);
        if all.newer.len() >= GENERATION {
            all.older = core::mem::take(&mut all.newer);
        }
        all.newer.insert(key, signer);
        signer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signer::EvmSigner;

    fn signed(signer: &EvmSigner, digest: B256) -> Signed {
        let signature = signer.sign(digest).expect("signs");
        Signed::read(&format!("0x{}", hex::encode(signature.as_bytes()))).expect("reads")
    }

    #[test]
    fn what_is_remembered_is_what_would_be_recovered() {
        let signers = Signers::default();
        let signer = EvmSigner::parse(&"07".repeat(32)).expect("a key");
        for at in 0..3_u8 {
            let (digest, other) = (B256::repeat_byte(at), B256::repeat_byte(at.wrapping_add(100)));
            let signature = signed(&signer, digest);
            for _ in 0..2 {
                assert_eq!(signers.signer(&signature, digest), Some(signer.address()));
                assert_ne!(signers.signer(&signature, other), Some(signer.address()));
            }
        }
    }

    #[test]
    fn the_memory_is_bounded() {
        let signers = Signers::default();
        let nonsense = Signed::read("0x").expect("reads");
        for at in 0..3 * GENERATION {
            assert_eq!(signers.signer(&nonsense, B256::from(alloy_primitives::U256::from(at))), None);
        }
        let all = signers.0.borrow();
        assert!(all.newer.len() <= GENERATION && all.older.len() <= GENERATION);
    }
}

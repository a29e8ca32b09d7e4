//! A cache of what earlier verifications found: the signers of the last signatures (a payment is verified and then
//! settled, and recovering the signer is the most expensive step of both), tokens that are deployed, and whether payers
//! have code.

use super::eip3009::PayerSignature;
use crate::time::UnixSeconds;
use alloy_primitives::{Address, B256, keccak256};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// The most signatures of a generation; two generations are kept, some hundred bytes a signature.
const GENERATION_MAX: usize = 4_096;

/// How long a contract that was found counts as deployed.
const DEPLOYED_S: u64 = 900;
/// How long it is remembered whether a payer has code.
const CODE_S: u64 = 60;
/// The most payers for which that is remembered.
const CODES_MAX: usize = 8_192;

/// The cache. It is bounded, and may be lost at any time.
#[derive(Default)]
pub struct VerificationCache {
    /// The older half is dropped when the newer is full.
    signers: RefCell<SignerGenerations>,
    /// By the domain separator, which is unique to each registered token.
    deployed: RefCell<BTreeMap<[u8; 32], UnixSeconds>>,
    /// Whether a payer had code, and when.
    codes: RefCell<BTreeMap<PayerKey, (bool, UnixSeconds)>>,
}

/// The separator, which names the chain, and the address.
type PayerKey = ([u8; 32], Address);

#[derive(Default)]
struct SignerGenerations {
    newer: BTreeMap<B256, Option<Address>>,
    older: BTreeMap<B256, Option<Address>>,
}

impl VerificationCache {
    /// The signer of the digest, remembered or recovered. An entry is found by the digest and the signature, byte for
    /// byte.
    pub(crate) fn signer(&self, signature: &PayerSignature, digest: B256) -> Option<Address> {
        let key = keccak256([digest.as_slice(), signature.bytes()].concat());
        let mut all = self.signers.borrow_mut();
        if let Some(known) = all.newer.get(&key).or_else(|| all.older.get(&key)) {
            return *known;
        }
        let signer = signature.signer(digest);
        if all.newer.len() >= GENERATION_MAX {
            all.older = core::mem::take(&mut all.newer);
        }
        all.newer.insert(key, signer);
        signer
    }

    /// Whether the token's address was recently found to hold a contract.
    pub(crate) fn is_deployed(&self, separator: &[u8; 32], now: UnixSeconds) -> bool {
        let all = self.deployed.borrow();
        all.get(separator).is_some_and(|at| now.0.saturating_sub(at.0) < DEPLOYED_S)
    }

    /// Notes that the token's address holds a contract.
    pub(crate) fn note_deployed(&self, separator: [u8; 32], now: UnixSeconds) {
        self.deployed.borrow_mut().insert(separator, now);
    }

    /// Whether a payer recently had code; `None` where that is not remembered.
    pub(crate) fn has_code(&self, separator: &[u8; 32], payer: Address, now: UnixSeconds) -> Option<bool> {
        let all = self.codes.borrow();
        let (has_code, at) = all.get(&(*separator, payer))?;
        (now.0.saturating_sub(at.0) < CODE_S).then_some(*has_code)
    }

    /// Notes whether a payer has code.
    pub(crate) fn note_code(&self, separator: [u8; 32], payer: Address, has_code: bool, now: UnixSeconds) {
        let mut all = self.codes.borrow_mut();
        if all.len() >= CODES_MAX {
            all.clear();
        }
        all.insert((separator, payer), (has_code, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signer::EvmSigner;

    fn signed(signer: &EvmSigner, digest: B256) -> PayerSignature {
        let signature = signer.sign(digest).expect("signs");
        PayerSignature::read(&format!("0x{}", hex::encode(signature.as_bytes()))).expect("reads")
    }

    #[test]
    fn what_is_remembered_is_what_would_be_recovered() {
        let memory = VerificationCache::default();
        let signer = EvmSigner::parse(&"07".repeat(32)).expect("a key");
        for at in 0..3_u8 {
            let (digest, other) = (B256::repeat_byte(at), B256::repeat_byte(at.wrapping_add(100)));
            let signature = signed(&signer, digest);
            for _ in 0..2 {
                assert_eq!(memory.signer(&signature, digest), Some(signer.address()));
                assert_ne!(memory.signer(&signature, other), Some(signer.address()));
            }
        }
    }

    #[test]
    fn a_contract_counts_as_there_for_a_quarter_of_an_hour() {
        let (memory, at) = (VerificationCache::default(), UnixSeconds(1_000));
        assert!(!memory.is_deployed(&[1; 32], at));
        memory.note_deployed([1; 32], at);
        assert!(memory.is_deployed(&[1; 32], at.plus(899)) && !memory.is_deployed(&[1; 32], at.plus(900)));
        assert!(!memory.is_deployed(&[2; 32], at));
    }

    #[test]
    fn whether_a_payer_has_code_is_known_for_a_minute_on_its_chain() {
        let (memory, at, payer) = (VerificationCache::default(), UnixSeconds(1_000), Address::repeat_byte(7));
        for has_code in [false, true] {
            memory.note_code([1; 32], payer, has_code, at);
            assert_eq!(memory.has_code(&[1; 32], payer, at.plus(59)), Some(has_code));
            assert_eq!(memory.has_code(&[1; 32], payer, at.plus(60)), None);
            assert_eq!(memory.has_code(&[2; 32], payer, at), None);
            assert_eq!(memory.has_code(&[1; 32], Address::repeat_byte(8), at), None);
        }
    }

    #[test]
    fn the_memory_is_bounded() {
        let memory = VerificationCache::default();
        for at in 0..=CODES_MAX {
            memory.note_code([1; 32], Address::left_padding_from(&at.to_be_bytes()), false, UnixSeconds(1));
        }
        assert!(memory.codes.borrow().len() <= CODES_MAX);
        let nonsense = PayerSignature::read("0x").expect("reads");
        for at in 0..3 * GENERATION_MAX {
            assert_eq!(memory.signer(&nonsense, B256::from(alloy_primitives::U256::from(at))), None);
        }
        let all = memory.signers.borrow();
        assert!(all.newer.len() <= GENERATION_MAX && all.older.len() <= GENERATION_MAX);
    }
}

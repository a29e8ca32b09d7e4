//! The EIP-712 domain separator of a token. The build recomputes every row's
//! with it, and the registry check what it reads from a chain.

use alloy_primitives::{Address, B256, U256, keccak256};

/// The domain type of every registered token (EIP-712, EIP-3009).
const DOMAIN: &[u8] = b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)";

/// The separator of a domain of that type.
#[must_use]
pub(crate) fn domain_separator(name: &str, version: &str, chain_id: u64, contract: Address) -> B256 {
    let words = [
        keccak256(DOMAIN),
        keccak256(name.as_bytes()),
        keccak256(version.as_bytes()),
        B256::from(U256::from(chain_id)),
        contract.into_word(),
    ];
    keccak256(words.concat())
}

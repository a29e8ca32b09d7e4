//! EIP-3009 `transferWithAuthorization`: the typed data that a payer signs, the
//! signature in its forms, and the calldata that carries both to the token.

use crate::address::hex_digits;
use crate::signer::recover;
use crate::trace::CodeKind;
use alloy_primitives::{Address, B256, Bytes, Signature, U256, keccak256};
use alloy_sol_types::{SolCall, SolStruct, SolValue, sol};

sol! {
    /// The struct that is signed (EIP-3009).
    #[derive(Debug, PartialEq, Eq)]
    struct TransferWithAuthorization {
        address from;
        address to;
        uint256 value;
        uint256 validAfter;
        uint256 validBefore;
        bytes32 nonce;
    }

    /// The token's function for signatures of accounts without code.
    function transferWithAuthorization(address from, address to, uint256 value, uint256 validAfter,
        uint256 validBefore, bytes32 nonce, uint8 v, bytes32 r, bytes32 s) external;
    /// Whether an authorization was used or cancelled.
    function authorizationState(address authorizer, bytes32 nonce) external view returns (bool);
    /// The token balance of an account, in atomic units.
    function balanceOf(address account) external view returns (uint256);
    /// A contract's check of a signature (ERC-1271).
    function isValidSignature(bytes32 hash, bytes signature) external view returns (bytes4);
}

mod of_bytes {
    alloy_sol_types::sol! {
        /// The token's function for signatures of contracts, of any length (FiatToken 2.2).
        function transferWithAuthorization(address from, address to, uint256 value, uint256 validAfter,
            uint256 validBefore, bytes32 nonce, bytes signature) external;
    }
}

/// Whether a contract's answer to [`isValidSignatureCall`] says that the signature is its own: the function's selector
/// in front of a word (ERC-1271).
pub(crate) fn accepts_signature(answer: &str) -> bool {
    answer.starts_with(&alloy_primitives::hex::encode_prefixed(isValidSignatureCall::SELECTOR))
}

/// The last bytes of a wrapped signature by a wallet that may not be deployed (ERC-6492).
const ERC6492_MAGIC: [u8; 32] = [
    0x64, 0x92, 0x64, 0x92, 0x64, 0x92, 0x64, 0x92, 0x64, 0x92, 0x64, 0x92, 0x64, 0x92, 0x64, 0x92, 0x64, 0x92, 0x64,
    0x92, 0x64, 0x92, 0x64, 0x92, 0x64, 0x92, 0x64, 0x92, 0x64, 0x92, 0x64, 0x92,
];

/// The longest signature that is read: a multisignature wallet's of some hundred owners.
pub(super) const SIGNATURE_BYTES_MAX: usize = 8_192;

/// The digest that the payer signed for a token with this EIP-712 domain separator.
pub(crate) fn digest(separator: [u8; 32], signed: &TransferWithAuthorization) -> B256 {
    let mut text = Vec::with_capacity(66);
    text.extend([0x19, 0x01]);
    text.extend(separator);
    text.extend(signed.eip712_hash_struct());
    keccak256(text)
}

/// A signature as the buyer sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PayerSignature {
    /// The signature without the ERC-6492 wrapper.
    bytes: Vec<u8>,
    /// The whole text, where the signature came in such a wrapper.
    wrapper: Option<Vec<u8>>,
}

impl PayerSignature {
    /// Reads hex of at most [`SIGNATURE_BYTES_MAX`] bytes.
    pub(crate) fn read(text: &str) -> Option<Self> {
        if text.len() > SIGNATURE_BYTES_MAX.saturating_mul(2).saturating_add(2) {
            return None;
        }
        let bytes = hex::decode(hex_digits(text)?).ok()?;
        if bytes.ends_with(&ERC6492_MAGIC) {
            let content = bytes.get(..bytes.len().saturating_sub(ERC6492_MAGIC.len()))?;
            let (_, _, inner) = <(Address, Bytes, Bytes)>::abi_decode_params(content).ok()?;
            return Some(Self { bytes: inner.to_vec(), wrapper: Some(bytes) });
        }
        Some(Self { bytes, wrapper: None })
    }

    /// The signature's bytes, without a wrapper.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes as the buyer sent them.
    pub(crate) fn original_bytes(&self) -> &[u8] {
        self.wrapper.as_deref().unwrap_or(&self.bytes)
    }

    /// Whether it came in an ERC-6492 wrapper, so that the wallet may not be deployed.
    pub(crate) const fn is_wrapped(&self) -> bool {
        self.wrapper.is_some()
    }

    /// Whether an account without code can have made it.
    pub(crate) fn may_be_eoa(&self) -> bool {
        !self.is_wrapped() && self.ecdsa_parts().is_some()
    }

    /// As r, s and v of 27 or 28, if it has the length of one: 65 bytes, or 64 (EIP-2098).
    fn ecdsa_parts(&self) -> Option<(B256, B256, u8)> {
        match self.bytes.len() {
            65 => {
                let (r, rest) = self.bytes.split_first_chunk::<32>()?;
                let (s, v) = rest.split_first_chunk::<32>()?;
                let v = match v {
                    [v @ (27 | 28)] => *v,
                    [v @ (0 | 1)] => v.checked_add(27)?,
                    _ => return None,
                };
                Some((B256::from(*r), B256::from(*s), v))
            }
            64 => {
                let (r, s) = self.bytes.split_first_chunk::<32>()?;
                let mut s: [u8; 32] = s.try_into().ok()?;
                let (odd, low) = (s.first()? >> 7, s.first()? & 0x7f);
                *s.first_mut()? = low;
                Some((B256::from(*r), B256::from(s), odd.checked_add(27)?))
            }
            _ => None,
        }
    }

    /// The signer, for an account without code. A high s is refused, as the token does.
    pub(crate) fn signer(&self, digest: B256) -> Option<Address> {
        let (r, s, v) = self.ecdsa_parts()?;
        let signature = Signature::new(U256::from_be_bytes(r.0), U256::from_be_bytes(s.0), v == 28);
        if signature.normalize_s().is_some() {
            return None;
        }
        recover(digest, r, s, v == 28)
    }

    /// The call that asks a wallet whether a signature is its own (ERC-1271).
    pub(crate) fn erc1271_calldata(&self, digest: B256) -> Vec<u8> {
        isValidSignatureCall { hash: digest, signature: self.bytes.clone().into() }.abi_encode()
    }

    /// The calldata that moves the tokens. For a contract it holds the signature's bytes unchanged, whatever their
    /// length; for an account without code the token requires r, s and v of 27 or 28.
    pub(crate) fn transfer_calldata(&self, signed: &TransferWithAuthorization, code: CodeKind) -> Vec<u8> {
        let TransferWithAuthorization { from, to, value, validAfter, validBefore, nonce } = *signed;
        match self.ecdsa_parts().filter(|_| code == CodeKind::None) {
            Some((r, s, v)) => {
                transferWithAuthorizationCall { from, to, value, validAfter, validBefore, nonce, v, r, s }.abi_encode()
            }
            None => {
                let signature = self.bytes.clone().into();
                of_bytes::transferWithAuthorizationCall { from, to, value, validAfter, validBefore, nonce, signature }
                    .abi_encode()
            }
        }
    }
}

/// The calldata that reads whether an authorization was used.
pub(crate) fn authorization_state_calldata(authorizer: Address, nonce: B256) -> Vec<u8> {
    authorizationStateCall { authorizer, nonce }.abi_encode()
}

/// The calldata that reads an address's balance.
pub(crate) fn balance_calldata(account: Address) -> Vec<u8> {
    balanceOfCall { account }.abi_encode()
}

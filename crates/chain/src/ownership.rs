//! Whether a signature over a message shows that its signer holds an address: by its key (EIP-191, ed25519), or by the
//! contract at the address (ERC-1271).

use crate::address::{Address, Family, base58};
use crate::evm::eip3009::{PayerSignature, accepts_signature};
use crate::evm::{answered_text, calls, check_chain, code_kind};
use crate::facts::{ErrorClass, Facts, RpcReply, Undecided};
use crate::network::Network;
use crate::trace::CodeKind;
use alloy_primitives::{Address as Address20, eip191_hash_message};
use ed25519_dalek::{Signature, VerifyingKey};

/// How an address was proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProofKind {
    /// An EVM key signed the message as `personal_sign` does (EIP-191). It holds on all EVM chains.
    Eip191,
    /// A Solana key signed the message. It holds on all chains of the family.
    Ed25519,
    /// The contract at the address accepts the signature (ERC-1271). It holds on the chain that was asked: on another,
    /// the address may have another contract, or none.
    Erc1271,
}

impl ProofKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Eip191, Self::Ed25519, Self::Erc1271];

    /// The name in JSON: `eip191`, `ed25519` or `erc1271`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Eip191 => "eip191",
            Self::Ed25519 => "ed25519",
            Self::Erc1271 => "erc1271",
        }
    }
}

/// A signature of a wallet, as text: hex with `0x` of at most 8,192 bytes on EVM, base58 of 64 bytes on Solana.
#[derive(Clone, Debug)]
pub struct WalletSignature(SignatureBytes);

#[derive(Clone, Debug)]
enum SignatureBytes {
    Evm(PayerSignature),
    Svm([u8; 64]),
}

impl WalletSignature {
    /// Reads a signature of the family; `None` for a text of another form.
    #[must_use]
    pub fn parse(family: Family, text: &str) -> Option<Self> {
        match family {
            Family::Evm => PayerSignature::read(text).map(SignatureBytes::Evm),
            // 64 bytes are at most 88 base58 characters.
            Family::Svm => base58(text, 88).map(SignatureBytes::Svm),
        }
        .map(Self)
    }
}

/// Whether a signature proves an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// It does.
    Proven(ProofKind),
    /// It does not: why not.
    Refused(&'static str),
}

/// Whether a message can be signed for the address: not for a Solana address off the curve, as programs have.
#[must_use]
pub fn can_sign(address: &Address) -> bool {
    match address {
        Address::Evm(_) => true,
        Address::Svm(key) => VerifyingKey::from_bytes(key).is_ok(),
    }
}

/// Checks a signature over a message. A key's own signature needs no chain; on EVM the contract at the address is asked
/// about any other.
///
/// # Errors
/// [`Undecided::Missing`] with two calls, then a third; [`Undecided::Malformed`]: `wrong_chain`, `node_error`,
/// `malformed_quantity`, `malformed_code`.
pub fn check_ownership(
    network: &Network,
    address: &Address,
    message: &str,
    signature: &WalletSignature,
    facts: &Facts,
) -> Result<Ownership, Undecided> {
    match (address, &signature.0) {
        (Address::Evm(address), SignatureBytes::Evm(signature)) => {
            evm_ownership((network, *address), message, signature, facts)
        }
        (Address::Svm(key), SignatureBytes::Svm(signature)) => Ok(svm_ownership(key, message, signature)),
        (Address::Evm(_), SignatureBytes::Svm(_)) | (Address::Svm(_), SignatureBytes::Evm(_)) => {
            Ok(Ownership::Refused("the signature is of another family of chains"))
        }
    }
}

fn evm_ownership(
    (network, address): (&Network, Address20),
    message: &str,
    signature: &PayerSignature,
    facts: &Facts,
) -> Result<Ownership, Undecided> {
    let digest = eip191_hash_message(message);
    if !signature.is_wrapped() && signature.signer(digest) == Some(address) {
        return Ok(Ownership::Proven(ProofKind::Eip191));
    }
    let (code, chain_id) = (calls::code_call(address), calls::chain_id_call());
    let [chain_id, _] = facts.require_all(&[chain_id, code.clone()])?;
    check_chain(network, chain_id)?;
    let kind = answered_text(facts, &code).and_then(|text| code_kind(&text));
    if kind.ok_or_else(|| Undecided::malformed("malformed_code"))? == CodeKind::None {
        // An undeployed wallet (ERC-6492) would have to be deployed to be asked: its owner deploys it first.
        let why = if signature.is_wrapped() {
            "the signature is of a wallet that is not deployed on this chain: deploy it first"
        } else {
            "the signature is not the address's: another key made it, or another message was signed"
        };
        return Ok(Ownership::Refused(why));
    }
    let ask = calls::view_call(address, calls::prefixed_hex(&signature.erc1271_calldata(digest)));
    let [answer] = facts.require_all(core::array::from_ref(&ask))?;
    match answer {
        RpcReply::Value(_) if answered_text(facts, &ask).is_some_and(|text| accepts_signature(&text)) => {
            Ok(Ownership::Proven(ProofKind::Erc1271))
        }
        RpcReply::Error(error) if !matches!(error.class, ErrorClass::Revert | ErrorClass::Halted) => {
            Err(Undecided::malformed_with("node_error", &error.message))
        }
        RpcReply::Value(_) | RpcReply::Error(_) => {
            Ok(Ownership::Refused("the contract at the address does not accept the signature (ERC-1271)"))
        }
    }
}

/// What every off-chain message of Solana begins with; no transaction does.
const OFFCHAIN_DOMAIN: &[u8; 16] = b"\xffsolana offchain";

fn svm_ownership(key: &[u8; 32], message: &str, signature: &[u8; 64]) -> Ownership {
    let Ok(verifying) = VerifyingKey::from_bytes(key) else {
        return Ownership::Refused("the address is off the curve, as a program's is: it has no key that could sign");
    };
    let signature = Signature::from_bytes(signature);
    let is_signed = |bytes: &[u8]| verifying.verify_strict(bytes, &signature).is_ok();
    let text = message.as_bytes();
    if is_signed(text) || offchain_forms(key, text).iter().any(|bytes| is_signed(bytes)) {
        Ownership::Proven(ProofKind::Ed25519)
    } else {
        Ownership::Refused("the signature is not the address's: another key made it, or another message was signed")
    }
}

/// The message as wallets sign it that never sign bare bytes (Anza's proposal "off-chain message signing"): version 0
/// with an empty application domain, as a Ledger's application since 1.8.0, and version 1, as the wallet standard's
/// `solana:signOffchainMessage`.
fn offchain_forms(key: &[u8; 32], text: &[u8]) -> Vec<Vec<u8>> {
    let Ok(length) = u16::try_from(text.len()) else { return Vec::new() };
    // UTF-8, cut for hardware wallets, since lines end in a character that format 0 does not have.
    const FORMAT_UTF8: u8 = 1;
    let length = length.to_le_bytes();
    let one_signer = [1];
    let v0: [&[u8]; 8] = [OFFCHAIN_DOMAIN, &[0], &[0; 32], &[FORMAT_UTF8], &one_signer, key, &length, text];
    let v1: [&[u8]; 5] = [OFFCHAIN_DOMAIN, &[1], &one_signer, key, text];
    vec![v0.concat(), v1.concat()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{Call, RpcError};
    use crate::signer::{EvmSigner, SvmSigner};
    use proptest::prelude::*;
    use serde_json::json;
    use serde_json::value::to_raw_value;

    const MESSAGE: &str = "x402-edge\n\nNonce: 1";
    /// Of `MESSAGE` by the key 0x11…11, as viem 2.57 makes it (`signMessage`).
    const VIEM_SIGNATURE: &str = concat!(
        "199edab1792845d5a2bfea112933018b0016840d5d7322fd61531e6c29568cdd",
        "1c2e9926757be757f8be51db56e34ffbccf3f7dbe9fd3bd1c3132ef58638085a1b"
    );

    fn evm() -> (EvmSigner, Address) {
        let signer = EvmSigner::parse(&"11".repeat(32)).expect("a key");
        let address = Address::Evm(signer.address());
        (signer, address)
    }

    fn svm(seed: u8) -> (SvmSigner, Address) {
        let pair = ed25519_dalek::SigningKey::from_bytes(&[seed; 32]).to_keypair_bytes();
        let signer = SvmSigner::parse(&bs58::encode(pair).into_string()).expect("a key pair");
        let address = Address::Svm(signer.address());
        (signer, address)
    }

    fn evm_signature(signer: &EvmSigner, message: &str) -> WalletSignature {
        let signature = signer.sign(eip191_hash_message(message)).expect("signs");
        WalletSignature::parse(Family::Evm, &hex_text(&signature.as_bytes())).expect("a signature")
    }

    fn svm_signature(signer: &SvmSigner, bytes: &[u8]) -> WalletSignature {
        let text = bs58::encode(signer.sign(bytes)).into_string();
        WalletSignature::parse(Family::Svm, &text).expect("a signature")
    }

    fn hex_text(bytes: &[u8]) -> String {
        format!("0x{}", hex::encode(bytes))
    }

    fn base() -> &'static Network {
        crate::network::by_key("base").expect("a chain")
    }

    fn check(address: &Address, message: &str, signature: &WalletSignature, facts: &Facts) -> Ownership {
        check_ownership(base(), address, message, signature, facts).expect("decides")
    }

    /// The last of the calls that are missing.
    fn missing(address: &Address, signature: &WalletSignature, facts: &Facts) -> Call {
        match check_ownership(base(), address, MESSAGE, signature, facts) {
            Err(Undecided::Missing(calls)) => calls.into_iter().next_back().expect("a call"),
            other => panic!("{other:?}"),
        }
    }

    fn value(text: &str) -> RpcReply {
        RpcReply::Value(to_raw_value(&json!(text)).expect("JSON"))
    }

    #[test]
    fn a_key_proves_its_own_address_and_no_other() {
        let (signer, address) = evm();
        let facts = Facts::new();
        let signature = evm_signature(&signer, MESSAGE);
        assert_eq!(check(&address, MESSAGE, &signature, &facts), Ownership::Proven(ProofKind::Eip191));
        let (solana, own) = svm(9);
        let signature = svm_signature(&solana, MESSAGE.as_bytes());
        assert_eq!(check(&own, MESSAGE, &signature, &facts), Ownership::Proven(ProofKind::Ed25519));
        for (address, message) in [(&svm(8).1, MESSAGE), (&own, "x402-edge\n\nNonce: 2")] {
            assert!(matches!(check(address, message, &signature, &facts), Ownership::Refused(_)));
        }
        assert!(matches!(check(&address, MESSAGE, &signature, &facts), Ownership::Refused(_)), "another family");
    }

    #[test]
    fn the_reference_wallet_s_signature_is_read() {
        let (signer, address) = evm();
        assert_eq!(address.to_string(), "0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A");
        let bytes = signer.sign(eip191_hash_message(MESSAGE)).expect("signs").as_bytes();
        assert_eq!(hex::encode(bytes), VIEM_SIGNATURE);
    }

    #[test]
    fn solana_s_off_chain_messages_count_as_the_message() {
        let (signer, address) = svm(9);
        let Address::Svm(key) = address else { panic!("of Solana") };
        for bytes in offchain_forms(&key, MESSAGE.as_bytes()) {
            assert!(bytes.starts_with(OFFCHAIN_DOMAIN) && bytes.ends_with(MESSAGE.as_bytes()));
            let signature = svm_signature(&signer, &bytes);
            assert_eq!(check(&address, MESSAGE, &signature, &Facts::new()), Ownership::Proven(ProofKind::Ed25519));
            assert!(matches!(check(&address, "other", &signature, &Facts::new()), Ownership::Refused(_)));
        }
        let of_another = offchain_forms(&[7; 32], MESSAGE.as_bytes());
        let signature = svm_signature(&signer, of_another.first().expect("a form"));
        assert!(matches!(check(&address, MESSAGE, &signature, &Facts::new()), Ownership::Refused(_)));
    }

    #[test]
    fn an_address_off_the_curve_cannot_sign() {
        // The associated token program's address of a token account: off the curve by construction.
        let off = solana_address::Address::find_program_address(&[b"x"], &solana_address::Address::from([1; 32])).0;
        let off = Address::Svm(off.to_bytes());
        assert!(!can_sign(&off) && can_sign(&svm(9).1) && can_sign(&evm().1));
        let signature = svm_signature(&svm(9).0, MESSAGE.as_bytes());
        assert!(matches!(check(&off, MESSAGE, &signature, &Facts::new()), Ownership::Refused(_)));
    }

    #[test]
    fn a_contract_is_asked_about_a_signature_and_answers_for_its_chain() {
        let contract = Address::Evm(Address20::repeat_byte(7));
        let (signer, _) = evm();
        let signature = evm_signature(&signer, MESSAGE);
        let mut facts = Facts::new();
        let code = missing(&contract, &signature, &facts);
        assert_eq!(code.method, "eth_getCode");
        facts.insert(code.clone(), value("0x"));
        facts.insert(calls::chain_id_call(), value("0x1"));
        let outcome = check_ownership(base(), &contract, MESSAGE, &signature, &facts);
        assert_eq!(outcome, Err(Undecided::malformed_with("wrong_chain", 1)), "a node of another chain");
        facts.insert(calls::chain_id_call(), value("0x2105"));
        for nonsense in ["0x6", "code"] {
            facts.insert(code.clone(), value(nonsense));
            let outcome = check_ownership(base(), &contract, MESSAGE, &signature, &facts);
            assert_eq!(outcome, Err(Undecided::malformed("malformed_code")), "{nonsense}");
        }
        facts.insert(code.clone(), value("0x"));
        assert!(matches!(check(&contract, MESSAGE, &signature, &facts), Ownership::Refused(_)));
        facts.insert(code, value("0x6000"));
        let ask = missing(&contract, &signature, &facts);
        assert_eq!(ask.method, "eth_call");
        facts.insert(ask.clone(), value(&format!("0x1626ba7e{}", "0".repeat(56))));
        assert_eq!(check(&contract, MESSAGE, &signature, &facts), Ownership::Proven(ProofKind::Erc1271));
        let error = |class| RpcReply::Error(RpcError { class, code: None, message: String::new() });
        for answer in [value("0x"), value(&format!("0x{}", "f".repeat(64))), error(ErrorClass::Revert)] {
            facts.insert(ask.clone(), answer);
            assert!(matches!(check(&contract, MESSAGE, &signature, &facts), Ownership::Refused(_)));
        }
        facts.insert(ask, error(ErrorClass::RateLimited));
        assert!(matches!(
            check_ownership(base(), &contract, MESSAGE, &signature, &facts),
            Err(Undecided::Malformed(_))
        ));
    }

    #[test]
    fn a_signature_of_another_form_is_none() {
        for wrong in ["", "0x0", "11", &"z".repeat(200)] {
            assert!(WalletSignature::parse(Family::Evm, wrong).is_none(), "{wrong}");
        }
        for wrong in ["", "0x11", &bs58::encode([1; 63]).into_string(), &"1".repeat(65)] {
            assert!(WalletSignature::parse(Family::Svm, wrong).is_none(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_signature_panics_and_none_of_chance_proves(bytes in proptest::collection::vec(any::<u8>(), 0..200), message in ".{0,80}") {
            let (_, address) = evm();
            if let Some(signature) = WalletSignature::parse(Family::Evm, &hex_text(&bytes)) {
                let proven = check_ownership(base(), &address, &message, &signature, &Facts::new()).is_ok();
                prop_assert!(!proven, "an unsigned message is decided without the chain");
            }
            if let Some(signature) = WalletSignature::parse(Family::Svm, &bs58::encode(&bytes).into_string()) {
                let verdict = check(&svm(9).1, &message, &signature, &Facts::new());
                prop_assert!(matches!(verdict, Ownership::Refused(_)));
            }
        }

        #[test]
        fn any_change_of_the_message_ends_the_proof(message in ".{1,80}", other in ".{1,80}") {
            prop_assume!(message != other);
            let ((evm_key, evm_address), (svm_key, svm_address)) = (evm(), svm(3));
            let signature = evm_signature(&evm_key, &message);
            prop_assert!(check_ownership(base(), &evm_address, &other, &signature, &Facts::new()).is_err());
            let signature = svm_signature(&svm_key, message.as_bytes());
            prop_assert!(matches!(check(&svm_address, &other, &signature, &Facts::new()), Ownership::Refused(_)));
        }
    }
}

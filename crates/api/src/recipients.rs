//! The routes by which sellers register the addresses at which they are paid.

use crate::admin::{NewAddress, RecipientView, find_chain, read_new_address};
use crate::body::{check_text, invalid, parse_body};
use serde::{Deserialize, Serialize};
use x402_chain::address::{Address, Family};
use x402_chain::network::Network;
use x402_chain::ownership::{WalletSignature, can_sign};
use x402_chain::svm::TokenAccountState;
use x402_core::error::{ErrorCode, Fault};
use x402_core::tenancy::proof::ProofNonce;

/// The most bytes of a signature's text: 8,192 bytes as hex with `0x`.
const SIGNATURE_TEXT_MAX: usize = 16_386;

/// The body of `POST /v1/recipients/challenge`.
#[derive(Debug, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ChallengeBody {
    /// The chain: our key (`base`) or its CAIP-2 id (`eip155:8453`).
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 64)))]
    pub chain: String,
    /// An EVM address or a Solana wallet.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 64)))]
    pub address: String,
}

/// The body of `POST /v1/recipients`: an address with a proof, or `derive` without one.
#[derive(Debug, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ProvenRecipientBody {
    /// The chain of the challenge: our key (`base`) or its CAIP-2 id (`eip155:8453`).
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 64)))]
    pub chain: String,
    /// The address of the challenge. `derive`: an address whose funds the operator of this service holds (EVM; not in the
    /// tier `free`).
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 64)))]
    pub address: String,
    /// The nonce of the challenge.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 64)))]
    pub nonce: Option<String>,
    /// The signature over the challenge's message: hex with `0x` on EVM, base58 on Solana.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 16_386)))]
    pub signature: Option<String>,
    /// Whether it becomes the chain's default; where absent: if the chain has none.
    pub default: Option<bool>,
}

/// The body of `PATCH /v1/recipients/{address}`.
#[derive(Debug, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RecipientPatchBody {
    /// The chain whose default recipient the address becomes, by our key or its CAIP-2 id.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 64)))]
    pub default_for: String,
}

/// A recipient to register.
#[derive(Debug)]
pub struct ProvenRecipient {
    /// The chain of the challenge, or for which an address is derived.
    pub network: &'static Network,
    /// The address with its proof; `None`: it is derived.
    pub proof: Option<AddressProof>,
    /// Whether it is the chain's default; where absent: if the chain has none.
    pub default: Option<bool>,
}

/// An address with the signature that proves it.
#[derive(Debug)]
pub struct AddressProof {
    /// The address that has signed.
    pub address: Address,
    /// The nonce of the challenge; `None` for a text that is no nonce.
    pub nonce: Option<ProofNonce>,
    /// The signature over its message.
    pub signature: WalletSignature,
}

fn read_chain(text: &str, param: &str) -> Result<&'static Network, Fault> {
    check_text(param, text, 64)?;
    find_chain(text, param)
}

/// Reads `POST /v1/recipients/challenge`.
///
/// # Errors
/// `INVALID_JSON`, `INVALID_REQUEST`, `INVALID_CHAIN`.
pub fn challenge(body: &[u8]) -> Result<(&'static Network, Address), Fault> {
    let body: ChallengeBody = parse_body(body)?;
    let network = read_chain(&body.chain, "chain")?;
    check_text("address", &body.address, 64)?;
    match read_new_address(network, &body.address, "address")? {
        NewAddress::Derived => Err(invalid("address", "is derived without a proof: POST /v1/recipients takes it")),
        NewAddress::Given(address) if !can_sign(&address) => {
            Err(invalid("address", "is off the curve, as a program's is: it has no key that could sign"))
        }
        NewAddress::Given(address) => Ok((network, address)),
    }
}

/// Reads `POST /v1/recipients`.
///
/// # Errors
/// `INVALID_JSON`, `INVALID_REQUEST`, `INVALID_CHAIN`, `INVALID_PROOF` for a signature of another form.
pub fn proven_recipient(body: &[u8]) -> Result<ProvenRecipient, Fault> {
    let body: ProvenRecipientBody = parse_body(body)?;
    let network = read_chain(&body.chain, "chain")?;
    check_text("address", &body.address, 64)?;
    let proof = match (read_new_address(network, &body.address, "address")?, body.nonce, body.signature) {
        (NewAddress::Derived, None, None) => None,
        (NewAddress::Derived, Some(_), _) => {
            return Err(invalid("nonce", "must be absent where an address is derived"));
        }
        (NewAddress::Derived, None, Some(_)) => {
            return Err(invalid("signature", "must be absent where an address is derived"));
        }
        (NewAddress::Given(address), Some(nonce), Some(signature)) => {
            check_text("nonce", &nonce, 64)?;
            check_text("signature", &signature, SIGNATURE_TEXT_MAX)?;
            let signature = WalletSignature::parse(network.family, &signature);
            let signature = signature.ok_or_else(|| {
                let form = match network.family {
                    Family::Evm => "hex with 0x, of at most 8,192 bytes",
                    Family::Svm => "base58 of 64 bytes",
                };
                invalid_proof(&format!("the signature must be {form}")).at("signature")
            })?;
            Some(AddressProof { address, nonce: ProofNonce::parse(&nonce), signature })
        }
        (NewAddress::Given(_), None, _) => {
            return Err(invalid(
                "nonce",
                "is required: POST /v1/recipients/challenge gives it with the message to sign",
            ));
        }
        (NewAddress::Given(_), Some(_), None) => return Err(invalid("signature", "is required")),
    };
    Ok(ProvenRecipient { network, proof, default: body.default })
}

/// Reads `PATCH /v1/recipients/{address}`.
///
/// # Errors
/// `INVALID_JSON`, `INVALID_REQUEST`, `INVALID_CHAIN`.
pub fn default_for(body: &[u8]) -> Result<&'static Network, Fault> {
    let body: RecipientPatchBody = parse_body(body)?;
    read_chain(&body.default_for, "default_for")
}

/// `INVALID_PROOF`, and why.
#[must_use]
pub fn invalid_proof(why: &str) -> Fault {
    Fault::new(ErrorCode::InvalidProof, why.to_owned())
}

/// The answer to `POST /v1/recipients/challenge`.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct ChallengeView {
    /// The text to sign, byte for byte: with `personal_sign` on EVM (EIP-191), with `signMessage` on Solana.
    pub message: String,
    /// Names the challenge in `POST /v1/recipients`.
    pub nonce: String,
    /// Until when the signature counts, RFC 3339: ten minutes.
    pub expires_at: String,
}

/// A wallet's USDC account on Solana.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct TokenAccountView {
    /// Its address, which follows from the wallet.
    pub address: String,
    /// Whether it exists; `null` where the chain gave no answer in time.
    pub exists: Option<bool>,
}

/// The answer to `POST /v1/recipients`.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct RecipientAdded {
    /// The recipient as it is stored.
    pub recipient: RecipientView,
    /// Its USDC account on Solana; `null` on EVM, where none is needed.
    pub token_account: Option<TokenAccountView>,
    /// What the seller should know or do before taking payments; `null` where there is nothing.
    pub warning: Option<String>,
    /// Whether the address is taken by the very next request. `false`: a ledger of the tenant was not reached, and it is
    /// taken within minutes.
    pub in_force: bool,
}

impl RecipientAdded {
    /// The answer with what the chain reports about the token account: `None` on EVM; an inner `None` where the chain gave
    /// no answer.
    #[must_use]
    pub fn new(
        (recipient, in_force): (RecipientView, bool),
        account: Option<(Address, Option<TokenAccountState>)>,
    ) -> Self {
        let Some((address, state)) = account else {
            return Self { recipient, token_account: None, warning: None, in_force };
        };
        let warning = match state {
            Some(TokenAccountState::Open) => None,
            Some(TokenAccountState::Missing) => Some(
                "this wallet has no USDC account yet: x402 payments to it are refused until it has one. Send any amount of \
                 USDC to it once, or create the account in the wallet",
            ),
            Some(TokenAccountState::Frozen) => {
                Some("the issuer has frozen this wallet's USDC account: payments to it fail")
            }
            None => Some("whether this wallet has a USDC account is unknown: the chain gave no answer in time"),
        };
        let exists = state.map(|state| state != TokenAccountState::Missing);
        let token_account = Some(TokenAccountView { address: address.to_string(), exists });
        Self { recipient, token_account, warning: warning.map(str::to_owned), in_force }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use x402_chain::network::Environment;

    const MERCHANT: &str = "0x209693Bc6afc0C5328bA36FaF03C514EF312287C";
    const WALLET: &str = "J2xccRtuG43drESLYznHhLhQkLTdfepcKYbiQ9BsJVaf";

    fn wrong<T>(read: Result<T, Fault>) -> (ErrorCode, String) {
        read.map(|_| ())
            .map_err(|fault| (fault.code, fault.param.unwrap_or_default().into_owned()))
            .expect_err("refused")
    }

    fn asked(body: &Value) -> Result<(&'static Network, Address), Fault> {
        challenge(body.to_string().as_bytes())
    }

    fn given(body: &Value) -> Result<ProvenRecipient, Fault> {
        proven_recipient(body.to_string().as_bytes())
    }

    #[test]
    fn a_challenge_names_a_chain_and_an_address_that_can_sign() {
        let (network, address) = asked(&json!({"chain": "eip155:8453", "address": MERCHANT})).expect("reads");
        assert_eq!((network.key, address.to_string().as_str()), ("base", MERCHANT));
        assert!(asked(&json!({"chain": "solana", "address": WALLET})).is_ok());
        let request = ErrorCode::InvalidRequest;
        for (body, code, param) in [
            (json!({"chain": "doge", "address": MERCHANT}), ErrorCode::InvalidChain, "chain"),
            (json!({"chain": "base", "address": WALLET}), request, "address"),
            (json!({"chain": "solana", "address": MERCHANT}), request, "address"),
            (json!({"chain": "base", "address": "derive"}), request, "address"),
            (json!({"chain": "base", "address": format!("0x{}", "0".repeat(40))}), request, "address"),
            // A token account is off the curve: its wallet is meant.
            (json!({"chain": "solana", "address": "7RP22uEk2BNSbZaQDPAXEqFzcqgoo7qiDiM3VwpgwXc1"}), request, "address"),
            (json!({"chain": "base"}), request, "address"),
            (json!({"chain": "base", "address": MERCHANT, "nonce": "1"}), request, "nonce"),
        ] {
            assert_eq!(wrong(asked(&body)), (code, param.to_owned()), "{body}");
        }
    }

    #[test]
    fn a_recipient_has_a_proof_or_is_derived() {
        let (nonce, signature) = ("ab".repeat(16), format!("0x{}", "11".repeat(65)));
        let whole =
            json!({"chain": "base", "address": MERCHANT, "nonce": nonce, "signature": signature, "default": true});
        let read = given(&whole).expect("reads");
        assert!(read.default == Some(true) && read.proof.is_some_and(|proof| proof.nonce.is_some()));
        let read = given(&json!({"chain": "base", "address": "derive"})).expect("reads");
        assert!(read.proof.is_none() && read.default.is_none());
        let (request, proof) = (ErrorCode::InvalidRequest, ErrorCode::InvalidProof);
        for (body, code, param) in [
            (json!({"chain": "base", "address": MERCHANT}), request, "nonce"),
            (json!({"chain": "base", "address": MERCHANT, "nonce": nonce}), request, "signature"),
            (json!({"chain": "base", "address": "derive", "nonce": nonce}), request, "nonce"),
            (json!({"chain": "base", "address": "derive", "signature": signature}), request, "signature"),
            (json!({"chain": "solana", "address": "derive"}), request, "address"),
            (json!({"chain": "base", "address": MERCHANT, "nonce": nonce, "signature": "11"}), proof, "signature"),
            (json!({"chain": "solana", "address": WALLET, "nonce": nonce, "signature": signature}), proof, "signature"),
        ] {
            assert_eq!(wrong(given(&body)), (code, param.to_owned()), "{body}");
        }
        assert_eq!(default_for(br#"{"default_for":"base"}"#).map(|network| network.key), Ok("base"));
        assert_eq!(wrong(default_for(br#"{"default_for":"x"}"#)), (ErrorCode::InvalidChain, "default_for".to_owned()));
    }

    #[test]
    fn the_answer_warns_unless_the_account_can_receive() {
        let recipient = RecipientView {
            address: WALLET.to_owned(),
            environment: Environment::Live,
            only_on: None,
            proof: None,
            default_for: Vec::new(),
            created_at: String::new(),
            removed_at: None,
        };
        let added = |state| {
            let account = Address::parse(Family::Svm, WALLET).expect("an address");
            let added = RecipientAdded::new((recipient.clone(), true), Some((account, state)));
            (added.token_account.and_then(|account| account.exists), added.warning.is_some())
        };
        assert_eq!(added(Some(TokenAccountState::Open)), (Some(true), false));
        assert_eq!(added(Some(TokenAccountState::Missing)), (Some(false), true));
        assert_eq!(added(Some(TokenAccountState::Frozen)), (Some(true), true));
        assert_eq!(added(None), (None, true));
        let evm = RecipientAdded::new((recipient.clone(), true), None);
        assert!(evm.token_account.is_none() && evm.warning.is_none());
    }
}

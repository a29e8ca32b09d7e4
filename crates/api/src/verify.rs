//! `POST /v1/verify`: the request body.

use super::body::{check_text, invalid, optional_variant, parse_body};
use alloy_primitives::B256;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use x402_chain::address::{Address, Family, TxId, hex_bytes};
use x402_chain::amount::Amount;
use x402_chain::network;
use x402_chain::network::{FinalityRule, Network};
use x402_chain::svm::MEMO_BYTES_MAX;
use x402_core::error::{ErrorCode, Fault};
use x402_core::verification::answer::Finality;
use x402_core::verification::claim::{Claim, MAX_AGE_SECONDS_DEFAULT, MAX_AGE_SECONDS_MAX, REFERENCE_BYTES_MAX};

/// The body of `POST /v1/verify`.
#[derive(Debug, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct VerifyRequest {
    /// The transaction: `0x` and 64 hex digits on EVM, a base58 signature on Solana.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 32, max = 90)))]
    pub tx_hash: String,
    /// The chain: our key (`base`) or its CAIP-2 id (`eip155:8453`).
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 64)))]
    pub chain: String,
    /// The least that must have arrived, in USDC: a decimal string, or a JSON number without exponent.
    pub expected_amount: Option<ExpectedAmount>,
    /// The address that must have been paid; default: the tenant's recipient for the chain.
    pub recipient: Option<String>,
    /// The payer that must have paid: only the amount that certainly came from it counts, and only its transfers are
    /// claimed.
    pub payer: Option<String>,
    /// The memo that the transaction must carry (Solana only). If it carries several memos, or several accounts paid,
    /// the payer must be named too.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 1232)))]
    pub memo: Option<String>,
    /// The EIP-3009 nonce that the transaction must have used (EVM only): `0x` and 64 hex digits. Only the transfer
    /// that it authorized is judged and claimed.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(regex(pattern = r"^0[xX][0-9a-fA-F]{64}$")))]
    pub authorization_nonce: Option<String>,
    /// Your own name for the order. The judged transfers are bound to it: no other reference can claim them.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 256)))]
    pub reference: Option<String>,
    /// The least finality of the payment; default `confirmed`. `finalized` is an error for chains whose `finality` is
    /// `null` under `/v1/supported-chains`: they have no rule that makes a block final.
    #[serde(default, deserialize_with = "optional_variant", skip_serializing_if = "Option::is_none")]
    pub finality: Option<Finality>,
    /// The greatest age of the payment's block, seconds; default 86,400, a day.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 1, max = 315_360_000)))]
    pub max_age_seconds: Option<u64>,
    /// Whether to bind the payment to the reference; default true.
    pub claim: Option<bool>,
}

/// An amount of USDC as the JSON text of its number or string, so that no float holds an amount.
#[derive(Debug)]
pub(crate) struct ExpectedAmount(String);

impl<'de> Deserialize<'de> for ExpectedAmount {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(from)?;
        Ok(Self(match raw.get().as_bytes().first() {
            // A string that is not Unicode text (a lone surrogate) stays as it was sent: it is no amount.
            Some(b'"') => serde_json::from_str(raw.get()).unwrap_or_else(|_| raw.get().to_owned()),
            _ => raw.get().to_owned(),
        }))
    }
}

#[cfg(not(target_arch = "wasm32"))]
impl schemars::JsonSchema for ExpectedAmount {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ExpectedAmount".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "An amount of USDC above zero, with six decimals at most.",
            "anyOf": [
                {"description": "Decimal digits, such as `\"1.50\"`: exact.", "type": "string", "pattern": r"^[0-9]{1,20}(\.[0-9]{1,6})?$"},
                {"description": "A JSON number: taken where it has six decimals at most.", "type": "number", "format": "double", "exclusiveMinimum": 0}
            ]
        })
    }
}

/// Reads the body of `POST /v1/verify`.
///
/// # Errors
/// `INVALID_JSON`, `INVALID_CHAIN`, `INVALID_TX_HASH`, `INVALID_AMOUNT`,
/// `INVALID_REQUEST`; `param` names the member.
pub fn read_claim(body: &[u8]) -> Result<Claim, Fault> {
    let request: VerifyRequest = parse_body(body)?;
    let network = network::find_network(&request.chain).ok_or_else(no_such_chain)?;
    let family = network.family;
    let tx = TxId::parse(family, request.tx_hash.trim_ascii()).ok_or_else(|| wrong_hash(family))?;
    let expected = request.expected_amount.as_ref().map(usdc).transpose()?;
    let address = |name, text: Option<String>| text.map(|text| read_address(name, &text, network)).transpose();
    let (recipient, payer) = (address("recipient", request.recipient)?, address("payer", request.payer)?);
    if let Some(memo) = &request.memo {
        check_memo(memo, family)?;
    }
    let authorization_nonce = request.authorization_nonce.map(|text| read_nonce(&text, family)).transpose()?;
    if let Some(reference) = &request.reference {
        check_text("reference", reference, REFERENCE_BYTES_MAX)?;
    }
    let finality = request.finality.unwrap_or(Finality::Confirmed);
    check_finality(finality, network)?;
    let max_age_s = request.max_age_seconds.unwrap_or(MAX_AGE_SECONDS_DEFAULT);
    if !(1..=MAX_AGE_SECONDS_MAX).contains(&max_age_s) {
        let rule = format!("must be a whole number from 1 to {MAX_AGE_SECONDS_MAX}");
        return Err(invalid("max_age_seconds", &rule));
    }
    Ok(Claim {
        network,
        tx,
        expected,
        recipient,
        payer,
        memo: request.memo,
        authorization_nonce,
        reference: request.reference,
        finality,
        max_age_s,
        claim: request.claim.unwrap_or(true),
    })
}

fn no_such_chain() -> Fault {
    Fault::new(ErrorCode::InvalidChain, "no such chain; GET /v1/supported-chains lists them").at("chain")
}

fn wrong_hash(family: Family) -> Fault {
    let shape = match family {
        Family::Evm => "a transaction hash on this chain is '0x' and 64 hex digits",
        Family::Svm => "a transaction on this chain is named by its first signature: base58 of 64 bytes",
    };
    Fault::new(ErrorCode::InvalidTxHash, shape).at("tx_hash")
}

fn usdc(amount: &ExpectedAmount) -> Result<Amount, Fault> {
    Amount::parse_usdc(&amount.0).filter(|amount| !amount.is_zero()).ok_or_else(|| {
        let rule = "'expected_amount' must be a decimal number of USDC above zero, without exponent, with at most six decimals";
        Fault::new(ErrorCode::InvalidAmount, rule).at("expected_amount")
    })
}

fn read_address(name: &str, text: &str, network: &Network) -> Result<Address, Fault> {
    let rule = match network.family {
        Family::Evm => "must be '0x' and 40 hex digits, in one case or with a valid checksum, and not zero",
        Family::Svm => "must be base58 of 32 bytes",
    };
    Address::parse(network.family, text).filter(|address| !address.is_zero()).ok_or_else(|| invalid(name, rule))
}

fn check_memo(memo: &str, family: Family) -> Result<(), Fault> {
    match family {
        Family::Evm => Err(invalid("memo", "is for Solana only")),
        Family::Svm if memo.is_empty() || memo.len() > MEMO_BYTES_MAX => {
            Err(invalid("memo", &format!("must be 1 to {MEMO_BYTES_MAX} bytes")))
        }
        Family::Svm => Ok(()),
    }
}

fn read_nonce(text: &str, family: Family) -> Result<B256, Fault> {
    let name = "authorization_nonce";
    if family == Family::Svm {
        return Err(invalid(name, "is for EVM chains only"));
    }
    let nonce = hex_bytes(text).map(|bytes: [u8; 32]| B256::from(bytes));
    nonce.ok_or_else(|| invalid(name, "must be '0x' and 64 hex digits"))
}

fn check_finality(finality: Finality, network: &Network) -> Result<(), Fault> {
    if finality == Finality::Finalized && network.finality == FinalityRule::Unknown {
        let rule =
            format!("cannot be 'finalized' on '{}': the chain has no rule that makes a block final", network.key);
        return Err(invalid("finality", &rule));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    const HASH: &str = "0xaf0d0052eec2231428c5fbf81523c2ef833a8f02ae080a047c1abce3e2b12e83";

    #[track_caller]
    fn refused(change: serde_json::Value, code: ErrorCode, param: &str) {
        let mut body = json!({"tx_hash": HASH, "chain": "base"});
        for (name, value) in change.as_object().expect("an object") {
            body[name] = value.clone();
        }
        let fault = read_claim(body.to_string().as_bytes()).expect_err(&body.to_string());
        assert_eq!((fault.code, fault.param.as_deref()), (code, Some(param)), "{body}");
    }

    #[test]
    fn the_least_request_has_the_documented_defaults() {
        let claim = read_claim(json!({"tx_hash": HASH, "chain": "eip155:8453"}).to_string().as_bytes()).expect("reads");
        assert_eq!(claim.network.key, "base");
        assert_eq!((claim.finality, claim.max_age_s, claim.claim), (Finality::Confirmed, 86_400, true));
        assert_eq!((claim.expected, claim.recipient, claim.reference), (None, None, None));
    }

    #[test]
    fn a_hash_and_an_address_may_begin_with_a_capital_x() {
        let capital = HASH.replacen("0x", "0X", 1);
        let payer = format!("0X{}", "AB".repeat(20));
        let body = json!({"tx_hash": capital, "chain": "base", "payer": payer, "authorization_nonce": capital});
        let claim = read_claim(body.to_string().as_bytes()).expect("reads");
        assert_eq!(claim.tx.to_string(), HASH);
        assert_eq!(claim.payer, Address::parse(Family::Evm, &payer.to_lowercase()));
        assert_eq!(claim.authorization_nonce.map(|nonce| nonce.to_string()).as_deref(), Some(HASH));
    }

    #[test]
    fn an_amount_is_read_by_its_text() {
        for (text, want) in [("\"1.50\"", 1_500_000), ("1.5", 1_500_000), ("0.000001", 1), ("120", 120_000_000)] {
            let body = format!(r#"{{"tx_hash":"{HASH}","chain":"base","expected_amount":{text}}}"#);
            let claim = read_claim(body.as_bytes()).expect("reads");
            assert_eq!(claim.expected, Some(Amount::atomic(want)), "{text}");
        }
        for wrong in ["1e3", "0", "\"0.0\"", "-1", "1.0000001", "\"1e3\"", "\"\"", "true", "[]", "1E400", r#""\ud800""#]
        {
            let body = format!(r#"{{"tx_hash":"{HASH}","chain":"base","expected_amount":{wrong}}}"#);
            let code = read_claim(body.as_bytes()).map_err(|fault| fault.code);
            assert_eq!(code, Err(ErrorCode::InvalidAmount), "{wrong}");
        }
    }

    #[test]
    fn every_wrong_member_is_named() {
        refused(json!({"chain": "dogecoin"}), ErrorCode::InvalidChain, "chain");
        refused(json!({"chain": 1}), ErrorCode::InvalidRequest, "chain");
        refused(json!({"chain": null}), ErrorCode::InvalidRequest, "chain");
        refused(json!({"tx_hash": "0x12"}), ErrorCode::InvalidTxHash, "tx_hash");
        refused(json!({"tx_hash": HASH, "chain": "solana"}), ErrorCode::InvalidTxHash, "tx_hash");
        refused(json!({"recipient": "0x12"}), ErrorCode::InvalidRequest, "recipient");
        refused(json!({"recipient": format!("0x{}", "0".repeat(40))}), ErrorCode::InvalidRequest, "recipient");
        refused(json!({"payer": []}), ErrorCode::InvalidRequest, "payer");
        refused(json!({"memo": "order-1"}), ErrorCode::InvalidRequest, "memo");
        refused(json!({"authorization_nonce": "0x12"}), ErrorCode::InvalidRequest, "authorization_nonce");
        refused(json!({"reference": ""}), ErrorCode::InvalidRequest, "reference");
        refused(json!({"reference": "x".repeat(257)}), ErrorCode::InvalidRequest, "reference");
        refused(json!({"finality": "safe"}), ErrorCode::InvalidRequest, "finality");
        refused(json!({"finality": {"finalized": null}}), ErrorCode::InvalidRequest, "finality");
        refused(json!({"chain": "sonic", "finality": "finalized"}), ErrorCode::InvalidRequest, "finality");
        refused(json!({"max_age_seconds": 0}), ErrorCode::InvalidRequest, "max_age_seconds");
        refused(json!({"max_age_seconds": 315_360_001_u64}), ErrorCode::InvalidRequest, "max_age_seconds");
        refused(json!({"max_age_seconds": 1.5}), ErrorCode::InvalidRequest, "max_age_seconds");
        refused(json!({"claim": "yes"}), ErrorCode::InvalidRequest, "claim");
        refused(json!({"expected_amout": "1"}), ErrorCode::InvalidRequest, "expected_amout");
    }

    #[test]
    fn finality_is_asked_for_only_where_the_chain_establishes_it() {
        for network in network::NETWORKS.iter().filter(|network| network.family == Family::Evm) {
            let read = |finality: &str| {
                read_claim(json!({"tx_hash": HASH, "chain": network.key, "finality": finality}).to_string().as_bytes())
            };
            assert!(read("confirmed").is_ok(), "{}", network.key);
            let is_known = network.finality != FinalityRule::Unknown;
            assert_eq!(read("finalized").is_ok(), is_known, "{}", network.key);
        }
    }

    proptest! {
        #[test]
        fn no_json_panics(name in "(tx_hash|chain|expected_amount|recipient|memo|x)", value in "[ -~]{0,40}") {
            let _ = read_claim(format!(r#"{{"tx_hash":"{HASH}","chain":"base","{name}":{value}}}"#).as_bytes());
            let _ = read_claim(format!(r#"{{"chain":"solana","{name}":"{value}"}}"#).as_bytes());
        }
    }
}

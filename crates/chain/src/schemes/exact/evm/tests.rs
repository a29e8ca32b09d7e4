use super::*;
use crate::evm::sender::GasPrice;
use crate::evm::sender::TransactionSender;
use crate::facts::{Call, ErrorClass, Facts, RpcError, RpcReply, Undecided};
use crate::network::by_key;
use crate::schemes::exact::rules::{OnchainContext, OnchainVerdict};
use crate::schemes::exact::{
    ExactPayment, OffchainVerdict, verify_offchain, verify_offchain_and_onchain, verify_onchain,
};
use crate::x402::{X402Body, read};
use k256::ecdsa::SigningKey;
use proptest::prelude::*;
use serde_json::value::to_raw_value;
use serde_json::{Value, json};

/// Key 0 of every development chain.
const KEY: &str = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
pub(super) const PAYER: &str = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";
const PAY_TO: &str = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8";
pub(super) const NOW: UnixSeconds = UnixSeconds(1_795_000_000);

pub(super) fn network() -> &'static Network {
    by_key("base-sepolia").expect("registered")
}

pub(super) fn signed(before: u64) -> TransferWithAuthorization {
    let address = |text: &str| match Address::parse(Family::Evm, text) {
        Some(Address::Evm(address)) => address,
        _ => panic!("an address"),
    };
    TransferWithAuthorization {
        from: address(PAYER),
        to: address(PAY_TO),
        value: U256::from(10_000),
        validAfter: U256::ZERO,
        validBefore: U256::from(before),
        nonce: B256::repeat_byte(0x11),
    }
}

pub(super) fn sign(signed: &TransferWithAuthorization) -> String {
    let key = SigningKey::from_slice(&hex::decode(KEY).expect("hex")).expect("a key");
    let digest = eip3009::digest(network().asset.separator.expect("a separator"), signed);
    let (signature, parity) = key.sign_prehash_recoverable(digest.as_slice());
    format!("0x{}{:02x}", hex::encode(signature.to_bytes()), parity.to_byte().saturating_add(27))
}

/// A good request of version 2.
pub(super) fn body() -> Value {
    let signed = signed(NOW.0.saturating_add(60));
    let requirements = json!({"scheme": "exact", "network": "eip155:84532", "amount": "10000",
        "asset": network().asset.text, "payTo": PAY_TO, "maxTimeoutSeconds": 60,
        "extra": {"name": "USDC", "version": "2"}});
    json!({"x402Version": 2, "paymentRequirements": requirements, "paymentPayload": {"x402Version": 2,
        "accepted": requirements, "payload": {"signature": sign(&signed), "authorization": {
            "from": PAYER, "to": PAY_TO, "value": "10000", "validAfter": "0",
            "validBefore": signed.validBefore.to_string(), "nonce": format!("0x{}", "11".repeat(32))}}}})
}

pub(super) fn payment(body: &Value) -> Payment {
    read(&X402Body::parse(body.to_string().as_bytes()).expect("an object")).expect("a payment")
}

pub(super) fn sender() -> TransactionSender {
    let price = GasPrice { max_wei: 3_000_000_000, tip_wei: 1_000_000 };
    TransactionSender {
        address: Address::Evm(Address20::repeat_byte(0x55)),
        gas_limit: Some(200_000),
        price: Some(price),
    }
}

pub(super) fn value(value: &Value) -> RpcReply {
    RpcReply::Value(to_raw_value(value).expect("JSON"))
}

pub(super) fn revert() -> RpcReply {
    RpcReply::Error(RpcError { class: ErrorClass::Revert, code: Some(3), message: "execution reverted: no".to_owned() })
}

pub(super) const FALSE: &str = "0x0000000000000000000000000000000000000000000000000000000000000000";
const TRUE: &str = "0x0000000000000000000000000000000000000000000000000000000000000001";

/// What a node says: code, state, simulation; then anything else that is asked.
fn judged(body: &Value, answers: &[(&str, RpcReply)]) -> OffchainVerdict {
    let payment = payment(body);
    let mut facts = Facts::new();
    for _ in 0..4 {
        match verify_offchain_and_onchain(&payment, network(), &sender(), &facts, NOW) {
            Ok(judged) => return judged,
            Err(Undecided::Missing(calls)) => {
                for call in calls {
                    let kind = kind(&call);
                    let answer = answers.iter().find(|(name, _)| *name == kind).map(|(_, reply)| reply.clone());
                    facts.insert(call, answer.unwrap_or_else(|| good(kind)));
                }
            }
            Err(Undecided::Malformed(nonsense)) => panic!("{nonsense:?}"),
        }
    }
    panic!("questions without end")
}

pub(super) fn kind(call: &Call) -> &'static str {
    let has = |selector: &str| call.params.contains(&format!("\"0x{selector}"));
    match call.method {
        "eth_getCode" if call.params.contains(&network().asset.text.to_lowercase()) => "token",
        "eth_getCode" => "code",
        _ if has("e94a0102") => "state",
        _ if has("e3ee160e") || has("cf092995") => "transfer",
        _ if has("70a08231") => "balance",
        _ if has("1626ba7e") => "wallet",
        _ => "other",
    }
}

pub(super) fn good(kind: &str) -> RpcReply {
    match kind {
        "state" => value(&json!(FALSE)),
        "token" => value(&json!("0x6001")),
        "balance" => value(&json!(format!("0x{:064x}", 1_000_000))),
        _ => value(&json!("0x")),
    }
}

fn reason(body: &Value, answers: &[(&str, RpcReply)]) -> Option<Reason> {
    let rules = judged(body, answers).rules;
    let good = judged(&super::tests::body(), &[]).rules.checks;
    // What is said of a broken rule is never what is said where it holds.
    for broken in rules.checks.iter().filter(|check| !check.passed) {
        assert!(!good.iter().any(|kept| kept.detail == broken.detail), "{}: {}", broken.name, broken.detail);
    }
    rules.refusal.map(|(reason, _)| reason)
}

#[test]
fn a_good_payment_passes_every_check_in_one_round() {
    let found = judged(&body(), &[]);
    assert_eq!(found.rules.refusal, None);
    assert!(found.rules.checks.iter().all(|check| check.passed));
    let asked = verify_offchain_and_onchain(&payment(&body()), network(), &sender(), &Facts::new(), NOW);
    assert!(matches!(asked, Err(Undecided::Missing(calls)) if calls.len() == 3));
    let Some(ExactPayment::Evm(terms)) = found.payment else { panic!("no terms") };
    assert_eq!(terms.payer().to_string(), PAYER);
    assert_eq!(hex::encode(&terms.calldata(CodeKind::None)[..4]), "e3ee160e");
    assert_eq!(terms.amount(), Amount::atomic(10_000));
}

/// What is asked first of a payment, and how it comes out, after a good one of the same payer `ago` seconds before.
fn second(sent: &Value, ago: u64, settles: bool, answers: &[(&str, RpcReply)]) -> (Vec<&'static str>, Option<Reason>) {
    after(&body(), sent, ago, settles, answers)
}

/// The same after `earlier`, good or not.
fn after(
    earlier: &Value,
    sent: &Value,
    ago: u64,
    settles: bool,
    answers: &[(&str, RpcReply)],
) -> (Vec<&'static str>, Option<Reason>) {
    let memory = VerificationCache::default();
    let mut first = None;
    for (body, now, answers) in [(earlier, NOW.0.saturating_sub(ago), &[][..]), (sent, NOW.0, answers)] {
        let payment = payment(body);
        let Some(terms) = verify_offchain(&payment, network(), &[], NOW).payment else { panic!("no terms") };
        let mut facts = Facts::new();
        for _ in 0..4 {
            let known = OnchainContext { facts: &facts, memory: &memory, settles, now: UnixSeconds(now) };
            match verify_onchain(&payment, &terms, &sender(), known) {
                Ok(OnchainVerdict::Checked(rules, _)) if now == NOW.0 => {
                    return (first.unwrap_or_default(), rules.refusal.map(|(reason, _)| reason));
                }
                Ok(_) => break,
                Err(Undecided::Missing(calls)) => {
                    let kinds: Vec<&'static str> = calls.iter().map(kind).collect();
                    if now == NOW.0 {
                        first.get_or_insert(kinds.clone());
                    }
                    for (call, kind) in calls.into_iter().zip(kinds) {
                        let answer = answers.iter().find(|(name, _)| *name == kind).map(|(_, reply)| reply.clone());
                        facts.insert(call, answer.unwrap_or_else(|| good(kind)));
                    }
                }
                Err(Undecided::Malformed(nonsense)) => panic!("{nonsense:?}"),
            }
        }
    }
    panic!("questions without end")
}

#[test]
fn a_payer_known_to_have_no_code_costs_one_question() {
    assert_eq!(second(&body(), 30, false, &[]), (vec!["transfer"], None));
    assert_eq!(second(&body(), 90, false, &[]), (vec!["transfer", "code"], None));
    assert_eq!(second(&body(), 30, true, &[]), (vec!["transfer", "code"], None));
    let used = [("transfer", revert()), ("state", value(&json!(TRUE)))];
    assert_eq!(second(&body(), 30, false, &used), (vec!["transfer"], Some(Reason::EvmNonceUsed)));
}

#[test]
fn a_payer_who_has_got_code_since_is_asked() {
    let delegated = || ("code", value(&json!(format!("0xef0100{}", "22".repeat(20)))));
    let refuses = [("transfer", revert()), delegated(), ("wallet", revert())];
    assert_eq!(second(&body(), 30, false, &refuses), (vec!["transfer"], Some(Reason::EvmSignature)));
    let yes = value(&json!(format!("0x1626ba7e{}", "0".repeat(56))));
    let poor = value(&json!(format!("0x{:064x}", 9_999)));
    let is_poor = [("transfer", revert()), delegated(), ("wallet", yes), ("balance", poor)];
    assert_eq!(second(&body(), 30, false, &is_poor), (vec!["transfer"], Some(Reason::EvmBalance)));
}

#[test]
fn a_signature_that_is_not_a_plain_payers_own_needs_no_chain() {
    let mut body = body();
    let signature = body["paymentPayload"]["payload"]["signature"].as_str().expect("text").to_owned();
    let flip = if signature.ends_with("1b") { "1c" } else { "1b" };
    let (rest, _) = signature.split_at(signature.len().saturating_sub(2));
    body["paymentPayload"]["payload"]["signature"] = json!(format!("{rest}{flip}"));
    let bad = Some(Reason::EvmSignature);
    assert_eq!(second(&body, 30, false, &[]), (vec![], bad));
    // Without a good one before it, the payer may be a contract that the node has not heard of yet.
    assert_eq!(after(&body, &body, 30, false, &[]), (vec!["transfer", "code"], bad));
    assert_eq!(second(&body, 90, false, &[]), (vec!["transfer", "code"], bad));
    // Where money would move, the code is read now: the payer may have got some.
    assert_eq!(second(&body, 30, true, &[]), (vec!["transfer", "code"], bad));
}

#[test]
fn our_own_vector_has_the_digest_that_the_reference_computed() {
    let digest = eip3009::digest(network().asset.separator.expect("a separator"), &signed(1_893_456_000));
    assert_eq!(hex::encode(digest), "7418c5730e5b1d28b3a3b5616f476479526a4668612cb2deb15e58e8cce0956b");
}

#[test]
fn every_free_rule_has_its_reason() {
    let check = |pointer: &str, new: Value, want: Reason| {
        let mut body = body();
        *body.pointer_mut(pointer).expect("a member") = new;
        assert_eq!(reason(&body, &[]), Some(want), "{pointer}");
    };
    let both = |pointer: &str, new: Value, want: Reason| {
        let mut body = body();
        for side in ["/paymentRequirements", "/paymentPayload/accepted"] {
            *body.pointer_mut(&format!("{side}{pointer}")).expect("a member") = new.clone();
        }
        assert_eq!(reason(&body, &[]), Some(want), "{pointer}");
    };
    both("/asset", json!(PAYER), Reason::AssetNotAllowed);
    both("/scheme", json!("upto"), Reason::EvmScheme);
    check("/paymentPayload/accepted/scheme", json!("upto"), Reason::EvmScheme);
    both("/extra/name", json!("USD Coin"), Reason::EvmTokenName);
    both("/extra/version", json!("1"), Reason::EvmTokenVersion);
    check("/paymentPayload/accepted/network", json!("eip155:8453"), Reason::EvmNetworkMismatch);
    check("/paymentPayload/accepted/amount", json!("1"), Reason::InvalidRequirements);
    both("/payTo", json!(PAYER), Reason::EvmRecipient);
    both("/amount", json!("9999"), Reason::EvmValue);
    let authorization = "/paymentPayload/payload/authorization";
    check(&format!("{authorization}/from"), json!("0x12"), Reason::InvalidPayload);
    check(&format!("{authorization}/value"), json!("-1"), Reason::InvalidPayload);
    check(&format!("{authorization}/nonce"), json!("0x11"), Reason::InvalidPayload);
    check(&format!("{authorization}/to"), json!(PAYER), Reason::EvmRecipient);
    check(&format!("{authorization}/validBefore"), json!(NOW.0.saturating_add(5).to_string()), Reason::EvmValidBefore);
    check(&format!("{authorization}/validAfter"), json!(NOW.0.to_string()), Reason::EvmValidAfter);
    check("/paymentPayload/payload/signature", json!("nonsense"), Reason::EvmUnparsedSignature);
    check("/paymentPayload/payload/authorization", json!({}), Reason::InvalidPayload);
}

#[test]
fn another_contract_for_the_signature_is_refused_by_name() {
    let named = |contract: Value| {
        let mut body = body();
        for side in ["/paymentRequirements/extra", "/paymentPayload/accepted/extra"] {
            let extra = body.pointer_mut(side).expect("a member");
            extra["verifyingContract"] = contract.clone();
            // Its own domain besides, as a gateway's requirements name it.
            if !contract.is_null() && contract != json!(network().asset.text) {
                extra["name"] = json!("GatewayWalletBatched");
            }
        }
        judged(&body, &[]).rules.refusal
    };
    assert_eq!(named(Value::Null), None);
    assert_eq!(named(json!(network().asset.text)), None);
    for other in [json!(PAYER), json!(7), json!({})] {
        let (reason, found) = named(other.clone()).expect("a refusal");
        assert_eq!(reason, Reason::InvalidRequirements);
        let text = other.as_str().map_or_else(|| other.to_string(), str::to_owned);
        assert!(found.starts_with(&format!("extra.verifyingContract is '{text}'")), "{found}");
    }
}

#[test]
fn an_authorization_lasts_two_blocks_and_three_seconds_or_six() {
    // Milliseconds between blocks, and the seconds that are needed.
    for (key, block_ms, margin) in [
        ("arbitrum", 250, 6),
        ("sei", 400, 6),
        ("celo", 1_000, 6),
        ("avalanche", 1_700, 7),
        ("base-sepolia", 2_000, 7),
        ("iotex", 2_500, 8),
        ("peaq", 6_000, 15),
        ("ethereum", 12_000, 27),
    ] {
        let network = by_key(key).expect("registered");
        assert_eq!((network.block_time_ms, margin_s(network)), (block_ms, margin), "{key}");
    }
    let lasting = |left: u64| {
        let signed = signed(NOW.0.saturating_add(left));
        let mut body = body();
        body["paymentPayload"]["payload"]["authorization"]["validBefore"] = json!(signed.validBefore.to_string());
        body["paymentPayload"]["payload"]["signature"] = json!(sign(&signed));
        reason(&body, &[])
    };
    assert_eq!((lasting(6), lasting(7)), (Some(Reason::EvmValidBefore), None));
}

#[test]
fn an_expired_payment_keeps_its_terms_and_shows_whose_key_signed() {
    let late = |pointer: &str, new: Value| {
        let mut body = body();
        *body.pointer_mut(&format!("/paymentPayload/payload/{pointer}")).expect("a member") = new;
        let now = UnixSeconds(NOW.0.saturating_add(3_600));
        crate::schemes::exact::verify_offchain(&payment(&body), network(), &[], now)
    };
    let own_key = |judged: &OffchainVerdict| match &judged.payment {
        Some(ExactPayment::Evm(terms)) => Some(terms.is_signed_by_payer()),
        _ => None,
    };
    let good = late("authorization/to", body()["paymentPayload"]["payload"]["authorization"]["to"].clone());
    assert_eq!(good.rules.refusal.as_ref().map(|(reason, _)| *reason), Some(Reason::EvmValidBefore));
    assert_eq!(own_key(&good), Some(true));
    // A payer with code signs otherwise: its terms are kept, and do not pass for its own key's.
    let other = late("authorization/nonce", json!(format!("0x{}", "22".repeat(32))));
    assert_eq!(other.rules.refusal.as_ref().map(|(reason, _)| *reason), Some(Reason::EvmValidBefore));
    assert_eq!(own_key(&other), Some(false));
    for (member, new) in [("value", json!("10001")), ("to", json!(PAYER))] {
        assert_eq!(own_key(&late(&format!("authorization/{member}"), new)), None, "{member}");
    }
}

#[test]
fn a_domain_that_is_not_named_is_filled_in() {
    let mut body = body();
    body["paymentRequirements"]["extra"] = Value::Null;
    body["paymentPayload"]["accepted"]["extra"] = Value::Null;
    assert_eq!(reason(&body, &[]), None);
}

#[test]
fn only_the_payers_own_low_signature_is_one() {
    let with = |signature: String| {
        let mut body = body();
        body["paymentPayload"]["payload"]["signature"] = json!(signature);
        reason(&body, &[])
    };
    let signature = sign(&signed(NOW.0.saturating_add(60)));
    let raw = hex::decode(&signature[2..]).expect("hex");
    assert_eq!(with(signature), None);
    // v of 0 and 1 is the same signature; so is the short form (EIP-2098).
    let mut small = raw.clone();
    small[64] = small[64].saturating_sub(27);
    assert_eq!(with(format!("0x{}", hex::encode(&small))), None);
    let mut short = raw[..64].to_vec();
    short[32] |= raw[64].saturating_sub(27) << 7;
    assert_eq!(with(format!("0x{}", hex::encode(&short))), None);
    // The other root is as good to the curve, and refused by the token.
    let order =
        U256::from_str_radix("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141", 16).expect("hex");
    let high = order.saturating_sub(U256::from_be_slice(&raw[32..64]));
    let mut other = raw.clone();
    other[32..64].copy_from_slice(&high.to_be_bytes::<32>());
    other[64] = 55_u8.saturating_sub(raw[64]);
    assert_eq!(with(format!("0x{}", hex::encode(&other))), Some(Reason::EvmSignature));
    let mut flipped = raw;
    flipped[5] ^= 1;
    assert_eq!(with(format!("0x{}", hex::encode(&flipped))), Some(Reason::EvmSignature));
    assert_eq!(with("0x".to_owned()), Some(Reason::EvmSignature));
}

#[test]
fn a_payer_with_code_is_asked_and_nothing_else_counts() {
    let contract = |code: &str, wallet: RpcReply| reason(&body(), &[("code", value(&json!(code))), ("wallet", wallet)]);
    let yes = || value(&json!(format!("0x1626ba7e{}", "0".repeat(56))));
    assert_eq!(contract("0x6001", yes()), None);
    assert_eq!(contract("0x6001", value(&json!(FALSE))), Some(Reason::EvmSignature));
    assert_eq!(contract("0x6001", revert()), Some(Reason::EvmSignature));
    // A delegated account's own signature is good only if its code says so.
    let delegated = format!("0xef0100{}", "22".repeat(20));
    assert_eq!(contract(&delegated, revert()), Some(Reason::EvmSignature));
    assert_eq!(contract(&delegated, yes()), None);
}

#[test]
fn a_wallet_that_is_not_deployed_is_named() {
    use alloy_sol_types::SolValue;
    let inner = hex::decode(&sign(&signed(NOW.0.saturating_add(60)))[2..]).expect("hex");
    let wrapped = (Address20::repeat_byte(1), alloy_primitives::Bytes::new(), alloy_primitives::Bytes::from(inner));
    let text = format!("0x{}{}", hex::encode(wrapped.abi_encode_params()), "6492".repeat(16));
    let mut body = body();
    body["paymentPayload"]["payload"]["signature"] = json!(text);
    assert_eq!(reason(&body, &[]), Some(Reason::EvmFactory));
    let yes = value(&json!(format!("0x1626ba7e{}", "0".repeat(56))));
    assert_eq!(reason(&body, &[("code", value(&json!("0x60"))), ("wallet", yes)]), None);
}

#[test]
fn the_reason_of_a_refusal_is_read() {
    let check = |answers: &[(&str, RpcReply)], want: Reason| assert_eq!(reason(&body(), answers), Some(want));
    check(&[("transfer", revert()), ("state", value(&json!(TRUE)))], Reason::EvmNonceUsed);
    check(&[("token", value(&json!("0x")))], Reason::EvmAsset);
    check(&[("transfer", revert()), ("state", revert())], Reason::EvmNoEip3009);
    let poor = || value(&json!(format!("0x{:064x}", 9_999)));
    check(&[("transfer", revert()), ("balance", poor())], Reason::EvmBalance);
    check(&[("transfer", revert())], Reason::EvmSimulation);
    let detail = judged(&body(), &[("transfer", revert())]).rules.refusal.expect("a refusal").1;
    assert!(detail.contains("execution reverted"), "{detail}");
}

proptest! {
    #[test]
    fn no_answer_panics(code in "\\PC{0,40}", state in "(0x)?[0-9a-f]{0,70}", transfer in any::<bool>()) {
        let payment = payment(&body());
        let mut facts = Facts::new();
        for _ in 0..3 {
            match verify_offchain_and_onchain(&payment, network(), &sender(), &facts, NOW) {
                Err(Undecided::Missing(calls)) => for call in calls {
                    let reply = match kind(&call) {
                        "code" => value(&json!(code)),
                        "transfer" if transfer => revert(),
                        _ => value(&json!(state)),
                    };
                    facts.insert(call, reply);
                },
                Ok(_) | Err(Undecided::Malformed(_)) => break,
            }
        }
    }

    #[test]
    fn no_signature_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), wrapped in any::<bool>()) {
        let mut text = format!("0x{}", hex::encode(&bytes));
        if wrapped {
            text.push_str(&"6492".repeat(16));
        }
        if let Some(signature) = PayerSignature::read(&text) {
            let _ = signature.signer(B256::ZERO);
            let _ = [CodeKind::None, CodeKind::Contract].map(|code| signature.transfer_calldata(&signed(1), code));
        }
    }
}

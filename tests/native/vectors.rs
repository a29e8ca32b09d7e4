//! Payments that others signed (tests/fixtures/vectors), judged as requests.

use serde_json::value::to_raw_value;
use serde_json::{Value, json};
use std::fs;
use x402_chain::address::{Address, Family};
use x402_chain::evm::cache::VerificationCache;
use x402_chain::evm::sender::TransactionSender;
use x402_chain::facts::{Facts, RpcReply, Undecided};
use x402_chain::network::{Network, by_caip2};
use x402_chain::reason::Reason;
use x402_chain::schemes::exact::rules::{OnchainContext, OnchainVerdict};
use x402_chain::schemes::exact::{verify_offchain, verify_onchain};
use x402_chain::time::UnixSeconds;
use x402_chain::x402::{X402Body, read};

fn vectors(file: &str) -> Value {
    let path = crate::ROOT.join("tests/fixtures/vectors").join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).expect("JSON")
}

/// The payer and the reason of a refusal; every question is answered as a chain does where all is well.
fn judged(body: &Value, network: &Network, own: &[Address], now: u64) -> (Option<String>, Option<Reason>) {
    let payment = read(&X402Body::parse(body.to_string().as_bytes()).expect("an object")).expect("a payment");
    let free = verify_offchain(&payment, network, own, UnixSeconds(now));
    let Some(terms) = free.payment else { return (None, free.rules.refusal.map(|(reason, _)| reason)) };
    let (mut facts, memory) = (Facts::new(), VerificationCache::default());
    let sender =
        TransactionSender { address: *own.first().unwrap_or(&terms.pay_to()), gas_limit: Some(200_000), price: None };
    loop {
        let known = OnchainContext { facts: &facts, memory: &memory, settles: false, now: UnixSeconds(now) };
        match verify_onchain(&payment, &terms, &sender, known) {
            Ok(OnchainVerdict::SignerUnfunded | OnchainVerdict::Underpriced) => panic!("nobody said so"),
            Ok(OnchainVerdict::Checked(rules, _)) => {
                return (Some(terms.payer().to_string()), rules.refusal.map(|(reason, _)| reason));
            }
            Err(Undecided::Missing(calls)) => {
                for call in calls {
                    let answer = match call.method {
                        "eth_getCode" if call.params.contains(&network.asset.text.to_lowercase()) => json!("0x60"),
                        "simulateTransaction" => json!({"value": {"err": null}}),
                        _ => json!("0x"),
                    };
                    facts.insert(call, RpcReply::Value(to_raw_value(&answer).expect("JSON")));
                }
            }
            Err(Undecided::Malformed(nonsense)) => panic!("{nonsense:?}"),
        }
    }
}

#[test]
fn authorizations_of_others_are_theirs() {
    let all = vectors("evm.json");
    for name in ["own", "spec", "base_mainnet"] {
        let (message, domain) = (&all[name]["message"], &all[name]["domain"]);
        let network = by_caip2(&format!("eip155:{}", domain["chainId"])).expect("registered");
        let requirements = json!({"scheme": "exact", "network": network.caip2, "amount": message["value"],
            "asset": domain["verifyingContract"], "payTo": message["to"], "maxTimeoutSeconds": 60,
            "extra": {"name": domain["name"], "version": domain["version"]}});
        let mut body = json!({"x402Version": 2, "paymentRequirements": requirements, "paymentPayload": {
            "x402Version": 2, "accepted": requirements,
            "payload": {"authorization": message, "signature": all[name]["signature"]}}});
        let now = message["validBefore"].as_str().expect("text").parse::<u64>().expect("a number") - 30;
        let (payer, reason) = judged(&body, network, &[], now);
        assert_eq!((payer.as_deref(), reason), (message["from"].as_str(), None), "{name}");
        body["paymentPayload"]["payload"]["authorization"]["nonce"] = json!(format!("0x{}", "22".repeat(32)));
        assert_eq!(judged(&body, network, &[], now).1, Some(Reason::EvmSignature), "{name}");
    }
}

#[test]
fn a_transaction_of_the_stock_client_is_good() {
    let vector = vectors("svm.json");
    let network = by_caip2("solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1").expect("registered");
    let expect = &vector["expect"];
    let ours = Address::parse(Family::Svm, expect["feePayer"].as_str().expect("text")).expect("an address");
    let mut body = json!({"x402Version": 2, "paymentRequirements": vector["requirements"],
        "paymentPayload": vector["paymentPayload"]});
    let (payer, reason) = judged(&body, network, &[ours], 1_795_000_000);
    assert_eq!((payer.as_deref(), reason), (expect["payer"].as_str(), None));
    assert_eq!(judged(&body, network, &[], 1_795_000_000).1, Some(Reason::SvmFeePayerNotManaged));
    for side in ["/paymentRequirements/amount", "/paymentPayload/accepted/amount"] {
        *body.pointer_mut(side).expect("a member") = json!("1001");
    }
    assert_eq!(judged(&body, network, &[ours], 1_795_000_000).1, Some(Reason::SvmAmount));
}

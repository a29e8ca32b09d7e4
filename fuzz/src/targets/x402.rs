//! Payments of the x402 protocol, version 1 and 2.

use crate::properties::{NOW_MS, bounded, text};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;
use serde_json::value::to_raw_value;
use x402_chain::address::{Address, Family};
use x402_chain::evm::cache::VerificationCache;
use x402_chain::evm::sender::TransactionSender;
use x402_chain::facts::{Facts, RpcReply, Undecided};
use x402_chain::network::Network;
use x402_chain::schemes::exact;
use x402_chain::schemes::exact::ExactPayment;
use x402_chain::schemes::exact::rules::OnchainContext;
use x402_chain::schemes::exact::svm;
use x402_chain::signer::SvmSigner;
use x402_chain::svm::wire::SvmTransaction;
use x402_chain::time::UnixSeconds;
use x402_chain::x402::{Payment, X402Body, network_named};
use x402_chain::{signer, x402};

/// The most bytes of a version-1 transaction on Solana.
const TRANSACTION_MAX: usize = 4_096;

/// The rules that need the chain, where every question is answered as a chain does where all is well. They end.
fn on_chain(payment: &Payment, terms: &ExactPayment, network: &Network) {
    let (mut facts, memory) = (Facts::new(), VerificationCache::default());
    let sender = TransactionSender { address: terms.pay_to(), gas_limit: Some(200_000), price: None };
    for _round in 0..6 {
        let known = OnchainContext { facts: &facts, memory: &memory, settles: false, now: UnixSeconds(NOW_MS / 1_000) };
        let Err(Undecided::Missing(calls)) = exact::verify_onchain(payment, terms, &sender, known) else { return };
        assert!((1..=32).contains(&calls.len()), "{} calls", calls.len());
        for call in calls {
            let answer = match call.method {
                "eth_getCode" if call.params.contains(&network.asset.text.to_lowercase()) => json!("0x60"),
                "simulateTransaction" => json!({"value": {"err": null}}),
                _ => json!("0x"),
            };
            assert!(facts.get(&call).is_none(), "the same question twice");
            facts.insert(call, RpcReply::Value(to_raw_value(&answer).expect("JSON")));
        }
    }
    panic!("more than six rounds");
}

pub(crate) fn payment(input: &[u8]) -> bool {
    let Ok(body) = X402Body::parse(input) else { return false };
    let payment = match x402::read(&body) {
        Ok(payment) => payment,
        Err(malformed) => {
            assert!(malformed.message.len() < 500, "{}", malformed.message);
            return false;
        }
    };
    let _ = exact::payer_named(&payment);
    let Some(network) = network_named(&payment.requirements.network) else { return true };
    let own: Vec<Address> = payer_of_fees().into_iter().filter(|own| own.family() == network.family).collect();
    let judged = exact::verify_offchain(&payment, network, &own, UnixSeconds(NOW_MS / 1_000));
    if let Some((_, message)) = &judged.rules.refusal {
        bounded(message.len(), input, 1, 600);
    }
    if let (Some(terms), None) = (&judged.payment, &judged.rules.refusal) {
        on_chain(&payment, terms, network);
    }
    true
}

/// The fee payer of the corpus.
fn payer_of_fees() -> Option<Address> {
    Address::parse(Family::Svm, "J2xccRtuG43drESLYznHhLhQkLTdfepcKYbiQ9BsJVaf")
}

/// A key that pays for no transaction of the corpus.
fn stranger() -> SvmSigner {
    let Some(signer::Signer::Svm(signer)) = signer::Signer::parse(
        Family::Svm,
        "DojKwxnUhDMfqJr7ryzgD9FKnnNXbz1Axd1nUsCtk5vFYGqGWg7vyCxE3z8qajtY4J5zeFZfiwrdCwFGji2vELZ",
    ) else {
        panic!("a key")
    };
    signer
}

pub(crate) fn svm_transaction(input: &[u8]) -> bool {
    let Some(given) = text(input) else { return false };
    let source = svm::source_named(given);
    let Some(read) = SvmTransaction::read(given) else {
        assert_eq!(source, None);
        return false;
    };
    assert!(!read.message().is_empty() && read.message().len() <= TRANSACTION_MAX);
    assert!(given.len() <= TRANSACTION_MAX * 2);
    let bytes = BASE64_STANDARD.decode(given).expect("base64");
    assert_eq!(BASE64_STANDARD.encode(&bytes), given, "two texts of one transaction");
    assert!(bytes.ends_with(read.message()) || bytes.starts_with(read.message()), "the message is not what was sent");
    // Nobody else's key signs.
    assert!(read.sign(&stranger()).is_none());
    true
}

pub(crate) fn svm_transaction_bytes(input: &[u8]) -> bool {
    svm_transaction(BASE64_STANDARD.encode(input).as_bytes())
}

//! Answers of chains' nodes, over JSON-RPC.

use crate::properties::{NOW_MS, text};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;
use x402_chain::address::{Address, Family, TxId};
use x402_chain::evm::{authorization_search, standing, tx};
use x402_chain::facts::{Call, ErrorClass, Facts, RpcError, RpcReply, Undecided};
use x402_chain::network::{Network, by_key, find_network};
use x402_chain::ownership;
use x402_chain::ownership::{Ownership, ProofKind, WalletSignature};
use x402_chain::svm::TokenAccountState;
use x402_chain::time::UnixSeconds;
use x402_chain::{jsonrpc, reader, registry_check, svm};
use x402_core::settlement::Flight;
use x402_core::settlement::quote::LaunchCalls;

/// The most characters of a node's words that are kept.
const WORDS_MAX: usize = 200;
/// The most rounds of questions, and calls of one.
const ROUNDS_MAX: usize = 8;
const CALLS_MAX: usize = 64;

/// A flight that an earlier build has stored.
static FLIGHT: LazyLock<Flight> = LazyLock::new(|| {
    let path = std::env::current_dir().expect("a folder").join("corpus/stored_state/seed-flight-evm");
    serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("a flight")
});

fn call() -> Call {
    Call::new("eth_call", &json!([]))
}

/// An answer to one call.
fn fact(value: &RawValue) -> Facts {
    let mut facts = Facts::new();
    facts.insert(call(), RpcReply::Value(value.to_owned()));
    facts
}

fn check_error(error: &RpcError) {
    assert!(error.message.chars().count() <= WORDS_MAX, "{} characters", error.message.chars().count());
    assert!(!error.message.contains("://"), "an address is logged: {}", error.message);
    assert_ne!(error.class, ErrorClass::TooLarge, "no node says that");
}

/// Any body, as the answer to one call and to several.
pub(crate) fn rpc_answer(input: &[u8]) -> bool {
    let calls: Vec<Call> = (0..3).map(|at| Call::new("eth_call", &json!([at]))).collect();
    let mut is_answer = false;
    for (family, status) in
        [(Family::Evm, 200), (Family::Svm, 200), (Family::Evm, 400), (Family::Evm, 429), (Family::Evm, 500)]
    {
        for wanted in [&calls[..1], &calls] {
            match jsonrpc::decode(family, wanted, status, input) {
                Ok(replies) => {
                    assert_eq!(replies.len(), wanted.len());
                    for reply in replies.iter().flatten() {
                        match reply {
                            RpcReply::Value(value) => assert!(value.get().len() <= input.len()),
                            RpcReply::Error(error) => check_error(error),
                        }
                    }
                    is_answer = true;
                }
                Err(whole) => {
                    check_error(&whole.error);
                    assert!(!whole.refuses_batch || wanted.len() > 1, "one call is no batch");
                }
            }
        }
        if let Ok(shared) = jsonrpc::decode_shared(family, &[1, 2], status, input) {
            let alone = jsonrpc::decode(family, &calls, status, input).expect("what several share, one can read");
            let shown = |replies: Vec<Option<RpcReply>>| {
                replies.into_iter().map(|reply| format!("{reply:?}")).collect::<Vec<_>>()
            };
            assert_eq!(shared.iter().map(Vec::len).collect::<Vec<_>>(), [1, 2]);
            assert_eq!(shown(shared.into_iter().flatten().collect()), shown(alone));
        }
    }
    is_answer
}

/// A transaction, and what a node answers to each method: the only answer, or by `method params`.
#[derive(Deserialize)]
struct Answers {
    network: String,
    tx: String,
    answers: BTreeMap<String, Box<RawValue>>,
}

impl Answers {
    /// The replies to calls, by way of a body.
    fn reply(&self, network: &Network, calls: &[Call], facts: &mut Facts) {
        let one = |(at, call): (usize, &Call)| {
            let found =
                self.answers.get(&format!("{} {}", call.method, call.params)).or_else(|| self.answers.get(call.method));
            format!(r#"{{"id":{},"result":{}}}"#, at + 1, found.map_or("null", |value| value.get()))
        };
        let body = format!("[{}]", calls.iter().enumerate().map(one).collect::<Vec<_>>().join(","));
        let replies = jsonrpc::decode(network.family, calls, 200, body.as_bytes()).expect("a batch");
        for (call, reply) in calls.iter().zip(replies) {
            assert!(facts.get(call).is_none(), "the same question twice");
            facts.insert(call.clone(), reply.expect("an answer to each"));
        }
    }
}

fn check_malformed(undecided: &Undecided) {
    if let Undecided::Malformed(malformed) = undecided {
        assert!(malformed.detail.chars().count() <= WORDS_MAX * 2, "{} characters", malformed.detail.chars().count());
    }
}

/// Reads a transaction as far as the answers lead. It ends, asks nothing twice, and never for the parties of nobody.
fn trace(input: &[u8], family: Family) -> bool {
    let Ok(given) = serde_json::from_slice::<Answers>(input) else { return false };
    let Some(network) = find_network(&given.network).filter(|network| network.family == family) else { return false };
    let Some(tx) = TxId::parse(family, &given.tx) else { return false };
    let mut facts = Facts::new();
    for _round in 0..ROUNDS_MAX {
        let parties = reader::parties(network, &tx, &facts, None);
        assert!(parties.len() <= x402_chain::trace::PARTIES_MAX);
        match reader::trace(network, &tx, &facts, UnixSeconds(NOW_MS / 1_000)) {
            Ok(_) => {
                for party in &parties {
                    let calls: Vec<Call> = reader::party_calls(network, party)
                        .into_iter()
                        .filter(|call| facts.get(call).is_none())
                        .collect();
                    if !calls.is_empty() {
                        given.reply(network, &calls, &mut facts);
                    }
                    let _ = reader::read_party(network, party, &facts);
                }
                return true;
            }
            Err(Undecided::Missing(calls)) => {
                assert!((1..=CALLS_MAX).contains(&calls.len()), "{} calls", calls.len());
                given.reply(network, &calls, &mut facts);
            }
            Err(undecided) => {
                check_malformed(&undecided);
                return false;
            }
        }
    }
    panic!("more than {ROUNDS_MAX} rounds");
}

pub(crate) fn evm_trace(input: &[u8]) -> bool {
    trace(input, Family::Evm)
}

pub(crate) fn svm_trace(input: &[u8]) -> bool {
    trace(input, Family::Svm)
}

/// One value, as the answer to each question that has one.
pub(crate) fn evm_values(input: &[u8]) -> bool {
    let Ok(value) = serde_json::from_slice::<Box<RawValue>>(input) else { return false };
    let (facts, network) = (fact(&value), by_key("base").expect("registered"));
    let most = (200_000, x402_chain::evm::sender::GasPrice { max_wei: 1, tip_wei: 1 });
    let cost = tx::read_cost(&facts, &call(), most);
    assert!(cost.is_none_or(|(all, of_l1)| all >= of_l1));
    let found = [
        reader::read_head(&facts, &call()).is_some(),
        reader::read_native_balance(network, &facts, &call()).is_some(),
        authorization_search::read_search(&facts, &call()).is_some(),
        authorization_search::read_newest_block(&facts, &call()).is_some(),
        authorization_search::read_is_used(&facts, &call()).is_some(),
        tx::read_token_balance(&facts, &call()).is_some(),
        tx::read_number(&facts, &call()).is_some(),
        cost.is_some(),
    ];
    let launch = LaunchCalls::of_launch(&FLIGHT, network).expect("of EVM");
    let mut of_launch = Facts::new();
    for call in launch.calls() {
        of_launch.insert(call, RpcReply::Value(value.clone()));
    }
    let _ = (
        LaunchCalls::read(&launch, &of_launch),
        launch.read_partial(&of_launch),
        tx::quote_price(network, &of_launch),
        tx::capped_price(network, &of_launch),
    );
    let heights = BTreeSet::from([17]);
    let mut of_blocks = Facts::new();
    for call in standing::calls(&heights) {
        of_blocks.insert(call, RpcReply::Value(value.clone()));
    }
    if let Err(undecided) = standing::read(network, &heights, &of_blocks) {
        check_malformed(&undecided);
    }
    found.contains(&true)
}

pub(crate) fn svm_values(input: &[u8]) -> bool {
    let Ok(value) = serde_json::from_slice::<Box<RawValue>>(input) else { return false };
    let (facts, network) = (fact(&value), by_key("solana").expect("registered"));
    let balance = svm::read_token_balance(&facts, &call());
    let state = svm::read_token_account(&facts, &call());
    assert!(
        balance
            .is_none_or(|balance| state.is_some_and(|state| state != TokenAccountState::Missing || balance.is_zero()))
    );
    if let Ok(error) = serde_json::from_slice(input) {
        assert!(svm::failure_text(&error).chars().count() <= WORDS_MAX);
    }
    state.is_some()
        || reader::read_head(&facts, &call()).is_some()
        || reader::read_native_balance(network, &facts, &call()).is_some()
}

/// The bytes of a token account.
pub(crate) fn token_account(input: &[u8]) -> bool {
    let answer = json!({"value": {"data": [BASE64_STANDARD.encode(input), "base64"]}});
    svm_values(answer.to_string().as_bytes())
}

/// A chain, and what a node answers to the check of its row.
pub(crate) fn registry_answers(input: &[u8]) -> bool {
    let Ok(given) = serde_json::from_slice::<Answers>(input) else { return false };
    let Some(network) = find_network(&given.network) else { return false };
    let mut facts = Facts::new();
    given.reply(network, &registry_check::check_calls(network), &mut facts);
    let report = registry_check::check_against_row(network, &facts);
    for difference in &report.differences {
        assert!(difference.found.chars().count() <= WORDS_MAX * 2, "{} characters", difference.found.chars().count());
    }
    report.outcome == registry_check::RegistryCheckOutcome::Passed
}

/// A wallet's signature: of a key, of a contract (ERC-1271), of a wallet that is not deployed (ERC-6492).
pub(crate) fn wallet_signature(input: &[u8]) -> bool {
    let Some(given) = text(input) else { return false };
    let mut is_read = false;
    for (family, network, address) in [
        (Family::Evm, "base", "0x209693Bc6afc0C5328bA36FaF03C514EF312287C"),
        (Family::Svm, "solana", "GyGKxMyg1p9SsHfm15MkNUu1u9TN2JtTspcdmrtGUdse"),
    ] {
        let Some(signature) = WalletSignature::parse(family, given) else { continue };
        is_read = true;
        let network = by_key(network).expect("registered");
        let address = Address::parse(family, address).expect("an address");
        assert!(ownership::can_sign(&address));
        let mut facts = Facts::new();
        for _round in 0..3 {
            match ownership::check_ownership(network, &address, "a message", &signature, &facts) {
                Ok(Ownership::Proven(ProofKind::Eip191 | ProofKind::Ed25519)) => panic!("nobody signed that"),
                Ok(_) => break,
                Err(Undecided::Malformed(malformed)) => panic!("{malformed:?}"),
                Err(Undecided::Missing(calls)) => {
                    for call in calls {
                        let answer = match call.method {
                            "eth_chainId" => json!("0x2105"),
                            "eth_getCode" => json!("0x60"),
                            _ => json!("0x"),
                        };
                        facts.insert(call, RpcReply::Value(serde_json::value::to_raw_value(&answer).expect("JSON")));
                    }
                }
            }
        }
    }
    is_read
}

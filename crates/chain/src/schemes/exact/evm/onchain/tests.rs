use super::*;
use crate::address::Family;
use crate::confirm::StateDecision;
use crate::evm::sender::GasPrice;
use crate::network::{Network, by_key};
use crate::schemes::exact::evm::tests::{
    FALSE, NOW, PAYER, body, network, payment, revert, sender, sign, signed, value,
};
use crate::schemes::exact::rules::OnchainRefusal;
use crate::schemes::exact::{ExactPayment, verify_offchain, verify_onchain};
use crate::time::UnixSeconds;
use serde_json::{Value, json};

/// What is asked, with the overload of the transfer.
fn kind(call: &Call) -> &'static str {
    let has = |selector: &str| call.params.contains(&format!("\"0x{selector}"));
    match call.method {
        "eth_getCode" if call.params.contains(&network().asset.text.to_lowercase()) => "token",
        "eth_getCode" => "code",
        _ if has("e3ee160e") => "vrs",
        _ if has("cf092995") => "bytes",
        _ if has("e94a0102") => "state",
        _ if has("70a08231") => "balance",
        _ if has("1626ba7e") => "wallet",
        _ => "other",
    }
}

fn yes() -> RpcReply {
    value(&json!(format!("0x1626ba7e{}", "0".repeat(56))))
}

fn error(class: ErrorClass, words: &str) -> RpcReply {
    RpcReply::Error(RpcError { class, code: Some(-32000), message: words.to_owned() })
}

/// A chain that answers as for a good payment, except for the given replies.
struct Chain(Vec<(&'static str, RpcReply)>);

impl Chain {
    fn says(&self, kind: &str) -> RpcReply {
        let own = self.0.iter().find(|(name, _)| *name == kind).map(|(_, reply)| reply.clone());
        own.unwrap_or_else(|| match kind {
            "state" => value(&json!(FALSE)),
            "token" => value(&json!("0x6001")),
            "balance" => value(&json!(format!("0x{:064x}", 1_000_000))),
            _ => value(&json!("0x")),
        })
    }
}

/// A payment with this signature.
fn with(signature: &str) -> Value {
    let mut body = body();
    body["paymentPayload"]["payload"]["signature"] = json!(signature);
    body
}

fn terms(body: &Value) -> Box<EvmExactPayment> {
    match verify_offchain(&payment(body), network(), &[], NOW).payment {
        Some(ExactPayment::Evm(terms)) => terms,
        other => panic!("{other:?}"),
    }
}

/// What is asked in each round, all calls that were made, and how it comes out.
fn asked(
    body: &Value,
    memory: &VerificationCache,
    settles: bool,
    chain: &Chain,
) -> (Vec<Vec<&'static str>>, Vec<Call>, OnchainVerdict) {
    let (payment, terms) = (payment(body), ExactPayment::Evm(terms(body)));
    let (mut facts, mut rounds, mut made) = (Facts::new(), Vec::new(), Vec::new());
    // The most rounds of calls that the Worker makes for a rule.
    for _ in 0..4 {
        let known = OnchainContext { facts: &facts, memory, settles, now: NOW };
        match verify_onchain(&payment, &terms, &sender(), known) {
            Ok(verdict) => return (rounds, made, verdict),
            Err(Undecided::Missing(calls)) => {
                rounds.push(calls.iter().map(kind).collect());
                for call in calls {
                    made.push(call.clone());
                    let reply = chain.says(kind(&call));
                    facts.insert(call, reply);
                }
            }
            Err(Undecided::Malformed(nonsense)) => panic!("{nonsense:?}"),
        }
    }
    panic!("questions without end");
}

#[track_caller]
fn reason(verdict: &OnchainVerdict) -> Option<Reason> {
    match verdict {
        OnchainVerdict::Checked(rules, _) => rules.refusal.as_ref().map(|(reason, _)| *reason),
        OnchainVerdict::SignerUnfunded | OnchainVerdict::Underpriced => panic!("{verdict:?}"),
    }
}

fn contract() -> (&'static str, RpcReply) {
    ("code", value(&json!("0x6001")))
}

/// The transaction of an `eth_call`.
fn transaction(call: &Call) -> Value {
    serde_json::from_str::<Value>(&call.params).expect("JSON")[0].clone()
}

#[test]
fn the_very_transaction_is_simulated() {
    let (_, made, _) =
        asked(&body(), &VerificationCache::default(), false, &Chain(vec![contract(), ("wallet", yes())]));
    for name in ["vrs", "bytes", "wallet"] {
        let call = transaction(made.iter().find(|call| kind(call) == name).expect("asked"));
        let simulated = ["from", "gas", "maxFeePerGas", "maxPriorityFeePerGas"].map(|member| call[member].clone());
        let from = format!("0x{}", "55".repeat(20));
        // 200,000 gas at 3 gwei, of it 1,000,000 wei for the block's maker.
        assert_eq!(simulated, [json!(from), json!("0x30d40"), json!("0xb2d05e00"), json!("0xf4240")], "{name}");
        assert!(call.get("gasPrice").is_none(), "{name}");
        let to = if name == "wallet" { PAYER } else { network().asset.text };
        assert_eq!(call["to"], json!(to.to_lowercase()), "{name}");
    }
}

#[test]
fn a_chain_of_one_gas_price_and_a_sender_without_a_price_are_simulated_so() {
    let call = |key: &str, price: Option<GasPrice>| {
        let network: &Network = by_key(key).expect("registered");
        let fees = network.settle.and_then(|settle| settle.gas()).expect("settles").fees;
        let own = TransactionSender { price, ..sender() };
        transaction(&calls::simulation_call(Address20::repeat_byte(1), Address20::repeat_byte(2), &own, fees, &[3]))
    };
    let price = Some(GasPrice { max_wei: 16, tip_wei: 0 });
    let legacy = call("skale-base", price);
    assert_eq!((&legacy["gasPrice"], legacy.get("maxFeePerGas")), (&json!("0x10"), None));
    let free = call("base", None);
    assert_eq!((&free["gas"], free.as_object().expect("an object").len()), (&json!("0x30d40"), 4));
    // A tip above the whole would be refused by every node.
    assert_eq!(call("base", Some(GasPrice { max_wei: 1, tip_wei: 2 }))["maxPriorityFeePerGas"], json!("0x1"));
}

/// Signatures of contracts, as hex: 64, 65, 66 and 130 bytes, `v` of 0, 1 and 31.
fn odd_signatures() -> Vec<String> {
    let bytes = |length: usize, last: &str| format!("0x{}{last}", "a1".repeat(length.saturating_sub(1)));
    vec![bytes(64, "a1"), bytes(65, "00"), bytes(65, "01"), bytes(65, "1f"), bytes(66, "a1"), bytes(130, "a1")]
}

#[test]
fn a_contracts_signature_is_passed_untouched_whatever_its_length() {
    for signature in odd_signatures() {
        let (body, raw) = (with(&signature), &signature[2..]);
        let memory = VerificationCache::default();
        let chain = Chain(vec![contract(), ("wallet", yes())]);
        let (rounds, made, verdict) = asked(&body, &memory, false, &chain);
        let OnchainVerdict::Checked(rules, code) = verdict else { panic!("ours") };
        assert_eq!((rules.refusal, code), (None, CodeKind::Contract), "{signature}");
        // What may be a plain payer's is taken for one first.
        let is_plain = matches!(raw.len(), 128) || raw.len() == 130 && !raw.ends_with("1f");
        let want: &[&[&str]] = if is_plain {
            &[&["vrs", "code", "token"], &["bytes", "wallet"]]
        } else {
            &[&["bytes", "code", "token", "wallet"]]
        };
        assert_eq!(rounds, want, "{signature}");
        // Its length stands in front of it, and zeros behind it up to a whole word.
        let length = raw.len() / 2;
        let padded = format!("{length:064x}{raw}{}", "00".repeat(length.next_multiple_of(32) - length));
        let data = |name: &str| {
            let call = transaction(made.iter().find(|call| kind(call) == name).expect("asked"));
            call["data"].as_str().expect("text").to_owned()
        };
        assert!(data("bytes").ends_with(&padded) && data("wallet").ends_with(&padded), "{signature}");
        let sent = terms(&body).calldata(code);
        assert_eq!(data("bytes"), format!("0x{}", hex::encode(sent)), "{signature}");
        // Known to have code, it is asked at once.
        let (rounds, _, verdict) = asked(&body, &memory, false, &chain);
        assert_eq!((rounds, reason(&verdict)), (vec![vec!["bytes", "code", "wallet"]], None), "{signature}");
    }
}

#[test]
fn a_payer_without_code_has_no_such_signature() {
    let own = sign(&signed(NOW.0 + 60));
    for signature in [format!("{own}00"), format!("{}1f", &own[..130])] {
        let (rounds, _, verdict) = asked(&with(&signature), &VerificationCache::default(), false, &Chain(vec![]));
        assert_eq!(reason(&verdict), Some(Reason::EvmSignature), "{signature}");
        assert_eq!(rounds.len(), 1);
    }
    let own = terms(&with(&own)).calldata(CodeKind::None);
    assert_eq!(hex::encode(&own[..4]), "e3ee160e");
    assert_eq!(hex::encode(&terms(&body()).calldata(CodeKind::Delegated)[..4]), "cf092995");
}

#[test]
fn a_payer_whose_code_is_gone_is_plain_again() {
    let memory = VerificationCache::default();
    asked(&body(), &memory, false, &Chain(vec![contract(), ("wallet", yes())]));
    let (rounds, _, verdict) = asked(&body(), &memory, true, &Chain(vec![]));
    assert_eq!(rounds, [vec!["bytes", "code", "wallet"], vec!["vrs"]]);
    assert_eq!(verdict, {
        let (_, _, plain) = asked(&body(), &memory, true, &Chain(vec![]));
        plain
    });
    assert_eq!(reason(&verdict), None);
}

#[test]
fn what_costs_too_much_gas_is_refused_for_that() {
    let halted = || error(ErrorClass::Halted, "out of gas");
    let chain = Chain(vec![contract(), ("bytes", halted()), ("vrs", revert()), ("wallet", halted())]);
    let (rounds, _, verdict) = asked(&body(), &VerificationCache::default(), true, &chain);
    assert_eq!(rounds, [vec!["vrs", "code", "token"], vec!["bytes", "wallet"], vec!["state", "balance"]]);
    let OnchainVerdict::Checked(rules, _) = verdict else { panic!("ours") };
    assert_eq!(rules.refusal, Some((Reason::EvmSimulation, "the transfer would fail: out of gas".to_owned())));
    // A transfer that would succeed is no excuse for a wallet that does not answer.
    let chain = Chain(vec![contract(), ("wallet", halted())]);
    let (_, _, verdict) = asked(&body(), &VerificationCache::default(), true, &chain);
    assert_eq!(reason(&verdict), Some(Reason::EvmSignature));
    // The token's own out-of-gas is one, too.
    let (_, _, verdict) = asked(&body(), &VerificationCache::default(), true, &Chain(vec![("vrs", halted())]));
    assert_eq!(reason(&verdict), Some(Reason::EvmSimulation));
}

#[test]
fn what_the_token_says_of_a_transfer_that_would_fail_is_its_reason() {
    let says = |words: &str| error(ErrorClass::Revert, &format!("execution reverted: {words}"));
    let outcome =
        |chain: Vec<(&'static str, RpcReply)>| asked(&body(), &VerificationCache::default(), true, &Chain(chain)).2;
    for (words, want) in [
        ("FiatTokenV2: authorization is not yet valid", Reason::EvmValidAfter),
        ("FiatTokenV2: authorization is expired", Reason::EvmValidBefore),
        ("FiatTokenV2: authorization is used or canceled", Reason::EvmNonceUsed),
        ("FiatTokenV2: invalid signature", Reason::EvmSignature),
        ("ERC20: transfer amount exceeds balance", Reason::EvmBalance),
        ("Blacklistable: account is blacklisted", Reason::EvmSimulation),
    ] {
        assert_eq!(reason(&outcome(vec![("vrs", says(words))])), Some(want), "{words}");
    }
    // A wallet that had no gas to answer with may have signed all the same.
    let silent = ("wallet", error(ErrorClass::Halted, "out of gas"));
    let invalid = || ("bytes", says("FiatTokenV2: invalid signature"));
    assert_eq!(reason(&outcome(vec![contract(), silent, invalid()])), Some(Reason::EvmSimulation));
    assert_eq!(reason(&outcome(vec![contract(), ("wallet", yes()), invalid()])), Some(Reason::EvmSignature));
}

#[test]
fn what_the_sender_lacks_is_never_the_payers_refusal() {
    let poor = || error(ErrorClass::SignerUnfunded, "insufficient funds for gas * price + value");
    let low = || error(ErrorClass::Underpriced, "max fee per gas less than block base fee");
    for settles in [false, true] {
        let ask =
            |all: Vec<(&'static str, RpcReply)>| asked(&body(), &VerificationCache::default(), settles, &Chain(all)).2;
        assert_eq!(ask(vec![("vrs", poor())]), OnchainVerdict::SignerUnfunded);
        assert_eq!(ask(vec![("vrs", low())]), OnchainVerdict::Underpriced);
        assert_eq!(ask(vec![contract(), ("bytes", poor()), ("wallet", poor())]), OnchainVerdict::SignerUnfunded);
        assert_eq!(ask(vec![contract(), ("bytes", low()), ("wallet", low())]), OnchainVerdict::Underpriced);
        // The token's words about the payer are the payer's.
        let lacks = error(ErrorClass::Revert, "execution reverted: ERC20: transfer amount exceeds balance");
        let verdict = ask(vec![("vrs", lacks), ("balance", value(&json!(format!("0x{:064x}", 1))))]);
        assert_eq!(reason(&verdict), Some(Reason::EvmBalance));
    }
}

#[test]
fn what_is_refused_by_the_state_says_so() {
    let outcome = |body: &Value, memory: &VerificationCache, all| asked(body, memory, false, &Chain(all)).2.refusal();
    let (other, own) = (sign(&signed(NOW.0 + 61)), body());
    let payment = |reason| Some(OnchainRefusal::Payment(reason));
    let poor = || ("balance", value(&json!(format!("0x{:064x}", 1))));
    let memory = VerificationCache::default();
    assert_eq!(outcome(&own, &memory, vec![("vrs", revert()), poor()]), payment(Reason::EvmBalance));
    let undeployed = vec![("token", value(&json!("0x")))];
    assert_eq!(outcome(&own, &VerificationCache::default(), undeployed), payment(Reason::EvmAsset));
    assert_eq!(
        outcome(&own, &memory, vec![("vrs", error(ErrorClass::SignerUnfunded, "no"))]),
        Some(OnchainRefusal::SignerUnfunded)
    );
    // One node's word that there is no code is not kept, where nothing bears it out: a wallet may be new.
    let memory = VerificationCache::default();
    for _ in 0..2 {
        assert_eq!(outcome(&with(&other), &memory, vec![]), payment(Reason::EvmSignature));
    }
    assert_eq!(outcome(&own, &memory, vec![]), None);
    // The payer has signed by themselves of late: what they have not signed needs no node.
    assert_eq!(outcome(&with(&other), &memory, vec![]), None);
    assert_eq!(reason(&asked(&with(&other), &memory, false, &Chain(vec![])).2), Some(Reason::EvmSignature));
}

#[test]
fn a_balance_that_is_answered_with_an_error_is_no_answer() {
    let (payment, terms) = (payment(&body()), ExactPayment::Evm(terms(&body())));
    let chain = Chain(vec![("vrs", revert()), ("balance", error(ErrorClass::Other, "no"))]);
    let (mut facts, memory) = (Facts::new(), VerificationCache::default());
    let outcome = loop {
        match verify_onchain(
            &payment,
            &terms,
            &sender(),
            OnchainContext { facts: &facts, memory: &memory, settles: false, now: NOW },
        ) {
            Err(Undecided::Missing(calls)) => {
                for call in calls {
                    let reply = chain.says(kind(&call));
                    facts.insert(call, reply);
                }
            }
            other => break other,
        }
    };
    assert_eq!(outcome, Err(Undecided::malformed_with("node_error", "no")));
}

#[test]
fn questions_are_about_the_sender_who_is_asked_for() {
    let (payment, terms) = (payment(&body()), ExactPayment::Evm(terms(&body())));
    let first = |own: &TransactionSender| {
        let known =
            OnchainContext { facts: &Facts::new(), memory: &VerificationCache::default(), settles: false, now: NOW };
        match verify_onchain(&payment, &terms, own, known) {
            Err(Undecided::Missing(calls)) => transaction(&calls[0])["from"].clone(),
            other => panic!("{other:?}"),
        }
    };
    let other = TransactionSender { address: Address::Evm(Address20::repeat_byte(0x66)), ..sender() };
    for _ in 0..2 {
        assert_eq!(first(&sender()), json!(format!("0x{}", "55".repeat(20))));
        assert_eq!(first(&other), json!(format!("0x{}", "66".repeat(20))));
    }
    let foreign = TransactionSender { address: Address::Svm([1; 32]), ..sender() };
    let known = OnchainContext {
        facts: &Facts::new(),
        memory: &VerificationCache::default(),
        settles: false,
        now: UnixSeconds(1),
    };
    assert!(matches!(verify_onchain(&payment, &terms, &foreign, known), Err(Undecided::Malformed(_))));
    assert_eq!(Address::parse(Family::Evm, PAYER), Some(terms.payer()));
}

#[test]
fn a_simulation_without_a_price_says_so() {
    let (payment, terms) = (payment(&body()), ExactPayment::Evm(terms(&body())));
    let mut facts = Facts::new();
    let own = TransactionSender { price: None, ..sender() };
    let memory = VerificationCache::default();
    let verdict = loop {
        match verify_onchain(
            &payment,
            &terms,
            &own,
            OnchainContext { facts: &facts, memory: &memory, settles: false, now: NOW },
        ) {
            Err(Undecided::Missing(calls)) => {
                for call in calls {
                    let reply = Chain(vec![]).says(kind(&call));
                    facts.insert(call, reply);
                }
            }
            other => break other,
        }
    };
    let Ok(OnchainVerdict::Checked(rules, _)) = verdict else { panic!("{verdict:?}") };
    let last = rules.checks.last().expect("checks");
    assert_eq!((last.name.as_str(), last.passed), ("simulation", true));
    assert!(last.detail.contains("without a price"), "{}", last.detail);
}

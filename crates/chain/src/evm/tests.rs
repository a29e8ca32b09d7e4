//! The hazards of docs/spec/chains.md#evm-hazards by name, against a scripted node.

mod gas;
mod large;

use super::*;
use crate::facts::{ErrorClass, RpcError};
use crate::network;
use crate::trace::{DETAILS_MAX, TransferLocation};
use proptest::prelude::*;
use serde_json::{Value, json};

const TX: &str = "0xaf0d0052eec2231428c5fbf81523c2ef833a8f02ae080a047c1abce3e2b12e83";
const BLOCK: &str = "0x9dbc7e792744c6e8f3a5fa5f3dc022cbcefb538211667ca6d35fa173bafb0114";
const OTHER: &str = "0x1111111111111111111111111111111111111111111111111111111111111111";
const USDC: &str = "0x833589fcd6edb6e08f4c7c32d4f71b54bda02913";
const USDBC: &str = "0xd9aaec86b65d86f6a7b5b1b0c42ffa531710b6ca";
const PAYER: &str = "0x602cb34ce1b1d3133219d8a79c773fe9fae3656e";
const PAY_TO: &str = "0x0bdca19c9801bb484285362fd5dd0c94592c874c";
const NOW: UnixSeconds = UnixSeconds(1_763_000_000);

/// A node of Base with one payment of 7 atomic units at height 100, head 102.
#[derive(Clone)]
struct Node(Vec<(Call, Result<Value, ErrorClass>)>);

impl Node {
    fn new() -> Self {
        Self::with(receipt(vec![log(3, PAYER, PAY_TO, 7)]))
    }

    fn with(receipt: Value) -> Self {
        let block = json!({"number": "0x64", "hash": BLOCK, "timestamp": "0x69152000", "transactions": []});
        Self(vec![
            (calls::receipt_call(hash(TX)), Ok(receipt)),
            (calls::head_block_call(), Ok(json!("0x66"))),
            (calls::chain_id_call(), Ok(json!("0x2105"))),
            (calls::finalized_block_call(), Ok(json!({"number": "0x60", "hash": OTHER, "timestamp": "0x69150000"}))),
            (calls::block_call(100), Ok(block)),
            (calls::transaction_call(hash(TX)), Ok(Value::Null)),
        ])
    }

    fn says(mut self, call: &Call, answer: Value) -> Self {
        self.0.retain(|(asked, _)| asked != call);
        self.0.push((call.clone(), Ok(answer)));
        self
    }

    fn fails(mut self, call: &Call) -> Self {
        self.0.retain(|(asked, _)| asked != call);
        self.0.push((call.clone(), Err(ErrorClass::Other)));
        self
    }

    fn facts(&self) -> Facts {
        let mut facts = Facts::new();
        for (call, answer) in &self.0 {
            facts.insert(call.clone(), reply(answer));
        }
        facts
    }

    fn found(&self) -> Result<TransactionState, Undecided> {
        trace(base(), &tx(), &self.facts(), NOW).map(|trace| trace.found)
    }

    #[track_caller]
    fn mined(&self) -> MinedTransaction {
        match self.found() {
            Ok(TransactionState::Mined(mined)) => *mined,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn check(&self, hazard: &str) {
        match self.found() {
            Err(Undecided::Malformed(nonsense)) => assert_eq!(nonsense.hazard, hazard, "{}", nonsense.detail),
            other => panic!("{hazard}: {other:?}"),
        }
    }
}

fn reply(answer: &Result<Value, ErrorClass>) -> RpcReply {
    match answer {
        Ok(value) => RpcReply::Value(RawValue::from_string(value.to_string()).unwrap()),
        Err(class) => RpcReply::Error(RpcError { class: *class, code: Some(-32000), message: "no".to_owned() }),
    }
}

fn base() -> &'static Network {
    network::by_key("base").unwrap()
}

fn hash(text: &str) -> B256 {
    quantity::hash(text).unwrap()
}

fn tx() -> TxId {
    TxId::Evm(hash(TX))
}

fn address(text: &str) -> Address {
    Address::Evm(quantity::address(text).unwrap())
}

fn topic(address: &str) -> String {
    format!("0x{}{}", "0".repeat(24), &address[2..])
}

fn log(index: u64, from: &str, to: &str, value: u64) -> Value {
    json!({
        "address": USDC, "blockHash": BLOCK, "blockNumber": "0x64", "transactionHash": TX, "transactionIndex": "0x1",
        "topics": ["0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef", topic(from), topic(to)],
        "data": format!("0x{value:064x}"), "logIndex": format!("{index:#x}"), "removed": false,
    })
}

fn receipt(logs: Vec<Value>) -> Value {
    json!({
        "transactionHash": TX, "blockHash": BLOCK, "blockNumber": "0x64", "status": "0x1", "from": PAYER, "to": USDC,
        "logs": logs, "logsBloom": "0x00", "l1Fee": "0x1c9020f6", "type": "0x2",
    })
}

/// `value` with the member at a JSON pointer replaced.
fn with(mut value: Value, pointer: &str, new: Value) -> Value {
    *value.pointer_mut(pointer).unwrap() = new;
    value
}

fn without(mut value: Value, member: &str) -> Value {
    value.as_object_mut().unwrap().remove(member).unwrap();
    value
}

fn paid() -> Value {
    receipt(vec![log(3, PAYER, PAY_TO, 7)])
}

#[test]
fn a_payment_is_read_in_two_rounds() {
    let node = Node::new();
    let mut facts = Facts::new();
    let mut rounds = Vec::new();
    let trace = loop {
        match trace(base(), &tx(), &facts, NOW) {
            Ok(trace) => break trace,
            Err(Undecided::Missing(calls)) => {
                rounds.push(calls.iter().map(|call| call.method).collect::<Vec<_>>());
                for call in calls {
                    let answer = node.0.iter().find(|(asked, _)| *asked == call).unwrap();
                    facts.insert(call, reply(&answer.1));
                }
            }
            Err(Undecided::Malformed(nonsense)) => panic!("{nonsense:?}"),
        }
    };
    assert_eq!(
        rounds,
        [
            vec!["eth_getTransactionReceipt", "eth_blockNumber", "eth_chainId", "eth_getBlockByNumber"],
            vec!["eth_getBlockByNumber"]
        ]
    );
    let mined = trace.mined().unwrap();
    assert_eq!(mined.failure, None);
    assert_eq!(mined.block, Block { number: 100, hash: Some(BLOCK.to_owned()), time: Some(UnixSeconds(0x6915_2000)) });
    assert_eq!((mined.head, mined.confirmations(), mined.depth), (102, 3, Depth::Included));
    assert_eq!(mined.submitter, Some(address(PAYER)));
    assert_eq!(
        mined.transfers,
        [Transfer {
            place: TransferLocation::LogIndex(3),
            ordinal: 0,
            from: Some(address(PAYER)),
            to: Some(address(PAY_TO)),
            amount: crate::amount::Amount::atomic(7)
        }]
    );
}

#[test]
fn questions_are_asked_as_nodes_expect_them() {
    assert_eq!(calls::block_call(0x23d_63eb).params.as_ref(), r#"["0x23d63eb",false]"#);
    assert_eq!(calls::finalized_block_call().params.as_ref(), r#"["finalized",false]"#);
    assert_eq!(calls::receipt_call(hash(TX)).params.as_ref(), format!(r#"["{TX}"]"#));
    let calls = party_calls(base(), &Party { address: address(PAYER), account: None });
    assert_eq!(calls[0].params.as_ref(), format!(r#"["{PAYER}","latest"]"#));
    let want = json!([{"to": USDC, "data": format!("0xfe575a87{}", &topic(PAYER)[2..])}, "latest"]);
    assert_eq!(calls[1], Call::new("eth_call", &want));
}

#[test]
fn a_chain_without_a_tag_is_not_asked_for_it() {
    for (key, depth) in [("avalanche", Depth::Finalized), ("sonic", Depth::Confirmed)] {
        let network = network::by_key(key).unwrap();
        let asked = trace(network, &tx(), &Facts::new(), NOW);
        assert!(matches!(asked, Err(Undecided::Missing(calls)) if calls.len() == 3));
        let id = format!("{:#x}", network.chain_id.unwrap());
        let facts = Node::new().says(&calls::chain_id_call(), json!(id)).facts();
        let (found, want) = (trace(network, &tx(), &facts, NOW).unwrap(), (depth, false));
        assert_eq!(found.mined().map(|mined| (mined.depth, mined.finality_unknown)), Some(want), "{key}");
    }
}

#[test]
fn depth_follows_the_tag_and_then_the_count() {
    let tagged = |number: u64| json!({"number": format!("{number:#x}"), "hash": OTHER, "timestamp": "0x1"});
    let depth = |tag: Value, head: u64| {
        Node::new()
            .says(&calls::finalized_block_call(), tag)
            .says(&calls::head_block_call(), json!(format!("{head:#x}")))
            .mined()
            .depth
    };
    assert_eq!(depth(tagged(99), 100), Depth::Included);
    assert_eq!(depth(tagged(99), 104), Depth::Included);
    assert_eq!(depth(tagged(99), 105), Depth::Confirmed);
    assert_eq!(depth(tagged(100), 100), Depth::Finalized);
    assert_eq!(depth(Value::Null, 1_000_000), Depth::Confirmed);
    let head = json!("0xffff");
    assert_eq!(
        Node::new().fails(&calls::finalized_block_call()).says(&calls::head_block_call(), head).mined().depth,
        Depth::Confirmed
    );
    // Both leave it open what is final.
    let vague = [
        Node::new().fails(&calls::finalized_block_call()),
        Node::new().says(&calls::finalized_block_call(), Value::Null),
    ];
    assert!(vague.iter().all(|node| node.mined().finality_unknown) && !Node::new().mined().finality_unknown);
}

#[test]
fn without_a_receipt_the_transaction_shows_pending_or_unknown() {
    let node = Node::with(Value::Null);
    assert_eq!(node.found(), Ok(TransactionState::Unknown));
    let known = |hash: &str| json!({"hash": hash, "blockNumber": null, "input": "0x"});
    assert_eq!(node.clone().says(&calls::transaction_call(hash(TX)), known(TX)).found(), Ok(TransactionState::Pending));
    node.clone().says(&calls::transaction_call(hash(TX)), known(OTHER)).check("transaction_of_another_hash");
    node.clone().says(&calls::transaction_call(hash(TX)), json!({})).check("malformed_transaction");
    node.fails(&calls::transaction_call(hash(TX))).check("node_error");
}

#[test]
fn a_receipt_in_no_block_is_pending() {
    for member in ["/blockNumber", "/blockHash"] {
        assert_eq!(Node::with(with(paid(), member, Value::Null)).found(), Ok(TransactionState::Pending), "{member}");
    }
    assert_eq!(Node::new().says(&calls::head_block_call(), json!("0x63")).found(), Ok(TransactionState::Pending));
}

#[test]
fn a_reverted_transaction_moved_nothing() {
    let mined = Node::with(with(paid(), "/status", json!("0x0"))).mined();
    assert_eq!(mined.failure.as_deref(), Some("reverted"));
    assert_eq!(mined.transfers, []);
    assert_eq!(Node::with(receipt(vec![])).mined().transfers, []);
}

#[test]
fn a_node_that_contradicts_itself_is_not_evidence() {
    let receipt_with = |pointer: &str, new: Value| Node::with(with(paid(), pointer, new));
    receipt_with("/transactionHash", json!(OTHER)).check("receipt_of_another_transaction");
    receipt_with("/logs/0/transactionHash", json!(OTHER)).check("log_of_another_transaction");
    receipt_with("/logs/0/blockHash", json!(OTHER)).check("log_of_another_block");
    receipt_with("/logs/0/blockNumber", json!("0x65")).check("log_of_another_block");
    receipt_with("/blockHash", json!(OTHER)).check("receipt_not_canonical");
    receipt_with("/status", json!("0x2")).check("malformed_quantity");
    receipt_with("/status", Value::Null).check("receipt_without_status");
    Node::with(without(paid(), "status")).check("receipt_without_status");
    receipt_with("/blockNumber", json!("0x064")).check("malformed_quantity");
    receipt_with("/logs/0/logIndex", json!("0x")).check("malformed_quantity");
    receipt_with("/logs/0/data", json!("0x123")).check("malformed_log");
    receipt_with("/logs/0/data", json!(7)).check("malformed_log");
    receipt_with("/logs/0/address", json!("0x12")).check("malformed_log");
    receipt_with("/logs/0/topics/1", json!(PAYER)).check("malformed_log");
    receipt_with("/logs", json!({})).check("malformed_log");
    receipt_with("/from", json!("me")).check("malformed_receipt");
    Node::with(without(paid(), "logs")).check("malformed_receipt");
    Node::with(json!("Free API access is not supported for this chain")).check("malformed_receipt");
    Node::with(receipt(vec![log(3, PAYER, PAY_TO, 7), log(3, PAYER, PAY_TO, 7)])).check("duplicate_log");
}

#[test]
fn a_node_of_another_chain_or_time_is_not_evidence() {
    let block = |number: &str, hash: &str, time: u64| {
        let block = json!({"number": number, "hash": hash, "timestamp": format!("{time:#x}")});
        Node::new().says(&calls::block_call(100), block)
    };
    block("0x64", OTHER, NOW.0).check("receipt_not_canonical");
    block("0x65", BLOCK, NOW.0).check("block_of_another_height");
    block("0x64", BLOCK, NOW.0 + 901).check("block_time_in_the_future");
    assert_eq!(block("0x64", BLOCK, NOW.0 + 900).mined().block.time, Some(UnixSeconds(NOW.0 + 900)));
    block("0x64", "0x12", NOW.0).check("malformed_block");
    Node::new().says(&calls::block_call(100), Value::Null).check("receipt_not_canonical");
    Node::new().says(&calls::finalized_block_call(), json!(17)).check("malformed_block");
    Node::new().says(&calls::chain_id_call(), json!("0x1")).check("wrong_chain");
    Node::new().says(&calls::chain_id_call(), json!(8453)).check("malformed_quantity");
    Node::new().says(&calls::head_block_call(), json!("0x0066")).check("malformed_quantity");
    for call in
        [calls::receipt_call(hash(TX)), calls::head_block_call(), calls::chain_id_call(), calls::block_call(100)]
    {
        Node::new().fails(&call).check("node_error");
    }
    let solana = trace(base(), &TxId::Svm([0; 64]), &Facts::new(), NOW);
    assert!(matches!(solana, Err(Undecided::Malformed(n)) if n.hazard == "transaction_of_another_family"));
}

#[test]
fn an_event_of_another_shape_is_passed_over() {
    let transfers = |pointer: &str, new: Value| {
        Node::with(receipt(vec![with(log(3, PAYER, PAY_TO, 7), pointer, new)])).mined().transfers
    };
    let full = log(3, PAYER, PAY_TO, 7);
    let topics: Vec<Value> = full["topics"].as_array().unwrap().clone();
    assert_eq!(transfers("/removed", json!(true)), []);
    assert_eq!(transfers("/topics/0", json!(OTHER)), []);
    assert_eq!(transfers("/topics/2", json!(OTHER)), []);
    assert_eq!(transfers("/topics", json!([])), []);
    assert_eq!(transfers("/topics", json!(topics[..2])), []);
    assert_eq!(transfers("/topics", json!([topics[0], topics[1], topics[2], OTHER])), []);
    assert_eq!(transfers("/data", json!("0x")), []);
    assert_eq!(transfers("/data", json!(format!("0x{}", "00".repeat(31)))), []);
    assert_eq!(transfers("/data", json!(format!("0x{}", "01".repeat(33)))), []);
    assert_eq!(transfers("/removed", Value::Null).len(), 1);
}

#[test]
fn only_the_registered_contract_moves_the_asset() {
    let of = |index: u64, contract: &str| with(log(index, PAYER, PAY_TO, 9), "/address", json!(contract));
    let counterfeit = "0x00000000000000000000000000000000000000aa";
    let mined = Node::with(receipt(vec![of(1, counterfeit), of(2, USDBC), log(3, PAYER, PAY_TO, 0)])).mined();
    assert_eq!(mined.transfers, []);
    let named: Vec<_> = mined.foreign.iter().map(|foreign| (foreign.asset, foreign.name.as_deref())).collect();
    assert_eq!(named, [(address(USDBC), Some("USDbC")), (address(counterfeit), None)]);
    assert_eq!(mined.zero.len(), 1);
    assert_eq!((mined.zero[0].from, mined.zero[0].to), (address(PAYER), address(PAY_TO)));
}

#[test]
fn details_are_bounded_and_what_counts_is_not() {
    let many: Vec<Value> = (0..300)
        .flat_map(|n| {
            [
                log(4 * n, PAYER, PAY_TO, 1),
                log(4 * n + 1, PAYER, PAY_TO, 0),
                with(log(4 * n + 2, PAYER, PAY_TO, 1), "/address", json!(PAYER)),
                with(log(4 * n + 3, PAYER, PAY_TO, 1), "/address", json!(USDBC)),
            ]
        })
        .collect();
    let mined = Node::with(receipt(many)).mined();
    assert_eq!((mined.transfers.len(), mined.zero.len(), mined.foreign.len()), (300, DETAILS_MAX, DETAILS_MAX));
    assert!(mined.foreign.iter().all(|foreign| foreign.name.is_some()));
}

#[test]
fn only_the_registered_contract_reports_an_authorization() {
    let used = "0x98de503528ee59b575ef0c0a2576a82497bfc029a5685b209e9ec333479b10a5";
    let event = |index: &str, contract: &str| {
        let event = with(log(2, PAYER, PAY_TO, 0), "/topics", json!([used, topic(PAYER), OTHER]));
        with(with(with(event, "/data", json!("0x")), "/address", json!(contract)), "/logIndex", json!(index))
    };
    let mined = Node::with(receipt(vec![event("0x1", USDC), event("0x2", USDBC)])).mined();
    assert_eq!(mined.authorizations.len(), 1);
    assert_eq!((mined.authorizations[0].authorizer, mined.authorizations[0].nonce), (address(PAYER), hash(OTHER)));
}

#[test]
fn parties_are_distinct_and_the_recipient_and_its_payers_stand_in_front() {
    let wallet = |n: u64| format!("0x{n:040x}");
    let mut logs: Vec<Value> = (1..=9).map(|n| log(n, &wallet(n), &wallet(n + 1), 1)).collect();
    logs.push(log(20, PAYER, PAY_TO, 5));
    logs.push(log(21, &wallet(0), PAY_TO, 5));
    let facts = Node::with(receipt(logs)).facts();
    let named = |first: Option<Address>| -> Vec<Address> {
        parties(base(), &tx(), &facts, first.as_ref()).into_iter().map(|party| party.address).collect()
    };
    let near = named(Some(address(PAY_TO)));
    assert_eq!(near[..3], [address(PAY_TO), address(PAYER), address(&wallet(1))]);
    assert_eq!(near.len(), PARTIES_MAX);
    assert_eq!(named(None), (1..=8).map(|n| address(&wallet(n))).collect::<Vec<_>>());
    assert_eq!(named(Some(address(USDBC))), named(None));
    assert_eq!(parties(base(), &tx(), &Facts::new(), None), []);
    assert_eq!(parties(base(), &tx(), &Node::with(Value::Null).facts(), None), []);
}

#[test]
fn a_party_is_known_only_as_far_as_the_node_says() {
    let party = Party { address: address(PAYER), account: None };
    let calls = party_calls(base(), &party);
    let read = |code: Value, blocked: Value| {
        let facts = Node::new().says(&calls[0], code).says(&calls[1], blocked).facts();
        read_party(base(), &party, &facts)
    };
    let word = |n: u64| json!(format!("0x{n:064x}"));
    let facts = |code, blocked| PartyFacts { code, blocked };
    assert_eq!(read(json!("0x"), word(0)), facts(Some(CodeKind::None), Some(false)));
    assert_eq!(read(json!("0x60806040"), word(1)), facts(Some(CodeKind::Contract), Some(true)));
    let delegated = json!(format!("0xef0100{}", &PAY_TO[2..]));
    assert_eq!(read(delegated, word(2)), facts(Some(CodeKind::Delegated), None));
    assert_eq!(read(json!("0x0"), json!("0x")), facts(None, None));
    assert_eq!(read(Value::Null, Value::Null), facts(None, None));
    let failed = Node::new().fails(&calls[0]).fails(&calls[1]).facts();
    assert_eq!(read_party(base(), &party, &failed), facts(None, None));
    assert_eq!(read_party(base(), &party, &Facts::new()), facts(None, None));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "0x[0-9a-f]{0,66}".prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        Just(json!(TX)),
        Just(json!(BLOCK)),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        let member = prop_oneof![
            prop::sample::select(vec![
                "transactionHash",
                "blockHash",
                "blockNumber",
                "status",
                "logs",
                "hash",
                "number"
            ])
            .prop_map(str::to_owned),
            prop::sample::select(vec!["timestamp", "topics", "data", "address", "logIndex", "from"])
                .prop_map(str::to_owned),
            ".{0,4}",
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((member, inner), 0..8)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_answer_panics(which in 0_usize..8, answer in any_json(), at in 0_usize..6) {
        let party = Party { address: address(PAYER), account: None };
        let mut calls: Vec<Call> = Node::new().0.into_iter().map(|(call, _)| call).collect();
        calls.extend(party_calls(base(), &party));
        // Alone, in a sound receipt, and in a sound log.
        let member = ["transactionHash", "blockHash", "blockNumber", "status", "logs", "from"][at];
        let in_log = ["/logs/0/topics", "/logs/0/data", "/logs/0/address", "/logs/0/logIndex", "/logs/0", "/logs/0/removed"][at];
        for node in [
            Node::new().says(&calls[which], answer.clone()),
            Node::with(with(paid(), &format!("/{member}"), answer.clone())),
            Node::with(with(paid(), in_log, answer.clone())),
        ] {
            let facts = node.facts();
            let _ = trace(base(), &tx(), &facts, NOW);
            let _ = parties(base(), &tx(), &facts, Some(&address(PAY_TO)));
            let _ = read_party(base(), &party, &facts);
        }
    }

    #[test]
    fn the_order_of_logs_does_not_matter(logs in Just((0..12).map(|n| log(n, PAYER, PAY_TO, n % 4)).collect::<Vec<_>>()).prop_shuffle()) {
        let sorted = (0..12).map(|n| log(n, PAYER, PAY_TO, n % 4)).collect();
        prop_assert_eq!(Node::with(receipt(logs)).mined(), Node::with(receipt(sorted)).mined());
    }
}

use super::*;
use crate::facts::{ErrorClass, RpcError};
use crate::network::by_key;
use crate::svm::MEMO_BYTES_MAX;
use crate::trace::DETAILS_MAX;
use proptest::prelude::*;
use serde_json::Value;
use serde_json::value::to_raw_value;

const NOW: UnixSeconds = UnixSeconds(1_795_000_000);
const MINT: &str = "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v";
const MERCHANT: [u8; 32] = [3; 32];
const BUYER: [u8; 32] = [4; 32];

fn solana() -> &'static Network {
    by_key("solana").expect("registered")
}

fn tx() -> TxId {
    TxId::Svm([7; 64])
}

fn text(bytes: [u8; 32]) -> String {
    Address::Svm(bytes).to_string()
}

fn balance(index: usize, owner: [u8; 32], amount: &str) -> Value {
    json!({"accountIndex": index, "mint": MINT, "owner": text(owner), "uiTokenAmount": {"amount": amount, "decimals": 6}})
}

/// A balance of a mint that is not registered.
fn foreign(index: usize, owner: [u8; 32], amount: &str) -> Value {
    let mut balance = balance(index, owner, amount);
    balance["mint"] = json!(text([0x77; 32]));
    balance
}

/// A payment of 1.5 USDC with a memo, at slot 100.
fn payment() -> Value {
    json!({
        "slot": 100, "blockTime": 1_794_999_990, "version": 1,
        "meta": {
            "err": null, "innerInstructions": [], "loadedAddresses": {"writable": [text([9; 32])], "readonly": []},
            "preTokenBalances": [balance(1, BUYER, "2000000")],
            "postTokenBalances": [balance(1, BUYER, "500000"), balance(3, MERCHANT, "1500000")]
        },
        "transaction": {
            "signatures": [tx().to_string()],
            "message": {
                "accountKeys": [text(BUYER), text([1; 32]), MEMO],
                "instructions": [{"programIdIndex": 2, "accounts": [], "data": bs58::encode("order-1").into_string()}]
            }
        }
    })
}

const MEMO: &str = "MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr";

fn facts(transaction: &Value, status: &Value) -> Facts {
    let mut facts = Facts::new();
    let value = |value: &Value| RpcReply::Value(to_raw_value(value).expect("JSON"));
    facts.insert(transaction_call(&tx()), value(transaction));
    facts.insert(status_call(&tx()), value(&json!({"context": {"slot": 131}, "value": [status]})));
    facts
}

fn finalized() -> Value {
    json!({"slot": 100, "confirmationStatus": "finalized"})
}

fn run(transaction: &Value, status: &Value) -> Result<TransactionState, Undecided> {
    trace(solana(), &tx(), &facts(transaction, status), NOW).map(|trace| trace.found)
}

fn mined_of(transaction: &Value) -> MinedTransaction {
    match run(transaction, &finalized()) {
        Ok(TransactionState::Mined(mined)) => *mined,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn refused(change: impl Fn(&mut Value), hazard: &str) {
    let mut transaction = payment();
    change(&mut transaction);
    match run(&transaction, &finalized()) {
        Err(Undecided::Malformed(nonsense)) => assert_eq!(nonsense.hazard, hazard),
        other => panic!("{hazard}: {other:?}"),
    }
}

#[test]
fn both_questions_go_out_in_one_round() {
    match trace(solana(), &tx(), &Facts::new(), NOW) {
        Err(Undecided::Missing(calls)) => {
            assert_eq!(calls.len(), 2);
            assert!(calls[0].params.contains("\"maxSupportedTransactionVersion\":1"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_payment_is_read_from_its_balances() {
    let mined = mined_of(&payment());
    assert_eq!((mined.depth, mined.head, mined.block.number), (Depth::Finalized, 131, 100));
    let [debit, credit] = mined.transfers.as_slice() else { panic!("{:?}", mined.transfers) };
    assert_eq!((debit.from, credit.to), (Some(Address::Svm(BUYER)), Some(Address::Svm(MERCHANT))));
    assert_eq!(credit.amount, Amount::atomic(1_500_000));
    // Index 3 is the first address that a lookup table loaded.
    assert_eq!(credit.place, TransferLocation::TokenAccount(Address::Svm([9; 32])));
    assert_eq!(mined.memos, ["order-1"]);
    assert_eq!(mined.submitter, Some(Address::Svm(BUYER)));
}

#[test]
fn a_memo_is_read_up_to_its_last_allowed_byte() {
    for (length, want) in [(MEMO_BYTES_MAX, 1), (MEMO_BYTES_MAX.saturating_add(1), 0)] {
        // Of all texts, the highest bytes make the longest base58.
        for letter in ["~", "\u{0}"] {
            let mut transaction = payment();
            let data = bs58::encode(letter.repeat(length)).into_string();
            transaction["transaction"]["message"]["instructions"][0]["data"] = json!(data);
            assert_eq!(mined_of(&transaction).memos.len(), want, "{length} of {letter:?}");
        }
    }
}

#[test]
fn memo_instructions_beyond_the_limit_are_not_even_decoded() {
    let memo = |text: &[u8]| json!({"programIdIndex": 2, "accounts": [], "data": bs58::encode(text).into_string()});
    for (junk, want) in [(DETAILS_MAX.saturating_sub(1), vec!["order-1"]), (DETAILS_MAX, Vec::new())] {
        let mut instructions = vec![memo(&[0xff]); junk];
        instructions.push(memo(b"order-1"));
        let mut transaction = payment();
        transaction["transaction"]["message"]["instructions"] = json!(instructions);
        assert_eq!(mined_of(&transaction).memos, want);
    }
}

#[test]
fn an_account_that_changed_hands_is_no_payment() {
    let mut transaction = payment();
    transaction["meta"]["preTokenBalances"] = json!([balance(3, BUYER, "0")]);
    transaction["meta"]["postTokenBalances"] = json!([balance(3, MERCHANT, "1500000")]);
    assert_eq!(mined_of(&transaction).transfers, []);
}

#[test]
fn a_failed_transaction_moved_nothing() {
    let mut transaction = payment();
    transaction["meta"]["err"] = json!({"InstructionError": [0, {"Custom": 1}]});
    let mined = mined_of(&transaction);
    assert!(mined.failure.is_some_and(|failure| failure.contains("Custom")));
    assert_eq!(mined.transfers, []);
}

#[test]
fn what_is_no_evidence_is_the_nodes_fault() {
    refused(|t| t["transaction"]["signatures"] = json!([]), "receipt_of_another_transaction");
    refused(|t| t["slot"] = json!(99), "status_of_another_slot");
    refused(|t| t["meta"] = Value::Null, "meta_unavailable");
    refused(|t| t["meta"]["preTokenBalances"] = Value::Null, "balances_unavailable");
    refused(|t| t["meta"]["postTokenBalances"][0]["owner"] = Value::Null, "owner_unavailable");
    refused(|t| t["meta"]["postTokenBalances"][0]["uiTokenAmount"]["amount"] = json!("-1"), "malformed_balance");
    refused(
        |t| t["meta"]["postTokenBalances"][0]["uiTokenAmount"]["amount"] = json!("99999999999999999999"),
        "malformed_balance",
    );
    refused(
        |t| t["meta"]["postTokenBalances"] = json!([balance(1, BUYER, "1"), balance(1, BUYER, "1")]),
        "duplicate_balance",
    );
    refused(|t| t["meta"]["postTokenBalances"] = json!([balance(4, BUYER, "1")]), "account_out_of_range");
    // An account holds one mint at a time: two in one list are no balance sheet.
    refused(
        |t| t["meta"]["postTokenBalances"] = json!([balance(3, MERCHANT, "1"), foreign(3, MERCHANT, "1")]),
        "duplicate_balance",
    );
    refused(|t| t["blockTime"] = json!(1_795_000_901), "block_time_in_the_future");
    refused(|t| t["transaction"]["message"]["accountKeys"] = json!(["x"]), "malformed_transaction");
    refused(|t| *t = json!([]), "malformed_transaction");
}

#[test]
fn without_a_status_a_node_that_has_it_finalized_says_so() {
    let asked = transaction_call_at(&tx(), "finalized");
    let run = |answer: Option<RpcReply>| {
        let mut facts = facts(&payment(), &Value::Null);
        if let Some(answer) = answer {
            facts.insert(asked.clone(), answer);
        }
        trace(solana(), &tx(), &facts, NOW).map(|trace| trace.found)
    };
    let value = |value: &Value| Some(RpcReply::Value(to_raw_value(value).expect("JSON")));
    assert_eq!(run(None), Err(Undecided::Missing(vec![asked.clone()])));
    let depth = |answer| match run(answer) {
        Ok(TransactionState::Mined(mined)) => (mined.depth, mined.finality_unknown),
        other => panic!("{other:?}"),
    };
    assert_eq!(depth(value(&payment())), (Depth::Finalized, false));
    assert_eq!(depth(value(&Value::Null)), (Depth::Confirmed, false));
    let error = RpcError { class: ErrorClass::Pruned, code: Some(-32011), message: String::new() };
    assert_eq!(depth(Some(RpcReply::Error(error))), (Depth::Confirmed, true));
    let (mut elsewhere, mut other) = (payment(), payment());
    elsewhere["slot"] = json!(101);
    other["transaction"]["signatures"] = json!([TxId::Svm([8; 64]).to_string()]);
    assert_eq!(run(value(&elsewhere)), Err(Undecided::malformed("status_of_another_slot")));
    assert_eq!(run(value(&other)), Err(Undecided::malformed("receipt_of_another_transaction")));
    // Where there is a status it is enough.
    assert_eq!(mined_of(&payment()).depth, Depth::Finalized);
}

#[test]
fn null_is_unknown_or_pending_by_the_status() {
    assert_eq!(run(&Value::Null, &Value::Null), Ok(TransactionState::Unknown));
    assert_eq!(
        run(&Value::Null, &json!({"slot": 1, "confirmationStatus": "processed"})),
        Ok(TransactionState::Pending)
    );
    let lost = Err(Undecided::malformed("transaction_missing_from_history"));
    assert_eq!(run(&Value::Null, &finalized()), lost);
}

#[test]
fn a_status_answer_without_the_one_entry_asked_for_is_no_absence() {
    for entries in [json!([]), json!([null, null]), json!([null, finalized()])] {
        let mut facts = facts(&Value::Null, &Value::Null);
        let answer = json!({"context": {"slot": 131}, "value": entries});
        facts.insert(status_call(&tx()), RpcReply::Value(to_raw_value(&answer).expect("JSON")));
        match trace(solana(), &tx(), &facts, NOW) {
            Err(Undecided::Malformed(nonsense)) => assert_eq!(nonsense.hazard, "malformed_status"),
            other => panic!("{entries}: {other:?}"),
        }
    }
}

#[test]
fn an_error_answer_is_named() {
    let mut facts = facts(&payment(), &finalized());
    let error = |code| RpcReply::Error(RpcError { class: ErrorClass::Other, code: Some(code), message: String::new() });
    for (code, hazard) in [(-32015, "unsupported_transaction_version"), (-32004, "node_error")] {
        facts.insert(transaction_call(&tx()), error(code));
        match trace(solana(), &tx(), &facts, NOW) {
            Err(Undecided::Malformed(nonsense)) => assert_eq!(nonsense.hazard, hazard),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_hidden_amount_is_named_with_its_recipient() {
    let mut transaction = payment();
    let program = "TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb";
    transaction["transaction"]["message"]["accountKeys"] = json!([text(BUYER), text([1; 32]), MEMO, program]);
    transaction["meta"]["loadedAddresses"] = json!({"writable": [text([9; 32])], "readonly": []});
    transaction["meta"]["postTokenBalances"] = json!([balance(4, MERCHANT, "0")]);
    transaction["meta"]["preTokenBalances"] = json!([balance(4, MERCHANT, "0")]);
    transaction["meta"]["innerInstructions"] = json!([{"index": 0, "instructions": [
        {"programIdIndex": 3, "accounts": [1, 0, 4], "data": bs58::encode([27, 7, 0]).into_string()}]}]);
    let mined = mined_of(&transaction);
    assert_eq!(mined.confidential.first().and_then(|each| each.to), Some(Address::Svm(MERCHANT)));
}

#[test]
fn a_frozen_account_differs_from_one_in_use() {
    let mut bytes = vec![0_u8; 165];
    for (state, want) in [(0, None), (1, Some(false)), (2, Some(true)), (3, None)] {
        bytes[108] = state;
        let answer =
            json!({"value": {"data": [base64::Engine::encode(&base64::prelude::BASE64_STANDARD, &bytes), "base64"]}});
        assert_eq!(account::is_frozen(&answer.to_string()), want);
    }
    for nothing in ["null", "{\"value\":null}", "{\"value\":{\"data\":[\"AA==\",\"base64\"]}}", "[]"] {
        assert_eq!(account::is_frozen(nothing), None);
    }
}

#[test]
fn what_an_account_holds_is_read_or_unknown() {
    let call = token_balance_call(&Address::Svm([9; 32]));
    let held = |answer: &Value| {
        let mut facts = Facts::default();
        facts.insert(call.clone(), RpcReply::Value(serde_json::value::to_raw_value(answer).expect("JSON")));
        read_token_balance(&facts, &call)
    };
    let mut bytes = vec![0_u8; 165];
    bytes[64..72].copy_from_slice(&10_000_u64.to_le_bytes());
    let answer = |bytes: &[u8]| {
        json!({"context": {"slot": 1}, "value": {
            "data": [base64::Engine::encode(&base64::prelude::BASE64_STANDARD, bytes), "base64"]}})
    };
    assert_eq!(held(&answer(&bytes)), None);
    bytes[108] = 1;
    assert_eq!(held(&answer(&bytes)), Some(Amount::atomic(10_000)));
    assert_eq!(held(&json!({"value": null})), Some(Amount::atomic(0)));
    for nothing in [json!(null), json!({}), json!({"value": {"data": ["AA==", "base64"]}}), json!([])] {
        assert_eq!(held(&nothing), None);
    }
    assert_eq!(read_token_balance(&Facts::default(), &call), None);
}

#[test]
fn a_token_account_is_open_missing_frozen_or_unknown() {
    let wallet = Address::parse(crate::address::Family::Svm, "J2xccRtuG43drESLYznHhLhQkLTdfepcKYbiQ9BsJVaf")
        .expect("an address");
    let account = token_account(solana(), &wallet).expect("of Solana");
    // As @solana-program/token 0.16.1 derives it (`findAssociatedTokenPda`).
    assert_eq!(account.to_string(), "7RP22uEk2BNSbZaQDPAXEqFzcqgoo7qiDiM3VwpgwXc1");
    assert_eq!(token_account(crate::network::by_key("base").expect("a chain"), &wallet), None);
    let call = token_balance_call(&account);
    let state = |answer: &Value| {
        let mut facts = Facts::default();
        facts.insert(call.clone(), RpcReply::Value(serde_json::value::to_raw_value(answer).expect("JSON")));
        read_token_account(&facts, &call)
    };
    let answer = |initialized: u8| {
        let mut bytes = vec![0_u8; 165];
        bytes[108] = initialized;
        json!({"value": {"data": [base64::Engine::encode(&base64::prelude::BASE64_STANDARD, bytes), "base64"]}})
    };
    assert_eq!(state(&answer(1)), Some(TokenAccountState::Open));
    assert_eq!(state(&answer(2)), Some(TokenAccountState::Frozen));
    assert_eq!(state(&json!({"value": null})), Some(TokenAccountState::Missing));
    for nothing in [answer(0), answer(3), json!(null), json!({}), json!({"value": {"data": ["AA==", "base64"]}})] {
        assert_eq!(state(&nothing), None, "{nothing}");
    }
    assert_eq!(read_token_account(&Facts::default(), &call), None);
}

#[test]
fn parties_come_with_their_token_accounts_the_named_one_first() {
    let facts = facts(&payment(), &finalized());
    let first = Address::Svm(MERCHANT);
    let parties = parties(solana(), &tx(), &facts, Some(&first));
    assert_eq!(parties.iter().map(|party| party.address).collect::<Vec<_>>(), [first, Address::Svm(BUYER)]);
    assert_eq!(parties[0].account, Some(Address::Svm([9; 32])));
    assert_eq!(party_calls(solana(), &parties[0]).len(), 1);
}

#[test]
fn without_a_named_party_receivers_come_before_payers() {
    let facts = facts(&payment(), &finalized());
    let parties = parties(solana(), &tx(), &facts, None);
    let found: Vec<Address> = parties.iter().map(|party| party.address).collect();
    assert_eq!(found, [Address::Svm(MERCHANT), Address::Svm(BUYER)]);
}

#[test]
fn many_payers_never_crowd_out_the_receiver() {
    let mut transaction = payment();
    let keys: Vec<String> = (100..120).map(|n| text([n; 32])).collect();
    transaction["transaction"]["message"]["accountKeys"] = json!(keys);
    let payers = (20..39).enumerate().map(|(index, n)| balance(index, [n; 32], "100"));
    transaction["meta"]["preTokenBalances"] = payers.collect();
    transaction["meta"]["postTokenBalances"] = json!([balance(19, MERCHANT, "1900")]);
    let facts = facts(&transaction, &finalized());
    for first in [None, Some(Address::Svm(MERCHANT))] {
        let parties = parties(solana(), &tx(), &facts, first.as_ref());
        assert_eq!(parties.len(), PARTIES_MAX);
        assert_eq!(parties[0].address, Address::Svm(MERCHANT));
    }
}

#[test]
fn a_failed_transaction_has_no_parties() {
    let mut transaction = payment();
    transaction["meta"]["err"] = json!("AccountNotFound");
    assert_eq!(parties(solana(), &tx(), &facts(&transaction, &finalized()), None), []);
}

/// The same transaction as `jsonParsed` writes it: keys as objects, the looked-up
/// ones among them, programs by name, memos as text.
fn parsed(mut transaction: Value) -> Value {
    let message = &transaction["transaction"]["message"];
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let loaded = &transaction["meta"]["loadedAddresses"];
    let keys = [list(&message["accountKeys"]), list(&loaded["writable"]), list(&loaded["readonly"])].concat();
    let parsed = |each: &Value| {
        let at = usize::try_from(each["programIdIndex"].as_u64().expect("index")).expect("small");
        let memo = bs58::decode(each["data"].as_str().expect("data")).into_vec().expect("base58");
        json!({"program": "spl-memo", "programId": keys[at], "parsed": String::from_utf8(memo).expect("text")})
    };
    let instructions: Vec<Value> = list(&message["instructions"]).iter().map(parsed).collect();
    transaction["transaction"]["message"]["instructions"] = json!(instructions);
    transaction["transaction"]["message"]["accountKeys"] =
        keys.iter().map(|key| json!({"pubkey": key, "signer": false, "source": "transaction"})).collect();
    transaction
}

#[test]
fn both_encodings_are_read_alike() {
    assert_eq!(mined_of(&payment()), mined_of(&parsed(payment())));
    let mut closed = payment();
    closed["meta"]["preTokenBalances"] = json!([balance(3, BUYER, "7")]);
    closed["meta"]["postTokenBalances"] = json!([]);
    assert_eq!(mined_of(&closed), mined_of(&parsed(closed.clone())));
}

proptest! {
    #[test]
    fn unrelated_balances_never_change_the_transfers(
        added in proptest::collection::vec((any::<u64>(), any::<u64>(), any::<[u8; 32]>()), 0..20),
    ) {
        let mut transaction = payment();
        let mut keys = vec![text(BUYER), text([1; 32]), MEMO.to_owned()];
        keys.extend((150..).take(added.len()).map(|n| text([n; 32])));
        let looked_up = keys.len();
        transaction["transaction"]["message"]["accountKeys"] = json!(keys);
        let (mut pre, mut post) = (vec![balance(1, BUYER, "2000000")], vec![balance(1, BUYER, "500000")]);
        for (index, (before, after, owner)) in (3..).zip(&added) {
            pre.push(foreign(index, *owner, &before.to_string()));
            post.push(foreign(index, *owner, &after.to_string()));
        }
        // The merchant's account is looked up, so it comes after all added keys.
        post.push(balance(looked_up, MERCHANT, "1500000"));
        transaction["meta"]["preTokenBalances"] = json!(pre);
        transaction["meta"]["postTokenBalances"] = json!(post);
        prop_assert_eq!(mined_of(&transaction).transfers, mined_of(&payment()).transfers);
    }

    #[test]
    fn no_json_panics(transaction in json_value(), status in json_value()) {
        let _ = run(&transaction, &status);
        let facts = facts(&transaction, &status);
        let _ = parties(solana(), &tx(), &facts, None);
        let _ = account::is_frozen(&transaction.to_string());
    }

    #[test]
    fn the_order_of_balances_changes_nothing(order in Just((0..4).collect::<Vec<usize>>()).prop_shuffle()) {
        let all = [balance(0, [5; 32], "1"), balance(1, BUYER, "500000"), balance(2, [6; 32], "2"), balance(3, MERCHANT, "1500000")];
        let mut transaction = payment();
        transaction["meta"]["postTokenBalances"] = order.iter().map(|at| all[*at].clone()).collect();
        let mut sorted = payment();
        sorted["meta"]["postTokenBalances"] = all.to_vec().into();
        prop_assert_eq!(mined_of(&transaction).transfers, mined_of(&sorted).transfers);
    }

    #[test]
    fn another_owner_or_mint_is_never_the_merchants_credit(at in 0_usize..32, bit in 0_u8..8, of_mint in any::<bool>()) {
        let mut transaction = payment();
        let entry = &mut transaction["meta"]["postTokenBalances"][1];
        let member = if of_mint { "mint" } else { "owner" };
        let Some(Address::Svm(mut bytes)) = Address::parse(crate::address::Family::Svm, entry[member].as_str().expect("text")) else { panic!("an address") };
        bytes[at] ^= 1 << bit;
        entry[member] = json!(text(bytes));
        let credited = mined_of(&transaction).transfers.iter().any(|transfer| transfer.to == Some(Address::Svm(MERCHANT)));
        prop_assert!(!credited);
    }
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Into::into),
        "[a-zA-Z0-9]{0,50}".prop_map(Value::String),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            proptest::collection::btree_map(
                "(slot|blockTime|meta|transaction|signatures|message|accountKeys|err|preTokenBalances|postTokenBalances|value|data|mint)",
                inner,
                0..6
            )
            .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

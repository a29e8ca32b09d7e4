use super::*;
use proptest::prelude::*;
use serde_json::json;

fn calls(n: usize) -> Vec<Call> {
    (0..n).map(|at| Call::new("eth_call", &json!([at]))).collect()
}

fn read(n: usize, body: &str) -> Result<Vec<Option<String>>, ErrorClass> {
    let read = |reply: Option<RpcReply>| {
        reply.map(|reply| match reply {
            RpcReply::Value(value) => value.get().to_owned(),
            RpcReply::Error(error) => format!("{:?}", error.class),
        })
    };
    decode(Family::Evm, &calls(n), 200, body.as_bytes())
        .map(|replies| replies.into_iter().map(read).collect())
        .map_err(|whole| whole.error.class)
}

#[track_caller]
fn check(n: usize, body: &str, want: &[Option<&str>]) {
    let want: Vec<Option<String>> = want.iter().map(|each| each.map(str::to_owned)).collect();
    assert_eq!(read(n, body), Ok(want), "{body}");
}

#[test]
fn one_call_goes_alone_and_several_as_a_batch() {
    assert_eq!(encode(&calls(1)), r#"{"jsonrpc":"2.0","id":1,"method":"eth_call","params":[0]}"#);
    let batch: serde_json::Value = serde_json::from_str(&encode(&calls(3))).expect("JSON");
    assert_eq!(batch[2]["id"], 3);
}

/// What each of two callers, with two calls and one, reads of the answer to a shared request.
fn shared(status: u16, body: &str) -> Result<Vec<Vec<String>>, InexactAnswer> {
    let text = |reply: Option<RpcReply>| match reply {
        Some(RpcReply::Value(value)) => value.get().to_owned(),
        Some(RpcReply::Error(error)) => format!("{:?}", error.class),
        None => "none".to_owned(),
    };
    let read = decode_shared(Family::Evm, &[2, 1], status, body.as_bytes())?;
    Ok(read.into_iter().map(|replies| replies.into_iter().map(text).collect()).collect())
}

#[test]
fn each_caller_of_a_shared_request_gets_the_replies_to_its_own_calls() {
    let replies =
        |all: &[&[&str]]| Ok(all.iter().map(|own| own.iter().map(|&text| text.to_owned()).collect()).collect());
    let mixed =
        r#"[{"id":3,"result":30},{"id":"1","result":10},{"id":2,"error":{"code":3,"message":"execution reverted"}}]"#;
    assert_eq!(shared(200, mixed), replies(&[&["10", "Revert"], &["30"]]));
    let limited = r#"[{"id":1,"result":1},{"id":2,"result":2},{"id":3,"error":{"code":429,"message":"too many"}}]"#;
    assert_eq!(shared(200, limited), replies(&[&["1", "2"], &["RateLimited"]]));
}

#[test]
fn a_shared_answer_that_is_not_exact_serves_nobody() {
    for body in [
        // One is missing, one is twice there, one is of no call, one has no id, one holds nothing.
        r#"[{"id":1,"result":1},{"id":2,"result":2}]"#,
        r#"[{"id":1,"result":1},{"id":2,"result":2},{"id":2,"result":3}]"#,
        r#"[{"id":1,"result":1},{"id":2,"result":2},{"id":3,"result":3},{"id":3,"result":3}]"#,
        r#"[{"id":1,"result":1},{"id":2,"result":2},{"id":3,"result":3},{"id":4,"result":4}]"#,
        r#"[{"id":1,"result":1},{"id":2,"result":2},{"id":4,"result":3}]"#,
        r#"[{"id":0,"result":1},{"id":1,"result":2},{"id":2,"result":3}]"#,
        r#"[{"id":1,"result":1},{"id":2,"result":2},{"result":3}]"#,
        r#"[{"id":1,"result":1},{"id":2,"result":2},{"id":null,"result":3}]"#,
        r#"[{"id":1,"result":1},{"id":2,"result":2},{"id":3}]"#,
        // About the whole request.
        r#"{"id":1,"result":1}"#,
        r#"{"error":{"code":-32600,"message":"batch too large"}}"#,
        r#"[{"id":1,"error":"no"},{"id":2,"error":"no"},{"id":3,"error":"no"}]"#,
        "<html>",
        r#"[{"id":1,"result":1},{"id":2,"result":2},{"id":3,"res"#,
    ] {
        assert_eq!(shared(200, body), Err(InexactAnswer), "{body}");
    }
    let whole = r#"[{"id":1,"result":1},{"id":2,"result":2},{"id":3,"result":3}]"#;
    assert!(shared(200, whole).is_ok());
    assert_eq!(shared(500, whole), Err(InexactAnswer));
}

proptest! {
    #[test]
    fn whatever_a_shared_answer_holds_a_caller_gets_its_own_ids_or_nothing(ids in prop::collection::vec(0_usize..6, 0..6)) {
        // Each result is its own id, so that a reply of another call would be seen.
        let items: Vec<String> = ids.iter().map(|id| format!(r#"{{"id":{id},"result":{id}}}"#)).collect();
        if let Ok(read) = shared(200, &format!("[{}]", items.join(","))) {
            prop_assert_eq!(read, vec![vec!["1".to_owned(), "2".to_owned()], vec!["3".to_owned()]]);
        }
    }
}

#[test]
fn answers_are_matched_by_id_in_any_order() {
    check(2, r#"[{"id":2,"result":"b"},{"id":1,"result":"a"}]"#, &[Some("\"a\""), Some("\"b\"")]);
    check(2, r#"[{"id":"1","result":null}]"#, &[Some("null"), None]);
    check(2, r#"[{"id":1,"result":1},{"id":1,"result":2},{"id":9,"result":3}]"#, &[Some("1"), None]);
    check(1, r#"{"result":1}"#, &[Some("1")]);
    check(1, r#"[{"id":1,"result":1}]"#, &[Some("1")]);
    check(
        2,
        r#"[{"id":1,"result":1},{"id":2,"error":{"code":429,"message":"slow"}}]"#,
        &[Some("1"), Some("RateLimited")],
    );
}

#[test]
fn what_answers_no_call_is_an_error_of_the_whole() {
    for body in ["", "<html>", "{}", "[]", "[1]", "null", "{\"id\":1,", r#"{"id":1}"#, r#"[{"id":7,"result":1}]"#] {
        assert_eq!(read(2, body), Err(ErrorClass::Other), "{body}");
    }
    let whole = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"batch not supported"}}"#;
    assert_eq!(read(2, whole), Err(ErrorClass::Other));
    assert_eq!(read(1, "{\"result\":".to_owned().as_str()), Err(ErrorClass::Other));
}

#[track_caller]
fn refuses_batch(n: usize, status: u16, body: &str) -> bool {
    decode(Family::Evm, &calls(n), status, body.as_bytes()).expect_err(body).refuses_batch
}

#[test]
fn an_error_of_the_whole_batch_is_known_by_its_structure() {
    for words in ["Too many [\"eth_call\"] methods in the batch", "batch limit exceeded", "daily quota", "no"] {
        let error = json!({"code": -32600, "message": words});
        let each = |id: u8| json!({"id": id, "error": error});
        let bodies = [json!({"id": null, "error": error}), json!([each(1)]), json!({"error": words})];
        for body in bodies {
            assert!(refuses_batch(2, 200, &body.to_string()), "{body}");
            assert!(refuses_batch(2, 400, &body.to_string()), "{body}");
        }
    }
    // dRPC: HTTP 500, and a code of its own.
    let error = json!({"code": 31, "message": "Batch of more than 3 requests are not allowed"});
    assert!(refuses_batch(4, 500, &json!({"id": 1, "error": error}).to_string()));
    assert!(refuses_batch(2, 413, "<html>too large</html>"));
    // The same error to each call; one of several is that call's own.
    let no = json!({"code": -32000, "message": "batch not allowed"});
    let each = json!([{"id": 1, "error": no}, {"id": 2, "error": no}]).to_string();
    assert!(refuses_batch(2, 200, &each));
    check(3, &each, &[Some("Other"), Some("Other"), None]);
    let reverted = json!({"code": 3, "message": "execution reverted", "data": "0x08c379a0"});
    let both = json!([{"id": 1, "error": reverted}, {"id": 2, "error": reverted}]).to_string();
    check(2, &both, &[Some("Revert"), Some("Revert")]);
}

#[test]
fn a_passing_failure_is_no_refusal_of_the_batch() {
    let of_code = |code: i64| json!({"id": null, "error": {"code": code, "message": "batch"}}).to_string();
    for status in [401, 402, 408, 429, 502, 503, 504] {
        for body in ["", "<html>", r#"{"error":"payment required"}"#, &of_code(-32000)] {
            assert!(!refuses_batch(2, status, body), "{status} {body}");
        }
        assert!(!refuses_batch(2, 200, &of_code(status.into())), "{status}");
    }
    assert!(!refuses_batch(2, 500, r#"{"error":"oops"}"#) && !refuses_batch(2, 200, "<html>"));
    // A single call is no batch.
    assert!(!refuses_batch(1, 400, "no"));
}

#[track_caller]
fn class(family: Family, error: &str, want: ErrorClass) {
    let body = format!(r#"{{"id":1,"error":{error}}}"#);
    let replies = decode(family, &calls(1), 200, body.as_bytes()).expect("an answer");
    match replies.first() {
        Some(Some(RpcReply::Error(found))) => assert_eq!(found.class, want, "{error}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_error_shape_has_its_class() {
    use ErrorClass::{Behind, Exhausted, Halted, Other, Pruned, RateLimited, Revert, Unsupported};
    class(Family::Evm, r#"{"code":429,"message":"exceeded its compute units per second capacity"}"#, RateLimited);
    class(Family::Evm, r#"{"code":-32005,"message":"daily request count exceeded"}"#, Exhausted);
    class(Family::Evm, r#"{"code":-32000,"message":"Monthly capacity limit exceeded"}"#, Exhausted);
    class(Family::Evm, r#""Too many requests""#, RateLimited);
    class(Family::Evm, r#"{"code":3,"message":"execution reverted","data":"0x08c379a0"}"#, Revert);
    class(Family::Evm, r#"{"code":-32000,"message":"missing trie node 00"}"#, Pruned);
    class(Family::Evm, r#"{"code":-32000,"message":"out of gas"}"#, Halted);
    class(Family::Evm, r#"{"code":-32603,"message":"EVM error OutOfGas"}"#, Halted);
    class(Family::Evm, r#"{"code":-32000,"message":"out of gas","data":"0x"}"#, Halted);
    class(Family::Evm, r#"{"code":-32002,"message":"No state available for block"}"#, Pruned);
    class(Family::Evm, r#"{"code":-39001,"message":"Unknown block"}"#, Behind);
    class(Family::Evm, r#"{"code":-32000,"message":"finalized block not found"}"#, Behind);
    class(Family::Evm, r#"{"code":-32602,"message":"invalid params"}"#, Unsupported);
    class(Family::Svm, r#"{"code":-32015,"message":"Transaction version (1) is not supported"}"#, Unsupported);
    class(Family::Svm, r#"{"code":-32005,"message":"Node is behind by 42 slots"}"#, Behind);
    class(Family::Svm, r#"{"code":-32007,"message":"Slot 1 was skipped"}"#, Pruned);
    class(Family::Evm, "17", Other);
    class(Family::Evm, r#"{"code":"x"}"#, Other);
}

#[test]
fn a_poor_sender_is_no_poor_payer() {
    for words in [
        "err: insufficient funds for gas * price + value: address 0x55 have 1 want 2 (supplied gas 200000)",
        "insufficient funds for gas * price + value: have 1 want 2",
        "Insufficient funds for gas * price + value",
        "lack of funds (1) for max fee (2)",
        "insufficient sender balance",
        "err: insufficient MaxFeePerGas for sender balance (supplied gas 0)",
        "Upfront cost exceeds account balance",
        "transaction up-front cost 0x2 exceeds transaction sender account balance 0x1",
        "insufficient balance for fee",
        "Account balance is too low (balance < value + gas * gas price)",
    ] {
        for code in [-32000, -32003, -32004] {
            class(Family::Evm, &json!({"code": code, "message": words}).to_string(), ErrorClass::SignerUnfunded);
        }
        // A contract may say the same: it is a revert all the same.
        for error in [
            json!({"code": 3, "message": format!("execution reverted: {words}"), "data": "0x08c379a0"}),
            json!({"code": -32000, "message": format!("execution reverted: {words}")}),
            json!({"code": -32000, "message": words, "data": "0x08c379a0"}),
        ] {
            class(Family::Evm, &error.to_string(), ErrorClass::Revert);
        }
    }
    for words in ["ERC20: transfer amount exceeds balance", "insufficient balance for transfer"] {
        class(Family::Evm, &json!({"code": -32000, "message": words}).to_string(), ErrorClass::Other);
        let reverted = json!({"code": 3, "message": format!("execution reverted: {words}"), "data": "0x08c379a0"});
        class(Family::Evm, &reverted.to_string(), ErrorClass::Revert);
    }
}

#[test]
fn the_text_of_a_revert_is_read_from_its_data() {
    let text = "FiatTokenV2: authorization is not yet valid";
    let words = |number: usize| format!("{number:064x}");
    let data = format!("0x08c379a0{}{}{:0<128}", words(32), words(text.len()), hex::encode(text));
    let read = |error: serde_json::Value| error_value(Family::Evm, &error.to_string(), 200);
    for error in [
        json!({"code": 3, "message": "execution reverted", "data": data}),
        json!({"code": -32000, "message": "execution reverted", "data": data}),
        json!({"code": -32015, "message": "VM execution error.", "data": format!("Reverted {data}")}),
        json!({"code": -32000, "message": "execution failed", "data": {"output": data}}),
    ] {
        let found = read(error.clone());
        assert_eq!(found.class, ErrorClass::Revert, "{error}");
        assert!(found.message.ends_with(&format!(": {text}")), "{}", found.message);
    }
    let whole = format!("execution reverted: {text}");
    assert_eq!(read(json!({"code": 3, "message": whole, "data": data})).message, whole, "it is not repeated");
    for broken in ["0x08c379a0", "0x08c379a0ff", "0x08c379", "0x4e487b71"] {
        let found = read(json!({"code": 3, "message": "execution reverted", "data": broken}));
        assert_eq!((found.class, found.message.as_str()), (ErrorClass::Revert, "execution reverted"), "{broken}");
    }
}

#[test]
fn a_price_below_the_market_is_named() {
    for words in [
        "err: max fee per gas less than block base fee: address 0x55, maxFeePerGas: 1, baseFee: 2 (supplied gas 3)",
        "gas price is less than basefee",
        "max fee less than base",
        "miner premium is negative",
    ] {
        class(Family::Evm, &json!({"code": -32000, "message": words}).to_string(), ErrorClass::Underpriced);
    }
}

#[test]
fn a_gateways_refusal_is_no_result() {
    let body = r#"{"status":"0","message":"NOTOK","result":"Free API access is not supported for this chain"}"#;
    check(1, body, &[Some("Exhausted")]);
    assert_eq!(read(3, body), Err(ErrorClass::Exhausted));
}

#[test]
fn deep_nesting_does_not_overflow() {
    for body in [
        "[".repeat(1_000_000),
        format!(r#"{{"id":1,"result":{}"#, "[".repeat(1_000_000)),
        format!(r#"{{"id":1,"error":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000)),
    ] {
        let _ = read(1, &body);
    }
}

#[test]
fn a_nodes_words_are_cut_and_hold_no_address() {
    let error =
        error_value(Family::Evm, &json!(format!("see https://x.test/key=1 {}", "y".repeat(999))).to_string(), 200);
    assert!(error.message.chars().count() <= 200 && !error.message.contains("key=1"), "{}", error.message);
}

proptest! {
    #[test]
    fn no_bytes_panic(n in 1_usize..4, status in 100_u16..600, body in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode(Family::Evm, &calls(n), status, &body);
    }

    #[test]
    fn no_json_panics(id in "[0-9a-z\"]{0,4}", value in "[ -~]{0,60}") {
        for text in [format!(r#"{{"id":{id},"result":{value}}}"#), format!(r#"[{{"id":{id},"error":{value}}}]"#)] {
            let _ = decode(Family::Svm, &calls(2), 200, text.as_bytes());
        }
    }
}

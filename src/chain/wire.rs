//! JSON-RPC on the wire: calls as request bodies, answers as replies, every
//! error shape of CHAINS sections 1.5 and 2.4 given its class.

use super::evm::abi;
use super::facts::{Call, ErrorClass, Reply, RpcError};
use crate::address::Family;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// How nodes say that the sender cannot pay for the gas of a call: geth and what is made of it, reth and anvil
/// ("insufficient funds for gas * price + value", revm's "lack of funds (1) for max fee (2)"), nethermind
/// ("insufficient sender balance", "insufficient MaxFeePerGas for sender balance"), besu ("upfront cost exceeds
/// account balance"), monad, and the heirs of cpp-ethereum. No token's words: those come as a revert.
const POOR: &[&str] = &[
    "insufficient funds for gas",
    "lack of funds",
    "insufficient sender balance",
    "insufficient maxfeepergas for sender balance",
    "upfront cost exceeds",
    "up-front cost",
    "insufficient balance for fee",
    "not enough cash",
    "account balance is too low",
];
/// How they say that the price of a call is below the base fee: geth, revm, monad, besu, nethermind, nimbus.
const UNDERPRICED: &[&str] = &[
    "less than block base fee",
    "less than base",
    "less than the current basefee",
    "smaller than basefee",
    "miner premium is negative",
];
/// How they say that the machine ended a call: geth's and nethermind's words, then revm's names.
const HALTED: &[&str] = &[
    "out of gas",
    "invalid opcode",
    "invalid jump",
    "stack underflow",
    "stack limit reached",
    "gas uint64 overflow",
    "write protection",
    "bad instruction",
    "badinstruction",
    "outofgas",
    "outofoffset",
    "opcodenotfound",
    "invalidfeopcode",
    "invalidjump",
    "stackunderflow",
    "stackoverflow",
];

/// Characters of a node's message that are kept for the log.
const MESSAGE_MAX: usize = 200;

/// Whether a family's nodes are asked in batches. Solana's providers advise
/// against batching calls into the archive (CHAINS 2.1).
#[must_use]
pub const fn batches(family: Family) -> bool {
    match family {
        Family::Evm => true,
        Family::Svm => false,
    }
}

/// The body of one request; a single call goes without a batch. A call's id is
/// its place, from 1.
#[must_use]
pub fn encode(calls: &[Call]) -> String {
    let one = |(at, call): (usize, &Call)| {
        let id = at.saturating_add(1);
        format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{}","params":{}}}"#, call.method, call.params)
    };
    let encoded: Vec<String> = calls.iter().enumerate().map(one).collect();
    match encoded.as_slice() {
        [single] => single.clone(),
        _ => format!("[{}]", encoded.join(",")),
    }
}

/// An answer of any node or gateway: what is there, unparsed.
#[derive(Deserialize)]
struct Item {
    id: Option<Box<RawValue>>,
    // Present and `null` is an answer, absent is none: the outer Option tells.
    #[serde(default, deserialize_with = "present")]
    result: Option<Box<RawValue>>,
    error: Option<Box<RawValue>>,
    status: Option<Box<RawValue>>,
    message: Option<Box<RawValue>>,
}

fn present<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(from).map(Some)
}

#[derive(Deserialize)]
struct ErrorObject {
    code: Option<Box<RawValue>>,
    message: Option<String>,
    data: Option<Box<RawValue>>,
}

/// Answers in the order of the calls; `None` where the node left one out.
pub type Replies = Vec<Option<Reply>>;

/// An answer that is about the whole request and answers no call of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whole {
    /// What it says, with the class that its words name: that is what counts where single calls fare no better.
    pub error: RpcError,
    /// Whether its structure is that of a lasting refusal of the batch. Words do not count: "too many methods
    /// in the batch" and "too many requests" cannot be told apart by them.
    pub refuses_batch: bool,
}

/// Reads a node's answer to `calls`.
///
/// # Errors
/// Where the whole is no answer to any call: HTML, truncated JSON, a gateway's refusal, one
/// error for a whole batch, the same error for each of its calls. What a single item says stands in the replies.
pub fn decode(family: Family, calls: &[Call], status: u16, body: &[u8]) -> Result<Replies, Whole> {
    let is_batch = calls.len() > 1;
    let unread = |words: &str| {
        // A refusal in plain text or HTML: only statuses that are about the request's form are about the batch.
        let refuses_batch = is_batch && matches!(status, 400 | 405 | 413 | 415 | 422 | 501);
        Whole { error: transport(status, words), refuses_batch }
    };
    let no_json = |_| unread("an answer that is no JSON-RPC");
    let items: Vec<Item> = if body.trim_ascii_start().starts_with(b"[") {
        serde_json::from_slice(body).map_err(no_json)?
    } else {
        vec![serde_json::from_slice(body).map_err(no_json)?]
    };
    if let Some((error, is_object)) = of_the_whole(family, &items, calls.len(), status) {
        return Err(Whole { refuses_batch: is_lasting(&error, is_object, status), error });
    }
    let mut by_place: BTreeMap<usize, Reply> = BTreeMap::new();
    for item in items {
        let place = match (&item.id, calls.len()) {
            (id, 1) => id.as_deref().and_then(place).or(Some(1)),
            (Some(id), _) => place(id),
            (None, _) => None,
        };
        let (Some(place), Some(reply)) = (place, reply_of(family, item, status)) else { continue };
        // Two answers with one id: the first stands.
        by_place.entry(place).or_insert(reply);
    }
    let replies: Replies = (1..=calls.len()).map(|place| by_place.remove(&place)).collect();
    if replies.iter().all(Option::is_none) {
        return Err(unread("an answer without an answer"));
    }
    Ok(replies)
}

/// The error of a batch as a whole, and whether it is a JSON-RPC error object: one object in place of an
/// answer to each call, or the same unspecific error to each.
fn of_the_whole(family: Family, items: &[Item], calls: usize, status: u16) -> Option<(RpcError, bool)> {
    let error = |item: &Item| error_of(family, item, status);
    let is_object = |item: &Item| item.error.as_deref().is_some_and(|error| error.get().starts_with('{'));
    let (first, rest) = items.split_first().filter(|_| calls > 1)?;
    let told = error(first)?;
    let is_of_each = items.len() == calls
        && told.class == ErrorClass::Other
        && rest.iter().all(|item| error(item).as_ref() == Some(&told));
    (rest.is_empty() || is_of_each).then(|| (told, is_object(first)))
}

/// Whether an error of a whole batch lasts longer than the moment. What HTTP calls a matter of credit (402), of
/// rates (429) or of a gateway (502 to 504) does not, and some nodes put that number into the error's code; a plain
/// HTTP 500 does only where the node itself says why: dRPC refuses batches so.
fn is_lasting(error: &RpcError, is_object: bool, status: u16) -> bool {
    let code = error.code.and_then(|code| u16::try_from(code).ok()).filter(|code| (400..600).contains(code));
    let passes = |status: u16| matches!(status, 401 | 402 | 407 | 408 | 425 | 429 | 502..=504);
    let is_heard = match status {
        200..=299 | 400 | 405 | 413 | 415 | 422 | 501 => true,
        400..=500 => is_object && error.code.is_some(),
        _ => false,
    };
    is_heard && !passes(status) && !code.is_some_and(passes)
}

/// The place that an id names, as a number or as text.
fn place(id: &RawValue) -> Option<usize> {
    id.get().trim_matches('"').parse().ok()
}

fn reply_of(family: Family, item: Item, status: u16) -> Option<Reply> {
    match error_of(family, &item, status) {
        Some(error) => Some(Reply::Error(error)),
        None => item.result.map(Reply::Value),
    }
}

fn error_of(family: Family, item: &Item, status: u16) -> Option<RpcError> {
    let error = item.error.as_deref().map(RawValue::get).filter(|text| *text != "null");
    if let Some(text) = error {
        return Some(error_value(family, text, status));
    }
    // Etherscan's way: HTTP 200 with status "0", NOTOK and the reason as the result.
    let refused = item.status.as_deref().is_some_and(|status| place(status) == Some(0));
    if refused {
        let words = item.result.as_deref().or(item.message.as_deref()).map_or("", RawValue::get);
        return Some(RpcError { class: class_of(family, None, words, status), code: None, message: cut(words) });
    }
    None
}

fn error_value(family: Family, text: &str, status: u16) -> RpcError {
    if let Ok(words) = serde_json::from_str::<String>(text) {
        return RpcError { class: class_of(family, None, &words, status), code: None, message: cut(&words) };
    }
    let Ok(object) = serde_json::from_str::<ErrorObject>(text) else {
        return RpcError { class: ErrorClass::Other, code: None, message: cut(text) };
    };
    let code = object.code.and_then(|code| code.get().trim_matches('"').parse::<i64>().ok());
    let words = object.message.unwrap_or_default();
    let data = object.data.as_deref().map(RawValue::get).unwrap_or_default();
    let class = class_of(family, code, &words, status);
    let is_ours = matches!(class, ErrorClass::Poor | ErrorClass::Underpriced);
    // What a contract reverted with is hex, and its words may be any.
    let reason = reverted_with(data).filter(|_| family == Family::Evm);
    let is_reverted = data.len() > 4 && (code == Some(3) || is_ours && data.starts_with("\"0x"));
    let class = if is_reverted || reason.is_some() { ErrorClass::Revert } else { class };
    let message = match reason.filter(|reason| !words.contains(reason.as_str())) {
        Some(reason) => format!("{words}: {reason}"),
        None => words,
    };
    RpcError { class, code, message: cut(&message) }
}

/// The text that a contract reverted with (`Error(string)`), where the error's data holds it: many nodes
/// only say "execution reverted" in words.
fn reverted_with(data: &str) -> Option<String> {
    let (_, rest) = data.split_once("0x08c379a0")?;
    let digits = rest.split(|c: char| !c.is_ascii_hexdigit()).next()?;
    abi::string(&format!("0x{digits}")).filter(|reason| !reason.is_empty())
}

fn class_of(family: Family, code: Option<i64>, words: &str, status: u16) -> ErrorClass {
    let words = words.to_lowercase();
    let says = |needles: &[&str]| needles.iter().any(|needle| words.contains(needle));
    if says(&["monthly", "daily request count exceeded", "free api access", "quota", "upgrade your plan"]) {
        return ErrorClass::Exhausted;
    }
    if says(&["execution reverted", "revert"]) || code == Some(3) {
        return ErrorClass::Revert;
    }
    if family == Family::Evm {
        let of_a_call =
            [(POOR, ErrorClass::Poor), (UNDERPRICED, ErrorClass::Underpriced), (HALTED, ErrorClass::Halted)];
        if let Some((_, class)) = of_a_call.into_iter().find(|(needles, _)| says(needles)) {
            return class;
        }
    }
    let by_code = match (family, code) {
        (_, Some(429 | -32029 | -32097)) => Some(ErrorClass::RateLimited),
        (Family::Evm, Some(-32005 | -32007)) => Some(ErrorClass::RateLimited),
        (Family::Evm, Some(-39001)) => Some(ErrorClass::Behind),
        (Family::Evm, Some(-32002 | -32801)) => Some(ErrorClass::Pruned),
        (Family::Svm, Some(-32005 | -32014 | -32016)) => Some(ErrorClass::Behind),
        (Family::Svm, Some(-32001 | -32004 | -32007 | -32009 | -32011 | -32019)) => Some(ErrorClass::Pruned),
        (Family::Svm, Some(-32015)) | (_, Some(-32601 | -32602)) => Some(ErrorClass::Unsupported),
        (_, Some(_) | None) => None,
    };
    if let Some(class) = by_code {
        return class;
    }
    if status == 429 || says(&["rate limit", "ratelimit", "capacity", "too many", "limit exceeded", "max rate"]) {
        ErrorClass::RateLimited
    } else if says(&["missing trie node", "no state available", "pruned", "historical state"]) {
        ErrorClass::Pruned
    } else if says(&["unknown block", "block not found", "header not found", "behind by"]) {
        ErrorClass::Behind
    } else {
        ErrorClass::Other
    }
}

/// The whole answer was no answer.
fn transport(status: u16, words: &str) -> RpcError {
    let class = if status == 429 { ErrorClass::RateLimited } else { ErrorClass::Other };
    RpcError { class, code: None, message: format!("{words} (HTTP {status})") }
}

/// A node's words for the log: short, and without addresses that may hold a key.
fn cut(words: &str) -> String {
    let plain = words.split_whitespace().map(|word| if word.contains("://") { "…" } else { word });
    plain.collect::<Vec<_>>().join(" ").chars().filter(|c| !c.is_control()).take(MESSAGE_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn calls(n: usize) -> Vec<Call> {
        (0..n).map(|at| Call::new("eth_call", &json!([at]))).collect()
    }

    fn read(n: usize, body: &str) -> Result<Vec<Option<String>>, ErrorClass> {
        let told = |reply: Option<Reply>| {
            reply.map(|reply| match reply {
                Reply::Value(value) => value.get().to_owned(),
                Reply::Error(error) => format!("{:?}", error.class),
            })
        };
        decode(Family::Evm, &calls(n), 200, body.as_bytes())
            .map(|replies| replies.into_iter().map(told).collect())
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
        let told = |code: i64| json!({"id": null, "error": {"code": code, "message": "batch"}}).to_string();
        for status in [401, 402, 408, 429, 502, 503, 504] {
            for body in ["", "<html>", r#"{"error":"payment required"}"#, &told(-32000)] {
                assert!(!refuses_batch(2, status, body), "{status} {body}");
            }
            assert!(!refuses_batch(2, 200, &told(status.into())), "{status}");
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
            Some(Some(Reply::Error(found))) => assert_eq!(found.class, want, "{error}"),
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
                class(Family::Evm, &json!({"code": code, "message": words}).to_string(), ErrorClass::Poor);
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
        let told = |error: serde_json::Value| error_value(Family::Evm, &error.to_string(), 200);
        for error in [
            json!({"code": 3, "message": "execution reverted", "data": data}),
            json!({"code": -32000, "message": "execution reverted", "data": data}),
            json!({"code": -32015, "message": "VM execution error.", "data": format!("Reverted {data}")}),
            json!({"code": -32000, "message": "execution failed", "data": {"output": data}}),
        ] {
            let found = told(error.clone());
            assert_eq!(found.class, ErrorClass::Revert, "{error}");
            assert!(found.message.ends_with(&format!(": {text}")), "{}", found.message);
        }
        let whole = format!("execution reverted: {text}");
        assert_eq!(told(json!({"code": 3, "message": whole, "data": data})).message, whole, "it is not told twice");
        for broken in ["0x08c379a0", "0x08c379a0ff", "0x08c379", "0x4e487b71"] {
            let found = told(json!({"code": 3, "message": "execution reverted", "data": broken}));
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
}

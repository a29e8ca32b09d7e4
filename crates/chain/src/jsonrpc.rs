//! JSON-RPC on the wire: calls as request bodies, answers as replies, every
//! error shape of docs/spec/chains.md#json-rpc given its class.

use crate::address::Family;
use crate::evm::abi;
use crate::facts::{Call, ErrorClass, RpcError, RpcReply};
use alloy_sol_types::{Revert, SolError};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// Messages of nodes that the sender cannot pay for a call's gas: geth and its forks, reth and anvil ("insufficient
/// funds for gas * price + value", revm's "lack of funds (1) for max fee (2)"), nethermind ("insufficient sender
/// balance", "insufficient MaxFeePerGas for sender balance"), besu ("upfront cost exceeds account balance"), monad, and
/// descendants of cpp-ethereum. A token's own message comes as a revert instead.
const SIGNER_UNFUNDED: &[&str] = &[
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
/// Messages of nodes that the price of a call is below the base fee: geth, revm, monad, besu, nethermind, nimbus.
const UNDERPRICED: &[&str] = &[
    "less than block base fee",
    "less than base",
    "less than the current basefee",
    "smaller than basefee",
    "miner premium is negative",
];
/// Messages of nodes that the EVM halted a call: geth's and nethermind's, then revm's names.
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
/// against batching calls into the archive (docs/spec/chains.md#json-rpc).
#[must_use]
pub const fn takes_batches(family: Family) -> bool {
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
struct ResponseItem {
    id: Option<Box<RawValue>>,
    // A member that is `null` is an answer, an absent one is none: the outer `Option` distinguishes them.
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
pub type Replies = Vec<Option<RpcReply>>;

/// An answer that is about the whole request and answers no call of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WholeBatchError {
    /// The error with the class of its message; it counts where single calls fail too.
    pub error: RpcError,
    /// Whether the error's structure shows a lasting refusal of batches. The message does not count: "too many methods
    /// in the batch" and "too many requests" look alike.
    pub refuses_batch: bool,
}

/// Reads a node's answer to `calls`.
///
/// # Errors
/// Where the whole is no answer to any call: HTML, truncated JSON, a gateway's refusal, one
/// error for a whole batch, the same error for each of its calls. An error of a single call is in the replies.
pub fn decode(family: Family, calls: &[Call], status: u16, body: &[u8]) -> Result<Replies, WholeBatchError> {
    let is_batch = calls.len() > 1;
    let unread = |words: &str| {
        // A refusal in plain text or HTML: only statuses that are about the request's form are about the batch.
        let refuses_batch = is_batch && matches!(status, 400 | 405 | 413 | 415 | 422 | 501);
        WholeBatchError { error: transport_error(status, words), refuses_batch }
    };
    let no_json = |_| unread("the answer is not JSON-RPC");
    let items: Vec<ResponseItem> = if body.trim_ascii_start().starts_with(b"[") {
        serde_json::from_slice(body).map_err(no_json)?
    } else {
        vec![serde_json::from_slice(body).map_err(no_json)?]
    };
    if let Some((error, is_object)) = whole_batch_error(family, &items, calls.len(), status) {
        return Err(WholeBatchError { refuses_batch: is_lasting_refusal(&error, is_object, status), error });
    }
    let mut by_place: BTreeMap<usize, RpcReply> = BTreeMap::new();
    for item in items {
        let place = match (&item.id, calls.len()) {
            (id, 1) => id.as_deref().and_then(id_position).or(Some(1)),
            (Some(id), _) => id_position(id),
            (None, _) => None,
        };
        let (Some(place), Some(reply)) = (place, reply_of(family, item, status)) else { continue };
        // Two answers with one id: the first stands.
        by_place.entry(place).or_insert(reply);
    }
    let replies: Replies = (1..=calls.len()).map(|place| by_place.remove(&place)).collect();
    if replies.iter().all(Option::is_none) {
        return Err(unread("the answer has neither result nor error"));
    }
    Ok(replies)
}

/// An answer to a shared request that may serve none of its callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InexactAnswer;

/// Reads a node's answer to one request that held the calls of several callers, encoded in their order. `sizes` says how
/// many calls each has; each gets the replies to its own.
///
/// # Errors
/// Unless the answer is HTTP 200 with one reply to each call, under that call's id, and nothing else: a caller's payment
/// must not be judged by the reply to another's. Also where it is about the whole request.
pub fn decode_shared(family: Family, sizes: &[usize], status: u16, body: &[u8]) -> Result<Vec<Replies>, InexactAnswer> {
    let calls: usize = sizes.iter().sum();
    let items: Vec<ResponseItem> = serde_json::from_slice(body).map_err(|_| InexactAnswer)?;
    if status != 200 || items.len() != calls || whole_batch_error(family, &items, calls, status).is_some() {
        return Err(InexactAnswer);
    }
    let mut replies: Replies = Vec::new();
    replies.resize_with(calls, || None);
    for item in items {
        let place = item.id.as_deref().and_then(id_position).and_then(|id| id.checked_sub(1));
        let slot = place.and_then(|place| replies.get_mut(place)).filter(|slot| slot.is_none()).ok_or(InexactAnswer)?;
        *slot = Some(reply_of(family, item, status).ok_or(InexactAnswer)?);
    }
    // As many items as calls, and each filled an empty slot: every call has its reply.
    let mut replies = replies.into_iter();
    Ok(sizes.iter().map(|size| replies.by_ref().take(*size).collect()).collect())
}

/// The error of a batch as a whole, and whether it is a JSON-RPC error object: one object in place of an
/// answer to each call, or the same unspecific error to each.
fn whole_batch_error(family: Family, items: &[ResponseItem], calls: usize, status: u16) -> Option<(RpcError, bool)> {
    let error = |item: &ResponseItem| error_of(family, item, status);
    let is_object = |item: &ResponseItem| item.error.as_deref().is_some_and(|error| error.get().starts_with('{'));
    let (first, rest) = items.split_first().filter(|_| calls > 1)?;
    let first_error = error(first)?;
    let is_of_each = items.len() == calls
        && first_error.class == ErrorClass::Other
        && rest.iter().all(|item| error(item).as_ref() == Some(&first_error));
    (rest.is_empty() || is_of_each).then(|| (first_error, is_object(first)))
}

/// Whether an error of a whole batch is a lasting refusal of batches. A status about credit (402), rates (429) or a
/// gateway (502 to 504) is not, and some nodes put that number into the error's code. An HTTP 500 is only with a
/// JSON-RPC error object that has a code: dRPC refuses batches so.
fn is_lasting_refusal(error: &RpcError, is_object: bool, status: u16) -> bool {
    let code = error.code.and_then(|code| u16::try_from(code).ok()).filter(|code| (400..600).contains(code));
    let passes = |status: u16| matches!(status, 401 | 402 | 407 | 408 | 425 | 429 | 502..=504);
    let is_about_batch = match status {
        200..=299 | 400 | 405 | 413 | 415 | 422 | 501 => true,
        400..=500 => is_object && error.code.is_some(),
        _ => false,
    };
    is_about_batch && !passes(status) && !code.is_some_and(passes)
}

/// The place that an id names, as a number or as text.
fn id_position(id: &RawValue) -> Option<usize> {
    id.get().trim_matches('"').parse().ok()
}

fn reply_of(family: Family, item: ResponseItem, status: u16) -> Option<RpcReply> {
    match error_of(family, &item, status) {
        Some(error) => Some(RpcReply::Error(error)),
        None => item.result.map(RpcReply::Value),
    }
}

fn error_of(family: Family, item: &ResponseItem, status: u16) -> Option<RpcError> {
    let error = item.error.as_deref().map(RawValue::get).filter(|text| *text != "null");
    if let Some(text) = error {
        return Some(error_value(family, text, status));
    }
    // Etherscan's way: HTTP 200 with status "0", NOTOK and the reason as the result.
    let refused = item.status.as_deref().is_some_and(|status| id_position(status) == Some(0));
    if refused {
        let words = item.result.as_deref().or(item.message.as_deref()).map_or("", RawValue::get);
        return Some(RpcError {
            class: classify_error(family, None, words, status),
            code: None,
            message: log_excerpt(words),
        });
    }
    None
}

fn error_value(family: Family, text: &str, status: u16) -> RpcError {
    if let Ok(words) = serde_json::from_str::<String>(text) {
        return RpcError {
            class: classify_error(family, None, &words, status),
            code: None,
            message: log_excerpt(&words),
        };
    }
    let Ok(object) = serde_json::from_str::<ErrorObject>(text) else {
        return RpcError { class: ErrorClass::Other, code: None, message: log_excerpt(text) };
    };
    let code = object.code.and_then(|code| code.get().trim_matches('"').parse::<i64>().ok());
    let words = object.message.unwrap_or_default();
    let data = object.data.as_deref().map(RawValue::get).unwrap_or_default();
    let class = classify_error(family, code, &words, status);
    let is_ours = matches!(class, ErrorClass::SignerUnfunded | ErrorClass::Underpriced);
    // The data of a revert is hex, and its message may be anything.
    let reason = reverted_with(data).filter(|_| family == Family::Evm);
    let is_reverted = data.len() > 4 && (code == Some(3) || is_ours && data.starts_with("\"0x"));
    let class = if is_reverted || reason.is_some() { ErrorClass::Revert } else { class };
    let message = match reason.filter(|reason| !words.contains(reason.as_str())) {
        Some(reason) => format!("{words}: {reason}"),
        None => words,
    };
    RpcError { class, code, message: log_excerpt(&message) }
}

/// The message that a contract reverted with (`Error(string)`), decoded from the error's data: many nodes only answer
/// "execution reverted".
fn reverted_with(data: &str) -> Option<String> {
    let (_, rest) = data.split_once(&alloy_primitives::hex::encode_prefixed(Revert::SELECTOR))?;
    let digits = rest.split(|c: char| !c.is_ascii_hexdigit()).next()?;
    abi::string(&format!("0x{digits}")).filter(|reason| !reason.is_empty())
}

fn classify_error(family: Family, code: Option<i64>, words: &str, status: u16) -> ErrorClass {
    let words = words.to_lowercase();
    let says = |needles: &[&str]| needles.iter().any(|needle| words.contains(needle));
    if says(&["monthly", "daily request count exceeded", "free api access", "quota", "upgrade your plan"]) {
        return ErrorClass::Exhausted;
    }
    if says(&["execution reverted", "revert"]) || code == Some(3) {
        return ErrorClass::Revert;
    }
    if family == Family::Evm {
        let of_a_call = [
            (SIGNER_UNFUNDED, ErrorClass::SignerUnfunded),
            (UNDERPRICED, ErrorClass::Underpriced),
            (HALTED, ErrorClass::Halted),
        ];
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

/// The error for an answer that is not JSON-RPC; `words` say what is wrong with it.
fn transport_error(status: u16, words: &str) -> RpcError {
    let class = if status == 429 { ErrorClass::RateLimited } else { ErrorClass::Other };
    RpcError { class, code: None, message: format!("{words} (HTTP {status})") }
}

/// A node's message for the log: cut, and without URLs, which may hold a key.
fn log_excerpt(words: &str) -> String {
    let plain = words.split_whitespace().map(|word| if word.contains("://") { "…" } else { word });
    plain.collect::<Vec<_>>().join(" ").chars().filter(|c| !c.is_control()).take(MESSAGE_MAX).collect()
}

#[cfg(test)]
mod tests;

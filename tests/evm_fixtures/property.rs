//! What no change of a recording may bring about.

use crate::case::{CASES, Case, Sum, reply};
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::sync::LazyLock;
use x402_chain::facts::RpcReply;
use x402_chain::trace::Trace;

/// Whether the recipient is credited anything at all.
fn credits(case: &Case) -> bool {
    let trace = case.trace();
    trace.as_ref().ok().and_then(Trace::mined).is_some_and(|mined| {
        let sum = Sum::of(mined, case.recipient());
        !sum.gross_in.is_zero()
    })
}

/// `text` (`0x` and hex) with one byte changed by exclusive or.
fn flipped(text: &str, byte: usize, mask: u8) -> String {
    let mut bytes = hex::decode(&text[2..]).unwrap();
    bytes[byte] ^= mask;
    format!("0x{}", hex::encode(bytes))
}

#[test]
fn no_flipped_byte_of_the_only_matching_entry_yields_the_credit() {
    let alone = |case: &&Case| {
        case.expected["success"] == true
            && case.expected["matching_logs"].as_array().is_some_and(|logs| logs.len() == 1)
    };
    for case in CASES.iter().filter(alone) {
        assert!(credits(case), "{}", case.id);
        let index = format!("{:#x}", case.expected["matching_logs"][0].as_u64().unwrap());
        let at = case.logs().iter().position(|log| log["logIndex"] == index).unwrap();
        for (pointer, bytes) in [("address", 20), ("topics/0", 32), ("topics/2", 32)] {
            let pointer = format!("/logs/{at}/{pointer}");
            for (byte, mask) in (0..bytes).flat_map(|byte| [(byte, 0x01), (byte, 0x80), (byte, 0xff)]) {
                let mut receipt = case.receipt.clone();
                let entry = receipt.pointer_mut(&pointer).unwrap();
                *entry = json!(flipped(entry.as_str().unwrap(), byte, mask));
                assert!(!credits(&case.with(receipt)), "{} {pointer} byte {byte} ^ {mask:#x}", case.id);
            }
        }
    }
}

/// A log that is not a transfer of the registered asset: another contract's, or another event of its own.
fn unrelated() -> impl Strategy<Value = Value> {
    let topic = prop_oneof![
        Just("0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef".to_owned()),
        "0x0{24}[0-9a-f]{40}",
        "0x[0-9a-f]{64}",
    ];
    let data = prop_oneof!["0x[0-9a-f]{64}", "0x([0-9a-f]{2}){0,70}"];
    let own = "0x8c5be1e5ebec7d5bd14f71427d1e84f3dd0314c0f7b2291e5b200ac8c7c3b925";
    (prop::collection::vec(topic, 0..5), data, "0x[0-9a-f]{40}", any::<bool>()).prop_map(
        move |(topics, data, address, of_asset)| {
            if of_asset {
                json!({ "topics": [own, own, own], "data": data })
            } else {
                json!({ "address": address, "topics": topics, "data": data })
            }
        },
    )
}

/// The log as one of the case's, with the asset's address where it has none.
fn placed(case: &Case, mut log: Value, index: usize) -> Value {
    if log.get("address").is_none() {
        log["address"] = json!(case.network.asset.address.to_string().to_lowercase());
    }
    log["logIndex"] = json!(format!("{:#x}", 1_000_000 + index));
    log["transactionHash"] = case.receipt["transactionHash"].clone();
    log["blockHash"] = case.receipt["blockHash"].clone();
    log
}

/// Replaces, removes or repeats what a path leads to.
fn mutate(value: &mut Value, path: &[usize], new: &Value) {
    let Some((step, rest)) = path.split_first() else {
        *value = new.clone();
        return;
    };
    match value {
        Value::Array(list) if !list.is_empty() => {
            let at = step % list.len();
            match (rest.is_empty(), step % 3) {
                (true, 0) => drop(list.remove(at)),
                (true, 1) => list.push(list[at].clone()),
                _ => mutate(&mut list[at], rest, new),
            }
        }
        Value::Object(map) if !map.is_empty() => {
            let key = map.keys().nth(step % map.len()).unwrap().clone();
            if rest.is_empty() && step % 3 == 0 {
                map.remove(&key);
            } else {
                mutate(map.get_mut(&key).unwrap(), rest, new);
            }
        }
        Value::String(text) if new.is_boolean() => drop(text.pop()),
        leaf @ (Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_)
        | Value::Object(_)) => *leaf = new.clone(),
    }
}

fn any_leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "0x[0-9a-f]{0,66}".prop_map(Value::from),
        Just(json!([])),
        Just(json!({})),
    ]
}

/// All recordings below 64 KiB and one of the few above, which take most of the time.
fn sampled(large: Index) -> impl Iterator<Item = &'static Case> {
    static PARTS: LazyLock<[Vec<&Case>; 2]> = LazyLock::new(|| {
        let (small, large) = CASES.iter().partition(|case| case.receipt.to_string().len() < 64 * 1024);
        [small, large]
    });
    let [small, above] = &*PARTS;
    small.iter().copied().chain([*large.get(above)])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn unrelated_logs_never_change_the_transfers(
        large in any::<Index>(),
        added in prop::collection::vec((unrelated(), any::<Index>()), 1..5),
    ) {
        for case in sampled(large).filter(|case| !case.receipt.is_null()) {
            let mut logs = case.logs();
            for (index, (log, at)) in added.iter().enumerate() {
                logs.insert(at.index(logs.len() + 1), placed(case, log.clone(), index));
            }
            prop_assert_eq!(case.with_logs(logs).transfers(), case.transfers(), "{}", case.id);
        }
    }

    #[test]
    fn the_order_of_logs_never_changes_the_trace(large in any::<Index>(), by in any::<u64>()) {
        for case in sampled(large).filter(|case| !case.receipt.is_null()) {
            let mut logs = case.logs();
            logs.sort_by_cached_key(|log| {
                let index = log["logIndex"].as_str().unwrap();
                u64::from_str_radix(&index[2..], 16).unwrap().wrapping_add(1).wrapping_mul(by | 1)
            });
            prop_assert_eq!(case.with_logs(logs).trace(), case.trace(), "{}", case.id);
        }
    }

    #[test]
    fn no_mutated_recording_panics(
        large in any::<Index>(),
        path in prop::collection::vec(0_usize..5_000, 0..6),
        new in any_leaf(),
    ) {
        for case in sampled(large) {
            for answer in [case.with_mutated_block(&path, &new), case.with_mutated_receipt(&path, &new)] {
                let _ = answer.trace();
            }
        }
    }

    #[test]
    fn no_mutated_bytes_panic(
        large in any::<Index>(),
        edits in prop::collection::vec((any::<Index>(), any::<u8>()), 1..4),
    ) {
        for case in sampled(large) {
            let mut bytes = case.receipt.to_string().into_bytes();
            for (at, byte) in &edits {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            let text = String::from_utf8_lossy(&bytes).into_owned();
            // What is no JSON is refused before it comes to the reader.
            if let Ok(raw) = RawValue::from_string(text) {
                let _ = case.trace_by(|call| match call.method {
                    "eth_getTransactionReceipt" => RpcReply::Value(raw.clone()),
                    _ => reply(&case.answer(call)),
                });
            }
        }
    }
}

impl Case {
    fn with_mutated_receipt(&self, path: &[usize], new: &Value) -> Self {
        let mut receipt = self.receipt.clone();
        mutate(&mut receipt, path, new);
        self.with(receipt)
    }

    fn with_mutated_block(&self, path: &[usize], new: &Value) -> Self {
        let mut block = self.block.clone();
        mutate(&mut block, path, new);
        Self { block, ..self.clone() }
    }
}

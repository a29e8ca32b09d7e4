//! Recorded answers of Solana's clusters (tests/fixtures/solana), read and judged: every row of the
//! manifest comes to what it expects, and no mutation of one panics.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "a test fails by panicking"
)]

use base64::Engine;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::LazyLock;
use x402_chain::address::{Address, Family, TxId};
use x402_chain::facts::{Facts, MalformedAnswer, RpcReply, Undecided};
use x402_chain::network;
use x402_chain::network::Network;
use x402_chain::reader;
use x402_chain::time::{UnixMillis, UnixSeconds};
use x402_chain::trace::{Screening, Trace};
use x402_core::verdict::SanctionsPolicy;
use x402_core::verification::answer::Finality;
use x402_core::verification::claim::{Claim, MAX_AGE_SECONDS_MAX};
use x402_core::verification::judge::{JudgeContext, judge};

/// Below the package, where cargo runs tests; a path compiled in would outlive a copy of the checkout.
const FOLDER: &str = "tests/fixtures/solana";
const NOW: UnixSeconds = UnixSeconds(1_795_000_000);

struct Case {
    id: String,
    network: &'static Network,
    tx: TxId,
    result: Value,
    row: Value,
}

static CASES: LazyLock<Vec<Case>> = LazyLock::new(|| {
    let rows: Vec<Value> = serde_json::from_str(&text("manifest.json")).unwrap();
    rows.into_iter().map(case).collect()
});

/// The text of a fixture, which must be there.
fn text(file: &str) -> String {
    let path = format!("{FOLDER}/{file}");
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn case(row: Value) -> Case {
    let whole: Value = serde_json::from_str(&text(row["file"].as_str().unwrap())).unwrap();
    let result = plain(whole.get("result").cloned().unwrap_or(whole));
    let key = if row["cluster"] == "devnet" { "solana-devnet" } else { "solana" };
    let tx = TxId::parse(Family::Svm, row["signature"].as_str().unwrap()).unwrap();
    Case { id: row["id"].as_str().unwrap().to_owned(), network: network::by_key(key).unwrap(), tx, result, row }
}

/// A recording in `base64` encoding, its message decoded into the members that are read.
fn plain(mut result: Value) -> Value {
    let Some(text) = result["transaction"][0].as_str() else { return result };
    let bytes = base64::prelude::BASE64_STANDARD.decode(text).unwrap();
    let mut at = 0;
    let count = |at: &mut usize| {
        let (mut value, mut shift) = (0_usize, 0);
        loop {
            let byte = bytes[*at];
            *at += 1;
            value |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                return value;
            }
        }
    };
    let signatures = count(&mut at);
    let names: Vec<String> =
        (0..signatures).map(|n| bs58::encode(&bytes[at + 64 * n..at + 64 * (n + 1)]).into_string()).collect();
    at += 64 * signatures;
    // A version byte has the highest bit, a legacy header begins with its signers.
    at += usize::from(bytes[at] & 0x80 != 0) + 3;
    let keys = count(&mut at);
    let keys: Vec<String> =
        (0..keys).map(|n| bs58::encode(&bytes[at + 32 * n..at + 32 * (n + 1)]).into_string()).collect();
    result["transaction"] = json!({"signatures": names, "message": {"accountKeys": keys, "instructions": []}});
    result
}

fn read(case: &Case, result: &Value) -> Result<Trace, MalformedAnswer> {
    let status = json!({"context": {"slot": u64::MAX >> 12}, "value": [
        {"slot": case.result["slot"], "confirmationStatus": "finalized", "err": null}]});
    let mut facts = Facts::new();
    for _ in 0..3 {
        match reader::trace(case.network, &case.tx, &facts, NOW) {
            Ok(trace) => return Ok(trace),
            Err(Undecided::Malformed(nonsense)) => return Err(nonsense),
            Err(Undecided::Missing(calls)) => {
                for call in calls {
                    let value = if call.method == "getTransaction" { result } else { &status };
                    let raw = serde_json::value::to_raw_value(value).unwrap();
                    facts.insert(call, RpcReply::Value(raw));
                }
            }
        }
    }
    panic!("{}: questions without end", case.id)
}

/// Our code for the recorder's ([mapping](../fixtures/README.md#expected-codes)).
fn ours(code: &str) -> &str {
    match code {
        "WRONG_MINT" => "WRONG_ASSET",
        "NO_TOKEN_TRANSFER" | "ZERO_AMOUNT" => "NO_MATCHING_TRANSFER",
        other => other,
    }
}

#[test]
fn every_recording_gets_the_verdict_it_expects() {
    let mut judged = 0;
    for case in CASES.iter() {
        let want = &case.row["expected"];
        let trace = read(case, &case.result).unwrap_or_else(|nonsense| panic!("{}: {nonsense:?}", case.id));
        let failed = trace.mined().unwrap().failure.is_some();
        assert_eq!(failed, want["error_code"] == "TX_FAILED", "{}", case.id);
        // Without a recipient there is nobody to judge for; the owners' differences are compared apart.
        let Some(recipient) = want["recipient"].as_str().and_then(|text| Address::parse(Family::Svm, text)) else {
            continue;
        };
        judged += 1;
        let claim = Claim {
            network: case.network,
            tx: case.tx,
            expected: None,
            recipient: None,
            payer: None,
            memo: None,
            authorization_nonce: None,
            reference: None,
            finality: Finality::Finalized,
            max_age_s: MAX_AGE_SECONDS_MAX,
            claim: true,
        };
        let screening = Screening::new();
        let context = JudgeContext {
            recipient,
            screening: &screening,
            single_provider: false,
            sanctions: None,
            policy: SanctionsPolicy::Refuse,
            held_claims: &[],
            known_payers: &[],
            now: UnixMillis(NOW.0 * 1_000),
        };
        let judgement = judge(&claim, &trace, &context);
        let found = judgement.refusal.as_ref().map(|(refusal, _)| refusal.as_str());
        assert_eq!(found, want["error_code"].as_str().map(ours), "{}: {:?}", case.id, judgement.checks);
        if judgement.is_paid() {
            assert_eq!(Value::from(judgement.amount.to_string()), want["amount"], "{}", case.id);
            let payers: Vec<String> = judgement.payers.iter().map(Address::to_string).collect();
            let mut wanted: Vec<String> =
                want["payers"].as_array().unwrap().iter().map(|payer| payer.as_str().unwrap().to_owned()).collect();
            let mut payers = payers;
            payers.sort();
            wanted.sort();
            assert_eq!(payers, wanted, "{}", case.id);
        }
    }
    println!("solana fixtures: {} read, {judged} judged for their recipient", CASES.len());
}

#[test]
fn owners_differences_are_the_recorders() {
    for case in CASES.iter().filter(|case| case.row["err"].is_null()) {
        let mut sums: BTreeMap<String, i128> = BTreeMap::new();
        let trace = read(case, &case.result).unwrap();
        for transfer in &trace.mined().unwrap().transfers {
            let amount: i128 = transfer.amount.to_string().parse().unwrap();
            if let Some(to) = transfer.to {
                *sums.entry(to.to_string()).or_default() += amount;
            }
            if let Some(from) = transfer.from {
                *sums.entry(from.to_string()).or_default() -= amount;
            }
        }
        sums.retain(|_, sum| *sum != 0);
        if case.row["mint"] != case.network.asset.address.to_string() {
            continue;
        }
        for (owner, delta) in case.row["owner_deltas"].as_object().unwrap() {
            let delta: i128 = delta.to_string().trim_matches('"').parse().unwrap();
            assert_eq!(sums.remove(owner).unwrap_or(0), delta, "{}: {owner}", case.id);
        }
        assert!(sums.is_empty(), "{}: {sums:?}", case.id);
    }
}

/// Every place of a JSON value, as a path of indexes.
fn mutate(value: &mut Value, path: &[usize], change: &Value) {
    let next = match (path.first(), &mut *value) {
        (Some(at), Value::Array(list)) if !list.is_empty() => {
            let at = at % list.len();
            list.get_mut(at)
        }
        (Some(at), Value::Object(map)) if !map.is_empty() => {
            let at = at % map.len();
            map.values_mut().nth(at)
        }
        _ => None,
    };
    match next {
        Some(next) => mutate(next, &path[1..], change),
        None => *value = change.clone(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_mutation_of_a_recording_panics(
        at in any::<prop::sample::Index>(),
        path in proptest::collection::vec(0_usize..50, 1..7),
        change in prop_oneof![Just(Value::Null), Just(json!([])), Just(json!({})), Just(json!("x")), Just(json!(-1)), Just(json!(u64::MAX))],
    ) {
        let case = at.get(&CASES);
        let mut result = case.result.clone();
        mutate(&mut result, &path, &change);
        let _ = read(case, &result);
    }
}

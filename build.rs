//! Turns `data/chains.json` into the table of `src/network.rs`.
use std::fmt::Write as _;
fn main() {
    println!("cargo::rerun-if-changed=data/chains.json");
    let text = std::fs::read_to_string("data/chains.json").expect("data/chains.json");
    let root: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let mut out = String::from("/// All chains.\npub const NETWORKS: &[Network] = &[\n");
    let q = |v: &serde_json::Value| v.as_str().map_or("None".into(), |s| format!("Some({s:?})"));
    let addr = |evm: bool, s: &str| {
        if evm {
            let b = hex::decode(&s[2..]).unwrap();
            format!("Address::Evm(alloy_primitives::Address::new({b:?}))")
        } else {
            format!("Address::Svm({:?})", bs58::decode(s).into_vec().unwrap())
        }
    };
    for c in root["chains"].as_array().unwrap() {
        let evm = c["kind"] == "evm";
        let u = &c["usdc"];
        let local = c["key"].as_str().unwrap().starts_with("local-");
        let sep = u["domain_separator"]
            .as_str()
            .map_or("None".into(), |s| format!("Some({:?})", hex::decode(&s[2..]).unwrap()));
        let e712 = u["eip712_name"]
            .as_str()
            .map_or("None".into(), |s| format!("Some(({s:?},{:?}))", u["eip712_version"].as_str().unwrap()));
        let fin = if c["finality"] == "instant" {
            "Instant"
        } else if c["finality_tag"].is_string() {
            "Tag"
        } else {
            "Unknown"
        };
        let rpc: Vec<&str> = c["rpc"].as_array().unwrap().iter().map(|r| r.as_str().unwrap()).collect();
        let br: String = c["bridged"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|b| {
                format!(
                    "Bridged {{ address: {}, name: {:?} }},",
                    addr(evm, b["address"].as_str().unwrap()),
                    b["name"].as_str().unwrap()
                )
            })
            .collect();
        writeln!(out, "Network {{ key: {:?}, name: {:?}, caip2: {:?}, family: Family::{}, chain_id: {}, v1_name: {}, environment: Environment::{}, local: {local}, live_chain: {}, asset: Asset {{ address: {}, symbol: \"USDC\", decimals: {}, eip712: {e712}, separator: {sep} }}, proven: {}, block_time_ms: {}, confirmations: {}, finality: FinalityRule::{fin}, rpc: &{rpc:?}, bridged: &[{br}] }},",
            c["key"].as_str().unwrap(), c["name"].as_str().unwrap(), c["caip2"].as_str().unwrap(), if evm {"Evm"} else {"Svm"},
            c["chain_id"].as_u64().map_or("None".into(), |n| format!("Some({n})")), q(&c["v1_name"]),
            if c["testnet"] == true {"Test"} else {"Live"}, q(&c["live_chain"]), addr(evm, u["address"].as_str().unwrap()), u["decimals"],
            local || !evm || u["separator_matches_a_chain_reading"] == true, c["block_time_ms"], c["confirmations"].as_u64().unwrap_or(1)).unwrap();
    }
    out.push_str("];\n");
    std::fs::write(std::path::Path::new(&std::env::var("OUT_DIR").unwrap()).join("networks.rs"), out).unwrap();
}

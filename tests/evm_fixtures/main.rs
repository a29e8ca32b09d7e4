//! Recorded answers of public EVM chains (tests/fixtures/evm), read as a node would be: every row of
//! the manifest comes to what it expects, and no mutation of one is a payment
//! that was not made.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "a test fails by panicking"
)]

mod case;
mod judged;
mod property;

use case::{CASES, Case, Sum, code, manifest, network, recorded, reply, text};
use serde_json::{Value, json};
use x402_chain::address::{Address, Family, TxId};
use x402_chain::amount::Amount;
use x402_chain::facts::{ErrorClass, Facts, RpcError, RpcReply};
use x402_chain::reader;
use x402_chain::trace::{Depth, Party, Trace, TransactionState, TransferLocation};

/// Our code for the recorder's ([mapping](../fixtures/README.md#expected-codes)).
fn ours(code: &str) -> &str {
    match code {
        "TX_REVERTED" => "TX_FAILED",
        "TX_NOT_FOUND_OR_PENDING" => "TX_NOT_FOUND",
        "ZERO_AMOUNT" | "NO_TOKEN_TRANSFER" => "NO_MATCHING_TRANSFER",
        "UNSUPPORTED_RECEIPT" | "RPC_ERROR" => "CHAIN_UNAVAILABLE",
        same => same,
    }
}

fn atomic(value: &Value) -> Amount {
    Amount::parse_atomic(value.as_str().unwrap()).unwrap()
}

#[test]
fn every_recording_comes_to_what_it_expects() {
    for case in CASES.iter() {
        let (trace, want, recipient) = (case.trace(), &case.expected, case.recipient());
        let found = code(&trace, recipient);
        assert_eq!(found, want["error_code"].as_str().map(ours), "{}: {trace:?}", case.id);
        assert_eq!(found.is_none(), want["success"].as_bool().unwrap(), "{}", case.id);
        let Some(mined) = trace.as_ref().ok().and_then(Trace::mined) else { continue };
        assert_eq!(mined.depth, Depth::Finalized, "{}", case.id);
        if !want["gross_in"].is_string() {
            continue;
        }
        let sum = Sum::of(mined, recipient);
        let payers = want["payers"].as_array().unwrap().iter();
        let mut payers: Vec<Address> =
            payers.map(|payer| Address::parse(Family::Evm, payer.as_str().unwrap()).unwrap()).collect();
        payers.sort();
        let logs = want["matching_logs"].as_array().unwrap().iter().map(|index| index.as_u64().unwrap()).collect();
        let (gross_in, gross_out) = (atomic(&want["gross_in"]), atomic(&want["gross_out"]));
        assert_eq!(sum, Sum { gross_in, gross_out, logs, payers }, "{}", case.id);
        assert_eq!(sum.net(), atomic(&want["net"]), "{}", case.id);
        assert_eq!(sum.gross_in, atomic(&want["amount"]), "{}", case.id);
    }
    println!("evm fixtures: {} recordings compared", CASES.len());
}

#[test]
fn the_transfers_of_a_recording_are_all_told() {
    for row in manifest().iter().filter(|row| row["usdc_transfers"].is_array()) {
        let case = Case::new(row);
        let Ok(trace) = case.trace() else { continue };
        let places: Vec<u64> = trace.mined().unwrap().transfers.iter().map(place).collect();
        let of_asset = |transfer: &&Value| {
            let contract = Address::parse(Family::Evm, transfer["contract"].as_str().unwrap());
            contract == Some(case.network.asset.address) && transfer["value"] != "0"
        };
        let recorded = row["usdc_transfers"].as_array().unwrap().iter().filter(of_asset);
        let want: Vec<u64> = recorded.map(|transfer| transfer["log_index"].as_u64().unwrap()).collect();
        assert_eq!(places, want, "{}", case.id);
    }
}

fn place(transfer: &x402_chain::trace::Transfer) -> u64 {
    match transfer.place {
        TransferLocation::LogIndex(index) => index,
        TransferLocation::TokenAccount(account) => panic!("{account}"),
    }
}

#[test]
fn providers_shapes_of_one_transaction_are_one_trace() {
    let shapes: Vec<Trace> =
        CASES.iter().filter(|case| case.id.starts_with("90-")).map(|case| case.trace().unwrap()).collect();
    for [one, other] in shapes.array_windows() {
        assert_eq!(one, other);
        assert!(one.agrees(other));
    }
    assert_eq!(shapes.len(), 4);
}

#[test]
fn a_null_receipt_is_pending_where_the_transaction_is_known() {
    for case in CASES.iter().filter(|case| case.id.starts_with("91-")) {
        let known = json!({ "hash": case.tx, "blockNumber": null, "input": "0x" });
        let found = Case { transaction: known, ..case.clone() }.trace().map(|trace| trace.found);
        assert_eq!(found, Ok(TransactionState::Pending), "{}", case.id);
    }
}

/// A recorded error body as the reader is given it.
fn failure(file: &Value) -> RpcReply {
    let http: Value = serde_json::from_str(&text(file.as_str().unwrap())).unwrap();
    let body: Value = serde_json::from_str(http["body_text"].as_str().unwrap()).unwrap();
    match body.get("error") {
        None => reply(&body["result"]),
        Some(error) => {
            let class = if error["data"].is_string() { ErrorClass::Revert } else { ErrorClass::Other };
            RpcReply::Error(RpcError { class, code: error["code"].as_i64(), message: error.to_string() })
        }
    }
}

#[test]
fn a_recorded_error_is_never_a_verdict() {
    let rows = manifest();
    for row in rows.iter().filter(|row| row["files"]["http"].is_string()) {
        let (case, failure) = (&CASES[0], failure(&row["files"]["http"]));
        let required = ["eth_getTransactionReceipt", "eth_blockNumber", "eth_chainId", "block"];
        for failing in required {
            let trace = case.trace_by(|call| {
                let canonical = call.method == "eth_getBlockByNumber" && !call.params.contains("finalized");
                if call.method == failing || (failing == "block" && canonical) {
                    failure.clone()
                } else {
                    reply(&case.answer(call))
                }
            });
            assert_eq!(code(&trace, case.recipient()), Some("CHAIN_UNAVAILABLE"), "{} {failing}", row["id"]);
        }
        let party = Party { address: case.recipient(), account: None };
        let mut facts = Facts::new();
        for call in reader::party_calls(&case.network, &party) {
            facts.insert(call, failure.clone());
        }
        assert_eq!(reader::read_party(&case.network, &party, &facts), x402_chain::trace::PartyFacts::default());
    }
}

/// How often the asset's contract names a `Transfer` of three topics in a receipt.
fn plain_count(receipt: &Value, asset: &str) -> usize {
    const TRANSFER: &str = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef";
    let empty = format!("0x{}", "0".repeat(64));
    let counts = |log: &&Value| {
        log["address"] == asset
            && log["topics"][0] == TRANSFER
            && log["topics"].as_array().unwrap().len() == 3
            && log["data"] != empty.as_str()
    };
    receipt["logs"].as_array().unwrap().iter().filter(counts).count()
}

#[test]
fn every_transaction_of_a_whole_block_is_read() {
    for row in manifest().iter().filter(|row| row["files"]["receipts"].is_string()) {
        let network = network(row["chain"].as_str().unwrap());
        let block = recorded(&row["files"]["block"]);
        let asset = network.asset.address.to_string().to_lowercase();
        let receipts = recorded(&row["files"]["receipts"]);
        for receipt in receipts.as_array().unwrap() {
            let hash = receipt["transactionHash"].as_str().unwrap();
            let case = Case {
                id: hash.to_owned(),
                network,
                tx: TxId::parse(Family::Evm, hash).unwrap(),
                receipt: receipt.clone(),
                block: block.clone(),
                transaction: Value::Null,
                expected: Value::Null,
            };
            let trace = case.trace().unwrap();
            let mined = trace.mined().unwrap();
            assert_eq!(mined.failure.is_some(), receipt["status"] == "0x0", "{hash}");
            assert_eq!(mined.transfers.len(), plain_count(receipt, &asset), "{hash}");
        }
    }
}

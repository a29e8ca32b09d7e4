//! The check against scripted answers.

use super::*;
use crate::facts::RpcError;
use crate::network;
use proptest::prelude::*;
use serde_json::Value;

fn base() -> &'static Network {
    network::by_key("base").unwrap()
}

fn value(json: &Value) -> RpcReply {
    RpcReply::Value(RawValue::from_string(json.to_string()).unwrap())
}

fn error(class: ErrorClass) -> RpcReply {
    RpcReply::Error(RpcError { class, code: Some(3), message: "execution reverted".to_owned() })
}

fn string(text: &str) -> RpcReply {
    value(&json!(format!("0x{:064x}{:064x}{:0<64}", 32, text.len(), hex::encode(text))))
}

fn word(hex: &str) -> RpcReply {
    value(&json!(format!("0x{hex:0>64}")))
}

/// A node that answers as the EVM row says: chain id, name, version, decimals, separator.
fn sound(network: &Network) -> [RpcReply; 5] {
    let (name, version) = network.asset.eip712.unwrap();
    [
        value(&json!(format!("{:#x}", network.chain_id.unwrap()))),
        string(name),
        string(version),
        word("6"),
        word(&hex::encode(network.asset.separator.unwrap())),
    ]
}

fn report(network: &Network, replies: impl IntoIterator<Item = RpcReply>) -> RegistryCheckReport {
    let mut facts = Facts::new();
    for (call, reply) in check_calls(network).into_iter().zip(replies) {
        facts.insert(call, reply);
    }
    check_against_row(network, &facts)
}

/// The report on Base with the answer at `at` replaced.
#[track_caller]
fn checked(at: usize, reply: RpcReply, outcome: RegistryCheckOutcome, differs: &[&str]) {
    let mut replies = sound(base());
    replies[at] = reply;
    let report = report(base(), replies);
    assert_eq!(report.outcome, outcome, "{report:?}");
    assert_eq!(report.differences.iter().map(|d| d.what).collect::<Vec<_>>(), differs);
}

#[test]
fn a_chain_as_its_row_says_passes() {
    for network in network::NETWORKS.iter().filter(|network| network.family == Family::Evm) {
        let report = report(network, sound(network));
        assert_eq!(
            (report.outcome, report.differences.as_slice()),
            (RegistryCheckOutcome::Passed, &[][..]),
            "{}",
            network.key
        );
        assert_eq!(report.name.as_deref(), network.asset.eip712.map(|(name, _)| name));
        assert_eq!(report.version.as_deref(), Some("2"));
        assert_eq!(report.decimals.as_deref(), Some("6"));
        assert_eq!(report.separator, network.asset.separator.map(|found| prefixed_hex(&found)));
    }
}

#[test]
fn what_differs_is_named() {
    checked(0, value(&json!("0x1")), RegistryCheckOutcome::Differs, &["chain_id"]);
    checked(1, string("USDC"), RegistryCheckOutcome::Differs, &["name"]);
    checked(2, string("1"), RegistryCheckOutcome::Differs, &["version"]);
    checked(3, word("12"), RegistryCheckOutcome::Differs, &["decimals"]);
    checked(3, error(ErrorClass::Revert), RegistryCheckOutcome::Differs, &["decimals"]);
    checked(4, word("ab"), RegistryCheckOutcome::Differs, &["domain_separator"]);
}

#[test]
fn a_contract_without_a_separator_is_proven_by_name_and_version() {
    checked(4, error(ErrorClass::Revert), RegistryCheckOutcome::Passed, &[]);
    checked(4, value(&json!("0x")), RegistryCheckOutcome::Passed, &[]);
    let [id, _, version, decimals, _] = sound(base());
    let silent = || error(ErrorClass::Revert);
    let other = report(base(), [id.clone(), string("USDC"), version.clone(), decimals.clone(), silent()]);
    assert_eq!(other.differences.iter().map(|d| d.what).collect::<Vec<_>>(), ["name", "domain_separator"]);
    let mute = report(base(), [id, silent(), version, decimals, silent()]);
    assert_eq!(mute.differences.iter().map(|d| d.found.as_str()).collect::<Vec<_>>(), ["nothing"]);
}

#[test]
fn a_separator_proves_a_contract_without_a_name() {
    checked(1, error(ErrorClass::Revert), RegistryCheckOutcome::Passed, &[]);
    checked(2, error(ErrorClass::Revert), RegistryCheckOutcome::Passed, &[]);
}

#[test]
fn an_address_without_code_is_not_the_token() {
    let [id, ..] = sound(base());
    let empty = || value(&json!("0x"));
    let report = report(base(), [id, empty(), empty(), empty(), empty()]);
    assert_eq!(report.outcome, RegistryCheckOutcome::Differs);
    assert_eq!(report.differences.iter().map(|d| d.what).collect::<Vec<_>>(), ["decimals", "domain_separator"]);
}

#[test]
fn what_was_not_read_does_not_pass() {
    for at in 0..5 {
        checked(at, error(ErrorClass::RateLimited), RegistryCheckOutcome::Unreachable, &[]);
        checked(at, value(&json!(6)), RegistryCheckOutcome::Unreachable, &[]);
        checked(
            at,
            value(&json!("Free API access is not supported for this chain")),
            RegistryCheckOutcome::Unreachable,
            &[],
        );
    }
    checked(0, error(ErrorClass::Revert), RegistryCheckOutcome::Unreachable, &[]);
    assert_eq!(report(base(), []).outcome, RegistryCheckOutcome::Unreachable);
    assert_eq!(report(base(), sound(base()).into_iter().take(4)).outcome, RegistryCheckOutcome::Unreachable);
}

fn mint(owner: &str, data: &[u8]) -> RpcReply {
    value(&json!({"context": {"slot": 1}, "value": {
        "data": [STANDARD.encode(data), "base64"], "executable": false, "lamports": 1, "owner": owner, "rentEpoch": 0}}))
}

fn mint_bytes(decimals: u8, is_initialized: bool) -> Vec<u8> {
    let mint = Mint { _authority: (1, [7; 32]), _supply: 9, decimals, is_initialized, _freeze_authority: (0, [0; 32]) };
    borsh::to_vec(&mint).unwrap()
}

#[track_caller]
fn solana(mint: RpcReply, genesis: &str, outcome: RegistryCheckOutcome, differs: &[&str]) {
    let report = report(network::by_key("solana").unwrap(), [mint, value(&json!(genesis))]);
    assert_eq!(report.outcome, outcome, "{report:?}");
    assert_eq!(report.differences.iter().map(|d| d.what).collect::<Vec<_>>(), differs);
}

#[test]
fn a_mint_is_one_of_the_token_program_with_the_rows_decimals() {
    const GENESIS: &str = "5eykt4UsFv8P8NJdTREpY1vzqKqZKvdpKuc147dw2N9d";
    let bytes = mint_bytes(6, true);
    assert_eq!((bytes.len(), bytes[44]), (82, 6));
    solana(mint(programs::TOKEN, &bytes), GENESIS, RegistryCheckOutcome::Passed, &[]);
    let other = "EtWTRABZaYq6iMfeYKouRu166VU2xqa1wcaWoxPkrZBG";
    solana(mint(programs::TOKEN, &bytes), other, RegistryCheckOutcome::Differs, &["genesis_hash"]);
    let token_2022 = "TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb";
    solana(mint(token_2022, &bytes), GENESIS, RegistryCheckOutcome::Differs, &["owner"]);
    solana(mint(programs::TOKEN, &mint_bytes(9, true)), GENESIS, RegistryCheckOutcome::Differs, &["decimals"]);
    solana(mint(programs::TOKEN, &mint_bytes(6, false)), GENESIS, RegistryCheckOutcome::Differs, &["decimals"]);
    solana(mint(programs::TOKEN, &bytes[..81]), GENESIS, RegistryCheckOutcome::Differs, &["decimals"]);
    solana(value(&json!({"context": {}, "value": null})), GENESIS, RegistryCheckOutcome::Differs, &["mint"]);
    solana(value(&json!(null)), GENESIS, RegistryCheckOutcome::Unreachable, &[]);
    solana(value(&json!({"context": {}})), GENESIS, RegistryCheckOutcome::Unreachable, &[]);
    solana(error(ErrorClass::Other), GENESIS, RegistryCheckOutcome::Unreachable, &[]);
}

#[test]
fn a_local_chain_has_no_genesis_to_check() {
    let local = network::by_key("local-solana").unwrap();
    let calls = check_calls(local);
    assert_eq!(calls.iter().map(|call| call.method).collect::<Vec<_>>(), ["getAccountInfo"]);
    assert_eq!(
        calls[0].params.as_ref(),
        r#"["71bbmk2nBz3PmkqbicKiYuqXBtH5XTRzcKjQKZLwPTJY",{"commitment":"confirmed","encoding":"base64"}]"#
    );
    assert_eq!(report(local, [mint(programs::TOKEN, &mint_bytes(6, true))]).outcome, RegistryCheckOutcome::Passed);
}

#[test]
fn a_report_is_written_in_snake_case() {
    let mut replies = sound(base());
    replies[3] = word("12");
    let written = serde_json::to_value(report(base(), replies)).unwrap();
    assert_eq!(written["outcome"], "differs");
    assert_eq!(written["differences"], json!([{"what": "decimals", "expected": "6", "found": "18"}]));
    assert_eq!(written["chain"], "base");
}

proptest! {
    #[test]
    fn no_answer_panics(at in 0_usize..5, text in "(0x[0-9a-f]{0,300}|.{0,40})", raw in ".{0,30}") {
        let solana = network::by_key("solana").unwrap();
        let replies = [json!(text), json!({"value": {"owner": raw, "data": [text, "base64"]}}), json!([raw, text])];
        for reply in &replies {
            let mut all = sound(base());
            all[at] = value(reply);
            let _ = report(base(), all);
            let _ = report(solana, [value(reply), value(reply)]);
        }
    }
}

#[test]
fn an_outcome_has_one_name_in_the_directory_and_in_json() {
    for outcome in RegistryCheckOutcome::ALL {
        assert_eq!(serde_json::to_value(outcome).expect("JSON"), json!(outcome.name()));
        assert_eq!(RegistryCheckOutcome::parse(outcome.name()), Some(outcome));
    }
    assert_eq!(RegistryCheckOutcome::parse("Passed"), None);
}

//! The recordings as verdicts: trace and judge together.

use crate::case::{CASES, Case, plus};
use crate::ours;
use alloy_primitives::B256;
use serde_json::{Value, json};
use x402_chain::address::Address;
use x402_chain::amount::Amount;
use x402_chain::retry::Retry;
use x402_chain::time::UnixMillis;
use x402_chain::trace::{MinedTransaction, Screening, Trace};
use x402_core::verdict::{RefusalCode, SanctionsPolicy};
use x402_core::verification::answer::{Binding, Finality};
use x402_core::verification::claim::{Claim, MAX_AGE_SECONDS_MAX};
use x402_core::verification::judge::{ClaimUnit, JudgeContext, Judgement, judge};

fn judged(case: &Case) -> Option<Judgement> {
    judged_as(case, |_| {})
}

fn judged_as(case: &Case, change: impl FnOnce(&mut Claim)) -> Option<Judgement> {
    let trace = case.trace().ok()?;
    let screening = Screening::new();
    let mut claim = Claim {
        network: Box::leak(Box::new(case.network)),
        tx: case.tx,
        expected: None,
        recipient: None,
        payer: None,
        memo: None,
        authorization_nonce: None,
        reference: None,
        finality: Finality::Confirmed,
        max_age_s: MAX_AGE_SECONDS_MAX,
        claim: true,
    };
    change(&mut claim);
    let context = JudgeContext {
        recipient: case.recipient(),
        screening: &screening,
        single_provider: false,
        sanctions: None,
        policy: SanctionsPolicy::Refuse,
        held_claims: &[],
        known_payers: &[],
        now: UnixMillis(1_795_000_000_000),
    };
    Some(judge(&claim, &trace, &context))
}

#[test]
fn every_recording_gets_the_verdict_it_expects() {
    let mut verdicts = 0;
    for case in CASES.iter().filter(|case| case.expected["recipient"].is_string()) {
        let want = &case.expected;
        let code = want["error_code"].as_str().map(ours);
        if matches!(code, Some("INVALID_RECIPIENT" | "CHAIN_UNAVAILABLE")) {
            continue;
        }
        let judgement = judged(case).unwrap_or_else(|| panic!("{}: no trace", case.id));
        let found = judgement.refusal.as_ref().map(|(refusal, _)| refusal.as_str());
        assert_eq!(found, code, "{}: {:?}", case.id, judgement.checks);
        assert_eq!(judgement.is_paid(), want["success"].as_bool().unwrap(), "{}", case.id);
        if judgement.is_paid() {
            assert_eq!(Value::from(judgement.amount.to_string()), want["net"], "{}", case.id);
        }
        let failed: Vec<&str> =
            judgement.checks.iter().filter(|check| !check.passed).map(|check| check.name.as_str()).collect();
        assert_eq!(failed.is_empty(), judgement.is_paid(), "{}: {failed:?}", case.id);
        let is_final = judgement.refusal.is_none_or(|(refusal, _)| refusal.retry() == Retry::Never);
        assert!(is_final || want["success"] == false, "{}", case.id);
        verdicts += 1;
    }
    println!("evm fixtures: {verdicts} verdicts");
}

/// The recordings whose recipient was paid, with what was recorded of it.
fn paid() -> Vec<(Case, MinedTransaction)> {
    let is_paid = |case: &&Case| case.expected["success"] == true && case.expected["recipient"].is_string();
    let mined = |case: &Case| case.trace().as_ref().ok().and_then(Trace::mined).cloned();
    CASES.iter().filter(is_paid).filter_map(|case| Some((case.clone(), mined(case)?))).collect()
}

fn refusal(judgement: &Judgement) -> Option<RefusalCode> {
    judgement.refusal.as_ref().map(|(refusal, _)| *refusal)
}

#[test]
fn a_recordings_payer_is_judged_by_what_he_paid() {
    for (case, mined) in paid() {
        let recipient = case.recipient();
        if mined.transfers.iter().any(|line| line.from == Some(recipient)) {
            continue;
        }
        let whole = judged(&case).unwrap();
        assert_eq!(whole.units(), [ClaimUnit::Whole], "{}", case.id);
        for payer in &whole.payers {
            let own = mined.transfers.iter().filter(|line| line.to == Some(recipient) && line.from == Some(*payer));
            let sum = own.clone().fold(Amount::ZERO, |sum, line| plus(sum, line.amount));
            let ask = |expected: Amount| {
                judged_as(&case, |claim| (claim.payer, claim.expected) = (Some(*payer), Some(expected))).unwrap()
            };
            let judgement = ask(sum);
            assert!(judgement.is_paid() && judgement.amount == sum, "{}: {:?}", case.id, judgement.checks);
            assert_eq!(judgement.transfers, own.cloned().collect::<Vec<_>>(), "{}", case.id);
            assert_eq!(refusal(&ask(plus(sum, Amount::atomic(1)))), Some(RefusalCode::AmountTooLow), "{}", case.id);
        }
        let stranger = judged_as(&case, |claim| claim.payer = Some(Address::Evm([9; 20].into()))).unwrap();
        assert_eq!(refusal(&stranger), Some(RefusalCode::PayerMismatch), "{}", case.id);
    }
}

/// The case with an authorization's event of the asset before the log at a place; all indexes are doubled for it.
fn with_authorization(case: &Case, before: usize, authorizer: &Value, nonce: B256) -> Case {
    let mut logs = case.logs();
    for log in &mut logs {
        let index = u64::from_str_radix(&log["logIndex"].as_str().unwrap()[2..], 16).unwrap();
        log["logIndex"] = json!(format!("{:#x}", 2 * index + 1));
    }
    let mut used = logs[before].clone();
    let index = u64::from_str_radix(&used["logIndex"].as_str().unwrap()[2..], 16).unwrap();
    used["logIndex"] = json!(format!("{:#x}", index - 1));
    used["topics"] =
        json!(["0x98de503528ee59b575ef0c0a2576a82497bfc029a5685b209e9ec333479b10a5", authorizer, nonce.to_string()]);
    used["data"] = json!("0x");
    logs.insert(before, used);
    case.with_logs(logs)
}

#[test]
fn a_nonce_written_into_a_recording_selects_the_transfer_beside_it() {
    let (nonce, mut bound) = (B256::repeat_byte(7), 0);
    let ask = |case: &Case, nonce: B256| judged_as(case, |claim| claim.authorization_nonce = Some(nonce)).unwrap();
    for (case, _) in paid() {
        let logs = case.logs();
        let asset = case.network.asset.address.to_string().to_lowercase();
        let of_asset: Vec<usize> = (0..logs.len()).filter(|at| logs[*at]["address"] == asset.as_str()).collect();
        let first = case.expected["matching_logs"][0].as_u64().unwrap();
        let at = logs.iter().position(|log| log["logIndex"] == format!("{first:#x}")).unwrap();
        let giver = logs[at]["topics"][1].clone();
        let before = of_asset.iter().rev().find(|other| **other < at).map(|other| logs[*other]["topics"][1].clone());
        let judgement = ask(&with_authorization(&case, at, &giver, nonce), nonce);
        if before == Some(giver) {
            continue;
        }
        assert!(judgement.is_paid() && judgement.binding == Binding::Authorization, "{}", case.id);
        let amount = Amount(logs[at]["data"].as_str().unwrap().parse().unwrap());
        assert!(judgement.amount <= amount, "{}", case.id);
        let unbound = ask(&with_authorization(&case, at, &json!(format!("0x{:064x}", 9)), nonce), nonce);
        assert_eq!(refusal(&unbound), Some(RefusalCode::AuthorizationMismatch), "{}", case.id);
        assert_eq!(refusal(&ask(&case, nonce)), Some(RefusalCode::AuthorizationMismatch), "{}", case.id);
        bound += 1;
    }
    assert!(bound > 15, "{bound}");
    println!("evm fixtures: {bound} transfers bound to a nonce");
}

/// The case on a chain whose gas may be paid in the token, with a fee that its sender paid so: a reserve goes to the
/// zero address before all and comes back after all, and of it the sender gives a tip and the base fee.
fn with_gas(case: &Case) -> Option<Case> {
    let sender = case.receipt["from"].as_str()?.trim_start_matches("0x").to_lowercase();
    let (sender, nobody) = (format!("0x{sender:0>64}"), format!("0x{:064}", 0));
    let transfer = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef";
    let mut logs = case.logs();
    let mut line = logs.first()?.clone();
    line["address"] = json!(case.network.asset.address.to_string().to_lowercase());
    let gas = |index: usize, ends: [&String; 2], value: u64| {
        let mut line = line.clone();
        line["logIndex"] = json!(format!("{index:#x}"));
        line["topics"] = json!([transfer, ends[0], ends[1]]);
        line["data"] = json!(format!("0x{value:064x}"));
        line
    };
    let numbered = logs.iter_mut().enumerate();
    numbered.for_each(|(at, log)| log["logIndex"] = json!(format!("{:#x}", at + 1)));
    let (end, vault) = (logs.len() + 1, format!("0x{:0>64}", "42"));
    let before = vec![gas(0, [&sender, &nobody], 20_000_000)];
    let shares = [gas(end + 1, [&sender, &vault], 0), gas(end + 2, [&sender, &vault], 1_000)];
    let after = [vec![gas(end, [&nobody, &sender], 20_000_000)], shares.to_vec()].concat();
    let mut case = case.with_logs([before, logs, after].concat());
    case.network.asset.pays_gas = true;
    Some(case)
}

/// Whether all that the recipient got was minted in a transaction that he sent himself.
fn is_minted_by_its_recipient(case: &Case) -> bool {
    let (to, payers) = (case.expected["recipient"].as_str(), case.expected["payers"].as_array());
    to == case.receipt["from"].as_str() && payers.is_some_and(|payers| *payers == [json!(format!("0x{:040}", 0))])
}

#[test]
fn a_fee_in_the_token_changes_no_verdict() {
    let mut verdicts = 0;
    let is_judged = |case: &&Case| case.expected["recipient"].is_string() && case.trace().is_ok();
    for case in CASES.iter().filter(is_judged) {
        let Some(gassed) = with_gas(case) else { continue };
        for payer in [None, judged(case).unwrap().payers.first().copied()] {
            let ask = |case: &Case| judged_as(case, |claim| claim.payer = payer).unwrap();
            let (plain, gassed) = (ask(case), ask(&gassed));
            if is_minted_by_its_recipient(case) {
                // What moves between the sender and the zero address is gas there, a mint to himself too.
                assert_eq!(refusal(&gassed), Some(RefusalCode::NoMatchingTransfer), "{}: {:?}", case.id, gassed.checks);
                continue;
            }
            assert_eq!(refusal(&gassed), refusal(&plain), "{}: {:?}", case.id, gassed.checks);
            assert_eq!((gassed.amount, &gassed.payers), (plain.amount, &plain.payers), "{}", case.id);
        }
        verdicts += 1;
    }
    assert!(verdicts > 15, "{verdicts}");
    println!("evm fixtures: {verdicts} verdicts beside a fee in the token");
}

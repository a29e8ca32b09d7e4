//! The recordings as verdicts: trace and judge together.

use crate::case::{CASES, Case};
use crate::ours;
use serde_json::Value;
use x402_edge::chain::trace::Screening;
use x402_edge::error::Retry;
use x402_edge::judge::{Context, Judgement, judge};
use x402_edge::payment::{Claim, Finality, MAX_AGE_SECONDS_MAX};
use x402_edge::time::UnixMillis;
use x402_edge::verdict::SanctionsPolicy;

fn judged(case: &Case) -> Option<Judgement> {
    let trace = case.trace().ok()?;
    let screening = Screening::new();
    let claim = Claim {
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
    let context = Context {
        recipient: case.recipient(),
        screening: &screening,
        single_provider: false,
        sanctions: None,
        policy: SanctionsPolicy::Refuse,
        held: &[],
        known_payers: &[],
        now: UnixMillis(1_795_000_000_000),
    };
    Some(judge(&claim, &trace, &context))
}

#[test]
fn every_recording_gets_the_verdict_it_expects() {
    let mut told = 0;
    for case in CASES.iter().filter(|case| case.expected["recipient"].is_string()) {
        let want = &case.expected;
        let code = want["error_code"].as_str().map(ours);
        if matches!(code, Some("INVALID_RECIPIENT" | "CHAIN_UNAVAILABLE")) {
            continue;
        }
        let judgement = judged(case).unwrap_or_else(|| panic!("{}: no trace", case.id));
        let found = judgement.refusal.as_ref().map(|(refusal, _)| refusal.wire());
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
        told += 1;
    }
    println!("evm fixtures: {told} verdicts");
}

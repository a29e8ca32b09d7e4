use super::tests::{BUYER, MERCHANT, claim, context, evm, held, mined, refused, run, transfer};
use super::*;
use alloy_primitives::B256;
use std::slice::from_ref;
use x402_chain::network::by_key;
use x402_chain::trace::{TransferLocation, UsedAuthorization};

const OTHER: u8 = 5;
const CENT: u64 = 10_000;
const TEN: u64 = 10_000_000;

fn nonce(byte: u8) -> B256 {
    B256::repeat_byte(byte)
}

fn used(authorizer: u8, byte: u8, transfer: Option<u64>) -> UsedAuthorization {
    UsedAuthorization { authorizer: evm(authorizer), nonce: nonce(byte), transfer }
}

/// The buyer pays a cent by nonce 1 as log 1, another pays ten by nonce 2 as log 3.
fn two() -> MinedTransaction {
    let authorizations = vec![used(BUYER, 1, Some(1)), used(OTHER, 2, Some(3))];
    let transfers = vec![transfer(1, BUYER, MERCHANT, CENT), transfer(3, OTHER, MERCHANT, TEN)];
    MinedTransaction { authorizations, ..mined(transfers) }
}

fn expecting(units: u64) -> Claim {
    Claim { expected: Some(Amount::atomic(units)), ..claim() }
}

fn by_nonce(byte: u8, claim: Claim) -> Claim {
    Claim { authorization_nonce: Some(nonce(byte)), ..claim }
}

fn by_payer(byte: u8, claim: Claim) -> Claim {
    Claim { payer: Some(evm(byte)), ..claim }
}

/// A success that takes these units, with the amount that is answered.
#[track_caller]
fn fresh(judgement: &Judgement, units: &[ClaimUnit], amount: u64) {
    assert_eq!(judgement.refusal, None, "{:?}", judgement.checks);
    assert_eq!((judgement.units(), judgement.amount), (units, Amount::atomic(amount)));
    let sum = judgement
        .transfers
        .iter()
        .fold(Amount::ZERO, |sum, line| Amount(sum.0.checked_add(line.amount.0).expect("small")));
    assert_eq!(sum, Amount::atomic(amount), "the transfers are those of the amount");
    assert!(judgement.checks.iter().all(|check| check.passed));
}

/// A success answered again, by its first claim.
#[track_caller]
fn again(judgement: &Judgement, first: &HeldClaim, amount: u64) {
    assert_eq!(judgement.refusal, None, "{:?}", judgement.checks);
    assert_eq!((judgement.replayed(), judgement.units()), (Some(&first.prior), [].as_slice()));
    assert_eq!(judgement.amount, Amount::atomic(amount));
}

#[track_caller]
fn taken(judgement: &Judgement, by: &HeldClaim) {
    refused(judgement, RefusalCode::AlreadyClaimed);
    assert_eq!(judgement.claim_status, ClaimStatus::Taken(by.prior.clone()));
}

#[test]
fn a_nonce_selects_its_own_transfer_and_no_other() {
    let judgement = run(&by_nonce(1, expecting(TEN)), two(), &[]);
    refused(&judgement, RefusalCode::AmountTooLow);
    assert_eq!((judgement.amount.usdc().as_str(), judgement.overpaid), ("0.010000", Some(Amount::ZERO)));
    assert_eq!((judgement.payers.as_slice(), judgement.transfers.len()), ([evm(BUYER)].as_slice(), 1));
    let detail = judgement.refusal.map(|(_, detail)| detail);
    assert_eq!(detail.as_deref(), Some("0.010000 USDC arrived by the named authorization, 10.000000 expected"));
    let judgement = run(&by_nonce(2, expecting(TEN)), two(), &[]);
    fresh(&judgement, &[ClaimUnit::Log(3)], TEN);
    assert_eq!(judgement.binding, Binding::Authorization);
    fresh(&run(&by_nonce(1, expecting(CENT)), two(), &[]), &[ClaimUnit::Log(1)], CENT);
}

#[test]
fn a_payer_selects_what_he_paid() {
    let judgement = run(&by_payer(OTHER, expecting(TEN)), two(), &[]);
    fresh(&judgement, &[ClaimUnit::Log(3)], TEN);
    assert_eq!((judgement.binding, judgement.payers), (Binding::Payer, vec![evm(OTHER)]));
    // Both named: what both name.
    fresh(&run(&by_payer(OTHER, by_nonce(2, claim())), two(), &[]), &[ClaimUnit::Log(3)], TEN);
    refused(&run(&by_payer(OTHER, by_nonce(1, claim())), two(), &[]), RefusalCode::AuthorizationMismatch);
    refused(&run(&by_payer(9, by_nonce(1, claim())), two(), &[]), RefusalCode::PayerMismatch);
    // Named alone, it is all there is.
    let alone = || mined(vec![transfer(7, BUYER, MERCHANT, CENT)]);
    fresh(&run(&by_payer(BUYER, claim()), alone(), &[]), &[ClaimUnit::Whole], CENT);
}

#[test]
fn who_names_neither_selects_all() {
    let judgement = run(&expecting(TEN), two(), &[]);
    fresh(&judgement, &[ClaimUnit::Whole], TEN + CENT);
    assert_eq!(judgement.overpaid, Some(Amount::atomic(CENT)));
}

#[test]
fn a_nonce_that_names_no_one_transfer_is_a_mismatch() {
    let ask = |authorizations: Vec<UsedAuthorization>, asked: Claim| {
        run(&asked, MinedTransaction { authorizations, ..two() }, &[])
    };
    let cases = [
        vec![],
        // No transfer beside it; one that pays somebody else; one of another giver.
        vec![used(BUYER, 1, None)],
        vec![used(BUYER, 1, Some(9))],
        vec![used(BUYER, 1, Some(3))],
        // Two buyers' nonces are equal, and both paid.
        vec![used(BUYER, 1, Some(1)), used(OTHER, 1, Some(3))],
    ];
    for authorizations in cases {
        let judgement = ask(authorizations.clone(), by_nonce(1, claim()));
        refused(&judgement, RefusalCode::AuthorizationMismatch);
        assert_eq!(judgement.amount, Amount::atomic(TEN + CENT), "{authorizations:?}: what arrived is answered");
    }
    // Of two with one nonce only one has paid this recipient, or the payer says which.
    let stranger = ask(vec![used(BUYER, 1, Some(1)), used(OTHER, 1, Some(9))], by_nonce(1, claim()));
    fresh(&stranger, &[ClaimUnit::Log(1)], CENT);
    let twins = vec![used(BUYER, 1, Some(1)), used(OTHER, 1, Some(3))];
    fresh(&ask(twins, by_payer(OTHER, by_nonce(1, claim()))), &[ClaimUnit::Log(3)], TEN);
}

#[test]
fn two_authorizations_of_one_payer_are_two_payments() {
    let story = || {
        let authorizations = vec![used(BUYER, 1, Some(1)), used(BUYER, 2, Some(3))];
        let transfers = vec![transfer(1, BUYER, MERCHANT, CENT), transfer(3, BUYER, MERCHANT, TEN)];
        MinedTransaction { authorizations, ..mined(transfers) }
    };
    fresh(&run(&by_nonce(1, claim()), story(), &[]), &[ClaimUnit::Log(1)], CENT);
    fresh(&run(&by_payer(BUYER, claim()), story(), &[]), &[ClaimUnit::Whole], TEN + CENT);
    let first = held(ClaimUnit::Log(1), 1, Some("other"));
    fresh(&run(&by_nonce(2, claim()), story(), from_ref(&first)), &[ClaimUnit::Log(3)], TEN);
    fresh(&run(&by_payer(BUYER, expecting(TEN)), story(), from_ref(&first)), &[ClaimUnit::Log(3)], TEN);
    taken(&run(&by_payer(BUYER, expecting(TEN + 1)), story(), from_ref(&first)), &first);
}

#[test]
fn what_is_free_must_be_enough_by_itself() {
    let ten = held(ClaimUnit::Log(3), 1, Some("other"));
    let judgement = run(&expecting(TEN), two(), from_ref(&ten));
    taken(&judgement, &ten);
    assert_eq!(judgement.amount, Amount::atomic(TEN + CENT), "a refusal names what was judged");
    let judgement = run(&expecting(CENT), two(), from_ref(&ten));
    fresh(&judgement, &[ClaimUnit::Log(1)], CENT);
    assert_eq!((judgement.overpaid, judgement.payers), (Some(Amount::ZERO), vec![evm(BUYER)]));
    fresh(&run(&claim(), two(), from_ref(&ten)), &[ClaimUnit::Log(1)], CENT);
    // The second order of the transaction by its own nonce, or its own payer.
    fresh(&run(&by_nonce(1, expecting(CENT)), two(), from_ref(&ten)), &[ClaimUnit::Log(1)], CENT);
    fresh(&run(&by_payer(BUYER, expecting(CENT)), two(), from_ref(&ten)), &[ClaimUnit::Log(1)], CENT);
    taken(&run(&by_nonce(2, claim()), two(), from_ref(&ten)), &ten);
    // What is refused by itself is refused so.
    refused(&run(&expecting(TEN + CENT + 1), two(), &[ten]), RefusalCode::AmountTooLow);
}

#[test]
fn all_under_one_reference_is_answered_again_by_its_first_claim() {
    let (later, first) = (held(ClaimUnit::Log(1), 2, Some("order-1")), held(ClaimUnit::Log(3), 1, Some("order-1")));
    let both = [later.clone(), first.clone()];
    again(&run(&expecting(TEN + CENT), two(), &both), &first, TEN + CENT);
    again(&run(&by_nonce(1, claim()), two(), &both), &later, CENT);
    // A part of it: the rest is claimed anew.
    fresh(&run(&claim(), two(), from_ref(&first)), &[ClaimUnit::Log(1)], CENT);
    // The rest is not enough, but what it has is.
    again(&run(&expecting(TEN), two(), from_ref(&first)), &first, TEN);
    // Nor is either alone, though both were together: no money is counted twice.
    taken(&run(&expecting(TEN + CENT), two(), from_ref(&first)), &first);
    // What another holds is in the way of neither.
    let other = held(ClaimUnit::Log(1), 3, Some("other"));
    again(&run(&expecting(TEN), two(), &[other.clone(), first.clone()]), &first, TEN);
    again(&run(&claim(), two(), &[other.clone(), first.clone()]), &first, TEN);
    taken(&run(&expecting(TEN + 1), two(), &[first, other.clone()]), &other);
}

#[test]
fn the_whole_is_in_the_way_of_every_part_and_a_part_of_the_whole() {
    let (own, other) = (held(ClaimUnit::Whole, 1, Some("order-1")), held(ClaimUnit::Whole, 1, None));
    for asked in [claim(), by_nonce(1, claim()), by_payer(OTHER, claim())] {
        taken(&run(&asked, two(), from_ref(&other)), &other);
        assert!(run(&asked, two(), from_ref(&own)).replayed().is_some());
    }
    let part = held(ClaimUnit::Log(1), 1, None);
    taken(&run(&expecting(TEN + 1), two(), from_ref(&part)), &part);
    fresh(&run(&claim(), two(), &[part]), &[ClaimUnit::Log(3)], TEN);
    // Not written as the whole, though it is all that is there now.
    let gone = held(ClaimUnit::Log(9), 1, None);
    fresh(&run(&claim(), two(), &[gone]), &[ClaimUnit::Log(1), ClaimUnit::Log(3)], TEN + CENT);
}

#[test]
fn of_two_claims_on_one_log_the_first_counts() {
    let (own, other) = (held(ClaimUnit::Whole, 1, Some("order-1")), held(ClaimUnit::Log(1), 2, None));
    again(&run(&by_nonce(1, claim()), two(), &[own.clone(), other.clone()]), &own, CENT);
    taken(&run(&by_nonce(1, claim()), two(), &[other.clone(), own]), &other);
}

/// The buyer pays six by nonce 1, another four by nonce 2, and the recipient passes three on.
fn forwarded() -> MinedTransaction {
    let authorizations = vec![used(BUYER, 1, Some(1)), used(OTHER, 2, Some(3))];
    let transfers = vec![transfer(1, BUYER, MERCHANT, 6), transfer(3, OTHER, MERCHANT, 4), transfer(5, MERCHANT, 8, 3)];
    MinedTransaction { authorizations, ..mined(transfers) }
}

#[test]
fn where_money_was_passed_on_only_the_whole_is_claimed() {
    let whole = |asked: &Claim, amount: u64| {
        let judgement = run(asked, forwarded(), &[]);
        assert_eq!((judgement.refusal, judgement.claim_status), (None, ClaimStatus::Fresh(vec![ClaimUnit::Whole])));
        assert_eq!(judgement.amount, Amount::atomic(amount));
        assert_eq!(judgement.transfers.len(), 2);
    };
    whole(&claim(), 7);
    // What certainly came from whom is named: what was passed on may have been his.
    whole(&by_nonce(1, expecting(3)), 3);
    whole(&by_payer(BUYER, expecting(3)), 3);
    whole(&by_nonce(2, claim()), 1);
    for asked in [by_nonce(1, expecting(4)), by_payer(BUYER, expecting(4)), by_nonce(2, expecting(2))] {
        let judgement = run(&asked, forwarded(), &[]);
        refused(&judgement, RefusalCode::AmountTooLow);
        assert!(judgement.amount < Amount::atomic(4));
    }
    let log = held(ClaimUnit::Log(3), 1, Some("other"));
    taken(&run(&by_nonce(1, claim()), forwarded(), from_ref(&log)), &log);
    let own = held(ClaimUnit::Whole, 1, Some("order-1"));
    again(&run(&by_nonce(1, expecting(3)), forwarded(), from_ref(&own)), &own, 3);
    taken(&run(&by_nonce(1, claim()), forwarded(), &[own, log.clone()]), &log);
}

#[test]
fn of_whom_nothing_is_certain_is_no_payer() {
    let story = || {
        let authorizations = vec![used(BUYER, 1, Some(1))];
        let transfers =
            vec![transfer(1, BUYER, MERCHANT, 3), transfer(3, OTHER, MERCHANT, 4), transfer(5, MERCHANT, 8, 3)];
        MinedTransaction { authorizations, ..mined(transfers) }
    };
    refused(&run(&by_payer(BUYER, claim()), story(), &[]), RefusalCode::PayerMismatch);
    refused(&run(&by_nonce(1, claim()), story(), &[]), RefusalCode::AuthorizationMismatch);
    refused(&run(&by_payer(BUYER, expecting(1)), story(), &[]), RefusalCode::AmountTooLow);
    // All that came in is his, and so is what was kept.
    let alone = || {
        let authorizations = vec![used(BUYER, 1, Some(1))];
        MinedTransaction { authorizations, ..mined(vec![transfer(1, BUYER, MERCHANT, 5), transfer(2, MERCHANT, 8, 3)]) }
    };
    let judgement = run(&by_nonce(1, expecting(2)), alone(), &[]);
    assert_eq!((judgement.units(), judgement.amount), ([ClaimUnit::Whole].as_slice(), Amount::atomic(2)));
}

#[test]
fn a_trace_without_ordinals_has_only_the_whole() {
    let mut story = two();
    for line in &mut story.transfers {
        line.ordinal = 0;
    }
    for used in &mut story.authorizations {
        used.transfer = None;
    }
    assert_eq!(run(&claim(), story.clone(), &[]).units(), [ClaimUnit::Whole]);
    let judgement = run(&by_payer(OTHER, expecting(TEN)), story.clone(), &[]);
    assert_eq!((judgement.units(), judgement.amount), ([ClaimUnit::Whole].as_slice(), Amount::atomic(TEN)));
    let part = held(ClaimUnit::Log(3), 1, None);
    taken(&run(&claim(), story.clone(), from_ref(&part)), &part);
    refused(&run(&by_nonce(1, claim()), story, &[]), RefusalCode::AuthorizationMismatch);
}

#[test]
fn only_the_selected_are_screened() {
    let listed = evm(OTHER).to_string().to_lowercase();
    let list =
        sanctions::SanctionsList::parse(&format!(r#"{{"list_date":"2026-11-17","evm":["{listed}"],"solana":[]}}"#));
    let trace = Trace { tx: claim().tx, found: TransactionState::Mined(Box::new(two())) };
    let screening = Screening::new();
    let ask =
        |asked: &Claim| judge(asked, &trace, &JudgeContext { sanctions: list.as_ref(), ..context(&screening, &[]) });
    assert!(ask(&by_nonce(1, claim())).is_paid());
    assert!(!ask(&by_nonce(1, claim())).risk.factors.iter().any(|factor| factor.code == "sanctioned_payer"));
    refused(&ask(&by_nonce(2, claim())), RefusalCode::SanctionedAddress);
    refused(&ask(&claim()), RefusalCode::SanctionedAddress);
}

fn svm(byte: u8) -> Address {
    Address::Svm([byte; 32])
}

/// On Solana: the merchant gains the sum of what these owners lose.
fn gained(lost: &[(u8, u64)], memos: &[&str]) -> MinedTransaction {
    let line = |from: Option<u8>, to: Option<u8>, amount: u64| Transfer {
        place: TransferLocation::TokenAccount(svm(from.or(to).unwrap_or_default())),
        ordinal: 0,
        from: from.map(svm),
        to: to.map(svm),
        amount: Amount::atomic(amount),
    };
    let mut transfers: Vec<Transfer> = lost.iter().map(|(owner, amount)| line(Some(*owner), None, *amount)).collect();
    transfers.push(line(None, Some(MERCHANT), lost.iter().map(|(_, amount)| amount).sum()));
    MinedTransaction { memos: memos.iter().map(|memo| (*memo).to_owned()).collect(), ..mined(transfers) }
}

fn run_svm(asked: Claim, story: MinedTransaction, held: &[HeldClaim]) -> Judgement {
    let asked = Claim { network: by_key("solana").expect("registered"), ..asked };
    let trace = Trace { tx: asked.tx, found: TransactionState::Mined(Box::new(story)) };
    judge(&asked, &trace, &JudgeContext { recipient: svm(MERCHANT), ..context(&Screening::new(), held) })
}

#[test]
fn on_solana_the_unit_is_the_whole_gain() {
    let story = || gained(&[(BUYER, 7), (OTHER, 5)], &[]);
    let by = |payer: u8, claim: Claim| Claim { payer: Some(svm(payer)), ..claim };
    let judgement = run_svm(by(BUYER, expecting(7)), story(), &[]);
    assert_eq!((judgement.units(), judgement.amount), ([ClaimUnit::Whole].as_slice(), Amount::atomic(7)));
    assert_eq!((judgement.payers.len(), judgement.binding), (2, Binding::Payer));
    refused(&run_svm(by(BUYER, expecting(8)), story(), &[]), RefusalCode::AmountTooLow);
    refused(&run_svm(by(9, claim()), story(), &[]), RefusalCode::PayerMismatch);
    let other = held(ClaimUnit::Whole, 1, Some("other"));
    taken(&run_svm(by(OTHER, claim()), story(), from_ref(&other)), &other);
    let own = held(ClaimUnit::Whole, 1, Some("order-1"));
    again(&run_svm(by(OTHER, claim()), story(), from_ref(&own)), &own, 5);
}

#[test]
fn a_memo_of_several_payments_names_none_without_its_payer() {
    let ask = |lost: &[(u8, u64)], memos: &[&str], payer: Option<u8>| {
        let asked = Claim { memo: Some("order-7".to_owned()), payer: payer.map(svm), ..claim() };
        run_svm(asked, gained(lost, memos), &[])
    };
    let (one, many) = ([(BUYER, 7)].as_slice(), [(BUYER, 7), (OTHER, 5)].as_slice());
    let judgement = ask(one, &["order-7"], None);
    assert_eq!((judgement.is_paid(), judgement.binding), (true, Binding::Memo));
    for (lost, memos) in [(one, ["order-7", "order-8"].as_slice()), (many, &["order-7"]), (many, &["order-7", "x"])] {
        refused(&ask(lost, memos, None), RefusalCode::MemoMismatch);
        let judgement = ask(lost, memos, Some(BUYER));
        // The payer is certain; whose the memo is, is not.
        assert_eq!((judgement.is_paid(), judgement.binding), (true, Binding::Payer));
        assert_eq!(judgement.amount, Amount::atomic(7));
    }
    refused(&ask(one, &["order-8"], Some(BUYER)), RefusalCode::MemoMismatch);
}

use super::*;
use alloy_primitives::B256;
use proptest::prelude::*;
use x402_chain::address::TxId;
use x402_chain::id::{ClaimId, VerificationId};
use x402_chain::network::by_key;
use x402_chain::trace::{Block, ConfidentialTransfer, ForeignTransfer, Transfer, TransferLocation, UsedAuthorization};

const NOW: UnixMillis = UnixMillis(1_795_000_000_000);

pub(super) fn evm(byte: u8) -> Address {
    Address::Evm([byte; 20].into())
}

pub(super) const MERCHANT: u8 = 3;
pub(super) const BUYER: u8 = 4;

pub(super) fn transfer(index: u64, from: u8, to: u8, amount: u64) -> Transfer {
    Transfer {
        place: TransferLocation::LogIndex(index),
        ordinal: index,
        from: Some(evm(from)),
        to: Some(evm(to)),
        amount: Amount::atomic(amount),
    }
}

pub(super) fn mined(transfers: Vec<Transfer>) -> MinedTransaction {
    MinedTransaction {
        failure: None,
        block: Block { number: 100, hash: Some("0x1".to_owned()), time: Some(UnixSeconds(1_794_999_990)) },
        head: 110,
        depth: Depth::Confirmed,
        finality_unknown: false,
        submitter: None,
        transfers,
        foreign: Vec::new(),
        zero: Vec::new(),
        confidential: Vec::new(),
        memos: Vec::new(),
        authorizations: Vec::new(),
    }
}

pub(super) fn claim() -> Claim {
    Claim {
        network: by_key("base").expect("registered"),
        tx: TxId::Evm(B256::ZERO),
        expected: None,
        recipient: None,
        payer: None,
        memo: None,
        authorization_nonce: None,
        reference: Some("order-1".to_owned()),
        finality: Finality::Confirmed,
        max_age_s: 86_400,
        claim: true,
    }
}

pub(super) fn context<'a>(screening: &'a Screening, held: &'a [HeldClaim]) -> JudgeContext<'a> {
    JudgeContext {
        recipient: evm(MERCHANT),
        screening,
        single_provider: false,
        sanctions: None,
        policy: SanctionsPolicy::Refuse,
        held_claims: held,
        known_payers: &[],
        now: NOW,
    }
}

pub(super) fn run(claim: &Claim, mined: MinedTransaction, held: &[HeldClaim]) -> Judgement {
    let trace = Trace { tx: claim.tx, found: TransactionState::Mined(Box::new(mined)) };
    judge(claim, &trace, &context(&Screening::new(), held))
}

fn paid(amount: u64) -> MinedTransaction {
    mined(vec![transfer(1, BUYER, MERCHANT, amount)])
}

/// A claim by verification `number`, `number` milliseconds from now.
pub(super) fn held(unit: ClaimUnit, number: u64, reference: Option<&str>) -> HeldClaim {
    let [_, _, _, _, _, _, random @ ..] = u128::from(number).to_be_bytes();
    let id = ClaimId::Verification(VerificationId::new(NOW, random));
    HeldClaim {
        unit,
        prior: PriorClaim {
            id,
            reference: reference.map(|text| BoundReference::Text(text.to_owned())),
            at: NOW.plus(number),
        },
    }
}

type Change = fn(&mut Claim, &mut MinedTransaction);

/// One way to break each rule that a mined payment can break, by precedence.
const BREAKS: &[(RefusalCode, Change)] = &[
    (RefusalCode::TxFailed, |_, mined| mined.failure = Some("reverted".to_owned())),
    (RefusalCode::RecipientForwarded, |_, mined| mined.transfers.push(transfer(9, MERCHANT, 8, 5_000_000))),
    (RefusalCode::AmountTooLow, |claim, _| claim.expected = Some(Amount::atomic(5_000_001))),
    (RefusalCode::PayerMismatch, |claim, _| claim.payer = Some(evm(9))),
    (RefusalCode::MemoMismatch, |claim, _| claim.memo = Some("order-9".to_owned())),
    (RefusalCode::AuthorizationMismatch, |claim, _| claim.authorization_nonce = Some(B256::repeat_byte(9))),
    (RefusalCode::TooOld, |claim, _| claim.max_age_s = 1),
    (RefusalCode::NotFinal, |claim, _| claim.finality = Finality::Finalized),
];

#[test]
fn a_plain_payment_is_paid() {
    let judgement = run(&claim(), paid(5_000_000), &[]);
    assert!(judgement.is_paid() && judgement.checks.iter().all(|check| check.passed));
    assert_eq!((judgement.amount, judgement.payers), (Amount::atomic(5_000_000), vec![evm(BUYER)]));
    assert_eq!((judgement.binding, judgement.finality), (Binding::None, Some(Finality::Confirmed)));
}

#[test]
fn of_two_broken_rules_the_first_by_precedence_is_named_and_both_are_checked() {
    for (first, break_first) in BREAKS {
        for (second, break_second) in BREAKS {
            let (mut claim, mut mined) = (claim(), paid(5_000_000));
            break_first(&mut claim, &mut mined);
            break_second(&mut claim, &mut mined);
            let judgement = run(&claim, mined, &[held(ClaimUnit::Whole, 1, Some("other"))]);
            let refusal = judgement.refusal.as_ref().map(|(refusal, _)| *refusal);
            assert_eq!(refusal, Some(*first.min(second)), "{first:?} {second:?}");
            let failed = judgement.checks.iter().filter(|check| !check.passed).count();
            let least = if first == second { 2 } else { 3 };
            assert!(failed >= least, "{first:?} {second:?}: {:?}", judgement.checks);
        }
    }
}

#[track_caller]
pub(super) fn refused(judgement: &Judgement, want: RefusalCode) {
    assert_eq!(judgement.refusal.as_ref().map(|(refusal, _)| *refusal), Some(want));
}

#[test]
fn what_is_in_no_block_is_refused_for_now() {
    let ask = |found| judge(&claim(), &Trace { tx: claim().tx, found }, &context(&Screening::new(), &[]));
    refused(&ask(TransactionState::Unknown), RefusalCode::TxNotFound);
    refused(&ask(TransactionState::Pending), RefusalCode::TxPending);
}

#[test]
fn a_bridged_form_is_named_and_a_counterfeit_is_nothing() {
    let foreign = |name: Option<&str>| ForeignTransfer {
        asset: evm(7),
        name: name.map(str::to_owned),
        from: Some(evm(BUYER)),
        to: Some(evm(MERCHANT)),
        amount: Amount::atomic(1_000_000),
    };
    let mut bridged = mined(Vec::new());
    bridged.foreign.push(foreign(Some("USDC.e")));
    let judgement = run(&claim(), bridged, &[]);
    refused(&judgement, RefusalCode::WrongAsset);
    assert!(judgement.refusal.is_some_and(|(_, detail)| detail.contains("USDC.e")));
    let mut counterfeit = mined(Vec::new());
    counterfeit.foreign.push(foreign(None));
    refused(&run(&claim(), counterfeit, &[]), RefusalCode::NoMatchingTransfer);
}

#[test]
fn a_self_transfer_is_no_payment() {
    refused(&run(&claim(), mined(vec![transfer(1, MERCHANT, MERCHANT, 5)]), &[]), RefusalCode::NoMatchingTransfer);
}

#[test]
fn what_was_passed_on_is_taken_off() {
    let judgement = run(&claim(), mined(vec![transfer(1, BUYER, MERCHANT, 10), transfer(2, MERCHANT, 8, 4)]), &[]);
    assert_eq!((judgement.is_paid(), judgement.amount), (true, Amount::atomic(6)));
    assert!(judgement.risk.factors.iter().any(|factor| factor.code == "recipient_forwarded"));
}

#[test]
fn a_hidden_amount_is_named_as_such() {
    let mut hidden = mined(Vec::new());
    hidden.confidential.push(ConfidentialTransfer { mint: None, to: Some(evm(MERCHANT)) });
    refused(&run(&claim(), hidden, &[]), RefusalCode::ConfidentialAmount);
}

#[test]
fn a_named_payer_must_have_paid_enough_himself() {
    let two = || mined(vec![transfer(1, BUYER, MERCHANT, 6), transfer(2, 9, MERCHANT, 6)]);
    let ask = |expected| Claim { payer: Some(evm(BUYER)), expected: Some(Amount::atomic(expected)), ..claim() };
    let judgement = run(&ask(6), two(), &[]);
    assert_eq!((judgement.is_paid(), judgement.binding), (true, Binding::Payer));
    let judgement = run(&ask(7), two(), &[]);
    refused(&judgement, RefusalCode::AmountTooLow);
    assert_eq!((judgement.amount, judgement.transfers.len()), (Amount::atomic(6), 1));
    refused(&run(&Claim { payer: Some(evm(7)), ..ask(6) }, two(), &[]), RefusalCode::PayerMismatch);
}

#[test]
fn on_solana_a_payer_is_credited_only_with_what_is_certain() {
    let svm = |byte| Address::Svm([byte; 32]);
    let place = |byte| TransferLocation::TokenAccount(svm(byte));
    let credit = |to, amount| Transfer {
        ordinal: 0,
        place: place(to),
        from: None,
        to: Some(svm(to)),
        amount: Amount::atomic(amount),
    };
    let debit = |from, amount| Transfer {
        ordinal: 0,
        place: place(from),
        from: Some(svm(from)),
        to: None,
        amount: Amount::atomic(amount),
    };
    // 10 reach the merchant; the buyer lost 7, another 5, a third party got 2.
    let story = mined(vec![debit(BUYER, 7), debit(5, 5), credit(MERCHANT, 10), credit(6, 2)]);
    let flow = RecipientFlow::of(&story, &svm(MERCHANT));
    assert_eq!((flow.net, flow.payers.len()), (Amount::atomic(10), 2));
    assert_eq!(flow.at_least_from(&svm(BUYER)), Amount::atomic(5));
    assert_eq!(flow.at_least_from(&svm(5)), Amount::atomic(3));
    assert_eq!(flow.at_least_from(&svm(6)), Amount::ZERO);
}

#[test]
fn a_nonce_binds_only_if_a_payer_used_it() {
    let nonce = B256::repeat_byte(7);
    let asked = Claim { authorization_nonce: Some(nonce), ..claim() };
    for (authorizer, transfer, binds) in [(BUYER, Some(1), true), (BUYER, None, false), (9, None, false)] {
        let mut story = paid(5);
        story.authorizations.push(UsedAuthorization { authorizer: evm(authorizer), nonce, transfer });
        let judgement = run(&asked, story, &[]);
        assert_eq!(judgement.is_paid(), binds);
        assert_eq!(judgement.binding == Binding::Authorization, binds);
    }
}

#[test]
fn an_absent_reference_equals_nothing() {
    for (first, second, is_again) in [
        (Some("order-1"), Some("order-1"), true),
        (None, None, false),
        (None, Some("order-1"), false),
        (Some("a"), None, false),
    ] {
        let asked = Claim { reference: second.map(str::to_owned), ..claim() };
        let judgement = run(&asked, paid(5), &[held(ClaimUnit::Whole, 1, first)]);
        let found = (judgement.is_paid(), judgement.replayed().is_some());
        assert_eq!(found, (is_again, is_again), "{first:?} {second:?}");
    }
}

#[test]
fn a_listed_payer_is_refused_or_reported() {
    let list = sanctions::SanctionsList::parse(&format!(
        r#"{{"list_date":"2026-11-17","evm":["{}"],"solana":[]}}"#,
        evm(BUYER).to_string().to_lowercase()
    ));
    let trace = Trace { tx: claim().tx, found: TransactionState::Mined(Box::new(paid(5))) };
    let screening = Screening::new();
    for (policy, is_paid) in [(SanctionsPolicy::Refuse, false), (SanctionsPolicy::Report, true)] {
        let context = JudgeContext { policy, sanctions: list.as_ref(), ..context(&screening, &[]) };
        let judgement = judge(&claim(), &trace, &context);
        assert_eq!(judgement.is_paid(), is_paid);
        assert!(judgement.risk.factors.iter().any(|factor| factor.code == "sanctioned_payer"));
        assert_eq!(judgement.risk.score.0, 100);
    }
}

#[test]
fn an_unknown_block_time_is_reckoned_from_the_head() {
    let mut story = paid(5);
    story.block.time = None;
    story.head = 100 + 3_600;
    // 3,600 blocks of two seconds.
    let asked = Claim { max_age_s: 7_199, ..claim() };
    refused(&run(&asked, story.clone(), &[]), RefusalCode::TooOld);
    assert!(run(&Claim { max_age_s: 7_200, ..claim() }, story, &[]).is_paid());
}

proptest! {
    #[test]
    fn order_and_bystanders_change_nothing(
        amounts in proptest::collection::vec((5_u8..9, 1_u64..1_000), 1..6),
        bystanders in proptest::collection::vec((10_u8..20, 20_u8..30, 1_u64..1_000), 0..6),
        seed in any::<u64>(),
    ) {
        let own: Vec<Transfer> = amounts.iter().enumerate().map(|(at, (from, amount))| transfer(u64::try_from(at).expect("small"), *from, MERCHANT, *amount)).collect();
        let plain = run(&claim(), mined(own.clone()), &[]);
        let mut all = own;
        all.extend(bystanders.iter().map(|(from, to, amount)| transfer(99, *from, *to, *amount)));
        let turns = usize::try_from(seed % 7).expect("small").min(all.len());
        all.rotate_left(turns);
        let mixed = run(&claim(), mined(all), &[]);
        prop_assert_eq!(plain.amount, mixed.amount);
        prop_assert_eq!(plain.is_paid(), mixed.is_paid());
        let sorted = |judgement: &Judgement| { let mut payers = judgement.payers.clone(); payers.sort(); payers };
        prop_assert_eq!(sorted(&plain), sorted(&mixed));
    }

    #[test]
    fn to_expect_more_never_turns_a_refusal_into_a_success(amount in 1_u64..100, expected in 1_u64..100, more in 0_u64..100) {
        let ask = |expected| run(&Claim { expected: Some(Amount::atomic(expected)), ..claim() }, paid(amount), &[]).is_paid();
        prop_assert!(ask(expected) || !ask(expected.saturating_add(more)));
    }
}

//! What a day's settlements may cost, what the quota does not stop, whom a seller with many failures still serves, and what
//! an `Idempotency-Key` repeats.

use super::*;

#[test]
fn a_days_settlements_are_bounded_in_money_by_network() {
    let (tenant, mut admission) = (tenant(Environment::Live), Admission::new(NOW));
    let mut send = |network: &str| {
        let asked = PaymentRequest { network: Some(network.to_owned()), ..asked(PaymentAction::Settle) };
        let paid = PaymentRecords { has_paid: true, ..PaymentRecords::default() };
        reason(&step_with(&asked, &tenant, &mut admission, &paid).expect("an answer"))
    };
    for _ in 0..3 {
        assert_eq!(send("base"), None);
    }
    assert_eq!((send("base"), send("polygon")), (Some(Reason::QuotaExceeded), None));
}

#[test]
fn once_failures_have_cost_their_share_only_known_payers_are_served_one_at_a_time() {
    let (tenant, mut admission) = (tenant(Environment::Live), Admission::new(NOW));
    let spent = Some(TransactionCost { total: 3, l1_fee: 0 });
    admission.spending.end_attempt("base", EndedAttempt { reserve: None, spent, failed: true }, NOW);
    for verb in [PaymentAction::Verify, PaymentAction::Settle] {
        assert_eq!(
            reason(&step(&asked(verb), &tenant, &mut admission, None).expect("an answer")),
            Some(Reason::QuotaExceeded)
        );
    }
    let paid = PaymentRecords { has_paid: true, ..PaymentRecords::default() };
    let first = step_with(&asked(PaymentAction::Settle), &tenant, &mut admission, &paid).expect("an answer");
    assert!(matches!(first.outcome, PaymentOutcome::Settle(_)));
    for verb in [PaymentAction::Verify, PaymentAction::Settle] {
        let second = step_with(&asked(verb), &tenant, &mut admission, &paid).expect("an answer");
        assert_eq!(reason(&second), Some(Reason::QuotaExceeded));
    }
}

#[test]
fn an_idempotency_key_stands_for_one_body() {
    let keyed = PaymentRequest {
        idempotency: Some(IdempotencyKey { key: "k".to_owned(), body_hash: "h".to_owned() }),
        ..asked(PaymentAction::Settle)
    };
    let with = |body_hash: &str, answer: Option<(u16, String)>, answer_until| {
        let stored = Some(IdempotencyRecord { body_hash: body_hash.to_owned(), answer, answer_until, at: NOW });
        let records = PaymentRecords { idempotency_record: stored, ..PaymentRecords::default() };
        step_with(&keyed, &tenant(Environment::Live), &mut Admission::new(NOW), &records)
    };
    let answer = || Some((200, "{}".to_owned()));
    assert_eq!(with("h", answer(), None), Err(AdmissionStop::Repeat(200, "{}".to_owned())));
    assert_eq!(with("h", answer(), Some(NOW.plus(1))), Err(AdmissionStop::Repeat(200, "{}".to_owned())));
    assert!(with("h", answer(), Some(NOW)).is_ok() && with("h", None, None).is_ok());
    match with("g", None, None) {
        Err(AdmissionStop::Fault(fault)) => assert_eq!(fault.code, ErrorCode::IdempotencyConflict),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_network_that_this_build_does_not_know_is_refused_and_never_settled() {
    let (tenant, mut admission) = (tenant(Environment::Live), Admission::new(NOW));
    let unknown = PaymentRequest { network: Some("of-a-later-build".to_owned()), ..asked(PaymentAction::Settle) };
    match step(&unknown, &tenant, &mut admission, None) {
        Err(AdmissionStop::Fault(fault)) => assert_eq!(fault.code, ErrorCode::LedgerUnavailable),
        other => panic!("{other:?}"),
    }
    // A key that is not good learns nothing of it.
    let stranger = PaymentRequest { key: KeyHash::of("another"), ..unknown };
    match step(&stranger, &tenant, &mut admission, None) {
        Err(AdmissionStop::Fault(fault)) => assert_eq!(fault.code, ErrorCode::InvalidApiKey),
        other => panic!("{other:?}"),
    }
    for broken in [
        PaymentRequest { network: None, ..asked(PaymentAction::Settle) },
        PaymentRequest { terms: None, ..asked(PaymentAction::Settle) },
    ] {
        match step(&broken, &tenant, &mut admission, None) {
            Err(AdmissionStop::Fault(fault)) => assert_eq!(fault.code, ErrorCode::Internal),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((admission.used, admission.requests), (0, 0));
}

#[test]
fn what_was_verified_is_settled_though_the_quota_is_used_up() {
    let mut tenant = tenant(Environment::Live);
    tenant.limits.per_month = Some(0);
    let mut admission = Admission::new(NOW);
    assert!(step(&asked(PaymentAction::Settle), &tenant, &mut admission, Some(&verified())).is_ok());
    match step(&asked(PaymentAction::Settle), &tenant, &mut admission, None) {
        Err(AdmissionStop::Fault(fault)) => assert_eq!(fault.code, ErrorCode::QuotaExceeded),
        other => panic!("{other:?}"),
    }
}

//! Which request gets a settlement's success, and what a settler's report changes.

use super::*;
use crate::settlement::SettlementReport;

fn report(status: SettlementStatus, transaction: u8) -> SettlementReport {
    SettlementReport {
        settlement: kept(status).settlement.id,
        attempt: Some(0),
        status,
        reason: (status == SettlementStatus::Failed).then_some(Reason::EvmFailed),
        message: String::new(),
        transaction: Some(TxId::Evm(B256::repeat_byte(transaction)).to_string()),
        attempts: Vec::new(),
        external: false,
        reorged: false,
        units: vec![1],
        spent: Some(TransactionCost { total: 4, l1_fee: 0 }),
        handed: true,
        poor: false,
        held_until: None,
    }
}

#[test]
fn a_success_is_given_to_one_request() {
    let first = asked(PaymentAction::Settle);
    let mut now = decided(&first, None).settlement_record.expect("reserved");
    let settle = |asked: &PaymentRequest, kept: &SettlementRecord| {
        decided(asked, Some(&PaymentRecord { settlement_record: Some(kept.clone()), ..verified() }))
    };
    let verify = |kept: &SettlementRecord| {
        settle(&PaymentRequest { finding: PaymentFinding::Deferred, ..another(&asked(PaymentAction::Verify)) }, kept)
    };
    // While the first waits, nobody else gets anything.
    assert_eq!(reason(&settle(&another(&first), &now)), Some(Reason::DuplicateSettlement));
    assert_eq!(reason(&verify(&now)), Some(Reason::DuplicateSettlement));
    now.settlement.status = SettlementStatus::Completed;
    assert_eq!(reason(&settle(&another(&first), &now)), Some(Reason::DuplicateSettlement));
    // The first collects, once.
    let mut collected = now.clone();
    assert_eq!(collected.deliver(first.request_id.next(), NOW), TakeResult::Nothing);
    assert_eq!(collected.deliver(first.request_id, NOW), TakeResult::Success);
    assert_eq!(collected.deliver(first.request_id, NOW), TakeResult::Nothing);
    // Not even where the record still names a wait.
    collected.progress.lease.clone_from(&now.progress.lease);
    assert_eq!(collected.deliver(first.request_id, NOW), TakeResult::Nothing);
    assert_eq!(reason(&settle(&another(&first), &collected)), Some(Reason::DuplicateSettlement));
    assert_eq!(reason(&verify(&collected)), Some(Reason::DuplicateSettlement));
    // Its caller has gone: whoever asks next is given it, a verification only looks.
    assert_eq!(collected.reopen(first.request_id.next()), (false, None));
    assert_eq!(collected.reopen(first.request_id), (true, None));
    assert!(is_valid(&verify(&collected).outcome));
    let next = settle(&another(&first), &collected);
    let handed =
        next.settlement_record.as_ref().and_then(|kept| kept.settlement.handed_over.clone()).expect("handed over");
    assert!(is_settled(&next.outcome));
    assert_eq!((handed.request_id, handed.at), (Some(first.request_id.next()), NOW.rfc3339()));
}

#[test]
fn who_has_sent_it_is_said_to_whoever_is_given_the_success() {
    let first = asked(PaymentAction::Settle);
    let mut ours = decided(&first, None).settlement_record.expect("reserved");
    let mut others = ours.clone();
    ours.apply_report(&report(SettlementStatus::Completed, 1), &[], NOW);
    others.apply_report(&SettlementReport { external: true, ..report(SettlementStatus::Completed, 1) }, &[], NOW);
    let found = PaymentRequest {
        finding: PaymentFinding::External(Checks::none(), TxId::Evm(B256::ZERO), vec![1]),
        ..first.clone()
    };
    let found = decided(&found, Some(&verified())).settlement_record.expect("completed");
    for (mut kept, by_others) in [(ours.clone(), false), (others.clone(), true), (found, true)] {
        assert!(kept.reopen(first.request_id).0);
        let next = decided(&another(&first), Some(&PaymentRecord { settlement_record: Some(kept), ..verified() }));
        assert_eq!(is_external(&next.outcome), by_others);
        assert_eq!(is_settled(&next.outcome), !by_others);
    }
    // Its block has left the chain, and ours is in another.
    others.apply_report(&SettlementReport { reorged: true, ..report(SettlementStatus::Completed, 2) }, &[], NOW);
    assert!(!others.progress.external);
}

#[test]
fn a_lease_that_is_over_is_taken_by_the_next_and_held_until_then() {
    let first = asked(PaymentAction::Settle);
    let waiting = decided(&first, None).settlement_record.expect("reserved");
    let late = NOW.plus(LEASE_MS);
    assert!(!waiting.is_open(UnixMillis(late.0 - 1)) && waiting.is_open(late));
    let mut own = waiting.clone();
    own.settlement.status = SettlementStatus::Completed;
    let mut taken = own.clone();
    assert_eq!(own.deliver(first.request_id, late), TakeResult::Success);
    let asker = SuccessClaimant { request: first.request_id.next(), key: None };
    assert_eq!(taken.take_success(asker, late), TakeResult::Success);
    assert_eq!(taken.deliver(first.request_id, late), TakeResult::Nothing);
    // A pending one: the repeat takes the lease over, and it ends with the answer.
    let mut pending = waiting;
    assert_eq!(pending.take_success(asker, late), TakeResult::Lease);
    assert_eq!(pending.deliver(first.request_id, late), TakeResult::Nothing);
    assert_eq!(pending.deliver(asker.request, late), TakeResult::Lease);
    assert!(pending.is_open(late));
}

#[test]
fn the_same_key_takes_the_wait_over_and_no_other() {
    let keyed = |key: &str| PaymentRequest {
        idempotency: Some(IdempotencyKey { key: key.to_owned(), body_hash: "h".to_owned() }),
        ..asked(PaymentAction::Settle)
    };
    let waiting = PaymentRecord { settlement_record: decided(&keyed("k"), None).settlement_record, ..verified() };
    assert_eq!(reason(&decided(&another(&keyed("l")), Some(&waiting))), Some(Reason::DuplicateSettlement));
    assert_eq!(
        reason(&decided(&another(&asked(PaymentAction::Settle)), Some(&waiting))),
        Some(Reason::DuplicateSettlement)
    );
    let over = decided(&another(&keyed("k")), Some(&waiting));
    assert!(matches!(over.outcome, PaymentOutcome::Settle(_)));
    let mut kept = over.settlement_record.expect("taken over");
    kept.settlement.status = SettlementStatus::Completed;
    assert_eq!(kept.deliver(keyed("k").request_id, NOW), TakeResult::Nothing);
    assert_eq!(kept.deliver(keyed("k").request_id.next(), NOW), TakeResult::Success);
    // What was kept under the key is forgotten when the caller has gone.
    assert_eq!(kept.reopen(keyed("k").request_id.next()), (true, Some("k".to_owned())));
    // Two requests without a key are not the same attempt.
    let bare = PaymentRecord {
        settlement_record: decided(&asked(PaymentAction::Settle), None).settlement_record,
        ..verified()
    };
    assert_eq!(
        reason(&decided(&another(&asked(PaymentAction::Settle)), Some(&bare))),
        Some(Reason::DuplicateSettlement)
    );
}

#[test]
fn a_hand_over_takes_what_is_completed_and_open_once() {
    let request = RequestId::new(NOW, [9; 10]);
    for status in [SettlementStatus::Pending, SettlementStatus::Failed] {
        assert!(!kept(status).hand_over(request, NOW));
    }
    let mut open = kept(SettlementStatus::Completed);
    assert!(open.hand_over(request, NOW) && !open.hand_over(request, NOW));
    let mut waited = decided(&asked(PaymentAction::Settle), None).settlement_record.expect("reserved");
    waited.settlement.status = SettlementStatus::Completed;
    assert!(!waited.hand_over(request, NOW) && waited.hand_over(request, NOW.plus(LEASE_MS)));
}

#[test]
fn a_report_changes_what_is_not_over() {
    use SettlementStatus::{Completed, Failed, Pending};
    let apply = |kept: &mut SettlementRecord, report: SettlementReport, held: &[HeldClaim]| {
        kept.apply_report(&report, held, NOW)
    };
    let mut fresh = decided(&asked(PaymentAction::Settle), None).settlement_record.expect("reserved");
    let applied = apply(&mut fresh, report(Completed, 1), &[]);
    assert_eq!((applied.claim, applied.ended.map(|reserve| reserve.amount)), (Some(ClaimUnit::Log(1)), Some(10)));
    assert!(!apply(&mut fresh, report(Failed, 1), &[]).changed);
    // Its block has left the chain: it is pending again, and stays handed over.
    fresh.settlement.handed_over = kept(Completed).settlement.handed_over;
    let again = SettlementReport { reorged: true, ..report(Completed, 1) };
    assert!(!apply(&mut fresh, again.clone(), &[]).changed, "it came back, or was reported twice");
    assert!(apply(&mut fresh, SettlementReport { reorged: true, ..report(Pending, 1) }, &[]).changed);
    assert!(apply(&mut fresh, again.clone(), &[]).changed && !apply(&mut fresh, again, &[]).changed);
    assert!(apply(&mut fresh, SettlementReport { reorged: true, ..report(Completed, 2) }, &[]).changed);
    // A report of an attempt that is over counts for nothing, unless the money has moved.
    let mut later = kept(Pending);
    later.progress.attempt = 1;
    assert!(!apply(&mut later, report(Failed, 1), &[]).changed && !apply(&mut later, report(Pending, 1), &[]).changed);
    assert!(apply(&mut later, report(Completed, 1), &[]).changed);
    let mut failed = kept(Failed);
    assert!(
        !apply(&mut failed, report(Failed, 1), &[]).changed && apply(&mut failed, report(Completed, 1), &[]).changed
    );
}

#[test]
fn a_settlement_is_never_completed_over_another_claim() {
    use SettlementStatus::{Completed, Failed, Pending};
    let held = |id| HeldClaim {
        unit: ClaimUnit::Log(1),
        prior: PriorClaim { id: ClaimId::Settlement(id), reference: None, at: NOW },
    };
    let mut kept_now = kept(Pending);
    let other = SettlementId::new(NOW, [99; 10]);
    let applied = kept_now.apply_report(&report(Completed, 1), &[held(other)], NOW);
    assert_eq!((kept_now.settlement.status, kept_now.settlement.reason), (Failed, Some(Reason::EvmNonceUsed)));
    assert_eq!(applied.claim, None);
    // Our own claim, found again after a reorganisation, is ours.
    let mut own = kept(Pending);
    let id = own.settlement.id;
    let found = SettlementReport { external: true, reorged: true, ..report(Completed, 1) };
    assert_eq!(own.apply_report(&found, &[held(id)], NOW).claim, Some(ClaimUnit::Log(1)));
    assert_eq!(own.settlement.status, Completed);
}

#[test]
fn a_reservation_without_a_report_and_a_success_without_a_request_are_due() {
    let fresh = decided(&asked(PaymentAction::Settle), None).settlement_record.expect("reserved");
    assert_eq!(fresh.due_at(), Some(NOW.plus(UNREPORTED_MS)));
    let mut known = fresh.clone();
    known.settlement.transaction = Some("0x1".to_owned());
    assert_eq!(known.due_at(), None);
    let mut open = kept(SettlementStatus::Completed);
    open.settlement.completed_at = Some(NOW.rfc3339());
    assert_eq!(open.due_at(), Some(NOW.plus(UNDELIVERED_MS)));
    open.progress.undelivered = true;
    assert_eq!(open.due_at(), None);
    let mut abandoned = fresh;
    assert_eq!(abandoned.abandon(NOW).map(|reserve| reserve.amount), Some(10));
    assert_eq!((abandoned.settlement.status, abandoned.due_at()), (SettlementStatus::Failed, None));
    // Whoever has waited learns how it ended.
    assert_eq!(abandoned.deliver(asked(PaymentAction::Settle).request_id, NOW), TakeResult::Lease);
}

#[test]
fn what_was_answered_again_under_its_key_is_reopened_by_neither() {
    let first = asked(PaymentAction::Settle).request_id;
    let mut kept = kept(SettlementStatus::Completed);
    assert_eq!(kept.take_success(SuccessClaimant { request: first, key: Some("k") }, NOW), TakeResult::Success);
    kept.repeat(first.next());
    // Either of the two may have been answered, and the key repeats it to the other.
    assert_eq!((kept.reopen(first), kept.reopen(first.next())), ((false, None), (false, None)));
    let handed = kept.settlement.handed_over.as_ref().map(|handed| handed.request_id);
    assert_eq!((handed, kept.progress.handed_key.as_deref()), (Some(Some(first.next())), Some("k")));
}

#[test]
fn goods_that_were_given_for_an_attempt_that_left_the_chain_were_given() {
    let mut gone = kept(SettlementStatus::Completed);
    assert!(gone.hand_over(RequestId::new(NOW, [9; 10]), NOW));
    let failed = SettlementReport { reorged: true, ..report(SettlementStatus::Failed, 1) };
    assert!(gone.apply_report(&failed, &[], NOW).changed);
    // Nor does its payment, found by its hash, pay for anything else.
    assert!(gone.is_spent() && !gone.is_live() && !kept(SettlementStatus::Failed).is_spent());
    // The payer has money again: the seller is paid, and nobody is given goods.
    let next = decided(
        &another(&asked(PaymentAction::Settle)),
        Some(&PaymentRecord { settlement_record: Some(gone.clone()), ..verified() }),
    );
    let mut kept = next.settlement_record.expect("reserved");
    assert!(matches!(next.outcome, PaymentOutcome::Settle(_)) && kept.settlement.handed_over.is_some());
    let again = SettlementReport { attempt: Some(kept.progress.attempt), ..report(SettlementStatus::Completed, 2) };
    assert!(kept.apply_report(&again, &[], NOW).changed);
    assert_eq!(kept.deliver(another(&asked(PaymentAction::Settle)).request_id, NOW), TakeResult::Nothing);
    let id = TxId::Evm(B256::repeat_byte(9));
    let external = PaymentRequest {
        finding: PaymentFinding::External(Checks::none(), id, vec![3]),
        ..another(&asked(PaymentAction::Settle))
    };
    let found = decided(&external, Some(&PaymentRecord { settlement_record: Some(gone), ..verified() }));
    assert_eq!(reason(&found), Some(Reason::DuplicateSettlement));
}

//! To whom a settlement's success is given, and what a Settler's report makes of it.

use super::*;
use crate::settlement::Report;

fn report(status: SettlementStatus, transaction: u8) -> Report {
    Report {
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
        spent: Some(Spent { total: 4, l1_fee: 0 }),
        handed: true,
        poor: false,
        held_until: None,
    }
}

#[test]
fn a_success_is_given_to_one_request() {
    let first = asked(Verb::Settle);
    let mut now = booked(&first, None).kept.expect("reserved");
    let settle = |asked: &Asked, kept: &Kept| booked(asked, Some(&Row { kept: Some(kept.clone()), ..verified() }));
    let verify = |kept: &Kept| settle(&Asked { finding: Finding::Deferred, ..another(&asked(Verb::Verify)) }, kept);
    // While the first waits, nobody else gets anything.
    assert_eq!(reason(&settle(&another(&first), &now)), Some(Reason::DuplicateSettlement));
    assert_eq!(reason(&verify(&now)), Some(Reason::DuplicateSettlement));
    now.settlement.status = SettlementStatus::Completed;
    assert_eq!(reason(&settle(&another(&first), &now)), Some(Reason::DuplicateSettlement));
    // The first collects, once.
    let mut collected = now.clone();
    assert_eq!(collected.deliver(first.request_id.next(), NOW), Taken::Nothing);
    assert_eq!(collected.deliver(first.request_id, NOW), Taken::Success);
    assert_eq!(collected.deliver(first.request_id, NOW), Taken::Nothing);
    // Not even where the record still names a wait.
    collected.course.lease.clone_from(&now.course.lease);
    assert_eq!(collected.deliver(first.request_id, NOW), Taken::Nothing);
    assert_eq!(reason(&settle(&another(&first), &collected)), Some(Reason::DuplicateSettlement));
    assert_eq!(reason(&verify(&collected)), Some(Reason::DuplicateSettlement));
    // Its caller has gone: whoever asks next is given it, a verification only looks.
    assert_eq!(collected.reopen(first.request_id.next()), (false, None));
    assert_eq!(collected.reopen(first.request_id), (true, None));
    assert!(matches!(verify(&collected).outcome, Outcome::Valid(_)));
    let next = settle(&another(&first), &collected);
    let handed = next.kept.as_ref().and_then(|kept| kept.settlement.handed_over.clone()).expect("handed over");
    assert!(matches!(next.outcome, Outcome::Settled(_)));
    assert_eq!((handed.request_id, handed.at), (Some(first.request_id.next()), NOW.rfc3339()));
}

#[test]
fn who_has_sent_it_is_said_to_whoever_is_given_the_success() {
    let first = asked(Verb::Settle);
    let mut ours = booked(&first, None).kept.expect("reserved");
    let mut others = ours.clone();
    ours.apply(&report(SettlementStatus::Completed, 1), &[], NOW);
    others.apply(&Report { external: true, ..report(SettlementStatus::Completed, 1) }, &[], NOW);
    let found = Asked { finding: Finding::External(Checks::none(), TxId::Evm(B256::ZERO), vec![1]), ..first.clone() };
    let found = booked(&found, Some(&verified())).kept.expect("completed");
    for (mut kept, is_external) in [(ours.clone(), false), (others.clone(), true), (found, true)] {
        assert!(kept.reopen(first.request_id).0);
        let next = booked(&another(&first), Some(&Row { kept: Some(kept), ..verified() }));
        assert_eq!(matches!(next.outcome, Outcome::External(_)), is_external);
        assert_eq!(matches!(next.outcome, Outcome::Settled(_)), !is_external);
    }
    // Its block has left the chain, and ours is in another.
    others.apply(&Report { reorged: true, ..report(SettlementStatus::Completed, 2) }, &[], NOW);
    assert!(!others.course.external);
}

#[test]
fn a_lease_that_is_over_is_taken_by_the_next_and_held_until_then() {
    let first = asked(Verb::Settle);
    let waiting = booked(&first, None).kept.expect("reserved");
    let late = NOW.plus(LEASE_MS);
    assert!(!waiting.is_open(UnixMillis(late.0 - 1)) && waiting.is_open(late));
    let mut own = waiting.clone();
    own.settlement.status = SettlementStatus::Completed;
    let mut taken = own.clone();
    assert_eq!(own.deliver(first.request_id, late), Taken::Success);
    let asker = Asker { request: first.request_id.next(), key: None };
    assert_eq!(taken.take(asker, late), Taken::Success);
    assert_eq!(taken.deliver(first.request_id, late), Taken::Nothing);
    // A pending one: the wait goes over, and ends with the answer.
    let mut pending = waiting;
    assert_eq!(pending.take(asker, late), Taken::Lease);
    assert_eq!(pending.deliver(first.request_id, late), Taken::Nothing);
    assert_eq!(pending.deliver(asker.request, late), Taken::Lease);
    assert!(pending.is_open(late));
}

#[test]
fn the_same_key_takes_the_wait_over_and_no_other() {
    let keyed = |key: &str| Asked {
        idempotency: Some(Idempotency { key: key.to_owned(), body_hash: "h".to_owned() }),
        ..asked(Verb::Settle)
    };
    let waiting = Row { kept: booked(&keyed("k"), None).kept, ..verified() };
    assert_eq!(reason(&booked(&another(&keyed("l")), Some(&waiting))), Some(Reason::DuplicateSettlement));
    assert_eq!(reason(&booked(&another(&asked(Verb::Settle)), Some(&waiting))), Some(Reason::DuplicateSettlement));
    let over = booked(&another(&keyed("k")), Some(&waiting));
    assert!(matches!(over.outcome, Outcome::Settle(_)));
    let mut kept = over.kept.expect("taken over");
    kept.settlement.status = SettlementStatus::Completed;
    assert_eq!(kept.deliver(keyed("k").request_id, NOW), Taken::Nothing);
    assert_eq!(kept.deliver(keyed("k").request_id.next(), NOW), Taken::Success);
    // What was kept under the key is forgotten when the caller has gone.
    assert_eq!(kept.reopen(keyed("k").request_id.next()), (true, Some("k".to_owned())));
    // Two requests without a key are not the same attempt.
    let bare = Row { kept: booked(&asked(Verb::Settle), None).kept, ..verified() };
    assert_eq!(reason(&booked(&another(&asked(Verb::Settle)), Some(&bare))), Some(Reason::DuplicateSettlement));
}

#[test]
fn a_hand_over_takes_what_is_completed_and_open_once() {
    let request = RequestId::new(NOW, 9);
    for status in [SettlementStatus::Pending, SettlementStatus::Failed] {
        assert!(!kept(status).hand_over(request, NOW));
    }
    let mut open = kept(SettlementStatus::Completed);
    assert!(open.hand_over(request, NOW) && !open.hand_over(request, NOW));
    let mut waited = booked(&asked(Verb::Settle), None).kept.expect("reserved");
    waited.settlement.status = SettlementStatus::Completed;
    assert!(!waited.hand_over(request, NOW) && waited.hand_over(request, NOW.plus(LEASE_MS)));
}

#[test]
fn a_report_changes_what_is_not_over() {
    use SettlementStatus::{Completed, Failed, Pending};
    let apply = |kept: &mut Kept, report: Report, held: &[Held]| kept.apply(&report, held, NOW);
    let mut fresh = booked(&asked(Verb::Settle), None).kept.expect("reserved");
    let applied = apply(&mut fresh, report(Completed, 1), &[]);
    assert_eq!((applied.claim, applied.ended.map(|reserve| reserve.amount)), (Some(Unit::Log(1)), Some(10)));
    assert!(!apply(&mut fresh, report(Failed, 1), &[]).changed);
    // Its block has left the chain: it is on its way again, and whose it was stays so.
    fresh.settlement.handed_over = kept(Completed).settlement.handed_over;
    let again = Report { reorged: true, ..report(Completed, 1) };
    assert!(!apply(&mut fresh, again.clone(), &[]).changed, "it came back, or was reported twice");
    assert!(apply(&mut fresh, Report { reorged: true, ..report(Pending, 1) }, &[]).changed);
    assert!(apply(&mut fresh, again.clone(), &[]).changed && !apply(&mut fresh, again, &[]).changed);
    assert!(apply(&mut fresh, Report { reorged: true, ..report(Completed, 2) }, &[]).changed);
    // A report of an attempt that is over counts for nothing, unless the money has moved.
    let mut later = kept(Pending);
    later.course.attempt = 1;
    assert!(!apply(&mut later, report(Failed, 1), &[]).changed && !apply(&mut later, report(Pending, 1), &[]).changed);
    assert!(apply(&mut later, report(Completed, 1), &[]).changed);
    let mut failed = kept(Failed);
    assert!(
        !apply(&mut failed, report(Failed, 1), &[]).changed && apply(&mut failed, report(Completed, 1), &[]).changed
    );
}

#[test]
fn a_settlement_is_never_completed_over_anothers_claim() {
    use SettlementStatus::{Completed, Failed, Pending};
    let held = |id| Held { unit: Unit::Log(1), prior: Prior { id: ClaimId::Settlement(id), reference: None, at: NOW } };
    let mut kept_now = kept(Pending);
    let other = SettlementId::new(NOW, 99);
    let applied = kept_now.apply(&report(Completed, 1), &[held(other)], NOW);
    assert_eq!((kept_now.settlement.status, kept_now.settlement.reason), (Failed, Some(Reason::EvmNonceUsed)));
    assert_eq!(applied.claim, None);
    // Our own claim, found again after a reorganisation, is ours.
    let mut own = kept(Pending);
    let id = own.settlement.id;
    let found = Report { external: true, reorged: true, ..report(Completed, 1) };
    assert_eq!(own.apply(&found, &[held(id)], NOW).claim, Some(Unit::Log(1)));
    assert_eq!(own.settlement.status, Completed);
}

#[test]
fn what_nobody_hears_of_and_what_nobody_was_given_is_looked_at() {
    let fresh = booked(&asked(Verb::Settle), None).kept.expect("reserved");
    assert_eq!(fresh.due(), Some(NOW.plus(UNHEARD_MS)));
    let mut known = fresh.clone();
    known.settlement.transaction = Some("0x1".to_owned());
    assert_eq!(known.due(), None);
    let mut open = kept(SettlementStatus::Completed);
    open.settlement.completed_at = Some(NOW.rfc3339());
    assert_eq!(open.due(), Some(NOW.plus(UNDELIVERED_MS)));
    open.course.undelivered = true;
    assert_eq!(open.due(), None);
    let mut abandoned = fresh;
    assert_eq!(abandoned.abandon(NOW).map(|reserve| reserve.amount), Some(10));
    assert_eq!((abandoned.settlement.status, abandoned.due()), (SettlementStatus::Failed, None));
    // Whoever has waited learns how it ended.
    assert_eq!(abandoned.deliver(asked(Verb::Settle).request_id, NOW), Taken::Lease);
}

#[test]
fn what_was_answered_again_under_its_key_is_reopened_by_neither() {
    let first = asked(Verb::Settle).request_id;
    let mut kept = kept(SettlementStatus::Completed);
    assert_eq!(kept.take(Asker { request: first, key: Some("k") }, NOW), Taken::Success);
    kept.repeat(first.next());
    // Either of the two may have been answered, and the key repeats it to the other.
    assert_eq!((kept.reopen(first), kept.reopen(first.next())), ((false, None), (false, None)));
    let handed = kept.settlement.handed_over.as_ref().map(|handed| handed.request_id);
    assert_eq!((handed, kept.course.handed_key.as_deref()), (Some(Some(first.next())), Some("k")));
}

#[test]
fn goods_that_were_given_for_an_attempt_that_left_the_chain_were_given() {
    let mut gone = kept(SettlementStatus::Completed);
    assert!(gone.hand_over(RequestId::new(NOW, 9), NOW));
    let failed = Report { reorged: true, ..report(SettlementStatus::Failed, 1) };
    assert!(gone.apply(&failed, &[], NOW).changed);
    // Nor does its payment, found by its hash, pay for anything else.
    assert!(gone.is_spent() && !gone.is_live() && !kept(SettlementStatus::Failed).is_spent());
    // The payer has money again: the seller is paid, and nobody is given goods.
    let next = booked(&another(&asked(Verb::Settle)), Some(&Row { kept: Some(gone.clone()), ..verified() }));
    let mut kept = next.kept.expect("reserved");
    assert!(matches!(next.outcome, Outcome::Settle(_)) && kept.settlement.handed_over.is_some());
    let again = Report { attempt: Some(kept.course.attempt), ..report(SettlementStatus::Completed, 2) };
    assert!(kept.apply(&again, &[], NOW).changed);
    assert_eq!(kept.deliver(another(&asked(Verb::Settle)).request_id, NOW), Taken::Nothing);
    let id = TxId::Evm(B256::repeat_byte(9));
    let external = Asked { finding: Finding::External(Checks::none(), id, vec![3]), ..another(&asked(Verb::Settle)) };
    let found = booked(&external, Some(&Row { kept: Some(gone), ..verified() }));
    assert_eq!(reason(&found), Some(Reason::DuplicateSettlement));
}

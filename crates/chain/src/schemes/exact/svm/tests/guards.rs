//! Lighthouse's assertions, which wallets add, and the places of what is left.

use super::*;

/// A wallet's guard: an assertion by Lighthouse of `kind` about the fee payer, the payer and an account.
fn guard(kind: u8) -> CompiledInstruction {
    instruction(8, &[0, 1, 3], vec![kind, 0, 1, 2])
}

/// `draft` in every form, after `change` of its payment: transfer and memo stand at 0 and 1.
#[track_caller]
fn check_payment(change: &dyn Fn(&mut Vec<CompiledInstruction>), want: Option<Reason>, want_v1: Option<Reason>) {
    for form in [Form::Legacy, Form::Zero, Form::One(CONFIG)] {
        let (mut draft, is_v1) = (draft(), matches!(form, Form::One(_)));
        let mut payment = draft.instructions.split_off(2);
        change(&mut payment);
        if is_v1 {
            draft.instructions.clear();
        }
        draft.instructions.extend(payment);
        let want = if is_v1 { want_v1 } else { want };
        assert_eq!(reason_of(&body(&draft.text(form))), want, "{form:?}");
    }
}

#[test]
fn a_wallets_guards_stand_anywhere_after_the_budget() {
    // As Phantom signs: before the transfer and behind the memo, the fee payer's account among them.
    check_payment(
        &|payment| {
            payment.splice(0..0, [guard(5), guard(10)]);
            payment.push(guard(3));
        },
        None,
        None,
    );
    for at in 0..=2 {
        check_payment(&|payment| payment.insert(at, guard(6)), None, None);
    }
    let (length, more) =
        (Some(Reason::SvmLength), |payment: &mut Vec<_>| payment.splice(0..0, vec![guard(5); 4]).count());
    check_payment(&|payment| assert_eq!(more(payment), 0), length, length);
    for (at, want) in [(0, Reason::SvmLimit), (1, Reason::SvmPrice)] {
        let mut draft = draft();
        draft.instructions.insert(at, guard(5));
        assert_eq!(reason_of(&body(&draft.text(Form::Zero))), Some(want));
    }
}

#[test]
fn lighthouse_may_assert_about_accounts_and_do_nothing_else() {
    for kind in (0..=18).chain([u8::MAX]) {
        let taken = (2..=10).contains(&kind);
        let isolated = (!taken).then_some(Reason::SvmFeePayerNotIsolated);
        check_payment(&|payment| payment.insert(0, guard(kind)), isolated, isolated);
        let others = instruction(8, &[1, 3], vec![kind, 0]);
        let (fourth, optional) =
            if taken { (None, None) } else { (Some(Reason::SvmFourth), Some(Reason::SvmOptional)) };
        check_payment(&|payment| payment.insert(1, others.clone()), fourth, optional);
        let before = (!taken).then_some(Reason::SvmNoTransfer);
        check_payment(&|payment| payment.insert(0, others.clone()), before, before);
    }
    let empty = instruction(8, &[], vec![]);
    check_payment(&|payment| payment.push(empty.clone()), Some(Reason::SvmFifth), Some(Reason::SvmOptional));
}

#[test]
fn the_fee_payer_is_given_to_assertions_only() {
    let isolated = Some(Reason::SvmFeePayerNotIsolated);
    check_payment(&|payment| payment.push(instruction(6, &[0], vec![5])), isolated, isolated);
    // No transaction is read whose fee payer is a program.
    let unread = Some(Reason::SvmUndecoded);
    check_payment(&|payment| payment.push(instruction(0, &[], vec![5])), unread, unread);
    let ours = Some(Reason::SvmFeePayerTransfers);
    check_payment(&|payment| payment[0].accounts[3] = 0, ours, ours);
    check_payment(
        &|payment| {
            payment[0].accounts.push(0);
            payment.insert(0, guard(5));
        },
        isolated,
        isolated,
    );
}

#[test]
fn positions_count_what_is_left_without_assertions() {
    let stranger = || instruction(5, &[], vec![2, 0, 0, 0, 0]);
    let optional = Some(Reason::SvmOptional);
    check_payment(
        &|payment| {
            payment.truncate(1);
            payment.splice(0..0, [guard(5), guard(5)]);
            payment.push(stranger());
        },
        Some(Reason::SvmFourth),
        optional,
    );
    check_payment(&|payment| payment.extend([guard(5), stranger()]), Some(Reason::SvmFifth), optional);
    // A memo may follow the transfer, and does not stand before it.
    check_payment(&|payment| payment.swap(0, 1), Some(Reason::SvmNoTransfer), Some(Reason::SvmNoTransfer));
    check_payment(&|payment| *payment = vec![guard(5)], Some(Reason::SvmNoTransfer), Some(Reason::SvmNoTransfer));
}

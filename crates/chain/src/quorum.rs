//! Which provider's answer counts, and when another provider must be asked (docs/spec/chains.md#nodes).

use crate::amount::Amount;
use crate::trace::{Trace, TransactionState};

/// One provider's answer about a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProviderAnswer {
    /// The trace that it reports.
    Trace(Trace),
    /// It gave no usable answer.
    Failed,
}

/// What to do after the answers so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuorumDecision {
    /// Wait for the providers that are still asked.
    Wait,
    /// Ask another provider now.
    Ask,
    /// This answer counts, and so many providers agree with it.
    Settled {
        /// Its position among the answers.
        index: usize,
        /// How many providers gave the same answer.
        agreed: usize,
    },
    /// No answer can count.
    Unavailable,
}

/// What is required of the answer that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuorumRule {
    /// From this amount of atomic units on, two providers must agree.
    pub threshold: Amount,
    /// Whether the result depends on finality: then providers are asked until one reports it or none is left.
    pub finality: bool,
}

/// How many providers must agree where one alone does not suffice, if that many are configured.
pub const AGREEMENT_MIN: usize = 2;

/// How many providers must agree about something worth `amount`.
#[must_use]
pub fn required_agreement(configured: usize, amount: Amount, threshold: Amount) -> usize {
    if configured > 1 && amount >= threshold { AGREEMENT_MIN } else { 1 }
}

/// The first answer that counts where every answer needs agreement: that of two providers, or of the only one that is
/// configured. `answers` are those of different providers.
#[must_use]
pub fn agreed_answer<T: PartialEq>(answers: &[T], configured: usize) -> Option<&T> {
    let is_enough =
        |answer: &&T| configured <= 1 || answers.iter().filter(|other| *other == *answer).count() >= AGREEMENT_MIN;
    answers.iter().find(is_enough)
}

/// Decides on the answers so far: one for each provider that was asked, `None` while it has not answered. `configured`
/// counts all providers of the chain.
///
/// - With one provider its answer counts.
/// - `null` does not count until a second provider answers it too.
/// - A mined transaction prevails over another's `null`: its block was found canonical.
/// - A pending transaction waits for a second answer, which may know its block.
/// - Of mined transactions that count alike, one that reports finality prevails.
#[must_use]
pub fn decide_quorum(answers: &[Option<ProviderAnswer>], configured: usize, rule: QuorumRule) -> QuorumDecision {
    let answered: Vec<(usize, &Trace)> = answers
        .iter()
        .enumerate()
        .filter_map(|(index, answer)| match answer {
            Some(ProviderAnswer::Trace(trace)) => Some((index, trace)),
            Some(ProviderAnswer::Failed) | None => None,
        })
        .collect();
    let agreed = |trace: &Trace| answered.iter().filter(|(_, other)| other.agrees(trace)).count();
    let settled = |(index, trace): (usize, &Trace)| QuorumDecision::Settled { index, agreed: agreed(trace) };
    let mined = |trace: &Trace| matches!(trace.found, TransactionState::Mined(_));
    let enough = |trace: &Trace| configured <= 1 || agreed(trace) >= needed_agreement(trace, rule.threshold);
    let waiting = answers.iter().any(Option::is_none);
    let left = answers.len() < configured;
    // Where two report a block, the one that more providers report; else the first.
    let rank = |trace: &Trace| (agreed(trace), trace.mined().is_some_and(|mined| !mined.finality_unknown));
    let best_mined = answered.iter().copied().filter(|(_, trace)| mined(trace) && enough(trace));
    if let Some(best) = best_mined.reduce(|best, next| if rank(next.1) > rank(best.1) { next } else { best }) {
        let (_, reports_finality) = rank(best.1);
        return match (rule.finality && !reports_finality, waiting, left) {
            (true, true, _) => QuorumDecision::Wait,
            (true, false, true) => QuorumDecision::Ask,
            (true, false, false) | (false, ..) => settled(best),
        };
    }
    let disputed = answered.iter().any(|(_, trace)| mined(trace));
    if !disputed {
        let pending = answered.iter().copied().find(|(_, trace)| trace.found == TransactionState::Pending);
        let unknown = answered.iter().copied().find(|(_, trace)| trace.found == TransactionState::Unknown);
        let received = answers.iter().filter(|answer| answer.is_some()).count();
        match (pending, unknown) {
            (Some(pending), _) if received >= 2 || configured <= 1 || !(waiting || left) => return settled(pending),
            (None, Some(unknown)) if enough(unknown.1) => return settled(unknown),
            (Some(_) | None, _) => {}
        }
    }
    match (waiting, left) {
        (true, _) => QuorumDecision::Wait,
        (false, true) => QuorumDecision::Ask,
        (false, false) => QuorumDecision::Unavailable,
    }
}

/// How many providers must report the same trace.
fn needed_agreement(trace: &Trace, threshold: Amount) -> usize {
    match &trace.found {
        TransactionState::Unknown => AGREEMENT_MIN,
        TransactionState::Pending => 1,
        TransactionState::Mined(mined) if mined.largest() >= threshold => AGREEMENT_MIN,
        TransactionState::Mined(_) => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::{Address, TxId};
    use crate::trace::{Block, Depth, MinedTransaction, Transfer, TransferLocation, UsedAuthorization};
    use proptest::prelude::*;

    fn trace(found: TransactionState) -> Option<ProviderAnswer> {
        Some(ProviderAnswer::Trace(Trace { tx: TxId::Svm([1; 64]), found }))
    }

    fn mined(block: u8, amount: u64) -> Option<ProviderAnswer> {
        trace(TransactionState::Mined(Box::new(MinedTransaction {
            failure: None,
            block: Block { number: u64::from(block), hash: Some(format!("0x{block}")), time: None },
            head: 9,
            depth: Depth::Confirmed,
            finality_unknown: false,
            submitter: None,
            transfers: vec![Transfer {
                place: TransferLocation::LogIndex(0),
                ordinal: 0,
                from: None,
                to: Some(Address::Svm([2; 32])),
                amount: Amount::atomic(amount),
            }],
            foreign: Vec::new(),
            zero: Vec::new(),
            confidential: Vec::new(),
            memos: Vec::new(),
            authorizations: Vec::new(),
        })))
    }

    const LARGE: u64 = 100;

    fn wanted(finality: bool) -> QuorumRule {
        QuorumRule { threshold: Amount::atomic(LARGE), finality }
    }

    #[track_caller]
    fn check(configured: usize, words: &[Option<ProviderAnswer>], want: QuorumDecision) {
        assert_eq!(decide_quorum(words, configured, wanted(false)), want);
    }

    #[track_caller]
    fn check_finality(configured: usize, words: &[Option<ProviderAnswer>], want: QuorumDecision) {
        assert_eq!(decide_quorum(words, configured, wanted(true)), want);
    }

    /// The same by a node that does not say what is final.
    fn vague(block: u8, amount: u64) -> Option<ProviderAnswer> {
        changed(block, amount, |mined| mined.finality_unknown = true)
    }

    fn changed(block: u8, amount: u64, change: impl Fn(&mut MinedTransaction)) -> Option<ProviderAnswer> {
        let mut word = mined(block, amount);
        if let Some(ProviderAnswer::Trace(Trace { found: TransactionState::Mined(mined), .. })) = &mut word {
            change(mined);
        }
        word
    }

    const fn settled(index: usize, agreed: usize) -> QuorumDecision {
        QuorumDecision::Settled { index, agreed }
    }

    #[test]
    fn an_answer_that_needs_agreement_is_two_providers_or_the_only_ones() {
        assert_eq!(agreed_answer::<u8>(&[], 1), None);
        assert_eq!(agreed_answer(&[7], 1), Some(&7));
        for configured in 2..4 {
            assert_eq!(agreed_answer(&[7], configured), None);
            assert_eq!(agreed_answer(&[7, 8], configured), None);
            assert_eq!(agreed_answer(&[7, 7], configured), Some(&7));
        }
        assert_eq!(agreed_answer(&[7, 8, 8], 3), Some(&8));
    }

    #[test]
    fn one_provider_is_believed() {
        check(1, &[mined(1, LARGE)], settled(0, 1));
        check(1, &[trace(TransactionState::Unknown)], settled(0, 1));
        check(1, &[trace(TransactionState::Pending)], settled(0, 1));
        check(1, &[Some(ProviderAnswer::Failed)], QuorumDecision::Unavailable);
        check(1, &[None], QuorumDecision::Wait);
    }

    #[test]
    fn a_small_payment_needs_one_answer() {
        check(3, &[mined(1, LARGE - 1)], settled(0, 1));
        check(3, &[None, mined(1, 1)], settled(1, 1));
    }

    #[test]
    fn a_large_payment_needs_two_that_agree() {
        check(2, &[mined(1, LARGE)], QuorumDecision::Ask);
        check(2, &[mined(1, LARGE), None], QuorumDecision::Wait);
        check(2, &[mined(1, LARGE), mined(1, LARGE)], settled(0, 2));
        check(2, &[mined(1, LARGE), Some(ProviderAnswer::Failed)], QuorumDecision::Unavailable);
        check(2, &[mined(1, LARGE), mined(2, LARGE)], QuorumDecision::Unavailable);
        check(3, &[mined(1, LARGE), mined(2, LARGE)], QuorumDecision::Ask);
        check(3, &[mined(1, LARGE), mined(2, LARGE), mined(2, LARGE)], settled(1, 2));
        check(3, &[mined(1, LARGE), trace(TransactionState::Unknown), mined(1, LARGE)], settled(0, 2));
    }

    #[test]
    fn null_is_no_answer_until_another_agrees() {
        let unknown = || trace(TransactionState::Unknown);
        check(2, &[unknown()], QuorumDecision::Ask);
        check(2, &[unknown(), unknown()], settled(0, 2));
        check(2, &[unknown(), Some(ProviderAnswer::Failed)], QuorumDecision::Unavailable);
        check(2, &[unknown(), mined(1, 1)], settled(1, 1));
        check(3, &[unknown(), Some(ProviderAnswer::Failed)], QuorumDecision::Ask);
    }

    #[test]
    fn a_pending_answer_waits_for_a_second_one() {
        let pending = || trace(TransactionState::Pending);
        check(2, &[pending()], QuorumDecision::Ask);
        check(2, &[pending(), None], QuorumDecision::Wait);
        check(2, &[pending(), mined(1, 1)], settled(1, 1));
        check(2, &[pending(), trace(TransactionState::Unknown)], settled(0, 1));
        check(2, &[pending(), Some(ProviderAnswer::Failed)], settled(0, 1));
    }

    #[test]
    fn what_is_final_is_judged_by_whoever_can_tell() {
        let failed = || Some(ProviderAnswer::Failed);
        // Where finality does not matter, no other provider is asked.
        check(2, &[vague(1, 1)], settled(0, 1));
        check_finality(2, &[mined(1, 1)], settled(0, 1));
        check_finality(2, &[vague(1, 1)], QuorumDecision::Ask);
        check_finality(2, &[vague(1, 1), None], QuorumDecision::Wait);
        check_finality(2, &[vague(1, 1), mined(1, 1)], settled(1, 2));
        check_finality(3, &[vague(1, 1), vague(1, 1)], QuorumDecision::Ask);
        check_finality(3, &[vague(1, 1), failed(), mined(1, 1)], settled(2, 2));
        // Where no node can say, the trace stands without it.
        check_finality(2, &[vague(1, 1), failed()], settled(0, 1));
        check_finality(2, &[vague(1, 1), trace(TransactionState::Unknown)], settled(0, 1));
        check_finality(1, &[vague(1, 1)], settled(0, 1));
        // A large payment still needs two that agree.
        check_finality(2, &[vague(1, LARGE), mined(2, LARGE)], QuorumDecision::Unavailable);
        check_finality(3, &[vague(1, LARGE), vague(1, LARGE)], QuorumDecision::Ask);
        check_finality(3, &[vague(1, LARGE), vague(1, LARGE), mined(1, LARGE)], settled(2, 3));
        // Of two that were asked anyway, the better informed.
        check(2, &[vague(1, LARGE), mined(1, LARGE)], settled(1, 2));
    }

    #[test]
    fn two_must_agree_on_the_authorizations_too() {
        let used = |nonce: u8, transfer: Option<u64>| {
            changed(1, LARGE, |mined| {
                let nonce = alloy_primitives::B256::repeat_byte(nonce);
                mined.authorizations = vec![UsedAuthorization { authorizer: Address::Svm([3; 32]), nonce, transfer }];
            })
        };
        check(2, &[used(1, Some(0)), used(1, Some(0))], settled(0, 2));
        check(2, &[used(1, Some(0)), mined(1, LARGE)], QuorumDecision::Unavailable);
        check(2, &[used(1, Some(0)), used(2, Some(0))], QuorumDecision::Unavailable);
        check(3, &[used(1, Some(0)), used(1, None)], QuorumDecision::Ask);
        check(3, &[used(1, Some(0)), used(2, Some(0)), used(2, Some(0))], settled(1, 2));
    }

    #[test]
    fn so_many_must_say_the_same() {
        let needed = |configured, amount| required_agreement(configured, Amount::atomic(amount), Amount::atomic(LARGE));
        assert_eq!((needed(1, LARGE), needed(2, LARGE - 1), needed(2, LARGE), needed(3, LARGE)), (1, 1, 2, 2));
    }

    fn word() -> impl Strategy<Value = Option<ProviderAnswer>> {
        prop_oneof![
            Just(None),
            Just(Some(ProviderAnswer::Failed)),
            Just(trace(TransactionState::Unknown)),
            Just(trace(TransactionState::Pending)),
            (1_u8..3, prop_oneof![Just(1_u64), Just(LARGE)]).prop_map(|(block, amount)| mined(block, amount)),
            (1_u8..3, prop_oneof![Just(1_u64), Just(LARGE)]).prop_map(|(block, amount)| vague(block, amount)),
        ]
    }

    proptest! {
        #[test]
        fn what_is_settled_was_reported_and_enough_agree(
            words in proptest::collection::vec(word(), 1..5),
            more in 0_usize..3,
            finality in any::<bool>(),
        ) {
            let configured = words.len().saturating_add(more);
            match decide_quorum(&words, configured, wanted(finality)) {
                QuorumDecision::Settled { index, agreed } => {
                    let answered = words.get(index).and_then(|word| match word { Some(ProviderAnswer::Trace(trace)) => Some(trace), Some(ProviderAnswer::Failed) | None => None });
                    prop_assert!(answered.is_some());
                    let trace = answered.expect("checked");
                    let large = trace.mined().is_some_and(|mined| mined.largest() >= Amount::atomic(LARGE));
                    let least = if configured > 1 && large { 2 } else { 1 };
                    prop_assert!(agreed >= least);
                    prop_assert!(configured == 1 || trace.found != TransactionState::Unknown || agreed >= 2);
                }
                QuorumDecision::Wait => prop_assert!(words.iter().any(Option::is_none)),
                QuorumDecision::Ask => prop_assert!(words.len() < configured),
                QuorumDecision::Unavailable => prop_assert!(words.len() == configured && words.iter().all(Option::is_some)),
            }
        }
    }
}

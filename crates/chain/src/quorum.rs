//! Which node's word counts, and when another must be asked
//! (docs/spec/chains.md#nodes).

use crate::amount::Amount;
use crate::trace::{Found, Trace};

/// One provider's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// Its story.
    Trace(Trace),
    /// It gave no usable answer.
    Failed,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Wait for those who are still asked.
    Wait,
    /// Ask another provider now.
    Ask,
    /// This word is the answer; so many agree on it.
    Settled {
        /// Its place among the words.
        index: usize,
        /// How many providers told the same.
        agreed: usize,
    },
    /// Nobody's word can be the answer.
    Unavailable,
}

/// What a question wants of the word that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// From this amount on two must agree.
    pub threshold: Amount,
    /// Whether it matters what is final: then whoever can tell is asked, as long as somebody is left.
    pub finality: bool,
}

/// How many providers must say the same of what one alone is not believed, where so many are configured.
pub const AGREED: usize = 2;

/// How many providers must say the same of something whose worth is `amount`.
#[must_use]
pub fn witnesses(configured: usize, amount: Amount, threshold: Amount) -> usize {
    if configured > 1 && amount >= threshold { AGREED } else { 1 }
}

/// Decides on the words so far: one a provider that was asked, `None` while it
/// has not answered. `configured` counts all providers of the chain.
///
/// - With one provider its word counts.
/// - `null` from one is no answer until another agrees.
/// - A mined story beats another's `null`: its block has been found canonical.
/// - A pending one waits for a second word, which may know of a block.
/// - Of mined stories that count alike, one that says what is final stands before one that does not.
#[must_use]
pub fn decide(words: &[Option<Word>], configured: usize, wanted: Wanted) -> Decision {
    let told: Vec<(usize, &Trace)> = words
        .iter()
        .enumerate()
        .filter_map(|(index, word)| match word {
            Some(Word::Trace(trace)) => Some((index, trace)),
            Some(Word::Failed) | None => None,
        })
        .collect();
    let agreed = |trace: &Trace| told.iter().filter(|(_, other)| other.agrees(trace)).count();
    let settled = |(index, trace): (usize, &Trace)| Decision::Settled { index, agreed: agreed(trace) };
    let mined = |trace: &Trace| matches!(trace.found, Found::Mined(_));
    let enough = |trace: &Trace| configured <= 1 || agreed(trace) >= needed(trace, wanted.threshold);
    let waiting = words.iter().any(Option::is_none);
    let left = words.len() < configured;
    // Where two tell of a block and more agree on one, that one; else the first.
    let rank = |trace: &Trace| (agreed(trace), trace.mined().is_some_and(|mined| !mined.finality_unknown));
    let best_mined = told.iter().copied().filter(|(_, trace)| mined(trace) && enough(trace));
    if let Some(best) = best_mined.reduce(|best, next| if rank(next.1) > rank(best.1) { next } else { best }) {
        let (_, says_what_is_final) = rank(best.1);
        return match (wanted.finality && !says_what_is_final, waiting, left) {
            (true, true, _) => Decision::Wait,
            (true, false, true) => Decision::Ask,
            (true, false, false) | (false, ..) => settled(best),
        };
    }
    let disputed = told.iter().any(|(_, trace)| mined(trace));
    if !disputed {
        let pending = told.iter().copied().find(|(_, trace)| trace.found == Found::Pending);
        let unknown = told.iter().copied().find(|(_, trace)| trace.found == Found::Unknown);
        let heard = words.iter().filter(|word| word.is_some()).count();
        match (pending, unknown) {
            (Some(pending), _) if heard >= 2 || configured <= 1 || !(waiting || left) => return settled(pending),
            (None, Some(unknown)) if enough(unknown.1) => return settled(unknown),
            (Some(_) | None, _) => {}
        }
    }
    match (waiting, left) {
        (true, _) if told.is_empty() => Decision::Wait,
        // Somebody has spoken and it is not enough: the next need not wait for the slow one.
        (true, true) if words.iter().filter(|word| word.is_none()).count() == 0 => Decision::Ask,
        (true, _) => Decision::Wait,
        (false, true) => Decision::Ask,
        (false, false) => Decision::Unavailable,
    }
}

/// How many must tell the same story.
fn needed(trace: &Trace, threshold: Amount) -> usize {
    match &trace.found {
        Found::Unknown => AGREED,
        Found::Pending => 1,
        Found::Mined(mined) if mined.largest() >= threshold => AGREED,
        Found::Mined(_) => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::{Address, TxId};
    use crate::trace::{Authorization, Block, Depth, Mined, Place, Transfer};
    use proptest::prelude::*;

    fn trace(found: Found) -> Option<Word> {
        Some(Word::Trace(Trace { tx: TxId::Svm([1; 64]), found }))
    }

    fn mined(block: u8, amount: u64) -> Option<Word> {
        trace(Found::Mined(Box::new(Mined {
            failure: None,
            block: Block { number: u64::from(block), hash: Some(format!("0x{block}")), time: None },
            head: 9,
            depth: Depth::Confirmed,
            finality_unknown: false,
            submitter: None,
            transfers: vec![Transfer {
                place: Place::LogIndex(0),
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

    fn wanted(finality: bool) -> Wanted {
        Wanted { threshold: Amount::atomic(LARGE), finality }
    }

    #[track_caller]
    fn check(configured: usize, words: &[Option<Word>], want: Decision) {
        assert_eq!(decide(words, configured, wanted(false)), want);
    }

    #[track_caller]
    fn check_finality(configured: usize, words: &[Option<Word>], want: Decision) {
        assert_eq!(decide(words, configured, wanted(true)), want);
    }

    /// The same by a node that does not say what is final.
    fn vague(block: u8, amount: u64) -> Option<Word> {
        changed(block, amount, |mined| mined.finality_unknown = true)
    }

    fn changed(block: u8, amount: u64, change: impl Fn(&mut Mined)) -> Option<Word> {
        let mut word = mined(block, amount);
        if let Some(Word::Trace(Trace { found: Found::Mined(mined), .. })) = &mut word {
            change(mined);
        }
        word
    }

    const fn settled(index: usize, agreed: usize) -> Decision {
        Decision::Settled { index, agreed }
    }

    #[test]
    fn one_provider_is_believed() {
        check(1, &[mined(1, LARGE)], settled(0, 1));
        check(1, &[trace(Found::Unknown)], settled(0, 1));
        check(1, &[trace(Found::Pending)], settled(0, 1));
        check(1, &[Some(Word::Failed)], Decision::Unavailable);
        check(1, &[None], Decision::Wait);
    }

    #[test]
    fn a_small_payment_needs_one_word() {
        check(3, &[mined(1, LARGE - 1)], settled(0, 1));
        check(3, &[None, mined(1, 1)], settled(1, 1));
    }

    #[test]
    fn a_large_payment_needs_two_that_agree() {
        check(2, &[mined(1, LARGE)], Decision::Ask);
        check(2, &[mined(1, LARGE), None], Decision::Wait);
        check(2, &[mined(1, LARGE), mined(1, LARGE)], settled(0, 2));
        check(2, &[mined(1, LARGE), Some(Word::Failed)], Decision::Unavailable);
        check(2, &[mined(1, LARGE), mined(2, LARGE)], Decision::Unavailable);
        check(3, &[mined(1, LARGE), mined(2, LARGE)], Decision::Ask);
        check(3, &[mined(1, LARGE), mined(2, LARGE), mined(2, LARGE)], settled(1, 2));
        check(3, &[mined(1, LARGE), trace(Found::Unknown), mined(1, LARGE)], settled(0, 2));
    }

    #[test]
    fn null_is_no_answer_until_another_agrees() {
        let unknown = || trace(Found::Unknown);
        check(2, &[unknown()], Decision::Ask);
        check(2, &[unknown(), unknown()], settled(0, 2));
        check(2, &[unknown(), Some(Word::Failed)], Decision::Unavailable);
        check(2, &[unknown(), mined(1, 1)], settled(1, 1));
        check(3, &[unknown(), Some(Word::Failed)], Decision::Ask);
    }

    #[test]
    fn a_pending_word_waits_for_one_that_knows_more() {
        let pending = || trace(Found::Pending);
        check(2, &[pending()], Decision::Ask);
        check(2, &[pending(), None], Decision::Wait);
        check(2, &[pending(), mined(1, 1)], settled(1, 1));
        check(2, &[pending(), trace(Found::Unknown)], settled(0, 1));
        check(2, &[pending(), Some(Word::Failed)], settled(0, 1));
    }

    #[test]
    fn what_is_final_is_judged_by_whoever_can_tell() {
        let failed = || Some(Word::Failed);
        // Where nobody wants to know, nobody else is asked.
        check(2, &[vague(1, 1)], settled(0, 1));
        check_finality(2, &[mined(1, 1)], settled(0, 1));
        check_finality(2, &[vague(1, 1)], Decision::Ask);
        check_finality(2, &[vague(1, 1), None], Decision::Wait);
        check_finality(2, &[vague(1, 1), mined(1, 1)], settled(1, 2));
        check_finality(3, &[vague(1, 1), vague(1, 1)], Decision::Ask);
        check_finality(3, &[vague(1, 1), failed(), mined(1, 1)], settled(2, 2));
        // Where nobody can tell, the story stands without it.
        check_finality(2, &[vague(1, 1), failed()], settled(0, 1));
        check_finality(2, &[vague(1, 1), trace(Found::Unknown)], settled(0, 1));
        check_finality(1, &[vague(1, 1)], settled(0, 1));
        // A large payment still needs two that agree.
        check_finality(2, &[vague(1, LARGE), mined(2, LARGE)], Decision::Unavailable);
        check_finality(3, &[vague(1, LARGE), vague(1, LARGE)], Decision::Ask);
        check_finality(3, &[vague(1, LARGE), vague(1, LARGE), mined(1, LARGE)], settled(2, 3));
        // Of two that were asked anyway, the better informed.
        check(2, &[vague(1, LARGE), mined(1, LARGE)], settled(1, 2));
    }

    #[test]
    fn two_must_agree_on_the_authorizations_too() {
        let used = |nonce: u8, transfer: Option<u64>| {
            changed(1, LARGE, |mined| {
                let nonce = alloy_primitives::B256::repeat_byte(nonce);
                mined.authorizations = vec![Authorization { authorizer: Address::Svm([3; 32]), nonce, transfer }];
            })
        };
        check(2, &[used(1, Some(0)), used(1, Some(0))], settled(0, 2));
        check(2, &[used(1, Some(0)), mined(1, LARGE)], Decision::Unavailable);
        check(2, &[used(1, Some(0)), used(2, Some(0))], Decision::Unavailable);
        check(3, &[used(1, Some(0)), used(1, None)], Decision::Ask);
        check(3, &[used(1, Some(0)), used(2, Some(0)), used(2, Some(0))], settled(1, 2));
    }

    #[test]
    fn so_many_must_say_the_same() {
        let needed = |configured, amount| witnesses(configured, Amount::atomic(amount), Amount::atomic(LARGE));
        assert_eq!((needed(1, LARGE), needed(2, LARGE - 1), needed(2, LARGE), needed(3, LARGE)), (1, 1, 2, 2));
    }

    fn word() -> impl Strategy<Value = Option<Word>> {
        prop_oneof![
            Just(None),
            Just(Some(Word::Failed)),
            Just(trace(Found::Unknown)),
            Just(trace(Found::Pending)),
            (1_u8..3, prop_oneof![Just(1_u64), Just(LARGE)]).prop_map(|(block, amount)| mined(block, amount)),
            (1_u8..3, prop_oneof![Just(1_u64), Just(LARGE)]).prop_map(|(block, amount)| vague(block, amount)),
        ]
    }

    proptest! {
        #[test]
        fn what_is_settled_was_told_and_enough_agree(
            words in proptest::collection::vec(word(), 1..5),
            more in 0_usize..3,
            finality in any::<bool>(),
        ) {
            let configured = words.len().saturating_add(more);
            match decide(&words, configured, wanted(finality)) {
                Decision::Settled { index, agreed } => {
                    let told = words.get(index).and_then(|word| match word { Some(Word::Trace(trace)) => Some(trace), Some(Word::Failed) | None => None });
                    prop_assert!(told.is_some());
                    let trace = told.expect("checked");
                    let large = trace.mined().is_some_and(|mined| mined.largest() >= Amount::atomic(LARGE));
                    let least = if configured > 1 && large { 2 } else { 1 };
                    prop_assert!(agreed >= least);
                    prop_assert!(configured == 1 || trace.found != Found::Unknown || agreed >= 2);
                }
                Decision::Wait => prop_assert!(words.iter().any(Option::is_none)),
                Decision::Ask => prop_assert!(words.len() < configured),
                Decision::Unavailable => prop_assert!(words.len() == configured && words.iter().all(Option::is_some)),
            }
        }
    }
}

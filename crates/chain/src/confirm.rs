//! When a node's refusal counts. A node that is behind the others, or on a fork, reports another balance, nonce or
//! simulation. So a refusal that another block could change needs a second node that refuses alike, or the node whose
//! head is as high as any other's. An acceptance by one node counts at once.

/// A rule's decision on one node's answers.
pub trait StateDecision {
    /// The refusal and its reason: two nodes with equal refusals confirm each other.
    type Refusal: PartialEq;

    /// The refusal, where it depends on the chain's state; `None` where it does not, or there is none.
    fn refusal(&self) -> Option<Self::Refusal>;
}

/// What one node's answers lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeVerdict<R> {
    /// An acceptance, or a refusal that no block can change.
    Definite,
    /// A refusal that another block could change.
    Refuses(R),
    /// No usable answer.
    Failed,
}

/// The newest block of a node when it gave its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeHeight {
    /// The round did not ask for it.
    NotAsked,
    /// The round asked for it, and the node did not answer.
    Unknown,
    /// This block, or a later one.
    At(u64),
}

impl NodeHeight {
    const fn block(self) -> Option<u64> {
        match self {
            Self::At(block) => Some(block),
            Self::NotAsked | Self::Unknown => None,
        }
    }
}

/// A node's last answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeAnswer<R> {
    /// What the node's answers lead to.
    pub verdict: NodeVerdict<R>,
    /// Its newest block at that time.
    pub height: NodeHeight,
}

/// Why an answer is taken as the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerdictBasis {
    /// It is an acceptance, or a refusal that no block can change.
    Definite,
    /// A refusal by the only provider that is configured.
    Single,
    /// A refusal that another node shares, or by the node with the highest reported block.
    Confirmed,
    /// A refusal that nothing confirms: it is not final.
    Unconfirmed,
}

/// What to do after the answers so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextStep {
    /// Ask the next provider; if another has refused, ask for its newest block in the same round.
    Ask,
    /// Ask the provider at this position again, and for its newest block in the same round.
    Again(usize),
    /// The answer at this position counts.
    Settled(usize, VerdictBasis),
    /// No provider gave a usable answer.
    Unavailable,
}

/// Decides on the answers so far, in the order in which the providers were asked. `configured` counts all providers
/// of the chain; `in_time` says whether there is time to ask.
#[must_use]
pub fn next_step<R: PartialEq>(answers: &[NodeAnswer<R>], configured: usize, in_time: bool) -> NextStep {
    let is_left = in_time && answers.len() < configured;
    let allowing = answers.iter().position(|answer| answer.verdict == NodeVerdict::Definite);
    let refusing: Vec<(usize, &NodeAnswer<R>)> =
        answers.iter().enumerate().filter(|(_, answer)| matches!(answer.verdict, NodeVerdict::Refuses(_))).collect();
    let Some((first, _)) = refusing.first().copied() else {
        return match allowing {
            Some(place) => NextStep::Settled(place, VerdictBasis::Definite),
            None if is_left => NextStep::Ask,
            None => NextStep::Unavailable,
        };
    };
    if configured <= 1 {
        return NextStep::Settled(first, VerdictBasis::Single);
    }
    if allowing.is_none() {
        let shared = |(place, answer): &(usize, &NodeAnswer<R>)| {
            refusing.iter().any(|(other, theirs)| other != place && theirs.verdict == answer.verdict)
        };
        if let Some((place, _)) = refusing.iter().copied().find(shared) {
            return NextStep::Settled(place, VerdictBasis::Confirmed);
        }
        if is_left {
            return NextStep::Ask;
        }
    }
    settled_by_height(answers, &refusing, allowing, in_time).unwrap_or(match allowing {
        Some(place) => NextStep::Settled(place, VerdictBasis::Definite),
        None => NextStep::Settled(first, VerdictBasis::Unconfirmed),
    })
}

/// Where nodes differ, or only one has answered: a refusal by a node that is as high as all others counts. `None` where
/// there is no such node, or no other node reported its height.
fn settled_by_height<R: PartialEq>(
    answers: &[NodeAnswer<R>],
    refusing: &[(usize, &NodeAnswer<R>)],
    allowing: Option<usize>,
    in_time: bool,
) -> Option<NextStep> {
    let above = |own: usize| {
        let others = answers.iter().enumerate().filter(|(place, _)| *place != own);
        match allowing.and_then(|place| answers.get(place)) {
            // An acceptance gives way only to a refusal from at least as high.
            Some(allows) => allows.height.block(),
            None => others.filter_map(|(_, answer)| answer.height.block()).max(),
        }
    };
    let unasked =
        refusing.iter().find(|(place, answer)| answer.height == NodeHeight::NotAsked && above(*place).is_some());
    if let Some((place, _)) = unasked.filter(|_| in_time) {
        return Some(NextStep::Again(*place));
    }
    let highest = refusing.iter().filter_map(|(place, answer)| Some((*place, answer.height.block()?)));
    // Of two nodes with equal height the first counts, by the operator's order.
    let (place, block) = highest.reduce(|best, next| if next.1 > best.1 { next } else { best })?;
    (block >= above(place)?).then_some(NextStep::Settled(place, VerdictBasis::Confirmed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PLAIN: NodeVerdict<u8> = NodeVerdict::Definite;
    const NO: NodeVerdict<u8> = NodeVerdict::Refuses(1);
    const OTHER: NodeVerdict<u8> = NodeVerdict::Refuses(2);
    const FAILED: NodeVerdict<u8> = NodeVerdict::Failed;

    const fn unasked(word: NodeVerdict<u8>) -> NodeAnswer<u8> {
        NodeAnswer { verdict: word, height: NodeHeight::NotAsked }
    }

    const fn at(word: NodeVerdict<u8>, block: u64) -> NodeAnswer<u8> {
        NodeAnswer { verdict: word, height: NodeHeight::At(block) }
    }

    const fn mute(word: NodeVerdict<u8>) -> NodeAnswer<u8> {
        NodeAnswer { verdict: word, height: NodeHeight::Unknown }
    }

    #[track_caller]
    fn check(configured: usize, answers: &[NodeAnswer<u8>], want: NextStep) {
        assert_eq!(next_step(answers, configured, true), want, "{answers:?}");
    }

    #[test]
    fn what_a_node_allows_counts_at_once() {
        for configured in 1..4 {
            check(configured, &[], NextStep::Ask);
            check(configured, &[unasked(PLAIN)], NextStep::Settled(0, VerdictBasis::Definite));
        }
        check(2, &[unasked(FAILED), unasked(PLAIN)], NextStep::Settled(1, VerdictBasis::Definite));
        check(2, &[unasked(FAILED)], NextStep::Ask);
        check(1, &[unasked(FAILED)], NextStep::Unavailable);
    }

    #[test]
    fn the_only_provider_is_believed() {
        check(1, &[unasked(NO)], NextStep::Settled(0, VerdictBasis::Single));
    }

    #[test]
    fn a_refusal_counts_when_a_second_node_shares_it() {
        check(2, &[unasked(NO)], NextStep::Ask);
        check(2, &[unasked(NO), at(NO, 9)], NextStep::Settled(0, VerdictBasis::Confirmed));
        check(3, &[unasked(NO), at(OTHER, 9)], NextStep::Ask);
        check(3, &[unasked(NO), at(OTHER, 9), at(OTHER, 9)], NextStep::Settled(1, VerdictBasis::Confirmed));
        check(3, &[unasked(FAILED), unasked(NO), at(NO, 9)], NextStep::Settled(1, VerdictBasis::Confirmed));
    }

    #[test]
    fn a_node_that_is_behind_refuses_nobody() {
        check(2, &[unasked(NO), at(PLAIN, 9)], NextStep::Again(0));
        check(2, &[at(NO, 6), at(PLAIN, 9)], NextStep::Settled(1, VerdictBasis::Definite));
        // It has come up to the others meanwhile.
        check(2, &[at(PLAIN, 9), at(PLAIN, 9)], NextStep::Settled(0, VerdictBasis::Definite));
        check(2, &[at(NO, 9), at(PLAIN, 9)], NextStep::Settled(0, VerdictBasis::Confirmed));
        // The other is behind: what it allows may be over.
        check(2, &[at(NO, 9), at(PLAIN, 6)], NextStep::Settled(0, VerdictBasis::Confirmed));
        check(2, &[mute(NO), at(PLAIN, 9)], NextStep::Settled(1, VerdictBasis::Definite));
        check(2, &[unasked(NO), mute(PLAIN)], NextStep::Settled(1, VerdictBasis::Definite));
    }

    #[test]
    fn a_refusal_that_nothing_confirms_is_not_final() {
        check(2, &[unasked(NO), mute(FAILED)], NextStep::Settled(0, VerdictBasis::Unconfirmed));
        check(3, &[unasked(NO), mute(FAILED)], NextStep::Ask);
        check(3, &[unasked(NO), mute(FAILED), mute(FAILED)], NextStep::Settled(0, VerdictBasis::Unconfirmed));
        // The second says how high it is, and nothing else.
        check(2, &[unasked(NO), at(FAILED, 9)], NextStep::Again(0));
        check(2, &[at(NO, 9), at(FAILED, 9)], NextStep::Settled(0, VerdictBasis::Confirmed));
        check(2, &[at(NO, 8), at(FAILED, 9)], NextStep::Settled(0, VerdictBasis::Unconfirmed));
        check(2, &[mute(NO), at(FAILED, 9)], NextStep::Settled(0, VerdictBasis::Unconfirmed));
    }

    #[test]
    fn of_two_reasons_the_higher_node_names_the_one() {
        check(2, &[unasked(NO), at(OTHER, 9)], NextStep::Again(0));
        check(2, &[at(NO, 6), at(OTHER, 9)], NextStep::Settled(1, VerdictBasis::Confirmed));
        check(2, &[at(NO, 9), at(OTHER, 9)], NextStep::Settled(0, VerdictBasis::Confirmed));
    }

    #[test]
    fn without_time_nobody_is_asked() {
        assert_eq!(next_step(&[unasked(NO)], 3, false), NextStep::Settled(0, VerdictBasis::Unconfirmed));
        assert_eq!(next_step(&[unasked(NO), at(PLAIN, 9)], 2, false), NextStep::Settled(1, VerdictBasis::Definite));
        assert_eq!(next_step::<u8>(&[], 3, false), NextStep::Unavailable);
    }

    fn answer() -> impl Strategy<Value = NodeAnswer<u8>> {
        let word = prop_oneof![Just(PLAIN), Just(NO), Just(OTHER), Just(FAILED)];
        let height =
            prop_oneof![Just(NodeHeight::NotAsked), Just(NodeHeight::Unknown), (5_u64..8).prop_map(NodeHeight::At)];
        (word, height).prop_map(|(word, height)| NodeAnswer { verdict: word, height })
    }

    proptest! {
        #[test]
        fn a_refusal_is_final_on_two_words_or_from_the_highest_node(
            answers in proptest::collection::vec(answer(), 0..5), more in 0_usize..3, in_time in any::<bool>(),
        ) {
            let configured = answers.len().saturating_add(more);
            let refuses = |answer: &NodeAnswer<u8>| matches!(answer.verdict, NodeVerdict::Refuses(_));
            match next_step(&answers, configured, in_time) {
                NextStep::Ask => prop_assert!(in_time && more > 0 && !answers.iter().any(|answer| answer.verdict == PLAIN)),
                NextStep::Again(place) => {
                    prop_assert!(in_time && refuses(&answers[place]) && answers[place].height == NodeHeight::NotAsked);
                }
                NextStep::Unavailable => prop_assert!(answers.iter().all(|answer| answer.verdict == FAILED)),
                NextStep::Settled(place, basis) => {
                    let own = answers[place];
                    let others = || answers.iter().enumerate().filter(|(other, _)| *other != place).map(|(_, one)| one);
                    let allows = answers.iter().find(|answer| answer.verdict == PLAIN);
                    match basis {
                        VerdictBasis::Definite => prop_assert!(own.verdict == PLAIN),
                        VerdictBasis::Single => prop_assert!(refuses(&own) && configured == 1),
                        VerdictBasis::Unconfirmed => {
                            prop_assert!(refuses(&own) && allows.is_none());
                            prop_assert!(!others().any(|one| one.verdict == own.verdict));
                            prop_assert!(!in_time || more == 0);
                        }
                        VerdictBasis::Confirmed => {
                            let shared = allows.is_none() && others().any(|one| one.verdict == own.verdict);
                            let top = match allows {
                                Some(allows) => allows.height.block(),
                                None => others().filter_map(|one| one.height.block()).max(),
                            };
                            let highest = own.height.block().zip(top).is_some_and(|(own, top)| own >= top);
                            prop_assert!(refuses(&own) && configured > 1 && (shared || highest));
                        }
                    }
                }
            }
        }

        #[test]
        fn the_asking_ends(replies in proptest::collection::vec((answer(), answer()), 1..5)) {
            let (mut answers, mut steps) = (Vec::new(), 0_usize);
            loop {
                steps = steps.saturating_add(1);
                prop_assert!(steps <= replies.len().saturating_mul(2).saturating_add(1));
                match next_step(&answers, replies.len(), true) {
                    NextStep::Ask => answers.push(replies[answers.len()].0),
                    NextStep::Again(place) => {
                        let again = replies[place].1;
                        let height = if again.height == NodeHeight::NotAsked { NodeHeight::Unknown } else { again.height };
                        answers[place] = NodeAnswer { height, ..again };
                    }
                    NextStep::Settled(..) | NextStep::Unavailable => break,
                }
            }
        }
    }
}

//! Which Solana transactions can no longer be mined: their block hash has expired, and no node knows them. Since this
//! ends a payment for good, two nodes must report it where two are configured.

use x402_chain::quorum::AGREEMENT_MIN;

/// What one node reports about one transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpiryAnswer {
    /// Its finalized height is past the last block that could hold the transaction, which it does not know.
    Expired,
    /// It knows the transaction, or a block may still hold it.
    Possible,
    /// The node gave no usable answer; another is asked.
    Unanswered,
}

impl ExpiryAnswer {
    /// Reads a node's answers: its finalized block height, the last height that can hold the transaction, and whether
    /// it knows of the transaction.
    #[must_use]
    pub fn of(height: Option<u64>, until: Option<u64>, is_known: Option<bool>) -> Self {
        match (height, until, is_known) {
            (_, None, _) | (_, _, Some(true)) => Self::Possible,
            (None, ..) | (.., None) => Self::Unanswered,
            (Some(height), Some(until), Some(false)) if height > until => Self::Expired,
            (Some(_), Some(_), Some(false)) => Self::Possible,
        }
    }
}

/// The answers so far about some transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpiryVote {
    needed: usize,
    tallies: Vec<ExpiryTally>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct ExpiryTally {
    expired: usize,
    is_possible: bool,
}

impl ExpiryVote {
    /// No answers yet, for so many transactions on a chain with so many providers.
    #[must_use]
    pub fn new(transactions: usize, providers: usize) -> Self {
        Self { needed: providers.clamp(1, AGREEMENT_MIN), tallies: vec![ExpiryTally::default(); transactions] }
    }

    /// Adds one node's answers, one a transaction; returns whether enough nodes were asked.
    pub fn count_answers(&mut self, answers: impl IntoIterator<Item = ExpiryAnswer>) -> bool {
        for (tally, answer) in self.tallies.iter_mut().zip(answers) {
            match answer {
                ExpiryAnswer::Expired => tally.expired = tally.expired.saturating_add(1),
                ExpiryAnswer::Possible => tally.is_possible = true,
                ExpiryAnswer::Unanswered => {}
            }
        }
        self.tallies.iter().all(|tally| tally.is_possible || tally.expired >= self.needed)
    }

    /// Whether each transaction can no longer be mined, in the order of the answers.
    #[must_use]
    pub fn expired(&self) -> Vec<bool> {
        self.tallies.iter().map(|tally| !tally.is_possible && tally.expired >= self.needed).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ExpiryAnswer::{Expired, Possible, Unanswered};

    #[test]
    fn a_nodes_answer_is_read_from_its_height_and_its_memory() {
        let read = |height, is_known| ExpiryAnswer::of(height, Some(100), is_known);
        assert_eq!((read(Some(100), Some(false)), read(Some(101), Some(false))), (Possible, Expired));
        assert_eq!((read(Some(101), Some(true)), read(None, Some(true))), (Possible, Possible));
        assert_eq!((read(None, Some(false)), read(Some(101), None)), (Unanswered, Unanswered));
        assert_eq!(ExpiryAnswer::of(Some(101), None, Some(false)), Possible);
    }

    #[track_caller]
    fn check(providers: usize, nodes: &[ExpiryAnswer], enough: bool, over: bool) {
        let mut expiry = ExpiryVote::new(1, providers);
        let heard = nodes.iter().fold(false, |_, word| expiry.count_answers([*word]));
        assert_eq!((heard, expiry.expired()), (enough, vec![over]), "{nodes:?}");
    }

    #[test]
    fn it_takes_two_nodes_where_there_are_two() {
        check(1, &[Expired], true, true);
        check(2, &[Expired], false, false);
        check(2, &[Expired, Expired], true, true);
        check(2, &[Expired, Unanswered], false, false);
        check(3, &[Expired, Unanswered, Expired], true, true);
    }

    #[test]
    fn one_node_that_knows_it_is_enough_to_go_on() {
        check(2, &[Possible], true, false);
        check(2, &[Expired, Possible], true, false);
        check(3, &[Expired, Expired, Possible], true, false);
        check(2, &[Unanswered], false, false);
    }

    #[test]
    fn each_transaction_has_answers_of_its_own() {
        let mut expiry = ExpiryVote::new(3, 2);
        assert!(!expiry.count_answers([Expired, Possible, Expired]));
        assert!(expiry.count_answers([Expired, Expired, Possible]));
        assert_eq!(expiry.expired(), [true, false, false]);
    }
}

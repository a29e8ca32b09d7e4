//! Which Solana transactions can never reach the chain any more: their block hash has expired, and no node
//! knows them. A payment ends by it for good, so that it takes two nodes' word where there are two.

use x402_chain::quorum::AGREED;

/// What one node says of one transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// Its finalized height is past the last block that could hold it, and it knows nothing of it.
    Over,
    /// It knows the transaction, or a block may still take it.
    Open,
    /// It does not say.
    Silent,
}

impl Word {
    /// Reads a node's answers: its finalized block height, the last height that can hold the transaction, and whether
    /// it knows of the transaction.
    #[must_use]
    pub fn of(height: Option<u64>, until: Option<u64>, is_known: Option<bool>) -> Self {
        match (height, until, is_known) {
            (_, None, _) | (_, _, Some(true)) => Self::Open,
            (None, ..) | (.., None) => Self::Silent,
            (Some(height), Some(until), Some(false)) if height > until => Self::Over,
            (Some(_), Some(_), Some(false)) => Self::Open,
        }
    }
}

/// What was said so far of some transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiry {
    needed: usize,
    said: Vec<Said>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Said {
    over: usize,
    is_open: bool,
}

impl Expiry {
    /// Nothing was said yet of so many transactions on a chain with so many providers.
    #[must_use]
    pub fn new(transactions: usize, providers: usize) -> Self {
        Self { needed: providers.clamp(1, AGREED), said: vec![Said::default(); transactions] }
    }

    /// Notes what one more node says, a word a transaction; whether nobody else must be asked.
    pub fn hear(&mut self, words: impl IntoIterator<Item = Word>) -> bool {
        for (said, word) in self.said.iter_mut().zip(words) {
            match word {
                Word::Over => said.over = said.over.saturating_add(1),
                Word::Open => said.is_open = true,
                Word::Silent => {}
            }
        }
        self.said.iter().all(|said| said.is_open || said.over >= self.needed)
    }

    /// Whether each can never reach the chain any more, in the order of the words.
    #[must_use]
    pub fn verdicts(&self) -> Vec<bool> {
        self.said.iter().map(|said| !said.is_open && said.over >= self.needed).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Word::{Open, Over, Silent};

    #[test]
    fn a_nodes_word_is_read_from_its_height_and_its_memory() {
        let read = |height, is_known| Word::of(height, Some(100), is_known);
        assert_eq!((read(Some(100), Some(false)), read(Some(101), Some(false))), (Open, Over));
        assert_eq!((read(Some(101), Some(true)), read(None, Some(true))), (Open, Open));
        assert_eq!((read(None, Some(false)), read(Some(101), None)), (Silent, Silent));
        assert_eq!(Word::of(Some(101), None, Some(false)), Open);
    }

    #[track_caller]
    fn check(providers: usize, nodes: &[Word], enough: bool, over: bool) {
        let mut expiry = Expiry::new(1, providers);
        let heard = nodes.iter().fold(false, |_, word| expiry.hear([*word]));
        assert_eq!((heard, expiry.verdicts()), (enough, vec![over]), "{nodes:?}");
    }

    #[test]
    fn it_takes_two_nodes_where_there_are_two() {
        check(1, &[Over], true, true);
        check(2, &[Over], false, false);
        check(2, &[Over, Over], true, true);
        check(2, &[Over, Silent], false, false);
        check(3, &[Over, Silent, Over], true, true);
    }

    #[test]
    fn one_node_that_knows_it_is_enough_to_go_on() {
        check(2, &[Open], true, false);
        check(2, &[Over, Open], true, false);
        check(3, &[Over, Over, Open], true, false);
        check(2, &[Silent], false, false);
    }

    #[test]
    fn each_transaction_has_words_of_its_own() {
        let mut expiry = Expiry::new(3, 2);
        assert!(!expiry.hear([Over, Open, Over]));
        assert!(expiry.hear([Over, Over, Open]));
        assert_eq!(expiry.verdicts(), [true, false, false]);
    }
}

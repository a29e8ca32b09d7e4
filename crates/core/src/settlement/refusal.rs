//! What a node's refusal of a transaction means, and whether the bytes may be
//! with a node all the same.

use serde::{Deserialize, Serialize};
use x402_chain::facts::{ErrorClass, RpcError};

/// Whether a node has a transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Handed {
    /// None has it: each that was asked refused it, or was not asked.
    No,
    /// One may have it: it did not answer, or said nothing that is clear. So it is with
    /// whatever was stored before a crash.
    #[default]
    Maybe,
    /// One has taken it.
    Taken,
}

/// What a node's refusal of a transaction means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It has it already.
    Known,
    /// Another transaction has used the nonce.
    NonceUsed,
    /// Another transaction waits under this nonce, and is not outbid.
    Outbid,
    /// The price is below what the next block takes.
    BelowMarket,
    /// The signer cannot pay the gas.
    Poor,
    /// The gas does not even pay for the bytes.
    GasTooLow,
    /// The node is at fault, not the transaction: another may take it.
    Node,
    /// It may have been taken, or not.
    Unclear,
}

/// Words of nodes by meaning, lower case, the first that fits counts: geth, its kin
/// (bor, op-geth, Nitro, reth, Erigon, anvil), Nethermind, Besu, and those that imitate them.
const WORDS: &[(&[&str], Refused)] = &[
    // Else "unknown transaction type" would be a known transaction.
    (&["unknown transaction"], Refused::Node),
    (&["already known", "alreadyknown", "already imported", "known transaction", "already in mempool"], Refused::Known),
    (
        &["nonce too low", "nonce is too low", "nonce has already been used", "old nonce", "oldnonce"],
        Refused::NonceUsed,
    ),
    (&["replacement", "could not replace", "with same nonce"], Refused::Outbid),
    (
        &[
            "less than block base fee",
            "below current base fee",
            "less than the current basefee",
            "max fee per gas less than",
            "maxfeepergas too low",
            "feetoolow",
            "fee too low",
            "underpriced",
            "gas price supplied is too low",
            "gas price lower than",
            "gas price below",
            "gas price minimum",
            "insufficient fee",
        ],
        Refused::BelowMarket,
    ),
    (
        &[
            "insufficient funds",
            "insufficientfunds",
            "insufficient balance",
            "upfront cost exceeds",
            "not enough balance",
        ],
        Refused::Poor,
    ),
    (&["intrinsic gas", "gaslimittoolow", "gas limit is too low"], Refused::GasTooLow),
    (&["txpool is full", "transaction pool is full", "unhealthy", "syncing"], Refused::Node),
];

/// Reads a node's refusal: its words about the transaction first, then the kind of error.
#[must_use]
pub fn refusal(error: &RpcError) -> Refused {
    let words = error.message.to_lowercase();
    let by_words = WORDS.iter().find(|(needles, _)| needles.iter().any(|needle| words.contains(needle)));
    if let Some((_, refused)) = by_words {
        return *refused;
    }
    // A request that is not understood is not carried out either (JSON-RPC 2.0, section 5.1).
    if matches!(error.code, Some(-32700 | -32600 | -32601 | -32602)) {
        return Refused::Node;
    }
    match error.class {
        ErrorClass::RateLimited
        | ErrorClass::Exhausted
        | ErrorClass::Pruned
        | ErrorClass::Behind
        | ErrorClass::Unsupported => Refused::Node,
        ErrorClass::Poor => Refused::Poor,
        ErrorClass::Underpriced => Refused::BelowMarket,
        ErrorClass::Revert | ErrorClass::Halted | ErrorClass::TooLarge | ErrorClass::Other => Refused::Unclear,
    }
}

/// What became of bytes that were handed to one node after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handing {
    /// Whether one has them.
    pub handed: Handed,
    /// What a refusal for a reason of the transaction's meant, where it asks for something: of several the first,
    /// that the nonce is used before all others. Where a node has the bytes, only that the nonce is used: who has
    /// seen that knows more than who has not.
    pub refused: Option<Refused>,
}

impl Handing {
    /// Nobody was asked yet.
    pub const NOBODY: Self = Self { handed: Handed::No, refused: None };

    /// Notes one node's answer; whether the next must be asked too: a refusal is one node's word only.
    #[must_use]
    pub fn hear(&mut self, answer: Result<(), Refused>) -> bool {
        let (handed, refused) = match answer {
            Ok(()) | Err(Refused::Known) => (Handed::Taken, None),
            Err(Refused::Node) => (Handed::No, None),
            Err(Refused::Unclear) => (Handed::Maybe, None),
            Err(refused) => (Handed::No, Some(refused)),
        };
        self.handed = self.handed.max(handed);
        let used = Some(Refused::NonceUsed);
        self.refused = if refused == used { used } else { self.refused.or(refused) };
        if self.handed == Handed::Taken {
            self.refused = self.refused.filter(|refused| *refused == Refused::NonceUsed);
        }
        self.handed != Handed::Taken
    }
}

/// Sends of one version that are under way: until all have been answered a node may have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sends {
    under_way: u32,
    known: Handed,
}

impl Sends {
    /// The first of them. `stored` is what was known before; a `fresh` version was signed in this
    /// very turn, so that nobody can have it.
    #[must_use]
    pub const fn first(stored: Handed, fresh: bool) -> Self {
        Self { under_way: 1, known: if fresh { Handed::No } else { stored } }
    }

    /// One more.
    pub const fn begin(&mut self) {
        self.under_way = self.under_way.saturating_add(1);
    }

    /// One is answered; whether it was the last.
    #[must_use]
    pub fn finish(&mut self, handed: Handed) -> bool {
        self.under_way = self.under_way.saturating_sub(1);
        self.known = self.known.max(handed);
        self.under_way == 0
    }

    /// What is known of the version now.
    #[must_use]
    pub fn handed(&self) -> Handed {
        if self.under_way == 0 { self.known } else { self.known.max(Handed::Maybe) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(class: ErrorClass, message: &str) -> RpcError {
        RpcError { class, code: None, message: message.to_owned() }
    }

    #[test]
    fn a_nodes_words_are_understood() {
        for (words, want) in [
            ("already known", Refused::Known),
            ("transaction already imported", Refused::Known),
            ("nonce too low: next nonce 5, tx nonce 4", Refused::NonceUsed),
            ("OldNonce, Current nonce: 5, nonce of rejected tx: 4.", Refused::NonceUsed),
            ("replacement transaction underpriced", Refused::Outbid),
            (
                "Transaction gas price supplied is too low. There is another transaction with same nonce",
                Refused::Outbid,
            ),
            ("max fee per gas less than block base fee", Refused::BelowMarket),
            (
                "max fee per gas less than block base fee: address 0xab, maxFeePerGas: 7, baseFee: 9",
                Refused::BelowMarket,
            ),
            ("Gas price below current base fee", Refused::BelowMarket),
            ("FeeTooLow, MaxFeePerGas too low. MaxFeePerGas: 7, BaseFee: 9", Refused::BelowMarket),
            ("transaction underpriced: gas tip cap 0, minimum needed 25000000000", Refused::BelowMarket),
            ("Insufficient funds for gas * price + value", Refused::Poor),
            ("Upfront cost exceeds account balance", Refused::Poor),
            ("intrinsic gas too low: gas 21000, minimum needed 21432", Refused::GasTooLow),
            ("Node is unhealthy", Refused::Node),
            ("unknown transaction type", Refused::Node),
            ("internal error", Refused::Unclear),
        ] {
            assert_eq!(refusal(&error(ErrorClass::Other, words)), want, "{words}");
        }
    }

    #[test]
    fn a_fault_of_the_nodes_is_none_of_the_transactions() {
        assert_eq!(refusal(&error(ErrorClass::Unsupported, "the method does not exist")), Refused::Node);
        assert_eq!(refusal(&error(ErrorClass::RateLimited, "too many requests")), Refused::Node);
        assert_eq!(refusal(&error(ErrorClass::Revert, "execution reverted")), Refused::Unclear);
        assert_eq!(refusal(&error(ErrorClass::Unsupported, "nonce too low")), Refused::NonceUsed);
        let invalid = |code| RpcError { code: Some(code), ..error(ErrorClass::Other, "no") };
        assert_eq!((refusal(&invalid(-32600)), refusal(&invalid(-32603))), (Refused::Node, Refused::Unclear));
    }

    /// What becomes of bytes, and how many nodes refuse them before the last that is asked.
    fn heard(answers: &[Result<(), Refused>]) -> (Handed, Option<Refused>, usize) {
        let mut handing = Handing::NOBODY;
        let asked = answers.iter().take_while(|answer| handing.hear(**answer)).count();
        (handing.handed, handing.refused, asked)
    }

    #[test]
    fn what_one_node_refuses_another_may_take() {
        assert_eq!(heard(&[Ok(()), Ok(())]), (Handed::Taken, None, 0));
        assert_eq!(heard(&[Err(Refused::Node), Err(Refused::Known)]), (Handed::Taken, None, 1));
        assert_eq!(heard(&[Err(Refused::Node), Err(Refused::Node)]), (Handed::No, None, 2));
        for refused in [Refused::Poor, Refused::BelowMarket, Refused::Outbid, Refused::GasTooLow] {
            assert_eq!(heard(&[Err(refused), Ok(())]), (Handed::Taken, None, 1), "{refused:?}");
            assert_eq!(heard(&[Err(refused), Err(Refused::Node)]), (Handed::No, Some(refused), 2), "{refused:?}");
        }
        let first = [Err(Refused::BelowMarket), Err(Refused::Poor)];
        assert_eq!(heard(&first), (Handed::No, Some(Refused::BelowMarket), 2));
        // Who has seen the nonce used knows more than who has not.
        let used = Some(Refused::NonceUsed);
        assert_eq!(heard(&[Err(Refused::Poor), Err(Refused::NonceUsed)]), (Handed::No, used, 2));
        assert_eq!(heard(&[Err(Refused::NonceUsed), Ok(())]), (Handed::Taken, used, 1));
    }

    #[test]
    fn what_one_node_may_have_is_not_taken_back_by_another() {
        let poor = Some(Refused::Poor);
        assert_eq!(heard(&[Err(Refused::Unclear), Err(Refused::Poor)]), (Handed::Maybe, poor, 2));
        assert_eq!(heard(&[Err(Refused::Unclear), Err(Refused::Node)]), (Handed::Maybe, None, 2));
    }

    #[test]
    fn a_version_that_a_node_may_have_stays_so() {
        let sent = |stored, fresh, handed| {
            let mut sends = Sends::first(stored, fresh);
            let during = sends.handed();
            assert!(sends.finish(handed));
            (during, sends.handed())
        };
        assert_eq!(sent(Handed::Maybe, true, Handed::No), (Handed::Maybe, Handed::No));
        assert_eq!(sent(Handed::Maybe, false, Handed::No), (Handed::Maybe, Handed::Maybe));
        assert_eq!(sent(Handed::No, false, Handed::No), (Handed::Maybe, Handed::No));
        assert_eq!(sent(Handed::Taken, false, Handed::No), (Handed::Taken, Handed::Taken));
        assert_eq!(sent(Handed::No, false, Handed::Taken), (Handed::Maybe, Handed::Taken));
    }

    #[test]
    fn while_one_send_is_under_way_another_ones_refusal_is_no_answer() {
        let mut sends = Sends::first(Handed::Maybe, true);
        sends.begin();
        assert!(!sends.finish(Handed::No));
        assert_eq!(sends.handed(), Handed::Maybe);
        assert!(sends.finish(Handed::No));
        assert_eq!(sends.handed(), Handed::No);
    }
}

//! What a node's refusal of a transaction means, and whether a node may have the bytes all the same.

use serde::{Deserialize, Serialize};
use x402_chain::facts::{ErrorClass, RpcError};

/// Whether a node has a transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeAcceptance {
    /// No node has it: each that was asked refused it, or none was asked.
    No,
    /// A node may have it: its answer was lost or unclear, as for a version that was stored before a crash.
    #[default]
    Maybe,
    /// A node has accepted it.
    Taken,
}

/// What a node's refusal of a transaction means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendRefusal {
    /// The node has this very transaction already.
    Known,
    /// Another transaction has used the nonce.
    NonceUsed,
    /// Another transaction waits under this nonce, at a price that this one does not exceed enough.
    Outbid,
    /// The price is below what the next block takes.
    BelowMarket,
    /// The signer cannot pay the gas.
    SignerUnfunded,
    /// The gas limit does not cover the cost of the bytes (intrinsic gas).
    GasTooLow,
    /// The node is at fault, not the transaction: another node may accept it.
    Node,
    /// The answer does not show whether the node accepted it.
    Unclear,
}

/// Parts of nodes' messages by meaning, lower case; the first that fits counts. They are of geth, its forks (bor,
/// op-geth, Nitro, reth, Erigon, anvil), Nethermind, Besu, and nodes that imitate them.
const WORDS: &[(&[&str], SendRefusal)] = &[
    // Otherwise "unknown transaction type" would match as a known transaction.
    (&["unknown transaction"], SendRefusal::Node),
    (
        &["already known", "alreadyknown", "already imported", "known transaction", "already in mempool"],
        SendRefusal::Known,
    ),
    (
        &["nonce too low", "nonce is too low", "nonce has already been used", "old nonce", "oldnonce"],
        SendRefusal::NonceUsed,
    ),
    (&["replacement", "could not replace", "with same nonce"], SendRefusal::Outbid),
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
        SendRefusal::BelowMarket,
    ),
    (
        &[
            "insufficient funds",
            "insufficientfunds",
            "insufficient balance",
            "upfront cost exceeds",
            "not enough balance",
        ],
        SendRefusal::SignerUnfunded,
    ),
    (&["intrinsic gas", "gaslimittoolow", "gas limit is too low"], SendRefusal::GasTooLow),
    (&["txpool is full", "transaction pool is full", "unhealthy", "syncing"], SendRefusal::Node),
];

/// Reads a node's refusal: first its message about the transaction, then the class of error.
#[must_use]
pub fn classify_refusal(error: &RpcError) -> SendRefusal {
    let words = error.message.to_lowercase();
    let by_words = WORDS.iter().find(|(needles, _)| needles.iter().any(|needle| words.contains(needle)));
    if let Some((_, refused)) = by_words {
        return *refused;
    }
    // A request that the node did not understand was not executed (JSON-RPC 2.0, section 5.1).
    if matches!(error.code, Some(-32700 | -32600 | -32601 | -32602)) {
        return SendRefusal::Node;
    }
    match error.class {
        ErrorClass::RateLimited
        | ErrorClass::Exhausted
        | ErrorClass::Pruned
        | ErrorClass::Behind
        | ErrorClass::Unsupported => SendRefusal::Node,
        ErrorClass::SignerUnfunded => SendRefusal::SignerUnfunded,
        ErrorClass::Underpriced => SendRefusal::BelowMarket,
        ErrorClass::Revert | ErrorClass::Halted | ErrorClass::TooLarge | ErrorClass::Other => SendRefusal::Unclear,
    }
}

/// The result of sending bytes to one node after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendOutcome {
    /// Whether a node has accepted the bytes, may have, or has not.
    pub acceptance: NodeAcceptance,
    /// The meaning of a refusal that is about the transaction and needs an action: the first of several, but "nonce
    /// used" before all others. If a node has the bytes, only "nonce used" is kept: a node that has seen the other
    /// transaction knows more.
    pub refusal: Option<SendRefusal>,
}

impl SendOutcome {
    /// Before the first node was asked.
    pub const UNSENT: Self = Self { acceptance: NodeAcceptance::No, refusal: None };

    /// Adds one node's answer; returns whether the next node must be asked too, since a refusal is the report of one
    /// node only.
    #[must_use]
    pub fn record_answer(&mut self, answer: Result<(), SendRefusal>) -> bool {
        let (handed, refused) = match answer {
            Ok(()) | Err(SendRefusal::Known) => (NodeAcceptance::Taken, None),
            Err(SendRefusal::Node) => (NodeAcceptance::No, None),
            Err(SendRefusal::Unclear) => (NodeAcceptance::Maybe, None),
            Err(refused) => (NodeAcceptance::No, Some(refused)),
        };
        self.acceptance = self.acceptance.max(handed);
        let used = Some(SendRefusal::NonceUsed);
        self.refusal = if refused == used { used } else { self.refusal.or(refused) };
        if self.acceptance == NodeAcceptance::Taken {
            self.refusal = self.refusal.filter(|refused| *refused == SendRefusal::NonceUsed);
        }
        self.acceptance != NodeAcceptance::Taken
    }
}

/// The running sends of one version: until all have been answered, a node may have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingSends {
    under_way: u32,
    known: NodeAcceptance,
}

impl PendingSends {
    /// The first send. `stored` is the acceptance known before; a `fresh` version was signed in this turn, so no node
    /// has it.
    #[must_use]
    pub const fn first(stored: NodeAcceptance, fresh: bool) -> Self {
        Self { under_way: 1, known: if fresh { NodeAcceptance::No } else { stored } }
    }

    /// Notes that another send has begun.
    pub const fn begin(&mut self) {
        self.under_way = self.under_way.saturating_add(1);
    }

    /// Notes the answer to a send; returns whether it was the last.
    #[must_use]
    pub fn finish(&mut self, handed: NodeAcceptance) -> bool {
        self.under_way = self.under_way.saturating_sub(1);
        self.known = self.known.max(handed);
        self.under_way == 0
    }

    /// The acceptance of the version known by now.
    #[must_use]
    pub fn acceptance(&self) -> NodeAcceptance {
        if self.under_way == 0 { self.known } else { self.known.max(NodeAcceptance::Maybe) }
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
            ("already known", SendRefusal::Known),
            ("transaction already imported", SendRefusal::Known),
            ("nonce too low: next nonce 5, tx nonce 4", SendRefusal::NonceUsed),
            ("OldNonce, Current nonce: 5, nonce of rejected tx: 4.", SendRefusal::NonceUsed),
            ("replacement transaction underpriced", SendRefusal::Outbid),
            (
                "Transaction gas price supplied is too low. There is another transaction with same nonce",
                SendRefusal::Outbid,
            ),
            ("max fee per gas less than block base fee", SendRefusal::BelowMarket),
            (
                "max fee per gas less than block base fee: address 0xab, maxFeePerGas: 7, baseFee: 9",
                SendRefusal::BelowMarket,
            ),
            ("Gas price below current base fee", SendRefusal::BelowMarket),
            ("FeeTooLow, MaxFeePerGas too low. MaxFeePerGas: 7, BaseFee: 9", SendRefusal::BelowMarket),
            ("transaction underpriced: gas tip cap 0, minimum needed 25000000000", SendRefusal::BelowMarket),
            ("Insufficient funds for gas * price + value", SendRefusal::SignerUnfunded),
            ("Upfront cost exceeds account balance", SendRefusal::SignerUnfunded),
            ("intrinsic gas too low: gas 21000, minimum needed 21432", SendRefusal::GasTooLow),
            ("Node is unhealthy", SendRefusal::Node),
            ("unknown transaction type", SendRefusal::Node),
            ("internal error", SendRefusal::Unclear),
        ] {
            assert_eq!(classify_refusal(&error(ErrorClass::Other, words)), want, "{words}");
        }
    }

    #[test]
    fn a_fault_of_the_nodes_is_none_of_the_transactions() {
        assert_eq!(classify_refusal(&error(ErrorClass::Unsupported, "the method does not exist")), SendRefusal::Node);
        assert_eq!(classify_refusal(&error(ErrorClass::RateLimited, "too many requests")), SendRefusal::Node);
        assert_eq!(classify_refusal(&error(ErrorClass::Revert, "execution reverted")), SendRefusal::Unclear);
        assert_eq!(classify_refusal(&error(ErrorClass::Unsupported, "nonce too low")), SendRefusal::NonceUsed);
        let invalid = |code| RpcError { code: Some(code), ..error(ErrorClass::Other, "no") };
        assert_eq!(
            (classify_refusal(&invalid(-32600)), classify_refusal(&invalid(-32603))),
            (SendRefusal::Node, SendRefusal::Unclear)
        );
    }

    /// What becomes of bytes, and how many nodes refuse them before the last that is asked.
    fn outcome_of(answers: &[Result<(), SendRefusal>]) -> (NodeAcceptance, Option<SendRefusal>, usize) {
        let mut handing = SendOutcome::UNSENT;
        let asked = answers.iter().take_while(|answer| handing.record_answer(**answer)).count();
        (handing.acceptance, handing.refusal, asked)
    }

    #[test]
    fn what_one_node_refuses_another_may_take() {
        assert_eq!(outcome_of(&[Ok(()), Ok(())]), (NodeAcceptance::Taken, None, 0));
        assert_eq!(outcome_of(&[Err(SendRefusal::Node), Err(SendRefusal::Known)]), (NodeAcceptance::Taken, None, 1));
        assert_eq!(outcome_of(&[Err(SendRefusal::Node), Err(SendRefusal::Node)]), (NodeAcceptance::No, None, 2));
        for refused in
            [SendRefusal::SignerUnfunded, SendRefusal::BelowMarket, SendRefusal::Outbid, SendRefusal::GasTooLow]
        {
            assert_eq!(outcome_of(&[Err(refused), Ok(())]), (NodeAcceptance::Taken, None, 1), "{refused:?}");
            assert_eq!(
                outcome_of(&[Err(refused), Err(SendRefusal::Node)]),
                (NodeAcceptance::No, Some(refused), 2),
                "{refused:?}"
            );
        }
        let first = [Err(SendRefusal::BelowMarket), Err(SendRefusal::SignerUnfunded)];
        assert_eq!(outcome_of(&first), (NodeAcceptance::No, Some(SendRefusal::BelowMarket), 2));
        // Who has seen the nonce used knows more than who has not.
        let used = Some(SendRefusal::NonceUsed);
        assert_eq!(
            outcome_of(&[Err(SendRefusal::SignerUnfunded), Err(SendRefusal::NonceUsed)]),
            (NodeAcceptance::No, used, 2)
        );
        assert_eq!(outcome_of(&[Err(SendRefusal::NonceUsed), Ok(())]), (NodeAcceptance::Taken, used, 1));
    }

    #[test]
    fn what_one_node_may_have_is_not_taken_back_by_another() {
        let poor = Some(SendRefusal::SignerUnfunded);
        assert_eq!(
            outcome_of(&[Err(SendRefusal::Unclear), Err(SendRefusal::SignerUnfunded)]),
            (NodeAcceptance::Maybe, poor, 2)
        );
        assert_eq!(outcome_of(&[Err(SendRefusal::Unclear), Err(SendRefusal::Node)]), (NodeAcceptance::Maybe, None, 2));
    }

    #[test]
    fn a_version_that_a_node_may_have_stays_so() {
        let sent = |stored, fresh, handed| {
            let mut sends = PendingSends::first(stored, fresh);
            let during = sends.acceptance();
            assert!(sends.finish(handed));
            (during, sends.acceptance())
        };
        assert_eq!(sent(NodeAcceptance::Maybe, true, NodeAcceptance::No), (NodeAcceptance::Maybe, NodeAcceptance::No));
        assert_eq!(
            sent(NodeAcceptance::Maybe, false, NodeAcceptance::No),
            (NodeAcceptance::Maybe, NodeAcceptance::Maybe)
        );
        assert_eq!(sent(NodeAcceptance::No, false, NodeAcceptance::No), (NodeAcceptance::Maybe, NodeAcceptance::No));
        assert_eq!(
            sent(NodeAcceptance::Taken, false, NodeAcceptance::No),
            (NodeAcceptance::Taken, NodeAcceptance::Taken)
        );
        assert_eq!(
            sent(NodeAcceptance::No, false, NodeAcceptance::Taken),
            (NodeAcceptance::Maybe, NodeAcceptance::Taken)
        );
    }

    #[test]
    fn while_one_send_is_under_way_another_ones_refusal_is_no_answer() {
        let mut sends = PendingSends::first(NodeAcceptance::Maybe, true);
        sends.begin();
        assert!(!sends.finish(NodeAcceptance::No));
        assert_eq!(sends.acceptance(), NodeAcceptance::Maybe);
        assert!(sends.finish(NodeAcceptance::No));
        assert_eq!(sends.acceptance(), NodeAcceptance::No);
    }
}

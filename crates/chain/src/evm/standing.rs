//! Which blocks are still canonical, and which are final, as one node reports in one round: the answer for every
//! transaction that was read in them. A block's hash stands for its transactions.

use super::{answered_value, block, calls, check_chain, quantity};
use crate::facts::{Call, Facts, RpcReply, Undecided};
use crate::network::Network;
use std::collections::{BTreeMap, BTreeSet};

/// The most blocks of one round: with the head, the final block and the chain, ten calls, which providers take that limit
/// batches.
pub const BLOCKS_MAX: usize = 7;

/// What a node reports of blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockStanding {
    head: u64,
    /// `None` where the node does not say what is final.
    finalized: Option<u64>,
    /// The hash of the canonical block at each height, lower-case hex.
    canonical: BTreeMap<u64, String>,
}

/// How a block stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Canonical and final, with so many confirmations.
    Final(u64),
    /// Canonical, and not final yet.
    Canonical,
    /// The node does not show it, or does not say what is final.
    Unclear,
}

impl BlockStanding {
    /// How the block of this height and hash stands.
    #[must_use]
    pub fn of(&self, height: u64, hash: &str) -> Standing {
        let is_canonical = self.head >= height && self.canonical.get(&height).is_some_and(|found| found == hash);
        match self.finalized {
            Some(finalized) if is_canonical && finalized >= height => {
                Standing::Final(self.head.saturating_sub(height).saturating_add(1))
            }
            Some(_) if is_canonical => Standing::Canonical,
            Some(_) | None => Standing::Unclear,
        }
    }
}

/// The calls of the round.
#[must_use]
pub fn calls(heights: &BTreeSet<u64>) -> Vec<Call> {
    let [head, chain_id, tag] = node_calls();
    [head, chain_id, tag].into_iter().chain(heights.iter().map(|height| calls::block_call(*height))).collect()
}

/// The calls about the node: its head, its chain, and what it reports as final.
fn node_calls() -> [Call; 3] {
    [calls::head_block_call(), calls::chain_id_call(), calls::finalized_block_call()]
}

/// Reads the standing of the blocks at these heights from the answers to [`calls`].
///
/// # Errors
/// [`Undecided::Missing`] where a call about the node has no answer; [`Undecided::Malformed`]: `wrong_chain`, `node_error`,
/// `malformed_quantity`, `malformed_block`, `block_of_another_height`.
pub fn read(network: &Network, heights: &BTreeSet<u64>, facts: &Facts) -> Result<BlockStanding, Undecided> {
    let [head, chain_id, tag] = facts.require_all(&node_calls())?;
    check_chain(network, chain_id)?;
    let head = quantity::number(&quantity::text(answered_value(head, "eth_blockNumber")?)?)?;
    let finalized = match tag {
        RpcReply::Error(_) => None,
        RpcReply::Value(value) => block::read(value)?.map(|block| block.number),
    };
    let mut canonical = BTreeMap::new();
    for height in heights.iter().copied() {
        // A block that this node lacks is left out: its payments are read themselves.
        let Some(RpcReply::Value(value)) = facts.get(&calls::block_call(height)) else { continue };
        let Some(block) = block::read(value)? else { continue };
        if block.number != height {
            return Err(Undecided::malformed_with("block_of_another_height", block.number));
        }
        canonical.insert(height, format!("0x{}", hex::encode(block.hash)));
    }
    Ok(BlockStanding { head, finalized, canonical })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{ErrorClass, RpcError};
    use crate::network::by_key;
    use serde_json::value::to_raw_value;
    use serde_json::{Value, json};

    fn hash(byte: &str) -> String {
        format!("0x{}", byte.repeat(32))
    }

    fn header(number: u64, byte: &str) -> Value {
        json!({"number": format!("{number:#x}"), "hash": hash(byte), "timestamp": "0x1"})
    }

    /// The standing by a node with head 102, where the blocks 99 and 100 have the hashes 0x99… and 0xaa….
    fn standing(chain_id: &str, tag: &Value, at_100: &Value) -> Result<BlockStanding, Undecided> {
        let mut facts = Facts::new();
        let heights = BTreeSet::from([99, 100]);
        let base = by_key("base").expect("registered");
        assert!(matches!(read(base, &heights, &facts), Err(Undecided::Missing(_))));
        let answers = [
            (calls::head_block_call(), json!("0x66")),
            (calls::chain_id_call(), json!(chain_id)),
            (calls::finalized_block_call(), tag.clone()),
            (calls::block_call(99), header(99, "99")),
            (calls::block_call(100), at_100.clone()),
        ];
        for (call, answer) in answers {
            let reply = if answer.is_boolean() {
                RpcReply::Error(RpcError { class: ErrorClass::Other, ..RpcError::too_large() })
            } else {
                RpcReply::Value(to_raw_value(&answer).expect("JSON"))
            };
            facts.insert(call, reply);
        }
        assert!(calls(&heights).iter().all(|call| facts.get(call).is_some()));
        read(base, &heights, &facts)
    }

    #[test]
    fn a_canonical_block_is_final_from_the_tag_on() {
        let found = |tag: u64| standing("0x2105", &header(tag, "77"), &header(100, "aa")).expect("an answer");
        assert_eq!(found(99).of(99, &hash("99")), Standing::Final(4));
        assert_eq!(found(99).of(100, &hash("aa")), Standing::Canonical);
        assert_eq!(found(100).of(100, &hash("aa")), Standing::Final(3));
        // Another block, or one that was not asked for, says nothing.
        assert_eq!(found(100).of(100, &hash("ab")), Standing::Unclear);
        assert_eq!(found(100).of(98, &hash("aa")), Standing::Unclear);
    }

    #[test]
    fn a_node_that_does_not_say_what_is_final_says_nothing() {
        for vague in [Value::Null, json!(true)] {
            let found = standing("0x2105", &vague, &header(100, "aa")).expect("an answer");
            assert_eq!(found.of(100, &hash("aa")), Standing::Unclear);
        }
        for absent in [Value::Null, json!(true)] {
            let found = standing("0x2105", &header(100, "77"), &absent).expect("an answer");
            assert_eq!(found.of(100, &hash("aa")), Standing::Unclear);
            assert_eq!(found.of(99, &hash("99")), Standing::Final(4));
        }
    }

    #[test]
    fn another_chain_or_another_block_is_no_answer() {
        let hazard = |chain_id: &str, at_100: &Value| match standing(chain_id, &header(99, "77"), at_100) {
            Err(Undecided::Malformed(malformed)) => malformed.hazard,
            other => panic!("{other:?}"),
        };
        assert_eq!(hazard("0x1", &header(100, "aa")), "wrong_chain");
        assert_eq!(hazard("0x2105", &header(101, "aa")), "block_of_another_height");
        assert_eq!(hazard("0x2105", &json!({"number": 100})), "malformed_block");
    }
}

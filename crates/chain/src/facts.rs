//! Calls to a chain and their replies, as data.
//!
//! One [`Facts`] holds the replies of one node: a decision never mixes two nodes.

use core::fmt;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::rc::Rc;

/// The most characters of a malformed answer that the log gets.
const DETAIL_MAX: usize = 200;

/// One JSON-RPC call: a method and its parameters as the text of a JSON array.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    /// The method: `eth_getTransactionReceipt`.
    pub method: &'static str,
    /// The parameters: `["0x…"]`. They may be long, and a call is cloned often.
    pub params: Rc<str>,
}

impl Call {
    /// A call with its parameters.
    #[must_use]
    pub fn new(method: &'static str, params: &serde_json::Value) -> Self {
        Self { method, params: params.to_string().into() }
    }
}

/// The class of a node's error (docs/spec/chains.md#json-rpc).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// The call was executed and reverted: an answer about the contract.
    Revert,
    /// The EVM halted the call: out of gas, or an invalid instruction. This too is an answer about the contract.
    Halted,
    /// The sender cannot pay for the gas; nothing was executed.
    SignerUnfunded,
    /// The price is below the block's base fee; nothing was executed.
    Underpriced,
    /// Too many requests for now.
    RateLimited,
    /// The plan's day or month is used up.
    Exhausted,
    /// The node does not keep the state or history asked for.
    Pruned,
    /// The node is behind, or does not know the block or tag yet.
    Behind,
    /// The node does not know the method, the parameters or the transaction version.
    Unsupported,
    /// The answer was larger than our limit; no node reports this.
    TooLarge,
    /// An error that is not classified.
    Other,
}

/// A node's error answer. The message is for the log, cut to 200 characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RpcError {
    /// The class of the error, the same for all nodes' spellings of it.
    pub class: ErrorClass,
    /// The JSON-RPC code, where it had one.
    pub code: Option<i64>,
    /// The node's message, cut to 200 characters; for the log only.
    pub message: String,
}

impl RpcError {
    /// Stands for an answer that was cut off.
    #[must_use]
    pub const fn too_large() -> Self {
        Self { class: ErrorClass::TooLarge, code: None, message: String::new() }
    }
}

/// A node's reply to a call.
#[derive(Clone, Debug)]
pub enum RpcReply {
    /// The `result` member, `null` included.
    Value(Box<RawValue>),
    /// The `error` member, with its class.
    Error(RpcError),
}

impl RpcReply {
    /// Whether the node answered the call: with a value, or with an error that is the call's own result. After any
    /// other error another node must be asked (docs/spec/chains.md#json-rpc).
    #[must_use]
    pub(crate) const fn is_answer(&self) -> bool {
        match self {
            Self::Value(_) => true,
            Self::Error(error) => match error.class {
                ErrorClass::Revert | ErrorClass::Halted | ErrorClass::SignerUnfunded | ErrorClass::Underpriced => true,
                ErrorClass::RateLimited
                | ErrorClass::Exhausted
                | ErrorClass::Pruned
                | ErrorClass::Behind
                | ErrorClass::Unsupported
                | ErrorClass::TooLarge
                | ErrorClass::Other => false,
            },
        }
    }
}

/// Why a rule cannot decide, or not with this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undecided {
    /// These calls must be made first, in one round.
    Missing(Vec<Call>),
    /// The node's answer is malformed: another node must be asked. It never refuses a payment.
    Malformed(MalformedAnswer),
}

/// What was wrong with a node's answer: the hazard's name, and an excerpt for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MalformedAnswer {
    /// The hazard's name: `receipt_of_another_transaction`.
    pub hazard: &'static str,
    /// An excerpt; empty where the name says enough.
    pub detail: String,
}

impl Undecided {
    /// A malformed answer, by the hazard's name.
    #[must_use]
    pub fn malformed(hazard: &'static str) -> Self {
        Self::Malformed(MalformedAnswer { hazard, detail: String::new() })
    }

    /// A malformed answer, by the hazard's name, with an excerpt: what a parser says of an answer repeats its values, of any
    /// length.
    #[must_use]
    pub(crate) fn malformed_with(hazard: &'static str, detail: impl fmt::Display) -> Self {
        let detail = detail.to_string().chars().take(DETAIL_MAX).collect();
        Self::Malformed(MalformedAnswer { hazard, detail })
    }
}

/// The replies of one node, by call.
#[derive(Clone, Debug, Default)]
pub struct Facts(BTreeMap<Call, RpcReply>);

impl Facts {
    /// Facts without any answer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there is no reply.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keeps the reply to a call.
    pub fn insert(&mut self, call: Call, reply: RpcReply) {
        self.0.insert(call, reply);
    }

    /// The reply to a call, if it was made.
    #[must_use]
    pub fn get(&self, call: &Call) -> Option<&RpcReply> {
        self.0.get(call)
    }

    /// How many of these calls were answered, as [`RpcReply::is_answer`] has it.
    #[must_use]
    pub fn answered(&self, calls: &[Call]) -> usize {
        calls.iter().filter(|call| self.get(call).is_some_and(RpcReply::is_answer)).count()
    }

    /// Whether all these calls were made.
    ///
    /// # Errors
    /// [`Undecided::Missing`] with every call that has no answer yet.
    pub fn require<'a>(&self, calls: impl IntoIterator<Item = &'a Call>) -> Result<(), Undecided> {
        let missing: Vec<Call> = calls.into_iter().filter(|call| !self.0.contains_key(call)).cloned().collect();
        if missing.is_empty() { Ok(()) } else { Err(Undecided::Missing(missing)) }
    }

    /// All answers, or the calls that are missing.
    ///
    /// # Errors
    /// [`Undecided::Missing`] with every call that has no answer yet.
    pub(crate) fn require_all<'a, const N: usize>(&'a self, calls: &[Call; N]) -> Result<[&'a RpcReply; N], Undecided> {
        self.require(calls)?;
        let found: Vec<&RpcReply> = calls.iter().filter_map(|call| self.0.get(call)).collect();
        found.try_into().map_err(|_| Undecided::Missing(calls.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use serde_json::value::to_raw_value;

    #[test]
    fn an_error_that_is_not_the_calls_own_outcome_is_no_answer() {
        let calls: Vec<Call> = (0..4).map(|at| Call::new("eth_call", &json!([at]))).collect();
        let mut facts = Facts::new();
        let error = |class| RpcReply::Error(RpcError { class, code: None, message: String::new() });
        let null = RpcReply::Value(to_raw_value(&json!(null)).expect("JSON"));
        for (call, reply) in calls.iter().zip([null, error(ErrorClass::Revert), error(ErrorClass::Unsupported)]) {
            facts.insert(call.clone(), reply);
        }
        assert_eq!((facts.answered(&calls), facts.answered(&calls[..2]), facts.answered(&calls[2..])), (2, 2, 0));
    }
}

//! One round of calls to one provider: as a batch where it takes them, singly where it does not.

use super::now;
use super::post::{Failure, post};
use futures_util::future::join_all;
use std::cell::RefCell;
use std::collections::BTreeMap;
use x402_chain::batching::{Batching, Refused};
use x402_chain::facts::{Call, ErrorClass, Facts, Reply, RpcError};
use x402_chain::jsonrpc;
use x402_chain::network::Network;

thread_local! {
    /// What is known of the providers that have refused a batch.
    static BATCHING: RefCell<BTreeMap<String, Batching>> = const { RefCell::new(BTreeMap::new()) };
}

fn takes_batches(url: &str) -> bool {
    BATCHING.with_borrow(|all| all.get(url).is_none_or(|batching| batching.is_on(now())))
}

/// Why a request has no answer to any of its calls.
enum Unanswered {
    /// It failed, whatever it asked.
    Failed(Failure),
    /// The answer is about the whole request.
    Whole { failure: Failure, refuses_batch: bool },
}

/// Makes the calls and learns the answers; those to `optional` may be missing.
pub(super) async fn round_of(
    network: &Network,
    url: &str,
    required: &[Call],
    optional: &[Call],
    facts: &mut Facts,
) -> Result<(), Failure> {
    let calls: Vec<Call> = required.iter().chain(optional).cloned().collect();
    if calls.is_empty() {
        return Ok(());
    }
    let left = if jsonrpc::batches(network.family) && takes_batches(url) {
        match request(network, url, &calls).await {
            Ok(replies) => learn(facts, &calls, replies),
            // One answer makes it so: singly it shows which, and the others are had.
            Err(Unanswered::Failed(Failure::TooLarge)) => {}
            Err(Unanswered::Failed(failure)) => return Err(failure),
            Err(Unanswered::Whole { failure, .. }) if calls.len() == 1 => return Err(failure),
            Err(Unanswered::Whole { failure, refuses_batch }) => {
                one_by_one(network, url, &calls, required, facts).await.map_err(|singly| singly.unwrap_or(failure))?;
                let served = calls.iter().any(|call| matches!(facts.get(call), Some(Reply::Value(_))));
                let refused = Refused { refuses_batch, served };
                BATCHING.with_borrow_mut(|all| all.entry(url.to_owned()).or_default().note(refused, now()));
                return complete(required, facts);
            }
        }
        // What the batch left out, once more and singly.
        required.iter().filter(|call| is_open(facts, call)).cloned().collect()
    } else {
        calls
    };
    singly(network, url, &left, required, facts).await?;
    complete(required, facts)
}

/// The calls of a batch that was refused as a whole, the first alone: a provider that refuses that as well is asked
/// no more, and what it said of the batch stands (`None`) unless it is not there at all.
async fn one_by_one(
    network: &Network,
    url: &str,
    calls: &[Call],
    required: &[Call],
    facts: &mut Facts,
) -> Result<(), Option<Failure>> {
    let Some((first, rest)) = calls.split_first() else { return Ok(()) };
    if let Err(failure) = singly(network, url, core::slice::from_ref(first), required, facts).await {
        return Err(matches!(failure, Failure::Transport(_)).then_some(failure));
    }
    if complete(core::slice::from_ref(first), facts).is_err() {
        return Err(None);
    }
    singly(network, url, rest, required, facts).await.map_err(Some)
}

/// Makes calls of their own, at the same time.
async fn singly(
    network: &Network,
    url: &str,
    calls: &[Call],
    required: &[Call],
    facts: &mut Facts,
) -> Result<(), Failure> {
    let asked = join_all(calls.iter().map(|call| batch(network, url, core::slice::from_ref(call)))).await;
    for (call, outcome) in calls.iter().zip(asked) {
        match outcome {
            Ok(replies) => learn(facts, core::slice::from_ref(call), replies),
            Err(Failure::TooLarge) => facts.learn(call.clone(), Reply::Error(RpcError::too_large())),
            Err(failure) if required.contains(call) => return Err(failure),
            Err(_) => {}
        }
    }
    Ok(())
}

/// Whether a call has no answer yet, or one that the next try may better.
fn is_open(facts: &Facts, call: &Call) -> bool {
    match facts.get(call) {
        None => true,
        Some(Reply::Error(error)) => error.class == ErrorClass::RateLimited,
        Some(Reply::Value(_)) => false,
    }
}

/// Whether every required call was answered.
fn complete(required: &[Call], facts: &Facts) -> Result<(), Failure> {
    for call in required {
        match facts.get(call) {
            Some(Reply::Error(error)) if matches!(error.class, ErrorClass::RateLimited | ErrorClass::Exhausted) => {
                return Err(Failure::of(error, None));
            }
            Some(_) => {}
            None => return Err(Failure::Nonsense(format!("no answer to {}", call.method))),
        }
    }
    Ok(())
}

/// One request with some calls, whose failure is the provider's.
pub(super) async fn batch(network: &Network, url: &str, calls: &[Call]) -> Result<jsonrpc::Replies, Failure> {
    request(network, url, calls).await.map_err(|unanswered| match unanswered {
        Unanswered::Failed(failure) | Unanswered::Whole { failure, .. } => failure,
    })
}

async fn request(network: &Network, url: &str, calls: &[Call]) -> Result<jsonrpc::Replies, Unanswered> {
    let answer = post(url, &jsonrpc::encode(calls)).await.map_err(Unanswered::Failed)?;
    jsonrpc::decode(network.family, calls, answer.status, &answer.body).map_err(|whole| Unanswered::Whole {
        failure: Failure::of(&whole.error, answer.retry_after_s),
        refuses_batch: whole.refuses_batch,
    })
}

fn learn(facts: &mut Facts, calls: &[Call], replies: jsonrpc::Replies) {
    for (call, reply) in calls.iter().zip(replies) {
        if let Some(reply) = reply {
            facts.learn(call.clone(), reply);
        }
    }
}

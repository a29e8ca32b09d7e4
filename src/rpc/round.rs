//! One round of calls to one provider: as a batch where the provider accepts batches, else one by one.

use super::now;
use super::post::{ProviderFailure, post_json};
use super::shared::{self, SharedAnswer};
use crate::request_trace::{self, ProviderCall};
use futures_util::future::{LocalBoxFuture, join_all};
use std::cell::RefCell;
use std::collections::BTreeMap;
use worker::Context;
use x402_api::server_timing::RequestStep;
use x402_chain::batching::{BatchRefusal, BatchSupport};
use x402_chain::facts::{Call, ErrorClass, Facts, RpcError, RpcReply};
use x402_chain::jsonrpc;
use x402_chain::network::Network;
use x402_core::settings::provider::host;

thread_local! {
    /// What is known of the providers that have refused a batch.
    static BATCHING: RefCell<BTreeMap<String, BatchSupport>> = const { RefCell::new(BTreeMap::new()) };
}

fn provider_takes_batches(url: &str) -> bool {
    BATCHING.with_borrow(|all| all.get(url).is_none_or(|batching| batching.is_on(now())))
}

/// How calls ended that went in a request with those of other payments.
const SHARED: &str = "shared";
const SHARED_RATE_LIMITED: &str = "shared_rate_limited";

/// Whom a round of calls asks.
#[derive(Clone, Copy)]
pub(super) struct Provider<'a> {
    pub(super) network: &'static Network,
    pub(super) url: &'a str,
    /// The request's context, where the calls may go in one request with those of other payments.
    pub(super) shares: Option<&'a Context>,
}

/// Why a request has no answer to any of its calls.
enum Unanswered {
    /// The request failed, whatever it asked.
    Failed(ProviderFailure),
    /// The answer is about the whole request, not about a call.
    Whole { failure: ProviderFailure, refuses_batch: bool },
}

/// Makes the calls and stores the replies; those to `optional` may be missing.
///
/// Boxed, as [`super::post::PendingAnswer`] is.
pub(super) fn call_round<'a>(
    provider: Provider<'a>,
    required: &'a [Call],
    optional: &'a [Call],
    facts: &'a mut Facts,
) -> LocalBoxFuture<'a, Result<(), ProviderFailure>> {
    Box::pin(run_round(provider, required, optional, facts))
}

async fn run_round(
    provider: Provider<'_>,
    required: &[Call],
    optional: &[Call],
    facts: &mut Facts,
) -> Result<(), ProviderFailure> {
    let Provider { network, url, .. } = provider;
    let calls: Vec<Call> = required.iter().chain(optional).cloned().collect();
    if calls.is_empty() {
        return Ok(());
    }
    let left = if jsonrpc::takes_batches(network.family) && provider_takes_batches(url) {
        match post_or_share(provider, &calls).await {
            Ok(replies) => insert_replies(facts, &calls, replies),
            // One call was too large: asked one by one, the others are answered.
            Err(Unanswered::Failed(ProviderFailure::TooLarge)) => {}
            Err(Unanswered::Failed(failure)) => return Err(failure),
            Err(Unanswered::Whole { failure, .. }) if calls.len() == 1 => return Err(failure),
            Err(Unanswered::Whole { failure, refuses_batch }) => {
                call_singly_from_first(network, url, &calls, required, facts)
                    .await
                    .map_err(|singly| singly.unwrap_or(failure))?;
                let served = calls.iter().any(|call| matches!(facts.get(call), Some(RpcReply::Value(_))));
                let refused = BatchRefusal { refuses_batch, served };
                BATCHING.with_borrow_mut(|all| all.entry(url.to_owned()).or_default().note_refusal(refused, now()));
                return require_answers(required, facts);
            }
        }
        // Calls that the batch left out, once more and one by one.
        required.iter().filter(|call| is_open(facts, call)).cloned().collect()
    } else {
        calls
    };
    call_singly(network, url, &left, required, facts).await?;
    require_answers(required, facts)
}

/// The calls of a refused batch, the first alone: if the provider refuses that too, no other is asked, and its error
/// about the batch counts (`None`), unless the provider cannot be reached.
async fn call_singly_from_first(
    network: &'static Network,
    url: &str,
    calls: &[Call],
    required: &[Call],
    facts: &mut Facts,
) -> Result<(), Option<ProviderFailure>> {
    let Some((first, rest)) = calls.split_first() else { return Ok(()) };
    if let Err(failure) = call_singly(network, url, core::slice::from_ref(first), required, facts).await {
        return Err(matches!(failure, ProviderFailure::Transport(_)).then_some(failure));
    }
    if require_answers(core::slice::from_ref(first), facts).is_err() {
        return Err(None);
    }
    call_singly(network, url, rest, required, facts).await.map_err(Some)
}

/// Makes single calls at the same time.
async fn call_singly(
    network: &'static Network,
    url: &str,
    calls: &[Call],
    required: &[Call],
    facts: &mut Facts,
) -> Result<(), ProviderFailure> {
    let asked = join_all(calls.iter().map(|call| call_batch(network, url, core::slice::from_ref(call)))).await;
    for (call, outcome) in calls.iter().zip(asked) {
        match outcome {
            Ok(replies) => insert_replies(facts, core::slice::from_ref(call), replies),
            Err(ProviderFailure::TooLarge) => facts.insert(call.clone(), RpcReply::Error(RpcError::too_large())),
            Err(failure) if required.contains(call) => return Err(failure),
            Err(_) => {}
        }
    }
    Ok(())
}

/// Whether a call has no answer yet, or one that a second try may improve.
fn is_open(facts: &Facts, call: &Call) -> bool {
    match facts.get(call) {
        None => true,
        Some(RpcReply::Error(error)) => error.class == ErrorClass::RateLimited,
        Some(RpcReply::Value(_)) => false,
    }
}

/// Whether every required call was answered.
fn require_answers(required: &[Call], facts: &Facts) -> Result<(), ProviderFailure> {
    for call in required {
        match facts.get(call) {
            Some(RpcReply::Error(error)) if matches!(error.class, ErrorClass::RateLimited | ErrorClass::Exhausted) => {
                return Err(ProviderFailure::of(error, None));
            }
            Some(_) => {}
            None => return Err(ProviderFailure::Malformed(format!("no answer to {}", call.method))),
        }
    }
    Ok(())
}

/// One request with some calls; its failure is the provider's.
pub(super) async fn call_batch(
    network: &'static Network,
    url: &str,
    calls: &[Call],
) -> Result<jsonrpc::Replies, ProviderFailure> {
    post_calls(network, url, calls).await.map_err(|unanswered| match unanswered {
        Unanswered::Failed(failure) | Unanswered::Whole { failure, .. } => failure,
    })
}

/// One request with some calls, or with those of other payments too.
async fn post_or_share(
    Provider { network, url, shares }: Provider<'_>,
    calls: &[Call],
) -> Result<jsonrpc::Replies, Unanswered> {
    let flight = match shares {
        None => None,
        Some(context) => match ask_with_others(context, network, url, calls).await {
            SharedAnswer::Replies(replies) => return Ok(replies),
            SharedAnswer::RateLimited(after_s) => {
                return Err(Unanswered::Failed(ProviderFailure::RateLimited(after_s)));
            }
            SharedAnswer::Apart(flight) => flight,
        },
    };
    let replies = post_calls(network, url, calls).await;
    drop(flight);
    replies
}

/// Asks together with other payments. The request that several share belongs to the trace of none.
async fn ask_with_others(context: &Context, network: &'static Network, url: &str, calls: &[Call]) -> SharedAnswer {
    let (_asking, began) = (request_trace::step(RequestStep::Chain), now());
    let answer = shared::ask(context, network, url, calls).await;
    let outcome = match &answer {
        SharedAnswer::Replies(_) => SHARED,
        SharedAnswer::RateLimited(_) => SHARED_RATE_LIMITED,
        // Nobody was asked yet.
        SharedAnswer::Apart(_) => return answer,
    };
    let at = now();
    request_trace::note_call(ProviderCall { at, network, host: host(url), outcome, ms: at.since(began) });
    answer
}

async fn post_calls(network: &'static Network, url: &str, calls: &[Call]) -> Result<jsonrpc::Replies, Unanswered> {
    let answer = post_json(network, url, &jsonrpc::encode(calls)).await.map_err(Unanswered::Failed)?;
    jsonrpc::decode(network.family, calls, answer.status, &answer.body).map_err(|whole| Unanswered::Whole {
        failure: ProviderFailure::of(&whole.error, answer.retry_after_s),
        refuses_batch: whole.refuses_batch,
    })
}

fn insert_replies(facts: &mut Facts, calls: &[Call], replies: jsonrpc::Replies) {
    for (call, reply) in calls.iter().zip(replies) {
        if let Some(reply) = reply {
            facts.insert(call.clone(), reply);
        }
    }
}

//! Sends bytes to one provider after another until one accepts them: what one refuses, another may accept.

use super::post::ProviderFailure;
use super::{DEADLINE_MS, call_batch, note_attempt, now, order_providers};
use x402_chain::breaker::AttemptOutcome;
use x402_chain::facts::{Call, ErrorClass, RpcReply};
use x402_chain::network::Network;
use x402_core::settlement::refusal::{SendOutcome, SendRefusal, classify_refusal};

/// Makes the call that sends signed bytes. Returns whether a node has them, and the message of the last node that did
/// not accept them.
pub(crate) async fn send_bytes(network: &'static Network, providers: &[&str], call: &Call) -> (SendOutcome, String) {
    let (mut handing, mut words) = (SendOutcome::UNSENT, String::new());
    let began = now();
    for at in order_providers(providers, began) {
        let Some(url) = providers.get(at).filter(|_| now().since(began) < DEADLINE_MS) else { continue };
        let asked = now();
        let answer =
            match call_batch(network, url, core::slice::from_ref(call)).await.map(|replies| replies.into_iter().next())
            {
                Ok(Some(Some(RpcReply::Value(_)))) => {
                    note_attempt(url, AttemptOutcome::Answered { took_ms: now().since(asked), head: None });
                    Ok(())
                }
                Ok(Some(Some(RpcReply::Error(error)))) => {
                    if matches!(error.class, ErrorClass::RateLimited | ErrorClass::Exhausted) {
                        note_attempt(url, ProviderFailure::of(&error, None).attempt_outcome());
                    }
                    let refused = classify_refusal(&error);
                    words = error.message;
                    Err(refused)
                }
                Ok(Some(None) | None) => Err(SendRefusal::Unclear),
                Err(failure) => {
                    note_attempt(url, failure.attempt_outcome());
                    words = failure.to_string();
                    match failure {
                        ProviderFailure::RateLimited(_) | ProviderFailure::Exhausted => Err(SendRefusal::Node),
                        ProviderFailure::Transport(_)
                        | ProviderFailure::TooLarge
                        | ProviderFailure::Refused(_)
                        | ProviderFailure::Malformed(_) => Err(SendRefusal::Unclear),
                    }
                }
            };
        if !handing.record_answer(answer) {
            break;
        }
    }
    (handing, words)
}

//! Bytes are handed to one provider after another until one has them: what one
//! refuses, for whatever reason, another may take.

use super::post::Failure;
use super::{DEADLINE_MS, batch, note, now, order};
use x402_chain::breaker::Ending;
use x402_chain::facts::{Call, ErrorClass, Reply};
use x402_chain::network::Network;
use x402_core::settlement::refusal::{Handing, Refused, refusal};

/// Makes the call that sends signed bytes; answers what became of them, and the words of the last node that did not
/// take them.
pub(crate) async fn hand(network: &'static Network, providers: &[&str], call: &Call) -> (Handing, String) {
    let (mut handing, mut words) = (Handing::NOBODY, String::new());
    let began = now();
    for at in order(providers, began) {
        let Some(url) = providers.get(at).filter(|_| now().since(began) < DEADLINE_MS) else { continue };
        let asked = now();
        let answer =
            match batch(network, url, core::slice::from_ref(call)).await.map(|replies| replies.into_iter().next()) {
                Ok(Some(Some(Reply::Value(_)))) => {
                    note(url, Ending::Answered { took_ms: now().since(asked), head: None });
                    Ok(())
                }
                Ok(Some(Some(Reply::Error(error)))) => {
                    if matches!(error.class, ErrorClass::RateLimited | ErrorClass::Exhausted) {
                        note(url, Failure::of(&error, None).ending());
                    }
                    let refused = refusal(&error);
                    words = error.message;
                    Err(refused)
                }
                Ok(Some(None) | None) => Err(Refused::Unclear),
                Err(failure) => {
                    note(url, failure.ending());
                    words = failure.to_string();
                    match failure {
                        Failure::RateLimited(_) | Failure::Exhausted => Err(Refused::Node),
                        Failure::Transport(_) | Failure::TooLarge | Failure::Refused(_) | Failure::Nonsense(_) => {
                            Err(Refused::Unclear)
                        }
                    }
                }
            };
        if !handing.hear(answer) {
            break;
        }
    }
    (handing, words)
}

//! Asks providers one after another: until a rule's decision counts, or until every call of a round is answered.

use super::post;
use super::post::ProviderFailure;
use super::{DEADLINE_MS, Provider, READ_ROUNDS_MAX, call_round, note_attempt, now, order_providers};
use crate::telemetry::{TelemetryField, TelemetryKind, event};
use futures_util::future::{Either, select};
use std::pin::pin;
use std::time::Duration;
use worker::{Context, Delay};
use x402_chain::address::Address;
use x402_chain::breaker::AttemptOutcome;
use x402_chain::confirm::{NextStep, NodeAnswer, NodeHeight, NodeVerdict, StateDecision, VerdictBasis, next_step};
use x402_chain::facts::{Call, Facts, Undecided};
use x402_chain::network::Network;
use x402_chain::quorum::agreed_answer;
use x402_chain::reader;
use x402_chain::reader::{head_call, read_head};
use x402_chain::trace::{Party, PartyFacts};
use x402_core::settings::provider::host;

/// One provider, and the rule's decision on its answers.
struct AskedProvider<'a, T> {
    url: &'a str,
    decided: Option<T>,
    height: NodeHeight,
}

impl<T: StateDecision> AskedProvider<'_, T> {
    fn answer(&self) -> NodeAnswer<T::Refusal> {
        let word = match self.decided.as_ref().map(StateDecision::refusal) {
            None => NodeVerdict::Failed,
            Some(None) => NodeVerdict::Definite,
            Some(Some(refusal)) => NodeVerdict::Refuses(refusal),
        };
        NodeAnswer { verdict: word, height: self.height }
    }
}

/// Lets a rule decide on one provider's answers, and asks another where that one is unusable or its refusal needs
/// confirmation. An acceptance counts at once. With a context in `shares`, the calls may go in one HTTP request with those
/// of other payments in this isolate.
pub(crate) async fn decide_by_providers<T: StateDecision>(
    network: &'static Network,
    providers: &[&str],
    shares: Option<&Context>,
    rule: impl Fn(&Facts) -> Result<T, Undecided>,
) -> Option<(T, VerdictBasis)> {
    let began = now();
    let first = match rule(&Facts::new()) {
        // A decision without a call shows nothing about a provider.
        Ok(decided) => return Some((decided, VerdictBasis::Definite)),
        Err(Undecided::Missing(calls)) => calls,
        Err(Undecided::Malformed(_)) => return None,
    };
    let mut next = order_providers(providers, began).into_iter();
    let mut asked: Vec<AskedProvider<'_, T>> = Vec::new();
    loop {
        let answers: Vec<NodeAnswer<T::Refusal>> = asked.iter().map(AskedProvider::answer).collect();
        let is_disputed = answers.iter().any(|answer| matches!(answer.verdict, NodeVerdict::Refuses(_)));
        let in_time = now().since(began) < DEADLINE_MS;
        match next_step(&answers, providers.len(), in_time) {
            NextStep::Settled(place, basis) => {
                let decided = asked.into_iter().nth(place)?.decided?;
                return Some((decided, basis));
            }
            NextStep::Unavailable => return None,
            NextStep::Ask => {
                let url = next.next().and_then(|place| providers.get(place).copied())?;
                let (decided, height) =
                    ask_one_provider(Provider { network, url, shares }, (&first, is_disputed), &rule).await;
                asked.push(AskedProvider { url, decided, height });
            }
            NextStep::Again(place) => {
                let again = asked.get_mut(place)?;
                let (decided, height) =
                    ask_one_provider(Provider { network, url: again.url, shares }, (&first, true), &rule).await;
                again.height = if height == NodeHeight::NotAsked { NodeHeight::Unknown } else { height };
                // A provider that does not answer any more has refused all the same.
                again.decided = decided.or_else(|| again.decided.take());
            }
        }
    }
}

/// Lets a rule decide on each provider's own answers, until two providers lead to the same decision; that of the only
/// provider that is configured counts alone. `None` where no two agree, or the time is over.
pub(crate) async fn decide_by_agreement<T: PartialEq>(
    network: &'static Network,
    providers: &[&str],
    rule: impl Fn(&Facts) -> Result<T, Undecided>,
) -> Option<T> {
    let began = now();
    let first = match rule(&Facts::new()) {
        // No provider was needed.
        Ok(decided) => return Some(decided),
        Err(Undecided::Missing(calls)) => calls,
        Err(Undecided::Malformed(_)) => return None,
    };
    let mut decisions = Vec::new();
    for url in order_providers(providers, began).into_iter().filter_map(|place| providers.get(place).copied()) {
        if now().since(began) >= DEADLINE_MS {
            return None;
        }
        let (decided, _) = ask_one_provider(Provider { network, url, shares: None }, (&first, false), &rule).await;
        decisions.extend(decided);
        if agreed_answer(&decisions, providers.len()).is_some() {
            // It is the last one: the others had agreed on nothing.
            return decisions.pop();
        }
    }
    None
}

/// The answers of one provider to a round of calls: of the first in order, or of the next one where it fails. `None` where
/// both do.
pub(crate) async fn call_one_provider(network: &'static Network, providers: &[&str], calls: &[Call]) -> Option<Facts> {
    for url in order_providers(providers, now()).into_iter().take(2).filter_map(|place| providers.get(place)) {
        let (began, mut facts) = (now(), Facts::new());
        let ending = match call_round(Provider { network, url, shares: None }, calls, &[], &mut facts).await {
            Ok(()) => AttemptOutcome::Answered { took_ms: now().since(began), head: None },
            Err(failure) => failure.attempt_outcome(),
        };
        let is_answered = matches!(ending, AttemptOutcome::Answered { .. });
        note_attempt(url, ending);
        if is_answered {
            return Some(facts);
        }
    }
    None
}

/// Asks one provider in rounds, in the first round for its height too, if that is needed. `None`: it gave no usable
/// answer.
async fn ask_one_provider<T>(
    provider: Provider<'_>,
    (first, wants_height): (&[Call], bool),
    rule: &impl Fn(&Facts) -> Result<T, Undecided>,
) -> (Option<T>, NodeHeight) {
    let Provider { network, url, .. } = provider;
    let began = now();
    let (mut facts, mut missing) = (Facts::new(), first.to_vec());
    let head = wants_height.then(|| head_call(network));
    let mut optional = head.as_slice();
    let mut outcome = Err(ProviderFailure::Malformed("questions without end".to_owned()));
    for _ in 0..READ_ROUNDS_MAX {
        if let Err(failure) = call_round(provider, &missing, optional, &mut facts).await {
            outcome = Err(failure);
            break;
        }
        optional = &[];
        match rule(&facts) {
            Ok(decided) => {
                outcome = Ok(decided);
                break;
            }
            Err(Undecided::Missing(calls)) => missing = calls,
            Err(Undecided::Malformed(nonsense)) => {
                outcome = Err(ProviderFailure::Malformed(format!("{} {}", nonsense.hazard, nonsense.detail)));
                break;
            }
        }
    }
    let block = head.as_ref().and_then(|head| read_head(&facts, head));
    let height = match (&head, block) {
        (None, _) => NodeHeight::NotAsked,
        (Some(_), None) => NodeHeight::Unknown,
        (Some(_), Some(block)) => NodeHeight::At(block),
    };
    match outcome {
        Ok(decided) => {
            note_attempt(url, AttemptOutcome::Answered { took_ms: now().since(began), head: block });
            (Some(decided), height)
        }
        Err(failure) => {
            note_attempt(url, failure.attempt_outcome());
            let failures = format!("{}: {failure}", host(url));
            event(TelemetryKind::ProviderFailed, &[TelemetryField::Chain(network), TelemetryField::Failures(failures)]);
            (None, height)
        }
    }
}

/// Makes calls of one round, to one provider after another until one answers all of them; else returns the replies of
/// the one that answered most. An error is no answer, unless it is the call's own result.
pub(crate) async fn call_all(network: &'static Network, providers: &[&str], calls: &[Call]) -> Facts {
    call_until(network, providers, calls, |facts| facts.answered(calls) == calls.len()).await
}

/// Makes calls of one round, to one provider after another until the answers suffice; else returns the replies of the
/// one that answered most.
pub(crate) async fn call_until(
    network: &'static Network,
    providers: &[&str],
    calls: &[Call],
    will_do: impl Fn(&Facts) -> bool,
) -> Facts {
    let (mut best, all_began) = (Facts::new(), now());
    for at in order_providers(providers, all_began) {
        let Some(url) = providers.get(at).filter(|_| now().since(all_began) < DEADLINE_MS) else { continue };
        let (began, mut facts) = (now(), Facts::new());
        let outcome = call_round(Provider { network, url, shares: None }, calls, &[], &mut facts).await;
        match outcome {
            Ok(()) => note_attempt(url, AttemptOutcome::Answered { took_ms: now().since(began), head: None }),
            Err(failure) => {
                note_attempt(url, failure.attempt_outcome());
                continue;
            }
        }
        if will_do(&facts) {
            return facts;
        }
        if best.is_empty() || facts.answered(calls) > best.answered(calls) {
            best = facts;
        }
    }
    best
}

/// Reads code and blacklist entries of parties from the first provider that answers.
pub(crate) async fn read_parties(
    network: &'static Network,
    providers: &[&str],
    parties: &[Party],
) -> Vec<(Address, PartyFacts)> {
    let calls: Vec<Call> = parties.iter().flat_map(|party| reader::party_calls(network, party)).collect();
    let asking = call_all(network, providers, &calls);
    let deadline = Delay::from(Duration::from_millis(post::ATTEMPT_MS.into()));
    let facts = match select(pin!(asking), pin!(deadline)).await {
        Either::Left((facts, _)) => facts,
        Either::Right(_) => Facts::new(),
    };
    parties.iter().map(|party| (party.address, reader::read_party(network, party, &facts))).collect()
}

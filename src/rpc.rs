//! JSON-RPC over fetch: rounds of calls to one provider, several providers in turn. Every call has a deadline and a
//! size limit. Which answer counts is decided by `x402_chain::quorum`.

mod decide;
pub(crate) mod gas_price;
mod post;
pub(crate) mod registry;
mod round;
mod send;
mod shared;
pub(crate) mod signer_balance;
pub(crate) mod third_party;
pub(crate) mod trace;

use crate::app::now;
pub(crate) use decide::{
    call_all, call_one_provider, call_until, decide_by_agreement, decide_by_providers, read_parties,
};
use futures_util::future::{Either, select};
use futures_util::stream::{FuturesUnordered, StreamExt};
use post::ProviderFailure;
use round::{Provider, call_batch, call_round};
pub(crate) use send::send_bytes;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;
use worker::Delay;
use x402_chain::address::TxId;
use x402_chain::amount::Amount;
use x402_chain::breaker;
use x402_chain::breaker::{AttemptOutcome, ProviderHealth};
use x402_chain::facts::{Call, Facts, Undecided};
use x402_chain::network::Network;
use x402_chain::quorum;
use x402_chain::quorum::{ProviderAnswer, QuorumDecision, QuorumRule};
use x402_chain::time::UnixMillis;
use x402_chain::trace::{Party, Screening, Trace};
use x402_chain::{jsonrpc, reader};
use x402_core::settings::Settings;
use x402_core::settings::provider::host;

/// The most rounds of one trace: the receipt, its block, and one for what is still missing.
const READ_ROUNDS_MAX: usize = 3;
/// After this long without an answer the next provider is asked too.
const HEDGE_MS: u64 = 800;
/// The deadline of a whole verification's calls.
pub(crate) const DEADLINE_MS: u64 = 8_000;

thread_local! {
    static HEALTH: RefCell<BTreeMap<String, ProviderHealth>> = const { RefCell::new(BTreeMap::new()) };
}

/// What a chain's providers reported of a transaction.
pub(crate) struct ProviderObservation {
    /// The trace that counts; `None` where no provider gave a usable answer.
    pub(crate) trace: Option<Trace>,
    /// How many providers agree.
    pub(crate) agreed: usize,
    /// Code and blacklist entries of the parties that were read in the same requests.
    pub(crate) screening: Screening,
    /// Why providers failed, for the log: host names and error classes, no URL.
    pub(crate) failures: Vec<String>,
}

/// A question about one transaction to a chain's providers.
pub(crate) struct TraceQuestion<'a> {
    pub(crate) network: &'static Network,
    pub(crate) tx: &'a TxId,
    pub(crate) providers: &'a [&'a str],
    /// How many must agree, and on what.
    pub(crate) wanted: QuorumRule,
    /// The address whose code and blacklist entry are read first.
    pub(crate) first: Option<x402_chain::address::Address>,
    /// Whether a party's code and blacklist entry are known already.
    pub(crate) is_known: &'a dyn Fn(&Party) -> bool,
}

struct ProviderReading {
    place: usize,
    outcome: Result<Trace, String>,
    screening: Screening,
}

fn note_attempt(url: &str, ending: AttemptOutcome) {
    HEALTH.with_borrow_mut(|all| all.entry(url.to_owned()).or_default().note_attempt(ending, now()));
}

fn order_providers(providers: &[&str], at: UnixMillis) -> Vec<usize> {
    let known: Vec<ProviderHealth> =
        HEALTH.with_borrow(|all| providers.iter().map(|url| all.get(*url).copied().unwrap_or_default()).collect());
    breaker::provider_order(&known, at)
}

/// A transaction's trace by the quorum rule, without its parties; `None` where no provider gave a usable answer.
pub(crate) async fn fetch_trace(settings: &Settings, network: &'static Network, id: &TxId) -> Option<Trace> {
    fetch_trace_by(settings, network, id, QuorumRule { threshold: settings.quorum(), finality: false }).await
}

/// As [`fetch_trace`], where it matters whether the block is final.
pub(crate) async fn fetch_trace_with_finality(
    settings: &Settings,
    network: &'static Network,
    id: &TxId,
) -> Option<Trace> {
    fetch_trace_by(settings, network, id, QuorumRule { threshold: settings.quorum(), finality: true }).await
}

/// As [`fetch_trace`], but two providers must agree, where there are two, whatever the amount.
pub(crate) async fn fetch_trace_by_two(settings: &Settings, network: &'static Network, id: &TxId) -> Option<Trace> {
    fetch_trace_by(settings, network, id, QuorumRule { threshold: Amount::ZERO, finality: false }).await
}

async fn fetch_trace_by(
    settings: &Settings,
    network: &'static Network,
    tx: &TxId,
    wanted: QuorumRule,
) -> Option<Trace> {
    let providers = settings.providers(network);
    let is_known = |_: &Party| true;
    ask_providers(&TraceQuestion { network, tx, providers: &providers, wanted, first: None, is_known: &is_known })
        .await
        .trace
}

/// Asks a chain's providers about a transaction until an answer counts.
pub(crate) async fn ask_providers(question: &TraceQuestion<'_>) -> ProviderObservation {
    let mut words: Vec<Option<ProviderAnswer>> = Vec::new();
    let mut observation =
        ProviderObservation { trace: None, agreed: 0, screening: Screening::new(), failures: Vec::new() };
    match gather_answers(question, &mut words, &mut observation).await {
        Some((index, agreed)) => {
            observation.agreed = agreed;
            if let Some(Some(ProviderAnswer::Trace(trace))) = words.into_iter().nth(index) {
                observation.trace = Some(trace);
            }
        }
        None => observation.failures.push("no answer counted in time".to_owned()),
    }
    observation
}

/// Asks one provider after another: the next when one fails, is slow, or does not suffice. Returns which answer counts
/// and how many agree.
async fn gather_answers(
    question: &TraceQuestion<'_>,
    words: &mut Vec<Option<ProviderAnswer>>,
    observation: &mut ProviderObservation,
) -> Option<(usize, usize)> {
    let began = now();
    let order = order_providers(question.providers, began);
    let mut asked = FuturesUnordered::new();
    let mut next = order.iter();
    loop {
        match quorum::decide_quorum(words, order.len(), question.wanted) {
            QuorumDecision::Settled { index, agreed } => return Some((index, agreed)),
            QuorumDecision::Unavailable => return None,
            QuorumDecision::Ask => ask_next_provider(question, words, &mut asked, &mut next),
            QuorumDecision::Wait if words.is_empty() => ask_next_provider(question, words, &mut asked, &mut next),
            QuorumDecision::Wait => {}
        }
        let Some(left) = DEADLINE_MS.checked_sub(now().since(began)).filter(|left| *left > 0) else {
            // The provider that could report finality is too slow: the trace counts without it.
            return match quorum::decide_quorum(words, order.len(), QuorumRule { finality: false, ..question.wanted }) {
                QuorumDecision::Settled { index, agreed } => Some((index, agreed)),
                QuorumDecision::Wait | QuorumDecision::Ask | QuorumDecision::Unavailable => None,
            };
        };
        let patience = Delay::from(Duration::from_millis(left.min(HEDGE_MS)));
        let reading = match select(asked.next(), pin!(patience)).await {
            Either::Left((Some(reading), _)) => reading,
            Either::Left((None, _)) => return None,
            Either::Right(_) => {
                ask_next_provider(question, words, &mut asked, &mut next);
                continue;
            }
        };
        let ProviderReading { place, outcome, screening } = reading;
        observation.screening.extend(screening);
        let word = match outcome {
            Ok(trace) => ProviderAnswer::Trace(trace),
            Err(why) => {
                observation.failures.push(why);
                ProviderAnswer::Failed
            }
        };
        if let Some(slot) = words.get_mut(place) {
            *slot = Some(word);
        }
    }
}

type PendingReadings<'a> = FuturesUnordered<std::pin::Pin<Box<dyn Future<Output = ProviderReading> + 'a>>>;

fn ask_next_provider<'a>(
    question: &'a TraceQuestion<'a>,
    words: &mut Vec<Option<ProviderAnswer>>,
    asked: &mut PendingReadings<'a>,
    next: &mut core::slice::Iter<'_, usize>,
) {
    if let Some(url) = next.next().and_then(|at| question.providers.get(*at)) {
        let place = words.len();
        words.push(None);
        asked.push(Box::pin(ask_provider(question, url, place)));
    }
}

/// Asks one provider in rounds of calls.
async fn ask_provider(question: &TraceQuestion<'_>, url: &str, place: usize) -> ProviderReading {
    let began = now();
    let mut facts = Facts::new();
    let mut screening = Screening::new();
    let outcome = ask_in_rounds(question, url, &mut facts, &mut screening).await;
    let outcome = match outcome {
        Ok(trace) => {
            let head = trace.mined().map(|mined| mined.head);
            note_attempt(url, AttemptOutcome::Answered { took_ms: now().since(began), head });
            Ok(trace)
        }
        Err(failure) => {
            note_attempt(url, failure.attempt_outcome());
            Err(format!("{}: {failure}", host(url)))
        }
    };
    ProviderReading { place, outcome, screening }
}

async fn ask_in_rounds(
    question: &TraceQuestion<'_>,
    url: &str,
    facts: &mut Facts,
    screening: &mut Screening,
) -> Result<Trace, ProviderFailure> {
    let network = question.network;
    let provider = Provider { network, url, shares: None };
    let mut parties: Vec<Party> = Vec::new();
    for round in 0..=READ_ROUNDS_MAX {
        match reader::trace(network, question.tx, facts, now().seconds()) {
            Ok(trace) => {
                if parties.is_empty() && !jsonrpc::takes_batches(network.family) {
                    // Families without batches read the parties in a round of its own, which may fail.
                    parties = unknown_parties(question, facts);
                    let calls: Vec<Call> =
                        parties.iter().flat_map(|party| reader::party_calls(network, party)).collect();
                    let _ = call_round(provider, &[], &calls, facts).await;
                }
                for party in &parties {
                    screening.insert(party.address, reader::read_party(network, party, facts));
                }
                return Ok(trace);
            }
            Err(Undecided::Malformed(nonsense)) => {
                return Err(ProviderFailure::Malformed(format!("{} {}", nonsense.hazard, nonsense.detail)));
            }
            Err(Undecided::Missing(calls)) if round < READ_ROUNDS_MAX => {
                let mut optional = Vec::new();
                if round > 0 && jsonrpc::takes_batches(network.family) {
                    parties = unknown_parties(question, facts);
                    optional = parties.iter().flat_map(|party| reader::party_calls(network, party)).collect();
                }
                call_round(provider, &calls, &optional, facts).await?;
            }
            Err(Undecided::Missing(_)) => {}
        }
    }
    Err(ProviderFailure::Malformed("questions without end".to_owned()))
}

fn unknown_parties(question: &TraceQuestion<'_>, facts: &Facts) -> Vec<Party> {
    let parties = reader::parties(question.network, question.tx, facts, question.first.as_ref());
    parties.into_iter().filter(|party| !(question.is_known)(party)).collect()
}

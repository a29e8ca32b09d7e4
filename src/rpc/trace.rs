//! Reads a transaction's trace: finalized traces are cached for all tenants; code and blacklist entries, which change,
//! are read apart.

use crate::app;
use crate::isolate;
use crate::isolate::CachedTrace;
use crate::rpc;
use crate::rpc::TraceQuestion;
use crate::telemetry::{TelemetryField, TelemetryKind, event};
use std::collections::BTreeSet;
use std::rc::Rc;
use x402_chain::address::{Address, TxId};
use x402_chain::collect::map_of;
use x402_chain::evm::standing;
use x402_chain::evm::standing::BlockStanding;
use x402_chain::network::Network;
use x402_chain::quorum::QuorumRule;
use x402_chain::time::UnixMillis;
use x402_chain::trace::PARTIES_MAX;
use x402_chain::trace::{Depth, Party, Screening, Trace, TransferLocation};
use x402_core::settings::Settings;
use x402_core::verification::answer::Finality;
use x402_core::verification::claim::Claim;
use x402_core::verification::decision::{ChainObservation, TracedTransaction};

/// Reads the trace of a claim's transaction, with its parties.
pub(crate) async fn observe_transaction(settings: &Settings, claim: &Claim, now: UnixMillis) -> ChainObservation {
    let network = claim.network;
    let providers = settings.providers(network);
    let single_provider = providers.len() <= 1;
    let first = claim.recipient;
    let tx = claim.tx.to_string();
    let kept = isolate::cached_trace(network.key, &tx, now).filter(|kept| {
        let large = kept.trace.mined().is_some_and(|mined| mined.largest() >= settings.quorum());
        single_provider || !large || kept.agreed >= 2
    });
    let trace = match kept {
        Some(kept) => Trace::clone(&kept.trace),
        None => {
            match fetch_trace(settings, network, &claim.tx, (first, claim.finality == Finality::Finalized), now).await {
                Some(trace) => trace,
                None => return ChainObservation::Unavailable,
            }
        }
    };
    let screening = screen_parties(settings, network, &trace, first.as_ref(), now).await;
    ChainObservation::Traced(Box::new(TracedTransaction {
        trace: trim_to_recipient(trace, first.as_ref()),
        screening,
        single_provider,
    }))
}

/// Reads a transaction again, without the cache; `None` where no provider gave a usable answer.
pub(crate) async fn poll_transaction(
    settings: &Settings,
    network: &'static Network,
    tx: &TxId,
    now: UnixMillis,
) -> Option<Trace> {
    fetch_trace(settings, network, tx, (None, true), now).await
}

/// How blocks of an EVM chain stand, as one provider reports; `None` where none gave a usable answer.
pub(crate) async fn read_standing(
    settings: &Settings,
    network: &'static Network,
    heights: &BTreeSet<u64>,
) -> Option<BlockStanding> {
    let facts = rpc::call_one_provider(network, &settings.providers(network), &standing::calls(heights)).await?;
    standing::read(network, heights, &facts).ok()
}

/// `first`: the address whose code and blacklist entry are read first; `finality`: whether it matters what is final.
async fn fetch_trace(
    settings: &Settings,
    network: &'static Network,
    tx: &TxId,
    (first, finality): (Option<Address>, bool),
    now: UnixMillis,
) -> Option<Trace> {
    let providers = settings.providers(network);
    let is_known = |party: &Party| isolate::cached_party(network.key, party.address, now).is_some();
    let wanted = QuorumRule { threshold: settings.quorum(), finality };
    let question = TraceQuestion { network, tx, providers: &providers, wanted, first, is_known: &is_known };
    let observation = rpc::ask_providers(&question).await;
    for (address, facts) in observation.screening {
        isolate::cache_party(network.key, address, facts, now);
    }
    if !observation.failures.is_empty() {
        let fields = [
            TelemetryField::Chain(network),
            TelemetryField::Usable(observation.trace.is_some()),
            TelemetryField::Failures(observation.failures.join(" | ")),
        ];
        event(TelemetryKind::ProvidersFailed, &fields);
    }
    let trace = observation.trace?;
    let is_final = trace.mined().is_some_and(|mined| mined.depth == Depth::Finalized);
    if is_final && !network.local {
        let kept = CachedTrace { trace: Rc::new(trace.clone()), agreed: observation.agreed };
        isolate::cache_trace(network.key, tx.to_string(), kept, now);
    }
    Some(trace)
}

/// Code and blacklist entries of the trace's parties: remembered, or read now.
async fn screen_parties(
    settings: &Settings,
    network: &'static Network,
    trace: &Trace,
    first: Option<&Address>,
    now: UnixMillis,
) -> Screening {
    let parties = parties_to_screen(trace, first);
    let known = |party: &Party| Some((party.address, isolate::cached_party(network.key, party.address, now)?));
    let mut screening: Screening = map_of(parties.iter().filter_map(known));
    let unread: Vec<Party> = parties.into_iter().filter(|party| !screening.contains_key(&party.address)).collect();
    // What a fresh trace's requests could not read is not asked twice; of a cached trace, expired entries are read
    // again.
    let is_kept = isolate::cached_trace(network.key, &trace.tx.to_string(), now).is_some();
    if !unread.is_empty() && is_kept {
        for (address, facts) in rpc::read_parties(network, &settings.providers(network), &unread).await {
            isolate::cache_party(network.key, address, facts, now);
            screening.insert(address, facts);
        }
    }
    screening
}

/// The senders and receivers of the registered asset; those of transfers to `first` come first.
fn parties_to_screen(trace: &Trace, first: Option<&Address>) -> Vec<Party> {
    let mut parties: Vec<Party> = Vec::new();
    let transfers = trace.mined().map_or(&[][..], |mined| mined.transfers.as_slice());
    let (near, far): (Vec<_>, Vec<_>) =
        transfers.iter().partition(|transfer| first.is_some() && transfer.to.as_ref() == first);
    for transfer in near.into_iter().chain(far) {
        for address in [transfer.to, transfer.from].into_iter().flatten() {
            let known = parties.iter().any(|party| party.address == address);
            if parties.len() < PARTIES_MAX && !known && !address.is_zero() {
                let account = match &transfer.place {
                    TransferLocation::TokenAccount(account) => Some(*account),
                    TransferLocation::LogIndex(_) => None,
                };
                parties.push(Party { address, account });
            }
        }
    }
    parties
}

/// The most transfers that a trace carries to the ledger whole when the request names the recipient; one transaction
/// can hold a thousand.
const TRANSFERS_WHOLE: usize = 16;

/// The part of a large EVM trace that can matter to a named recipient: the transfers that touch it. Solana's movements
/// are balances of all owners and stay whole.
fn trim_to_recipient(mut trace: Trace, recipient: Option<&Address>) -> Trace {
    if let (x402_chain::trace::TransactionState::Mined(mined), Some(Address::Evm(_))) = (&mut trace.found, recipient)
        && mined.transfers.len() > TRANSFERS_WHOLE
    {
        let touches = |end: Option<&Address>| end == recipient;
        mined.transfers.retain(|transfer| touches(transfer.from.as_ref()) || touches(transfer.to.as_ref()));
    }
    trace
}

/// The newest block of a chain as its providers report it, with the milliseconds that it took.
pub(crate) async fn fetch_head(settings: &Settings, network: &'static Network) -> (Option<u64>, u64) {
    let began = app::now();
    let call = x402_chain::reader::head_call(network);
    let facts = rpc::call_all(network, &settings.providers(network), std::slice::from_ref(&call)).await;
    (x402_chain::reader::read_head(&facts, &call), app::now().since(began))
}

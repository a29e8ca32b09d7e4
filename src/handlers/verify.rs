//! `POST /v1/verify`.

use crate::app;
use crate::app::App;
use crate::clients;
use crate::clients::ledger::LedgerResponse;
use crate::isolate;
use crate::request::{IncomingRequest, fault_reply};
use crate::request_trace;
use crate::response::OutgoingResponse;
use crate::rpc::{registry, trace};
use crate::telemetry::counts;
use sha2::{Digest, Sha256};
use worker::Context;
use x402_api::problem::ProblemContext;
use x402_api::server_timing::RequestStep;
use x402_api::{ApiReply, headers, verify as body};
use x402_chain::network::Network;
use x402_core::error::{ErrorCode, Fault};
use x402_core::messages::ledger::{LedgerMessage, LedgerReply, RefusedCaller};
use x402_core::metrics::MetricFamily;
use x402_core::tenancy::key::Caller;
use x402_core::verification::claim::Claim;
use x402_core::verification::decision::{
    ChainObservation, IDEMPOTENCY_KEY_BYTES_MAX, IdempotencyKey, VerificationRequest,
};

/// Answers whether a transaction has paid the tenant.
///
/// # Errors
/// What is wrong with the request, or `LEDGER_UNAVAILABLE`; everything else the ledger answers.
pub(super) async fn verify_transaction(
    app: &App,
    context: &Context,
    incoming: &IncomingRequest,
) -> Result<OutgoingResponse, Fault> {
    let caller = incoming.caller()?;
    let claim = body::read_claim(&incoming.body)?;
    let idempotency = read_idempotency_key(incoming)?;
    request_trace::note_network(claim.network);
    if claim.network.environment != caller.environment {
        return Err(environment_mismatch(&claim, &caller));
    }
    check_rate_guard(app, &caller).await?;
    let mut request = Box::new(VerificationRequest {
        key: caller.hash,
        request_id: incoming.request_id,
        traceparent: request_trace::outside_span(),
        idempotency,
        chain_on: registry::is_chain_allowed(app, context, claim.network, incoming.now).await,
        claim,
        seen: ChainObservation::Deferred,
        random: app::random()?,
    });
    let network = request.claim.network;
    let attempt = request.idempotency.as_ref().map(|one| (caller.tenant, caller.environment, one.key.clone()));
    let asks_first = match isolate::refused_caller(caller.hash, incoming.now) {
        // An answer recorded under an `Idempotency-Key` repeats whatever the rates are: the ledger has it.
        Some(RefusedCaller::Limited { .. }) if attempt.is_some() => true,
        Some(refused @ RefusedCaller::Limited { .. }) => return Ok(rate_limited_reply(app, incoming, &refused).into()),
        Some(RefusedCaller::AskFirst) => true,
        // It may be a repeat, which costs one call to the ledger and none to the chain.
        None => attempt.as_ref().is_some_and(|attempt| !isolate::is_attempt_open(attempt, incoming.now)),
    };
    if asks_first {
        let response = send_verification(app, incoming, &caller, request.clone()).await?;
        if *response.reply() != LedgerReply::ChainNeeded {
            return Ok(response.into_answer()?.into());
        }
    }
    // No provider is asked about a chain that is off: the ledger refuses before it would read the trace.
    request.seen = if request.chain_on {
        trace::observe_transaction(&app.settings, &request.claim, incoming.now).await
    } else {
        ChainObservation::Unavailable
    };
    let response = send_verification(app, incoming, &caller, request).await;
    count_verification(network, incoming, response.as_ref().is_ok_and(|response| response.status() < 500));
    let response = response?;
    response.remember_attempt(attempt, incoming.now);
    Ok(response.into_answer()?.into())
}

/// Counts a verification for which a chain was read, and how long it took.
pub(super) fn count_verification(network: &Network, incoming: &IncomingRequest, is_answered: bool) {
    if is_answered {
        counts::observe(MetricFamily::VerificationDuration, &[network.key], app::now().since(incoming.now));
    } else {
        counts::count(MetricFamily::VerificationFaults, &[network.key]);
    }
}

async fn send_verification(
    app: &App,
    incoming: &IncomingRequest,
    caller: &Caller,
    request: Box<VerificationRequest>,
) -> Result<LedgerResponse, Fault> {
    let envelope = incoming.envelope(app, (caller.tenant, caller.environment), LedgerMessage::Verify(request));
    let response = clients::ledger::call_ledger(app, &envelope, None).await?;
    response.remember(caller, incoming.now);
    Ok(response)
}

pub(super) fn read_idempotency_key(incoming: &IncomingRequest) -> Result<Option<IdempotencyKey>, Fault> {
    let Some(key) = &incoming.idempotency_key else { return Ok(None) };
    let shaped = (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&key.len())
        && key.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    if !shaped {
        let rule = format!("an Idempotency-Key is 1 to {IDEMPOTENCY_KEY_BYTES_MAX} printable ASCII characters");
        return Err(Fault::new(ErrorCode::InvalidRequest, rule).at("Idempotency-Key"));
    }
    Ok(Some(IdempotencyKey { key: key.clone(), body_hash: hex::encode(Sha256::digest(&incoming.body)) }))
}

fn environment_mismatch(claim: &Claim, caller: &Caller) -> Fault {
    let detail = format!(
        "'{}' is a {} chain, and this is a {} key",
        claim.network.key,
        claim.network.environment.name(),
        caller.environment.name()
    );
    Fault::new(ErrorCode::EnvironmentMismatch, detail).at("chain")
}

/// A coarse limit by location, far above any tier.
pub(super) async fn check_rate_guard(app: &App, caller: &Caller) -> Result<(), Fault> {
    let Some(guard) = app.guard() else { return Ok(()) };
    let _checking = request_trace::step(RequestStep::Auth);
    match guard.limit(caller.tenant.to_string()).await {
        Ok(outcome) if !outcome.success => {
            Err(Fault::new(ErrorCode::RateLimited, "far too many requests from this tenant").after(60))
        }
        // If the guard fails, the request passes: the ledger counts exactly.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// A rate limit that the isolate remembers: neither the chain nor the ledger is called until it ends.
pub(super) fn rate_limited_reply(app: &App, incoming: &IncomingRequest, refused: &RefusedCaller) -> ApiReply {
    let asked = ProblemContext { origin: &app.origin, path: &incoming.path, request_id: incoming.request_id };
    match refused {
        RefusedCaller::Limited { until, detail, upgrade, rates } => {
            let wait = until.since(incoming.now).div_ceil(1_000);
            let mut fault = Fault::new(ErrorCode::RateLimited, detail.clone()).after(wait);
            fault.upgrade = *upgrade;
            let mut reply = fault_reply(&fault, asked);
            reply.headers.extend(headers::rate_headers(rates, incoming.now));
            reply
        }
        RefusedCaller::AskFirst => {
            fault_reply(&Fault::internal("a refusal other than a rate limit was to be answered from memory"), asked)
        }
    }
}

//! `POST /v1/verify`.

use crate::app;
use crate::app::App;
use crate::clients;
use crate::clients::ledger::{Ask, Envelope, LedgerResponse};
use crate::isolate;
use crate::isolate::Refused;
use crate::platform::response::Outgoing;
use crate::request::{Incoming, refuse};
use crate::rpc::{registry, trace};
use sha2::{Digest, Sha256};
use worker::Context;
use x402_api::problem::Asked;
use x402_api::{Reply, headers, verify as body};
use x402_core::error::{Code, Fault};
use x402_core::tenancy::key::Caller;
use x402_core::verification::book::{IDEMPOTENCY_KEY_BYTES_MAX, Idempotency, Request, Seen};
use x402_core::verification::claim::Claim;

/// Answers whether a transaction has paid the tenant.
///
/// # Errors
/// What is wrong with the request, or `LEDGER_UNAVAILABLE`; everything else the ledger answers.
pub(super) async fn verify(app: &App, context: &Context, incoming: &Incoming) -> Result<Outgoing, Fault> {
    let caller = incoming.caller()?; // who
    let claim = body::read(&incoming.body)?; // what
    let idempotency = idempotency(incoming)?;
    if claim.network.environment != caller.environment {
        return Err(mismatch(&claim, &caller));
    }
    guard(app, &caller).await?;
    let mut request = Box::new(Request {
        key: caller.hash,
        request_id: incoming.request_id,
        idempotency,
        chain_on: registry::allows(app, context, claim.network, incoming.now).await,
        claim,
        seen: Seen::Deferred,
        random: u128::from_be_bytes(app::random()?).to_string(),
    });
    let attempt = request.idempotency.as_ref().map(|one| (caller.tenant, caller.environment, one.key.clone()));
    let asks_first = match isolate::refused(caller.hash, incoming.now) {
        // What was answered under an `Idempotency-Key` repeats whatever the rates are: the ledger knows whether.
        Some(Refused::Limited { .. }) if attempt.is_some() => true,
        Some(refused @ Refused::Limited { .. }) => return Ok(limited(app, incoming, &refused).into()),
        Some(Refused::AskFirst) => true,
        // It may be a repeat, which costs one call to the ledger and none to the chain.
        None => attempt.as_ref().is_some_and(|attempt| !isolate::is_open(attempt, incoming.now)),
    };
    if asks_first {
        let response = book(app, incoming, &caller, request.clone()).await?;
        if response.status() != 204 {
            return Ok(response.into());
        }
    }
    // A chain that is off is not asked: the ledger refuses before it would look at the trace.
    request.seen = if request.chain_on {
        trace::see(&app.settings, &request.claim, incoming.now).await
    } else {
        Seen::Unavailable
    }; // good
    let response = book(app, incoming, &caller, request).await?; // book
    Ok(response.remember_attempt(attempt, incoming.now)?.into()) // answer
}

async fn book(app: &App, incoming: &Incoming, caller: &Caller, request: Box<Request>) -> Result<LedgerResponse, Fault> {
    let envelope = Envelope {
        tenant: caller.tenant,
        environment: caller.environment,
        request_id: incoming.request_id,
        origin: app.origin.clone(),
        path: incoming.path.clone(),
        ask: Ask::Verify(request),
    };
    clients::ledger::ask(app, &envelope, None).await?.remember(caller, incoming.now)
}

pub(super) fn idempotency(incoming: &Incoming) -> Result<Option<Idempotency>, Fault> {
    let Some(key) = &incoming.idempotency_key else { return Ok(None) };
    let shaped = (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&key.len())
        && key.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    if !shaped {
        let rule = format!("an Idempotency-Key is 1 to {IDEMPOTENCY_KEY_BYTES_MAX} printable ASCII characters");
        return Err(Fault::new(Code::InvalidRequest, rule).at("Idempotency-Key"));
    }
    Ok(Some(Idempotency { key: key.clone(), body_hash: hex::encode(Sha256::digest(&incoming.body)) }))
}

fn mismatch(claim: &Claim, caller: &Caller) -> Fault {
    let detail = format!(
        "'{}' is a {} chain, and this is a {} key",
        claim.network.key,
        claim.network.environment.name(),
        caller.environment.name()
    );
    Fault::new(Code::EnvironmentMismatch, detail).at("chain")
}

/// The coarse guard: per location, permissive, far above any tier.
pub(super) async fn guard(app: &App, caller: &Caller) -> Result<(), Fault> {
    let Some(guard) = app.guard() else { return Ok(()) };
    match guard.limit(caller.tenant.to_string()).await {
        Ok(outcome) if !outcome.success => {
            Err(Fault::new(Code::RateLimited, "far too many requests from this tenant").after(60))
        }
        // A guard that cannot tell lets everybody in: the ledger is exact.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// A rate limit that the isolate remembers: no chain call and no ledger call until it ends.
pub(super) fn limited(app: &App, incoming: &Incoming, refused: &Refused) -> Reply {
    let asked = Asked { origin: &app.origin, path: &incoming.path, request_id: incoming.request_id };
    match refused {
        Refused::Limited { until, detail, upgrade, rates } => {
            let wait = until.since(incoming.now).div_ceil(1_000);
            let mut fault = Fault::new(Code::RateLimited, detail.clone()).after(wait);
            fault.upgrade = *upgrade;
            let mut reply = refuse(&fault, asked);
            reply.headers.extend(headers::rate(rates, incoming.now));
            reply
        }
        Refused::AskFirst => refuse(&Fault::internal("only a rate limit is answered from memory"), asked),
    }
}

//! `/facilitator/*`: the open x402 protocol, on the same key, quota and ledger.

mod find;
mod offers;

use super::verify::{guard, idempotency, limited};
use crate::app;
use crate::app::App;
use crate::clients;
use crate::clients::ledger::{Ask, Deliver, Envelope, LedgerResponse, Reopen};
use crate::isolate;
use crate::isolate::Refused;
use crate::platform::response::Outgoing;
use crate::request::Incoming;
use crate::telemetry;
use alloy_primitives::B256;
use find::Ready;
use futures_channel::oneshot;
pub(super) use offers::{accepts, supported};
use std::rc::Rc;
use std::time::Duration;
use worker::{Context, Delay};
use x402_api::facilitator;
use x402_api::facilitator::Found;
use x402_chain::address::Address;
use x402_chain::checks::Checks;
use x402_chain::evm::tx::Message;
use x402_chain::network::Budget;
use x402_chain::reason::Reason;
use x402_chain::schemes::exact;
use x402_chain::trace::CodeKind;
use x402_chain::x402;
use x402_chain::x402::Payment;
use x402_core::error::{Code, Fault};
use x402_core::settlement::payment::{Asked, Finding, LEASE_MS, Reserved, Verb};
use x402_core::settlement::{Cargo, Flight};
use x402_core::tenancy::key::Caller;

/// How often a delivery that could not be reopened is tried again, and how long after.
const REOPEN_TRIES: usize = 5;
const REOPEN_PAUSE_MS: u64 = 2_000;

/// `POST /facilitator/verify`.
pub(super) async fn verify(app: &App, context: &Context, incoming: &Incoming) -> Result<Outgoing, Fault> {
    let (response, _) = book(app, context, incoming, Verb::Verify, &mut None).await?;
    Ok(response)
}

/// `POST /facilitator/settle`: the ledger reserves, the Settler sends, the ledger holds the end
/// and gives the success to one caller. The work does not depend on the caller's connection; one
/// that has gone before the answer, or is answered a fault, leaves the success to whoever asks next.
pub(super) async fn settle(app: &Rc<App>, context: &Rc<Context>, incoming: Incoming) -> Result<Outgoing, Fault> {
    let (answer, answered) = oneshot::channel();
    let (app, own) = (Rc::clone(app), Rc::clone(context));
    let work = async move {
        let mut given = Reopen::default();
        let outcome = settle_now(&app, &own, &incoming, &mut given).await;
        // Read once, here: what is seen later reopens nothing.
        let is_lost = match &outcome {
            Ok(_) => given.settlement.is_some() && incoming.signal.aborted(),
            // The ledger may have given it all the same: its answer was lost on the way.
            Err(_) => given.settlement.is_some() || given.authorization.is_some(),
        };
        let mut is_open = !is_lost || reopen(&app, &incoming, &given).await;
        // Nobody listens when the connection is gone.
        drop(answer.send(outcome));
        for _ in 0..REOPEN_TRIES {
            if is_open {
                return;
            }
            Delay::from(Duration::from_millis(REOPEN_PAUSE_MS)).await;
            is_open = reopen(&app, &incoming, &given).await;
        }
        if !is_open {
            let settlement = given.settlement.map(|id| id.to_string());
            telemetry::error("a delivery could not be reopened", &[("settlement", settlement.into())]);
        }
    };
    app::after_answer(context, work);
    answered.await.map_err(Fault::internal)?
}

/// `given` becomes what this request was given, or may have been: on success the settlement
/// whose success the answer gives away.
async fn settle_now(app: &App, context: &Context, incoming: &Incoming, given: &mut Reopen) -> Result<Outgoing, Fault> {
    let (response, ready) = match book(app, context, incoming, Verb::Settle, &mut given.authorization).await? {
        (Outgoing::Passed(response), Some(ready)) if response.status() == 202 => (response, ready),
        // A refusal gives nothing away, and goes out with all its headers.
        (Outgoing::Passed(response), _) if response.status() >= 400 => return Ok(response.into()),
        (Outgoing::Passed(response), _) => {
            let (reply, handed) = response.handed_over().await?;
            given.settlement = handed;
            return Ok(reply.into());
        }
        (outgoing, _) => return Ok(outgoing),
    };
    let rates = response.rates();
    let reserved: Reserved = serde_json::from_str(&response.text().await?).map_err(Fault::internal)?;
    let settlement = reserved.settlement.id;
    given.settlement = Some(settlement);
    let report = clients::settler::settle(app, &flight(incoming, &ready, &reserved)?, ready.network).await?;
    let found = Found { message: report.message, external: report.external, checks: ready.checks };
    let deliver = Deliver { settlement, network_text: ready.network_text, found, explain: incoming.explain };
    let envelope = envelope(app, incoming, &incoming.caller()?, Ask::Deliver(Box::new(deliver)));
    let (mut reply, handed) = clients::ledger::ask(app, &envelope, None).await?.handed_over().await?;
    given.settlement = handed;
    reply.headers.extend(rates);
    Ok(reply.into())
}

/// Whatever this request was given, a wait or a success, is open to the next one; answers whether the ledger knows.
async fn reopen(app: &App, incoming: &Incoming, given: &Reopen) -> bool {
    let Ok(caller) = incoming.caller() else { return true };
    let envelope = envelope(app, incoming, &caller, Ask::Reopen(given.clone()));
    clients::ledger::ask(app, &envelope, None).await.is_ok_and(|response| response.status() == 204)
}

/// What the Settler is asked. A reservation of this very moment was judged by the request that made
/// it; an older one whose transaction was never sent is sent only if the payment is good now.
fn flight(incoming: &Incoming, ready: &Ready, reserved: &Reserved) -> Result<Flight, Fault> {
    let caller = incoming.caller()?;
    let cargo = cargo(ready, reserved.has_code)
        .ok_or_else(|| Fault::internal("a settlement on a network that is only read"))?;
    let is_fresh = incoming.now.since(reserved.reserved_at) < LEASE_MS;
    Ok(Flight {
        settlement: reserved.settlement.id,
        attempt: reserved.attempt,
        tenant: caller.tenant,
        environment: caller.environment,
        network: ready.network.key.to_owned(),
        signer: reserved.signer.ok_or_else(|| Fault::internal("a settlement without a signer"))?,
        held: ready.held.clone().filter(|_| !is_fresh),
        cargo,
        payer: ready.terms.payer(),
        pay_to: ready.terms.pay_to(),
        amount: ready.terms.amount(),
        nonce: nonce(&ready.terms),
        valid_before: ready.valid_before,
        price: ready.price,
        max_fee_wei: reserved.max_fee_wei,
        free: reserved.free,
    })
}

const fn nonce(terms: &exact::Terms) -> Option<B256> {
    match terms {
        exact::Terms::Evm(terms) => Some(terms.nonce()),
        exact::Terms::Svm(_) => None,
    }
}

/// What the Settler is to send; a payer with code is paid from by another function of the token.
fn cargo(ready: &Ready, has_code: bool) -> Option<Cargo> {
    match &ready.terms {
        exact::Terms::Evm(terms) => {
            let Address::Evm(to) = ready.network.asset.address else { return None };
            let gas_limit = ready.network.settle?.gas()?.limit;
            let payer = if has_code { CodeKind::Contract } else { CodeKind::None };
            Some(Cargo::Evm(Message { to, data: terms.calldata(payer).into(), gas_limit }))
        }
        exact::Terms::Svm(terms) => Some(Cargo::Svm(terms.text().to_owned())),
    }
}

/// What a request was found to be, and the payment where it is one that can go on. `named` becomes
/// its authorization before the ledger may give anything for it.
async fn book(
    app: &App,
    context: &Context,
    incoming: &Incoming,
    verb: Verb,
    named: &mut Option<String>,
) -> Result<(Outgoing, Option<Ready>), Fault> {
    let caller = incoming.caller()?;
    let body = x402::Body::parse(&incoming.body)
        .map_err(|error| Fault::new(Code::InvalidJson, "the body must be a JSON object").because(error))?;
    guard(app, &caller).await?;
    let read = x402::read(&body);
    let mut asked = unfound(app, incoming, verb, &read)?;
    let ask_first = match isolate::refused(caller.hash, incoming.now) {
        // What was answered under an `Idempotency-Key` repeats whatever the rates are: the ledger knows whether.
        Some(Refused::Limited { .. }) if asked.idempotency.is_some() => true,
        Some(refused @ Refused::Limited { .. }) => return Ok((limited(app, incoming, &refused).into(), None)),
        Some(Refused::AskFirst) => true,
        None => false,
    };
    let free = match &read {
        Ok(payment) if repeats(incoming, &body, payment, verb) => {
            let message =
                "the Idempotency-Key header must name your own attempt, not a value that the buyer can repeat";
            asked.finding = Finding::Refused(Checks::none(), Reason::InvalidPayload, message.to_owned());
            asked.idempotency = None;
            None
        }
        Ok(payment) => find::free(app, context, incoming, payment, &mut asked).await,
        Err(malformed) => {
            asked.finding = Finding::Refused(Checks::none(), malformed.reason, malformed.message.clone());
            None
        }
    };
    let Some(free) = free else { return Ok((ask(app, incoming, &caller, asked).await?.into(), None)) };
    let authorization = asked.terms.as_ref().map(|terms| terms.authorization.clone()).unwrap_or_default();
    *named = Some(authorization.clone());
    // What the ledger answers from its record needs no chain.
    if ask_first || isolate::is_recorded(&authorization, incoming.now) {
        let finding = core::mem::replace(&mut asked.finding, Finding::Deferred);
        let response = ask(app, incoming, &caller, asked.clone()).await?;
        if response.status() != 204 {
            // What the chain was not asked about is waited for, and sent only where it was judged just now.
            let held = (Reason::UnexpectedSettle, "the payment was not judged anew: send the same again".to_owned());
            return Ok((response.into(), Some(free.ready(Some(held)))));
        }
        asked.finding = finding;
    }
    let mut ready = find::on_chain(app, context, incoming, free, &mut asked).await;
    ready.checks = asked.finding.checks();
    let mut response = ask(app, incoming, &caller, asked.clone()).await?; // book
    if response.status() == 204 {
        // The authorization is used, and nothing is recorded: it may be somebody else's doing.
        find::externally(app, &ready, &mut asked).await;
        response = ask(app, incoming, &caller, asked).await?;
    }
    if verb == Verb::Settle && response.status() < 300 {
        isolate::note_recorded(authorization, incoming.now);
    }
    Ok((response.into(), Some(ready)))
}

/// The question to the ledger before anything is found out.
fn unfound(
    app: &App,
    incoming: &Incoming,
    verb: Verb,
    read: &Result<Payment, x402::Malformed>,
) -> Result<Asked, Fault> {
    Ok(Asked {
        key: incoming.caller()?.hash,
        request_id: incoming.request_id,
        verb,
        network_text: match read {
            Ok(payment) => payment.requirements.network.clone(),
            Err(malformed) => malformed.network.clone(),
        },
        network: None,
        pay_to_tried: false,
        chain_on: true,
        payer: None,
        terms: None,
        finding: Finding::Unavailable,
        budget: read
            .as_ref()
            .ok()
            .and_then(|payment| x402::network_named(&payment.requirements.network))
            .map_or(Budget { day: 0, failed: 0 }, |network| app.settings.tenant_budget(network)),
        idempotency: if verb == Verb::Settle { idempotency(incoming)? } else { None },
        identifier: read.as_ref().ok().and_then(|payment| payment.identifier.clone()),
        explain: incoming.explain,
        // It names a settlement.
        random: if verb == Verb::Settle { u128::from_be_bytes(app::random()?).to_string() } else { String::new() },
    })
}

/// Whether a settlement's `Idempotency-Key` is something that the buyer can repeat.
fn repeats(incoming: &Incoming, body: &x402::Body<'_>, payment: &Payment, verb: Verb) -> bool {
    let key = incoming.idempotency_key.as_deref().filter(|_| verb == Verb::Settle);
    key.is_some_and(|key| x402::is_repeatable(key, &incoming.body, body, payment))
}

fn envelope(app: &App, incoming: &Incoming, caller: &Caller, ask: Ask) -> Envelope {
    Envelope {
        tenant: caller.tenant,
        environment: caller.environment,
        request_id: incoming.request_id,
        origin: app.origin.clone(),
        path: incoming.path.clone(),
        ask,
    }
}

async fn ask(app: &App, incoming: &Incoming, caller: &Caller, asked: Asked) -> Result<LedgerResponse, Fault> {
    let envelope = envelope(app, incoming, caller, Ask::Payment(Box::new(asked)));
    clients::ledger::ask(app, &envelope, None).await?.remember(caller, incoming.now)
}

/// `GET` on a `POST` route: what it takes.
pub(super) fn hint(incoming: &Incoming) -> Outgoing {
    facilitator::hint(&incoming.path).into()
}

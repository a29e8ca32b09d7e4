//! `/facilitator/*`: the open x402 protocol, on the same key, quota and ledger.

mod offers;
mod steps;

use super::verify::{check_rate_guard, count_verification, rate_limited_reply, read_idempotency_key};
use crate::app;
use crate::app::App;
use crate::clients;
use crate::clients::ledger::LedgerResponse;
use crate::isolate;
use crate::request::IncomingRequest;
use crate::request_trace;
use crate::response::OutgoingResponse;
use crate::telemetry::{TelemetryField, TelemetryKind, event};
use futures_channel::oneshot;
pub(super) use offers::{complete_requirements, list_supported};
use std::ops::ControlFlow;
use std::rc::Rc;
use std::time::Duration;
use worker::{Context, Delay};
use x402_api::facilitator;
use x402_chain::network::{Network, find_network};
use x402_chain::x402;
use x402_chain::x402::Payment;
use x402_core::error::{ErrorCode, Fault};
use x402_core::messages::ledger::{DeliverMessage, LedgerMessage, LedgerReply, RefusedCaller, ReopenMessage};
use x402_core::settlement::payment::{PaymentAction, PaymentRequest, ReservedSettlement, SettlementFinding};
use x402_core::settlement::plan;
use x402_core::settlement::plan::{NewRequest, PlanContext, PlanEnd, PlanStep, ReadyPayment, initial_request};
use x402_core::tenancy::key::Caller;

/// How often a delivery that could not be reopened is tried again, and the pause before each try.
const REOPEN_TRIES: usize = 5;
const REOPEN_PAUSE_MS: u64 = 2_000;

/// `POST /facilitator/verify`.
pub(super) async fn verify_payment(
    app: &App,
    context: &Context,
    incoming: &IncomingRequest,
) -> Result<OutgoingResponse, Fault> {
    Ok(match process_payment(app, context, incoming, PaymentAction::Verify, &mut None).await? {
        (OutgoingResponse::Ledger(response), _) => response.into_answer()?.into(),
        (own, _) => own,
    })
}

/// `POST /facilitator/settle`: the ledger reserves, the settler sends, the ledger records the result and gives the
/// success to one request. The work goes on after the client has disconnected. If it disconnected before the answer, or
/// was answered a fault, the next request may have the success.
pub(super) async fn settle_payment(
    app: &Rc<App>,
    context: &Rc<Context>,
    incoming: IncomingRequest,
) -> Result<OutgoingResponse, Fault> {
    let (answer, answered) = oneshot::channel();
    let (app, own) = (Rc::clone(app), Rc::clone(context));
    let work = async move {
        let mut given = ReopenMessage::default();
        let outcome = run_settlement(&app, &own, &incoming, &mut given).await;
        // Read once: a later disconnect reopens nothing.
        let is_lost = match &outcome {
            Ok(answer) => given.settlement.is_some() && (answer.status() >= 400 || incoming.signal.aborted()),
            // The ledger may have given the success although its answer was lost.
            Err(_) => given.settlement.is_some() || given.authorization.is_some(),
        };
        let mut is_open = !is_lost || reopen_delivery(&app, &incoming, &given).await;
        // Nobody receives the answer if the client has disconnected.
        drop(answer.send(outcome));
        for _ in 0..REOPEN_TRIES {
            if is_open {
                return;
            }
            Delay::from(Duration::from_millis(REOPEN_PAUSE_MS)).await;
            is_open = reopen_delivery(&app, &incoming, &given).await;
        }
        if !is_open {
            event(TelemetryKind::DeliveryNotReopened, &[TelemetryField::Settlement(given.settlement)]);
        }
    };
    app::after_answer(context, request_trace::carried(work));
    answered.await.map_err(Fault::internal)?
}

/// `given` becomes what the ledger gave this request, or may have: on success the settlement whose success the answer
/// holds.
async fn run_settlement(
    app: &App,
    context: &Context,
    incoming: &IncomingRequest,
    given: &mut ReopenMessage,
) -> Result<OutgoingResponse, Fault> {
    let (response, ready) =
        match process_payment(app, context, incoming, PaymentAction::Settle, &mut given.authorization).await? {
            (OutgoingResponse::Ledger(response), Some(ready)) if *response.reply() == LedgerReply::Settle => {
                (response, ready)
            }
            // A refusal gives no success, and goes out with all its headers.
            (OutgoingResponse::Ledger(response), _) if is_refusal(&response) => return Ok(response.into()),
            (OutgoingResponse::Ledger(response), _) => {
                let (reply, handed) = response.into_answer()?.handed_over().await?;
                given.settlement = handed;
                return Ok(reply.into());
            }
            (outgoing, _) => return Ok(outgoing),
        };
    let rates = response.rates();
    let reserved: ReservedSettlement = response.json().await?;
    let settlement = reserved.settlement.id;
    given.settlement = Some(settlement);
    let report = clients::settler::settle_flight(
        app,
        &ready.flight(&incoming.caller()?, &reserved, incoming.now)?,
        ready.network,
    )
    .await?;
    let found = SettlementFinding { message: report.message, external: report.external, checks: ready.checks };
    let deliver = DeliverMessage { settlement, network_text: ready.network_text, found, explain: incoming.explain };
    let caller = incoming.caller()?;
    let message = LedgerMessage::Deliver(Box::new(deliver));
    let envelope = incoming.envelope(app, (caller.tenant, caller.environment), message);
    let response = clients::ledger::call_ledger(app, &envelope, None).await?;
    // The settlement stays leased to this request, which is answered no success.
    if is_refusal(&response) {
        return Ok(response.into());
    }
    let (mut reply, handed) = response.into_answer()?.handed_over().await?;
    given.settlement = handed;
    reply.headers.extend(rates);
    Ok(reply.into())
}

/// Opens the lease or success that this request was given for the next request; returns whether the ledger knows.
async fn reopen_delivery(app: &App, incoming: &IncomingRequest, given: &ReopenMessage) -> bool {
    let Ok(caller) = incoming.caller() else { return true };
    let message = LedgerMessage::Reopen(given.clone());
    let envelope = incoming.envelope(app, (caller.tenant, caller.environment), message);
    clients::ledger::call_ledger(app, &envelope, None).await.is_ok_and(|response| response.is_done())
}

/// Checks a payment and records it in the ledger; returns the answer, and the payment if it can be settled. `named`
/// becomes its authorization before the ledger may give anything for it.
async fn process_payment(
    app: &App,
    context: &Context,
    incoming: &IncomingRequest,
    verb: PaymentAction,
    named: &mut Option<String>,
) -> Result<(OutgoingResponse, Option<ReadyPayment>), Fault> {
    let caller = incoming.caller()?;
    let body = x402::X402Body::parse(&incoming.body)
        .map_err(|error| Fault::new(ErrorCode::InvalidJson, "the body must be a JSON object").because_json(&error))?;
    check_rate_guard(app, &caller).await?;
    let read = x402::read(&body);
    if let Some(network) = read.as_ref().ok().and_then(network_of) {
        request_trace::note_network(network);
    }
    let asked = initial_request(new_request(incoming, &caller, verb)?, read.as_ref(), &app.settings);
    let asks_ledger_first = match isolate::refused_caller(caller.hash, incoming.now) {
        // An answer recorded under an `Idempotency-Key` repeats whatever the rates are: the ledger has it.
        Some(RefusedCaller::Limited { .. }) if asked.idempotency.is_some() => true,
        Some(refused @ RefusedCaller::Limited { .. }) => {
            return Ok((rate_limited_reply(app, incoming, &refused).into(), None));
        }
        Some(RefusedCaller::AskFirst) => true,
        None => false,
    };
    let repeats = read.as_ref().is_ok_and(|payment| is_key_repeatable(incoming, &body, payment, verb));
    let cache = isolate::verification_cache();
    let (settings, now, environment) = (&*app.settings, incoming.now, caller.environment);
    let plan = PlanContext { settings, cache: &cache, now, environment, asks_ledger_first };
    let mut step = plan::begin(plan, asked, read.as_ref(), repeats);
    loop {
        step = match step {
            PlanStep::RecallPayment(step) => {
                *named = Some(step.authorization().to_owned());
                let is_recorded = isolate::is_payment_recorded(step.authorization(), now);
                step.then(is_recorded)
            }
            PlanStep::AskLedger(step) => {
                *named = step.authorization().map(str::to_owned).or_else(|| named.take());
                let response = send_payment(app, incoming, &caller, step.asked().clone()).await;
                if let (PaymentAction::Verify, Some(network)) = (verb, read.as_ref().ok().and_then(network_of)) {
                    let is_answered = response.as_ref().is_ok_and(|response| response.status() < 500);
                    let asks_chain = response.as_ref().is_ok_and(|one| *one.reply() == LedgerReply::ChainNeeded);
                    if !asks_chain {
                        count_verification(network, incoming, is_answered);
                    }
                }
                let response = response?;
                match step.then(*response.reply() != LedgerReply::ChainNeeded) {
                    ControlFlow::Continue(next) => next,
                    ControlFlow::Break(PlanEnd { ready, recorded }) => {
                        let is_recorded = verb == PaymentAction::Settle && !is_refusal(&response);
                        if let Some(authorization) = recorded.filter(|_| is_recorded) {
                            isolate::note_payment_recorded(authorization, now);
                        }
                        return Ok((response.into(), ready));
                    }
                }
            }
            PlanStep::FindOut(question) => steps::find_out(app, context, (verb, now), question).await,
        };
    }
}

/// The network on which a payment is made, if it is one of the registry.
fn network_of(payment: &Payment) -> Option<&'static Network> {
    find_network(&payment.requirements.network)
}

/// Whether the ledger refused the request: nothing was handed over, and nothing is recorded for it.
const fn is_refusal(response: &LedgerResponse) -> bool {
    matches!(response.reply(), LedgerReply::Problem | LedgerReply::Refused(_))
}

/// What the request holds beside its body.
fn new_request(incoming: &IncomingRequest, caller: &Caller, verb: PaymentAction) -> Result<NewRequest, Fault> {
    let (idempotency, traceparent, random) = match verb {
        PaymentAction::Verify => (None, None, [0; 10]),
        // The random bytes become a settlement's id.
        PaymentAction::Settle => {
            let traceparent = request_trace::current().map(|trace| trace.span());
            (read_idempotency_key(incoming)?, traceparent, app::random()?)
        }
    };
    let (key, request_id, explain) = (caller.hash, incoming.request_id, incoming.explain);
    Ok(NewRequest { key, request_id, traceparent, verb, idempotency, explain, random })
}

/// Whether a settlement's `Idempotency-Key` is a value that the buyer can repeat.
fn is_key_repeatable(
    incoming: &IncomingRequest,
    body: &x402::X402Body<'_>,
    payment: &Payment,
    verb: PaymentAction,
) -> bool {
    let key = incoming.idempotency_key.as_deref().filter(|_| verb == PaymentAction::Settle);
    key.is_some_and(|key| x402::buyer_can_repeat(key, &incoming.body, body, payment))
}

async fn send_payment(
    app: &App,
    incoming: &IncomingRequest,
    caller: &Caller,
    asked: PaymentRequest,
) -> Result<LedgerResponse, Fault> {
    let message = LedgerMessage::Payment(Box::new(asked));
    let envelope = incoming.envelope(app, (caller.tenant, caller.environment), message);
    let response = clients::ledger::call_ledger(app, &envelope, None).await?;
    response.remember(caller, incoming.now);
    Ok(response)
}

/// `GET` on a `POST` route: what the route takes.
pub(super) fn hint(incoming: &IncomingRequest) -> OutgoingResponse {
    facilitator::route_hint(&incoming.path).into()
}

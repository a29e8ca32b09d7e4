//! `/facilitator/*`: the open x402 protocol, on the same key, quota and ledger.

mod check;
mod offers;

use super::verify::{check_rate_guard, rate_limited_reply, read_idempotency_key};
use crate::app;
use crate::app::App;
use crate::clients;
use crate::clients::ledger::LedgerResponse;
use crate::isolate;
use crate::platform::response::OutgoingResponse;
use crate::request::IncomingRequest;
use crate::telemetry::{TelemetryField, TelemetryKind, event};
use alloy_primitives::B256;
use check::ReadyPayment;
use futures_channel::oneshot;
pub(super) use offers::{complete_requirements, list_supported};
use std::rc::Rc;
use std::time::Duration;
use worker::{Context, Delay};
use x402_api::facilitator;
use x402_chain::address::Address;
use x402_chain::checks::Checks;
use x402_chain::evm::tx::ContractCall;
use x402_chain::network::TenantBudget;
use x402_chain::reason::Reason;
use x402_chain::schemes::exact;
use x402_chain::trace::CodeKind;
use x402_chain::x402;
use x402_chain::x402::Payment;
use x402_core::error::{ErrorCode, Fault};
use x402_core::messages::ledger::{
    DeliverMessage, LedgerEnvelope, LedgerMessage, LedgerReply, RefusedCaller, ReopenMessage, SettlementFinding,
};
use x402_core::settlement::payment::{LEASE_MS, PaymentAction, PaymentFinding, PaymentRequest, ReservedSettlement};
use x402_core::settlement::{Flight, FlightPayload};
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
            Ok(_) => given.settlement.is_some() && incoming.signal.aborted(),
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
    app::after_answer(context, work);
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
    let report = clients::settler::settle_flight(app, &flight_for(incoming, &ready, &reserved)?, ready.network).await?;
    let found = SettlementFinding { message: report.message, external: report.external, checks: ready.checks };
    let deliver = DeliverMessage { settlement, network_text: ready.network_text, found, explain: incoming.explain };
    let envelope = envelope_for(app, incoming, &incoming.caller()?, LedgerMessage::Deliver(Box::new(deliver)));
    let response = clients::ledger::call_ledger(app, &envelope, None).await?;
    let (mut reply, handed) = response.into_answer()?.handed_over().await?;
    given.settlement = handed;
    reply.headers.extend(rates);
    Ok(reply.into())
}

/// Opens the lease or success that this request was given for the next request; returns whether the ledger knows.
async fn reopen_delivery(app: &App, incoming: &IncomingRequest, given: &ReopenMessage) -> bool {
    let Ok(caller) = incoming.caller() else { return true };
    let envelope = envelope_for(app, incoming, &caller, LedgerMessage::Reopen(given.clone()));
    clients::ledger::call_ledger(app, &envelope, None).await.is_ok_and(|response| response.is_done())
}

/// The flight for the settler. A reservation of this request was checked by it; an older one whose transaction was
/// never sent is sent only if the payment is valid now.
fn flight_for(
    incoming: &IncomingRequest,
    ready: &ReadyPayment,
    reserved: &ReservedSettlement,
) -> Result<Flight, Fault> {
    let caller = incoming.caller()?;
    let cargo = flight_payload(ready, reserved.has_code)
        .ok_or_else(|| Fault::internal("a settlement is on a network without settlement"))?;
    let is_fresh = incoming.now.since(reserved.reserved_at) < LEASE_MS;
    Ok(Flight {
        settlement: reserved.settlement.id,
        attempt: reserved.attempt,
        tenant: caller.tenant,
        environment: caller.environment,
        network: ready.network.key.to_owned(),
        signer: reserved.signer.ok_or_else(|| Fault::internal("a settlement has no signer"))?,
        held: ready.held.clone().filter(|_| !is_fresh),
        cargo,
        payer: ready.terms.payer(),
        pay_to: ready.terms.pay_to(),
        amount: ready.terms.amount(),
        nonce: nonce_of(&ready.terms),
        valid_before: ready.valid_before,
        price: ready.price,
        max_fee_wei: reserved.max_fee_wei,
        free: reserved.free,
    })
}

const fn nonce_of(terms: &exact::ExactPayment) -> Option<B256> {
    match terms {
        exact::ExactPayment::Evm(terms) => Some(terms.nonce()),
        exact::ExactPayment::Svm(_) => None,
    }
}

/// What the settler sends; for a payer with code it is another function of the token.
fn flight_payload(ready: &ReadyPayment, has_code: bool) -> Option<FlightPayload> {
    match &ready.terms {
        exact::ExactPayment::Evm(terms) => {
            let Address::Evm(to) = ready.network.asset.address else { return None };
            let gas_limit = ready.network.settle?.gas()?.limit;
            let payer = if has_code { CodeKind::Contract } else { CodeKind::None };
            Some(FlightPayload::Evm(ContractCall { to, data: terms.calldata(payer).into(), gas_limit }))
        }
        exact::ExactPayment::Svm(terms) => Some(FlightPayload::Svm(terms.base64().to_owned())),
    }
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
        .map_err(|error| Fault::new(ErrorCode::InvalidJson, "the body must be a JSON object").because(error))?;
    check_rate_guard(app, &caller).await?;
    let read = x402::read(&body);
    let mut asked = initial_request(app, incoming, verb, &read)?;
    let ask_first = match isolate::refused_caller(caller.hash, incoming.now) {
        // An answer recorded under an `Idempotency-Key` repeats whatever the rates are: the ledger has it.
        Some(RefusedCaller::Limited { .. }) if asked.idempotency.is_some() => true,
        Some(refused @ RefusedCaller::Limited { .. }) => {
            return Ok((rate_limited_reply(app, incoming, &refused).into(), None));
        }
        Some(RefusedCaller::AskFirst) => true,
        None => false,
    };
    let free = match &read {
        Ok(payment) if is_key_repeatable(incoming, &body, payment, verb) => {
            let message =
                "the Idempotency-Key header must name your own attempt, not a value that the buyer can repeat";
            asked.finding = PaymentFinding::Refused(Checks::none(), Reason::InvalidPayload, message.to_owned());
            asked.idempotency = None;
            None
        }
        Ok(payment) => check::check_offchain(app, context, incoming, payment, &mut asked).await,
        Err(malformed) => {
            asked.finding = PaymentFinding::Refused(Checks::none(), malformed.reason, malformed.message.clone());
            None
        }
    };
    let Some(free) = free else {
        return Ok((send_payment(app, incoming, &caller, asked).await?.into_answer()?.into(), None));
    };
    let authorization = asked.terms.as_ref().map(|terms| terms.authorization.clone()).unwrap_or_default();
    *named = Some(authorization.clone());
    // An answer from the ledger's record needs no chain.
    if ask_first || isolate::is_payment_recorded(&authorization, incoming.now) {
        let finding = core::mem::replace(&mut asked.finding, PaymentFinding::Deferred);
        let response = send_payment(app, incoming, &caller, asked.clone()).await?;
        if *response.reply() != LedgerReply::ChainNeeded {
            // A payment that was not checked on chain is waited for, but nothing new is sent for it.
            let held = (Reason::UnexpectedSettle, "the payment was not checked again: repeat the request".to_owned());
            return Ok((response.into(), Some(free.ready(Some(held)))));
        }
        asked.finding = finding;
    }
    let mut ready = check::check_onchain(app, context, incoming, free, &mut asked).await;
    ready.checks = asked.finding.checks();
    let mut response = send_payment(app, incoming, &caller, asked.clone()).await?; // book
    if *response.reply() == LedgerReply::ChainNeeded {
        // The authorization is used and nothing is recorded: a third party may have sent it.
        check::find_third_party(app, &ready, &mut asked).await;
        response = send_payment(app, incoming, &caller, asked).await?;
    }
    if verb == PaymentAction::Settle && !is_refusal(&response) {
        isolate::note_payment_recorded(authorization, incoming.now);
    }
    Ok((response.into(), Some(ready)))
}

/// Whether the ledger refused the request: nothing was given, and nothing is recorded for it.
const fn is_refusal(response: &LedgerResponse) -> bool {
    matches!(response.reply(), LedgerReply::Problem | LedgerReply::Refused(_))
}

/// The message to the ledger before anything was checked.
fn initial_request(
    app: &App,
    incoming: &IncomingRequest,
    verb: PaymentAction,
    read: &Result<Payment, x402::MalformedPayment>,
) -> Result<PaymentRequest, Fault> {
    Ok(PaymentRequest {
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
        finding: PaymentFinding::Unavailable,
        budget: read
            .as_ref()
            .ok()
            .and_then(|payment| x402::network_named(&payment.requirements.network))
            .map_or(TenantBudget { day: 0, failed: 0 }, |network| app.settings.tenant_budget(network)),
        idempotency: if verb == PaymentAction::Settle { read_idempotency_key(incoming)? } else { None },
        identifier: read.as_ref().ok().and_then(|payment| payment.identifier.clone()),
        explain: incoming.explain,
        // The random bytes become a settlement's id.
        random: if verb == PaymentAction::Settle { app::random()? } else { [0; 10] },
    })
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

fn envelope_for(app: &App, incoming: &IncomingRequest, caller: &Caller, message: LedgerMessage) -> LedgerEnvelope {
    LedgerEnvelope {
        tenant: caller.tenant,
        environment: caller.environment,
        request_id: incoming.request_id,
        origin: app.origin.clone(),
        path: incoming.path.clone(),
        message,
    }
}

async fn send_payment(
    app: &App,
    incoming: &IncomingRequest,
    caller: &Caller,
    asked: PaymentRequest,
) -> Result<LedgerResponse, Fault> {
    let envelope = envelope_for(app, incoming, caller, LedgerMessage::Payment(Box::new(asked)));
    let response = clients::ledger::call_ledger(app, &envelope, None).await?;
    response.remember(caller, incoming.now);
    Ok(response)
}

/// `GET` on a `POST` route: says what the route takes.
pub(super) fn hint(incoming: &IncomingRequest) -> OutgoingResponse {
    facilitator::route_hint(&incoming.path).into()
}

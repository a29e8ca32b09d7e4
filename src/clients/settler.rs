//! Calls to a settler, with their deadlines.

use crate::app::{self, App};
use crate::clients::penalized;
use crate::request_trace;
use crate::rpc::signer_balance;
use futures_util::future::{Either, select};
use std::pin::pin;
use std::time::Duration;
use wasm_bindgen::JsValue;
use worker::{Context, Delay, Headers, Method, ObjectNamespace, Request, RequestInit};
use x402_api::server_timing::RequestStep;
use x402_chain::address::Address;
use x402_chain::id::SettlementId;
use x402_chain::network::Network;
use x402_chain::signer::Signer;
use x402_chain::time::UnixMillis;
use x402_core::error::{ErrorCode, Fault};
use x402_core::messages::MessageHead;
use x402_core::messages::settler::{HeldPayer, RefuseOutcome, SettlerMessage, SettlerReply};
use x402_core::settlement::payment::LEASE_MS;
use x402_core::settlement::{Flight, SettlementReport};

/// The deadline of a settlement: a settler waits 18 s for a receipt, and reports to the ledger.
pub(crate) const SETTLE_MS: u64 = 26_000;
const _: () = assert!(SETTLE_MS < LEASE_MS, "another request may take the lease while this one waits");
/// The deadline of an order that only reads.
const ASK_MS: u64 = 5_000;

fn settler_unavailable(cause: impl core::fmt::Display) -> Fault {
    let detail = "the settler did not answer; the payment may be on its way: send the same again";
    Fault::new(ErrorCode::LedgerUnavailable, detail).after(2).because(cause)
}

/// The fault for a reply of another kind than the message asks for.
fn unexpected_reply(reply: &SettlerReply) -> Fault {
    match reply {
        SettlerReply::Failed(code) => settler_unavailable(format!("the settler failed: {code}")),
        SettlerReply::Report(_) | SettlerReply::Attempt(_) | SettlerReply::Held(_) => {
            settler_unavailable("the settler replied to another message")
        }
    }
}

/// Sends a flight to its settler and waits for the report.
///
/// # Errors
/// `LEDGER_UNAVAILABLE`: whatever was begun is carried on, and a repeat finds it.
pub(crate) async fn settle_flight(
    app: &App,
    flight: &Flight,
    network: &'static Network,
) -> Result<SettlementReport, Fault> {
    let message = SettlerMessage::Settle(Box::new(flight.clone()));
    let report = match call_settler(&app.settlers()?, network, &flight.signer, &message, SETTLE_MS).await? {
        SettlerReply::Report(report) => *report,
        other @ (SettlerReply::Attempt(_) | SettlerReply::Held(_) | SettlerReply::Failed(_)) => {
            return Err(unexpected_reply(&other));
        }
    };
    if let Some(until) = report.held_until {
        penalized::note_hold(network, &flight.signer, flight.payer, until);
    }
    if report.poor {
        signer_balance::note_unfunded(network, flight.signer, app::now());
    }
    Ok(report)
}

/// Orders a settler never to launch an attempt. If the settler knows the attempt, it reports to the ledger, again if
/// necessary.
///
/// # Errors
/// `LEDGER_UNAVAILABLE`: it may be refused, or not; the same may be asked again.
pub(crate) async fn refuse_attempt(
    app: &App,
    network: &'static Network,
    signer: &Address,
    settlement: SettlementId,
    attempt: usize,
) -> Result<RefuseOutcome, Fault> {
    let message = SettlerMessage::Refuse { settlement, attempt };
    match call_settler(&app.settlers()?, network, signer, &message, ASK_MS).await? {
        SettlerReply::Attempt(state) => Ok(state),
        other @ (SettlerReply::Report(_) | SettlerReply::Held(_) | SettlerReply::Failed(_)) => {
            Err(unexpected_reply(&other))
        }
    }
}

/// The payers for whom a signer launches nothing at present.
///
/// # Errors
/// `LEDGER_UNAVAILABLE`.
async fn penalized_payers(
    settlers: &ObjectNamespace,
    network: &'static Network,
    signer: &Address,
) -> Result<Vec<HeldPayer>, Fault> {
    match call_settler(settlers, network, signer, &SettlerMessage::Held, ASK_MS).await? {
        SettlerReply::Held(held) => Ok(held),
        other @ (SettlerReply::Report(_) | SettlerReply::Attempt(_) | SettlerReply::Failed(_)) => {
            Err(unexpected_reply(&other))
        }
    }
}

/// Asks a network's settlers, after the answer, for the penalized payers, unless the list is fresh.
pub(crate) fn refresh_holds_later(app: &App, context: &Context, network: &'static Network, now: UnixMillis) {
    let Ok(namespace) = app.settlers() else { return };
    if !penalized::is_stale(network, now) {
        return;
    }
    let signers = app.settings.signers(network.family, network.environment);
    let signers: Vec<Address> = signers.iter().map(Signer::address).collect();
    app::after_answer(context, async move {
        for signer in signers {
            let Ok(held) = penalized_payers(&namespace, network, &signer).await else { continue };
            penalized::replace(network, signer, held.into_iter().map(|held| (held.payer, held.until)));
        }
    });
}

async fn call_settler(
    settlers: &ObjectNamespace,
    network: &Network,
    signer: &Address,
    message: &SettlerMessage,
    limit_ms: u64,
) -> Result<SettlerReply, Fault> {
    let stub = settlers.get_by_name(&format!("{}:{signer}", network.key)).map_err(settler_unavailable)?;
    let body = serde_json::to_string(message).map_err(Fault::internal)?;
    let mut init = RequestInit::new();
    init.with_method(Method::Post).with_body(Some(JsValue::from_str(&body)));
    let _asking = request_trace::step(RequestStep::Settler);
    if let Some(trace) = request_trace::current() {
        // A Settler of the build before does not read it.
        let set = Headers::new();
        set.set("traceparent", &trace.next_span().to_string()).map_err(settler_unavailable)?;
        init.with_headers(set);
    }
    let request =
        Request::new_with_init(&MessageHead::own(None).address("settler"), &init).map_err(settler_unavailable)?;
    let asked = async {
        let mut response = stub.fetch_with_request(request).await?;
        let status = response.status_code();
        Ok::<_, worker::Error>((status, response.text().await?))
    };
    let deadline = Delay::from(Duration::from_millis(limit_ms));
    match select(pin!(asked), pin!(deadline)).await {
        Either::Left((Ok((status, text)), _)) => {
            SettlerReply::read(message, status, &text).map_err(settler_unavailable)
        }
        Either::Left((Err(error), _)) => Err(settler_unavailable(error)),
        Either::Right(_) => Err(settler_unavailable(format!("no answer in {limit_ms} ms"))),
    }
}

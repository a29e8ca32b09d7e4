//! The one hop to a Settler, with its deadline.

use super::app::App;
use crate::error::{Code, Fault};
use crate::network::Network;
use crate::settle::{Flight, Report};
use futures_util::future::{Either, select};
use std::pin::pin;
use std::time::Duration;
use wasm_bindgen::JsValue;
use worker::{Delay, Method, Request, RequestInit};

/// A Settler waits 20 s for a receipt; launching and telling the ledger come on top.
const DEADLINE_MS: u64 = 32_000;

fn unavailable(cause: impl core::fmt::Display) -> Fault {
    let detail = "the settler did not answer; the payment may be on its way: send the same again";
    Fault::new(Code::LedgerUnavailable, detail).after(2).because(cause)
}

/// Hands a flight to its Settler and waits for how it stands.
///
/// # Errors
/// `LEDGER_UNAVAILABLE`: whatever was begun is carried on, and a repeat finds it.
pub(crate) async fn settle(app: &App, flight: &Flight, network: &'static Network) -> Result<Report, Fault> {
    let name = format!("{}:{}", network.key, flight.signer);
    let stub = app.settlers()?.get_by_name(&name).map_err(unavailable)?;
    let body = serde_json::to_string(flight).map_err(Fault::internal)?;
    let mut init = RequestInit::new();
    init.with_method(Method::Post).with_body(Some(JsValue::from_str(&body)));
    let request = Request::new_with_init("https://settler/", &init).map_err(unavailable)?;
    let asked = async {
        let mut response = stub.fetch_with_request(request).await?;
        let status = response.status_code();
        Ok::<_, worker::Error>((status, response.text().await?))
    };
    let deadline = Delay::from(Duration::from_millis(DEADLINE_MS));
    match select(pin!(asked), pin!(deadline)).await {
        Either::Left((Ok((200, text)), _)) => serde_json::from_str(&text).map_err(Fault::internal),
        Either::Left((Ok((status, text)), _)) => Err(unavailable(format!("status {status}: {text}"))),
        Either::Left((Err(error), _)) => Err(unavailable(error)),
        Either::Right(_) => Err(unavailable(format!("no answer in {DEADLINE_MS} ms"))),
    }
}

/// Stub until the Settler's branch is merged.
pub(crate) async fn refuse(
    _app: &App,
    _network: &'static Network,
    _signer: &crate::address::Address,
    _settlement: crate::id::SettlementId,
    _attempt: usize,
) -> Result<crate::settle::Standing, Fault> {
    Ok(crate::settle::Standing::Known)
}

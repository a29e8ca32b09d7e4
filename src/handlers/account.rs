//! What a key holder reads: usage, chains, itself, its records.

use crate::app::App;
use crate::clients;
use crate::clients::ledger::{Ask, Envelope, LedgerResponse, View};
use crate::d1;
use crate::platform::response::Outgoing;
use crate::request::Incoming;
use crate::rpc::registry;
use worker::Context;
use x402_api::records::{List, page};
use x402_api::{Reply, settlements};
use x402_chain::id::{SettlementId, VerificationId};
use x402_core::error::{Code, Fault};

async fn ask(app: &App, incoming: &Incoming, ask: Ask) -> Result<LedgerResponse, Fault> {
    let caller = incoming.caller()?;
    let envelope = Envelope {
        tenant: caller.tenant,
        environment: caller.environment,
        request_id: incoming.request_id,
        origin: app.origin.clone(),
        path: incoming.path.clone(),
        ask,
    };
    clients::ledger::ask(app, &envelope, None).await
}

/// `GET /v1/usage`.
pub(super) async fn usage(app: &App, context: &Context, incoming: &Incoming) -> Result<Outgoing, Fault> {
    let off = registry::off(app, context, incoming.now).await;
    ask(app, incoming, Ask::Account { key: incoming.caller()?.hash, view: View::Usage, off }).await.map(Outgoing::from)
}

/// `GET /v1/supported-chains`.
pub(super) async fn chains(app: &App, context: &Context, incoming: &Incoming) -> Result<Outgoing, Fault> {
    let off = registry::off(app, context, incoming.now).await;
    ask(app, incoming, Ask::Account { key: incoming.caller()?.hash, view: View::Chains, off }).await.map(Outgoing::from)
}

/// `GET /v1/whoami`.
pub(super) async fn whoami(app: &App, incoming: &Incoming) -> Result<Outgoing, Fault> {
    let key = incoming.caller()?.hash;
    ask(app, incoming, Ask::Account { key, view: View::Whoami, off: Vec::new() }).await.map(Outgoing::from)
}

/// `GET /v1/verifications/{id}`: the ledger's, else the directory's.
pub(super) async fn record(app: &App, incoming: &Incoming) -> Result<Outgoing, Fault> {
    let caller = incoming.caller()?;
    let none = || Fault::new(Code::NotFound, "no such verification");
    let id = VerificationId::parse(incoming.param(0));
    // A key that is not good is refused before an id that is not one.
    let asked = id.unwrap_or_else(|| VerificationId::new(incoming.now, 0));
    let told = ask(app, incoming, Ask::Record { key: caller.hash, id: asked }).await?;
    if told.status() != 404 {
        return Ok(told.into());
    }
    let body = d1::record(&app.db()?, caller.tenant, caller.environment, id.ok_or_else(none)?).await?;
    let body = body.ok_or_else(none)?;
    Ok(Reply { status: 200, content_type: "application/json", body, headers: told.rates() }.into())
}

/// `GET /v1/settlements/{id}`.
pub(super) async fn settlement(app: &App, incoming: &Incoming) -> Result<Outgoing, Fault> {
    let (key, id) = (incoming.caller()?.hash, settlement_id(incoming));
    ask(app, incoming, Ask::Settlement { key, id }).await.map(Outgoing::from)
}

/// `GET /v1/settlements`: all of them are the ledger's.
pub(super) async fn settlements(app: &App, incoming: &Incoming) -> Result<Outgoing, Fault> {
    let key = incoming.caller()?.hash;
    let page = page(&incoming.query, |text| SettlementId::parse(text).is_some())?;
    let filter = settlements::filter(&incoming.query)?;
    ask(app, incoming, Ask::Settlements { key, filter, page }).await.map(Outgoing::from)
}

/// `POST /v1/settlements/{id}/hand-over`.
pub(super) async fn hand_over(app: &App, incoming: &Incoming) -> Result<Outgoing, Fault> {
    let (key, id) = (incoming.caller()?.hash, settlement_id(incoming));
    ask(app, incoming, Ask::HandOver { key, id }).await.map(Outgoing::from)
}

/// The id in the path; of a text that is none an id that nobody has, for the key is checked first.
fn settlement_id(incoming: &Incoming) -> SettlementId {
    SettlementId::parse(incoming.param(0)).unwrap_or_else(|| SettlementId::new(incoming.now, 0))
}

/// `GET /v1/verifications`.
pub(super) async fn list(app: &App, incoming: &Incoming) -> Result<Outgoing, Fault> {
    let caller = incoming.caller()?;
    let page = page(&incoming.query, |text| VerificationId::parse(text).is_some())?;
    let admitted = ask(app, incoming, Ask::List { key: caller.hash }).await?;
    if admitted.status() != 204 {
        return Ok(admitted.into());
    }
    let rows = d1::records(&app.db()?, caller.tenant, caller.environment, &page).await?;
    let List { data, next_cursor } = List::of(rows, page.limit, |(id, _)| id.clone());
    let list = List { data: data.into_iter().map(|(_, body)| body).collect::<Vec<_>>(), next_cursor };
    let mut reply = Reply::json(200, &list);
    reply.headers = admitted.rates();
    Ok(reply.into())
}
